/* The cost model of a run: its own passes and drafts, and what they predict. Private to study/. */
#ifndef FR_STUDY_AB_COST_H
#define FR_STUDY_AB_COST_H

#include "study/ab/run.h"
#include "study/cost_model.h"

typedef struct fr_ab_costs {
    int rows; /* passes of 1 .. rows were measured */
    size_t probes;
    double pass_s[FR_MAX_DEPTH + 1];    /* medians; NaN: not measured */
    double over_one[FR_MAX_DEPTH + 1];  /* medians of ratios within a probe */
    double experts[FR_MAX_DEPTH + 1];   /* distinct ones a MoE layer, mean; NaN without MoE layers */
    double overlap;                     /* share of a token's experts that the token before chose too; NaN: unknown */
    double draft_first_s, draft_next_s; /* medians over texts; NaN without drafts */
    fr_cost_model measured;             /* in passes of one row */
    fr_cost_model bytes;                /* in bytes of weights read: what decides on a machine that only waits for memory */
} fr_ab_costs;

fr_status fr_ab_costs_of(const fr_ab_run *run, fr_ab_costs *out, fr_error *error);

#endif
