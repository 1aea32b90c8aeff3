#include "core/wilson.h"

#include <math.h>

double fr_normal_cdf(double x) {
    return 0.5 * erfc(-x * M_SQRT1_2);
}

double fr_normal_quantile(double p) {
    if (p <= 0.0) return -INFINITY;
    if (p >= 1.0) return INFINITY;
    if (p > 0.5) return -fr_normal_quantile(1.0 - p);
    /* Newton on log cdf, which is concave: from the left it climbs to the root without overshooting. For p <= 1/2 the
     * root lies above -sqrt(-2 log p), where cdf < p. */
    double x = -sqrt(-2.0 * log(p));
    for (int i = 0; i < 100; i++) {
        double cdf = fr_normal_cdf(x), density = exp(-0.5 * x * x) / sqrt(2.0 * M_PI);
        double step = log(p / cdf) * cdf / density;
        x += step;
        if (fabs(step) <= 1e-16 * fabs(x) || step == 0.0) break;
    }
    return x;
}

fr_interval fr_wilson(uint64_t successes, uint64_t trials, double confidence) {
    if (trials == 0) return (fr_interval){0.0, 1.0};
    double n = (double)trials, p = (double)successes / n, z = fr_normal_quantile(0.5 + 0.5 * confidence);
    double middle = p + z * z / (2.0 * n), half = z * sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n));
    double low = (middle - half) / (1.0 + z * z / n), high = (middle + half) / (1.0 + z * z / n);
    /* The formula gives these exactly; floating point misses them by an ulp. */
    if (successes == 0) low = 0.0;
    if (successes == trials) high = 1.0;
    return (fr_interval){low, high};
}

fr_interval fr_wilson95(uint64_t successes, uint64_t trials) {
    return fr_wilson(successes, trials, 0.95);
}
