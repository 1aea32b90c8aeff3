/* How many drafts a cycle makes: the number that promises most tokens a second (--mtp auto).
 *
 * A cycle with k drafts yields 1 + a1 + a1 a2 + ... + a1..ak tokens, where aj is the chance that draft j is accepted
 * given that those before it are, and costs a verify pass of k + 1 rows plus the drafting. Both sides are estimated online: aj
 * from the draft's own probability through a table that is corrected by what verification says (calibration), costs from measured
 * times, starting from the bytes that each pass reads (for MoE the experts that k + 1 rows touch together).
 *
 * Measured times are disturbed by whatever else the machine does. So an estimate follows the middle one of its last three
 * deviations, and that no further than by half: one late pass moves nothing, a change that lasts is followed.
 *
 * The policy sees numbers only, no session and no clock, so that it can be simulated. Depth changes how fast tokens come,
 * never which (with coupled verification). */
#ifndef FR_MTP_POLICY_H
#define FR_MTP_POLICY_H

#include "mtp/drafters/cycle.h"

enum { FR_POLICY_BINS = 12 }; /* of draft confidence, narrower towards 1 */

/* A time that is measured again and again. */
typedef struct fr_estimate {
    double value;   /* 0: unknown */
    double last[2]; /* log of measured / expected, of the last two times */
    int samples;
} fr_estimate;

typedef struct fr_policy {
    bool adaptive; /* else always max_depth */
    int max_depth;
    bool blind; /* rejection sampling: whether a draft is dropped must not depend on which token it is */
    /* Costs in seconds. A pass of r rows is estimated as level * ratio[r - 1]; ratio[0] is 1. Passes of one row are made now
     * and then while drafting is on, too: without them nobody knows what drafting is to be compared with. */
    double level, ratio[FR_MAX_DEPTH + 1], guess[FR_MAX_DEPTH + 1];
    fr_estimate passes[FR_MAX_DEPTH + 1]; /* by rows; what they estimate are level and ratio */
    fr_estimate draft_first, draft_next;  /* a cycle's first draft (it reads committed rows too), and each chained one; in
                                             passes of one row until the first pass was measured */
    double predicted_cost;                /* of a cycle with one draft, by the first guess, in passes of one row */
    /* Chance that a draft is accepted given its confidence, and the mean over drafts at each position. */
    double calibrated[FR_POLICY_BINS], mean[FR_MAX_DEPTH];
    int reached[FR_MAX_DEPTH]; /* drafts by position, whose predecessors were all accepted */
    /* What cycles that drafted have lately brought: tokens, and cost in passes of one row. Drafting is on while it brings
     * more than one token a pass; while it is off, single drafts now and then (probes) keep these up to date, rarely enough to
     * cost about a hundredth. */
    double on_tokens, on_cost;
    int on_samples;
    bool off;
    int explore; /* drafts that this cycle makes whatever it thinks of them, to learn what that costs; 0: none */
    int cycles_off, probe_after, cycles_on;
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
