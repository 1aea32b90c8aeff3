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

/* ---- Intervals ---- */

/* Tables of Student's t: two-sided 95 %. */
static void students_t_is_that_of_the_tables(void **state) {
    (void)state;
    static const struct {
        size_t degrees;
        double t;
    } table[] = {{1, 12.7062047364}, {2, 4.3026527297},  {3, 3.1824463053},  {4, 2.7764451052},   {9, 2.2621571628},
                 {19, 2.0930240544}, {30, 2.0422724563}, {65, 1.9971379084}, {120, 1.9799304051}, {1000, 1.9623390808}};
    for (size_t i = 0; i < LENGTH(table); i++) near(fr_student95(table[i].degrees), table[i].t, 1e-8);
    near(fr_student95(1001), 1.9623366, 4e-6);
    near(fr_student95(100000000), 1.959964, 1e-6);
}

/* Of values that weigh the same the interval of their geometric mean is the textbook's t interval of the logarithms. */
static void a_geometric_means_interval_is_students(void **state) {
    (void)state;
    double logarithms[] = {0.1, 0.3, -0.05, 0.2, 0.25, 0.15}, mean = 0, squares = 0;
    for (int i = 0; i < 6; i++) mean += logarithms[i] / 6;
    for (int i = 0; i < 6; i++) squares += (logarithms[i] - mean) * (logarithms[i] - mean);
    fr_estimated of = fr_estimate_geometric_mean(logarithms, 6);
    double half = 2.5705818356 * sqrt(squares / 5 / 6);
    near(of.value, exp(mean), 1e-14);
    near(of.interval.low, exp(mean - half), 1e-9);
    near(of.interval.high, exp(mean + half), 1e-9);
}

/* Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3 (Wilson's score interval): where units show no variance
 * of their own, each part of a whole is a trial. */
static void shares_of_equal_units_have_wilsons_interval(void **state) {
    (void)state;
    const double none[] = {0, 0, 0, 0, 0}, all[] = {4, 4, 4, 4, 4};
    fr_estimated of = fr_estimate_share((fr_sums){none, all}, 5);
    near(of.value, 0, 0);
    near(of.interval.low, 0, 0);
    near(of.interval.high, 0.1611, 0.00005); /* 0 of 20 */
    of = fr_estimate_share((fr_sums){all, all}, 5);
    near(of.interval.low, 1 - 0.1611, 0.00005);
    near(of.interval.high, 1, 0);
}

/* At its ends the share is t standard errors off, as they are there: |p^ - p| = t sqrt(p (1 - p) / n) with the n of which the
 * share scatters as much as leaving prompts out shows. */
static void shares_invert_the_score_test(void **state) {
    (void)state;
    const double part[] = {3, 10, 0, 7, 12, 2}, whole[] = {10, 12, 5, 9, 20, 8};
    fr_estimated of = fr_estimate_share((fr_sums){part, whole}, 6);
    double p = 34.0 / 64.0, variance = 0, t = fr_student95(5);
    near(of.value, p, 1e-15);
    for (int i = 0; i < 6; i++) variance += pow((34 - part[i]) / (64 - whole[i]) - p, 2);
    double n = p * (1 - p) / variance;
    assert_true(n < 32); /* prompts differ: not 64 trials */
    near(p - of.interval.low, t * sqrt(of.interval.low * (1 - of.interval.low) / n), 1e-12);
    near(of.interval.high - p, t * sqrt(of.interval.high * (1 - of.interval.high) / n), 1e-12);
}

/* The ratio of sums weighs a prompt by its drafts; the mean of ratios would be 0.75. */
static void ratios_are_of_sums(void **state) {
    (void)state;
    double over[] = {90, 5}, under[] = {90, 10}, ones[] = {1, 1};
    near(fr_estimate_share((fr_sums){over, under}, 2).value, 0.95, 1e-15);
    near(fr_estimate_ratio((fr_sums){ones, ones}, (fr_sums){over, under}, 2).value, 0.95, 1e-15);
    near(fr_estimate_difference((fr_sums){ones, under}, (fr_sums){over, under}, 2).value, 0.93, 1e-15);
    assert_true(isnan(fr_estimate_share((fr_sums){over, under}, 0).value));
}

/* What all prompts have in common is in no difference: a unit's own level cancels. */
static void differences_are_paired(void **state) {
    (void)state;
    double a[] = {1, 9, 4, 7, 2}, b[] = {2, 10, 5, 8, 3}, tens[] = {10, 10, 10, 10, 10};
    fr_estimated paired = fr_estimate_difference((fr_sums){a, tens}, (fr_sums){b, tens}, 5);
    near(paired.value, 0.1, 1e-15);
    b[0] = 3; /* but for one unit, by a tenth */
    paired = fr_estimate_difference((fr_sums){a, tens}, (fr_sums){b, tens}, 5);
    near(paired.value, 0.12, 1e-15);
    assert_true(paired.interval.high - paired.interval.low < 0.15);
    paired = fr_estimate_difference((fr_sums){a, tens}, (fr_sums){a, tens}, 5);
    assert_true(paired.value == 0 && isnan(paired.interval.low)); /* as if it were certain */
    fr_estimated alone = fr_estimate_share((fr_sums){a, tens}, 5);
    assert_true(alone.interval.high - alone.interval.low > 0.5);
}

/* Order statistics of a sign test: 1 - 2 / 2^5 = 93.8 % between the ends of five, 95.86 % between the 6th and 15th of 20. Of 20
 * the ends are moved inward to 95 %, a little: the next pair, the 7th and 14th, has 88.5 %. */
static void a_medians_interval_is_between_order_statistics(void **state) {
    (void)state;
    double five[] = {5, 1, 4, 2, 3}, twenty[20];
    fr_estimated of = fr_estimate_median(five, 5);
    assert_true(of.value == 3 && of.interval.low == 1 && of.interval.high == 5);
    for (int i = 0; i < 20; i++) twenty[i] = 20 - i;
    of = fr_estimate_median(twenty, 20);
    near(of.value, 10.5, 0);
    assert_true(of.interval.low > 6 && of.interval.low < 6.4);
    near(of.interval.high, 21 - of.interval.low, 1e-12);
    double many[3000];
    for (int i = 0; i < 3000; i++) many[i] = i / 2999.0;
    of = fr_estimate_median(many, 3000); /* as a normal distribution has it: 1.96 sqrt(n) / 2 ranks */
    near(of.interval.low, 0.5 - 0.5 * 1.959964 / sqrt(3000), 0.0005);
}

static void few_units_have_no_interval(void **state) {
    (void)state;
    double part[] = {1, 2, 3, 4}, whole[] = {5, 6, 7, 8};
    const fr_estimated all[] = {
        fr_estimate_share((fr_sums){part, whole}, 4),
        fr_estimate_difference((fr_sums){part, whole}, (fr_sums){part, whole}, 4),
        fr_estimate_ratio((fr_sums){part, whole}, (fr_sums){whole, part}, 4),
        fr_estimate_mean(part, 4),
        fr_estimate_geometric_mean(part, 4),
        fr_estimate_median(part, 4),
    };
    for (size_t i = 0; i < LENGTH(all); i++)
        assert_true(isfinite(all[i].value) && isnan(all[i].interval.low) && isnan(all[i].interval.high));
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
        cmocka_unit_test(students_t_is_that_of_the_tables),
        cmocka_unit_test(a_geometric_means_interval_is_students),
        cmocka_unit_test(shares_of_equal_units_have_wilsons_interval),
        cmocka_unit_test(shares_invert_the_score_test),
        cmocka_unit_test(ratios_are_of_sums),
        cmocka_unit_test(differences_are_paired),
        cmocka_unit_test(a_medians_interval_is_between_order_statistics),
        cmocka_unit_test(few_units_have_no_interval),
        cmocka_unit_test(calibration_error_is_the_weighted_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
