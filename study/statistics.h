/* The statistics that the studies quote. One definition of each, so that two figures can be compared.
 *
 *  - Quantiles: linear interpolation between order statistics, position q (n - 1) counted from 0 (type 7 of Hyndman and Fan
 *    1996; the default of R and numpy).
 *  - Intervals cover 95 %. They are over units, prompts as a rule: what belongs to one prompt hangs together, and an interval
 *    that took every draft for itself would be half as wide as the truth. How far an estimate may be off is seen from what
 *    leaving one unit out changes. The squares of these changes sum to its variance (the jackknife of Tukey 1958; its factor
 *    (n - 1) / n is for units that weigh the same, and makes intervals of few units of different size too narrow), and
 *    Student's t of n - 1 degrees says how many standard errors are 95 %.
 *      Ratios and means of speedups: so, on logarithms. Differences: so.
 *      Shares: Wilson's score interval (1927), with as many trials as would scatter that much.
 *      Medians: between order statistics (Hettmansperger and Sheather 1986), whatever the distribution is.
 *    tests/test_coverage.c simulates how often each holds the truth.
 *  - Calibration: bins of equal width; the expected calibration error is the mean over bins of |rate - mean confidence|,
 *    weighted by their counts (Guo et al. 2017). */
#ifndef FR_STUDY_STATISTICS_H
#define FR_STUDY_STATISTICS_H

#include "core/status.h"

/* ---- Of samples ---- */

void fr_sort(double *samples, size_t count); /* ascending; no NaN */
/* q in [0, 1]; count >= 1. */
double fr_quantile(const double *sorted, size_t count, double q);
double fr_mean(const double *samples, size_t count); /* 0 of none */
double fr_median(double *samples, size_t count);     /* sorts them; 0 of none */

/* ---- Estimates with their intervals ---- */

enum { FR_LEAST_UNITS = 5 }; /* of fewer there is no interval: they do not show how units differ */

typedef struct fr_interval {
    double low, high; /* NaN: there is none */
} fr_interval;

typedef struct fr_estimated {
    double value; /* NaN: of nothing */
    fr_interval interval;
} fr_estimated;

/* What is summed over units, each with `whole` > 0. */
typedef struct fr_sums {
    const double *part, *whole; /* [units]; whole NULL: 1 each */
} fr_sums;

/* Sum of the parts over sum of the wholes, where each part is a share of its whole: accepted of drafted. */
fr_estimated fr_estimate_share(fr_sums of, size_t units);
/* The same of b less the same of a, unit by unit. No interval where no unit differs from the others, as when a and b are the
 * same: that does not show how far other units might. */
fr_estimated fr_estimate_difference(fr_sums a, fr_sums b, size_t units);
/* The quotient of b's sums over that of a's: tokens a second over tokens a second, a ratio of total times if tokens are alike. */
fr_estimated fr_estimate_ratio(fr_sums a, fr_sums b, size_t units);
/* Of values > 0. */
fr_estimated fr_estimate_mean(const double *values, size_t units);
fr_estimated fr_estimate_geometric_mean(const double *logarithms, size_t units);
fr_estimated fr_estimate_median(double *values, size_t units); /* sorts them */

/* What |t| of Student's distribution is below with a chance of 95 %; degrees >= 1. */
double fr_student95(size_t degrees);

/* ---- Calibration ---- */

enum { FR_CALIBRATION_BINS = 10 }; /* [0, 0.1), ..., [0.9, 1] */

typedef struct fr_calibration {
    uint64_t count[FR_CALIBRATION_BINS], happened[FR_CALIBRATION_BINS];
    double confidence[FR_CALIBRATION_BINS]; /* summed */
} fr_calibration;

/* Adds all of `from` to `to`. */
void fr_calibration_merge(fr_calibration *to, const fr_calibration *from);
void fr_calibration_add(fr_calibration *calibration, double confidence, bool happened);
/* 0 when nothing was added. */
double fr_calibration_error(const fr_calibration *calibration);

#endif
