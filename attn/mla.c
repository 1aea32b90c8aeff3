#include "attn/mla.h"

#include <assert.h>

#include "attn/absorbed.h"
#include "attn/expanded.h"
#include "core/linear/norm.h"
#include "core/threads.h"

static int larger(int a, int b) {
    return a > b ? a : b;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

void fr_mla_scratch_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows, const fr_compute *compute) {
    const int o_width = fr_mla_o_width(m);
    size_t rows = (size_t)max_rows, heads = (size_t)m->heads;
    s->compute = compute;
    s->cq = FR_TAKE(arena, float, rows *(size_t)larger(m->q_rank, 1));
    s->cq_normed = FR_TAKE(arena, float, (size_t)smaller(max_rows, FR_DECODE_ROWS) * (size_t)larger(m->q_rank, 1));
    s->q = FR_TAKE(arena, float, rows *(size_t)fr_mla_q_width(m));
    s->ckv_full = FR_TAKE(arena, float, rows *(size_t)(m->kv_rank + m->rope));
    s->o = FR_TAKE(arena, float, rows *(size_t)o_width);
    fr_rows_take(&s->cq_rows, arena, compute->kernels, max_rows, larger(m->q_rank, 1), FR_INPUT_ANY);
    fr_rows_take(&s->o_rows, arena, compute->kernels, max_rows, o_width, FR_INPUT_ANY);
    int blocks = fr_blocks(o_width);
    s->o_done = FR_TAKE(arena, atomic_int, blocks);
    for (int i = 0; s->o_done && i < blocks; i++) atomic_init(&s->o_done[i], 0);
    fr_absorbed_take(s, arena, m, max_rows);
    if (max_rows <= FR_DECODE_ROWS) return; /* never expanded */
    s->span_latent = FR_TAKE(arena, float, FR_KV_EXPANDED_SPAN *(size_t)m->kv_rank);
    s->span_pe = FR_TAKE(arena, float, FR_KV_EXPANDED_SPAN *(size_t)m->rope);
    fr_rows_take(&s->span_rows, arena, compute->kernels, FR_KV_EXPANDED_SPAN, m->kv_rank, FR_INPUT_EXACT);
    fr_expanded_take(s, arena, m, max_rows);
    s->running_max = FR_TAKE(arena, float, rows *heads);
    s->running_sum = FR_TAKE(arena, float, rows *heads);
}

void fr_mla_scratch_take_index(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows, int ctx) {
    const int threads = s->compute->threads;
    fr_index_scratch_take(&s->index, arena, &m->indexer, max_rows, ctx, s->compute);
    s->gathered = FR_TAKE(arena, float *, threads);
    for (int t = 0; t < threads; t++) {
        float *own = FR_TAKE(arena, float, FR_KV_SPAN *(size_t)(m->kv_rank + m->rope));
        if (s->gathered) s->gathered[t] = own;
    }
}

unsigned fr_mla_inputs(const fr_mla *m) {
    return fr_linear_input(m->q_rank ? &m->q_a_proj : &m->q_proj, m->act_fp8) |
           fr_linear_input(&m->kv_a_proj_with_mqa, m->act_fp8) | fr_indexer_inputs(&m->indexer, m->act_fp8);
}

/* The first sweep: what x alone is needed for. s->cq, or without a latent for queries s->q, and s->ckv_full; of the indexer its
 * key and, where it scores, its weights; TEAM. */
static void project_inputs(const fr_mla *m, const fr_rows *x, bool scores, fr_mla_scratch *s) {
    fr_linear_product products[4] = {{m->q_rank ? &m->q_a_proj : &m->q_proj, m->q_rank ? s->cq : s->q},
                                     {&m->kv_a_proj_with_mqa, s->ckv_full}};
    int count = 2;
    if (m->indexer.topk) products[count++] = (fr_linear_product){&m->indexer.wk, s->index.k};
    if (scores) products[count++] = (fr_linear_product){&m->indexer.weights_proj, s->index.weights};
    fr_linear_forward_each(products, count, x, s->compute);
}

/* Writes the latents and shared keys of rows [begin, end), s->ckv_full, to the cache, and the keys of the indexer, if there is
 * one.
 */
static void write_cache(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, int begin, int end,
                        fr_mla_scratch *s) {
    for (int r = begin; r < end; r++) {
        float *row = s->ckv_full + (size_t)r * (size_t)(m->kv_rank + m->rope);
        fr_rmsnorm_row(s->compute->kernels, row, row, m->kv_a_layernorm, m->eps, m->kv_rank);
        fr_rope_apply(rope, pos + r, row + m->kv_rank);
        fr_kv_cache_write(kv, layer, pos + r, row, s->compute->kernels);
    }
    if (m->indexer.topk) fr_indexer_write_keys(&m->indexer, rope, kv, pos, begin, end, &s->index);
}

/* How the linears after q_a_layernorm read the queries' latent. */
static unsigned latent_inputs(const fr_mla *m) {
    return fr_linear_input(&m->q_b_proj, m->act_fp8) | (m->indexer.topk ? fr_linear_input(&m->indexer.wq_b, m->act_fp8) : 0);
}

/* ---- Decode ---- */

/* Normalizes the latents: the cache's rows, and s->cq_rows, if queries have one. Begins after project_inputs, has no barrier. */
static void normalize_latents(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, int rows,
                              fr_mla_scratch *s) {
    fr_norm_job queries = {.to = &s->cq_rows,
                           .y = s->cq_normed,
                           .x = s->cq,
                           .w = m->q_a_layernorm,
                           .eps = m->eps,
                           .rows = rows,
                           .width = m->q_rank,
                           .inputs = latent_inputs(m),
                           .ue8m0 = m->act_ue8m0};
    int units = m->q_rank ? rows * fr_blocks(m->q_rank) : 0, begin, end;
    fr_share share = fr_team_share(units + rows, 1);
    if (fr_share_next(&share, units, &begin, &end)) fr_rows_normed_part(&queries, begin, end);
    if (fr_share_next(&share, rows, &begin, &end)) write_cache(m, rope, kv, layer, pos, begin, end, s);
    if (m->q_rank && fr_team_rank() == 0) fr_rows_begin(&s->cq_rows, s->cq_normed, rows, m->q_rank, queries.inputs, m->act_ue8m0);
}

/* s->q: where heads are even, of the thread's own ones, else of all, with a barrier. */
static void expand_queries(const fr_mla *m, fr_mla_scratch *s) {
    int head = m->nope + m->rope, width = fr_mla_q_width(m), begin, end;
    if (!fr_heads_are_even(m)) {
        fr_linear_forward(&m->q_b_proj, &s->cq_rows, s->q, width, s->compute);
        return;
    }
    fr_team_split(m->heads, 1, &begin, &end);
    begin = m->q_before + begin * head;
    end = m->q_before + end * head;
    if (begin < end) fr_linear_range(&m->q_b_proj, &s->cq_rows, begin, end, s->q, width, s->compute);
}

static void attend_decode(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, int rows,
                          fr_mla_scratch *s) {
    bool scores = fr_indexer_scores(&m->indexer, pos + rows - 1);
    normalize_latents(m, rope, kv, layer, pos, rows, s);
    if (m->q_rank) {
        fr_team_barrier();
        if (scores) fr_indexer_queries(&m->indexer, rope, &s->cq_rows, pos, &s->index);
        expand_queries(m, s);
    }
    fr_absorb_queries(m, rope, pos, rows, s);
    if (!m->q_rank || scores || fr_attention_is_shared(m, kv->type, pos, rows, s))
        fr_team_barrier(); /* the cache's rows, others' queries */
    double began = s->attention_s ? fr_team_worked() : 0.0;
    if (scores) fr_indexer_choose(&m->indexer, kv, pos, rows, &s->index);
    fr_attend_absorbed(m, kv, layer, pos, rows, s);
    if (s->attention_s) s->attention_s[fr_team_rank()] += fr_team_worked() - began;
    fr_project_values(m, rows, s);
}

/* ---- Prefill ---- */

/* s->q [rows, heads, nope + rope], with its rope part rotated, and the cache's rows; TEAM. */
static void prepare_prefill(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, int rows,
                            fr_mla_scratch *s) {
    bool scores = fr_indexer_scores(&m->indexer, pos + rows - 1);
    int begin, end;
    fr_team_split(rows, 1, &begin, &end);
    write_cache(m, rope, kv, layer, pos, begin, end, s);
    if (m->q_rank) {
        fr_rmsnorm(s->compute->kernels, s->cq, s->cq, m->q_a_layernorm, m->eps, rows, m->q_rank);
        fr_rows_set(&s->cq_rows, s->cq, rows, m->q_rank, latent_inputs(m), m->act_ue8m0);
        fr_linear_forward(&m->q_b_proj, &s->cq_rows, s->q, fr_mla_q_width(m), s->compute);
        if (scores) fr_indexer_queries(&m->indexer, rope, &s->cq_rows, pos, &s->index);
    }
    fr_team_split(rows * m->heads, 1, &begin, &end);
    for (int i = begin; i < end; i++)
        fr_rope_apply(rope, pos + i / m->heads, fr_mla_query(m, s, i / m->heads, i % m->heads) + m->nope);
    fr_team_barrier();
    if (scores) fr_indexer_choose(&m->indexer, kv, pos, rows, &s->index);
}

void fr_mla_forward(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x, float *y,
                    float *delta, fr_mla_scratch *s) {
    int rows = x->rows;
    assert(pos >= kv->length && pos + rows <= kv->ctx && kv->rank == m->kv_rank && kv->rope == m->rope);
    assert(rows <= FR_DECODE_ROWS || s->expanded);
    if (m->indexer.topk && fr_team_rank() == 0) fr_indexer_see_all(pos, rows, &s->index);
    project_inputs(m, x, fr_indexer_scores(&m->indexer, pos + rows - 1), s);
    if (rows <= FR_DECODE_ROWS) {
        attend_decode(m, rope, kv, layer, pos, rows, s);
    } else {
        prepare_prefill(m, rope, kv, layer, pos, rows, s);
        fr_attend_expanded(m, kv, layer, pos, rows, s);
        const unsigned input = fr_linear_input(&m->o_proj, m->act_fp8);
        const fr_joint_rows o = {&s->o_rows, s->o, rows, fr_mla_o_width(m), m->v, input, m->act_ue8m0};
        fr_rows_set_joint(&s->compute->exchange, &o);
    }
    fr_linear_add(&m->o_proj, &s->o_rows, y, delta, s->compute);
}

void fr_mla_kv_only(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x,
                    fr_mla_scratch *s) {
    fr_linear_product products[] = {{&m->kv_a_proj_with_mqa, s->ckv_full}, {&m->indexer.wk, s->index.k}};
    int begin, end;
    fr_linear_forward_each(products, m->indexer.topk ? 2 : 1, x, s->compute);
    fr_team_split(x->rows, 1, &begin, &end);
    write_cache(m, rope, kv, layer, pos, begin, end, s);
    fr_team_barrier();
}
