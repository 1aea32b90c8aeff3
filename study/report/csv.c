/* A document as tidy CSV: a row for each thing measured, with its interval where there is one. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "forerun_study.h"
#include "study/report/report.h"

/* Where a row belongs. */
typedef struct place {
    const char *study, *table;
    const char *configuration; /* or arm; NULL: the whole study's */
    const char *item;          /* position, domain, prompt, ...; NULL: all */
} place;

static void number(fr_markup *m, double value) {
    fr_markup_raw(m, ",");
    if (isfinite(value)) fr_markup_format(m, "%.10g", value);
}

/* What was not measured has no row. */
static void row(fr_markup *m, place at, const char *measure, double value, double low, double high, double n) {
    if (!isfinite(value)) return;
    fr_markup_csv(m, at.study);
    fr_markup_raw(m, ",");
    fr_markup_csv(m, at.table);
    fr_markup_raw(m, ",");
    fr_markup_csv(m, at.configuration);
    fr_markup_raw(m, ",");
    fr_markup_csv(m, at.item);
    fr_markup_raw(m, ",");
    fr_markup_csv(m, measure);
    number(m, value);
    number(m, low);
    number(m, high);
    number(m, n);
    fr_markup_raw(m, "\r\n");
}

static void plain(fr_markup *m, place at, const cJSON *object, const char *key) {
    row(m, at, key, fr_json_find_number(object, key), NAN, NAN, NAN);
}

static const char *const none[] = {NULL};

/* All numbers of an object but those under the keys `besides` (NULL-terminated); those of objects in it as KEY_INNER. */
static void numbers(fr_markup *m, place at, const cJSON *object, const char *const *besides) {
    const cJSON *item, *inner;
    if (!cJSON_IsObject(object)) return; /* items of an array have no names */
    cJSON_ArrayForEach(item, object) {
        const char *const *key = besides;
        while (*key && strcmp(*key, item->string) != 0) key++;
        if (*key) continue;
        if (cJSON_IsNumber(item)) row(m, at, item->string, item->valuedouble, NAN, NAN, NAN);
        if (!cJSON_IsObject(item)) continue;
        cJSON_ArrayForEach(inner, item) {
            char measure[160];
            snprintf(measure, sizeof measure, "%.70s_%.70s", item->string, inner->string);
            if (cJSON_IsNumber(inner)) row(m, at, measure, inner->valuedouble, NAN, NAN, NAN);
        }
    }
}

/* "0.1-0.2", "128-256"; without end "512-". */
static const char *range_of(const cJSON *object, char *text, size_t size) {
    double from = fr_json_find_number(object, "from"), to = fr_json_find_number(object, "to");
    int length = snprintf(text, size, "%.6g-", from);
    if (isfinite(to)) snprintf(text + length, size - (size_t)length, "%.6g", to);
    return text;
}

static const char *count_text(double value, char *text, size_t size) {
    snprintf(text, size, "%.10g", value);
    return text;
}

/* ---- Prompts -------------------------------------------------------------------------------------------------------
 */

static void prompts(fr_markup *m, const char *study, const char *name, const cJSON *results) {
    const cJSON *item, *in_arm;
    cJSON_ArrayForEach(item, results) {
        place at = {study, "prompt", name, fr_json_find_string(item, "id")};
        const cJSON *inner;
        cJSON_ArrayForEach(inner, item) {
            if (cJSON_IsNumber(inner)) row(m, at, inner->string, inner->valuedouble, NAN, NAN, NAN);
        }
        cJSON_ArrayForEach(in_arm, fr_json_find_object(item, "arms")) {
            at.configuration = in_arm->string;
            numbers(m, at, in_arm, none);
        }
        cJSON_ArrayForEach(inner, fr_json_find_object(item, "speedup")) {
            at.configuration = inner->string;
            if (cJSON_IsNumber(inner)) row(m, at, "speedup", inner->valuedouble, NAN, NAN, NAN);
        }
    }
}

/* ---- accept ----------------------------------------------------------------------------------------------------- */

static void acceptance(fr_markup *m, place at, const cJSON *object) {
    double rate, low, high, drafted = fr_json_find_number(object, "drafted");
    if (!isfinite(drafted)) drafted = fr_json_find_number(object, "num_draft_tokens");
    fr_report_acceptance(object, &rate, &low, &high);
    row(m, at, "acceptance_rate", rate, low, high, drafted);
    plain(m, at, object, "mean_acceptance_length");
}

static void positions(fr_markup *m, place at, const cJSON *array) {
    const cJSON *item;
    char text[32];
    cJSON_ArrayForEach(item, array) {
        double low, high;
        at.item = count_text(fr_json_find_number(item, "position"), text, sizeof text);
        fr_json_find_interval(item, "rate_ci95", &low, &high);
        row(m, at, "rate", fr_json_find_number(item, "rate"), low, high, fr_json_find_number(item, "drafted"));
        fr_json_find_interval(item, "conditional_ci95", &low, &high);
        row(m, at, "conditional_rate", fr_json_find_number(item, "conditional_rate"), low, high,
            fr_json_find_number(item, "reached"));
        plain(m, at, item, "accepted");
    }
}

static void calibration(fr_markup *m, place at, const cJSON *object) {
    const cJSON *bin;
    char text[64];
    plain(m, at, object, "ece");
    cJSON_ArrayForEach(bin, fr_json_find_array(object, "bins")) {
        double low, high, count = fr_json_find_number(bin, "count");
        at.item = range_of(bin, text, sizeof text);
        fr_json_find_interval(bin, "ci95", &low, &high);
        row(m, at, "rate", fr_json_find_number(bin, "rate"), low, high, count);
        row(m, at, "mean_confidence", fr_json_find_number(bin, "mean_confidence"), NAN, NAN, count);
    }
}

static void configuration_total(fr_markup *m, place at, const cJSON *object) {
    const cJSON *speculation = fr_json_find_object(object, "speculative_decoding");
    double rate, low, high;
    fr_report_configuration(object, speculation, &rate, &low, &high);
    row(m, at, "acceptance_rate", rate, low, high, fr_json_find_number(speculation, "num_draft_tokens"));
    fr_json_find_interval(object, "mean_acceptance_length_ci95", &low, &high);
    row(m, at, "mean_acceptance_length", fr_json_find_number(speculation, "mean_acceptance_length"), low, high,
        fr_json_find_number(speculation, "num_drafts"));
}

static void configuration(fr_markup *m, const char *study, const cJSON *object) {
    const char *name = fr_json_find_string(object, "name");
    const cJSON *item;
    char text[64];
    configuration_total(m, (place){study, "configuration", name, NULL}, object);
    acceptance(m, (place){study, "along_cycles", name, NULL}, fr_json_find_object(object, "along_cycles"));
    positions(m, (place){study, "position", name, NULL}, fr_json_find_array(object, "positions"));
    cJSON_ArrayForEach(item, fr_json_find_array(object, "domains")) {
        place at = {study, "domain", name, fr_json_find_string(item, "domain")};
        acceptance(m, at, item);
    }
    cJSON_ArrayForEach(item, fr_json_find_array(object, "context")) {
        place at = {study, "context", name, range_of(item, text, sizeof text)};
        acceptance(m, at, item);
    }
    calibration(m, (place){study, "calibration", name, NULL}, fr_json_find_object(object, "calibration"));
    cJSON_ArrayForEach(item, fr_json_find_array(object, "rejected_tokens")) {
        place at = {study, "rejected_token", name, count_text(fr_json_find_number(item, "token"), text, sizeof text)};
        row(m, at, "rejection_rate", fr_json_find_number(item, "rate"), NAN, NAN, fr_json_find_number(item, "proposed"));
    }
    prompts(m, study, name, fr_json_find_array(object, "results"));
}

static void overlap(fr_markup *m, const char *study, const cJSON *object) {
    const cJSON *layer;
    char text[32];
    place at = {study, "expert_overlap", NULL, NULL};
    plain(m, at, object, "mean");
    plain(m, at, object, "if_independent");
    plain(m, at, object, "if_independent_by_popularity");
    cJSON_ArrayForEach(layer, fr_json_find_array(object, "layers")) {
        at.item = count_text(fr_json_find_number(layer, "layer"), text, sizeof text);
        plain(m, at, layer, "overlap");
        plain(m, at, layer, "if_independent");
    }
}

/* ---- ab --------------------------------------------------------------------------------------------------------- */

static void arm(fr_markup *m, const char *study, const cJSON *object) {
    place at = {study, "arm", fr_json_find_string(object, "name"), NULL};
    const cJSON *histogram = fr_json_find_object(object, "itl_histogram");
    const cJSON *edges = fr_json_find_array(histogram, "edges_ms"), *counts = fr_json_find_array(histogram, "counts");
    numbers(m, at, object, none);
    at.table = "inter_token_ms";
    for (int i = 0; i < cJSON_GetArraySize(counts); i++) {
        char text[64];
        snprintf(text, sizeof text, "%.6g-%.6g", fr_json_number_at(edges, i), fr_json_number_at(edges, i + 1));
        at.item = text;
        row(m, at, "count", fr_json_number_at(counts, i), NAN, NAN, NAN);
    }
}

static void ratio(fr_markup *m, place at, const char *prefix, const cJSON *object, double n) {
    char measure[32];
    double low, high;
    fr_json_find_interval(object, "ci95", &low, &high);
    snprintf(measure, sizeof measure, "%s_median", prefix);
    row(m, at, measure, fr_json_find_number(object, "median"), low, high, n);
    fr_json_find_interval(object, "mean_ci95", &low, &high);
    snprintf(measure, sizeof measure, "%s_mean", prefix);
    row(m, at, measure, fr_json_find_number(object, "mean"), low, high, n);
}

static void comparison(fr_markup *m, const char *study, const cJSON *object) {
    place at = {study, "comparison", fr_json_find_string(object, "b"), fr_json_find_string(object, "a")};
    const cJSON *slower = fr_json_find_object(object, "slower_prompts");
    double pairs = fr_json_find_number(object, "pairs");
    ratio(m, at, "speedup", fr_json_find_object(object, "speedup"), pairs);
    row(m, at, "slower_prompts", fr_json_find_number(slower, "count"), NAN, NAN, NAN);
    row(m, at, "slower_share", fr_json_find_number(slower, "share"), NAN, NAN, fr_json_find_number(object, "units"));
    row(m, at, "slower_beyond_noise", fr_json_find_number(slower, "beyond_noise"), NAN, NAN, NAN);
}

static void noise(fr_markup *m, const char *study, const cJSON *object) {
    place at = {study, "noise", fr_json_find_string(object, "b"), fr_json_find_string(object, "a")};
    ratio(m, at, "ratio", fr_json_find_object(object, "ratio"), NAN);
    plain(m, at, object, "spread");
    plain(m, at, object, "resolution");
}

/* Of an arm the speed (item empty), of a comparison the speedup; after over before is `ratio`. */
static void against_before(fr_markup *m, const char *study, const cJSON *list) {
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        const char *arm = fr_json_find_string(item, "name");
        place at = {study, "compare", arm ? arm : fr_json_find_string(item, "b"), fr_json_find_string(item, "a")};
        double low, high;
        fr_json_find_interval(item, "ci95", &low, &high);
        plain(m, at, item, "before");
        plain(m, at, item, "after");
        row(m, at, "ratio", fr_json_find_number(item, "ratio"), low, high, fr_json_find_number(item, "prompts"));
    }
}

static void cost_model(fr_markup *m, const char *study, const cJSON *model) {
    static const char *const lists[] = {"pass_ms", "pass_over_one", "unique_experts"};
    const cJSON *item;
    char text[32];
    place at = {study, "cost_model", NULL, NULL};
    numbers(m, at, model, none);
    cJSON_ArrayForEach(item, fr_json_find_array(model, "arms")) {
        at.configuration = fr_json_find_string(item, "name");
        numbers(m, at, item, none);
    }
    at = (place){study, "pass_by_rows", NULL, NULL};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const cJSON *list = fr_json_find_array(model, lists[i]);
        for (int j = 0; j < cJSON_GetArraySize(list); j++) {
            at.item = count_text(j + 1, text, sizeof text);
            row(m, at, lists[i], fr_json_number_at(list, j), NAN, NAN, NAN);
        }
    }
    at.table = "predicted_by_acceptance";
    cJSON_ArrayForEach(item, fr_json_find_array(model, "curve")) {
        at.item = count_text(fr_json_find_number(item, "acceptance"), text, sizeof text);
        plain(m, at, item, "speedup");
        plain(m, at, item, "speedup_by_bytes");
    }
}

static void synthetic(fr_markup *m, const char *study, const cJSON *array) {
    static const char *const written[] = {"target", "acceptance", "speedup", NULL};
    const cJSON *item;
    cJSON_ArrayForEach(item, array) {
        char text[32];
        double low, high;
        place at = {study, "synthetic", NULL, count_text(fr_json_find_number(item, "target"), text, sizeof text)};
        fr_json_find_interval(item, "acceptance_ci95", &low, &high);
        row(m, at, "acceptance", fr_json_find_number(item, "acceptance"), low, high, fr_json_find_number(item, "judged"));
        ratio(m, at, "speedup", fr_json_find_object(item, "speedup"), NAN);
        numbers(m, at, item, written);
    }
}

fr_status fr_study_csv(const char *json, char **csv, fr_error *error) {
    cJSON *document;
    const cJSON *item;
    fr_markup m = {NULL, 0, 0, false};
    *csv = NULL;
    FR_TRY(fr_report_parse(json, &document, error));
    const char *study = fr_json_find_string(document, "schema");
    fr_markup_raw(&m, "study,table,configuration,item,measure,value,ci95_low,ci95_high,n\r\n");
    cJSON_ArrayForEach(item, fr_json_find_array(document, "configurations")) configuration(&m, study, item);
    overlap(&m, study, fr_json_find_object(document, "expert_overlap"));
    cJSON_ArrayForEach(item, fr_json_find_array(document, "arms")) arm(&m, study, item);
    cJSON_ArrayForEach(item, fr_json_find_array(document, "comparisons")) comparison(&m, study, item);
    noise(&m, study, fr_json_find_object(document, "noise"));
    const cJSON *compared = fr_json_find_object(document, "compare");
    against_before(&m, study, fr_json_find_array(compared, "arms"));
    against_before(&m, study, fr_json_find_array(compared, "comparisons"));
    cost_model(&m, study, fr_json_find_object(document, "cost_model"));
    synthetic(&m, study, fr_json_find_array(document, "synthetic"));
    prompts(&m, study, NULL, fr_json_find_array(document, "results"));
    cJSON_Delete(document);
    if (m.failed) {
        fr_markup_release(&m);
        return fr_fail(error, FR_ERROR_MEMORY, "report: not enough for the CSV");
    }
    *csv = m.bytes;
    return FR_OK;
}
