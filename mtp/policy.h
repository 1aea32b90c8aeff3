/* How many drafts a cycle makes: the number that promises most tokens a second (--mtp auto).
 *
 * A cycle with k drafts yields 1 + a1 + a1 a2 + ... + a1..ak tokens, where aj is the chance that draft j is accepted
 * given that those before it are, and costs a verify pass of k + 1 rows plus the drafting. Both sides are estimated online: aj
 * from the draft's own probability through a table that is corrected by what verification says (calibration), costs from measured
 * times (costs.h), starting from the bytes that each pass reads (for MoE the experts that k + 1 rows touch together).
 *
 * What keeps drafting from costing is a budget: what may still be lost, in passes of one row. Each cycle that drafts pays what it
 * costs and gets what it yields; tokens fill it slowly. A cycle makes no more drafts than the budget could bear if none were
 * accepted. So however wrong an estimate of acceptance is, time lost is a small share of the text's.
 *
 * The policy sees numbers only, no session and no clock, so that it can be simulated. Depth changes how fast tokens come,
 * never which (with coupled verification). */
#ifndef FR_MTP_POLICY_H
#define FR_MTP_POLICY_H

#include "mtp/costs.h"

enum { FR_POLICY_BINS = 12 }; /* of draft confidence, narrower towards 1 */

typedef struct fr_policy {
    bool adaptive; /* else always max_depth */
    int max_depth;
    bool blind; /* rejection sampling: whether a draft is dropped must not depend on which token it is */
    fr_costs costs;
    double predicted_cost; /* of a cycle with one draft, by the first guess, in passes of one row */
    /* Chance that a draft is accepted given its confidence, and the mean over drafts at each position. */
    double calibrated[FR_POLICY_BINS], mean[FR_MAX_DEPTH];
    int binned[FR_POLICY_BINS], reached[FR_MAX_DEPTH]; /* drafts that told; those before them were all accepted */
    /* What may still be lost. Costs that turn out otherwise are paid again for the cycles since it was last full, by drafts
     * verified; older ones count for less. */
    double budget, paid[FR_MAX_DEPTH + 1];
    /* Of cycles that drafted, lately: tokens; share by drafts verified; chained drafts. */
    double tokens, share[FR_MAX_DEPTH + 1], chained;
    int drafting_cycles;
    bool recalled;   /* costs were known before the first cycle (learned.h) */
    bool off;        /* drafting does not pay, as far as is known: single drafts now and then, as the budget allows */
    int explore;     /* drafts that this cycle makes whatever it thinks of them, to learn what that costs; 0: none */
    int most;        /* drafts of this cycle */
    int since_plain; /* cycles since one without drafts was made */
    int cycles_on;
    uint64_t cycles, probes, switches, off_cycles;
} fr_policy;

/* ratio [FR_MAX_DEPTH + 1]: bytes of a pass of 1 .. 8 rows over those of one row; draft_first and draft_next likewise. The
 * first guess of costs, in passes of one row. */
void fr_policy_init(fr_policy *policy, bool adaptive, int max_depth, const double *ratio, double draft_first, double draft_next);

/* Before a cycle: the most drafts it should make, at most `limit`; 0: none. */
int fr_policy_plan(fr_policy *policy, int limit);
/* Between drafts: whether one more is worth making, given those that the cycle has made. */
bool fr_policy_go_on(const fr_policy *policy, const fr_cycle *cycle);
/* After drafting: how many of the drafts made are worth verifying. */
int fr_policy_keep(const fr_policy *policy, const fr_cycle *cycle);
/* After a cycle: learns from its drafts and its times. */
void fr_policy_observe(fr_policy *policy, const fr_cycle *cycle);

/* The estimates as the public header names them. */
void fr_policy_describe(const fr_policy *policy, fr_policy_info *out);

#endif
