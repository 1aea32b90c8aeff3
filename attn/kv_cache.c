#include "attn/kv_cache.h"

#include <assert.h>

uint64_t fr_kv_cache_bytes(int layers, int ctx, int rank, int rope, fr_kv type) {
    return (uint64_t)layers * (uint64_t)ctx * (uint64_t)(rank + rope) * (type == FR_KV_F32 ? 4 : 2);
}

static fr_status allocate(void **rows, uint64_t bytes, int ctx, fr_error *error) {
    *rows = fr_alloc(bytes); /* untouched pages cost nothing until a position is written */
    if (*rows) return FR_OK;
    fr_fail(error, FR_ERROR_MEMORY, "KV cache: %llu bytes for %d tokens cannot be allocated", (unsigned long long)bytes, ctx);
    return fr_hint(error, FR_ERROR_MEMORY, "ask for a shorter context");
}

fr_status fr_kv_cache_create(fr_kv_cache *kv, int layers, int ctx, int rank, int rope, fr_kv type, fr_error *error) {
    *kv = (fr_kv_cache){.layers = layers, .ctx = ctx, .rank = rank, .rope = rope, .type = type};
    return allocate(&kv->rows, fr_kv_cache_bytes(layers, ctx, rank, rope, type), ctx, error);
}

fr_status fr_kv_cache_add_index(fr_kv_cache *kv, int layers, int dim, fr_error *error) {
    assert(kv->length == 0 && !kv->index_rows);
    kv->index_layers = layers;
    kv->index_dim = dim;
    return allocate(&kv->index_rows, fr_kv_cache_bytes(layers, kv->ctx, dim, 0, kv->type), kv->ctx, error);
}

void fr_kv_cache_release(fr_kv_cache *kv) {
    fr_free(kv->rows);
    fr_free(kv->index_rows);
    kv->rows = kv->index_rows = NULL;
}

static void store(fr_kv type, void *to, const float *row, int n, const fr_kernels *kernels) {
    if (type == FR_KV_F32)
        memcpy(to, row, (size_t)n * sizeof(float));
    else
        kernels->f32_to_bf16(to, row, n);
}

void fr_kv_cache_write(fr_kv_cache *kv, int layer, int pos, const float *row, const fr_kernels *kernels) {
    assert(pos >= kv->length && pos < kv->ctx);
    store(kv->type, (void *)fr_kv_cache_row(kv, layer, pos), row, kv->rank + kv->rope, kernels);
}

void fr_kv_cache_write_key(fr_kv_cache *kv, int layer, int pos, const float *key, const fr_kernels *kernels) {
    assert(pos >= kv->length && pos < kv->ctx && layer < kv->index_layers);
    store(kv->type, (void *)fr_kv_cache_key(kv, layer, pos), key, kv->index_dim, kernels);
}

void fr_kv_cache_read(const fr_kv_cache *kv, int layer, int pos, float *ckv, float *k_pe, const fr_kernels *kernels) {
    const void *row = fr_kv_cache_row(kv, layer, pos);
    if (kv->type == FR_KV_F32) {
        memcpy(ckv, row, (size_t)kv->rank * sizeof(float));
        memcpy(k_pe, (const float *)row + kv->rank, (size_t)kv->rope * sizeof(float));
    } else {
        kernels->bf16_to_f32(ckv, row, kv->rank);
        kernels->bf16_to_f32(k_pe, (const uint16_t *)row + kv->rank, kv->rope);
    }
}

void fr_kv_scores(fr_kv type, const float *const *q, int n, const void *rows, int width, int count, float *const *scores,
                  const fr_kernels *k) {
    if (type == FR_KV_BF16 && k->attend_scores_bf16) {
        k->attend_scores_bf16(q, n, rows, width, count, width, scores);
        return;
    }
    for (int t = 0; t < count; t++)
        for (int i = 0; i < n; i++)
            scores[i][t] = type == FR_KV_F32 ? k->dot_f32(q[i], (const float *)rows + (size_t)t * (size_t)width, width)
                                             : k->dot_bf16(q[i], (const uint16_t *)rows + (size_t)t * (size_t)width, width);
}

void fr_kv_cache_commit(fr_kv_cache *kv, int count) {
    assert(count >= 0 && kv->length + count <= kv->ctx);
    kv->length += count;
}

void fr_kv_cache_truncate(fr_kv_cache *kv, int length) {
    assert(length >= 0 && length <= kv->length);
    kv->length = length;
}
