#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "forerun_study.h"
#include "study/report/report.h"

enum {
    MOST_ROWS = 40,   /* of a plot; tables have all */
    MOST_BINS = 256,  /* of a histogram */
    MOST_CURVE = 512, /* points of a curve */
    POSITIONS = 16,
};

static const char *text_of(const cJSON *object, const char *key, const char *otherwise) {
    const char *text = fr_json_find_string(object, key);
    return text ? text : otherwise;
}

/* The speedup of a comparison. */
static void speedup_of(const cJSON *comparison, double *median, double *low, double *high) {
    const cJSON *speedup = fr_json_find_object(comparison, "speedup");
    if (!speedup) speedup = fr_json_find_object(comparison, "ratio");
    *median = fr_json_find_number(speedup, "median");
    fr_json_find_interval(speedup, "ci95", low, high);
}

/* "on over off". */
static void comparison_name(const cJSON *comparison, char *name, size_t size) {
    snprintf(name, size, "%.60s over %.60s", text_of(comparison, "b", "?"), text_of(comparison, "a", "?"));
}

static const cJSON *arm_named(const fr_report *r, const char *name) {
    const cJSON *arm;
    cJSON_ArrayForEach(arm, fr_json_find_array(r->document, "arms")) {
        if (name && strcmp(text_of(arm, "name", ""), name) == 0) return arm;
    }
    return NULL;
}

static double rate_of_arm(const fr_report *r, const char *name) {
    return fr_json_find_number(fr_json_find_object(arm_named(r, name), "decode_tokens_per_s"), "median");
}

/* ---- Headline --------------------------------------------------------------------------------------------------- */

/* A tile for each comparison, at most four: a page with more has them in its plot. */
/* Appends to a text of `size` bytes, as much as fits: a document may hold any number. */
static void add_to(char *text, size_t size, const char *format, ...) FR_PRINTF(3, 4);
static void add_to(char *text, size_t size, const char *format, ...) {
    size_t used = strlen(text);
    va_list values;
    va_start(values, format);
    vsnprintf(text + used, size - used, format, values);
    va_end(values);
}

static void add_headline(fr_report *r) {
    const cJSON *comparisons = fr_json_find_array(r->document, "comparisons"), *item;
    const cJSON *identical = cJSON_IsObject(r->document) ? fr_json_find(r->document, "identical_outputs") : NULL;
    const cJSON *noise = fr_json_find_object(r->document, "noise");
    const char *verdict = fr_json_find_string(noise, "verdict"), *says = fr_json_find_string(noise, "says");
    int shown = 0;
    if (comparisons) {
        fr_markup_raw(&r->body, "<div class=\"tiles\">\n");
        cJSON_ArrayForEach(item, comparisons) {
            double median, low, high, pairs = fr_json_find_number(item, "pairs");
            double a = rate_of_arm(r, fr_json_find_string(item, "a")), b = rate_of_arm(r, fr_json_find_string(item, "b"));
            double slower = fr_json_find_number(fr_json_find_object(item, "slower_prompts"), "share");
            char name[160], note[256] = "", text[32];
            if (shown++ == 4) break;
            comparison_name(item, name, sizeof name);
            speedup_of(item, &median, &low, &high);
            add_to(note, sizeof note, "decoding");
            if (isfinite(a) && isfinite(b)) add_to(note, sizeof note, ", %.*f to %.*f tokens/s", a < 100, a, b < 100, b);
            if (isfinite(pairs)) add_to(note, sizeof note, "; %.0f pairs", pairs);
            if (isfinite(slower))
                add_to(note, sizeof note, "; %s of prompts slower", fr_unit_text(slower, FR_UNIT_PERCENT, text));
            const char *told = fr_json_find_string(item, "verdict");
            if (told) add_to(note, sizeof note, "; %.30s", told);
            fr_tile(r, name, median, low, high, FR_UNIT_TIMES, note);
        }
        fr_markup_raw(&r->body, "</div>\n");
    }
    if (cJSON_IsBool(identical)) {
        bool same = cJSON_IsTrue(identical);
        fr_notice(r, same, same ? "Outputs are identical." : "Outputs differ.",
                  text_of(fr_json_find_object(r->document, "outputs"), "says",
                          same ? "Every arm gave the same tokens for every prompt."
                               : "Arms gave different tokens for some prompt: their times are not of the same work."));
    }
    if (verdict) {
        bool quiet = strcmp(verdict, "quiet") == 0;
        fr_notice(r, quiet, quiet ? "The machine was quiet." : "The machine was too noisy.",
                  says    ? says
                  : quiet ? "An arm compared with itself shows no difference."
                          : "An arm compared with itself shows a difference as large as those that are reported.");
    }
}

/* ---- Comparisons ------------------------------------------------------------------------------------------------ */

static void add_comparison_table(fr_report *r, const cJSON *comparisons) {
    static const fr_heading headings[] = {
        {"comparison", false}, {"speedup, median", true}, {"95 %", true},         {"mean", true},
        {"pairs", true},       {"prompts slower", true},  {"share slower", true}, {"slower beyond noise", true},
        {"verdict", false}};
    const cJSON *item;
    fr_table_begin(r, "Speedup of decoding, tokens a second over tokens a second, paired by prompt", headings,
                   sizeof headings / sizeof *headings, false);
    cJSON_ArrayForEach(item, comparisons) {
        const cJSON *slower = fr_json_find_object(item, "slower_prompts");
        char name[160];
        double median, low, high;
        comparison_name(item, name, sizeof name);
        speedup_of(item, &median, &low, &high);
        fr_table_row(r);
        fr_table_text(r, name);
        fr_table_number(r, median, FR_UNIT_TIMES);
        fr_table_interval(r, low, high, FR_UNIT_TIMES);
        fr_table_number(r, fr_json_find_number(fr_json_find_object(item, "speedup"), "mean"), FR_UNIT_TIMES);
        fr_table_number(r, fr_json_find_number(item, "pairs"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(slower, "count"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(slower, "share"), FR_UNIT_PERCENT);
        fr_table_number(r, fr_json_find_number(slower, "beyond_noise"), FR_UNIT_COUNT);
        fr_table_text(r, text_of(item, "verdict", low > 1 ? "faster" : high < 1 ? "slower" : "undecided"));
    }
    fr_table_end(r);
}

static int by_y(const void *a, const void *b) {
    double x = ((const fr_point *)a)->y, y = ((const fr_point *)b)->y;
    return (x > y) - (x < y);
}

/* Speedups of each prompt in ascending order, one series for each arm that is compared. */
static int sorted_speedups(const cJSON *results, fr_series *series, char (*names)[96], fr_point **memory) {
    const cJSON *row, *arm;
    int count = 0, rows = cJSON_GetArraySize(results);
    const cJSON *first = fr_json_find_object(results ? results->child : NULL, "speedup");
    *memory = first ? fr_alloc((size_t)rows * FR_PLOT_SERIES * sizeof **memory) : NULL;
    if (!*memory) return 0;
    cJSON_ArrayForEach(arm, first) {
        fr_point *points = *memory + (size_t)count * (size_t)rows;
        int n = 0;
        if (count == FR_PLOT_SERIES) break;
        cJSON_ArrayForEach(row, results) {
            double speedup = fr_json_find_number(fr_json_find_object(row, "speedup"), arm->string);
            if (isfinite(speedup)) points[n++] = (fr_point){0, speedup, NAN, NAN};
        }
        qsort(points, (size_t)n, sizeof *points, by_y);
        for (int i = 0; i < n; i++) points[i].x = n > 1 ? (double)i / (n - 1) : 0.5;
        if (n == 0) continue;
        snprintf(names[count], sizeof names[count], "%.80s", arm->string);
        series[count] = (fr_series){names[count], FR_MARK_DOTS, points, n};
        count++;
    }
    return count;
}

static void add_comparisons(fr_report *r) {
    const cJSON *comparisons = fr_json_find_array(r->document, "comparisons"), *item;
    const cJSON *noise = fr_json_find_object(r->document, "noise");
    fr_row rows[MOST_ROWS];
    char names[MOST_ROWS][160];
    fr_reference equal = {1, true, "equal"}, level = {1, false, "equal"};
    int count = 0;
    if (!comparisons) return;
    cJSON_ArrayForEach(item, comparisons) {
        if (count == MOST_ROWS - 1) break;
        comparison_name(item, names[count], sizeof names[count]);
        speedup_of(item, &rows[count].value, &rows[count].low, &rows[count].high);
        rows[count].name = names[count];
        if (isfinite(rows[count].value)) count++;
    }
    if (noise) {
        snprintf(names[count], sizeof names[count], "%.60s again (noise)", text_of(noise, "a", "the same arm"));
        speedup_of(noise, &rows[count].value, &rows[count].low, &rows[count].high);
        rows[count].name = names[count];
        if (isfinite(rows[count].value)) count++;
    }
    fr_section_begin(r, "speedup", "Speedup");
    fr_figures_begin(r);
    fr_row_plot plot = {.title = "Speedup of decoding",
                        .note =
                            "Medians over prompts with 95 % bootstrap intervals, paired by prompt. An arm against itself shows "
                            "what is noise.",
                        .x = {.label = "speedup", .unit = FR_UNIT_TIMES},
                        .rows = rows,
                        .num_rows = count,
                        .references = &equal,
                        .num_references = 1};
    if (count) fr_report_row_plot(r, &plot);
    fr_series series[FR_PLOT_SERIES];
    char arms[FR_PLOT_SERIES][96];
    fr_point *memory;
    int num_series = sorted_speedups(fr_json_find_array(r->document, "results"), series, arms, &memory);
    if (num_series) {
        fr_plot spread = {.title = "Speedup of each prompt",
                          .note = "Each dot is a prompt; those below the line were slower with drafting.",
                          .x = {.label = "prompts, slowest first", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                          .y = {.label = "speedup", .unit = FR_UNIT_TIMES},
                          .series = series,
                          .num_series = num_series,
                          .references = &level,
                          .num_references = 1};
        fr_report_plot(r, &spread);
    }
    fr_free(memory);
    fr_figures_end(r);
    add_comparison_table(r, comparisons);
    fr_section_end(r);
}

/* ---- Latency ---------------------------------------------------------------------------------------------------- */

static void add_arm_table(fr_report *r, const cJSON *arms) {
    static const fr_heading headings[] = {{"arm", false},
                                          {"decode, tokens/s", true},
                                          {"p05 to p95", true},
                                          {"TPOT p50", true},
                                          {"p90", true},
                                          {"p99", true},
                                          {"inter-token p50", true},
                                          {"p90", true},
                                          {"p99", true},
                                          {"TTFT p50", true},
                                          {"p90", true},
                                          {"p99", true},
                                          {"prefill, tokens/s", true},
                                          {"J/token", true},
                                          {"tokens", true}};
    static const char *const times[] = {"tpot_ms", "inter_token_ms", "ttft_ms"}, *const quantiles[] = {"p50", "p90", "p99"};
    const cJSON *arm;
    fr_table_begin(r, "Throughput and latency of each arm; times in milliseconds", headings, sizeof headings / sizeof *headings,
                   false);
    cJSON_ArrayForEach(arm, arms) {
        const cJSON *decode = fr_json_find_object(arm, "decode_tokens_per_s");
        fr_table_row(r);
        fr_table_text(r, text_of(arm, "name", "?"));
        fr_table_number(r, fr_json_find_number(decode, "median"), FR_UNIT_PLAIN);
        fr_table_interval(r, fr_json_find_number(decode, "p05"), fr_json_find_number(decode, "p95"), FR_UNIT_PLAIN);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                fr_table_number(r, fr_json_find_number(fr_json_find_object(arm, times[i]), quantiles[j]), FR_UNIT_PLAIN);
        fr_table_number(r, fr_json_find_number(fr_json_find_object(arm, "prefill_tokens_per_s"), "median"), FR_UNIT_PLAIN);
        fr_table_number(r, fr_json_find_number(arm, "energy_j_per_token"), FR_UNIT_PLAIN);
        fr_table_number(r, fr_json_find_number(arm, "tokens"), FR_UNIT_COUNT);
    }
    fr_table_end(r);
}

/* Shares of all tokens in each bin; returns how many points, the last one the end of the last bin. */
static int histogram_of(const cJSON *arm, fr_point *points) {
    const cJSON *histogram = fr_json_find_object(arm, "itl_histogram");
    const cJSON *edges = fr_json_find_array(histogram, "edges_ms"), *counts = fr_json_find_array(histogram, "counts");
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
static void used_range(const fr_series *series, int count, double *low, double *high) {
    *low = INFINITY;
    *high = -INFINITY;
    for (int i = 0; i < count; i++)
        for (int j = 0; j + 1 < series[i].count; j++) {
            const fr_point *p = series[i].points + j;
            if (p->y <= 0) continue;
            if (p[0].x < *low) *low = p[0].x;
            if (p[1].x > *high) *high = p[1].x;
        }
}

static void add_histogram(fr_report *r, const cJSON *arms) {
    fr_point *memory = fr_alloc(FR_PLOT_SERIES * (MOST_BINS + 1) * sizeof *memory);
    fr_series series[FR_PLOT_SERIES];
    const cJSON *arm;
    int count = 0;
    double low, high;
    r->body.failed |= !memory;
    if (!memory) return;
    cJSON_ArrayForEach(arm, arms) {
        fr_point *points = memory + (size_t)count * (MOST_BINS + 1);
        if (count == FR_PLOT_SERIES) break;
        int n = histogram_of(arm, points);
        if (n > 1) series[count++] = (fr_series){text_of(arm, "name", "?"), FR_MARK_STEPS, points, n};
    }
    used_range(series, count, &low, &high);
    if (count && low < high) {
        fr_plot plot = {.title = "Inter-token latency",
                        .note = "Share of tokens in each bin. A cycle's time is shared out evenly among the tokens that it gave.",
                        .x = {.label = low > 0 && high > 4 * low ? "milliseconds a token (logarithmic)" : "milliseconds a token",
                              .low = low,
                              .high = high,
                              .log = low > 0 && high > 4 * low},
                        .y = {.label = "share of tokens", .unit = FR_UNIT_PERCENT},
                        .series = series,
                        .num_series = count};
        fr_report_plot(r, &plot);
    }
    fr_free(memory);
}

/* Medians of a time by arm, with the range up to p99. */
static void add_quantiles(fr_report *r, const cJSON *arms, const char *key, const char *title, const char *label) {
    fr_row rows[MOST_ROWS];
    const cJSON *arm;
    int count = 0;
    cJSON_ArrayForEach(arm, arms) {
        const cJSON *times = fr_json_find_object(arm, key);
        fr_row row = {text_of(arm, "name", "?"), fr_json_find_number(times, "p50"), fr_json_find_number(times, "p50"),
                      fr_json_find_number(times, "p99")};
        if (count < MOST_ROWS && isfinite(row.value)) rows[count++] = row;
    }
    if (count == 0) return;
    fr_row_plot plot = {.title = title,
                        .note = "Median, and the range up to the 99th percentile.",
                        .interval = "median to p99",
                        .x = {.label = label, .unit = FR_UNIT_MS},
                        .rows = rows,
                        .num_rows = count};
    fr_report_row_plot(r, &plot);
}

static void add_latency(fr_report *r) {
    const cJSON *arms = fr_json_find_array(r->document, "arms");
    if (!arms) return;
    fr_section_begin(r, "latency", "Latency");
    fr_figures_begin(r);
    add_histogram(r, arms);
    fr_markup_raw(&r->body, "<div class=\"stack\">\n");
    add_quantiles(r, arms, "tpot_ms", "Time per output token (TPOT), by text", "milliseconds a token");
    add_quantiles(r, arms, "ttft_ms", "Time to first token (TTFT)", "milliseconds");
    fr_markup_raw(&r->body, "</div>\n");
    fr_figures_end(r);
    add_arm_table(r, arms);
    fr_section_end(r);
}

/* ---- Acceptance and what it brings ------------------------------------------------------------------------------ */

static void add_acceptance(fr_report *r) {
    const cJSON *arms = fr_json_find_array(r->document, "arms"), *arm;
    fr_point points[FR_PLOT_SERIES][POSITIONS];
    fr_series series[FR_PLOT_SERIES];
    int count = 0, last = 1;
    cJSON_ArrayForEach(arm, arms) {
        if (count == FR_PLOT_SERIES) break;
        int n = fr_report_positions(fr_json_find_object(arm, "speculative_decoding"), points[count], POSITIONS);
        if (n == 0) continue;
        if (points[count][n - 1].x > last) last = (int)points[count][n - 1].x;
        series[count] = (fr_series){text_of(arm, "name", "?"), FR_MARK_LINE, points[count], n};
        count++;
    }
    if (count == 0) return;
    fr_plot plot = {.title = "Acceptance by position",
                    .note = "Of cycles that drafted. Bars are 95 % intervals (Wilson).",
                    .x = {.label = "position in the draft", .unit = FR_UNIT_COUNT, .whole = true, .low = 0.5, .high = last + 0.5},
                    .y = {.label = "share accepted", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                    .series = series,
                    .num_series = count};
    fr_section_begin(r, "acceptance", "Acceptance");
    fr_figures_begin(r);
    fr_report_plot(r, &plot);
    fr_figures_end(r);
    fr_section_end(r);
}

static int curve_of(const cJSON *curve, const char *key, fr_point *points) {
    const cJSON *item;
    int count = 0;
    cJSON_ArrayForEach(item, curve) {
        fr_point p = {fr_json_find_number(item, "acceptance"), fr_json_find_number(item, key), NAN, NAN};
        if (count < MOST_CURVE && isfinite(p.x) && isfinite(p.y)) points[count++] = p;
    }
    return count;
}

static int synthetic_of(const cJSON *synthetic, fr_point *points) {
    const cJSON *item;
    int count = 0;
    cJSON_ArrayForEach(item, synthetic) {
        fr_point p = {.x = fr_json_find_number(item, "acceptance")};
        if (!isfinite(p.x)) p.x = fr_json_find_number(item, "target");
        speedup_of(item, &p.y, &p.low, &p.high);
        if (count < MOST_CURVE && isfinite(p.x) && isfinite(p.y)) points[count++] = p;
    }
    return count;
}

/* The chance of a draft given that those before it stood, over all positions: what the curve is drawn against. The
 * document has, of each position, what was accepted and that chance; their ratio is how often it was reached. */
static double chance_of(const cJSON *speculation) {
    const cJSON *accepted = fr_json_find_array(speculation, "accepted_per_position");
    const cJSON *conditional = fr_json_find_array(speculation, "conditional_acceptance_rate");
    double sum = 0, reached = 0, before = fr_json_find_number(speculation, "num_drafts");
    for (int j = 0; j < cJSON_GetArraySize(accepted) && before > 0; j++) {
        double here = fr_json_number_at(accepted, j), chance = fr_json_number_at(conditional, j);
        reached += chance > 0 ? here / chance : before;
        sum += here;
        before = here;
    }
    return sum / reached;
}

/* Of the speedup of an arm. */
static void measured_interval(const fr_report *r, const char *arm, double *low, double *high) {
    const cJSON *item;
    double median;
    cJSON_ArrayForEach(item, fr_json_find_array(r->document, "comparisons")) {
        if (arm && strcmp(text_of(item, "b", ""), arm) == 0) speedup_of(item, &median, low, high);
    }
}

static void add_curve(fr_report *r, const cJSON *model, fr_point *memory) {
    fr_point *predicted = memory, *synthetic = memory + MOST_CURVE, *bound = memory + 2 * MOST_CURVE, measured;
    const cJSON *curve = fr_json_find_array(model, "curve");
    double break_even = fr_json_find_number(model, "break_even_acceptance");
    fr_series series[4];
    char name[64], text[32];
    int count = 0, n = curve_of(curve, "speedup", predicted);
    if (n) series[count++] = (fr_series){"predicted from the costs", FR_MARK_CURVE, predicted, n};
    n = synthetic_of(fr_json_find_array(r->document, "synthetic"), synthetic);
    if (n) series[count++] = (fr_series){"measured, acceptance set", FR_MARK_DOTS, synthetic, n};
    const char *arm = fr_json_find_string(model, "arm");
    measured = (fr_point){.x = chance_of(fr_json_find_object(arm_named(r, arm), "speculative_decoding")),
                          .y = fr_json_find_number(model, "measured_speedup"),
                          .low = NAN,
                          .high = NAN};
    measured_interval(r, arm, &measured.low, &measured.high);
    if (isfinite(measured.x) && isfinite(measured.y))
        series[count++] = (fr_series){"measured on these texts", FR_MARK_DOTS, &measured, 1};
    n = curve_of(curve, "speedup_by_bytes", bound);
    if (n) series[count++] = (fr_series){"if time went by bytes read", FR_MARK_CURVE, bound, n};
    if (count == 0) return;
    snprintf(name, sizeof name, "break-even %s", fr_unit_text(break_even, FR_UNIT_PERCENT, text));
    fr_reference references[] = {{1, false, "as without drafts"}, {break_even, true, name}};
    fr_plot plot = {.title = "Speedup against acceptance",
                    .note = "Where the curve crosses 1 drafting begins to pay. Bars are 95 % intervals.",
                    .x = {.label = "acceptance: chance of a draft, given that those before it stood",
                          .unit = FR_UNIT_PERCENT,
                          .low = 0,
                          .high = 1},
                    .y = {.label = "speedup of decoding", .unit = FR_UNIT_TIMES},
                    .series = series,
                    .num_series = count,
                    .references = references,
                    .num_references = 2};
    fr_report_plot(r, &plot);
}

static void add_passes(fr_report *r, const cJSON *model, fr_point *points) {
    const cJSON *over_one = fr_json_find_array(model, "pass_over_one");
    int count = 0;
    for (int i = 0; i < cJSON_GetArraySize(over_one) && count < POSITIONS; i++) {
        double cost = fr_json_number_at(over_one, i);
        if (isfinite(cost)) points[count++] = (fr_point){i + 1, cost, NAN, NAN};
    }
    if (count < 2) return;
    fr_series series = {"pass", FR_MARK_BARS, points, count};
    fr_reference one = {1, false, NULL};
    fr_plot plot = {
        .title = "Cost of a pass by its rows",
        .note = "A pass of k + 1 rows verifies k drafts.",
        .x = {.label = "rows of the pass", .unit = FR_UNIT_COUNT, .whole = true, .low = 0.4, .high = points[count - 1].x + 0.6},
        .y = {.label = "time, over a pass of one row", .unit = FR_UNIT_TIMES},
        .series = &series,
        .num_series = 1,
        .references = &one,
        .num_references = 1};
    fr_report_plot(r, &plot);
}

static void add_model_table(fr_report *r, const cJSON *model) {
    static const struct {
        const char *key, *name;
        fr_unit unit;
    } lines[] = {{"acceptance_rate", "acceptance rate", FR_UNIT_PERCENT},
                 {"break_even_acceptance", "acceptance at which drafting begins to pay", FR_UNIT_PERCENT},
                 {"expert_overlap", "experts that a token shares with the one before", FR_UNIT_PERCENT},
                 {"draft_ms", "one draft", FR_UNIT_MS},
                 {"predicted_speedup", "predicted speedup", FR_UNIT_TIMES},
                 {"measured_speedup", "measured speedup", FR_UNIT_TIMES},
                 {"of_prediction", "measured over predicted", FR_UNIT_PERCENT}};
    static const fr_heading headings[] = {{"of the cost model", false}, {"value", true}};
    double one_row = fr_json_number_at(fr_json_find_array(model, "pass_ms"), 0);
    fr_table_begin(r, "What drafting should bring, and brought", headings, 2, false);
    if (isfinite(one_row)) {
        fr_table_row(r);
        fr_table_text(r, "a pass of one row");
        fr_table_number(r, one_row, FR_UNIT_MS);
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        double value = fr_json_find_number(model, lines[i].key);
        if (!isfinite(value)) continue;
        fr_table_row(r);
        fr_table_text(r, lines[i].name);
        fr_table_number(r, value, lines[i].unit);
    }
    fr_table_end(r);
}

static void add_cost_model(fr_report *r) {
    const cJSON *model = fr_json_find_object(r->document, "cost_model");
    if (!model || !model->child) return;
    fr_point *memory = fr_alloc(3 * MOST_CURVE * sizeof *memory);
    r->body.failed |= !memory;
    if (!memory) return;
    fr_section_begin(r, "cost", "Speedup against acceptance");
    fr_figures_begin(r);
    add_curve(r, model, memory);
    add_passes(r, model, memory);
    add_model_table(r, model);
    fr_figures_end(r);
    fr_section_end(r);
    fr_free(memory);
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
