#include "attn/kv_cache.h"

#include <assert.h>

uint64_t fr_kv_cache_bytes(int layers, int ctx, int rank, int rope, fr_kv type) {
    return (uint64_t)layers * (uint64_t)ctx * (uint64_t)(rank + rope) * (type == FR_KV_F32 ? 4 : 2);
}

fr_status fr_kv_cache_create(fr_kv_cache *kv, int layers, int ctx, int rank, int rope, fr_kv type, fr_error *error) {
    *kv = (fr_kv_cache){.layers = layers, .ctx = ctx, .rank = rank, .rope = rope, .type = type};
    uint64_t bytes = fr_kv_cache_bytes(layers, ctx, rank, rope, type);
    kv->rows = fr_alloc(bytes); /* untouched pages cost nothing until a position is written */
    if (!kv->rows) {
        fr_fail(error, FR_ERROR_MEMORY, "KV cache: %llu bytes for %d tokens cannot be allocated", (unsigned long long)bytes, ctx);
        return fr_hint(error, FR_ERROR_MEMORY, "ask for a shorter context");
    }
    return FR_OK;
}

void fr_kv_cache_release(fr_kv_cache *kv) {
    fr_free(kv->rows);
    kv->rows = NULL;
}

void fr_kv_cache_write(fr_kv_cache *kv, int layer, int pos, const float *row, const fr_kernels *kernels) {
    assert(pos >= kv->length && pos < kv->ctx);
    void *to = (void *)fr_kv_cache_row(kv, layer, pos);
    int n = kv->rank + kv->rope;
    if (kv->type == FR_KV_F32)
        memcpy(to, row, (size_t)n * sizeof(float));
    else
        kernels->f32_to_bf16(to, row, n);
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

void fr_kv_cache_commit(fr_kv_cache *kv, int count) {
    assert(count >= 0 && kv->length + count <= kv->ctx);
    kv->length += count;
}

void fr_kv_cache_truncate(fr_kv_cache *kv, int length) {
    assert(length >= 0 && length <= kv->length);
    kv->length = length;
}
