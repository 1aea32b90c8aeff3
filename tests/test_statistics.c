/* The studies' statistics, against published values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "forerun_study.h"
#include "study/bench/bench.h"
#include "study/statistics.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

static void near(double actual, double expected, double tolerance) {
    if (fabs(actual - expected) <= tolerance) return;
    fail_msg("%.17g, expected %.17g within %g", actual, expected, tolerance);
}

/* ---- Quantiles ---- */

/* quantile(c(2.5, -1, 7, 3.25, 10, 0.5, 4), type = 7) by its definition (Hyndman and Fan 1996): h = (n - 1) q, 6 q
 * here. */
static void quantiles_are_type_7(void **state) {
    (void)state;
    double x[] = {2.5, -1, 7, 3.25, 10, 0.5, 4};
    fr_sort(x, 7);
    near(fr_quantile(x, 7, 0.0), -1, 0);
    near(fr_quantile(x, 7, 0.05), -0.55, 1e-15);
    near(fr_quantile(x, 7, 0.25), 1.5, 0);
    near(fr_quantile(x, 7, 0.5), 3.25, 0);
    near(fr_quantile(x, 7, 0.9), 8.2, 1e-14);
    near(fr_quantile(x, 7, 1.0), 10, 0);
    near(fr_quantile(x, 1, 0.9), -1, 0);
    double even[] = {4, 1, 3, 2};
    near(fr_median(even, 4), 2.5, 0);
    near(fr_median(even, 0), 0, 0);
    near(fr_mean(even, 4), 2.5, 0);
}

static void figures_of_the_bench_use_them(void **state) {
    (void)state;
    double x[] = {2.5, -1, 7, 3.25, 10, 0.5, 4}, y[LENGTH(x)];
    memcpy(y, x, sizeof x);
    fr_sort(y, LENGTH(y));
    fr_figure figure = fr_figure_of(x, LENGTH(x));
    near(figure.p10, fr_quantile(y, LENGTH(y), 0.1), 0);
    near(figure.median, 3.25, 0);
    near(figure.p90, 8.2, 1e-14);
    assert_int_equal(figure.samples, 7);
}

/* ---- The normal distribution ---- */

/* Tables of the normal distribution (Abramowitz and Stegun 26.2), to more digits from Python's statistics.NormalDist. */
static void normal_quantiles_invert_the_distribution(void **state) {
    (void)state;
    static const double table[][2] = {{1e-300, -37.0470962993612},  {1e-10, -6.361340902404056}, {0.001, -3.090232306167813},
                                      {0.025, -1.9599639845400545}, {0.2, -0.8416212335729142},  {0.5, 0.0},
                                      {0.975, 1.959963984540054},   {0.9999, 3.7190164854557084}};
    for (size_t i = 0; i < LENGTH(table); i++) {
        near(fr_normal_quantile(table[i][0]), table[i][1], 4e-13 * fmax(1.0, fabs(table[i][1])));
        if (table[i][0] > 1e-11) near(fr_normal_cdf(table[i][1]), table[i][0], 1e-14);
    }
    assert_true(isinf(fr_normal_quantile(0.0)) && isinf(fr_normal_quantile(1.0)));
}

/* ---- Wilson ---- */

/* Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3 (Wilson's score interval): four examples. */
static void wilson_gives_newcombes_examples(void **state) {
    (void)state;
    static const struct {
        uint64_t successes, trials;
        double low, high;
    } published[] = {{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0.0000, 0.1611}, {1, 29, 0.0061, 0.1718}};
    for (size_t i = 0; i < LENGTH(published); i++) {
        fr_interval interval = fr_wilson95(published[i].successes, published[i].trials);
        near(interval.low, published[i].low, 0.00005);
        near(interval.high, published[i].high, 0.00005);
        fr_interval mirrored = fr_wilson95(published[i].trials - published[i].successes, published[i].trials);
        near(mirrored.low, 1.0 - interval.high, 1e-15);
        near(mirrored.high, 1.0 - interval.low, 1e-15);
    }
}

/* The interval is the set of p that the score test does not refuse: at its ends |p^ - p| = z sqrt(p (1 - p) / n). */
static void wilson_inverts_the_score_test(void **state) {
    (void)state;
    for (uint64_t n = 1; n < 200; n = n * 2 + 1)
        for (uint64_t k = 0; k <= n; k++) {
            fr_interval interval = fr_wilson(k, n, 0.9);
            double rate = (double)k / (double)n, z = fr_normal_quantile(0.95);
            assert_true(interval.low >= 0.0 && interval.low <= rate && rate <= interval.high && interval.high <= 1.0);
            near(rate - interval.low, z * sqrt(interval.low * (1 - interval.low) / (double)n), 1e-12);
            near(interval.high - rate, z * sqrt(interval.high * (1 - interval.high) / (double)n), 1e-12);
        }
    fr_interval nothing = fr_wilson95(0, 0);
    assert_true(nothing.low == 0.0 && nothing.high == 1.0);
}

/* ---- Bootstrap ---- */

/* Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 14: spatial test A of 26 children, and the
 * plug-in estimate of its variance. Published: 171.5, a = 0.061, 90 % intervals BCa (115.8, 259.6) and percentile
 * (100.8, 233.9), each of 2000 resamples. */
static const double spatial[] = {48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6,
                                 0,  33, 28, 34, 4,  32, 24, 47, 41, 24, 26, 30, 41};

static double variance(void *user, const uint32_t *picked, size_t count) {
    const double *values = user;
    double mean = 0.0, squares = 0.0;
    for (size_t i = 0; i < count; i++) mean += values[picked[i]] / (double)count;
    for (size_t i = 0; i < count; i++) squares += (values[picked[i]] - mean) * (values[picked[i]] - mean);
    return squares / (double)count;
}

static void bca_gives_the_published_interval(void **state) {
    (void)state;
    double values[LENGTH(spatial)];
    memcpy(values, spatial, sizeof spatial);
    fr_bootstrap_options options = {.confidence = 0.9, .resamples = 100000, .seed = 1};
    fr_bootstrap bca, percentile;
    assert_int_equal(fr_bootstrap_interval(26, variance, values, &options, &bca, NULL), FR_OK);
    near(bca.estimate, 171.5, 0.05);
    near(bca.acceleration, 0.061, 0.0005);
    near(bca.bias_correction, 0.146, 0.05); /* published from 2000 resamples: a standard error of 0.03 */
    near(bca.interval.low, 115.8, 3);
    near(bca.interval.high, 259.6, 6); /* published from 2000: a standard error of 4 */
    options.method = FR_BOOTSTRAP_PERCENTILE;
    assert_int_equal(fr_bootstrap_interval(26, variance, values, &options, &percentile, NULL), FR_OK);
    near(percentile.interval.low, 100.8, 4);
    near(percentile.interval.high, 233.9, 4);
    /* Two hundred thousand resamples of an independent program, in Python with the Mersenne twister. */
    near(bca.bias_correction, 0.1769, 0.02);
    near(bca.interval.low, 115.98, 0.7);
    near(bca.interval.high, 261.13, 1.5);
    near(percentile.interval.low, 98.07, 0.7);
    near(percentile.interval.high, 235.67, 0.7);
    near(bca.standard_error, 41.71, 0.6);
}

/* The same book's law school data: 15 pairs, their correlation, 0.776; a unit is a pair. Intervals from the same
 * program. */
static double correlation(void *user, const uint32_t *picked, size_t count) {
    const double(*pairs)[2] = user;
    double x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < count; i++) {
        x += pairs[picked[i]][0] / (double)count;
        y += pairs[picked[i]][1] / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        double dx = pairs[picked[i]][0] - x, dy = pairs[picked[i]][1] - y;
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    return xy / sqrt(xx * yy);
}

static void pairs_are_resampled_together(void **state) {
    (void)state;
    double pairs[][2] = {{576, 3.39}, {635, 3.30}, {558, 2.81}, {578, 3.03}, {666, 3.44}, {580, 3.07}, {555, 3.00}, {661, 3.43},
                         {651, 3.36}, {605, 3.13}, {653, 3.12}, {575, 2.74}, {545, 2.76}, {572, 2.88}, {594, 2.96}};
    fr_bootstrap bca;
    fr_bootstrap_options options = {.resamples = 40000, .seed = 2};
    assert_int_equal(fr_bootstrap_interval(15, correlation, pairs, &options, &bca, NULL), FR_OK);
    near(bca.estimate, 0.776, 0.0005);
    near(bca.acceleration, -0.075672, 1e-5);
    near(bca.bias_correction, -0.1004, 0.02);
    near(bca.interval.low, 0.3297, 0.012);
    near(bca.interval.high, 0.9414, 0.003);
    near(bca.standard_error, 0.1335, 0.003);
}

static void the_bootstrap_is_a_function_of_the_seed(void **state) {
    (void)state;
    fr_value_units units = {.values = spatial};
    fr_bootstrap first, again, other;
    fr_bootstrap_options options = {.resamples = 500, .seed = 7};
    assert_int_equal(fr_bootstrap_interval(26, fr_statistic_mean, &units, &options, &first, NULL), FR_OK);
    assert_int_equal(fr_bootstrap_interval(26, fr_statistic_mean, &units, &options, &again, NULL), FR_OK);
    options.seed = UINT64_C(7) << 32;
    assert_int_equal(fr_bootstrap_interval(26, fr_statistic_mean, &units, &options, &other, NULL), FR_OK);
    assert_memory_equal(&first, &again, sizeof first);
    assert_true(first.interval.low != other.interval.low || first.interval.high != other.interval.high);
    near(first.standard_error, sqrt(171.534 / 26), 0.25); /* of a mean: s / sqrt(n) */
}

static void the_bootstrap_takes_few_units(void **state) {
    (void)state;
    double one[] = {3.0}, same[] = {2.0, 2.0, 2.0}, scratch[3];
    fr_value_units units = {one, scratch};
    fr_bootstrap b;
    fr_error error;
    assert_int_equal(fr_bootstrap_interval(1, fr_statistic_median, &units, NULL, &b, NULL), FR_OK);
    assert_true(b.interval.low == 3.0 && b.interval.high == 3.0 && b.estimate == 3.0);
    units.values = same;
    assert_int_equal(fr_bootstrap_interval(3, fr_statistic_median, &units, NULL, &b, NULL), FR_OK);
    assert_true(b.interval.low == 2.0 && b.interval.high == 2.0 && b.standard_error == 0.0);
    assert_int_equal(fr_bootstrap_interval(0, fr_statistic_mean, &units, NULL, &b, &error), FR_ERROR_ARGUMENT);
    double wrong[] = {1.0, NAN};
    units.values = wrong;
    assert_int_equal(fr_bootstrap_interval(2, fr_statistic_mean, &units, NULL, &b, &error), FR_ERROR_ARGUMENT);
}

/* The ratio of sums weighs a prompt by its drafts; the mean of ratios would be 0.75. */
static void ratios_are_of_sums(void **state) {
    (void)state;
    double over[] = {90, 5}, under[] = {90, 10};
    fr_ratio_units units = {over, under};
    const uint32_t both[] = {0, 1}, none[] = {0};
    near(fr_statistic_ratio(&units, both, 2), 0.95, 1e-15);
    near(fr_statistic_ratio(&units, none, 0), 0.0, 0);
}

/* ---- Calibration ---- */

/* Guo et al. (2017), equation 3, by hand: bins (0.15, 0.10), (0.55), (0.95 x 3), (1.0). */
static void calibration_error_is_the_weighted_gap(void **state) {
    (void)state;
    fr_calibration c = {{0}, {0}, {0}};
    near(fr_calibration_error(&c), 0.0, 0);
    fr_calibration_add(&c, 0.15, false);
    fr_calibration_add(&c, 0.10, true); /* bin 1: rate 1/2, confidence 0.125, gap 0.375 */
    fr_calibration_add(&c, 0.55, true); /* bin 5: gap 0.45 */
    fr_calibration_add(&c, 0.95, true);
    fr_calibration_add(&c, 0.95, true);
    fr_calibration_add(&c, 0.95, false);
    fr_calibration_add(&c, 1.0, true); /* bin 9, which is closed: rate 3/4, confidence 0.9625, gap 0.2125 */
    assert_int_equal(c.count[1], 2);
    assert_int_equal(c.count[5], 1);
    assert_int_equal(c.count[9], 4);
    assert_int_equal(c.happened[9], 3);
    near(fr_calibration_error(&c), (2 * 0.375 + 0.45 + 4 * 0.2125) / 7, 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_type_7),
        cmocka_unit_test(figures_of_the_bench_use_them),
        cmocka_unit_test(normal_quantiles_invert_the_distribution),
        cmocka_unit_test(wilson_gives_newcombes_examples),
        cmocka_unit_test(wilson_inverts_the_score_test),
        cmocka_unit_test(bca_gives_the_published_interval),
        cmocka_unit_test(pairs_are_resampled_together),
        cmocka_unit_test(the_bootstrap_is_a_function_of_the_seed),
        cmocka_unit_test(the_bootstrap_takes_few_units),
        cmocka_unit_test(ratios_are_of_sums),
        cmocka_unit_test(calibration_error_is_the_weighted_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
