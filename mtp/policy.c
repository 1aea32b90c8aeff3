#include "mtp/policy.h"

#include <assert.h>
#include <math.h>

/* In passes of one row: what a text may lose in the beginning, about one draft that is not accepted where rows are dear; what it
 * may lose after having won; and how much more with each token. */
static const double first_budget = 0.62, most_first_budget = 0.92, full_budget = 6.0, budget_a_token = 0.0125;
static const double plain_share = 0.01; /* of the time, for cycles without drafts, by which others are measured */
static const double steady = 0.04;      /* change of the level below which a pass can be compared with one some cycles ago */
static const double hysteresis = 0.01;  /* passes that a cycle must bring for drafting to begin again */
static const double lately = 0.015;     /* weight of a cycle in what cycles lately brought */
enum { FIRST_PLAIN = 2 };               /* cycles without drafts in the beginning */
enum { SELDOM = 64 };                   /* cycles from one without drafts, and from one that tries another depth, to the next */
enum { FORGET = 16 };                   /* cycles that a memory of better times counts for */

void fr_policy_init(fr_policy *p, bool adaptive, int max_depth, const double *ratio, double draft_first, double draft_next) {
    *p = (fr_policy){.adaptive = adaptive,
                     .max_depth = max_depth,
                     .predicted_cost = ratio[1] + draft_first,
                     .budget = fmin(fmax(first_budget, ratio[1] + draft_first - 1.0), most_first_budget),
                     .tokens = 1.6, /* a guess that a few cycles correct */
                     .share[1] = 1.0};
    fr_costs_init(&p->costs, ratio, draft_first, draft_next);
    for (int j = 0; j < FR_MAX_DEPTH; j++) p->mean[j] = 0.6;
}

static double pass_cost(const fr_policy *p, int rows) {
    return fr_costs_pass(&p->costs, rows);
}

static double draft_cost(const fr_policy *p, int drafts) {
    return fr_costs_draft(&p->costs, drafts);
}

/* ---- Acceptance ---- */

/* Bins halve the distance to 1: [0, 1/2), [1/2, 3/4), ... each cut in two. */
static int bin_of(double confidence) {
    double left = 1.0 - confidence;
    int bin = left <= 0x1p-6 ? FR_POLICY_BINS - 1 : (int)(-2.0 * log2(left));
    return bin < 0 ? 0 : bin < FR_POLICY_BINS ? bin : FR_POLICY_BINS - 1;
}

/* Chance that a draft of this confidence is accepted. */
static double chance_of(const fr_policy *p, double confidence) {
    /* The table holds corrections: an untouched bin believes the draft. */
    double chance = confidence + p->calibrated[bin_of(confidence)];
    return chance < 0.0 ? 0.0 : chance > 1.0 ? 1.0 : chance;
}

/* Mean chance of a draft at position j; one that was rarely reached resembles the one before it. */
static double mean_chance(const fr_policy *p, int j) {
    if (j == 0 || p->reached[j] >= 20) return p->mean[j];
    double weight = p->reached[j] / 20.0;
    return weight * p->mean[j] + (1.0 - weight) * mean_chance(p, j - 1);
}

/* ---- Planning ---- */

/* The most drafts whose loss, if none is accepted, the budget can bear. */
static int affordable(const fr_policy *p, int most) {
    while (most > 0 && fr_costs_cautious(&p->costs, most) - 1.0 > p->budget) most--;
    return most;
}

/* What drafting cycles lately cost, by what is known of costs now. */
static double lately_cost(const fr_policy *p) {
    double cost = draft_cost(p, 1) + p->chained * (draft_cost(p, 2) - draft_cost(p, 1));
    for (int k = 0; k <= FR_MAX_DEPTH; k++) cost += p->share[k] * pass_cost(p, k + 1);
    return cost;
}

/* Few cycles tell little: drafting is given up for what they brought only if chance alone would hardly bring so little. */
static bool does_not_pay(const fr_policy *p) {
    double margin = p->off ? hysteresis : -1.0 / sqrt(p->drafting_cycles + 1.0);
    return p->tokens < lately_cost(p) + margin;
}

static void switch_to(fr_policy *p, bool off) {
    if (off == p->off) return;
    p->switches++;
    p->off = off;
    if (!off) return;
    if (p->budget > first_budget) p->budget = first_budget;
    if (p->drafting_cycles > FORGET) p->drafting_cycles = FORGET;
}

/* Whether this cycle is to be one without drafts. The less drafting saves, the less that costs, and the more it matters to know
 * what a pass of one row takes. A text's first pass may be a slow one: then more rows would be as many times dearer. */
static bool plain_is_due(const fr_policy *p) {
    double cost = lately_cost(p), saved = 1.0 - cost / p->tokens;
    if (p->cycles == 0) return saved < cost - 1.0;
    if (p->since_plain > 0 && p->costs.drift > steady && !p->recalled) return true;
    return p->since_plain >= (int)fmin(fmax(saved / plain_share, 2.0), SELDOM);
}

/* A depth to try in this cycle, the deepest and the others in turn, or 0. */
static int exploration(const fr_policy *p, int depth) {
    if (p->drafting_cycles < FIRST_PLAIN) return 1;
    if (p->cycles_on % SELDOM != 0) return 0;
    int wanted = p->max_depth - p->cycles_on / SELDOM % p->max_depth;
    return wanted < depth ? wanted : depth;
}

int fr_policy_plan(fr_policy *p, int limit) {
    assert(limit >= 0 && limit <= FR_MAX_DEPTH);
    int most = p->max_depth < limit ? p->max_depth : limit;
    p->explore = p->most = 0;
    if (!p->adaptive || most == 0) return most;
    if (p->cycles < FIRST_PLAIN && !p->recalled) return 0;
    switch_to(p, does_not_pay(p));
    int depth = affordable(p, p->off ? 1 : most);
    if (depth == 0) p->off_cycles++;
    if (depth == 0 || plain_is_due(p)) return 0;
    p->most = depth;
    if (p->off) {
        p->probes++;
        return p->explore = 1;
    }
    p->cycles_on++; /* how far to go is decided draft by draft */
    p->explore = exploration(p, depth);
    return depth;
}

/* ---- Draft by draft ---- */

/* Tokens over time of a cycle that has `made` drafts, of which `rows - 1` are verified. */
static double rate_of(const fr_policy *p, double tokens, int rows, int made) {
    return tokens / (pass_cost(p, rows) + draft_cost(p, made));
}

/* Whether a chain that goes on behind its first `made` drafts is better anywhere than `rate`. */
static bool deeper_is_better(const fr_policy *p, int made, double tokens, double reach, double rate) {
    for (int k = made + 1; k <= p->most; k++) {
        tokens += reach *= mean_chance(p, k - 1);
        if (rate_of(p, tokens, k + 1, k) > rate) return true;
    }
    return false;
}

/* The drafts worth a row where all that were made are known. */
static int keep_best(const fr_policy *p, const fr_cycle *cycle) {
    double tokens = 1.0, reach = 1.0, best_rate = rate_of(p, 1.0, 1, cycle->made);
    int best = 0;
    for (int j = 0; j < cycle->made; j++) { /* the drafting is paid for; only the pass can still get smaller */
        tokens += reach *= chance_of(p, cycle->foreseen[j]);
        double rate = rate_of(p, tokens, j + 2, cycle->made);
        if (rate > best_rate) {
            best_rate = rate;
            best = j + 1;
        }
    }
    return best;
}

/* The same draft by draft, each judged by what was known before it was drawn: nothing here may look at foreseen[j + 1], which
 * depends on the token of draft j, or at how many drafts followed. */
static int keep_blind(const fr_policy *p, const fr_cycle *cycle) {
    double tokens = 1.0, reach = 1.0;
    for (int j = 0; j < cycle->made; j++) {
        double without = rate_of(p, tokens, j + 1, j + 1);
        tokens += reach *= chance_of(p, cycle->foreseen[j]);
        if (rate_of(p, tokens, j + 2, j + 1) <= without && !deeper_is_better(p, j + 1, tokens, reach, without)) return j;
    }
    return cycle->made;
}

int fr_policy_keep(const fr_policy *p, const fr_cycle *cycle) {
    if (!p->adaptive || p->off || p->explore > 0) return cycle->made; /* it is there to learn */
    return p->blind ? keep_blind(p, cycle) : keep_best(p, cycle);
}

bool fr_policy_go_on(const fr_policy *p, const fr_cycle *cycle) {
    int made = cycle->made;
    if (!p->adaptive) return made < p->max_depth;
    if (made >= p->most) return false;
    if (p->explore > 0) return made < p->explore;
    if (p->blind && fr_policy_keep(p, cycle) < made) return false; /* the last one is dropped, and all that would follow it */
    double tokens = 1.0, reach = 1.0;
    for (int j = 0; j < made; j++) tokens += reach *= chance_of(p, cycle->foreseen[j]);
    return deeper_is_better(p, made, tokens, reach, rate_of(p, tokens, made + 1, made));
}

/* ---- Learning ---- */

/* Moves an estimate towards a sample. */
static void lean(double *estimate, double sample, double weight) {
    *estimate += weight * (sample - *estimate);
}

/* What drafting brings; a cycle whose text was too short to show that tells nothing. */
static void observe_drafting(fr_policy *p, const fr_cycle *c) {
    double weight = fmax(1.0 / (++p->drafting_cycles + 4), lately), of_guess = fmax(1.0 / p->drafting_cycles, lately);
    lean(&p->tokens, 1.0 + c->accepted, weight);
    lean(&p->chained, c->made - 1, of_guess); /* the guess of costs is not one to keep */
    for (int k = 0; k <= FR_MAX_DEPTH; k++) lean(&p->share[k], k == c->verified, of_guess);
}

/* Pays for a cycle. repriced: what the cycles paid for since the budget was full cost more than was thought. */
static void pay(fr_policy *p, const fr_cycle *c, double repriced) {
    double full = p->off ? fmax(first_budget, pass_cost(p, 2) + draft_cost(p, 1) - 1.0 + budget_a_token) : full_budget;
    p->budget += budget_a_token * (1.0 + c->accepted) - repriced;
    if (c->made > 0) {
        p->budget += 1.0 + c->accepted - pass_cost(p, c->verified + 1) - draft_cost(p, c->made);
        for (int k = 0; k <= FR_MAX_DEPTH; k++) p->paid[k] *= 0.97;
        p->paid[c->verified] += 1.0;
    }
    if (p->budget < -first_budget) p->budget = -first_budget;
    if (p->budget <= full) return;
    p->budget = full;
    for (int k = 0; k <= FR_MAX_DEPTH; k++) p->paid[k] = 0.0;
}

/* Learns from the drafts that were reached: draft j was if all before it were accepted. */
static void observe_acceptance(fr_policy *p, const fr_cycle *c) {
    for (int j = 0; j < fr_cycle_drafted(c) && j <= c->accepted; j++) {
        double accepted = j < c->accepted ? 1.0 : 0.0;
        int bin = bin_of(c->foreseen[j]);
        lean(&p->mean[j], accepted, fmax(1.0 / (++p->reached[j] + 2), 0.02));
        lean(&p->calibrated[bin], accepted - c->foreseen[j], fmax(1.0 / (++p->binned[bin] + 6), 0.02));
    }
}

static double price(const fr_policy *p) {
    double sum = 0.0;
    for (int k = 0; k <= FR_MAX_DEPTH; k++) sum += p->paid[k] * pass_cost(p, k + 1);
    return sum;
}

void fr_policy_observe(fr_policy *p, const fr_cycle *c) {
    assert(c->accepted <= c->verified && c->verified <= c->made && c->made <= FR_MAX_DEPTH);
    double before = price(p);
    fr_costs_observe(&p->costs, c);
    p->cycles++;
    p->since_plain = c->verified > 0 ? p->since_plain + 1 : 0;
    pay(p, c, price(p) - before);
    if (c->made > 0 && fr_cycle_drafted(c) == c->verified) observe_drafting(p, c);
    observe_acceptance(p, c);
}

void fr_policy_describe(const fr_policy *p, fr_policy_info *out) {
    double level = fr_costs_level(&p->costs);
    *out = (fr_policy_info){.adaptive = p->adaptive,
                            .on = !p->off && p->max_depth > 0,
                            .max_depth = p->max_depth,
                            .tokens_per_cycle = p->tokens,
                            .cost_per_cycle = lately_cost(p),
                            .break_even_predicted = p->predicted_cost - 1.0,
                            .switches = p->switches,
                            .probes = p->probes,
                            .cycles_off = p->off_cycles};
    for (int j = 0; j < p->max_depth; j++) out->acceptance[j] = mean_chance(p, j);
    if (level <= 0.0) return;
    for (int r = 1; r <= p->max_depth + 1; r++) out->pass_s[r - 1] = level * pass_cost(p, r);
    out->draft_first_s = level * draft_cost(p, 1);
    out->draft_next_s = level * (draft_cost(p, 2) - draft_cost(p, 1));
    out->break_even_measured = pass_cost(p, 2) + draft_cost(p, 1) - 1.0;
}
