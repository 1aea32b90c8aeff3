/* The page of an A/B study, but for its comparison with a run before (study/report/compare.c). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "study/report/report.h"

enum {
    MOST_BINS = 256, /* of a histogram */
    POSITIONS = 16,
};

static const cJSON *arm_named(const fr_report *r, const char *name) {
    const cJSON *arm;
    cJSON_ArrayForEach(arm, fr_path_array(r->document, "arms")) {
        const char *its_name = fr_path_text(arm, "name");
        if (name && strcmp(its_name ? its_name : "", name) == 0) return arm;
    }
    return NULL;
}

static const char *name_of(const cJSON *arm) {
    return fr_column_text(fr_view_arms.columns, arm, NULL);
}

/* ---- Headline --------------------------------------------------------------------------------------------------- */

/* Appends to a text of `size` bytes as much as fits: a document may hold any number. */
static void add_to(char *text, size_t size, const char *format, ...) FR_PRINTF(3, 4);
static void add_to(char *text, size_t size, const char *format, ...) {
    size_t used = strlen(text);
    va_list values;
    va_start(values, format);
    vsnprintf(text + used, size - used, format, values);
    va_end(values);
}

static void add_tile(fr_report *r, const cJSON *comparison) {
    double median, low, high, pairs = fr_path_number(comparison, "pairs");
    double a = fr_path_number(arm_named(r, fr_path_text(comparison, "a")), "decode_tokens_per_s.median");
    double b = fr_path_number(arm_named(r, fr_path_text(comparison, "b")), "decode_tokens_per_s.median");
    double slower = fr_path_number(comparison, "slower_prompts.share");
    const char *verdict = fr_path_text(comparison, "verdict");
    char name[FR_NAME_BYTES], note[256] = "decoding", text[32];
    if (isfinite(a) && isfinite(b)) add_to(note, sizeof note, ", %.*f to %.*f tokens/s", a < 100, a, b < 100, b);
    if (isfinite(pairs)) add_to(note, sizeof note, "; %.0f pairs", pairs);
    if (isfinite(slower)) add_to(note, sizeof note, "; %s of prompts slower", fr_unit_text(slower, FR_UNIT_PERCENT, text));
    if (verdict) add_to(note, sizeof note, "; %.30s", verdict);
    fr_path_interval(comparison, "speedup.ci95", &low, &high);
    median = fr_path_number(comparison, "speedup.median");
    fr_tile(r, fr_column_text(fr_view_comparisons.columns, comparison, name), median, low, high, FR_UNIT_TIMES, note);
}

/* Whether the arms' times are of the same work, and whether the machine was quiet. */
static void add_notices(fr_report *r) {
    const cJSON *identical = fr_path_value(r->document, "identical_outputs");
    const char *outputs = fr_path_text(r->document, "outputs.says"), *noise = fr_path_text(r->document, "noise.says");
    const char *verdict = fr_path_text(r->document, "noise.verdict");
    if (cJSON_IsTrue(identical))
        fr_report_notice(r, true, "Outputs are identical.",
                         outputs ? outputs : "Every arm gave the same tokens for every prompt.");
    if (cJSON_IsFalse(identical))
        fr_report_notice(r, false, "Outputs differ.",
                         outputs ? outputs : "Arms gave different tokens for some prompt: their times are not of the same work.");
    if (verdict && strcmp(verdict, "quiet") == 0)
        fr_report_notice(r, true, "The machine was quiet.", noise ? noise : "An arm compared with itself shows no difference.");
    else if (verdict)
        fr_report_notice(r, false, "The machine was too noisy.",
                         noise ? noise : "An arm compared with itself shows a difference as large as those that are reported.");
}

/* A tile for each comparison, at most four: a page with more has them in its plot. */
static void add_headline(fr_report *r) {
    const cJSON *comparisons = fr_path_array(r->document, "comparisons"), *item;
    int shown = 0;
    if (comparisons) fr_markup_raw(&r->body, "<div class=\"tiles\">\n");
    cJSON_ArrayForEach(item, comparisons) if (shown++ < 4) add_tile(r, item);
    if (comparisons) fr_markup_raw(&r->body, "</div>\n");
    add_notices(r);
}

/* ---- Comparisons ------------------------------------------------------------------------------------------------ */

static int by_y(const void *a, const void *b) {
    double x = ((const fr_point *)a)->y, y = ((const fr_point *)b)->y;
    return (x > y) - (x < y);
}

static void plot_speedups(fr_report *r, const cJSON *comparisons) {
    static const fr_reference equal = {1, true, "equal"};
    const cJSON *noise = fr_path_object(r->document, "noise");
    fr_rows rows = {.count = 0};
    fr_row again = {.value = fr_path_number(noise, "ratio.median")};
    fr_rows_add(&rows, &fr_view_comparisons, comparisons, FR_MOST_ROWS - 1);
    if (isfinite(again.value)) {
        const char *a = fr_path_text(noise, "a");
        again.name = rows.names[rows.count];
        snprintf(rows.names[rows.count], FR_NAME_BYTES, "%.60s again (noise)", a ? a : "the same arm");
        fr_path_interval(noise, "ratio.ci95", &again.low, &again.high);
        rows.rows[rows.count++] = again;
    }
    fr_report_rows(r, &rows,
                   (fr_row_plot){.title = "Speedup of decoding",
                                 .note = "Medians over prompts with 95 % intervals, paired by prompt. An arm against "
                                         "itself shows what is noise.",
                                 .x = {.label = "speedup", .unit = FR_UNIT_TIMES},
                                 .references = &equal,
                                 .num_references = 1});
}

/* Speedups of each prompt in ascending order, one series for each arm that is compared. */
static void plot_prompts(fr_report *r) {
    static const fr_reference level = {1, false, "equal"};
    const cJSON *results = fr_path_array(r->document, "results"), *row, *arm;
    char names[FR_PLOT_SERIES][96];
    cJSON_ArrayForEach(arm, fr_path_object(results, "0.speedup")) {
        const fr_column speedup = {.in = "speedup", .of = arm->string};
        fr_point *points = fr_chart_room(r, cJSON_GetArraySize(results));
        int n = 0;
        if (!points) break;
        cJSON_ArrayForEach(row, results) {
            fr_point p = {0, fr_column_number(&speedup, row), NAN, NAN};
            if (isfinite(p.y)) points[n++] = p;
        }
        qsort(points, (size_t)n, sizeof *points, by_y);
        for (int i = 0; i < n; i++) points[i].x = n > 1 ? (double)i / (n - 1) : 0.5;
        snprintf(names[r->chart.count], sizeof names[0], "%.80s", arm->string);
        fr_chart_add(r, names[r->chart.count], FR_MARK_DOTS, n);
    }
    fr_chart_draw(r, (fr_plot){.title = "Speedup of each prompt",
                               .note = "Each dot is a prompt; those below the line were slower with drafting.",
                               .x = {.label = "prompts, slowest first", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                               .y = {.label = "speedup", .unit = FR_UNIT_TIMES},
                               .references = &level,
                               .num_references = 1});
}

static void add_comparisons(fr_report *r) {
    const cJSON *comparisons = fr_path_array(r->document, "comparisons");
    if (!comparisons) return;
    fr_section_begin(r, "speedup", "Speedup");
    fr_figures_begin(r);
    plot_speedups(r, comparisons);
    plot_prompts(r);
    fr_figures_end(r);
    fr_report_table(r, &fr_view_comparisons, comparisons);
}

/* ---- Latency ---------------------------------------------------------------------------------------------------- */

/* Shares of all tokens in each bin; returns how many points, the last one the end of the last bin. */
static int histogram_of(const cJSON *arm, fr_point *points) {
    const cJSON *edges = fr_path_array(arm, "itl_histogram.edges_ms"), *counts = fr_path_array(arm, "itl_histogram.counts");
    int bins = cJSON_GetArraySize(counts);
    double total = 0;
    if (bins > MOST_BINS || cJSON_GetArraySize(edges) != bins + 1) return 0;
    for (int i = 0; i < bins; i++) total += fr_json_number_at(counts, i);
    if (!(total > 0)) return 0;
    for (int i = 0; i <= bins; i++) {
        points[i] = (fr_point){fr_json_number_at(edges, i), i < bins ? fr_json_number_at(counts, i) / total : 0, NAN, NAN};
        if (!isfinite(points[i].x) || !isfinite(points[i].y)) return 0;
    }
    return bins + 1;
}

/* Bins at the ends that no arm has tokens in only take room. */
static void widen_to_used(const fr_point *points, int count, double *low, double *high) {
    for (const fr_point *p = points; p + 1 < points + count; p++) {
        if (p->y <= 0) continue;
        *low = fmin(*low, p[0].x);
        *high = fmax(*high, p[1].x);
    }
}

static void plot_histogram(fr_report *r, const cJSON *arms) {
    const cJSON *arm;
    double low = INFINITY, high = -INFINITY;
    cJSON_ArrayForEach(arm, arms) {
        fr_point *points = fr_chart_room(r, MOST_BINS + 1);
        int count = points ? histogram_of(arm, points) : 0;
        if (!points) break;
        widen_to_used(points, count, &low, &high);
        fr_chart_add(r, name_of(arm), FR_MARK_STEPS, count);
    }
    bool log = low > 0 && high > 4 * low;
    fr_chart_draw(
        r, (fr_plot){.title = "Inter-token latency",
                     .note = "Share of tokens in each bin. A cycle's time is shared out evenly among the tokens that it gave.",
                     .x = {.label = log ? "milliseconds a token (logarithmic)" : "milliseconds a token",
                           .low = low,
                           .high = high,
                           .log = log},
                     .y = {.label = "share of tokens", .unit = FR_UNIT_PERCENT}});
}

/* Medians of a time by arm, with the range up to p99. */
static void plot_quantiles(fr_report *r, const cJSON *arms, const char *key, const char *title, const char *label) {
    fr_rows rows = {.count = 0};
    const cJSON *arm;
    cJSON_ArrayForEach(arm, arms) {
        const cJSON *times = fr_path_object(arm, key);
        double median = fr_path_number(times, "p50");
        fr_row row = {name_of(arm), median, median, fr_path_number(times, "p99")};
        if (rows.count < FR_MOST_ROWS && isfinite(median)) rows.rows[rows.count++] = row;
    }
    fr_report_rows(r, &rows,
                   (fr_row_plot){.title = title,
                                 .note = "Median, and the range up to the 99th percentile.",
                                 .interval = "median to p99",
                                 .x = {.label = label, .unit = FR_UNIT_MS}});
}

static void add_latency(fr_report *r) {
    const cJSON *arms = fr_path_array(r->document, "arms");
    if (!arms) return;
    fr_section_begin(r, "latency", "Latency");
    fr_figures_begin(r);
    plot_histogram(r, arms);
    fr_markup_raw(&r->body, "<div class=\"stack\">\n");
    plot_quantiles(r, arms, "tpot_ms", "Time per output token (TPOT), by text", "milliseconds a token");
    plot_quantiles(r, arms, "ttft_ms", "Time to first token (TTFT)", "milliseconds");
    fr_markup_raw(&r->body, "</div>\n");
    fr_figures_end(r);
    fr_report_table(r, &fr_view_arms, arms);
}

/* ---- Acceptance and what it brings ------------------------------------------------------------------------------ */

/* Acceptance of an arm by position; returns how many points (at most POSITIONS). */
static int positions_of(const cJSON *arm, fr_point *points) {
    const cJSON *rates = fr_path_array(arm, "speculative_decoding.per_position_acceptance_rate");
    const cJSON *intervals = fr_path_array(arm, "per_position_ci95");
    int count = 0;
    for (int j = 0; j < cJSON_GetArraySize(rates) && count < POSITIONS; j++) {
        double rate = fr_json_number_at(rates, j);
        if (!isfinite(rate)) continue;
        points[count] = (fr_point){.x = j + 1, .y = rate};
        fr_path_interval(cJSON_GetArrayItem(intervals, j), "", &points[count].low, &points[count].high);
        count++;
    }
    return count;
}

static void add_acceptance(fr_report *r) {
    const cJSON *arm;
    cJSON_ArrayForEach(arm, fr_path_array(r->document, "arms")) {
        fr_point *points = fr_chart_room(r, POSITIONS);
        if (points) fr_chart_add(r, name_of(arm), FR_MARK_LINE, positions_of(arm, points));
    }
    if (r->chart.count == 0) return;
    fr_section_begin(r, "acceptance", "Acceptance");
    fr_figures_begin(r);
    fr_chart_draw(r, (fr_plot){.title = "Acceptance by position",
                               .note = "Of cycles that drafted. Bars are 95 % intervals over prompts.",
                               .x = fr_position_axis(fr_chart_end(r, FR_PLOT_SERIES)),
                               .y = {.label = "share accepted", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1}});
    fr_figures_end(r);
}

/* The chance that a draft is accepted given that those before it were, over all positions: what the curve is drawn against. The
 * document has, of each position, what was accepted and that chance; their ratio is how often it was reached. */
static double chance_of(const cJSON *arm) {
    const cJSON *accepted = fr_path_array(arm, "speculative_decoding.accepted_per_position");
    const cJSON *conditional = fr_path_array(arm, "speculative_decoding.conditional_acceptance_rate");
    double sum = 0, reached = 0, before = fr_path_number(arm, "speculative_decoding.num_drafts");
    for (int j = 0; j < cJSON_GetArraySize(accepted) && before > 0; j++) {
        double here = fr_json_number_at(accepted, j), chance = fr_json_number_at(conditional, j);
        reached += chance > 0 ? here / chance : before;
        sum += here;
        before = here;
    }
    return sum / reached;
}

/* Adds what was measured of the arm that the model is about, with the interval of its speedup. */
static void add_measured(fr_report *r, const cJSON *model) {
    const char *arm = fr_path_text(model, "arm");
    fr_point p = {chance_of(arm_named(r, arm)), fr_path_number(model, "measured_speedup"), NAN, NAN};
    fr_point *room = isfinite(p.x) && isfinite(p.y) ? fr_chart_room(r, 1) : NULL;
    if (!room) return;
    fr_path_interval(model, "measured_speedup_ci95", &p.low, &p.high);
    *room = p;
    fr_chart_add(r, "measured on these texts", FR_MARK_DOTS, 1);
}

static void plot_curve(fr_report *r, const cJSON *model) {
    const cJSON *curve = fr_path_array(model, "curve"), *synthetic = fr_path_array(r->document, "synthetic");
    double break_even = fr_path_number(model, "break_even_acceptance");
    char name[64], text[32];
    snprintf(name, sizeof name, "break-even %s", fr_unit_text(break_even, FR_UNIT_PERCENT, text));
    fr_reference references[] = {{1, false, "as without drafts"}, {break_even, true, name}};
    fr_chart_add_array(r, "predicted from the costs", FR_MARK_CURVE, curve, "acceptance", "speedup", NULL);
    fr_chart_add_array(r, "measured, acceptance set", FR_MARK_DOTS, synthetic, "acceptance|target",
                       "speedup.total|speedup.median", "speedup.total_ci95|speedup.ci95");
    add_measured(r, model);
    fr_chart_add_array(r, "if time went by bytes read", FR_MARK_CURVE, curve, "acceptance", "speedup_by_bytes", NULL);
    fr_chart_draw(
        r, (fr_plot){.title = "Speedup against acceptance",
                     .note = "Ratios of total times. Where the curve crosses 1 drafting begins to pay. Bars are 95 % intervals.",
                     .x = {.label = "acceptance: chance of a draft, given that those before it stood",
                           .unit = FR_UNIT_PERCENT,
                           .low = 0,
                           .high = 1},
                     .y = {.label = "speedup of decoding", .unit = FR_UNIT_TIMES},
                     .references = references,
                     .num_references = 2});
}

static void plot_passes(fr_report *r, const cJSON *model) {
    static const fr_reference one = {1, false, NULL};
    fr_point *points = fr_chart_room(r, POSITIONS);
    const cJSON *cost;
    int count = 0, rows = 0;
    if (!points) return;
    cJSON_ArrayForEach(cost, fr_path_array(model, "pass_over_one")) {
        rows++;
        if (cJSON_IsNumber(cost) && count < POSITIONS) points[count++] = (fr_point){rows, cost->valuedouble, NAN, NAN};
    }
    fr_chart_add(r, "pass", FR_MARK_BARS, count < 2 ? 0 : count);
    double end = fr_chart_end(r, 1);
    fr_chart_draw(
        r, (fr_plot){.title = "Cost of a pass by its rows",
                     .note = "A pass of k + 1 rows verifies k drafts.",
                     .x = {.label = "rows of the pass", .unit = FR_UNIT_COUNT, .whole = true, .low = 0.4, .high = end + 0.6},
                     .y = {.label = "time, over a pass of one row", .unit = FR_UNIT_TIMES},
                     .references = &one,
                     .num_references = 1});
}

static void add_cost_model(fr_report *r) {
    const cJSON *model = fr_path_object(r->document, "cost_model");
    if (!model) return;
    fr_section_begin(r, "cost", "Speedup against acceptance");
    fr_figures_begin(r);
    plot_curve(r, model);
    plot_passes(r, model);
    fr_report_list(r, &fr_view_cost, "of the cost model", model);
    fr_figures_end(r);
}

void fr_report_ab(fr_report *r) {
    add_headline(r);
    add_comparisons(r);
    fr_report_compare(r);
    add_latency(r);
    add_acceptance(r);
    add_cost_model(r);
    fr_report_prompts(r);
}
