/* Multi-head latent attention (DeepSeek-V2 report, section 2.1). Names and shapes are the checkpoint's.
 *
 * Decode and verify passes use the absorbed form: with W_UK, W_UV the two parts of kv_b_proj for a head,
 *   score = ((W_UK^T q_nope) . ckv + q_pe . k_pe) * softmax_scale,   o = W_UV (sum_t p_t ckv_t),
 * computed on the cache itself. Prefill uses the expanded form: keys and values are made from the cache a block of positions at a
 * time, with an online softmax, so no [T, T] memory is needed. kv_b_proj always reads exact rows.
 *
 * With sparse attention a row attends to the positions that it has chosen (attn/indexer.h), or that a layer before has: decode
 * gathers them, prefill leaves the others out of its softmax. Where all positions are chosen the bits are those of dense
 * attention. */
#ifndef FR_ATTN_MLA_H
#define FR_ATTN_MLA_H

#include "attn/indexer.h"
#include "core/kernels/tiled_attention.h"
#include "core/linear/linear.h"

typedef struct fr_mla {
    int hidden, heads, q_rank, kv_rank, nope, rope, v; /* q_rank 0: q_proj */
    /* Where ranks share a model (core/ranks.h), heads are the rank's own, from first_head on; others have other_heads. Its parts
     * of q_b_proj (or q_proj) and kv_b_proj begin and end with so many outputs of heads that are not its own. */
    int first_head, other_heads, q_before, q_behind, kv_before, kv_behind;
    float eps, softmax_scale; /* eps of the two latent norms */
    bool act_fp8, act_ue8m0;
    fr_linear q_proj;             /* [heads * (nope + rope), hidden], only when q_rank is 0 */
    fr_linear q_a_proj, q_b_proj; /* [q_rank, hidden], [heads * (nope + rope), q_rank] */
    fr_linear kv_a_proj_with_mqa; /* [kv_rank + rope, hidden] */
    fr_linear kv_b_proj;          /* [heads * (nope + v), kv_rank] */
    fr_linear o_proj;             /* [hidden, heads * v] */
    float *q_a_layernorm;         /* [q_rank] */
    float *kv_a_layernorm;        /* [kv_rank] */
    fr_indexer indexer;           /* sparse attention; a layer without one takes the choice of the last before it that has one */
} fr_mla;

/* Keys [B, nope + rope] and values [v, B] of a head. */
typedef struct fr_expanded_kv {
    float *k, *v;
} fr_expanded_kv;

/* What a thread works with in the expanded form. */
typedef struct fr_expanded {
    float *q;           /* [R, nope + rope], scaled */
    float *kv;          /* [B, nope + v], behind the outputs of the same 128-block that precede the head's */
    fr_expanded_kv own; /* where it does not share them */
    float *p;           /* [R, B] */
    float *pv;          /* [R, v] */
    fr_rows q_rows, p_rows;
} fr_expanded;

#define FR_MLA_GROUPS 8 /* groups of queries that a thread has tiles for */

/* What a thread attends with by tiles. */
typedef struct fr_mla_tiles {
    fr_tiled_queries groups[FR_MLA_GROUPS];
    int packed[FR_MLA_GROUPS]; /* the pair whose query is the group's first; -1: none of this layer */
    void *scratch;
} fr_mla_tiles;

/* Partial softmaxes of pairs from `first` on. */
typedef struct fr_partials {
    int first;
    float *latent; /* [pairs, kv_rank]: sum of exp(score - max) ckv */
    float *max;    /* [pairs]: about the largest score (FR_ATTEND_LATE) */
    float *sum;    /* [pairs]: of exp(score - max) */
} fr_partials;

/* Working memory, shared by all layers. R = max_rows, T = ctx. */
typedef struct fr_mla_scratch {
    const fr_compute *compute;
    float *cq;        /* [R, q_rank] */
    float *cq_normed; /* [F, q_rank]: of decode passes; prefill normalizes in place */
    float *q;         /* [R, fr_mla_q_width]: of the heads, [nope + rope] each, from q_before on */
    float *ckv_full;  /* [R, kv_rank + rope] */
    float *o;         /* [R, heads, v], of the heads of all ranks */
    fr_rows cq_rows, o_rows;
    atomic_int *o_done; /* [blocks of heads * v]: see fr_rows_complete */
    /* absorbed form; a PAIR is a head of a row, pair r * heads + h. F = min(R, FR_DECODE_ROWS) */
    float *q_absorbed;    /* [F * heads, kv_rank + rope], scaled */
    fr_partials merged;   /* [F * heads]: of all chunks so far; in the end latent is normalized */
    fr_partials waves[2]; /* [slots]: of chunks behind the first, until they are merged (attn/absorbed.c) */
    int slots;
    float *kv_b_out;        /* [F, fr_mla_kv_width], of which the values are filled */
    fr_mla_tiles *tiles;    /* [threads], or NULL: the CPU has none */
    fr_index_scratch index; /* sparse attention alone, as the next */
    float **gathered;       /* [threads]: rows of the cache, [FR_KV_SPAN, kv_rank + rope], in its own type */
    double *attention_s;    /* [threads]: seconds of work in decode attention, choices included, are added; NULL: nobody asks */
    /* expanded form: a span of FR_KV_EXPANDED_SPAN positions, S, of which blocks of FR_KV_BLOCK, B, are expanded */
    float *span_latent; /* [S, kv_rank] */
    float *span_pe;     /* [S, rope] */
    fr_rows span_rows;
    fr_expanded *expanded;  /* [threads] */
    fr_expanded_kv *shared; /* [shared_heads, blocks of a span], or NULL: each thread has heads of its own */
    int shared_heads;
    float *running_max, *running_sum; /* [R, heads] */
} fr_mla_scratch;

#define FR_KV_BLOCK 128         /* positions that prefill expands at a time */
#define FR_KV_EXPANDED_SPAN 512 /* positions whose latents it reads and packs at a time */
#define FR_KV_SPAN 64           /* positions that all pairs of a thread go through while they are in cache */

static inline bool fr_mla_has_tiles(const fr_mla_scratch *s, fr_kv type) {
    return s->tiles && type == FR_KV_BF16;
}
static inline int fr_mla_q_width(const fr_mla *m) {
    return m->q_before + m->heads * (m->nope + m->rope) + m->q_behind;
}
static inline int fr_mla_kv_width(const fr_mla *m) {
    return m->kv_before + m->heads * (m->nope + m->v) + m->kv_behind;
}
static inline int fr_mla_o_width(const fr_mla *m) {
    return (m->heads + m->other_heads) * m->v;
}
/* A row's query of a head, and where its output goes. */
static inline float *fr_mla_query(const fr_mla *m, const fr_mla_scratch *s, int row, int head) {
    return s->q + (size_t)row * (size_t)fr_mla_q_width(m) + m->q_before + head * (m->nope + m->rope);
}
static inline float *fr_mla_output(const fr_mla *m, const fr_mla_scratch *s, int row, int head) {
    return s->o + (size_t)row * (size_t)fr_mla_o_width(m) + (m->first_head + head) * m->v;
}

void fr_mla_scratch_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *mla, int max_rows, const fr_compute *compute);

/* The same for sparse attention, with the sizes of an indexer. */
void fr_mla_scratch_take_index(fr_mla_scratch *s, fr_arena *arena, const fr_mla *mla, int max_rows, int ctx);

/* TEAM. y [rows, hidden] += attention of rows x (set with fr_mla_inputs) at positions pos .. pos + rows - 1; delta [rows, hidden]
 * is used on the way. Row r sees positions [0, pos + r]. The rows are written to the cache and not committed. */
void fr_mla_forward(const fr_mla *mla, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x, float *y,
                    float *delta, fr_mla_scratch *s);
/* TEAM. Writes the rows to the cache, as fr_mla_forward does, and computes nothing else. */
void fr_mla_kv_only(const fr_mla *mla, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x,
                    fr_mla_scratch *s);
/* How its linears read x: a set of FR_INPUT_*. */
unsigned fr_mla_inputs(const fr_mla *mla);

#endif
