#include "mtp/policy.h"

#include <math.h>

enum { FIRST_PROBE = 8, LAST_PROBE = 64 }; /* cycles off before a look, doubled by each look that finds nothing */
enum { PLAIN_EVERY = 50 };                 /* cycles on between two without drafts */

void fr_policy_init(fr_policy *p, bool adaptive, int max_depth, const double *shape, double draft_first, double draft_next) {
    *p = (fr_policy){.adaptive = adaptive, .max_depth = max_depth, .draft_first = draft_first, .draft_next = draft_next,
                     .probe_after = FIRST_PROBE};
    for (int r = 0; r <= FR_MAX_DEPTH; r++) p->shape[r] = p->guess[r] = shape[r];
    for (int j = 0; j < FR_MAX_DEPTH; j++) p->mean[j] = 0.6;
    p->on_tokens = 1.6; /* a guess that a few cycles outweigh */
    p->on_cost = shape[1] + draft_first;
}

/* Bins halve the distance to 1: [0, 1/2), [1/2, 3/4), ... each cut in two. */
static int bin_of(double confidence) {
    double left = 1.0 - confidence;
    int bin = left <= 0x1p-6 ? FR_POLICY_BINS - 1 : (int)(-2.0 * log2(left));
    return bin < 0 ? 0 : bin < FR_POLICY_BINS ? bin : FR_POLICY_BINS - 1;
}

double fr_policy_acceptance(const fr_policy *p, double confidence) {
    /* The table holds corrections: an untouched bin believes the draft. */
    double chance = confidence + p->calibrated[bin_of(confidence)];
    return chance < 0.0 ? 0.0 : chance > 1.0 ? 1.0 : chance;
}

/* A pass of a size that was not made yet is guessed from the nearest smaller one that was. */
static double pass_cost(const fr_policy *p, int rows) {
    int known = rows;
    while (known > 1 && p->passes[known - 1] == 0) known--;
    double shape = p->shape[rows - 1];
    if (known < rows && known > 1 && p->guess[known - 1] > 1.0)
        shape = 1.0 + (p->guess[rows - 1] - 1.0) * (p->shape[known - 1] - 1.0) / (p->guess[known - 1] - 1.0);
    return p->level * shape;
}

/* Mean chance of a draft at position j; one that was rarely judged resembles the one before it. */
static double mean_chance(const fr_policy *p, int j) {
    if (j == 0 || p->judged[j] >= 20) return p->mean[j];
    double weight = p->judged[j] / 20.0;
    return weight * p->mean[j] + (1.0 - weight) * mean_chance(p, j - 1);
}

static double draft_cost(const fr_policy *p, int drafts) {
    return drafts == 0 ? 0.0 : p->draft_first + (drafts - 1) * p->draft_next;
}

int fr_policy_plan(fr_policy *p, int limit) {
    int most = p->max_depth < limit ? p->max_depth : limit;
    if (!p->adaptive || most == 0) return most;
    if (p->level <= 0.0) return 0; /* the first cycle says what a pass of one row costs */
    bool off = p->on_tokens < p->on_cost;
    if (off != p->off) {
        p->switches++;
        p->cycles_off = 0;
        p->probe_after = FIRST_PROBE;
        if (off && p->on_samples > 16) p->on_samples = 16; /* looks are rare, so each counts for more */
    }
    p->off = off;
    if (!off) return ++p->cycles_on % PLAIN_EVERY == 0 ? 0 : most; /* how far to go is decided draft by draft */
    if (++p->cycles_off < p->probe_after) return 0;
    p->cycles_off = 0;
    p->probes++;
    return 1;
}

bool fr_policy_go_on(const fr_policy *p, const double *confidence, int made) {
    if (made >= p->max_depth) return false;
    if (!p->adaptive) return true;
    double tokens = 1.0, reach = 1.0;
    for (int j = 0; j < made; j++) tokens += reach *= fr_policy_acceptance(p, confidence[j]);
    double rate = tokens / (pass_cost(p, made + 1) + draft_cost(p, made));
    for (int k = made + 1; k <= p->max_depth; k++) { /* is any deeper draft better than stopping here? */
        tokens += reach *= mean_chance(p, k - 1);
        if (tokens / (pass_cost(p, k + 1) + draft_cost(p, k)) > rate) return true;
    }
    return false;
}

int fr_policy_keep(const fr_policy *p, const double *confidence, int made) {
    if (!p->adaptive || p->off) return made; /* a probe is there to learn */
    double tokens = 1.0, reach = 1.0, drafting = draft_cost(p, made), best_rate = 1.0 / (pass_cost(p, 1) + drafting);
    int best = 0;
    for (int j = 0; j < made; j++) { /* the drafting is paid for; only the pass can still get smaller */
        tokens += reach *= fr_policy_acceptance(p, confidence[j]);
        double rate = tokens / (pass_cost(p, j + 2) + drafting);
        if (rate > best_rate) {
            best_rate = rate;
            best = j + 1;
        }
    }
    return best;
}

/* Moves an estimate towards a sample. */
static void lean(double *estimate, double sample, double weight) {
    *estimate += weight * (sample - *estimate);
}

static void observe_pass(fr_policy *p, int rows, double seconds) {
    if (p->level <= 0.0) {
        p->level = seconds / p->shape[rows - 1];
        p->draft_first *= p->level;
        p->draft_next *= p->level;
        p->passes[rows - 1]++;
        return;
    }
    double expected = pass_cost(p, rows), error = seconds / expected;
    error = error < 0.5 ? 0.5 : error > 2.0 ? 2.0 : error; /* one late pass on a busy machine is not a trend */
    if (rows == 1) p->level *= pow(error, 0.3);
    else p->shape[rows - 1] = expected / p->level * pow(error, p->passes[rows - 1] < 5 ? 0.4 : 0.15);
    p->passes[rows - 1]++;
}

void fr_policy_observe(fr_policy *p, const double *confidence, int made, int verified, int accepted, double first_s,
                       double rest_s, double verify_s) {
    observe_pass(p, verified + 1, verify_s);
    p->cycles++;
    if (made > 0) lean(&p->draft_first, fmin(first_s, 2.0 * p->draft_first), 0.2);
    if (made > 1) lean(&p->draft_next, fmin(rest_s / (made - 1), 2.0 * p->draft_next), 0.2);
    if (made > 0) {
        double weight = fmax(1.0 / (++p->on_samples + 4), 0.022);
        lean(&p->on_tokens, 1.0 + accepted, weight);
        lean(&p->on_cost, (pass_cost(p, verified + 1) + draft_cost(p, made)) / pass_cost(p, 1), weight);
        if (p->off && accepted > 0) p->cycles_off = p->probe_after - 1; /* promising: look again at once */
        else if (p->off && p->probe_after < LAST_PROBE) p->probe_after *= 2;
    }
    /* Draft j was judged if all before it stood. */
    for (int j = 0; j < verified && j <= accepted; j++) {
        double stood = j < accepted ? 1.0 : 0.0;
        lean(&p->mean[j], stood, fmax(1.0 / (++p->judged[j] + 2), 0.04));
        double *correction = &p->calibrated[bin_of(confidence[j])];
        lean(correction, stood - confidence[j], 0.05);
    }
}
