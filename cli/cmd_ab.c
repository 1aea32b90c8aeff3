#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/prompt.h"
#include "cli/shown.h"
#include "cli/study.h"
#include "cli/view.h"
#include "forerun_study.h"
#include "study/words.h"

/* ---- Options ------------------------------------------------------------------------------------------------- */

/* One word of --arms: off, on, auto, learned, on:K, auto:K, learned:K. */
static int parse_arm(const char *word, size_t length, fr_ab_arm *arm) {
    if (fr_ab_arm_parse(word, length, arm)) return 0;
    fr_cli_error(FR_EXIT_USAGE, "--arms: there is no arm '%.*s'", (int)(length < 40 ? length : 40), word);
    fr_cli_hint("arms are off, on, auto and learned, as they are or with drafts a cycle: on:2 (1 to %d)", FR_MAX_DEPTH);
    return FR_EXIT_USAGE;
}

static int parse_arms(const char *text, fr_ab_arm *arms, size_t *count) {
    *count = 0;
    for (const char *word = text; word; word = strchr(word, ',') ? strchr(word, ',') + 1 : NULL) {
        if (*count == FR_AB_MOST_ARMS) return fr_cli_error(FR_EXIT_USAGE, "--arms: more than %d", FR_AB_MOST_ARMS);
        int code = parse_arm(word, strcspn(word, ","), &arms[(*count)++]);
        if (code) return code;
    }
    return 0;
}

static int parse_chances(const char *text, double *chances, size_t *count) {
    *count = 0;
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        char *end;
        double chance = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(chance >= 0.0 && chance <= 1.0)) {
            fr_cli_error(FR_EXIT_USAGE, "--synthetic-acceptance: '%.*s' is not a number from 0 to 1",
                         (int)strcspn(at, ",") < 40 ? (int)strcspn(at, ",") : 40, at);
            fr_cli_hint("write them as in --synthetic-acceptance 0,0.5,1");
            return FR_EXIT_USAGE;
        }
        if (*count == FR_AB_MOST_SYNTHETIC)
            return fr_cli_error(FR_EXIT_USAGE, "--synthetic-acceptance: more than %d", FR_AB_MOST_SYNTHETIC);
        chances[(*count)++] = chance;
    }
    return 0;
}

/* ---- For people ------------------------------------------------------------------------------------------------ */

/* A table and a line's distance to the next; nothing when there are no items. */
static void print_view(const fr_view *view, const cJSON *document) {
    const cJSON *array = fr_path_array(document, view->array);
    if (!array) return;
    fr_cli_view_print(view, NULL, array);
    printf("\n");
}

/* Costs that the cost model is made of, in a line below its table. */
static void print_costs(const cJSON *document) {
    double draft = fr_path_number(document, "cost_model.draft_over_one");
    double overlap = fr_path_number(document, "cost_model.expert_overlap");
    const cJSON *arms = fr_path_array(document, fr_view_cost_arms.array), *row;
    int at = 0;
    if (!arms) return;
    fr_cli_view_print(&fr_view_cost_arms, NULL, arms);
    printf("passes over one row:");
    cJSON_ArrayForEach(row, fr_path_array(document, "cost_model.pass_over_one")) {
        at++;
        printf("%s %d: %.3f", at > 1 ? "," : "", at, row->valuedouble);
    }
    if (isfinite(draft)) printf("; a draft: %.3f", draft);
    if (isfinite(overlap)) printf("; neighbours share %.0f %% of their experts", 100.0 * overlap);
    printf("\n\n");
}

static void print_compared(const cJSON *document) {
    const cJSON *item;
    fr_cli_table *table = fr_cli_view_table(&fr_view_compared_arms, NULL);
    fr_cli_view_add(table, &fr_view_compared_arms, fr_path_array(document, fr_view_compared_arms.array));
    fr_cli_view_add(table, &fr_view_compared_speedups, fr_path_array(document, fr_view_compared_speedups.array));
    printf("\n");
    fr_cli_table_print(table, stdout);
    fr_cli_table_destroy(table);
    printf("\n");
    cJSON_ArrayForEach(item, fr_path_array(document, "compare.warnings"))
        fr_cli_print_shown(stdout, "! %s", cJSON_IsString(item) ? item->valuestring : "");
    fr_cli_print_shown(stdout, "%s", fr_cli_view_text(document, "compare.says"));
}

static void print_tables(const cJSON *document) {
    bool interrupted = cJSON_IsFalse(fr_path_value(document, "complete"));
    char template[64];
    double prompts = fr_path_number(document, "prompts.count"), texts = fr_path_number(document, "environment.options.repeats"),
           threads = fr_path_number(document, "environment.threads");
    fr_cli_print_shown(stdout, "%.0f prompt%s of %.0f tokens, %.0f text%s each in an arm; %.0f thread%s, %s%s%s", prompts,
                       prompts == 1 ? "" : "s", fr_path_number(document, "prompts.tokens"), texts, texts == 1 ? "" : "s", threads,
                       threads == 1 ? "" : "s", fr_cli_view_text(document, "environment.isa"),
                       fr_cli_view_template(document, template), interrupted ? "; interrupted" : "");
    printf("\n");
    fr_cli_view_print(&fr_view_arms, NULL, fr_path_array(document, fr_view_arms.array));
    printf("\n");
    print_view(&fr_view_comparisons, document);
    print_view(&fr_view_synthetic, document);
    print_costs(document);
    if (*fr_cli_view_text(document, "noise.says")) fr_cli_print_shown(stdout, "%s", fr_cli_view_text(document, "noise.says"));
    if (*fr_cli_view_text(document, "statistics.says"))
        fr_cli_print_shown(stdout, "%s", fr_cli_view_text(document, "statistics.says"));
    fr_cli_print_shown(stdout, "%s", fr_cli_view_text(document, "outputs.says"));
    if (cJSON_GetObjectItemCaseSensitive(document, "compare")) print_compared(document);
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

static int read_document(const char *path, char **out) {
    size_t length;
    int code = fr_cli_read_file(path, out, &length);
    if (code || strlen(*out) == length) return code;
    fr_free(*out);
    *out = NULL;
    return fr_cli_error(FR_EXIT_FAILED, "%s: not a document of forerun ab: it holds a NUL byte", path);
}

static int measure(const fr_cli_options *options, fr_study_result **out, fr_status *status, fr_error *error) {
    fr_cli_runtime runtime;
    fr_cli_progress progress;
    fr_ab_arm arms[FR_AB_MOST_ARMS];
    double chances[FR_AB_MOST_SYNTHETIC];
    fr_ab_options wanted = {.most_prompts = (size_t)options->most_prompts,
                            .chat = options->chat,
                            .chat_options = fr_cli_chat_options(options),
                            .max_tokens = options->max_tokens,
                            .ignore_eos = options->ignore_eos,
                            .tokens = options->prompt_tokens.ids,
                            .num_tokens = options->prompt_tokens.count,
                            .repeats = options->repeats,
                            .warm_up = options->warm_up > 0 ? options->warm_up : -1,
                            .cool_off_s = options->cool_off,
                            .no_noise_check = options->no_noise_check,
                            .progress = fr_cli_progress_update,
                            .user = &progress};
    int code = options->arms ? parse_arms(options->arms, arms, &wanted.num_arms) : 0;
    if (!code && options->synthetic) code = parse_chances(options->synthetic, chances, &wanted.num_synthetic);
    const char *dir = code ? NULL : fr_cli_model_dir(options, true);
    if (!code) code = dir ? fr_cli_study_prompts(options, dir, &wanted.prompts) : FR_EXIT_FAILED;
    if (!code) code = fr_cli_runtime_open_for(&runtime, options, NULL);
    if (code) return code;
    fr_cli_suggest_sampling(options, dir);
    wanted.arms = options->arms ? arms : NULL;
    wanted.synthetic = chances;
    wanted.session = fr_cli_session_options(options, &progress);
    wanted.origin = fr_cli_study_origin(options, &runtime);
    fr_cli_progress_init(&progress);
    fr_cli_interrupt_defer();
    *status = fr_ab(runtime.model, &wanted, out, error);
    fr_cli_progress_clear(&progress);
    if (!*out) code = fr_cli_failure(error);
    fr_cli_runtime_close(&runtime);
    return code;
}

/* A document whose comparison is not where `joined` looks, since another program wrote it out: without it. Else NULL. */
static char *without_comparison(const char *json) {
    cJSON *tree = strstr(json, ",\n\"compare\": ") ? NULL : cJSON_Parse(json);
    char *clean = NULL;
    if (cJSON_GetObjectItemCaseSensitive(tree, "compare")) {
        cJSON_DeleteItemFromObjectCaseSensitive(tree, "compare");
        clean = cJSON_Print(tree);
    }
    cJSON_Delete(tree);
    return clean;
}

/* Puts the comparison into the document's text, which may hold numbers that parsing and printing would not keep. One
 * that was put there before goes: it began with these very bytes, and a line's end is never within a string of JSON. */
static char *joined(const char *json, const char *compared) {
    static const char key[] = ",\n\"compare\": ";
    const char *old = compared ? strstr(json, key) : NULL;
    size_t length = old ? (size_t)(old - json) + 1 : strlen(json);
    size_t most = length + (compared ? strlen(compared) : 0) + sizeof key + 8;
    char *out = fr_cli_alloc(most, 1);
    while (!old && length > 0 && json[length - 1] != '}') length--;
    if (compared)
        snprintf(out, most, "%.*s%s%s\n}", (int)(length - 1), json, key, compared);
    else
        memcpy(out, json, length);
    return out;
}

/* What the document says about whether all is well. */
static int verdict(const cJSON *document) {
    bool promised = !cJSON_IsFalse(fr_path_value(document, "outputs.promised_identical"));
    if (!promised || !cJSON_IsFalse(fr_path_value(document, "identical_outputs"))) return FR_EXIT_DONE;
    const cJSON *first = fr_path_object(document, "outputs.first_difference");
    return fr_cli_error(FR_EXIT_NOT_OK,
                        "outputs: %.0f texts are not those of the compared arm; the first is prompt %s in arm %s, "
                        "from token %.0f on",
                        fr_path_number(document, "outputs.different_texts"), fr_cli_view_text(first, "id"),
                        fr_cli_view_text(first, "arm"), fr_path_number(first, "token"));
}

/* Shows and writes a run's document; json is its text, old that of a run to compare with, or NULL. */
static int present(const fr_cli_options *options, const char *json, const char *old) {
    fr_study_result *compared = NULL;
    fr_error error = {0};
    /* What was measured is shown in any case. */
    int failed = old && fr_ab_compare(old, json, &compared, &error) != FR_OK ? fr_cli_failure(&error) : 0, code;
    char *clean = compared ? without_comparison(json) : NULL;
    char *whole = joined(clean ? clean : json, compared ? fr_study_json(compared) : NULL);
    cJSON *document = cJSON_Parse(whole);
    if (!document || strcmp(fr_cli_view_text(document, "schema"), "forerun.ab/1") != 0) {
        code = fr_cli_error(FR_EXIT_FAILED, "%s: not a document of forerun ab", options->from ? options->from : "ab");
    } else {
        if (options->json)
            printf("%s\n", whole);
        else
            print_tables(document);
        code = verdict(document);
        int written = fr_cli_study_write(options, whole);
        if (written) code = written;
        if (failed) code = failed;
    }
    cJSON_Delete(document);
    cJSON_free(clean);
    free(whole);
    fr_study_destroy(compared);
    return fr_cli_flush(code);
}

int fr_cmd_ab(const fr_cli_options *options) {
    fr_study_result *result = NULL;
    fr_error error = {0};
    fr_status status = FR_OK;
    char *kept = NULL, *old = NULL;
    int code = 0;
    if (options->from) code = read_document(options->from, &kept);
    if (!code && options->compare) code = read_document(options->compare, &old);
    if (!code && !kept) code = measure(options, &result, &status, &error);
    if (!code) code = present(options, kept ? kept : fr_study_json(result), old);
    if (code == FR_EXIT_DONE && status == FR_INTERRUPTED) code = fr_cli_failure(&error);
    fr_study_destroy(result);
    fr_free(kept);
    fr_free(old);
    return code;
}
