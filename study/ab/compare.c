/* Two documents of A/B studies against each other: what changed by more than noise. Nothing is measured here. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/json_path.h"
#include "core/memory.h"
#include "forerun_study.h"
#include "study/ab/figures.h"
#include "study/result.h"

typedef struct comparer {
    fr_json_builder d;
    cJSON *before, *after; /* as they were read */
    cJSON *warnings;
    double resolution; /* the larger of the two documents' */
    double *ratios;    /* [most] */
    size_t most;
} comparer;

/* ---- Reading ---- */

/* "" where there is none: names are compared. */
static const char *text(const cJSON *from, const char *path) {
    const char *found = fr_path_text(from, path);
    return found ? found : "";
}

/* The item of an array whose `key` says `name`. */
static const cJSON *named(const cJSON *array, const char *key, const char *name) {
    const cJSON *item;
    cJSON_ArrayForEach(item, array) if (strcmp(text(item, key), name) == 0) return item;
    return NULL;
}

static fr_status read_document(const char *json, const char *where, cJSON **out, fr_error *error) {
    static const char *const lists[] = {"arms", "comparisons", "results"};
    FR_TRY(fr_json_parse(json, strlen(json), where, out, error));
    bool whole = strcmp(text(*out, "schema"), "forerun.ab/1") == 0;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) whole &= cJSON_IsArray(fr_json_find(*out, lists[i]));
    if (whole) return FR_OK;
    return fr_fail_at(error, FR_ERROR_FORMAT, where, "not a document of forerun ab (its schema is not \"forerun.ab/1\")");
}

/* ---- Warnings ---- */

static void warn(comparer *c, const char *format, ...) FR_PRINTF(2, 3);
static void warn(comparer *c, const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fr_json_add_text(&c->d, c->warnings, NULL, line);
}

static void describe(const cJSON *value, char *out, size_t size) {
    char *printed = value ? cJSON_PrintUnformatted(value) : NULL;
    snprintf(out, size, "%s", printed ? printed : "nothing");
    cJSON_free(printed);
}

static void warn_if_differs(comparer *c, const char *what, const cJSON *before, const cJSON *after) {
    char was[96], is[96];
    if (!before && !after) return;
    if (before && after && cJSON_Compare(before, after, true)) return;
    describe(before, was, sizeof was);
    describe(after, is, sizeof is);
    warn(c, "%s differs: %s before, %s after", what, was, is);
}

static void compare_environments(comparer *c) {
    static const char *const keys[] = {"forerun", "onednn",         "compiler", "cpu",      "isa", "linear_path",
                                       "threads", "physical_cores", "os",       "governor", "seed"};
    static const char *const model_keys[] = {"fingerprint", "act", "draft_head", "weights"};
    /* Arms are compared one by one. What makes a run longer or shorter does not change what it measures. */
    static const char *const skipped[] = {
        "arms", "prompts", "most_prompts", "repeats", "resamples", "warm_up", "synthetic_acceptance", "ctx", "noise_check"};
    const cJSON *before = fr_path_object(c->before, "environment");
    const cJSON *after = fr_path_object(c->after, "environment");
    char name[96];
    for (size_t i = 0; i < sizeof model_keys / sizeof *model_keys; i++) {
        snprintf(name, sizeof name, "the model's %s", model_keys[i]);
        warn_if_differs(c, name, fr_json_find(fr_path_object(before, "model"), model_keys[i]),
                        fr_json_find(fr_path_object(after, "model"), model_keys[i]));
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        warn_if_differs(c, keys[i], fr_json_find(before, keys[i]), fr_json_find(after, keys[i]));
    const cJSON *options[2] = {fr_path_object(before, "options"), fr_path_object(after, "options")}, *item;
    for (int side = 0; side < 2; side++) cJSON_ArrayForEach(item, options[side]) {
            bool skip = side == 1 && fr_json_find(options[0], item->string); /* seen from the other side */
            for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++) skip |= strcmp(item->string, skipped[i]) == 0;
            snprintf(name, sizeof name, "option %.60s", item->string);
            if (!skip) warn_if_differs(c, name, fr_json_find(options[0], item->string), fr_json_find(options[1], item->string));
        }
}

static void compare_runs(comparer *c) {
    const cJSON *documents[2] = {c->before, c->after}, *result;
    const char *const sides[2] = {"before", "after"};
    size_t common = 0, count[2], changed = 0;
    for (int side = 0; side < 2; side++) {
        double resolution = fr_path_number(documents[side], "noise.resolution");
        count[side] = (size_t)cJSON_GetArraySize(fr_path_array(documents[side], "results"));
        if (isfinite(resolution) && resolution > c->resolution) c->resolution = resolution;
        if (!isfinite(resolution)) warn(c, "of the run %s it is not known how far equals differ", sides[side]);
        if (strcmp(text(documents[side], "noise.verdict"), "noisy") == 0) warn(c, "the run %s was noisy", sides[side]);
        if (cJSON_IsFalse(fr_path_value(documents[side], "complete"))) warn(c, "the run %s was interrupted", sides[side]);
        if (cJSON_IsFalse(fr_path_value(documents[side], "identical_outputs")))
            warn(c, "in the run %s arms gave different texts", sides[side]);
    }
    cJSON_ArrayForEach(result, fr_path_array(c->after, "results")) {
        const cJSON *before = named(fr_path_array(c->before, "results"), "id", text(result, "id"));
        if (!before) continue;
        common++;
        changed += strcmp(text(before, "output_crc32c"), text(result, "output_crc32c")) != 0;
    }
    if (common < count[0] || common < count[1])
        warn(c, "%zu prompts are in both runs, of %zu before and %zu after: ratios are over those, speeds over all of a run",
             common, count[0], count[1]);
    if (changed > 0) warn(c, "%zu of %zu prompts gave another text than before", changed, common);
    fr_json_add_count(&c->d, c->d.root, "prompts_in_both", common);
    fr_json_add_count(&c->d, c->d.root, "texts_changed", changed);
}

/* ---- Ratios ---- */

/* A prompt's figure of an arm: its speed, or its speedup over the compared arm. */
static double of_prompt(const cJSON *result, const char *arm, bool speedup) {
    const cJSON *value = fr_json_find(fr_path_object(result, speedup ? "speedup" : "arms"), arm);
    return fr_path_number(value, speedup ? "" : "decode_tokens_per_s");
}

/* Adds ratio, interval and verdict of an arm's figure, after over before, by prompts that are in both. */
static void add_ratio(comparer *c, cJSON *to, const char *arm, bool speedup) {
    const cJSON *result;
    size_t count = 0;
    cJSON_ArrayForEach(result, fr_path_array(c->after, "results")) {
        const cJSON *before = named(fr_path_array(c->before, "results"), "id", text(result, "id"));
        double value = of_prompt(result, arm, speedup) / of_prompt(before, arm, speedup);
        if (isfinite(value) && value > 0.0 && count < c->most) c->ratios[count++] = value;
    }
    fr_estimated ratio = fr_estimate_median(c->ratios, count);
    fr_json_add_count(&c->d, to, "prompts", count);
    fr_json_add_real(&c->d, to, "ratio", ratio.value);
    fr_json_add_interval(&c->d, to, "ci95", ratio.interval.low, ratio.interval.high);
    const char *verdict = fr_ab_verdict(ratio, c->resolution);
    fr_json_add_text(&c->d, to, "verdict",
                     count < FR_LEAST_UNITS              ? "unknown"
                     : strcmp(verdict, "undecided") == 0 ? "no difference shown"
                                                         : verdict);
}

static void compare_arms(comparer *c) {
    const cJSON *arm;
    cJSON *array = fr_json_add_array(&c->d, c->d.root, "arms");
    cJSON_ArrayForEach(arm, fr_path_array(c->after, "arms")) {
        const char *name = text(arm, "name");
        const cJSON *before = named(fr_path_array(c->before, "arms"), "name", name);
        if (!before) {
            warn(c, "arm %.40s is only in the run after", name);
            continue;
        }
        double was = fr_path_number(before, "depth"), is = fr_path_number(arm, "depth");
        if (was != is) warn(c, "arm %.40s drafts %g tokens before, %g after", name, was, is);
        cJSON *item = fr_json_add_object(&c->d, array, NULL);
        fr_json_add_text(&c->d, item, "name", name);
        fr_json_add_text(&c->d, item, "figure", "decode_tokens_per_s");
        fr_json_add_real(&c->d, item, "before", fr_path_number(before, "decode_tokens_per_s.median"));
        fr_json_add_real(&c->d, item, "after", fr_path_number(arm, "decode_tokens_per_s.median"));
        add_ratio(c, item, name, false);
    }
    cJSON_ArrayForEach(arm, fr_path_array(c->before, "arms")) {
        const char *name = text(arm, "name");
        if (!named(fr_path_array(c->after, "arms"), "name", name)) warn(c, "arm %.40s is only in the run before", name);
    }
}

static void compare_comparisons(comparer *c) {
    const cJSON *after;
    cJSON *array = fr_json_add_array(&c->d, c->d.root, "comparisons");
    cJSON_ArrayForEach(after, fr_path_array(c->after, "comparisons")) {
        const cJSON *before = named(fr_path_array(c->before, "comparisons"), "b", text(after, "b"));
        if (!before || strcmp(text(before, "a"), text(after, "a")) != 0) continue;
        cJSON *item = fr_json_add_object(&c->d, array, NULL);
        fr_json_add_text(&c->d, item, "a", text(after, "a"));
        fr_json_add_text(&c->d, item, "b", text(after, "b"));
        fr_json_add_text(&c->d, item, "figure", "speedup");
        fr_json_add_real(&c->d, item, "before", fr_path_number(before, "speedup.median"));
        fr_json_add_real(&c->d, item, "after", fr_path_number(after, "speedup.median"));
        add_ratio(c, item, text(after, "b"), true);
    }
}

/* ---- The whole ---- */

static void compare(comparer *c) {
    fr_json_add_text(&c->d, c->d.root, "schema", "forerun.ab-compare/1");
    fr_json_add_text(&c->d, c->d.root, "before", text(c->before, "created"));
    fr_json_add_text(&c->d, c->d.root, "after", text(c->after, "created"));
    c->warnings = fr_json_add_array(&c->d, c->d.root, "warnings");
    compare_environments(c);
    compare_runs(c);
    fr_json_add_real(&c->d, c->d.root, "resolution", c->resolution);
    compare_arms(c);
    compare_comparisons(c);
    fr_json_add_text(&c->d, c->d.root, "says",
                     "Ratios are after over before, paired by prompt. Speeds of two runs also differ by what else the machine "
                     "did at the time, which no check within a run can see; speedups, taken within each run, do not.");
}

fr_status fr_ab_compare(const char *before, const char *after, fr_study_result **out, fr_error *error) {
    comparer c = {0};
    fr_status status;
    *out = NULL;
    fr_json_begin(&c.d);
    FR_CHECK(read_document(before, "the document before", &c.before, error));
    FR_CHECK(read_document(after, "the document after", &c.after, error));
    c.most = (size_t)cJSON_GetArraySize(fr_path_array(c.after, "results")) + 1;
    c.ratios = fr_alloc(c.most * sizeof *c.ratios);
    FR_CHECK(c.ratios ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "ab: not enough to compare"));
    compare(&c);
    status = fr_study_finish(&c.d, out, error);
done:
    if (status != FR_OK) fr_json_discard(&c.d);
    cJSON_Delete(c.before);
    cJSON_Delete(c.after);
    fr_free(c.ratios);
    return status;
}
