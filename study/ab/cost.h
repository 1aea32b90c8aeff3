/* The cost model of a run: its own passes and drafts, and what they predict. Private to study/. */
#ifndef FR_STUDY_AB_COST_H
#define FR_STUDY_AB_COST_H

#include "study/ab/run.h"
#include "study/cost_model.h"

typedef struct fr_ab_costs {
    int rows; /* passes of 1 .. rows were measured */
    size_t probes;
    double pass_s[FR_MAX_DEPTH + 1];    /* means, weighed by the tokens of texts; NaN: not measured */
    double over_one[FR_MAX_DEPTH + 1];  /* over a pass of one row */
    double experts[FR_MAX_DEPTH + 1];   /* distinct ones a MoE layer, mean; NaN without MoE layers */
    double overlap;                     /* share of a token's experts that the token before chose too; NaN: unknown */
    double draft_first_s, draft_next_s; /* means; NaN without drafts */
    fr_cost_model measured;             /* in passes of one row */
    fr_cost_model bytes;                /* in bytes of weights read: what decides on a machine that only waits for memory */
} fr_ab_costs;

void fr_ab_costs_of(const fr_ab_run *run, fr_ab_costs *out);

/* The speedup that a column's cycles should bring over no drafts: a ratio of total times, as fr_ab_comparison's `total` is the
 * measured one. Each turn costs what its own passes did. NaN: a cycle was of a kind that was not measured. */
double fr_ab_predict(const fr_ab_run *run, const fr_ab_costs *costs, int column);
double fr_ab_predict_by_bytes(const fr_ab_run *run, const fr_ab_costs *costs, int column);

#endif
