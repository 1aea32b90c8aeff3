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
    /* Sparse attention: the key of each position for the indexers (attn/indexer.h). Rows are committed together with the
     * latents'. */
    int index_layers, index_dim; /* layers that have an indexer; 0: none, or not sparse */
    void *index_rows;            /* [index_layers, ctx, index_dim], in the same type; owned */
} fr_kv_cache;

uint64_t fr_kv_cache_bytes(int layers, int ctx, int rank, int rope, fr_kv type);
fr_status fr_kv_cache_create(fr_kv_cache *kv, int layers, int ctx, int rank, int rope, fr_kv type, fr_error *error);
/* Adds index keys to a cache that was just created. After a failure it can only be released. */
fr_status fr_kv_cache_add_index(fr_kv_cache *kv, int layers, int dim, fr_error *error);
void fr_kv_cache_release(fr_kv_cache *kv);

/* Row of a layer and position, in the cache's own type. */
static inline const void *fr_kv_cache_row(const fr_kv_cache *kv, int layer, int pos) {
    size_t index = ((size_t)layer * (size_t)kv->ctx + (size_t)pos) * (size_t)(kv->rank + kv->rope);
    return (const char *)kv->rows + index * (kv->type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
}
/* Index key of a position, in the cache's own type; `layer` of [0, index_layers). */
static inline const void *fr_kv_cache_key(const fr_kv_cache *kv, int layer, int pos) {
    size_t index = ((size_t)layer * (size_t)kv->ctx + (size_t)pos) * (size_t)kv->index_dim;
    return (const char *)kv->index_rows + index * (kv->type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
}
/* Stores row [rank + rope], float32, at a position >= length; a BF16 cache rounds to nearest even. */
void fr_kv_cache_write(fr_kv_cache *kv, int layer, int pos, const float *row, const fr_kernels *kernels);
/* The same of a key [index_dim]. */
void fr_kv_cache_write_key(fr_kv_cache *kv, int layer, int pos, const float *key, const fr_kernels *kernels);
/* The two parts of the row at `pos` as float32: ckv [rank], k_pe [rope]. */
void fr_kv_cache_read(const fr_kv_cache *kv, int layer, int pos, float *ckv, float *k_pe, const fr_kernels *kernels);
/* scores[i][t] = q[i] . row t, for n queries [width] and `count` rows of a cache of this type, `width` apart: each of them in one
 * order, whatever the others are. */
void fr_kv_scores(fr_kv type, const float *const *q, int n, const void *rows, int width, int count, float *const *scores,
                  const fr_kernels *kernels);
/* Commits `count` rows, which every layer has written. */
void fr_kv_cache_commit(fr_kv_cache *kv, int count);
/* Cuts the timeline to its first `length` positions. (Rejected drafts need no cut: their rows were never committed.) */
void fr_kv_cache_truncate(fr_kv_cache *kv, int length);

#endif
