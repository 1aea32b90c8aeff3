/* What passes and drafts cost, learned from their times: a Kalman filter over logarithms.
 *
 * A pass of r rows takes level * ratio[r] seconds, a draft level * ratio of its own. The level is the machine's speed and may
 * change at any time, above all in the first passes, whose weights are not in memory yet. Ratios are the machine's and the
 * network's and hardly change. So two times say something about a ratio only if they are near in time: that is what the filter
 * weighs, and what keeps slow first passes from making rows look free. Ratios that were not measured follow those that were, as a
 * power of the number of rows. */
#ifndef FR_MTP_COSTS_H
#define FR_MTP_COSTS_H

#include "mtp/drafters/cycle.h"

enum {
    FR_COST_LEVEL,                                     /* log of seconds */
    FR_COST_ROWS,                                      /* log of ratios of 2, 3, .. 8 rows to one */
    FR_COST_FIRST_DRAFT = FR_COST_ROWS + FR_MAX_DEPTH, /* log of a cycle's first draft to a pass of one row */
    FR_COST_NEXT_DRAFT,                                /* and of each further one */
    FR_COSTS,
};

typedef struct fr_costs {
    double mean[FR_COSTS], covariance[FR_COSTS][FR_COSTS];
    double drift; /* how much the level may change until the next cycle: what it has just done tells */
    bool timed;   /* the level was measured */
    bool drafts;  /* drafts have a price */
    int late[3];  /* times of passes, first drafts and next ones that were far too long, in a row */
} fr_costs;

/* ratio [FR_MAX_DEPTH + 1]: a first guess, in passes of one row; draft likewise, 0: none is known, as of a lookup. */
void fr_costs_init(fr_costs *costs, const double *ratio, double draft_first, double draft_next);
void fr_costs_observe(fr_costs *costs, const fr_cycle *cycle);

/* In passes of one row. */
double fr_costs_pass(const fr_costs *costs, int rows);
double fr_costs_draft(const fr_costs *costs, int drafts);
/* A cycle with so many verified drafts; of more than one draft that was seldom measured, rather too much than too little. */
double fr_costs_cautious(const fr_costs *costs, int drafts);
/* Seconds of a pass of one row; 0: not measured. */
double fr_costs_level(const fr_costs *costs);

#endif
