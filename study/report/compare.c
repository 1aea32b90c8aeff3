/* What an A/B study's document says of a run before it (its part "compare"). */
#include <math.h>
#include <stdio.h>

#include "core/json.h"
#include "forerun_study.h"
#include "study/report/report.h"

enum { MOST_ROWS = 40 }; /* of a plot; tables have all */

static const char *const lists[] = {"arms", "comparisons"}; /* speeds, speedups */

/* "auto, tokens/s", "auto over off". */
static void name_of(const cJSON *item, char *name, size_t size) {
    const char *arm = fr_json_find_string(item, "name"), *a = fr_json_find_string(item, "a"), *b = fr_json_find_string(item, "b");
    if (arm)
        snprintf(name, size, "%.60s, tokens/s", arm);
    else
        snprintf(name, size, "%.60s over %.60s", b ? b : "?", a ? a : "?");
}

static void plot_ratios(fr_report *r, const cJSON *compared) {
    fr_row rows[MOST_ROWS];
    char names[MOST_ROWS][160];
    fr_reference equal = {1, true, "as before"};
    int count = 0;
    for (int i = 0; i < 2; i++) {
        const cJSON *item;
        cJSON_ArrayForEach(item, fr_json_find_array(compared, lists[i])) {
            if (count == MOST_ROWS) break;
            name_of(item, names[count], sizeof names[count]);
            rows[count].name = names[count];
            rows[count].value = fr_json_find_number(item, "ratio");
            fr_json_find_interval(item, "ci95", &rows[count].low, &rows[count].high);
            if (isfinite(rows[count].value)) count++;
        }
    }
    if (count == 0) return;
    fr_row_plot plot = {.title = "After over before",
                        .note = "Medians over the prompts of both runs, with 95 % bootstrap intervals.",
                        .x = {.label = "after over before", .unit = FR_UNIT_TIMES},
                        .rows = rows,
                        .num_rows = count,
                        .references = &equal,
                        .num_references = 1};
    fr_figures_begin(r);
    fr_report_row_plot(r, &plot);
    fr_figures_end(r);
}

static void add_table(fr_report *r, const cJSON *compared) {
    static const fr_heading headings[] = {{"figure", false}, {"before", true},  {"after", true},   {"ratio", true},
                                          {"95 %", true},    {"prompts", true}, {"verdict", false}};
    if (!fr_json_find_array(compared, lists[0]) && !fr_json_find_array(compared, lists[1])) return;
    fr_table_begin(r, "This run against the one before", headings, sizeof headings / sizeof *headings, false);
    for (int i = 0; i < 2; i++) {
        fr_unit unit = i == 0 ? FR_UNIT_PLAIN : FR_UNIT_TIMES;
        const cJSON *item;
        cJSON_ArrayForEach(item, fr_json_find_array(compared, lists[i])) {
            char name[160];
            double low, high;
            name_of(item, name, sizeof name);
            fr_json_find_interval(item, "ci95", &low, &high);
            fr_table_row(r);
            fr_table_text(r, name);
            fr_table_number(r, fr_json_find_number(item, "before"), unit);
            fr_table_number(r, fr_json_find_number(item, "after"), unit);
            fr_table_number(r, fr_json_find_number(item, "ratio"), FR_UNIT_TIMES);
            fr_table_interval(r, low, high, FR_UNIT_TIMES);
            fr_table_number(r, fr_json_find_number(item, "prompts"), FR_UNIT_COUNT);
            fr_table_text(r, fr_json_find_string(item, "verdict"));
        }
    }
    fr_table_end(r);
}

void fr_report_compare(fr_report *r) {
    const cJSON *compared = fr_json_find_object(r->document, "compare"), *item;
    const char *before = fr_json_find_string(compared, "before"), *says = fr_json_find_string(compared, "says");
    char title[120];
    if (!compared || !compared->child) return;
    snprintf(title, sizeof title, "Against the run before%s%.40s", before ? ", of " : "", before ? before : "");
    fr_section_begin(r, "compare", title);
    cJSON_ArrayForEach(item, fr_json_find_array(compared, "warnings")) {
        if (cJSON_IsString(item)) fr_notice(r, false, "Before comparing:", item->valuestring);
    }
    plot_ratios(r, compared);
    add_table(r, compared);
    if (says) fr_section_note(r, says);
    fr_section_end(r);
}
