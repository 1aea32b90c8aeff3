#include "attn/mla.h"

#include <assert.h>

#include "attn/absorbed.h"
#include "attn/expanded.h"
#include "core/linear/norm.h"
#include "core/threads.h"

static int larger(int a, int b) {
    return a > b ? a : b;
}

void fr_mla_scratch_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows, const fr_compute *compute) {
    size_t rows = (size_t)max_rows, heads = (size_t)m->heads;
    s->compute = compute;
    s->cq = FR_TAKE(arena, float, rows *(size_t)larger(m->q_rank, 1));
    s->q = FR_TAKE(arena, float, rows *heads *(size_t)(m->nope + m->rope));
    s->ckv_full = FR_TAKE(arena, float, rows *(size_t)(m->kv_rank + m->rope));
    s->o = FR_TAKE(arena, float, rows *heads *(size_t)m->v);
    fr_rows_take(&s->cq_rows, arena, compute->kernels, max_rows, larger(m->q_rank, 1), FR_INPUT_ANY);
    fr_rows_take(&s->o_rows, arena, compute->kernels, max_rows, m->heads * m->v, FR_INPUT_ANY);
    fr_absorbed_take(s, arena, m, max_rows);
    if (max_rows <= FR_DECODE_ROWS) return; /* never expanded */
    s->span_latent = FR_TAKE(arena, float, FR_KV_EXPANDED_SPAN *(size_t)m->kv_rank);
    s->span_pe = FR_TAKE(arena, float, FR_KV_EXPANDED_SPAN *(size_t)m->rope);
    fr_rows_take(&s->span_rows, arena, compute->kernels, FR_KV_EXPANDED_SPAN, m->kv_rank, FR_INPUT_EXACT);
    s->expanded = FR_TAKE(arena, fr_expanded, compute->threads);
    for (int t = 0; t < compute->threads; t++) {
        fr_expanded unused; /* while counting there is no array to write to */
        fr_expanded_take(s->expanded ? &s->expanded[t] : &unused, arena, compute->kernels, m, max_rows);
    }
    s->running_max = FR_TAKE(arena, float, rows *heads);
    s->running_sum = FR_TAKE(arena, float, rows *heads);
}

unsigned fr_mla_inputs(const fr_mla *m) {
    return fr_linear_input(m->q_rank ? &m->q_a_proj : &m->q_proj, m->act_fp8) |
           fr_linear_input(&m->kv_a_proj_with_mqa, m->act_fp8);
}

/* s->q [rows, heads, nope + rope], with its rope part rotated; TEAM. */
static void project_queries(const fr_mla *m, const fr_rope *rope, int pos, const fr_rows *x, fr_mla_scratch *s) {
    int width = m->heads * (m->nope + m->rope), begin, end;
    if (m->q_rank) {
        fr_linear_forward(&m->q_a_proj, x, s->cq, m->q_rank, s->compute);
        fr_rmsnorm(s->compute->kernels, s->cq, s->cq, m->q_a_layernorm, m->eps, x->rows, m->q_rank);
        fr_rows_set(&s->cq_rows, s->cq, x->rows, m->q_rank, fr_linear_input(&m->q_b_proj, m->act_fp8), m->act_ue8m0);
        fr_linear_forward(&m->q_b_proj, &s->cq_rows, s->q, width, s->compute);
    } else {
        fr_linear_forward(&m->q_proj, x, s->q, width, s->compute);
    }
    fr_team_split(x->rows * m->heads, 1, &begin, &end);
    for (int i = begin; i < end; i++)
        fr_rope_apply(rope, pos + i / m->heads, s->q + (size_t)i * (size_t)(m->nope + m->rope) + m->nope);
    fr_team_barrier();
}

/* Writes the rows' latents and shared keys to the cache; TEAM. */
static void project_latents(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x,
                            fr_mla_scratch *s) {
    int width = m->kv_rank + m->rope, begin, end;
    fr_linear_forward(&m->kv_a_proj_with_mqa, x, s->ckv_full, width, s->compute);
    fr_team_split(x->rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        float *row = s->ckv_full + (size_t)r * (size_t)width;
        fr_rmsnorm_row(s->compute->kernels, row, row, m->kv_a_layernorm, m->eps, m->kv_rank);
        fr_rope_apply(rope, pos + r, row + m->kv_rank);
        fr_kv_cache_write(kv, layer, pos + r, row, s->compute->kernels);
    }
    fr_team_barrier();
}

void fr_mla_forward(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x, float *y,
                    fr_mla_scratch *s) {
    int rows = x->rows;
    assert(pos >= kv->length && pos + rows <= kv->ctx && kv->rank == m->kv_rank && kv->rope == m->rope);
    assert(rows <= FR_DECODE_ROWS || s->expanded);
    project_queries(m, rope, pos, x, s);
    project_latents(m, rope, kv, layer, pos, x, s);
    if (rows <= FR_DECODE_ROWS)
        fr_attend_absorbed(m, kv, layer, pos, rows, s);
    else
        fr_attend_expanded(m, kv, layer, pos, rows, s);
    fr_rows_set(&s->o_rows, s->o, rows, m->heads * m->v, fr_linear_input(&m->o_proj, m->act_fp8), m->act_ue8m0);
    fr_linear_forward(&m->o_proj, &s->o_rows, y, m->hidden, s->compute);
}

void fr_mla_kv_only(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x,
                    fr_mla_scratch *s) {
    project_latents(m, rope, kv, layer, pos, x, s);
}
