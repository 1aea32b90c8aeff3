#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "forerun_study.h"
#include "study/report/report.h"

enum {
    MOST_POINTS = 512, /* of a series: layers, bins */
    MOST_ROWS = 40,    /* of a plot; tables have all */
    POSITIONS = 16,
};

static const cJSON *first_configuration(const fr_report *r) {
    const cJSON *configurations = fr_json_find_array(r->document, "configurations");
    return configurations ? configurations->child : NULL;
}

static const cJSON *part_object(const fr_report *r, const char *key) {
    const cJSON *part = fr_report_part(r->document, key);
    return cJSON_IsObject(part) ? part : NULL;
}

static const cJSON *part_array(const fr_report *r, const char *key) {
    const cJSON *part = fr_report_part(r->document, key);
    return cJSON_IsArray(part) && part->child ? part : NULL;
}

static const char *name_of(const cJSON *configuration) {
    const char *name = fr_json_find_string(configuration, "name");
    return name ? name : "configuration";
}

/* ---- Headline --------------------------------------------------------------------------------------------------- */

static void add_headline(fr_report *r) {
    const cJSON *speculation = part_object(r, "speculative_decoding"), *overlap = part_object(r, "expert_overlap");
    double rate, low, high, drafted = fr_json_find_number(speculation, "num_draft_tokens");
    double alone = fr_json_find_number(overlap, "if_independent_by_popularity");
    if (!isfinite(alone)) alone = fr_json_find_number(overlap, "if_independent");
    char note[200], text[32];
    fr_markup_raw(&r->body, "<div class=\"tiles\">\n");
    const cJSON *first = first_configuration(r);
    double length_low, length_high;
    fr_report_configuration(first, speculation, &rate, &low, &high);
    snprintf(note, sizeof note, "of %.0f drafts", drafted);
    fr_tile(r, "Acceptance rate", rate, low, high, FR_UNIT_PERCENT, isfinite(drafted) ? note : NULL);
    fr_json_find_interval(speculation, "mean_acceptance_length_ci95", &length_low, &length_high);
    if (!isfinite(length_low)) fr_json_find_interval(first, "mean_acceptance_length_ci95", &length_low, &length_high);
    fr_tile(r, "Mean acceptance length", fr_json_find_number(speculation, "mean_acceptance_length"), length_low, length_high,
            FR_UNIT_PLAIN, "tokens a cycle that drafted, the bonus token counted");
    fr_tile(r, "Calibration error", fr_json_find_number(part_object(r, "calibration"), "ece"), NAN, NAN, FR_UNIT_PERCENT,
            "expected, of the drafts' own confidence");
    snprintf(note, sizeof note, "of a token's experts; %s if tokens were independent",
             fr_unit_text(alone, FR_UNIT_PERCENT, text));
    fr_tile(r, "Expert overlap with the token before", fr_json_find_number(overlap, "mean"), NAN, NAN, FR_UNIT_PERCENT,
            isfinite(alone) ? note : NULL);
    fr_markup_raw(&r->body, "</div>\n");
    const cJSON *configurations = fr_json_find_array(r->document, "configurations");
    if (configurations && configurations->child->next) {
        snprintf(note, sizeof note, "All but the sections on configurations are about the first of %d: %.100s.",
                 cJSON_GetArraySize(configurations), name_of(configurations->child));
        fr_section_note(r, note);
    }
}

/* What the counts of teacher-forced configurations are of, and what decoding these texts would have come to. */
static void add_mode(fr_report *r) {
    const cJSON *first = first_configuration(r), *along = fr_json_find_object(first, "along_cycles");
    const char *mode = fr_json_find_string(first, "mode");
    double length = fr_json_find_number(along, "mean_acceptance_length"), rate, low, high;
    char note[300], text[32];
    if (!mode || strcmp(mode, "teacher-forced") != 0) return;
    fr_section_note(r, "Teacher-forced: every figure counts each position of a text as the beginning of a cycle.");
    fr_report_acceptance(along, &rate, &low, &high);
    if (!isfinite(rate) || !isfinite(length)) return;
    snprintf(note, sizeof note,
             "Of the cycles alone that decoding these texts would have made, %s of drafts were accepted and the mean "
             "acceptance length was %.3f: those two compare with generated texts.",
             fr_unit_text(rate, FR_UNIT_PERCENT, text), length);
    fr_section_note(r, note);
}

/* ---- By position and context ------------------------------------------------------------------------------------ */

/* Points of `key` with the interval under `interval`. x: `x_key`, or counted from 1. Returns how many. */
static int points_of(const cJSON *array, const char *x_key, const char *key, const char *interval, fr_point *points, int most) {
    const cJSON *item;
    int count = 0, at = 0;
    cJSON_ArrayForEach(item, array) {
        fr_point p = {.x = x_key ? fr_json_find_number(item, x_key) : at + 1, .y = fr_json_find_number(item, key)};
        at++;
        fr_json_find_interval(item, interval, &p.low, &p.high);
        if (fabs(p.x) < 1e9 && isfinite(p.y) && count < most) points[count++] = p;
    }
    return count;
}

static void add_position_table(fr_report *r, const cJSON *positions) {
    static const fr_heading headings[] = {{"position", true}, {"drafted", true}, {"reached", true},          {"accepted", true},
                                          {"rate", true},     {"95 %", true},    {"conditional rate", true}, {"95 %", true}};
    const cJSON *item;
    fr_table_begin(r, "Acceptance by position in the draft", headings, sizeof headings / sizeof *headings, false);
    cJSON_ArrayForEach(item, positions) {
        double low, high;
        fr_table_row(r);
        fr_table_number(r, fr_json_find_number(item, "position"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "drafted"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "reached"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "accepted"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "rate"), FR_UNIT_PERCENT);
        fr_json_find_interval(item, "rate_ci95", &low, &high);
        fr_table_interval(r, low, high, FR_UNIT_PERCENT);
        fr_table_number(r, fr_json_find_number(item, "conditional_rate"), FR_UNIT_PERCENT);
        fr_json_find_interval(item, "conditional_ci95", &low, &high);
        fr_table_interval(r, low, high, FR_UNIT_PERCENT);
    }
    fr_table_end(r);
}

static const fr_axis position_axis = {.label = "position in the draft", .unit = FR_UNIT_COUNT, .whole = true};

static fr_axis positions_to(int last) {
    fr_axis axis = position_axis;
    axis.low = 0.5;
    axis.high = last + 0.5;
    return axis;
}

static void plot_context(fr_report *r) {
    enum { BUCKETS = 14 };
    const cJSON *buckets = part_array(r, "context"), *item;
    char names[BUCKETS][40];
    const char *name_list[BUCKETS];
    fr_point points[BUCKETS];
    int count = 0;
    cJSON_ArrayForEach(item, buckets) {
        double from = fr_json_find_number(item, "from"), to = fr_json_find_number(item, "to");
        fr_point p = {.x = count + 1};
        if (count == BUCKETS) break;
        fr_report_acceptance(item, &p.y, &p.low, &p.high);
        if (!isfinite(p.y) || !isfinite(from)) continue;
        if (isfinite(to))
            snprintf(names[count], sizeof names[count], "%.0f\xE2\x80\x93%.0f", from, to);
        else
            snprintf(names[count], sizeof names[count], "\xE2\x89\xA5 %.0f", from);
        name_list[count] = names[count];
        points[count++] = p;
    }
    if (count < 2) return;
    fr_series series = {"acceptance rate", FR_MARK_LINE, points, count};
    fr_plot plot = {.title = "Acceptance of the first draft by length of context",
                    .note = "Of each cycle's first draft, by the tokens before it. Bars are 95 % intervals (Wilson).",
                    .x = {.label = "context, tokens", .names = name_list, .high = count},
                    .y = {.label = "acceptance rate", .unit = FR_UNIT_PERCENT},
                    .series = &series,
                    .num_series = 1};
    fr_report_plot(r, &plot);
}

static void add_positions(fr_report *r) {
    const cJSON *positions = part_array(r, "positions");
    fr_point rate[POSITIONS], conditional[POSITIONS];
    int count = points_of(positions, "position", "rate", "rate_ci95", rate, POSITIONS);
    int judged = points_of(positions, "position", "conditional_rate", "conditional_ci95", conditional, POSITIONS);
    if (count == 0) return;
    fr_series series[] = {{"accepted, of cycles that drafted", FR_MARK_LINE, rate, count},
                          {"accepted, given that all before it were", FR_MARK_LINE, conditional, judged}};
    fr_plot plot = {.title = "Acceptance by position",
                    .note = "Bars are 95 % intervals (Wilson).",
                    .x = positions_to((int)rate[count - 1].x),
                    .y = {.label = "share accepted", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                    .series = series,
                    .num_series = judged ? 2 : 1};
    fr_section_begin(r, "positions", "By position and context");
    fr_figures_begin(r);
    fr_report_plot(r, &plot);
    plot_context(r);
    fr_figures_end(r);
    add_position_table(r, positions);
    fr_section_end(r);
}

/* ---- Configurations -----------------------------------------------------------------------------------------------
 */

static void add_configurations(fr_report *r) {
    static const fr_heading headings[] = {{"configuration", false}, {"mode", false},   {"depth", true},
                                          {"temperature", true},    {"verify", false}, {"drafts", true},
                                          {"acceptance", true},     {"95 %", true},    {"mean length", true}};
    const cJSON *configurations = fr_json_find_array(r->document, "configurations"), *item;
    fr_row rows[MOST_ROWS];
    int count = 0;
    if (!configurations || !configurations->child->next) return;
    cJSON_ArrayForEach(item, configurations) {
        if (count == MOST_ROWS) break;
        rows[count].name = name_of(item);
        fr_report_configuration(item, fr_json_find_object(item, "speculative_decoding"), &rows[count].value, &rows[count].low,
                                &rows[count].high);
        count++;
    }
    fr_row_plot plot = {.title = "Acceptance rate by configuration",
                        .note = "Accepted over drafted, all positions together, with 95 % intervals. Deeper drafts are accepted "
                                "less often: compare configurations of one depth.",
                        .x = {.label = "acceptance rate", .unit = FR_UNIT_PERCENT},
                        .rows = rows,
                        .num_rows = count};
    fr_section_begin(r, "configurations", "Configurations");
    fr_figures_begin(r);
    fr_report_row_plot(r, &plot);
    fr_figures_end(r);
    fr_table_begin(r, "Each configuration; the headings sort", headings, sizeof headings / sizeof *headings, true);
    cJSON_ArrayForEach(item, configurations) {
        const cJSON *speculation = fr_json_find_object(item, "speculative_decoding");
        double rate, low, high;
        fr_report_configuration(item, speculation, &rate, &low, &high);
        fr_table_row(r);
        fr_table_text(r, name_of(item));
        fr_table_text(r, fr_json_find_string(item, "mode"));
        fr_table_number(r, fr_json_find_number(item, "depth"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "temperature"), FR_UNIT_PLAIN);
        fr_table_text(r, fr_json_find_string(item, "verify"));
        fr_table_number(r, fr_json_find_number(speculation, "num_draft_tokens"), FR_UNIT_COUNT);
        fr_table_number(r, rate, FR_UNIT_PERCENT);
        fr_table_interval(r, low, high, FR_UNIT_PERCENT);
        fr_table_number(r, fr_json_find_number(speculation, "mean_acceptance_length"), FR_UNIT_PLAIN);
    }
    fr_table_end(r);
    fr_section_end(r);
}

/* ---- The four-way ablation ----------------------------------------------------------------------------------------
 */

enum { WAYS = 4 };

/* 0 to 3 by what the MTP module reads and what it hands on; -1 when the document does not say. */
static int way_of(const cJSON *configuration) {
    const char *hidden = fr_json_find_string(configuration, "mtp_hidden");
    const char *recycle = fr_json_find_string(configuration, "mtp_recycle");
    if (!hidden || !recycle) return -1;
    return 2 * (strcmp(hidden, "pre") == 0) + (strcmp(recycle, "pre") == 0);
}

static bool same_text(const cJSON *a, const cJSON *b, const char *key) {
    const char *x = fr_json_find_string(a, key), *y = fr_json_find_string(b, key);
    return x == y || (x && y && strcmp(x, y) == 0);
}

static bool same_number(const cJSON *a, const cJSON *b, const char *key) {
    double x = fr_json_find_number(a, key), y = fr_json_find_number(b, key);
    return x == y || (isnan(x) && isnan(y));
}

/* Configurations like `like` but for the way; returns how many ways there are. */
static int ways_like(const cJSON *configurations, const cJSON *like, const cJSON *ways[WAYS]) {
    const cJSON *item;
    int count = 0;
    for (int i = 0; i < WAYS; i++) ways[i] = NULL;
    cJSON_ArrayForEach(item, configurations) {
        int way = way_of(item);
        if (way < 0 || ways[way] || !same_text(item, like, "mode") || !same_text(item, like, "verify") ||
            !same_text(item, like, "drafter") || !same_number(item, like, "depth") || !same_number(item, like, "temperature"))
            continue;
        ways[way] = item;
        count++;
    }
    return count;
}

/* The group with most ways, and of those the deepest: depth 1 recycles nothing. */
static int choose_ways(const cJSON *configurations, const cJSON *ways[WAYS]) {
    const cJSON *item, *best = NULL;
    int most = 1;
    cJSON_ArrayForEach(item, configurations) {
        int count = ways_like(configurations, item, ways);
        bool deeper = best && fr_json_find_number(item, "depth") > fr_json_find_number(best, "depth");
        if (count > most || (count == most && deeper)) {
            most = count;
            best = item;
        }
    }
    return best ? ways_like(configurations, best, ways) : 0;
}

static const char *const way_names[WAYS] = {"reads post, recycles post", "reads post, recycles pre", "reads pre, recycles post",
                                            "reads pre, recycles pre"};

static void add_ablation_table(fr_report *r, const cJSON *const ways[WAYS]) {
    static const fr_heading headings[] = {
        {"reads", false}, {"recycles", false}, {"acceptance", true}, {"95 %", true}, {"mean length", true}};
    fr_table_begin(r, "The four ways: all positions together", headings, sizeof headings / sizeof *headings, false);
    for (int i = 0; i < WAYS; i++) {
        double rate, low, high;
        if (!ways[i]) continue;
        fr_report_configuration(ways[i], fr_json_find_object(ways[i], "speculative_decoding"), &rate, &low, &high);
        fr_table_row(r);
        fr_table_text(r, i < 2 ? "post" : "pre");
        fr_table_text(r, i % 2 ? "pre" : "post");
        fr_table_number(r, rate, FR_UNIT_PERCENT);
        fr_table_interval(r, low, high, FR_UNIT_PERCENT);
        fr_table_number(r, fr_json_find_number(fr_json_find_object(ways[i], "speculative_decoding"), "mean_acceptance_length"),
                        FR_UNIT_PLAIN);
    }
    fr_table_end(r);
}

static void add_ablation(fr_report *r) {
    const cJSON *ways[WAYS];
    fr_point points[WAYS][POSITIONS];
    fr_series series[WAYS];
    char note[200];
    int count = 0, last = 1, found = choose_ways(fr_json_find_array(r->document, "configurations"), ways);
    if (found < 2) return;
    const cJSON *any = NULL;
    for (int i = 0; i < WAYS; i++) {
        const cJSON *positions = fr_json_find_array(ways[i], "positions");
        int n = points_of(positions, "position", "conditional_rate", "conditional_ci95", points[i], POSITIONS);
        if (ways[i]) any = ways[i];
        if (n == 0) continue;
        if (points[i][n - 1].x > last) last = (int)points[i][n - 1].x;
        series[count++] = (fr_series){way_names[i], FR_MARK_LINE, points[i], n};
    }
    double depth = fr_json_find_number(any, "depth"), temperature = fr_json_find_number(any, "temperature");
    snprintf(note, sizeof note,
             "Depth %.0f, temperature %.4g. The first draft reads the main model's hidden state; only later ones "
             "read what was recycled.",
             depth, temperature);
    fr_section_begin(r, "ablation", found == WAYS ? "Four-way ablation" : "Ablation of hidden states");
    fr_section_note(r, "Which hidden state the MTP module reads from the main model, and which of its own it hands to the next "
                       "chained draft: after the norm that follows it (post), or before (pre).");
    fr_figures_begin(r);
    if (count) {
        fr_plot plot = {.title = "Acceptance by position in each way",
                        .note = note,
                        .x = positions_to(last),
                        .y = {.label = "share accepted, given that all before were", .unit = FR_UNIT_PERCENT},
                        .series = series,
                        .num_series = count};
        fr_report_plot(r, &plot);
    }
    add_ablation_table(r, ways);
    fr_figures_end(r);
    fr_section_end(r);
}

/* ---- Domains ----------------------------------------------------------------------------------------------
 */

static void add_domain_table(fr_report *r, const cJSON *domains) {
    static const fr_heading headings[] = {{"domain", false},  {"prompts", true},    {"tokens", true}, {"drafted", true},
                                          {"accepted", true}, {"acceptance", true}, {"95 %", true},   {"mean length", true}};
    const cJSON *item;
    fr_table_begin(r, "Acceptance by domain; the headings sort", headings, sizeof headings / sizeof *headings, true);
    cJSON_ArrayForEach(item, domains) {
        double rate, low, high;
        fr_report_acceptance(item, &rate, &low, &high);
        fr_table_row(r);
        fr_table_text(r, fr_json_find_string(item, "domain"));
        fr_table_number(r, fr_json_find_number(item, "prompts"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "tokens"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "drafted"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "accepted"), FR_UNIT_COUNT);
        fr_table_number(r, rate, FR_UNIT_PERCENT);
        fr_table_interval(r, low, high, FR_UNIT_PERCENT);
        fr_table_number(r, fr_json_find_number(item, "mean_acceptance_length"), FR_UNIT_PLAIN);
    }
    fr_table_end(r);
}

static void add_domains(fr_report *r) {
    const cJSON *domains = part_array(r, "domains"), *item;
    fr_row rows[MOST_ROWS];
    double all, low, high;
    int count = 0;
    if (!domains) return;
    cJSON_ArrayForEach(item, domains) {
        const char *name = fr_json_find_string(item, "domain");
        if (count == MOST_ROWS) break;
        rows[count].name = name ? name : "";
        fr_report_acceptance(item, &rows[count].value, &rows[count].low, &rows[count].high);
        if (isfinite(rows[count].value)) count++;
    }
    fr_report_acceptance(part_object(r, "speculative_decoding"), &all, &low, &high);
    fr_reference reference = {all, true, "all"};
    fr_row_plot plot = {.title = "Acceptance rate by domain",
                        .note = "Accepted over drafted, with 95 % intervals.",
                        .x = {.label = "acceptance rate", .unit = FR_UNIT_PERCENT},
                        .rows = rows,
                        .num_rows = count,
                        .references = &reference,
                        .num_references = isfinite(all)};
    fr_section_begin(r, "domains", "By domain");
    if (count) {
        fr_figures_begin(r);
        fr_report_row_plot(r, &plot);
        fr_figures_end(r);
    }
    add_domain_table(r, domains);
    fr_section_end(r);
}

/* ---- Calibration, experts, tokens ------------------------------------------------------------------------------- */

static void add_calibration(fr_report *r) {
    enum { BINS = 64 };
    const cJSON *calibration = part_object(r, "calibration"), *bins = fr_json_find_array(calibration, "bins"), *item;
    fr_point rates[BINS], counts[BINS + 1];
    double ece = fr_json_find_number(calibration, "ece"), end = NAN;
    char note[200], text[32];
    int num_rates = points_of(bins, "mean_confidence", "rate", "ci95", rates, BINS), num_counts = 0;
    cJSON_ArrayForEach(item, bins) {
        double from = fr_json_find_number(item, "from"), count = fr_json_find_number(item, "count");
        if (num_counts < BINS && isfinite(from) && isfinite(count)) {
            counts[num_counts++] = (fr_point){from, count, NAN, NAN};
            end = fr_json_find_number(item, "to");
        }
    }
    if (num_rates == 0) return;
    if (num_counts && isfinite(end)) counts[num_counts++] = (fr_point){end, 0, NAN, NAN};
    snprintf(note, sizeof note, "On the dashed line confidence is what happens. Expected calibration error: %s.",
             fr_unit_text(ece, FR_UNIT_PERCENT, text));
    fr_series series = {"drafts", FR_MARK_LINE, rates, num_rates};
    fr_series how_many = {"drafts", FR_MARK_STEPS, counts, num_counts};
    fr_plot plot = {.title = "Reliability: confidence against acceptance",
                    .note = isfinite(ece) ? note : NULL,
                    .x = {.label = "mean confidence of the drafts in a bin", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                    .y = {.label = "share accepted", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                    .series = &series,
                    .num_series = 1,
                    .diagonal = true};
    fr_plot histogram = {.title = "Drafts by confidence",
                         .x = {.label = "confidence: the draft's own probability", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                         .y = {.label = "drafts"},
                         .series = &how_many,
                         .num_series = 1};
    fr_section_begin(r, "calibration", "Reliability");
    fr_figures_begin(r);
    fr_report_plot(r, &plot);
    if (num_counts > 2) fr_report_plot(r, &histogram);
    fr_figures_end(r);
    fr_section_end(r);
}

static void add_overlap(fr_report *r) {
    const cJSON *overlap = part_object(r, "expert_overlap"), *layers = fr_json_find_array(overlap, "layers");
    fr_point *points = fr_alloc(2 * MOST_POINTS * sizeof *points), *alone = points + MOST_POINTS;
    int count = points ? points_of(layers, "layer", "overlap", "ci95", points, MOST_POINTS) : 0;
    r->body.failed |= !points;
    if (count) {
        int independent = points_of(layers, "layer", "if_independent", "", alone, MOST_POINTS);
        fr_reference mean = {fr_json_find_number(overlap, "mean"), false, "mean"};
        fr_series series[] = {{"measured", FR_MARK_LINE, points, count},
                              {"if tokens were independent", FR_MARK_LINE, alone, independent}};
        fr_plot plot = {.title = "Expert overlap by layer",
                        .note = "Share of a token's routed experts that the token before it chose as well. Where it is high, "
                                "verifying a second token reads few weights more. Independent tokens share what is popular.",
                        .x = {.label = "layer",
                              .unit = FR_UNIT_COUNT,
                              .whole = true,
                              .low = points[0].x - 0.7,
                              .high = points[count - 1].x + 0.7},
                        .y = {.label = "share of experts", .unit = FR_UNIT_PERCENT},
                        .series = series,
                        .num_series = independent ? 2 : 1,
                        .references = &mean,
                        .num_references = 1};
        fr_section_begin(r, "experts", "Expert overlap");
        fr_figures_begin(r);
        fr_report_plot(r, &plot);
        fr_figures_end(r);
        fr_section_end(r);
    }
    fr_free(points);
}

static void add_rejected(fr_report *r) {
    static const fr_heading headings[] = {
        {"token", true}, {"text", false}, {"proposed", true}, {"rejected", true}, {"rate", true}};
    const cJSON *tokens = part_array(r, "rejected_tokens"), *item;
    if (!tokens) return;
    fr_section_begin(r, "rejected", "Tokens most often rejected");
    fr_table_begin(r, "Drafted tokens that the main model did not agree with; the headings sort", headings,
                   sizeof headings / sizeof *headings, true);
    cJSON_ArrayForEach(item, tokens) {
        fr_table_row(r);
        fr_table_number(r, fr_json_find_number(item, "token"), FR_UNIT_COUNT);
        fr_table_token(r, fr_json_find_string(item, "text"));
        fr_table_number(r, fr_json_find_number(item, "proposed"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "rejected"), FR_UNIT_COUNT);
        fr_table_number(r, fr_json_find_number(item, "rate"), FR_UNIT_PERCENT);
    }
    fr_table_end(r);
    fr_section_end(r);
}

void fr_report_accept(fr_report *r) {
    add_headline(r);
    add_mode(r);
    add_positions(r);
    add_configurations(r);
    add_ablation(r);
    add_domains(r);
    add_calibration(r);
    add_overlap(r);
    add_rejected(r);
    fr_report_prompts(r);
}
