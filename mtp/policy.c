#include "mtp/policy.h"

#include <assert.h>
#include <math.h>

enum { FIRST_PROBE = 16, RAREST_PROBE = 256 }; /* cycles off before a look, doubled by each look that finds nothing */
enum { PLAIN_EVERY = 50 };                     /* cycles on between two without drafts */
enum { EXPLORE_EVERY = 64 };                   /* cycles on between two that try another depth; more often in the beginning */
enum { KNOWN = 3 };                            /* measurements from which an estimate is more than a guess */
enum { SETTLED = 20 };                         /* and from which it changes slowly */
static const double probe_share = 0.015;       /* of the time, for looks that find nothing */
static const double hysteresis = 1.01;         /* gain that it takes to begin again */

void fr_policy_init(fr_policy *p, bool adaptive, int max_depth, const double *ratio, double draft_first, double draft_next) {
    *p = (fr_policy){.adaptive = adaptive,
                     .max_depth = max_depth,
                     .draft_first.value = draft_first,
                     .draft_next.value = draft_next,
                     .probe_after = FIRST_PROBE};
    for (int r = 0; r <= FR_MAX_DEPTH; r++) p->ratio[r] = p->guess[r] = ratio[r];
    for (int j = 0; j < FR_MAX_DEPTH; j++) p->mean[j] = 0.6;
    p->on_tokens = 1.6; /* a guess that a few cycles correct */
    p->on_cost = p->predicted_cost = ratio[1] + draft_first;
}

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

/* A pass of a size that was not made yet is guessed from those that were: the first guess, scaled to what came out for the
 * nearest smaller one, or between two on the line from one to the other. */
static double pass_cost(const fr_policy *p, int rows) {
    int known = rows, above = rows;
    while (known > 1 && p->passes[known - 1].samples < KNOWN) known--;
    while (above < FR_MAX_DEPTH + 1 && p->passes[above - 1].samples < KNOWN) above++;
    double ratio = p->ratio[rows - 1], low = p->ratio[known - 1];
    if (known < rows && p->passes[above - 1].samples >= KNOWN)
        ratio = low + (p->ratio[above - 1] - low) * (rows - known) / (above - known);
    else if (known < rows && known > 1 && p->guess[known - 1] > 1.0)
        ratio = 1.0 + (p->guess[rows - 1] - 1.0) * (low - 1.0) / (p->guess[known - 1] - 1.0);
    return p->level * ratio;
}

/* Mean chance of a draft at position j; one that was rarely reached resembles the one before it. */
static double mean_chance(const fr_policy *p, int j) {
    if (j == 0 || p->reached[j] >= 20) return p->mean[j];
    double weight = p->reached[j] / 20.0;
    return weight * p->mean[j] + (1.0 - weight) * mean_chance(p, j - 1);
}

static double draft_cost(const fr_policy *p, int drafts) {
    return drafts == 0 ? 0.0 : p->draft_first.value + (drafts - 1) * p->draft_next.value;
}

/* The most cycles between two looks: as many as make their cost a small share. */
static int rarest_probe(const fr_policy *p) {
    double cost = (pass_cost(p, 2) + draft_cost(p, 1)) / pass_cost(p, 1) - 1.0;
    return (int)fmin(fmax(cost / probe_share, FIRST_PROBE), RAREST_PROBE);
}

/* A depth to try in this cycle, the deepest and the others in turn, or 0. */
static int exploration(const fr_policy *p) {
    int cycle = p->cycles_on, often = cycle < EXPLORE_EVERY ? EXPLORE_EVERY / 8 : EXPLORE_EVERY;
    if (p->max_depth < 2 || cycle % often != 0) return 0;
    return p->max_depth - cycle / often % (p->max_depth - 1);
}

int fr_policy_plan(fr_policy *p, int limit) {
    assert(limit >= 0 && limit <= FR_MAX_DEPTH);
    p->explore = 0;
    int most = p->max_depth < limit ? p->max_depth : limit;
    if (!p->adaptive || most == 0) return most;
    if (p->level <= 0.0) return 0; /* the first cycle says what a pass of one row costs */
    bool off = p->on_tokens < p->on_cost * (p->off ? hysteresis : 1.0);
    if (off != p->off) {
        p->switches++;
        p->cycles_off = 0;
        p->probe_after = FIRST_PROBE;
        if (off && p->on_samples > 16) p->on_samples = 16;
    }
    p->off = off;
    if (!off) { /* how far to go is decided draft by draft */
        p->cycles_on++;
        p->explore = exploration(p);
        return p->cycles_on % PLAIN_EVERY == 0 ? 0 : most;
    }
    p->off_cycles++;
    if (++p->cycles_off < p->probe_after) return 0;
    p->cycles_off = 0;
    p->probes++;
    return 1;
}

/* Tokens over time of a cycle that has `made` drafts, of which `rows - 1` are verified. */
static double rate_of(const fr_policy *p, double tokens, int rows, int made) {
    return tokens / (pass_cost(p, rows) + draft_cost(p, made));
}

/* Whether a chain that goes on behind its first `made` drafts is better anywhere than `rate`. */
static bool deeper_is_better(const fr_policy *p, int made, double tokens, double reach, double rate) {
    for (int k = made + 1; k <= p->max_depth; k++) {
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
    if (made >= p->max_depth) return false;
    if (!p->adaptive) return true;
    if (p->explore > 0) return made < p->explore;
    if (p->blind && fr_policy_keep(p, cycle) < made) return false; /* the last one falls, and what would follow it */
    double tokens = 1.0, reach = 1.0;
    for (int j = 0; j < made; j++) tokens += reach *= chance_of(p, cycle->foreseen[j]);
    return deeper_is_better(p, made, tokens, reach, rate_of(p, tokens, made + 1, made));
}

/* Moves an estimate towards a sample. */
static void lean(double *estimate, double sample, double weight) {
    *estimate += weight * (sample - *estimate);
}

static double middle(double a, double b, double c) {
    return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

/* How far (log of a factor) a measured time lies from the expected one, for all that is known. */
static double deviation(fr_estimate *e, double measured, double expected) {
    const double most = log(1.5);
    double now = fmin(fmax(log(measured / expected), -most), most), before = e->last[0], first = e->last[1];
    e->last[1] = before;
    e->last[0] = now;
    switch (e->samples++) {
    case 0:
        return now;
    case 1:
        return fabs(now) < fabs(before) ? now : before;
    default:
        return middle(now, before, first);
    }
}

static void observe_draft(fr_estimate *e, double seconds) {
    const double shortest = 1e-9; /* of a clock that saw nothing pass */
    seconds = fmax(seconds, shortest);
    if (e->value <= 0.0) e->value = seconds; /* nothing was known, as of a lookup */
    e->value *= exp((e->samples < 5 ? 0.5 : 0.2) * deviation(e, seconds, e->value));
}

static void observe_pass(fr_policy *p, int rows, double seconds) {
    fr_estimate *e = &p->passes[rows - 1];
    if (p->level <= 0.0) {
        p->level = seconds / p->ratio[rows - 1];
        p->draft_first.value *= p->level;
        p->draft_next.value *= p->level;
        e->samples++;
        return;
    }
    double expected = pass_cost(p, rows), by = deviation(e, seconds, expected);
    if (rows == 1) {
        p->level *= exp(0.3 * by);
        return;
    }
    /* How a pass compares to one of one row changes slowly; the machine's speed does not. */
    double settled = e->samples > SETTLED ? 0.1 : 0.0;
    p->level *= exp(settled * by);
    p->ratio[rows - 1] = expected / p->level * exp(fmax(1.0 / e->samples, 0.15) * by);
    if (p->ratio[rows - 1] < 1.0) { /* more rows never cost less: then it is one row that costs less than was thought */
        p->level *= p->ratio[rows - 1];
        p->ratio[rows - 1] = 1.0;
    }
}

/* What a cycle that drafted brought and cost, and when the next look is due while drafting is off. */
static void observe_drafting(fr_policy *p, const fr_cycle *c) {
    double weight = fmax(1.0 / (++p->on_samples + 4), p->off ? 0.05 : 0.01); /* looks are rare: each counts for more */
    lean(&p->on_tokens, 1.0 + c->accepted, weight);
    lean(&p->on_cost, (pass_cost(p, c->verified + 1) + draft_cost(p, c->made)) / pass_cost(p, 1),
         fmax(1.0 / (p->on_samples + 1), 0.01));
    if (p->off && c->accepted > 0)
        p->cycles_off = p->probe_after - 1; /* promising: look again at once */
    else if (p->off && p->probe_after < rarest_probe(p))
        p->probe_after *= 2;
}

/* Learns from the drafts that were reached: draft j was if all before it were accepted. */
static void observe_acceptance(fr_policy *p, const fr_cycle *c) {
    for (int j = 0; j < fr_cycle_drafted(c) && j <= c->accepted; j++) {
        double accepted = j < c->accepted ? 1.0 : 0.0;
        lean(&p->mean[j], accepted, fmax(1.0 / (++p->reached[j] + 2), 0.04));
        lean(&p->calibrated[bin_of(c->foreseen[j])], accepted - c->foreseen[j], 0.05);
    }
}

void fr_policy_observe(fr_policy *p, const fr_cycle *c) {
    assert(c->accepted <= c->verified && c->verified <= c->made && c->made <= FR_MAX_DEPTH);
    observe_pass(p, c->verified + 1, c->verify_s + c->sample_s);
    p->cycles++;
    if (c->made > 0) observe_draft(&p->draft_first, c->first_s);
    if (c->made > 1) observe_draft(&p->draft_next, c->rest_s / (c->made - 1));
    bool cut = fr_cycle_drafted(c) < c->verified; /* the text was too short to show what the drafts were worth */
    if (c->made > 0 && !cut)
        observe_drafting(p, c);
    else if (c->made == 0 && p->off && p->cycles_off == 0)
        p->cycles_off = p->probe_after - 1; /* a look at nothing: there was no draft to be had */
    observe_acceptance(p, c);
}

void fr_policy_describe(const fr_policy *p, fr_policy_info *out) {
    *out = (fr_policy_info){.adaptive = p->adaptive,
                            .on = !p->off && p->max_depth > 0,
                            .max_depth = p->max_depth,
                            .tokens_per_cycle = p->on_tokens,
                            .cost_per_cycle = p->on_cost,
                            .break_even_predicted = p->predicted_cost - 1.0,
                            .switches = p->switches,
                            .probes = p->probes,
                            .cycles_off = p->off_cycles};
    for (int j = 0; j < p->max_depth; j++) out->acceptance[j] = mean_chance(p, j);
    if (p->level <= 0.0) return;
    for (int r = 1; r <= p->max_depth + 1; r++) out->pass_s[r - 1] = pass_cost(p, r);
    out->draft_first_s = p->draft_first.value;
    out->draft_next_s = p->draft_next.value;
    out->break_even_measured = (pass_cost(p, 2) + draft_cost(p, 1)) / pass_cost(p, 1) - 1.0;
}
