/* The record of a draft-then-verify cycle: the drafter, the policy, the statistics and the studies all go by it. */
#ifndef FR_MTP_DRAFTERS_CYCLE_H
#define FR_MTP_DRAFTERS_CYCLE_H

#include "forerun.h"

/* Invariant: accepted <= verified <= made <= planned <= FR_MAX_DEPTH. Draft j is for position length + j, so the cycle's tokens
 * are [length, length + accepted], each draft that was accepted and one of the main model's own. */
typedef struct fr_cycle {
    int length;                      /* tokens known when the cycle began */
    int planned;                     /* most drafts to make, says the policy */
    int made;                        /* drafts that the drafter made, */
    int verified;                    /* those of them that were worth a row of the pass, */
    int accepted;                    /* and those that the main model agreed with and that have text behind them */
    bool ended;                      /* the text ended with this cycle's last token */
    int32_t drafts[FR_MAX_DEPTH];    /* [made] */
    double confidence[FR_MAX_DEPTH]; /* [made]: the chance that the drafter gives its draft */
    /* [made]: what the policy goes by. With rejection sampling it was known before the draft was drawn, and is the same whichever
     * token came: a draft that is dropped for what it is would leave the other tokens too likely. Else it is `confidence`. */
    double foreseen[FR_MAX_DEPTH];

    double first_s, rest_s; /* part of draft_s: the first draft and all others; 0 from a drafter that looks drafts up */
    double catch_up_s;      /* part of draft_s: the drafter only reads what was committed */
    double draft_s, verify_s, sample_s, rollback_s; /* as in fr_stats */
    uint64_t catch_up_rows, draft_bytes, verify_bytes, unique_experts, chosen_experts;
} fr_cycle;

/* The drafts that count. A cycle that ends the text counts as if it had been planned to end there, as one at the limit of tokens
 * is: nothing is said of a draft for the text's last token or behind it, right or wrong. */
static inline int fr_cycle_drafted(const fr_cycle *cycle) {
    return cycle->ended ? cycle->accepted : cycle->verified;
}

#endif
