/* From texts to figures. A figure of an arm is over its texts; what compares arms is over prompts, each a ratio of what the two
 * arms did with the same prompt in the same turns. Private to study/. */
#ifndef FR_STUDY_AB_FIGURES_H
#define FR_STUDY_AB_FIGURES_H

#include "study/ab/run.h"
#include "study/statistics.h"

typedef struct fr_ab_quantiles {
    size_t samples;
    double p05, p50, p90, p95, p99; /* NaN without samples */
} fr_ab_quantiles;

typedef struct fr_ab_figures {
    fr_ab_quantiles decode_rate, prefill_rate; /* tokens a second, by text */
    fr_ab_quantiles tpot_ms, ttft_ms;          /* by text */
    fr_ab_quantiles token_ms, cycle_ms;        /* by token, by cycle */
    uint64_t tokens;
    double energy_j_per_token; /* NaN: unknown */
    fr_stats stats;
} fr_ab_figures;

/* Tokens a second that a column decoded of a prompt, over its whole turns; of one turn alone if repeat >= 0. NaN: none. */
double fr_ab_rate(const fr_ab_run *run, size_t prompt, int repeat, int column);
fr_status fr_ab_figures_of(const fr_ab_run *run, int column, fr_ab_figures *out, fr_error *error);

/* Accepted drafts of a column: of those drafted, of those reached, or at one position of the cycles that drafted. */
typedef enum fr_ab_share { FR_AB_OF_DRAFTED, FR_AB_OF_REACHED, FR_AB_OF_CYCLES } fr_ab_share;
/* position: from 0, read for FR_AB_OF_CYCLES. */
fr_status fr_ab_acceptance(const fr_ab_run *run, int column, fr_ab_share of, int position, fr_estimated *out, fr_error *error);

typedef struct fr_ab_comparison {
    size_t units; /* prompts; pairs if there was one prompt */
    bool by_pair;
    size_t prompts, pairs;
    size_t slower, slower_beyond_noise; /* units */
    double spread;                      /* p95 - p05 of the units */
    /* Of rate / the compared arm's rate: over units, */
    fr_estimated median, geometric_mean, mean;
    fr_estimated total; /* and of all units' tokens and seconds together, in which long texts weigh more */
} fr_ab_comparison;

/* unit_noise: how far from 1 the ratio of equals may be for a single unit; only for slower_beyond_noise. */
fr_status fr_ab_compare_columns(const fr_ab_run *run, int column, double unit_noise, fr_ab_comparison *out, fr_error *error);

/* How far from 1 the ratio of equals may be with this machine at this time: the farther end of its interval. */
double fr_ab_resolution(const fr_ab_comparison *noise);

/* "faster" or "slower" if there is an interval, it leaves out 1 and the median is farther from 1 than equals are, else
 * "undecided". */
const char *fr_ab_verdict(fr_estimated median, double resolution);

/* How many texts differ from the compared arm's first text of their prompt, and the first place where one does. */
typedef struct fr_ab_difference {
    bool any;
    size_t texts, prompt;
    int repeat, column, position;
} fr_ab_difference;
/* Compares the whole texts of all columns. */
fr_ab_difference fr_ab_find_difference(const fr_ab_run *run);

#endif
