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

static void add_number(fr_markup *m, double value) {
    fr_markup_raw(m, ",");
    if (isfinite(value)) fr_markup_format(m, "%.10g", value);
}

/* What was not measured has no row. */
static void add_row(fr_markup *m, place at, const char *measure, double value, double low, double high, double n) {
    const char *const fields[] = {at.study, at.table, at.configuration, at.item, measure};
    if (!isfinite(value)) return;
    for (int i = 0; i < 5; i++) {
        if (i) fr_markup_raw(m, ",");
        fr_markup_csv(m, fields[i]);
    }
    add_number(m, value);
    add_number(m, low);
    add_number(m, high);
    add_number(m, n);
    fr_markup_raw(m, "\r\n");
}

static void add_plain(fr_markup *m, place at, const char *measure, double value) {
    add_row(m, at, measure, value, NAN, NAN, NAN);
}

/* Adds all numbers of an object but those under the keys `besides` (NULL-terminated); those of objects in it as KEY_INNER. */
static void add_numbers(fr_markup *m, place at, const cJSON *object, const char *const *besides) {
    const cJSON *item, *inner;
    if (!cJSON_IsObject(object)) return; /* items of an array have no names */
    cJSON_ArrayForEach(item, object) {
        const char *const *key = besides;
        while (*key && strcmp(*key, item->string) != 0) key++;
        if (*key) continue;
        if (cJSON_IsNumber(item)) add_plain(m, at, item->string, item->valuedouble);
        if (!cJSON_IsObject(item)) continue;
        cJSON_ArrayForEach(inner, item) {
            char measure[160];
            snprintf(measure, sizeof measure, "%.70s_%.70s", item->string, inner->string);
            if (cJSON_IsNumber(inner)) add_plain(m, at, measure, inner->valuedouble);
        }
    }
}

/* ---- Views ---- */

enum { ITEM_BYTES = 64 };

/* Puts an item's name in its place: "2", "code", "0.1-0.2", without an end "512-". text: [ITEM_BYTES]. */
static void name_item(place *at, const fr_view *view, const cJSON *item, char *text) {
    const fr_column *name = view->columns;
    double from = fr_path_number(item, "from"), to = fr_path_number(item, "to");
    at->item = text;
    if (name->kind == FR_CELL_PAIR) {
        at->configuration = fr_path_text(item, "b");
        at->item = fr_path_text(item, "a");
    } else if (name->kind == FR_CELL_RANGE) {
        int length = snprintf(text, ITEM_BYTES, "%.6g-", from);
        if (isfinite(to)) snprintf(text + length, ITEM_BYTES - (size_t)length, "%.6g", to);
    } else if (view->configuration) {
        at->configuration = fr_path_text(item, name->path);
        at->item = NULL;
    } else if (!name->path) {
        at->item = NULL;
    } else if (name->kind == FR_CELL_NUMBER) {
        snprintf(text, ITEM_BYTES, "%.10g", fr_path_number(item, name->path));
    } else {
        at->item = fr_path_text(item, name->path);
    }
}

static void add_item(fr_markup *m, place at, const fr_view *view, const cJSON *item) {
    char text[ITEM_BYTES];
    at.table = view->table;
    name_item(&at, view, item, text);
    for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++) {
        double low, high;
        if (!c->csv) continue;
        fr_column_interval(c, item, &low, &high);
        add_row(m, at, c->csv, fr_path_number(item, c->path), low, high, c->n ? fr_path_number(item, c->n) : NAN);
    }
    if (view->besides) add_numbers(m, at, item, view->besides);
}

static void add_views(fr_markup *m, place at, const fr_view *const *views, const cJSON *from) {
    for (; *views; views++) {
        const cJSON *item, *array = fr_path_array(from, (*views)->array);
        if ((*views)->one)
            add_item(m, at, *views, fr_path_object(from, (*views)->array));
        else
            cJSON_ArrayForEach(item, array) add_item(m, at, *views, item);
    }
}

/* ---- What no view has ---- */

static void add_prompts(fr_markup *m, place at, const cJSON *results) {
    static const char *const all[] = {NULL};
    const cJSON *item, *inner;
    at.table = "prompt";
    cJSON_ArrayForEach(item, results) {
        place here = at;
        here.item = fr_path_text(item, "id");
        cJSON_ArrayForEach(inner, item) {
            if (cJSON_IsNumber(inner)) add_plain(m, here, inner->string, inner->valuedouble);
        }
        cJSON_ArrayForEach(inner, fr_path_object(item, "arms")) {
            here.configuration = inner->string;
            add_numbers(m, here, inner, all);
        }
        cJSON_ArrayForEach(inner, fr_path_object(item, "speedup")) {
            here.configuration = inner->string;
            if (cJSON_IsNumber(inner)) add_plain(m, here, "speedup", inner->valuedouble);
        }
    }
}

static void add_configuration(fr_markup *m, place at, const cJSON *configuration) {
    static const fr_view *const views[] = {&fr_view_along_cycles, &fr_view_positions, &fr_view_domains,  &fr_view_context,
                                           &fr_view_calibration,  &fr_view_bins,      &fr_view_rejected, NULL};
    add_item(m, at, &fr_view_configurations, configuration);
    at.configuration = fr_path_text(configuration, "name");
    add_views(m, at, views, configuration);
    add_prompts(m, at, fr_path_array(configuration, "results"));
}

static void add_arm(fr_markup *m, place at, const cJSON *arm) {
    const cJSON *edges = fr_path_array(arm, "itl_histogram.edges_ms"), *count;
    int bin = 0;
    char text[ITEM_BYTES];
    add_item(m, at, &fr_view_arms, arm);
    at = (place){at.study, "inter_token_ms", fr_path_text(arm, "name"), text};
    cJSON_ArrayForEach(count, fr_path_array(arm, "itl_histogram.counts")) {
        snprintf(text, sizeof text, "%.6g-%.6g", fr_json_number_at(edges, bin), fr_json_number_at(edges, bin + 1));
        bin++;
        if (cJSON_IsNumber(count)) add_plain(m, at, "count", count->valuedouble);
    }
}

/* Lists of numbers by the rows of a pass, from 1. */
static void add_passes(fr_markup *m, place at, const cJSON *model) {
    static const char *const lists[] = {"pass_ms", "pass_over_one", "unique_experts"};
    const cJSON *item;
    char text[ITEM_BYTES];
    at.table = "pass_by_rows";
    at.item = text;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        int rows = 0;
        cJSON_ArrayForEach(item, fr_path_array(model, lists[i])) {
            snprintf(text, sizeof text, "%d", ++rows);
            if (cJSON_IsNumber(item)) add_plain(m, at, lists[i], item->valuedouble);
        }
    }
}

static void add_document(fr_markup *m, const cJSON *document) {
    static const fr_view *const acceptance[] = {&fr_view_pairs, &fr_view_overlap, &fr_view_overlap_layers, NULL};
    static const fr_view *const comparisons[] = {&fr_view_comparisons,
                                                 &fr_view_noise,
                                                 &fr_view_compared_arms,
                                                 &fr_view_compared_speedups,
                                                 &fr_view_cost,
                                                 &fr_view_cost_arms,
                                                 NULL};
    static const fr_view *const predictions[] = {&fr_view_curve, &fr_view_synthetic, NULL};
    const place at = {.study = fr_path_text(document, "schema")};
    const cJSON *item;
    fr_markup_raw(m, "study,table,configuration,item,measure,value,ci95_low,ci95_high,n\r\n");
    cJSON_ArrayForEach(item, fr_path_array(document, "configurations")) add_configuration(m, at, item);
    add_views(m, at, acceptance, document);
    cJSON_ArrayForEach(item, fr_path_array(document, "arms")) add_arm(m, at, item);
    add_views(m, at, comparisons, document);
    add_passes(m, at, fr_path_object(document, "cost_model"));
    add_views(m, at, predictions, document);
    add_prompts(m, at, fr_path_array(document, "results"));
}

fr_status fr_study_csv(const char *json, char **csv, fr_error *error) {
    cJSON *document;
    fr_markup m = {NULL, 0, 0, false};
    *csv = NULL;
    FR_TRY(fr_report_parse(json, &document, error));
    add_document(&m, document);
    cJSON_Delete(document);
    if (m.failed) {
        fr_markup_release(&m);
        return fr_fail(error, FR_ERROR_MEMORY, "report: not enough for the CSV");
    }
    *csv = m.bytes;
    return FR_OK;
}
