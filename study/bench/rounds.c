/* Figures, and the rounds in which they are measured. */
#include "core/clock.h"
#include "forerun_study.h"
#include "study/bench/bench.h"
#include "study/statistics.h"

enum { LEAST_ROUNDS = 3, MOST_ROUNDS = 400 };

/* ---- Figures ---- */

fr_figure fr_figure_of(double *samples, int count) {
    if (count == 0) return (fr_figure){0};
    size_t n = (size_t)count;
    fr_sort(samples, n);
    return (fr_figure){fr_quantile(samples, n, 0.5), fr_quantile(samples, n, 0.1), fr_quantile(samples, n, 0.9), count};
}

fr_figure fr_figure_rate(fr_figure s, double amount) {
    return (fr_figure){fr_bench_share(amount, s.median), fr_bench_share(amount, s.p90), fr_bench_share(amount, s.p10), s.samples};
}

fr_figure fr_figure_scale(fr_figure f, double factor) {
    return (fr_figure){f.median * factor, f.p10 * factor, f.p90 * factor, f.samples};
}

double fr_bench_share(double a, double b) {
    return b > 0.0 ? a / b : 0.0;
}

/* ---- Rounds ---- */

/* Ranks are interrupted together: signals do not reach all of them at once. */
static fr_status report(const fr_bench_run *b, const char *what, double part, fr_error *error) {
    const fr_bench_options *o = &b->options;
    fr_status status = FR_OK;
    if (o->progress && !o->progress(o->user, what, part < 1.0 ? (uint64_t)(100.0 * part) : 100, 100))
        status = fr_fail(error, FR_INTERRUPTED, "bench: interrupted in %s", what);
    return fr_ranks_agree(b->model->ranks, status, error);
}

/* Whether there is another round: by rank 0's clock. */
static bool goes_on(const fr_bench_run *b, int round, double left) {
    bool yes = round < MOST_ROUNDS && (round < LEAST_ROUNDS || left > 0.0);
    fr_ranks_share(b->model->ranks, &yes, sizeof yes);
    return yes;
}

fr_status fr_bench_rounds(const fr_bench_run *b, const char *what, int count, fr_bench_fn fn, void *user, fr_figure *seconds,
                          fr_error *error) {
    double budget = b->options.seconds * count, start = fr_now(), part = 0.0;
    double *samples = fr_alloc((size_t)count * MOST_ROUNDS * sizeof *samples); /* [count, MOST_ROUNDS] */
    fr_status status = FR_OK;
    int rounds = 0;
    for (int i = 0; i < count; i++) seconds[i] = (fr_figure){0};
    if (!samples) return fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
    for (int round = -1; goes_on(b, round, budget - (fr_now() - start)); round++) {
        for (int i = 0; i < count; i++) {
            double taken = 0.0;
            FR_CHECK(report(b, what, part, error));
            FR_CHECK(fn(user, i, round, &taken, error));
            if (round >= 0) samples[i * MOST_ROUNDS + round] = taken > 1e-9 ? taken : 1e-9; /* the clock's own grain */
        }
        if (round < 0) start = fr_now();
        rounds = round + 1;
        double of_time = budget > 0.0 ? (fr_now() - start) / budget : 1.0, of_rounds = (double)rounds / LEAST_ROUNDS;
        part = of_time < of_rounds ? of_time : of_rounds;
    }
    status = report(b, what, 1.0, error);
done:
    if (status == FR_OK || status == FR_INTERRUPTED)
        for (int i = 0; i < count; i++) seconds[i] = fr_figure_of(samples + i * MOST_ROUNDS, rounds);
    fr_free(samples);
    return status;
}
