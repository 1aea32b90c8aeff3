/* What an A/B study's document says of a run before it (its part "compare"). */
#include <stdio.h>

#include "study/report/report.h"

static void plot_ratios(fr_report *r, const cJSON *speeds, const cJSON *speedups) {
    static const fr_reference equal = {1, true, "as before"};
    fr_rows rows = {.count = 0};
    fr_rows_add(&rows, &fr_view_compared_arms, speeds, FR_MOST_ROWS);
    fr_rows_add(&rows, &fr_view_compared_speedups, speedups, FR_MOST_ROWS);
    if (rows.count == 0) return;
    fr_figures_begin(r);
    fr_report_rows(r, &rows,
                   (fr_row_plot){.title = "After over before",
                                 .note = "Medians over the prompts of both runs, with 95 % intervals.",
                                 .x = {.label = "after over before", .unit = FR_UNIT_TIMES},
                                 .references = &equal,
                                 .num_references = 1});
    fr_figures_end(r);
}

static void add_table(fr_report *r, const cJSON *speeds, const cJSON *speedups) {
    const cJSON *item;
    if (!speeds && !speedups) return;
    fr_table_begin(r, &fr_view_compared_arms);
    cJSON_ArrayForEach(item, speeds) fr_table_row(r, &fr_view_compared_arms, item);
    cJSON_ArrayForEach(item, speedups) fr_table_row(r, &fr_view_compared_speedups, item);
    fr_table_end(r);
}

void fr_report_compare(fr_report *r) {
    const cJSON *compared = fr_path_object(r->document, "compare"), *item;
    const cJSON *speeds = fr_path_array(r->document, fr_view_compared_arms.array);
    const cJSON *speedups = fr_path_array(r->document, fr_view_compared_speedups.array);
    const char *before = fr_path_text(compared, "before"), *says = fr_path_text(compared, "says");
    char title[120];
    if (!compared) return;
    snprintf(title, sizeof title, "Against the run before%s%.40s", before ? ", of " : "", before ? before : "");
    fr_section_begin(r, "compare", title);
    cJSON_ArrayForEach(item, fr_path_array(compared, "warnings")) {
        if (cJSON_IsString(item)) fr_report_notice(r, false, "Before comparing:", item->valuestring);
    }
    plot_ratios(r, speeds, speedups);
    add_table(r, speeds, speedups);
    if (says) fr_section_note(r, says);
}
