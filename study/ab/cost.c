#include "study/ab/cost.h"

#include <math.h>

#include "model/traffic.h"
#include "mtp/drafters/drafter.h"

static size_t turns_of(const fr_ab_run *run) {
    return run->num_prompts * (size_t)run->options.repeats;
}

/* The text of a column in a turn; NULL: the turn is not whole. */
static const fr_ab_text *text_of(const fr_ab_run *run, size_t turn, int column) {
    size_t repeats = (size_t)run->options.repeats, prompt = turn / repeats;
    int repeat = (int)(turn % repeats);
    return fr_ab_turn_is_whole(run, prompt, repeat) ? fr_ab_text_at(run, prompt, repeat, column) : NULL;
}

/* The mean over probes of a pass of r + 1 rows, weighed by the tokens of their texts: as it adds to the total time without
 * drafts. */
static double pass_of(const fr_ab_run *run, int r) {
    double seconds = 0.0, tokens = 0.0;
    for (size_t turn = 0; turn < turns_of(run); turn++) {
        const fr_ab_text *text = text_of(run, turn, run->base);
        if (!text || r >= run->probes[turn].rows) continue;
        seconds += (text->count - 1) * run->probes[turn].pass_s[r];
        tokens += text->count - 1;
    }
    return tokens > 0.0 ? seconds / tokens : NAN;
}

static double experts_of(const fr_ab_run *run, int r) {
    double sum = 0.0, layers = 0.0;
    for (size_t i = 0; i < turns_of(run); i++) {
        if (r >= run->probes[i].rows) continue;
        sum += (double)run->probes[i].experts[r];
        layers += run->model->num_moe_layers;
    }
    return layers > 0.0 ? sum / layers : NAN;
}

static void passes_of(const fr_ab_run *run, fr_ab_costs *out) {
    for (size_t i = 0; i < turns_of(run); i++) {
        out->probes += run->probes[i].rows > 0;
        if (run->probes[i].rows > out->rows) out->rows = run->probes[i].rows;
    }
    for (int r = 0; r <= FR_MAX_DEPTH; r++) {
        out->pass_s[r] = pass_of(run, r);
        out->over_one[r] = out->pass_s[r] / out->pass_s[0];
        out->experts[r] = experts_of(run, r);
    }
    out->overlap = 2.0 - out->experts[1] / out->experts[0]; /* what two neighbours both chose is missing from the union */
}

/* The mean of what a draft took, of columns that draft as deep as they can. */
static double draft_of(const fr_ab_run *run, bool first) {
    double seconds = 0.0, drafts = 0.0;
    for (size_t turn = 0; turn < turns_of(run); turn++)
        for (int c = 0; c < run->num_columns; c++) {
            const fr_ab_text *t = text_of(run, turn, c);
            if (!t) continue;
            seconds += first ? t->first_draft_s : t->next_draft_s;
            drafts += first ? t->first_drafts : t->next_drafts;
        }
    return drafts > 0.0 ? seconds / drafts : NAN;
}

/* With one draft a cycle there were no others; they are taken to cost the same. */
static double next_draft_of(const fr_ab_costs *costs) {
    return isfinite(costs->draft_next_s) ? costs->draft_next_s : costs->draft_first_s;
}

static void count_bytes(const fr_ab_run *run, fr_ab_costs *out) {
    fr_traffic traffic;
    bool drafts = fr_drafter_type_of((int)run->options.session.drafter)->needs_mtp; /* the module is what a draft reads */
    fr_traffic_of(run->model, &traffic);
    for (int r = 0; r <= FR_MAX_DEPTH; r++) {
        double experts = run->model->num_moe_layers > 0 ? out->experts[r] : 0.0;
        out->bytes.pass[r] = r < out->rows ? fr_traffic_pass(&traffic, experts) : NAN;
    }
    out->bytes.draft_first = out->bytes.draft_next = drafts ? (double)traffic.draft : 0.0;
}

void fr_ab_costs_of(const fr_ab_run *run, fr_ab_costs *out) {
    *out = (fr_ab_costs){0};
    passes_of(run, out);
    out->draft_first_s = draft_of(run, true);
    out->draft_next_s = draft_of(run, false);
    for (int r = 0; r <= FR_MAX_DEPTH; r++) out->measured.pass[r] = out->over_one[r];
    out->measured.draft_first = out->draft_first_s / out->pass_s[0];
    out->measured.draft_next = next_draft_of(out) / out->pass_s[0];
    count_bytes(run, out);
}

/* ---- Predictions ---- */

/* The passes of a turn are its own, where they were measured. */
static fr_cost_model costs_in_turn(const fr_ab_run *run, const fr_ab_costs *costs, size_t turn) {
    const fr_ab_probe *probe = &run->probes[turn];
    fr_cost_model m = {.draft_first = costs->draft_first_s, .draft_next = next_draft_of(costs)};
    for (int r = 0; r <= FR_MAX_DEPTH; r++) m.pass[r] = r < probe->rows ? probe->pass_s[r] : costs->pass_s[r];
    return m;
}

/* by_bytes: with the same costs in every turn. */
static double predict(const fr_ab_run *run, const fr_ab_costs *costs, bool by_bytes, int column) {
    double with = 0.0, without = 0.0;
    for (size_t turn = 0; turn < turns_of(run); turn++) {
        const fr_ab_text *text = text_of(run, turn, column);
        if (!text) continue;
        fr_cost_model m = by_bytes ? costs->bytes : costs_in_turn(run, costs, turn);
        with += fr_cost_of_cycles(&m, &text->stats);
        without += fr_cost_without_drafts(&m, &text->stats);
    }
    return with > 0.0 ? without / with : NAN;
}

double fr_ab_predict(const fr_ab_run *run, const fr_ab_costs *costs, int column) {
    return predict(run, costs, false, column);
}

double fr_ab_predict_by_bytes(const fr_ab_run *run, const fr_ab_costs *costs, int column) {
    return predict(run, costs, true, column);
}
