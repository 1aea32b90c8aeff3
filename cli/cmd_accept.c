#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/shown.h"
#include "cli/study.h"
#include "cli/view.h"
#include "core/json.h"
#include "core/text_size.h"
#include "forerun_study.h"
#include "study/words.h"

/* ---- For people ------------------------------------------------------------------------------------------------ */

/* A line's distance and a table; nothing when there are fewer items than `least`. */
static void print_view(const fr_view *view, const char *title, const cJSON *from, int least) {
    const cJSON *array = fr_path_array(from, view->array);
    if (cJSON_GetArraySize(array) < least) return;
    putchar('\n');
    fr_cli_view_print(view, title, array);
}

static void print_calibration(const cJSON *configuration) {
    double ece = fr_path_number(configuration, "calibration.ece");
    char title[120];
    if (!isfinite(ece)) return;
    snprintf(title, sizeof title, "confidence of a draft that was judged, and how often it stood (expected error %.1f %%)",
             100 * ece);
    print_view(&fr_view_bins, title, configuration, 0);
}

static void print_rest(const cJSON *document, const cJSON *configuration) {
    enum { LISTED = 8 };
    const cJSON *overlap = fr_path_object(document, "expert_overlap"), *item;
    const cJSON *rejected = fr_path_array(configuration, "rejected_tokens");
    int listed = 0;
    if (overlap)
        printf("\nexperts that a token shares with the one before: %.1f %% (%.1f %% if tokens were independent)\n",
               100 * fr_path_number(overlap, "mean"), 100 * fr_path_number(overlap, "if_independent_by_popularity"));
    if (!rejected) return;
    printf("\nrejected most often:");
    cJSON_ArrayForEach(item, rejected) {
        if (listed++ == LISTED) break;
        /* as JSON, which escapes what a terminal would obey, but for some that lie above ASCII */
        const cJSON *text = fr_path_value(item, "text");
        char *quoted = cJSON_IsString(text) ? cJSON_PrintUnformatted(text) : NULL;
        printf("%s ", listed > 1 ? "," : "");
        if (cJSON_IsString(text))
            printf("%s", quoted ? fr_cli_make_shown(quoted) : "");
        else
            printf("%.0f", fr_path_number(item, "token"));
        printf(" (%.0f of %.0f)", fr_path_number(item, "rejected"), fr_path_number(item, "proposed"));
        cJSON_free(quoted);
    }
    putchar('\n');
}

/* Teacher-forced, tables are of every position; what decoding these texts would have come to is said in a line. */
static void print_along_cycles(const cJSON *configuration) {
    double rate = fr_path_number(configuration, "along_cycles.acceptance_rate");
    double length = fr_path_number(configuration, "along_cycles.mean_acceptance_length");
    if (!isfinite(rate) || !isfinite(length)) return;
    printf("\ntables count every position as the beginning of a cycle; of the cycles alone that decoding would have "
           "made,\n"
           "%.1f %% of drafts were accepted, mean length %.3f\n",
           100 * rate, length);
}

static void print_tables(const cJSON *document) {
    const cJSON *first = fr_path_value(document, "configurations.0");
    bool whole = cJSON_IsTrue(fr_path_value(document, "complete"));
    char template[64];
    uint64_t prompts = (uint64_t)fr_path_number(document, "prompts.count");
    printf("%s prompt%s, %s; %s%s%s\n", FR_TEXT_GROUPED(prompts), prompts == 1 ? "" : "s",
           strcmp(fr_cli_view_text(first, "mode"), "generated") == 0 ? "texts generated"
                                                                     : "teacher-forced: every position judged",
           fr_cli_view_text(first, "drafter"), fr_cli_view_template(document, template),
           whole ? "" : "; interrupted: what was measured until then");
    print_view(&fr_view_configurations, NULL, document, 0);
    print_view(&fr_view_pairs, NULL, document, 1);
    if (first && first->next) printf("\nbelow: %s\n", fr_cli_view_text(first, "name"));
    print_along_cycles(first);
    print_view(&fr_view_positions, NULL, first, 0);
    print_view(&fr_view_domains, NULL, first, 2);
    print_view(&fr_view_context, NULL, first, 2);
    print_calibration(first);
    print_rest(document, first);
    if (!*fr_cli_view_text(document, "statistics.says")) return;
    putchar('\n');
    fr_cli_print_shown(stdout, "%s", fr_cli_view_text(document, "statistics.says"));
}

/* ---- Options ------------------------------------------------------------------------------------------------- */

/* Values of --temperatures into *out, allocated. Returns 0 or FR_EXIT_USAGE, printed. */
static int parse_temperatures(const char *given, float **out, size_t *count) {
    size_t most = 1;
    for (const char *c = given; *c; c++) most += *c == ',';
    *out = fr_cli_alloc(most, sizeof **out);
    for (const char *c = given;;) {
        char *end;
        double value = strtod(c, &end);
        if (end == c || (*end && *end != ',') || !(value >= 0.0 && value <= 100.0)) {
            fr_cli_error(FR_EXIT_USAGE, "--temperatures: '%s': expected numbers from 0 to 100 with commas between", given);
            fr_cli_hint("write them as in --temperatures 0,0.6,1");
            return FR_EXIT_USAGE;
        }
        (*out)[(*count)++] = (float)value;
        if (!*end) return 0;
        c = end + 1;
    }
}

static int check_depths(const fr_cli_ids *depths) {
    for (size_t i = 0; i < depths->count; i++)
        if (depths->ids[i] < 1 || depths->ids[i] > FR_MAX_DEPTH)
            return fr_cli_error(FR_EXIT_USAGE, "--depths: %" PRId32 ", expected 1 to %d", depths->ids[i], FR_MAX_DEPTH);
    return 0;
}

static fr_accept_options make_options(const fr_cli_options *o, const char *prompts, fr_cli_progress *progress) {
    static const fr_recycle recycles[] = {FR_RECYCLE_POST_NORM, FR_RECYCLE_PRE_NORM, FR_RECYCLE_PINNED};
    int more = o->mtp_recycle - FR_RECYCLE_COUNT; /* "both" and "all" come behind the enum's own words */
    fr_accept_options wanted = {
        .prompts = prompts,
        .tokens = o->prompt_tokens.ids,
        .num_tokens = o->prompt_tokens.count,
        .most_prompts = (size_t)o->most_prompts,
        .chat = o->chat,
        .chat_options = fr_cli_chat_options(o),
        .teacher_forced = o->teacher_forced,
        .both_verify = !fr_verify_word(o->verify), /* "both" comes behind the enum's own words */
        .both_hidden = !fr_hidden_state_word(o->mtp_hidden),
        .recycles = more < 0 ? NULL : recycles,
        .num_recycles = more < 0 ? 0 : (size_t)more + 2,
        .max_tokens = o->max_tokens,
        .ignore_eos = o->ignore_eos,
        .session = fr_cli_session_options(o, progress),
        .progress = fr_cli_progress_update,
        .user = progress,
    };
    wanted.session.prefill_chunk = o->prefill_chunk;
    if (wanted.both_verify) wanted.session.sampling.verify = FR_VERIFY_COUPLED;
    if (wanted.both_hidden) wanted.session.mtp_hidden = FR_HIDDEN_POST_NORM;
    if (wanted.recycles) wanted.session.mtp_recycle = recycles[0];
    return wanted;
}

/* ---- The command ----------------------------------------------------------------------------------------------- */

/* Prints and writes a result. Returns 0 or an exit code, printed. */
static int hand_out(const fr_cli_options *options, const fr_study_result *result) {
    const char *json = fr_study_json(result);
    if (options->json) {
        puts(json);
    } else {
        cJSON *document = cJSON_Parse(json);
        if (!document) return fr_cli_error(FR_EXIT_FAILED, "memory: not enough for the tables");
        print_tables(document);
        cJSON_Delete(document);
    }
    return fr_cli_flush(fr_cli_study_write(options, json));
}

int fr_cmd_accept(const fr_cli_options *options) {
    fr_cli_runtime runtime;
    fr_cli_progress progress;
    fr_error error = {0};
    fr_study_result *result = NULL;
    const char *prompts = NULL;
    float *temperatures = NULL;
    size_t num_temperatures = 0;
    memset(&runtime, 0, sizeof runtime);
    int code = check_depths(&options->depths);
    if (!code && options->temperatures) code = parse_temperatures(options->temperatures, &temperatures, &num_temperatures);
    const char *dir = code ? NULL : fr_cli_model_dir(options, true);
    if (!code) code = dir ? fr_cli_study_prompts(options, dir, &prompts) : FR_EXIT_FAILED;
    if (!code) code = fr_cli_runtime_open_for(&runtime, options, NULL);
    if (!code) fr_cli_suggest_sampling(options, dir);
    if (!code) {
        fr_cli_progress_init(&progress);
        fr_accept_options wanted = make_options(options, prompts, &progress);
        wanted.depths = options->depths.ids;
        wanted.num_depths = options->depths.count;
        wanted.temperatures = temperatures;
        wanted.num_temperatures = num_temperatures;
        wanted.origin = fr_cli_study_origin(options, &runtime);
        fr_cli_interrupt_defer();
        fr_status status = fr_accept(runtime.model, &wanted, &result, &error);
        fr_cli_progress_clear(&progress);
        if (result) code = hand_out(options, result);
        if (status != FR_OK && !code) code = fr_cli_failure(&error);
    }
    fr_study_destroy(result);
    free(temperatures);
    fr_cli_runtime_close(&runtime);
    return code;
}
