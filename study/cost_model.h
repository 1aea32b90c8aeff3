/* What drafting should bring, from what its parts cost. Numbers only: where they come from is the caller's matter.
 *
 * A cycle of k drafts costs one pass of k + 1 rows and k drafts, and gives 1 token and one more for each draft
 * accepted; without drafts a token costs a pass of one row. All costs are in one unit. */
#ifndef FR_STUDY_COST_MODEL_H
#define FR_STUDY_COST_MODEL_H

#include "core/status.h"

typedef struct fr_cost_model {
    double pass[FR_MAX_DEPTH + 1];  /* of 1 .. 8 rows; NaN: not known, and so are predictions that need it */
    double draft_first, draft_next; /* a cycle's first draft, each further one */
} fr_cost_model;

/* Cost of a cycle with k drafts. */
double fr_cost_cycle(const fr_cost_model *model, int k);
/* Tokens of a cycle with k drafts if each is accepted with the chance `acceptance`, given that those before it were. */
double fr_cost_tokens(double acceptance, int k);
/* Speedup of cycles with k drafts over none. */
double fr_cost_speedup(const fr_cost_model *model, int k, double acceptance);
/* The acceptance above which they are faster; NaN: even if all were accepted they would not be. */
double fr_cost_break_even(const fr_cost_model *model, int k);
/* What the cycles that were counted cost, and what their tokens would cost without drafts. The quotient of two sums of these,
 * over all texts, is a predicted ratio of total times. */
double fr_cost_of_cycles(const fr_cost_model *model, const fr_stats *stats);
double fr_cost_without_drafts(const fr_cost_model *model, const fr_stats *stats);

#endif
