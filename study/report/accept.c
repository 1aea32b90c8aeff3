/* The page of an acceptance study. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "study/report/report.h"

enum { MOST_BINS = 64 };

/* ---- Headline --------------------------------------------------------------------------------------------------- */

static void add_tiles(fr_report *r, const cJSON *first) {
    const cJSON *speculation = fr_path_object(r->document, FR_PART("speculative_decoding")),
                *overlap = fr_path_object(r->document, FR_PART("expert_overlap"));
    double low, high, drafted = fr_path_number(speculation, "num_draft_tokens");
    double alone = fr_path_number(overlap, "if_independent_by_popularity|if_independent");
    char note[200], text[32];
    fr_markup_raw(&r->body, "<div class=\"tiles\">\n");
    fr_path_interval(first, "acceptance_rate_ci95", &low, &high);
    snprintf(note, sizeof note, "of %.0f drafts", drafted);
    fr_tile(r, "Acceptance rate", fr_path_number(speculation, "acceptance_rate"), low, high, FR_UNIT_PERCENT,
            isfinite(drafted) ? note : NULL);
    fr_path_interval(first, "mean_acceptance_length_ci95", &low, &high);
    fr_tile(r, "Mean acceptance length", fr_path_number(speculation, "mean_acceptance_length"), low, high, FR_UNIT_PLAIN,
            "tokens a cycle that drafted, the bonus token counted");
    fr_tile(r, "Calibration error", fr_path_number(fr_path_object(r->document, FR_PART("calibration")), "ece"), NAN, NAN,
            FR_UNIT_PERCENT, "expected, of the drafts' own confidence");
    snprintf(note, sizeof note, "of a token's experts; %s if tokens were independent",
             fr_unit_text(alone, FR_UNIT_PERCENT, text));
    fr_tile(r, "Expert overlap with the token before", fr_path_number(overlap, "mean"), NAN, NAN, FR_UNIT_PERCENT,
            isfinite(alone) ? note : NULL);
    fr_markup_raw(&r->body, "</div>\n");
}

/* What teacher-forced figures count, and what decoding these texts would have come to. */
static void add_mode(fr_report *r, const cJSON *first) {
    const char *mode = fr_path_text(first, "mode");
    double rate = fr_path_number(first, "along_cycles.acceptance_rate");
    double length = fr_path_number(first, "along_cycles.mean_acceptance_length");
    char note[300], text[32];
    if (!mode || strcmp(mode, "teacher-forced") != 0) return;
    fr_section_note(r, "Teacher-forced: every figure counts each position of a text as the beginning of a cycle.");
    if (!isfinite(rate) || !isfinite(length)) return;
    snprintf(note, sizeof note,
             "Of the cycles alone that decoding these texts would have made, %s of drafts were accepted and the mean "
             "acceptance length was %.3f: those two compare with generated texts.",
             fr_unit_text(rate, FR_UNIT_PERCENT, text), length);
    fr_section_note(r, note);
}

static void add_headline(fr_report *r) {
    const cJSON *configurations = fr_path_array(r->document, "configurations");
    const cJSON *first = configurations ? configurations->child : NULL;
    char note[200];
    add_tiles(r, first);
    if (first && first->next) {
        snprintf(note, sizeof note, "All but the sections on configurations are about the first of %d: %.100s.",
                 cJSON_GetArraySize(configurations), fr_column_text(fr_view_configurations.columns, first, NULL));
        fr_section_note(r, note);
    }
    add_mode(r, first);
}

/* ---- By position and context ------------------------------------------------------------------------------------ */

static void plot_context(fr_report *r) {
    enum { BUCKETS = 14 };
    fr_point *points = fr_chart_room(r, BUCKETS);
    const cJSON *item;
    char names[BUCKETS][40];
    const char *name_list[BUCKETS];
    int count = 0;
    if (!points) return;
    cJSON_ArrayForEach(item, fr_path_array(r->document, FR_PART("context"))) {
        double from = fr_path_number(item, "from"), to = fr_path_number(item, "to");
        fr_point p = {.x = count + 1, .y = fr_path_number(item, "rate")};
        if (count == BUCKETS) break;
        if (!isfinite(p.y) || !isfinite(from)) continue;
        fr_path_interval(item, "ci95", &p.low, &p.high);
        snprintf(names[count], sizeof names[count], isfinite(to) ? "%.0f\xE2\x80\x93%.0f" : "\xE2\x89\xA5 %.0f", from, to);
        name_list[count] = names[count];
        points[count++] = p;
    }
    fr_chart_add(r, "acceptance rate", FR_MARK_LINE, count < 2 ? 0 : count);
    fr_chart_draw(r,
                  (fr_plot){.title = "Acceptance of the first draft by length of context",
                            .note = "Of each cycle's first draft, by the tokens before it. Bars are 95 % intervals over prompts.",
                            .x = {.label = "context, tokens", .names = name_list, .high = count},
                            .y = {.label = "acceptance rate", .unit = FR_UNIT_PERCENT}});
}

static void add_positions(fr_report *r) {
    const cJSON *positions = fr_path_array(r->document, FR_PART("positions"));
    fr_chart_add_array(r, "accepted, of cycles that drafted", FR_MARK_LINE, positions, "position", "rate", "rate_ci95");
    if (r->chart.count == 0) return;
    fr_chart_add_array(r, "accepted, given that all before it were", FR_MARK_LINE, positions, "position", "conditional_rate",
                       "conditional_ci95");
    fr_section_begin(r, "positions", "By position and context");
    fr_figures_begin(r);
    fr_chart_draw(r, (fr_plot){.title = "Acceptance by position",
                               .note = "Bars are 95 % intervals over prompts.",
                               .x = fr_position_axis(fr_chart_end(r, 1)),
                               .y = {.label = "share accepted", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1}});
    plot_context(r);
    fr_figures_end(r);
    fr_report_table(r, &fr_view_positions, positions);
}

/* ---- Configurations ----------------------------------------------------------------------------------------------- */

static void add_configurations(fr_report *r) {
    const cJSON *configurations = fr_path_array(r->document, "configurations");
    fr_rows rows = {.unknown = true};
    if (!configurations || !configurations->child->next) return;
    fr_rows_add(&rows, &fr_view_configurations, configurations, FR_MOST_ROWS);
    fr_section_begin(r, "configurations", "Configurations");
    fr_figures_begin(r);
    fr_report_rows(r, &rows,
                   (fr_row_plot){.title = "Acceptance rate by configuration",
                                 .note = "Accepted over drafted, all positions together, with 95 % intervals. Deeper drafts are "
                                         "accepted less often: compare configurations of one depth.",
                                 .x = {.label = "acceptance rate", .unit = FR_UNIT_PERCENT}});
    fr_figures_end(r);
    fr_report_table(r, &fr_view_configurations, configurations);
    const cJSON *pairs = fr_path_array(r->document, fr_view_pairs.array);
    if (pairs) fr_report_table(r, &fr_view_pairs, pairs);
}

/* ---- The ablation of hidden states ---------------------------------------------------------------------------------------- */

enum { WAYS = 6 };

static const char *const way_names[WAYS] = {
    "reads post, recycles post", "reads post, recycles pre", "reads post, pinned",
    "reads pre, recycles post",  "reads pre, recycles pre",  "reads pre, pinned",
};

/* The index of its name; -1 when the document does not say what the MTP module reads and what it recycles. */
static int way_of(const cJSON *configuration) {
    const char *hidden = fr_path_text(configuration, "mtp_hidden"), *recycle = fr_path_text(configuration, "mtp_recycle");
    if (!hidden || !recycle) return -1;
    return 3 * (strcmp(hidden, "pre") == 0) + (strcmp(recycle, "pre") == 0) + 2 * (strcmp(recycle, "pinned") == 0);
}

/* Whether configurations differ in their ways alone. */
static bool are_alike(const cJSON *a, const cJSON *b) {
    static const char *const keys[] = {"mode", "verify", "drafter", "depth", "temperature"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *x = fr_path_value(a, keys[i]), *y = fr_path_value(b, keys[i]);
        if (x != y && !cJSON_Compare(x, y, true)) return false;
    }
    return true;
}

/* The configurations like `like`, each under its way; returns how many ways there are. */
static int ways_like(const cJSON *configurations, const cJSON *like, const cJSON *ways[WAYS]) {
    const cJSON *item;
    int count = 0;
    for (int i = 0; i < WAYS; i++) ways[i] = NULL;
    cJSON_ArrayForEach(item, configurations) {
        int way = way_of(item);
        if (way < 0 || ways[way] || !are_alike(item, like)) continue;
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
        bool deeper = best && fr_path_number(item, "depth") > fr_path_number(best, "depth");
        if (count > most || (count == most && deeper)) {
            most = count;
            best = item;
        }
    }
    return best ? ways_like(configurations, best, ways) : 0;
}

static void plot_ways(fr_report *r, const cJSON *const ways[WAYS]) {
    const cJSON *any = NULL;
    char note[200];
    for (int i = 0; i < WAYS; i++) {
        if (ways[i]) any = ways[i];
        fr_chart_add_array(r, way_names[i], FR_MARK_LINE, fr_path_array(ways[i], "positions"), "position", "conditional_rate",
                           "conditional_ci95");
    }
    snprintf(note, sizeof note,
             "Depth %.0f, temperature %.4g. The first draft reads the main model's hidden state; only later ones "
             "read what was recycled.",
             fr_path_number(any, "depth"), fr_path_number(any, "temperature"));
    fr_chart_draw(r, (fr_plot){.title = "Acceptance by position in each way",
                               .note = note,
                               .x = fr_position_axis(fmax(1, fr_chart_end(r, WAYS))),
                               .y = {.label = "share accepted, given that all before were", .unit = FR_UNIT_PERCENT}});
}

static void add_ablation(fr_report *r) {
    const cJSON *ways[WAYS];
    int found = choose_ways(fr_path_array(r->document, "configurations"), ways);
    if (found < 2) return;
    fr_section_begin(r, "ablation", "Ablation of hidden states");
    fr_section_note(r, "Which hidden state the MTP module reads from the main model, and which of its own it hands to the next "
                       "chained draft: after the norm that follows it (post), or before (pre). Pinned: every chained draft reads "
                       "again what the first one read.");
    fr_figures_begin(r);
    plot_ways(r, ways);
    fr_table_begin(r, &fr_view_ways);
    for (int i = 0; i < WAYS; i++)
        if (ways[i]) fr_table_row(r, &fr_view_ways, ways[i]);
    fr_table_end(r);
    fr_figures_end(r);
}

/* ---- Domains ------------------------------------------------------------------------------------------------------ */

static void add_domains(fr_report *r) {
    const cJSON *domains = fr_path_array(r->document, FR_PART("domains"));
    const fr_reference all = {fr_path_number(fr_path_object(r->document, FR_PART("speculative_decoding")), "acceptance_rate"),
                              true, "all"};
    fr_rows rows = {.count = 0};
    if (!domains) return;
    fr_rows_add(&rows, &fr_view_domains, domains, FR_MOST_ROWS);
    fr_section_begin(r, "domains", "By domain");
    if (rows.count) fr_figures_begin(r);
    fr_report_rows(r, &rows,
                   (fr_row_plot){.title = "Acceptance rate by domain",
                                 .note = "Accepted over drafted, with 95 % intervals.",
                                 .x = {.label = "acceptance rate", .unit = FR_UNIT_PERCENT},
                                 .references = &all,
                                 .num_references = isfinite(all.at)});
    if (rows.count) fr_figures_end(r);
    fr_report_table(r, &fr_view_domains, domains);
}

/* ---- Calibration, experts, tokens ------------------------------------------------------------------------------- */

/* Drafts by their confidence; nothing of one bin. */
static void plot_bins(fr_report *r, const cJSON *bins) {
    fr_point *points = fr_chart_room(r, MOST_BINS + 1);
    const cJSON *item;
    int count = 0;
    double end = NAN;
    if (!points) return;
    cJSON_ArrayForEach(item, bins) {
        fr_point p = {fr_path_number(item, "from"), fr_path_number(item, "count"), NAN, NAN};
        if (count == MOST_BINS || !isfinite(p.x) || !isfinite(p.y)) continue;
        points[count++] = p;
        end = fr_path_number(item, "to");
    }
    if (isfinite(end)) points[count++] = (fr_point){end, 0, NAN, NAN};
    fr_chart_add(r, "drafts", FR_MARK_STEPS, count < 3 ? 0 : count);
    fr_chart_draw(
        r, (fr_plot){.title = "Drafts by confidence",
                     .x = {.label = "confidence: the draft's own probability", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                     .y = {.label = "drafts"}});
}

static void add_calibration(fr_report *r) {
    const cJSON *calibration = fr_path_object(r->document, FR_PART("calibration")), *bins = fr_path_array(calibration, "bins");
    double ece = fr_path_number(calibration, "ece");
    char note[200], text[32];
    fr_chart_add_array(r, "drafts", FR_MARK_LINE, bins, "mean_confidence", "rate", "ci95");
    if (r->chart.count == 0) return;
    snprintf(note, sizeof note, "On the dashed line confidence is what happens. Expected calibration error: %s.",
             fr_unit_text(ece, FR_UNIT_PERCENT, text));
    fr_section_begin(r, "calibration", "Reliability");
    fr_figures_begin(r);
    fr_chart_draw(
        r, (fr_plot){.title = "Reliability: confidence against acceptance",
                     .note = isfinite(ece) ? note : NULL,
                     .x = {.label = "mean confidence of the drafts in a bin", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                     .y = {.label = "share accepted", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                     .diagonal = true});
    plot_bins(r, bins);
    fr_figures_end(r);
}

static void add_overlap(fr_report *r) {
    const cJSON *overlap = fr_path_object(r->document, FR_PART("expert_overlap")), *layers = fr_path_array(overlap, "layers");
    const fr_reference mean = {fr_path_number(overlap, "mean"), false, "mean"};
    fr_chart_add_array(r, "measured", FR_MARK_LINE, layers, "layer", "overlap", "ci95");
    if (r->chart.count == 0) return;
    double first = r->chart.points[0]->x, last = fr_chart_end(r, 1);
    fr_chart_add_array(r, "if tokens were independent", FR_MARK_LINE, layers, "layer", "if_independent", NULL);
    fr_section_begin(r, "experts", "Expert overlap");
    fr_figures_begin(r);
    fr_chart_draw(r,
                  (fr_plot){.title = "Expert overlap by layer",
                            .note = "Share of a token's routed experts that the token before it chose as well. Where it is high, "
                                    "verifying a second token reads few weights more. Independent tokens share what is popular.",
                            .x = {.label = "layer", .unit = FR_UNIT_COUNT, .whole = true, .low = first - 0.7, .high = last + 0.7},
                            .y = {.label = "share of experts", .unit = FR_UNIT_PERCENT},
                            .references = &mean,
                            .num_references = 1});
    fr_figures_end(r);
}

static void add_rejected(fr_report *r) {
    const cJSON *tokens = fr_path_array(r->document, FR_PART("rejected_tokens"));
    if (!tokens) return;
    fr_section_begin(r, "rejected", "Tokens most often rejected");
    fr_report_table(r, &fr_view_rejected, tokens);
}

void fr_report_accept(fr_report *r) {
    add_headline(r);
    add_positions(r);
    add_configurations(r);
    add_ablation(r);
    add_domains(r);
    add_calibration(r);
    add_overlap(r);
    add_rejected(r);
    fr_report_prompts(r);
}
