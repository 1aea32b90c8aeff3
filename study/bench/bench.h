/* Measuring: what this machine can do, and what the model's parts make of it. Private to study/; the face is fr_bench.
 *
 * Figures that will be compared are measured in turn, round after round, so that whatever disturbs the machine disturbs
 * them alike; their medians are compared. The machine's own limits are measured again between the parts, for the same
 * reason. */
#ifndef FR_STUDY_BENCH_BENCH_H
#define FR_STUDY_BENCH_BENCH_H

#include "core/linear/linear.h"
#include "forerun_study.h"
#include "model/weights.h"

enum { FR_BENCH_LIMIT_SAMPLES = 128 }; /* of each limit, all parts together */

enum { FR_BENCH_READS = 3 }; /* ways to read memory, of which the best is the limit */
extern const int fr_bench_streams[FR_BENCH_READS];

/* Samples of one of the machine's limits, a second. */
typedef struct fr_bench_limit {
    double samples[FR_BENCH_LIMIT_SAMPLES];
    int count;
} fr_bench_limit;

typedef struct fr_bench_run {
    const fr_model *model;
    fr_bench_options options; /* with defaults filled in */
    fr_bench_result *result;
    uint64_t *buffer;                    /* read for bandwidth: larger than the last-level cache */
    fr_bench_limit read[FR_BENCH_READS]; /* by streams a thread: fr_bench_streams */
    fr_bench_limit tile_peak, register_peak;
    fr_bench_limit barrier;  /* not a rate: seconds of one */
    fr_bench_limit exchange; /* likewise */
    fr_bench_limit disk;     /* streamed weights */
} fr_bench_run;

/* Rounds and figures: study/bench/rounds.c. */
/* Runs a figure once and gives its time. round is -1 the first time, which warms up and is not counted. */
typedef fr_status (*fr_bench_fn)(void *user, int figure, int round, double *seconds, fr_error *error);

/* Runs figures [0, count) in turn until count * options.seconds have passed, three times at least. seconds [count]; a
 * figure without samples is one that was interrupted before its first round was whole. */
fr_status fr_bench_rounds(const fr_bench_run *b, const char *what, int count, fr_bench_fn fn, void *user, fr_figure *seconds,
                          fr_error *error);

/* Sorts the samples. */
fr_figure fr_figure_of(double *samples, int count);
/* amount / seconds. */
fr_figure fr_figure_rate(fr_figure seconds, double amount);
fr_figure fr_figure_scale(fr_figure figure, double factor);
/* a / b, 0 when b is 0. */
double fr_bench_share(double a, double b);

/* The machine: study/bench/machine.c. */
fr_status fr_bench_prepare_machine(fr_bench_run *b, fr_error *error);
/* Takes a few more samples of each limit. */
void fr_bench_measure_machine(fr_bench_run *b);

/* Streamed weights: study/bench/disk.c. */
/* Takes a few more samples of the disk; none where nothing is streamed. */
fr_status fr_bench_measure_disk(fr_bench_run *b, fr_error *error);
/* What decoded tokens made of it; of a figure without samples, what does not need it. */
fr_bench_experts fr_bench_experts_of(const fr_stats *stats, const fr_figure *disk);

/* The parts. Each adds what it has to the result, also when it is interrupted. */
fr_status fr_bench_measure_linears(fr_bench_run *b, fr_error *error);
fr_status fr_bench_measure_passes(fr_bench_run *b, fr_error *error); /* prefill, passes and decode */
fr_status fr_bench_measure_draft(fr_bench_run *b, fr_error *error);
fr_status fr_bench_measure_contexts(fr_bench_run *b, fr_error *error);

#endif
