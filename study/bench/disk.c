/* The disk that experts are streamed from, and how much of it decoding reaches. */
#include "forerun_study.h"
#include "model/stream.h"
#include "study/bench/bench.h"

enum { SAMPLES = 3 };

fr_status fr_bench_measure_disk(fr_bench_run *b, fr_error *error) {
    const double seconds = 0.25;
    const fr_model *model = b->model;
    if (!model->experts) return FR_OK;
    fr_model_info info;
    fr_model_get_info(model, &info);
    b->result->reader = info.reader;
    b->result->disk_at_once = FR_STREAM_AT_ONCE;
    b->result->expert_bytes = model->plan.expert_bytes;
    for (int i = 0; i < SAMPLES && b->disk.count < FR_BENCH_LIMIT_SAMPLES; i++) {
        double *sample = &b->disk.samples[b->disk.count];
        FR_TRY(fr_stream_measure(model, model->reader, FR_STREAM_IN_ORDER, seconds, sample, error));
        if (*sample > 0.0) b->disk.count++;
    }
    return FR_OK;
}

fr_bench_experts fr_bench_experts_of(const fr_stats *stats, const fr_figure *disk) {
    double all_s = stats->draft_s + stats->verify_s + stats->sample_s + stats->rollback_s;
    double bytes_per_s = fr_bench_share((double)stats->disk_bytes, stats->disk_busy_s);
    return (fr_bench_experts){.stats = *stats,
                              .bytes_per_token = fr_bench_share((double)stats->disk_bytes, (double)stats->num_cycles),
                              .stalled = fr_bench_share(stats->stall_s, all_s),
                              .reading = fr_bench_share(stats->disk_busy_s, all_s),
                              .of_disk = fr_bench_share(bytes_per_s, disk->median)};
}
