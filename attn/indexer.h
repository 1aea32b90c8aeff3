/* Sparse attention's indexer (DeepSeek-V3.2 report, section 2.1): which positions a row attends to. With x the layer's normed
 * input and cq its normed low-rank query,
 *   q[h] = (wq_b cq)[h],  k = LayerNorm(wk x),  w = weights_proj x,        RoPE turning the first `rope` values of q[h] and k,
 *   score(t, s) = heads^-0.5 * sum over h of w[h] * max(0, dim^-0.5 * q_t[h] . k_s),        s <= t,
 * and row t attends to the min(topk, t + 1) positions with the largest score; of equal scores to the smaller position.
 *
 * k is cached beside the latents (attn/kv_cache.h); the choice is not. It depends on the scores alone, and a score is computed in
 * one order, by the same kernels in decode and prefill: so it does not depend on the other rows of a pass or on threads. */
#ifndef FR_ATTN_INDEXER_H
#define FR_ATTN_INDEXER_H

#include "attn/kv_cache.h"
#include "attn/rope.h"
#include "attn/select.h"
#include "core/linear/linear.h"

typedef struct fr_indexer {
    int heads, dim, topk;               /* topk 0: the layer has no indexer */
    int kv_layer;                       /* its layer of the cache's index keys */
    bool interleaved;                   /* which pairs RoPE turns: (2i, 2i + 1), else (i, i + rope / 2) */
    fr_linear wq_b, wk;                 /* [heads * dim, q_rank], [dim, hidden] */
    fr_linear weights_proj;             /* [heads, hidden]; never quantizes its input */
    float *k_norm_weight, *k_norm_bias; /* [dim]: LayerNorm, eps 1e-6 */
} fr_indexer;

/* What a row attends to. */
typedef struct fr_choice {
    int count;
    const int32_t *positions; /* [count], ascending; NULL: positions 0 .. count - 1 */
} fr_choice;

#define FR_INDEX_ROWS 8 /* rows whose scores are kept at a time */

/* Working memory, shared by all layers. R = max_rows. */
typedef struct fr_index_scratch {
    const fr_compute *compute;
    int ctx;
    float *k;           /* [R, dim] */
    float *q;           /* [R, heads * dim] */
    float *weights;     /* [R, heads] */
    float *scores;      /* [FR_INDEX_ROWS, ctx] */
    fr_select select;   /* of FR_INDEX_ROWS rows */
    int32_t *positions; /* [R, topk] */
    fr_choice *choices; /* [R]: of the last layer that has an indexer, which layers without one share; NULL: attention is dense */
} fr_index_scratch;

void fr_index_scratch_take(fr_index_scratch *s, fr_arena *arena, const fr_indexer *ix, int max_rows, int ctx,
                           const fr_compute *compute);

/* How it reads x: a set of FR_INPUT_*. */
unsigned fr_indexer_inputs(const fr_indexer *ix, bool act_fp8);
/* Whether rows up to position `last` have more positions before them than they may attend to. If not, nothing is scored. */
static inline bool fr_indexer_scores(const fr_indexer *ix, int last) {
    return ix->topk > 0 && last >= ix->topk;
}

/* ONE THREAD. Normalizes and rotates s->k of rows [begin, end), at positions pos + row, and writes them to the cache. */
void fr_indexer_write_keys(const fr_indexer *ix, const fr_rope *rope, fr_kv_cache *kv, int pos, int begin, int end,
                           fr_index_scratch *s);
/* TEAM. s->q from cq, rotated and scaled. In decode a thread computes whole heads, and there is no barrier. */
void fr_indexer_queries(const fr_indexer *ix, const fr_rope *rope, const fr_rows *cq, int pos, fr_index_scratch *s);
/* ONE THREAD. s->choices of rows at positions pos .. pos + rows - 1: all that they see. */
void fr_indexer_see_all(int pos, int rows, fr_index_scratch *s);
/* TEAM. What they choose where they see more than topk positions; from s->q, s->weights and the cache's keys, which must be
 * there, and behind fr_indexer_see_all. */
void fr_indexer_choose(const fr_indexer *ix, const fr_kv_cache *kv, int pos, int rows, fr_index_scratch *s);

#endif
