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
#include "cli/table.h"
#include "forerun_study.h"
#include "study/words.h"

/* ---- Options ------------------------------------------------------------------------------------------------- */

/* One word of --arms: off, on, auto, on:K, auto:K. */
static int parse_arm(const char *word, size_t length, fr_ab_arm *arm) {
    if (fr_ab_arm_parse(word, length, arm)) return 0;
    fr_cli_error(FR_EXIT_USAGE, "--arms: there is no arm '%.*s'", (int)(length < 40 ? length : 40), word);
    fr_cli_hint("arms are off, on and auto, as they are or with drafts a cycle: on:2 (1 to %d)", FR_MAX_DEPTH);
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

/* A number with so many digits behind the point; "-" when there is none. */
static void cell(fr_cli_table *table, double value, int digits, const char *unit) {
    if (isfinite(value))
        fr_cli_table_cell(table, "%.*f%s", digits, value, unit);
    else
        fr_cli_table_cell(table, "-");
}

static void columns(fr_cli_table *table, const char *const *headings, size_t count) {
    for (size_t i = 0; i < count; i++) fr_cli_table_column(table, headings[i], i ? FR_ALIGN_RIGHT : FR_ALIGN_LEFT);
}
#define COLUMNS(table, ...)                                                                                                      \
    columns(table, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void finish(fr_cli_table *table) {
    fr_cli_table_print(table, stdout);
    fr_cli_table_destroy(table);
    printf("\n");
}

static void print_arms(const cJSON *document) {
    const cJSON *arm;
    fr_cli_table *table = fr_cli_table_create(NULL);
    COLUMNS(table, "arm", "tokens/s", "TPOT ms", "p90", "p99", "token p99", "TTFT ms", "prefill/s", "J/token", "accepted");
    cJSON_ArrayForEach(arm, fr_cli_part(document, "arms")) {
        const cJSON *tpot = fr_cli_part(arm, "tpot_ms");
        fr_cli_table_cell(table, "%s", fr_cli_text(arm, "name"));
        cell(table, fr_cli_number(fr_cli_part(arm, "decode_tokens_per_s"), "median"), 1, "");
        cell(table, fr_cli_number(tpot, "p50"), 2, "");
        cell(table, fr_cli_number(tpot, "p90"), 2, "");
        cell(table, fr_cli_number(tpot, "p99"), 2, "");
        cell(table, fr_cli_number(fr_cli_part(arm, "inter_token_ms"), "p99"), 2, "");
        cell(table, fr_cli_number(fr_cli_part(arm, "ttft_ms"), "p50"), 1, "");
        cell(table, fr_cli_number(fr_cli_part(arm, "prefill_tokens_per_s"), "median"), 0, "");
        cell(table, fr_cli_number(arm, "energy_j_per_token"), 3, "");
        fr_cli_table_percent(table, fr_cli_number(fr_cli_part(arm, "speculative_decoding"), "acceptance_rate"));
    }
    finish(table);
}

/* The largest end of an interval, for bars of one length. */
static double longest(const cJSON *array, double most) {
    const cJSON *item;
    cJSON_ArrayForEach(item, array) {
        double low, high;
        fr_cli_interval(fr_cli_part(item, "speedup"), "ci95", &low, &high);
        if (high > most) most = high;
    }
    return most;
}

static void speedup_cells(fr_cli_table *table, const cJSON *item, double most) {
    const cJSON *speedup = fr_cli_part(item, "speedup");
    double low, high;
    fr_cli_interval(speedup, "ci95", &low, &high);
    cell(table, fr_cli_number(speedup, "median"), 3, "x");
    fr_cli_table_interval(table, low, high, 1.0);
    fr_cli_table_bar(table, fr_cli_number(speedup, "median"), low, high, most);
}

static void print_comparisons(const cJSON *document) {
    const cJSON *item, *array = fr_cli_part(document, "comparisons");
    double most = longest(array, 1.0);
    if (cJSON_GetArraySize(array) == 0) return;
    fr_cli_table *table = fr_cli_table_create(NULL);
    COLUMNS(table, "speedup", "median", "95 %", "0 to longest", "verdict", "slower prompts");
    cJSON_ArrayForEach(item, array) {
        const cJSON *slower = fr_cli_part(item, "slower_prompts");
        fr_cli_table_cell(table, "%s over %s", fr_cli_text(item, "b"), fr_cli_text(item, "a"));
        speedup_cells(table, item, most);
        fr_cli_table_cell(table, "%s", fr_cli_text(item, "verdict"));
        fr_cli_table_cell(table, "%.0f of %.0f", fr_cli_number(slower, "count"), fr_cli_number(item, "units"));
    }
    finish(table);
}

static void print_synthetic(const cJSON *document) {
    const cJSON *item, *array = fr_cli_part(document, "synthetic");
    double most = longest(array, 1.0);
    if (cJSON_GetArraySize(array) == 0) return;
    fr_cli_table *table = fr_cli_table_create(NULL);
    COLUMNS(table, "synthetic", "accepted", "speedup", "95 %", "0 to longest", "predicted");
    cJSON_ArrayForEach(item, array) {
        fr_cli_table_cell(table, "%g", fr_cli_number(item, "target"));
        fr_cli_table_percent(table, fr_cli_number(item, "acceptance"));
        speedup_cells(table, item, most);
        cell(table, fr_cli_number(item, "predicted_speedup"), 3, "x");
    }
    finish(table);
}

static void print_model(const cJSON *document) {
    const cJSON *model = fr_cli_part(document, "cost_model"), *arm;
    const cJSON *rows = fr_cli_part(model, "pass_over_one"), *row;
    int at = 0;
    if (cJSON_GetArraySize(fr_cli_part(model, "arms")) == 0) return;
    fr_cli_table *table = fr_cli_table_create(NULL);
    COLUMNS(table, "cost model", "accepted", "tokens/cycle", "predicted", "reached", "by bytes", "break-even");
    cJSON_ArrayForEach(arm, fr_cli_part(model, "arms")) {
        fr_cli_table_cell(table, "%s", fr_cli_text(arm, "name"));
        fr_cli_table_percent(table, fr_cli_number(arm, "acceptance_rate"));
        cell(table, fr_cli_number(arm, "tokens_per_cycle"), 2, "");
        cell(table, fr_cli_number(arm, "predicted_speedup"), 3, "x");
        fr_cli_table_percent(table, fr_cli_number(arm, "of_prediction"));
        cell(table, fr_cli_number(arm, "speedup_by_bytes"), 3, "x");
        fr_cli_table_percent(table, fr_cli_number(arm, "break_even_acceptance"));
    }
    fr_cli_table_print(table, stdout);
    fr_cli_table_destroy(table);
    printf("passes over one row:");
    cJSON_ArrayForEach(row, rows) {
        at++;
        printf("%s %d: %.3f", at > 1 ? "," : "", at, row->valuedouble);
    }
    if (isfinite(fr_cli_number(model, "draft_over_one"))) printf("; a draft: %.3f", fr_cli_number(model, "draft_over_one"));
    if (isfinite(fr_cli_number(model, "expert_overlap")))
        printf("; neighbours share %.0f %% of their experts", 100.0 * fr_cli_number(model, "expert_overlap"));
    printf("\n\n");
}

static void print_compared(const cJSON *compared) {
    static const char *const lists[] = {"arms", "comparisons"};
    const cJSON *item;
    if (!compared) return;
    fr_cli_table *table = fr_cli_table_create(NULL);
    COLUMNS(table, "against before", "before", "after", "ratio", "95 %", "verdict");
    for (int i = 0; i < 2; i++) cJSON_ArrayForEach(item, fr_cli_part(compared, lists[i])) {
            double low, high;
            fr_cli_interval(item, "ci95", &low, &high);
            if (i == 0)
                fr_cli_table_cell(table, "%s, tokens/s", fr_cli_text(item, "name"));
            else
                fr_cli_table_cell(table, "%s over %s", fr_cli_text(item, "b"), fr_cli_text(item, "a"));
            cell(table, fr_cli_number(item, "before"), i == 0 ? 1 : 3, i == 0 ? "" : "x");
            cell(table, fr_cli_number(item, "after"), i == 0 ? 1 : 3, i == 0 ? "" : "x");
            cell(table, fr_cli_number(item, "ratio"), 3, "");
            fr_cli_table_interval(table, low, high, 1.0);
            fr_cli_table_cell(table, "%s", fr_cli_text(item, "verdict"));
        }
    finish(table);
    cJSON_ArrayForEach(item, fr_cli_part(compared, "warnings"))
        fr_cli_print_shown(stdout, "! %s", cJSON_IsString(item) ? item->valuestring : "");
    fr_cli_print_shown(stdout, "%s", fr_cli_text(compared, "says"));
}

static void print_tables(const cJSON *document, const cJSON *compared) {
    const cJSON *environment = fr_cli_part(document, "environment"), *prompts = fr_cli_part(document, "prompts");
    fr_cli_print_shown(stdout, "%.0f prompts of %.0f tokens, %.0f texts each in an arm; %.0f threads, %s%s",
                       fr_cli_number(prompts, "count"), fr_cli_number(prompts, "tokens"),
                       fr_cli_number(fr_cli_part(environment, "options"), "repeats"), fr_cli_number(environment, "threads"),
                       fr_cli_text(environment, "isa"), cJSON_IsFalse(fr_cli_part(document, "complete")) ? "; interrupted" : "");
    printf("\n");
    print_arms(document);
    print_comparisons(document);
    print_synthetic(document);
    print_model(document);
    if (*fr_cli_text(fr_cli_part(document, "noise"), "says"))
        fr_cli_print_shown(stdout, "%s", fr_cli_text(fr_cli_part(document, "noise"), "says"));
    fr_cli_print_shown(stdout, "%s", fr_cli_text(fr_cli_part(document, "outputs"), "says"));
    if (compared) printf("\n");
    print_compared(compared);
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

static int read_document(const char *path, char **out) {
    size_t length;
    int code = fr_cli_read_file(path, out, &length);
    if (code || strlen(*out) == length) return code;
    free(*out);
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
    const char *dir = code ? NULL : fr_cli_model_dir(options);
    if (!code) code = dir ? fr_cli_study_prompts(options, dir, &wanted.prompts) : FR_EXIT_FAILED;
    if (!code) code = fr_cli_runtime_open_for(&runtime, options, NULL);
    if (code) return code;
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
    if (fr_cli_part(tree, "compare")) {
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
    const cJSON *promised = fr_cli_part(fr_cli_part(document, "outputs"), "promised_identical");
    if (!cJSON_IsFalse(fr_cli_part(document, "identical_outputs")) || cJSON_IsFalse(promised)) return FR_EXIT_DONE;
    const cJSON *first = fr_cli_part(fr_cli_part(document, "outputs"), "first_difference");
    fr_cli_error(FR_EXIT_NOT_OK,
                 "outputs: %.0f texts are not those of the compared arm; the first is prompt %s in arm %s, "
                 "from token %.0f on",
                 fr_cli_number(fr_cli_part(document, "outputs"), "different_texts"), fr_cli_text(first, "id"),
                 fr_cli_text(first, "arm"), fr_cli_number(first, "token"));
    return FR_EXIT_NOT_OK;
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
    if (!document || strcmp(fr_cli_text(document, "schema"), "forerun.ab/1") != 0) {
        code = fr_cli_error(FR_EXIT_FAILED, "%s: not a document of forerun ab", options->from ? options->from : "ab");
    } else {
        if (options->json)
            printf("%s\n", whole);
        else
            print_tables(document, fr_cli_part(document, "compare"));
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
    free(kept);
    free(old);
    return code;
}
