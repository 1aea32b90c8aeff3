#include "attn/mla.h"

#include <math.h>

#include "attn/expanded.h"
#include "core/norm.h"
#include "core/threads.h"

static int larger(int a, int b) {
    return a > b ? a : b;
}

void fr_mla_scratch_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows, int threads,
                         void *linear_scratch, size_t linear_scratch_bytes) {
    size_t rows = (size_t)max_rows, heads = (size_t)m->heads;
    s->max_rows = max_rows;
    s->threads = threads;
    s->linear_scratch = linear_scratch;
    s->linear_scratch_bytes = linear_scratch_bytes;
    s->cq = FR_TAKE(arena, float, rows * (size_t)larger(m->q_rank, 1));
    s->q = FR_TAKE(arena, float, rows * heads * (size_t)(m->nope + m->rope));
    s->ckv_full = FR_TAKE(arena, float, rows * (size_t)(m->kv_rank + m->rope));
    s->o = FR_TAKE(arena, float, rows * heads * (size_t)m->v);
    fr_rows_take(&s->cq_rows, arena, max_rows, larger(m->q_rank, 1), FR_ROWS_ANY);
    fr_rows_take(&s->o_rows, arena, max_rows, m->heads * m->v, FR_ROWS_ANY);
    size_t few = (size_t)(max_rows < FR_FEW_ROWS ? max_rows : FR_FEW_ROWS), pairs = few * heads;
    s->q_absorbed = FR_TAKE(arena, float, pairs * (size_t)(m->kv_rank + m->rope));
    s->latent = FR_TAKE(arena, float, pairs * (size_t)m->kv_rank);
    s->pair_max = FR_TAKE(arena, float, pairs);
    s->pair_sum = FR_TAKE(arena, float, pairs);
    s->kv_b_out = FR_TAKE(arena, float, pairs * (size_t)(m->nope + m->v));
    if (max_rows <= FR_FEW_ROWS) return; /* never expanded */
    s->span_latent = FR_TAKE(arena, float, FR_KV_EXPANDED_SPAN * (size_t)m->kv_rank);
    s->span_pe = FR_TAKE(arena, float, FR_KV_EXPANDED_SPAN * (size_t)m->rope);
    fr_rows_take(&s->span_rows, arena, FR_KV_EXPANDED_SPAN, m->kv_rank, FR_ROWS_EXACT);
    s->expanded = FR_TAKE(arena, fr_expanded, threads);
    for (int t = 0; t < threads; t++) {
        fr_expanded unused; /* while counting there is no array to write to */
        fr_expanded_take(s->expanded ? &s->expanded[t] : &unused, arena, m, max_rows);
    }
    s->running_max = FR_TAKE(arena, float, rows * heads);
    s->running_sum = FR_TAKE(arena, float, rows * heads);
}

unsigned fr_mla_forms(const fr_mla *m) {
    return fr_linear_form(m->q_rank ? &m->q_a_proj : &m->q_proj, m->act_fp8) |
           fr_linear_form(&m->kv_a_proj_with_mqa, m->act_fp8);
}

/* s->q [rows, heads, nope + rope], with its rope part rotated; TEAM. */
static void project_queries(const fr_mla *m, const fr_rope *rope, int pos, const fr_rows *x, fr_mla_scratch *s) {
    int width = m->heads * (m->nope + m->rope), begin, end;
    if (m->q_rank) {
        fr_linear_forward(&m->q_a_proj, x, s->cq, m->q_rank, s->linear_scratch);
        fr_rmsnorm(s->cq, m->q_rank, s->cq, m->q_rank, m->q_a_layernorm, m->eps, x->rows, m->q_rank);
        fr_rows_set(&s->cq_rows, s->cq, x->rows, m->q_rank, fr_linear_form(&m->q_b_proj, m->act_fp8), m->act_ue8m0);
        fr_linear_forward(&m->q_b_proj, &s->cq_rows, s->q, width, s->linear_scratch);
    } else {
        fr_linear_forward(&m->q_proj, x, s->q, width, s->linear_scratch);
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
    fr_linear_forward(&m->kv_a_proj_with_mqa, x, s->ckv_full, width, s->linear_scratch);
    fr_team_split(x->rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        float *row = s->ckv_full + (size_t)r * (size_t)width;
        fr_rmsnorm_row(row, row, m->kv_a_layernorm, m->eps, m->kv_rank);
        fr_rope_apply(rope, pos + r, row + m->kv_rank);
        fr_kv_cache_write(kv, layer, pos + r, row);
    }
    fr_team_barrier();
}

/* Queries on the cache's own terms, [W_UK^T q_nope | q_pe] * softmax_scale, for all pairs; TEAM. */
static void absorb_queries(const fr_mla *m, int rows, fr_mla_scratch *s) {
    int width = m->kv_rank + m->rope, begin, end;
    fr_team_split(rows * m->heads, 1, &begin, &end);
    for (int i = begin; i < end; i++) { /* rows inside heads: a head's W_UK stays in cache for all rows */
        int head = i / rows, pair = i % rows * m->heads + head, first = head * (m->nope + m->v);
        const float *q = s->q + (size_t)pair * (size_t)(m->nope + m->rope);
        float *query = s->q_absorbed + (size_t)pair * (size_t)width;
        fr_linear_transposed(&m->kv_b_proj, first, first + m->nope, q, query);
        memcpy(query + m->kv_rank, q + m->nope, (size_t)m->rope * sizeof(float));
        for (int j = 0; j < width; j++) query[j] *= m->softmax_scale;
        memset(s->latent + (size_t)pair * (size_t)m->kv_rank, 0, (size_t)m->kv_rank * sizeof(float));
        s->pair_max[pair] = -INFINITY;
        s->pair_sum[pair] = 0.0f;
    }
    fr_team_barrier();
}

#define GROUP 4 /* pairs of one row that go through a span together */

static void scores_of(const float *const *q, int n, const fr_kv_cache *kv, int layer, int pos, int count, float *const *scores) {
    const fr_kernels *k = fr_kernels_get();
    int width = kv->rank + kv->rope;
    if (kv->type == FR_KV_BF16 && k->attend_scores_bf16) {
        k->attend_scores_bf16(q, n, fr_kv_cache_row(kv, layer, pos), width, count, width, scores);
        return;
    }
    for (int t = 0; t < count; t++) {
        const void *row = fr_kv_cache_row(kv, layer, pos + t);
        for (int i = 0; i < n; i++)
            scores[i][t] = kv->type == FR_KV_F32 ? k->dot_f32(q[i], row, width) : k->dot_bf16(q[i], row, width);
    }
}

static void add_values(float *const *latent, int n, const float *const *p, const fr_kv_cache *kv, int layer, int pos, int count) {
    const fr_kernels *k = fr_kernels_get();
    if (kv->type == FR_KV_BF16 && k->attend_values_bf16) {
        k->attend_values_bf16(latent, n, p, fr_kv_cache_row(kv, layer, pos), kv->rank + kv->rope, count, kv->rank);
        return;
    }
    for (int t = 0; t < count; t++) {
        const void *row = fr_kv_cache_row(kv, layer, pos + t);
        for (int i = 0; i < n; i++)
            if (kv->type == FR_KV_F32) k->axpy_f32(latent[i], p[i][t], row, kv->rank);
            else k->axpy_bf16(latent[i], p[i][t], row, kv->rank);
    }
}

/* Folds positions pos .. pos + count - 1 into the running softmax of n pairs of one row. ONE THREAD. */
static void fold_span(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int count, int pair, int n, fr_mla_scratch *s) {
    const fr_kernels *k = fr_kernels_get();
    const float *q[GROUP];
    float *latent[GROUP], *scores[GROUP], space[GROUP][FR_KV_SPAN];
    for (int i = 0; i < n; i++) {
        q[i] = s->q_absorbed + (size_t)(pair + i) * (size_t)(m->kv_rank + m->rope);
        latent[i] = s->latent + (size_t)(pair + i) * (size_t)m->kv_rank;
        scores[i] = space[i];
    }
    scores_of(q, n, kv, layer, pos, count, scores);
    for (int i = 0; i < n; i++) {
        float highest = k->max(scores[i], count), *running = &s->pair_max[pair + i];
        if (highest > *running) {
            float shrink = expf(*running - highest); /* 0 in the first span, where the maximum was -inf */
            s->pair_sum[pair + i] *= shrink;
            for (int j = 0; j < m->kv_rank; j++) latent[i][j] *= shrink;
            *running = highest;
        }
        s->pair_sum[pair + i] += k->exp_sub(scores[i], *running, count);
    }
    add_values(latent, n, (const float *const *)scores, kv, layer, pos, count);
}

/* Absorbed form; TEAM. A pair sees the spans in order, and its sums do not depend on who shares them. */
static void attend_absorbed(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s) {
    int expanded = m->heads * (m->nope + m->v), begin, end;
    absorb_queries(m, rows, s);
    fr_team_split(rows * m->heads, 1, &begin, &end);
    for (int span = 0; span < pos + rows; span += FR_KV_SPAN) {
        for (int pair = begin, n; pair < end; pair += n) {
            int row = pair / m->heads, seen = pos + row + 1 - span; /* positions of this span and later that the row sees */
            int row_end = (row + 1) * m->heads < end ? (row + 1) * m->heads : end;
            n = row_end - pair < GROUP ? row_end - pair : GROUP;
            if (seen > 0) fold_span(m, kv, layer, span, seen < FR_KV_SPAN ? seen : FR_KV_SPAN, pair, n, s);
        }
    }
    for (int pair = begin; pair < end; pair++)
        for (int i = 0; i < m->kv_rank; i++) s->latent[(size_t)pair * (size_t)m->kv_rank + (size_t)i] /= s->pair_sum[pair];
    fr_team_barrier();
    fr_rows latents = {.rows = rows * m->heads, .width = m->kv_rank, .x = s->latent};
    fr_team_split(m->heads, 1, &begin, &end);
    for (int head = begin; head < end; head++) {
        /* The values of a head are outputs [first, first + v) of kv_b_proj; its weights are read once for all rows. */
        int first = head * (m->nope + m->v) + m->nope, pairs[FR_FEW_ROWS];
        for (int r = 0; r < rows; r++) pairs[r] = r * m->heads + head;
        fr_linear_few(&m->kv_b_proj, &latents, pairs, rows, first, first + m->v, s->kv_b_out, expanded);
        for (int r = 0; r < rows; r++)
            memcpy(s->o + (size_t)pairs[r] * (size_t)m->v, s->kv_b_out + (size_t)r * (size_t)expanded + first,
                   (size_t)m->v * sizeof(float));
    }
    fr_team_barrier();
}

void fr_mla_forward(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x, float *y,
                    fr_mla_scratch *s) {
    int rows = x->rows;
    project_queries(m, rope, pos, x, s);
    project_latents(m, rope, kv, layer, pos, x, s);
    if (rows <= FR_FEW_ROWS) attend_absorbed(m, kv, layer, pos, rows, s);
    else fr_attend_expanded(m, kv, layer, pos, rows, s);
    fr_rows_set(&s->o_rows, s->o, rows, m->heads * m->v, fr_linear_form(&m->o_proj, m->act_fp8), m->act_ue8m0);
    fr_linear_forward(&m->o_proj, &s->o_rows, y, m->hidden, s->linear_scratch);
}

void fr_mla_remember(const fr_mla *m, const fr_rope *rope, fr_kv_cache *kv, int layer, int pos, const fr_rows *x,
                     fr_mla_scratch *s) {
    project_latents(m, rope, kv, layer, pos, x, s);
}
