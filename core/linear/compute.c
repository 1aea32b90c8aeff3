#include "core/linear/compute.h"

#include "core/linear/prefill.h"

static size_t scratch_of(const fr_kernels *kernels, bool quantized, int max_rows) {
    if (max_rows <= FR_DECODE_ROWS) return 0;
    const fr_prefill_backend *backend = fr_prefill_backend_of(kernels, quantized, FR_BLOCK);
    return backend->scratch ? backend->scratch(max_rows) : 0;
}

void fr_compute_take(fr_compute *c, fr_arena *arena, const fr_kernels *kernels, int max_rows, int threads) {
    size_t exact = scratch_of(kernels, false, max_rows), quantized = scratch_of(kernels, true, max_rows);
    *c = (fr_compute){.kernels = kernels, .max_rows = max_rows, .threads = threads, .exchange = {.ranks = &fr_ranks_alone}};
    c->scratch_bytes = exact > quantized ? exact : quantized;
    c->scratch = fr_arena_take(arena, (size_t)threads, c->scratch_bytes);
}

fr_status fr_compute_prepare(fr_compute *c, const fr_linear *whole, fr_error *error) {
    if (fr_linear_own(whole) == 0) return FR_OK;
    const fr_linear part = fr_linear_rows(whole, fr_linear_first(whole), fr_linear_last(whole)), *w = &part;
    for (int i = 0; c->max_rows > FR_DECODE_ROWS && fr_prefill_backends[i]; i++)
        if (fr_prefill_backends[i]->prepare) FR_TRY(fr_prefill_backends[i]->prepare(c, w, error));
    return FR_OK;
}

void fr_compute_release(fr_compute *c) {
    for (int i = 0; fr_prefill_backends[i]; i++)
        if (fr_prefill_backends[i]->release) fr_prefill_backends[i]->release(c);
}
