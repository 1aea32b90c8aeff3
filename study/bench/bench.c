#include "study/bench/bench.h"
#include "core/kernels/isa.h"
#include "forerun_study.h"

enum { DEFAULT_CONTEXT = 512 };

static fr_status check_options(const fr_model *model, fr_bench_options *o, fr_error *error) {
    int most = model->config.max_position_embeddings;
    if (o->what == 0) o->what = FR_BENCH_ALL;
    if (!(o->seconds >= 0.0)) return fr_fail(error, FR_ERROR_ARGUMENT, "bench: %g seconds a figure", o->seconds);
    if (o->seconds == 0.0) o->seconds = 0.1;
    for (size_t i = 0; i < o->num_rows; i++)
        if (o->rows[i] < 1 || o->rows[i] > FR_BENCH_MOST_ROWS)
            return fr_fail(error, FR_ERROR_ARGUMENT, "bench: %d rows, expected 1 to %d", o->rows[i], FR_BENCH_MOST_ROWS);
    if (o->ctx == 0) o->ctx = most / 2 < DEFAULT_CONTEXT ? most / 2 : DEFAULT_CONTEXT;
    if (o->ctx < 1 || o->ctx > most - FR_DECODE_ROWS)
        return fr_fail(error, FR_ERROR_ARGUMENT, "bench: passes after %d tokens do not fit in the model's %d positions", o->ctx,
                       most);
    return FR_OK;
}

/* What depends on limits that are known only when all is measured. */
static void finish(fr_bench_run *b) {
    fr_bench_result *r = b->result;
    fr_figure tile = fr_figure_of(b->tile_peak.samples, b->tile_peak.count);
    fr_figure registers = fr_figure_of(b->register_peak.samples, b->register_peak.count);
    for (int v = 0; v < FR_BENCH_READS; v++) {
        fr_figure read = fr_figure_of(b->read[v].samples, b->read[v].count);
        if (v > 0 && read.median <= r->read_bandwidth.median) continue;
        r->read_bandwidth = read;
        r->read_streams = fr_bench_streams[v];
    }
    r->barrier = fr_figure_of(b->barrier.samples, b->barrier.count);
    r->ranks = b->model->ranks->size;
    r->exchange = fr_figure_of(b->exchange.samples, b->exchange.count);
    r->exchange_bytes = (uint64_t)b->model->config.hidden_size * sizeof(float);
    r->disk = fr_figure_of(b->disk.samples, b->disk.count);
    r->peak = tile.median > registers.median ? tile : registers;
    r->peak_name = tile.median > registers.median ? "oneDNN brgemm, one tile in cache"
                   : b->model->kernels->prefill   ? "vdpbf16ps in registers"
                                                  : "vfmadd231ps in registers";
    if (r->peak.samples == 0) r->peak_name = "";
    double bandwidth = r->read_bandwidth.median, one_row = 0.0;
    for (size_t i = 0; i < r->num_linear; i++) {
        r->linear[i].of_bandwidth = fr_bench_share(r->linear[i].bytes_per_s.median, bandwidth);
        r->linear[i].of_peak = fr_bench_share(r->linear[i].flops_per_s.median, r->peak.median);
    }
    for (size_t i = 0; i < r->num_passes; i++)
        if (r->passes[i].rows == 1) one_row = r->passes[i].ms.median;
    for (size_t i = 0; i < r->num_passes; i++) {
        fr_bench_pass *p = &r->passes[i];
        p->over_one_row = fr_bench_share(p->ms.median, one_row);
        p->in_barriers = fr_bench_share(1e3 * r->barrier.median * p->barriers, p->ms.median);
        p->of_bandwidth = fr_bench_share(1e3 * fr_bench_share((double)p->bytes, p->ms.median), bandwidth);
    }
    r->draft.over_one_row = fr_bench_share(r->draft.ms.median, one_row);
    r->draft.of_bandwidth = fr_bench_share(1e3 * fr_bench_share((double)r->draft.bytes, r->draft.ms.median), bandwidth);
    for (size_t i = 0; i < r->num_prefill; i++)
        r->prefill[i].of_peak = fr_bench_share(r->prefill[i].tokens_per_s.median * r->prefill[i].flops_per_token, r->peak.median);
    if (r->decode.tokens_per_s.samples) r->decode.experts = fr_bench_experts_of(&r->decode.experts.stats, &r->disk);
    r->decode.of_bandwidth = fr_bench_share((double)r->decode.bytes_per_token * r->decode.tokens_per_s.median, bandwidth);
}

static fr_status run_parts(fr_bench_run *b, fr_error *error) {
    unsigned what = b->options.what;
    FR_TRY(fr_bench_prepare_machine(b, error));
    fr_bench_measure_machine(b);
    FR_TRY(fr_bench_measure_disk(b, error));
    if (what & FR_BENCH_LINEAR) FR_TRY(fr_bench_measure_linears(b, error));
    if (what & (FR_BENCH_PREFILL | FR_BENCH_PASSES | FR_BENCH_DECODE)) FR_TRY(fr_bench_measure_passes(b, error));
    if ((what & FR_BENCH_DRAFT) && b->model->mtp.files.present) FR_TRY(fr_bench_measure_draft(b, error));
    if (what & FR_BENCH_CONTEXT) FR_TRY(fr_bench_measure_contexts(b, error));
    return fr_model_still_whole(b->model, error);
}

fr_status fr_bench(const fr_model *model, const fr_bench_options *options, fr_bench_result **out, fr_error *error) {
    fr_bench_run b = {.model = model, .options = options ? *options : (fr_bench_options){0}};
    *out = NULL;
    FR_TRY(fr_model_need_weights(model, error));
    FR_TRY(check_options(model, &b.options, error));
    b.result = fr_alloc_zeroed(1, sizeof *b.result);
    if (!b.result) return fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
    b.result->threads = model->threads;
    b.result->isa = fr_isa_name(model->kernels->isa);
    fr_linear_prefill_path(model->kernels, b.result->prefill_path, sizeof b.result->prefill_path);
    b.result->ctx = b.options.ctx;
    b.result->has_mtp = model->mtp.files.present;
    fr_status status = run_parts(&b, error);
    fr_free(b.buffer);
    if (status != FR_OK && status != FR_INTERRUPTED) {
        fr_bench_result_destroy(b.result);
        return status;
    }
    finish(&b);
    *out = b.result;
    return status;
}

void fr_bench_result_destroy(fr_bench_result *result) {
    if (!result) return;
    fr_free(result->linear);
    fr_free(result->passes);
    fr_free(result->prefill);
    fr_free(result->contexts);
    fr_free(result);
}
