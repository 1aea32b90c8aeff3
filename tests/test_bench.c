/* How figures are taken: turns, rounds, quantiles, and what happens when a run is stopped. Nothing here looks at a speed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/ranks.h"
#include "forerun_study.h"
#include "study/bench/bench.h"

static void figures_are_quantiles_of_their_samples(void **state) {
    double samples[] = {9, 1, 5, 3, 7, 0, 8, 2, 6, 4, 10}, two[] = {4, 2};
    fr_figure figure = fr_figure_of(samples, 11);
    (void)state;
    assert_float_equal(figure.median, 5.0, 1e-12);
    assert_float_equal(figure.p10, 1.0, 1e-12);
    assert_float_equal(figure.p90, 9.0, 1e-12);
    assert_int_equal(figure.samples, 11);
    figure = fr_figure_of(two, 2);
    assert_float_equal(figure.median, 3.0, 1e-12);
    assert_float_equal(figure.p10, 2.2, 1e-12);
    figure = fr_figure_of(two, 1);
    assert_true(figure.median == figure.p10 && figure.median == figure.p90);
    figure = fr_figure_of(two, 0);
    assert_true(figure.samples == 0 && figure.median == 0.0);
}

static void rates_are_low_where_times_are_long(void **state) {
    fr_figure seconds = {0.5, 0.25, 1.0, 7}, rate = fr_figure_rate(seconds, 10.0), ms = fr_figure_scale(seconds, 1e3);
    (void)state;
    assert_true(rate.median == 20.0 && rate.p10 == 10.0 && rate.p90 == 40.0 && rate.samples == 7); /* slow is low */
    assert_true(ms.median == 500.0 && ms.p10 == 250.0 && ms.p90 == 1000.0);
    assert_true(fr_bench_share(3.0, 0.0) == 0.0);
    assert_true(fr_figure_rate((fr_figure){0}, 10.0).median == 0.0);
}

static void experts_are_shares_of_tokens_and_of_the_disk(void **state) {
    fr_stats stats = {.num_cycles = 4, .draft_s = 0.5, .verify_s = 1.0, .sample_s = 0.25, .rollback_s = 0.25};
    fr_figure disk = {100.0, 90.0, 110.0, 3};
    (void)state;
    stats.disk_bytes = 80;
    stats.disk_busy_s = 1.0;
    stats.stall_s = 0.5;
    fr_bench_experts e = fr_bench_experts_of(&stats, &disk);
    assert_true(e.bytes_per_token == 20.0 && e.stalled == 0.25 && e.reading == 0.5 && e.of_disk == 0.8);
    e = fr_bench_experts_of(&stats, &(fr_figure){0});
    assert_true(e.of_disk == 0.0 && e.bytes_per_token == 20.0);
    e = fr_bench_experts_of(&(fr_stats){0}, &disk);
    assert_true(e.of_disk == 0.0 && e.bytes_per_token == 0.0 && e.stalled == 0.0 && e.reading == 0.0);
}

typedef struct record {
    int calls, figures[64], rounds[64];
    int fail_at, stop_at, asked; /* -1: never */
    char what[32];
} record;

/* Figure f "takes" f + 1 seconds in round 0, one more in each round; warming up takes for ever. */
static fr_status take(void *user, int figure, int round, double *seconds, fr_error *error) {
    record *r = user;
    if (r->calls == r->fail_at) return fr_fail(error, FR_ERROR_CONTEXT, "no more");
    assert_true(r->calls < 64);
    r->figures[r->calls] = figure;
    r->rounds[r->calls++] = round;
    *seconds = round < 0 ? 1e9 : figure + 1 + round;
    return FR_OK;
}

static bool go_on(void *user, const char *what, uint64_t done, uint64_t total) {
    record *r = user;
    assert_true(done <= total);
    strncpy(r->what, what, sizeof r->what - 1);
    return r->asked++ != r->stop_at;
}

static fr_bench_run run_of(record *r) {
    static const fr_model alone = {.ranks = &fr_ranks_alone};
    *r = (record){.fail_at = -1, .stop_at = -1};
    return (fr_bench_run){.model = &alone, .options = {.seconds = 1e-9, .progress = go_on, .user = r}};
}

static void figures_take_turns(void **state) {
    record r;
    fr_bench_run b = run_of(&r);
    fr_figure seconds[3];
    (void)state;
    assert_int_equal(fr_bench_rounds(&b, "part", 3, take, &r, seconds, NULL), FR_OK);
    assert_int_equal(r.calls, 3 * 4); /* no time: the least number of rounds, and the one that warms up */
    for (int i = 0; i < r.calls; i++) {
        assert_int_equal(r.figures[i], i % 3);
        assert_int_equal(r.rounds[i], i / 3 - 1);
    }
    assert_string_equal(r.what, "part");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(seconds[i].samples, 3);
        assert_float_equal(seconds[i].median, i + 2, 1e-12); /* of i + 1, i + 2, i + 3 */
    }
}

static void a_stopped_run_has_its_whole_rounds(void **state) {
    (void)state;
    for (int stop = 0; stop < 13; stop++) {
        record r;
        fr_bench_run b = run_of(&r);
        fr_figure seconds[3];
        fr_error error;
        r.stop_at = stop;
        assert_int_equal(fr_bench_rounds(&b, "part", 3, take, &r, seconds, &error), FR_INTERRUPTED);
        assert_non_null(strstr(error.message, "part"));
        assert_int_equal(r.calls, stop);
        int whole = stop / 3 - 1; /* rounds that all figures have; the first does not count */
        for (int i = 0; i < 3; i++) assert_int_equal(seconds[i].samples, whole > 0 ? whole : 0);
    }
}

static void a_failure_is_passed_on(void **state) {
    record r;
    fr_bench_run b = run_of(&r);
    fr_figure seconds[2];
    fr_error error;
    (void)state;
    r.fail_at = 5;
    assert_int_equal(fr_bench_rounds(&b, "part", 2, take, &r, seconds, &error), FR_ERROR_CONTEXT);
    assert_string_equal(error.message, "no more");
    assert_int_equal(seconds[0].samples + seconds[1].samples, 0);
}

static void options_are_checked(void **state) {
    const fr_model_options wanted = {.threads = 1};
    const int none[] = {1, 0}, many[] = {FR_BENCH_MOST_ROWS + 1};
    const fr_bench_options bad[] = {
        {.rows = none, .num_rows = 2}, {.rows = many, .num_rows = 1}, {.ctx = -1}, {.ctx = 1 << 30}, {.seconds = -1.0}};
    fr_model *model;
    fr_error error;
    (void)state;
    assert_int_equal(fr_model_open(FR_TEST_DIR "/golden/pico-mtp-s1", &wanted, &model, &error), FR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fr_bench_result *result = (fr_bench_result *)&error;
        assert_int_equal(fr_bench(model, &bad[i], &result, &error), FR_ERROR_ARGUMENT);
        assert_null(result);
    }
    fr_model_destroy(model);
    fr_bench_result_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_quantiles_of_their_samples),
        cmocka_unit_test(rates_are_low_where_times_are_long),
        cmocka_unit_test(experts_are_shares_of_tokens_and_of_the_disk),
        cmocka_unit_test(figures_take_turns),
        cmocka_unit_test(a_stopped_run_has_its_whole_rounds),
        cmocka_unit_test(a_failure_is_passed_on),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
