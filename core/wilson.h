/* The interval of a proportion, and the normal distribution that it needs: Wilson's score interval (1927), without continuity
 * correction. */
#ifndef FR_CORE_WILSON_H
#define FR_CORE_WILSON_H

#include <stdint.h>

typedef struct fr_interval {
    double low, high;
} fr_interval;

/* confidence: 0.95 for a 95 % interval. Without trials [0, 1]. */
fr_interval fr_wilson(uint64_t successes, uint64_t trials, double confidence);
fr_interval fr_wilson95(uint64_t successes, uint64_t trials);

double fr_normal_cdf(double x);
/* Its inverse, to about 1e-15 relative; -inf and inf at 0 and 1. */
double fr_normal_quantile(double p);

#endif
