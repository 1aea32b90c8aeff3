#include "mtp/learned.h"

#include <math.h>

/* What a memory counts for, in drafts and cycles: enough to begin with, little enough to be corrected soon. */
static const double most_drafts = 20.0, most_cycles = 16.0;
static const double least_doubt = 0.05; /* of a cost */
static const double level_doubt = 0.5;  /* the machine may be busier, or the weights not in memory */
static const double off_budget = 0.2;   /* where drafting did not pay: the first look comes later */
static const double most_budget = 2.0;
enum { ENOUGH = 3, TELLING = 8 }; /* cycles that drafted, for keeping them; for what they brought to decide */

static double doubt_of(const fr_costs *c, int at) {
    return sqrt(fmax(c->covariance[at][at], 0.0));
}

bool fr_learned_take(const fr_policy *p, fr_learned *out) {
    const fr_costs *c = &p->costs;
    if (!p->adaptive || !c->timed || p->drafting_cycles < ENOUGH) return false;
    *out = (fr_learned){.level_s = fr_costs_level(c),
                        .tokens = p->tokens,
                        .chained = p->chained,
                        .cycles = p->drafting_cycles,
                        .off = p->off ? 1.0 : 0.0};
    for (int i = 0; i < FR_MAX_DEPTH; i++) {
        out->pass[i] = exp(c->mean[FR_COST_ROWS + i]);
        out->pass_doubt[i] = doubt_of(c, FR_COST_ROWS + i);
        out->acceptance[i] = p->mean[i];
        out->reached[i] = p->reached[i];
    }
    for (int d = 0; d < 2 && c->drafts; d++) {
        out->draft[d] = exp(c->mean[FR_COST_FIRST_DRAFT + d]);
        out->draft_doubt[d] = doubt_of(c, FR_COST_FIRST_DRAFT + d);
    }
    for (int b = 0; b < FR_POLICY_BINS; b++) {
        out->correction[b] = p->calibrated[b];
        out->judged[b] = p->binned[b];
    }
    for (int k = 0; k <= FR_MAX_DEPTH; k++) out->verified[k] = p->share[k];
    return fr_learned_makes_sense(out);
}

static void set(fr_costs *c, int at, double ratio, double doubt) {
    for (int i = 0; i < FR_COSTS; i++) c->covariance[at][i] = c->covariance[i][at] = 0.0;
    c->mean[at] = log(ratio);
    c->covariance[at][at] = fmax(doubt, least_doubt) * fmax(doubt, least_doubt);
}

static void give_costs(const fr_learned *l, fr_costs *c) {
    set(c, FR_COST_LEVEL, l->level_s, level_doubt);
    for (int i = 0; i < FR_MAX_DEPTH; i++) set(c, FR_COST_ROWS + i, l->pass[i], l->pass_doubt[i]);
    for (int d = 0; d < 2; d++)
        if (l->draft[d] > 0.0) set(c, FR_COST_FIRST_DRAFT + d, fmin(l->draft[d], 1.0), l->draft_doubt[d]);
    c->drafts = c->drafts || l->draft[0] > 0.0;
    c->drift = 0.0;
    c->timed = true;
}

/* What a cycle that drafted cost. */
static double cycle_cost(const fr_learned *l) {
    double cost = l->verified[0] + l->draft[0] + l->chained * l->draft[1];
    for (int k = 1; k <= FR_MAX_DEPTH; k++) cost += l->verified[k] * l->pass[k - 1];
    return cost;
}

void fr_learned_give(const fr_learned *l, fr_policy *p) {
    give_costs(l, &p->costs);
    for (int i = 0; i < FR_MAX_DEPTH; i++) {
        p->mean[i] = l->acceptance[i];
        p->reached[i] = (int)fmin(l->reached[i], most_drafts);
    }
    for (int b = 0; b < FR_POLICY_BINS; b++) {
        p->calibrated[b] = l->correction[b];
        p->binned[b] = (int)fmin(l->judged[b], most_drafts);
    }
    for (int k = 0; k <= FR_MAX_DEPTH; k++) p->share[k] = l->verified[k];
    p->tokens = l->tokens;
    p->chained = l->chained;
    p->drafting_cycles = (int)fmin(l->cycles, most_cycles);
    p->off = l->off > 0.0 || (l->cycles >= TELLING && l->tokens < cycle_cost(l));
    p->recalled = true;
    double deepest = fr_costs_cautious(&p->costs, p->max_depth) - 1.0;
    p->budget = p->off ? off_budget : fmin(fmax(p->budget, deepest), most_budget);
}

static bool are_within(const double *x, int count, double low, double high) {
    for (int i = 0; i < count; i++)
        if (!(x[i] >= low && x[i] <= high)) return false;
    return true;
}

bool fr_learned_makes_sense(const fr_learned *l) {
    double shares = 0.0;
    for (int k = 0; k <= FR_MAX_DEPTH; k++) shares += l->verified[k];
    for (int i = 0; i < FR_MAX_DEPTH; i++)
        if (l->pass[i] > 1.001 * (i + 2)) return false;
    return are_within(&l->level_s, 1, 1e-9, 1e6) && are_within(l->pass, FR_MAX_DEPTH, 1.0, FR_MAX_DEPTH + 2.0) &&
           are_within(l->pass_doubt, FR_MAX_DEPTH, 0.0, 10.0) && are_within(l->draft, 2, 0.0, 1e3) &&
           are_within(l->draft_doubt, 2, 0.0, 100.0) && are_within(l->acceptance, FR_MAX_DEPTH, 0.0, 1.0) &&
           are_within(l->reached, FR_MAX_DEPTH, 0.0, 1e9) && are_within(l->correction, FR_POLICY_BINS, -1.0, 1.0) &&
           are_within(l->judged, FR_POLICY_BINS, 0.0, 1e9) && are_within(&l->tokens, 1, 1.0, FR_MAX_DEPTH + 1.0) &&
           are_within(l->verified, FR_MAX_DEPTH + 1, 0.0, 1.0) && fabs(shares - 1.0) < 1e-3 &&
           are_within(&l->chained, 1, 0.0, FR_MAX_DEPTH - 1.0) && are_within(&l->cycles, 1, ENOUGH, 1e9) &&
           (l->off == 0.0 || l->off == 1.0);
}
