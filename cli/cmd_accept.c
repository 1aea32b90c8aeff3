#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/study.h"
#include "cli/table.h"
#include "core/text_size.h"
#include "forerun_study.h"

/* ---- Tables -------------------------------------------------------------------------------------------------- */

static void cell_count(fr_cli_table *table, const cJSON *object, const char *key) {
    double value = fr_cli_number(object, key);
    fr_cli_table_cell(table, "%s", isfinite(value) ? FR_TEXT_GROUPED((uint64_t)value) : "-");
}

/* A share, its interval and a bar of both. */
static void cells_share(fr_cli_table *table, const cJSON *object, const char *key, const char *interval_key) {
    double low, high, value = fr_cli_number(object, key);
    fr_cli_interval(object, interval_key, &low, &high);
    fr_cli_table_percent(table, value);
    fr_cli_table_interval(table, low, high, 100);
    fr_cli_table_bar(table, value, low, high, 1);
}

static void finish(fr_cli_table *table) {
    putchar('\n');
    fr_cli_table_print(table, stdout);
    fr_cli_table_destroy(table);
}

static void print_configurations(const cJSON *configurations) {
    const cJSON *item;
    fr_cli_table *table = fr_cli_table_create("configurations: accepted of drafted, 95 % interval by prompts");
    fr_cli_table_column(table, "configuration", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "drafted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "accepted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "mean length", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    cJSON_ArrayForEach(item, configurations) {
        const cJSON *speculation = fr_cli_part(item, "speculative_decoding");
        double low, high, rate = fr_cli_number(speculation, "acceptance_rate");
        double length = fr_cli_number(speculation, "mean_acceptance_length");
        fr_cli_table_cell(table, "%s", fr_cli_text(item, "name"));
        cell_count(table, speculation, "num_draft_tokens");
        fr_cli_interval(item, "acceptance_rate_ci95", &low, &high);
        fr_cli_table_percent(table, rate);
        fr_cli_table_interval(table, low, high, 100);
        fr_cli_table_bar(table, rate, low, high, 1);
        fr_cli_interval(item, "mean_acceptance_length_ci95", &low, &high);
        fr_cli_table_cell(table, isfinite(length) ? "%.3f" : "-", length);
        fr_cli_table_interval(table, low, high, 1);
    }
    finish(table);
}

static void print_positions(const cJSON *configuration) {
    const cJSON *item;
    fr_cli_table *table = fr_cli_table_create("position in the draft: accepted of drafted, and if those before were");
    fr_cli_table_column(table, "position", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "drafted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "accepted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "rate", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "conditional", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    cJSON_ArrayForEach(item, fr_cli_part(configuration, "positions")) {
        double low, high;
        cell_count(table, item, "position");
        cell_count(table, item, "drafted");
        cell_count(table, item, "accepted");
        cells_share(table, item, "rate", "rate_ci95");
        fr_cli_interval(item, "conditional_ci95", &low, &high);
        fr_cli_table_percent(table, fr_cli_number(item, "conditional_rate"));
        fr_cli_table_interval(table, low, high, 100);
    }
    finish(table);
}

static void print_domains(const cJSON *configuration) {
    const cJSON *item;
    fr_cli_table *table = fr_cli_table_create("domain: accepted of drafted");
    fr_cli_table_column(table, "domain", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "prompts", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "drafted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "rate", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "mean length", FR_ALIGN_RIGHT);
    cJSON_ArrayForEach(item, fr_cli_part(configuration, "domains")) {
        double length = fr_cli_number(item, "mean_acceptance_length");
        fr_cli_table_cell(table, "%s", fr_cli_text(item, "domain"));
        cell_count(table, item, "prompts");
        cell_count(table, item, "drafted");
        cells_share(table, item, "acceptance_rate", "ci95");
        fr_cli_table_cell(table, isfinite(length) ? "%.3f" : "-", length);
    }
    finish(table);
}

static void print_context(const cJSON *configuration) {
    const cJSON *item, *buckets = fr_cli_part(configuration, "context");
    if (cJSON_GetArraySize(buckets) < 2) return;
    fr_cli_table *table = fr_cli_table_create("tokens of context: first drafts accepted");
    fr_cli_table_column(table, "context", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "drafted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "rate", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "", FR_ALIGN_LEFT);
    cJSON_ArrayForEach(item, buckets) {
        fr_cli_table_cell(table, "%.0f to %.0f", fr_cli_number(item, "from"), fr_cli_number(item, "to") - 1);
        cell_count(table, item, "drafted");
        cells_share(table, item, "rate", "ci95");
    }
    finish(table);
}

static void print_calibration(const cJSON *configuration) {
    const cJSON *item, *calibration = fr_cli_part(configuration, "calibration");
    char title[120];
    if (!isfinite(fr_cli_number(calibration, "ece"))) return;
    snprintf(title, sizeof title, "confidence of a draft that was judged, and how often it stood (expected error %.1f %%)",
             100 * fr_cli_number(calibration, "ece"));
    fr_cli_table *table = fr_cli_table_create(title);
    fr_cli_table_column(table, "confidence", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "drafts", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "mean", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "accepted", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "", FR_ALIGN_LEFT);
    cJSON_ArrayForEach(item, fr_cli_part(calibration, "bins")) {
        if (fr_cli_number(item, "count") == 0) continue;
        fr_cli_table_cell(table, "%.0f to %.0f %%", 100 * fr_cli_number(item, "from"), 100 * fr_cli_number(item, "to"));
        cell_count(table, item, "count");
        fr_cli_table_percent(table, fr_cli_number(item, "mean_confidence"));
        cells_share(table, item, "rate", "ci95");
    }
    finish(table);
}

static void print_rest(const cJSON *document, const cJSON *configuration) {
    enum { LISTED = 8 };
    const cJSON *overlap = fr_cli_part(document, "expert_overlap"), *item;
    const cJSON *rejected = fr_cli_part(configuration, "rejected_tokens");
    int listed = 0;
    if (cJSON_IsObject(overlap))
        printf("\nexperts that a token shares with the one before: %.1f %% (%.1f %% if tokens were independent)\n",
               100 * fr_cli_number(overlap, "mean"), 100 * fr_cli_number(overlap, "if_independent_by_popularity"));
    if (cJSON_GetArraySize(rejected) == 0) return;
    printf("\nrejected most often:");
    cJSON_ArrayForEach(item, rejected) {
        /* as JSON: with what cannot be seen made visible */
        char *quoted = cJSON_PrintUnformatted(fr_cli_part(item, "text"));
        if (listed++ == LISTED) {
            cJSON_free(quoted);
            break;
        }
        if (cJSON_IsString(fr_cli_part(item, "text")))
            printf("%s %s", listed > 1 ? "," : "", quoted ? quoted : "");
        else
            printf("%s %.0f", listed > 1 ? "," : "", fr_cli_number(item, "token"));
        printf(" (%.0f of %.0f)", fr_cli_number(item, "rejected"), fr_cli_number(item, "proposed"));
        cJSON_free(quoted);
    }
    putchar('\n');
}

/* Teacher-forced, tables are of every position; what decoding these texts would have come to is said in a line. */
static void print_along_cycles(const cJSON *configuration) {
    const cJSON *along = fr_cli_part(configuration, "along_cycles");
    double rate = fr_cli_number(along, "acceptance_rate"), length = fr_cli_number(along, "mean_acceptance_length");
    if (!isfinite(rate) || !isfinite(length)) return;
    printf("\ntables count every position as the beginning of a cycle; of the cycles alone that decoding would have "
           "made,\n"
           "%.1f %% of drafts were accepted, mean length %.3f\n",
           100 * rate, length);
}

static void print_tables(const cJSON *document) {
    const cJSON *prompts = fr_cli_part(document, "prompts"), *configurations = fr_cli_part(document, "configurations");
    const cJSON *first = cJSON_GetArrayItem(configurations, 0);
    printf("%s prompts, %s; %s%s\n", FR_TEXT_GROUPED((uint64_t)fr_cli_number(prompts, "count")),
           strcmp(fr_cli_text(first, "mode"), "generated") == 0 ? "texts generated" : "teacher-forced: every position judged",
           fr_cli_text(first, "drafter"),
           cJSON_IsTrue(fr_cli_part(document, "complete")) ? "" : "; interrupted: what was measured until then");
    print_configurations(configurations);
    if (cJSON_GetArraySize(configurations) > 1) printf("\nbelow: %s\n", fr_cli_text(first, "name"));
    print_along_cycles(first);
    print_positions(first);
    if (cJSON_GetArraySize(fr_cli_part(first, "domains")) > 1) print_domains(first);
    print_context(first);
    print_calibration(first);
    print_rest(document, first);
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

enum { BOTH = 2 }; /* the third word of --verify, --mtp-hidden and --mtp-recycle */

static fr_accept_options make_options(const fr_cli_options *o, const char *prompts, fr_cli_progress *progress) {
    fr_accept_options wanted = {
        .prompts = prompts,
        .tokens = o->prompt_tokens.ids,
        .num_tokens = o->prompt_tokens.count,
        .most_prompts = (size_t)o->most_prompts,
        .chat = o->chat,
        .teacher_forced = o->teacher_forced,
        .both_verify = o->verify == BOTH,
        .both_hidden = o->mtp_hidden == BOTH,
        .both_recycle = o->mtp_recycle == BOTH,
        .max_tokens = o->max_tokens,
        .ignore_eos = o->ignore_eos,
        .session = fr_cli_session_options(o, progress),
        .progress = fr_cli_progress_update,
        .user = progress,
    };
    wanted.session.prefill_chunk = o->prefill_chunk;
    if (wanted.both_verify) wanted.session.sampling.verify = FR_VERIFY_COUPLED;
    if (wanted.both_hidden) wanted.session.mtp_hidden = FR_HIDDEN_POST_NORM;
    if (wanted.both_recycle) wanted.session.mtp_recycle = FR_HIDDEN_POST_NORM;
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
    if (!code) code = fr_cli_runtime_open_for(&runtime, options, NULL);
    if (!code) code = fr_cli_study_prompts(options, runtime.dir, &prompts);
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
