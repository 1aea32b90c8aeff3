#include "mtp/costs.h"

#include <math.h>

static const double noise = 0.07;         /* of a measured time, relative; late ones apart */
static const double wander = 0.02;        /* of the level from cycle to cycle */
static const double ratio_wander = 0.002; /* of a ratio */
static const double far = 3.0;            /* standard deviations from which a time is not just noise */
enum { LATE_IN_A_ROW = 3 };               /* times far too long that are a change of speed */

/* Standard deviations of the first guess: of the exponent of the number of rows, of a ratio around that power, of a draft; and
 * how far the first level may be from the next. */
static const double exponent_guess = 0.35, ratio_guess = 0.08, draft_guess = 0.7, drift_guess = 0.7;
static const double unknown = 100.0; /* a variance */

enum { PASS, FIRST_DRAFT, NEXT_DRAFT }; /* what is measured in a cycle */

static int ratio_of(int rows) {
    return FR_COST_ROWS + rows - 2;
}

void fr_costs_init(fr_costs *c, const double *ratio, double draft_first, double draft_next) {
    const double drafts[] = {draft_first, draft_next};
    *c = (fr_costs){.drift = drift_guess, .drafts = draft_first > 0.0};
    c->covariance[FR_COST_LEVEL][FR_COST_LEVEL] = unknown;
    for (int a = 2; a <= FR_MAX_DEPTH + 1; a++) {
        c->mean[ratio_of(a)] = log(ratio[a - 1]);
        for (int b = 2; b <= FR_MAX_DEPTH + 1; b++)
            c->covariance[ratio_of(a)][ratio_of(b)] =
                exponent_guess * exponent_guess * log2(a) * log2(b) + (a == b ? ratio_guess * ratio_guess : 0.0);
    }
    for (int d = 0; d < 2; d++) {
        int at = FR_COST_FIRST_DRAFT + d;
        c->mean[at] = drafts[d] > 0.0 ? log(drafts[d]) : 0.0;
        c->covariance[at][at] = drafts[d] > 0.0 ? draft_guess * draft_guess : unknown;
    }
}

/* ---- Learning ---- */

/* A measured sum of mean[a] and mean[b] (b < 0: mean[a] alone) was `error` more than expected, give or take `variance`. */
static void learn(fr_costs *c, int a, int b, double error, double variance) {
    double both[FR_COSTS];
    for (int i = 0; i < FR_COSTS; i++) both[i] = c->covariance[i][a] + (b >= 0 ? c->covariance[i][b] : 0.0);
    double spread = both[a] + (b >= 0 ? both[b] : 0.0) + variance;
    for (int i = 0; i < FR_COSTS; i++) {
        c->mean[i] += both[i] / spread * error;
        for (int j = 0; j < FR_COSTS; j++) c->covariance[i][j] -= both[i] * both[j] / spread;
    }
}

/* Whether a time is to be left out: the machine does something else now and then. When times stay long, it has got slower. */
static bool is_late(fr_costs *c, int what, double error, double most) {
    if (error <= most || ++c->late[what] >= LATE_IN_A_ROW) {
        c->late[what] = 0;
        return false;
    }
    return true;
}

/* A draft says nothing of the level. */
static void observe_draft(fr_costs *c, int what, double seconds) {
    int at = FR_COST_FIRST_DRAFT + what - FIRST_DRAFT;
    const double shortest = 1e-9; /* of a clock that saw nothing pass */
    double variance = noise * noise + c->covariance[FR_COST_LEVEL][FR_COST_LEVEL];
    double error = log(fmax(seconds, shortest)) - c->mean[FR_COST_LEVEL] - c->mean[at];
    double most = far * sqrt(variance + c->covariance[at][at]);
    if (is_late(c, what, error, most)) return;
    if (fabs(error) > most) c->covariance[at][at] += error * error;
    learn(c, at, -1, error, variance);
}

static void observe_pass(fr_costs *c, int rows, double seconds) {
    int at = rows > 1 ? ratio_of(rows) : -1;
    double(*v)[FR_COSTS] = c->covariance, before = c->mean[FR_COST_LEVEL], level = v[FR_COST_LEVEL][FR_COST_LEVEL];
    double ratio = at < 0 ? 0.0 : c->mean[at];
    double sigma = sqrt(level + noise * noise + (at < 0 ? 0.0 : v[at][at] + 2.0 * v[FR_COST_LEVEL][at]));
    double error = log(fmax(seconds, 1e-9)) - before - ratio, most = far * sigma;
    /* A pass of r rows never costs much more than r passes. */
    if (c->timed) most = fmin(most, log(rows) - ratio + 0.2 + 2.0 * sqrt(level));
    if (is_late(c, PASS, error, most)) return;
    if (fabs(error) > far * sigma) { /* the machine has changed its speed; or a ratio was thought too high */
        v[FR_COST_LEVEL][FR_COST_LEVEL] += error * error;
        if (at >= 0 && error < 0.0) v[at][at] += error * error;
    }
    learn(c, FR_COST_LEVEL, at, error, noise * noise);
    if (c->timed) c->drift = fmax(0.5 * fabs(c->mean[FR_COST_LEVEL] - before), 0.25 * c->drift);
    c->timed = true;
}

/* r rows cost at least as much as one, and at most as much as r passes. Where they seem to cost less, it is one row that costs
 * less than was thought. */
static void keep_in_bounds(fr_costs *c) {
    double least = 0.0;
    for (int r = 2; r <= FR_MAX_DEPTH + 1; r++) least = fmin(least, c->mean[ratio_of(r)]);
    for (int r = 2; r <= FR_MAX_DEPTH + 1; r++) c->mean[ratio_of(r)] = fmin(fmax(c->mean[ratio_of(r)], 0.0), log(r));
    c->mean[FR_COST_LEVEL] += least;
}

/* A draft that costs a pass never pays, so a greater cost would change no decision. But it would be long until another draft can
 * be afforded, which tells that it was only the machine that was busy. */
static void keep_drafts_in_bounds(fr_costs *c) {
    for (int at = FR_COST_FIRST_DRAFT; at <= FR_COST_NEXT_DRAFT; at++) c->mean[at] = fmin(c->mean[at], 0.0);
}

void fr_costs_observe(fr_costs *c, const fr_cycle *cycle) {
    double moved = wander + (c->timed ? c->drift : 0.0);
    c->covariance[FR_COST_LEVEL][FR_COST_LEVEL] += moved * moved;
    for (int i = FR_COST_ROWS; i < FR_COSTS; i++) c->covariance[i][i] += ratio_wander * ratio_wander;
    observe_pass(c, cycle->verified + 1, cycle->verify_s + cycle->sample_s);
    keep_in_bounds(c);
    if (cycle->made > 0 && (c->drafts || cycle->first_s > 0.0)) observe_draft(c, FIRST_DRAFT, cycle->first_s);
    if (cycle->made > 1 && (c->drafts || cycle->rest_s > 0.0)) observe_draft(c, NEXT_DRAFT, cycle->rest_s / (cycle->made - 1));
    if (!c->drafts && cycle->made > 0 && cycle->first_s > 0.0) { /* dearer than a lookup, after all */
        c->drafts = true;
        if (cycle->made < 2) c->mean[FR_COST_NEXT_DRAFT] = c->mean[FR_COST_FIRST_DRAFT];
    }
    keep_drafts_in_bounds(c);
}

/* ---- What is known ---- */

double fr_costs_pass(const fr_costs *c, int rows) {
    double most = 0.0;
    for (int r = 2; r <= rows; r++) most = fmax(most, c->mean[ratio_of(r)]);
    return exp(most);
}

double fr_costs_draft(const fr_costs *c, int drafts) {
    if (drafts == 0 || !c->drafts) return 0.0;
    return exp(c->mean[FR_COST_FIRST_DRAFT]) + (drafts - 1) * exp(c->mean[FR_COST_NEXT_DRAFT]);
}

double fr_costs_cautious(const fr_costs *c, int drafts) {
    double pass = fr_costs_pass(c, drafts + 1);
    if (drafts > 1) pass *= exp(sqrt(c->covariance[ratio_of(drafts + 1)][ratio_of(drafts + 1)]));
    return pass + fr_costs_draft(c, drafts);
}

double fr_costs_level(const fr_costs *c) {
    return c->timed ? exp(c->mean[FR_COST_LEVEL]) : 0.0;
}
