/* The statistics that the studies quote. One definition of each, so that two figures can be compared.
 *
 *  - Quantiles: linear interpolation between order statistics, position q (n - 1) counted from 0 (type 7 of Hyndman and Fan
 *    1996; the default of R and numpy).
 *  - Intervals of proportions: core/wilson.h.
 *  - Bootstrap: resampling of whole units (prompts, or pairs of measurements of one prompt) with replacement; percentile or BCa
 *    (Efron 1987). The numbers that choose are counter-based, so that an interval is a function of data and seed.
 *  - Calibration: bins of equal width; the expected calibration error is the mean over bins of |rate - mean confidence|,
 *    weighted by their counts (Guo et al. 2017). */
#ifndef FR_STUDY_STATISTICS_H
#define FR_STUDY_STATISTICS_H

#include "core/status.h"
#include "core/wilson.h"

/* ---- Of samples ---- */

void fr_sort(double *samples, size_t count); /* ascending; no NaN */
/* q in [0, 1]; count >= 1. */
double fr_quantile(const double *sorted, size_t count, double q);
double fr_mean(const double *samples, size_t count); /* 0 of none */
double fr_median(double *samples, size_t count);     /* sorts them; 0 of none */

/* ---- Bootstrap ---- */

enum { FR_BOOTSTRAP_RESAMPLES = 10000 }; /* unless told otherwise */

typedef enum fr_bootstrap_method { FR_BOOTSTRAP_BCA = 0, FR_BOOTSTRAP_PERCENTILE } fr_bootstrap_method;

typedef struct fr_bootstrap_options {
    fr_bootstrap_method method;
    int resamples;     /* 0: FR_BOOTSTRAP_RESAMPLES */
    double confidence; /* 0: 0.95 */
    uint64_t seed;
} fr_bootstrap_options;

/* The statistic of the units picked [count], indices that may repeat. For a paired comparison a unit is a pair. Must be
 * finite for every resample; count may be one fewer than there are units (BCa's jackknife). May be called with the
 * units in any order. */
typedef double (*fr_statistic_fn)(void *user, const uint32_t *picked, size_t count);

typedef struct fr_bootstrap {
    double estimate; /* of all units, once each */
    fr_interval interval;
    double standard_error;  /* standard deviation of the resampled statistic */
    double bias_correction; /* BCa's z0 and a; 0 for percentile */
    double acceleration;
} fr_bootstrap;

/* units >= 1; of a single unit the interval is the estimate itself, which says nothing: callers show that there was
 * one. options may be NULL. Errors: no memory, no units, a statistic that is not finite. */
fr_status fr_bootstrap_interval(size_t units, fr_statistic_fn fn, void *user, const fr_bootstrap_options *options,
                                fr_bootstrap *out, fr_error *error);

/* Statistics that studies share, for `user`s of these types. */
typedef struct fr_ratio_units {
    const double *over, *under; /* [units]: the statistic is sum over / sum under, 0 if nothing is under */
} fr_ratio_units;
double fr_statistic_ratio(void *user, const uint32_t *picked, size_t count); /* user: fr_ratio_units */
/* Mean and median of `values` [units], picked into `scratch` [units]. */
typedef struct fr_value_units {
    const double *values;
    double *scratch;
} fr_value_units;
double fr_statistic_mean(void *user, const uint32_t *picked, size_t count);   /* user: fr_value_units; scratch unused */
double fr_statistic_median(void *user, const uint32_t *picked, size_t count); /* user: fr_value_units */

/* ---- Calibration ---- */

enum { FR_CALIBRATION_BINS = 10 }; /* [0, 0.1), ..., [0.9, 1] */

typedef struct fr_calibration {
    uint64_t count[FR_CALIBRATION_BINS], happened[FR_CALIBRATION_BINS];
    double confidence[FR_CALIBRATION_BINS]; /* summed */
} fr_calibration;

void fr_calibration_add(fr_calibration *calibration, double confidence, bool happened);
/* 0 when nothing was added. */
double fr_calibration_error(const fr_calibration *calibration);

#endif
