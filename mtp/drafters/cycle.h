/* The record of a draft-then-verify cycle: the drafter, the policy, the statistics and the studies all go by it. */
#ifndef FR_MTP_DRAFTERS_CYCLE_H
#define FR_MTP_DRAFTERS_CYCLE_H

#include "forerun.h"

/* Invariant: accepted <= verified <= made <= planned <= FR_MAX_DEPTH. Draft j is for position length + j. */
typedef struct fr_cycle {
    int length;                      /* tokens known when the cycle began */
    int planned;                     /* most drafts to make, says the policy */
    int made;                        /* drafts that the drafter made, */
    int verified;                    /* those of them that were worth a row of the pass, */
    int accepted;                    /* and those that the main model agreed with */
    int32_t drafts[FR_MAX_DEPTH];    /* [made] */
    double confidence[FR_MAX_DEPTH]; /* [made]: the chance that the drafter gives its draft */

    double first_s, rest_s; /* part of draft_s: the first draft and all others; 0 from a drafter that looks drafts up */
    double catch_up_s;      /* part of draft_s: the drafter only reads what was committed */
    double draft_s, verify_s, sample_s, rollback_s; /* as in fr_stats */
    uint64_t catch_up_rows, draft_bytes, verify_bytes, unique_experts, chosen_experts;
} fr_cycle;

#endif
