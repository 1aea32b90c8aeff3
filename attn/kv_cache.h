/* The compressed KV cache of MLA: for each layer and position one row, the normalized latent and the rotated key that all
 * heads share: [ckv (kv_lora_rank) | k_pe (qk_rope_head_dim)], 576 values for V3.
 *
 * Invariant: rows [0, length) of every layer are committed, and belong to the session's tokens. Rows past them are scratch, such
 * as those of rejected drafts. A pass writes rows [length, length + n) layer by layer, and then some of them are committed. To
 * roll back is to leave `length` where it is, or to lower it; nothing is copied or cleared. What would break it: reading a row
 * past `length` that this pass did not write, or committing a row whose token was rejected. */
#ifndef FR_ATTN_KV_CACHE_H
#define FR_ATTN_KV_CACHE_H

#include "core/kernels/kernels.h"
#include "core/memory.h"

typedef struct fr_kv_cache {
    int layers, ctx;
    int rank, rope; /* kv_lora_rank, qk_rope_head_dim */
    fr_kv type;
    int length; /* committed positions */
    void *rows; /* [layers, ctx, rank + rope], BF16 or F32; owned */
} fr_kv_cache;

uint64_t fr_kv_cache_bytes(int layers, int ctx, int rank, int rope, fr_kv type);
fr_status fr_kv_cache_create(fr_kv_cache *kv, int layers, int ctx, int rank, int rope, fr_kv type, fr_error *error);
void fr_kv_cache_release(fr_kv_cache *kv);

/* Row of a layer and position, in the cache's own type. */
static inline const void *fr_kv_cache_row(const fr_kv_cache *kv, int layer, int pos) {
    size_t index = ((size_t)layer * (size_t)kv->ctx + (size_t)pos) * (size_t)(kv->rank + kv->rope);
    return (const char *)kv->rows + index * (kv->type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
}
/* Stores row [rank + rope], float32, at a position >= length; a BF16 cache rounds to nearest even. */
void fr_kv_cache_write(fr_kv_cache *kv, int layer, int pos, const float *row, const fr_kernels *kernels);
/* The two parts of the row at `pos` as float32: ckv [rank], k_pe [rope]. */
void fr_kv_cache_read(const fr_kv_cache *kv, int layer, int pos, float *ckv, float *k_pe, const fr_kernels *kernels);
/* Commits `count` rows, which every layer has written. */
void fr_kv_cache_commit(fr_kv_cache *kv, int count);
/* Cuts the timeline to its first `length` positions. (Rejected drafts need no cut: their rows were never committed.) */
void fr_kv_cache_truncate(fr_kv_cache *kv, int length);

#endif
