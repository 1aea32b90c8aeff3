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

typedef struct fr_ab_comparison {
    size_t units; /* prompts; pairs if there was one prompt */
    bool by_pair;
    size_t prompts, pairs;
    size_t slower, slower_beyond_noise; /* units */
    double spread;                      /* p95 - p05 of the units */
    fr_bootstrap median, mean;          /* of rate / the compared arm's rate; NaN without units */
} fr_ab_comparison;

/* unit_noise: how far from 1 the ratio of equals may be for a single unit; only for slower_beyond_noise. */
fr_status fr_ab_compare_columns(const fr_ab_run *run, int column, double unit_noise, fr_ab_comparison *out, fr_error *error);

/* How far from 1 the ratio of equals may be with this machine at this time: the farther end of its interval. */
double fr_ab_resolution(const fr_ab_comparison *noise);

enum { FR_AB_LEAST_UNITS = 5 }; /* for a verdict: fewer have no interval of 95 % for their median */
/* "faster" or "slower" if there are units enough, the interval leaves out 1 and the median is farther from 1 than equals
 * are, else "undecided". */
const char *fr_ab_verdict(size_t units, double median, fr_interval interval, double resolution);

/* How many texts differ from the compared arm's first text of their prompt, and the first place where one does. */
typedef struct fr_ab_difference {
    bool any;
    size_t texts, prompt;
    int repeat, column, position;
} fr_ab_difference;
/* Compares the whole texts of all columns. */
fr_ab_difference fr_ab_find_difference(const fr_ab_run *run);

#endif
