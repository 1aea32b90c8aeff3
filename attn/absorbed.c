#include "attn/absorbed.h"

#include <assert.h>
#include <math.h>

#include "core/kernels/tiled_attention.h"
#include "core/threads.h"

void fr_absorbed_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows) {
    size_t rows = (size_t)(max_rows < FR_DECODE_ROWS ? max_rows : FR_DECODE_ROWS), pairs = rows * (size_t)m->heads;
    s->q_absorbed = FR_TAKE(arena, float, pairs *(size_t)(m->kv_rank + m->rope));
    s->latent = FR_TAKE(arena, float, pairs *(size_t)m->kv_rank);
    s->pair_max = FR_TAKE(arena, float, pairs);
    s->pair_sum = FR_TAKE(arena, float, pairs);
    s->kv_b_out = FR_TAKE(arena, float, pairs *(size_t)(m->nope + m->v));
    const fr_tiled_attention *tiled = s->compute->kernels->tiled_attention;
    const int threads = s->compute->threads;
    if (!tiled) return;
    size_t groups = pairs / FR_TILED_QUERIES + (size_t)threads; /* each thread's last may be partial */
    s->groups = FR_TAKE(arena, fr_tiled_queries, groups);
    s->tiled_scratch = FR_TAKE(arena, void *, threads);
    for (size_t i = 0; i < groups; i++) {
        fr_tiled_queries unused; /* while counting there is no array to write to */
        tiled->take(s->groups ? &s->groups[i] : &unused, arena, m->kv_rank + m->rope, m->kv_rank);
    }
    for (int t = 0; t < threads; t++) {
        void *own = tiled->take_scratch(arena, m->kv_rank + m->rope, m->kv_rank);
        if (s->tiled_scratch) s->tiled_scratch[t] = own;
    }
}

bool fr_heads_are_even(const fr_mla *m) {
    return m->heads % fr_team_size() == 0;
}

bool fr_heads_are_owned(const fr_mla *m, int rows) {
    return rows == 1 || fr_heads_are_even(m); /* one row's pairs are split as heads are */
}

/* A thread's pairs in attention: of its own heads, or a part of all. Item i of [begin, end) is a pair; a row's are in a run. */
typedef struct own_pairs {
    int begin, end;
    int head, heads; /* the heads that they are of: `heads` from `head` on */
    int all_heads;
    int group; /* the first of the thread's fr_tiled_queries */
} own_pairs;

static own_pairs own_pairs_of(const fr_mla *m, int rows) {
    own_pairs own = {.heads = m->heads, .all_heads = m->heads};
    if (fr_heads_are_even(m)) {
        own.heads = m->heads / fr_team_size();
        own.head = own.heads * fr_team_rank();
        own.end = rows * own.heads;
        own.group = (own.end + FR_TILED_QUERIES - 1) / FR_TILED_QUERIES * fr_team_rank();
    } else {
        fr_team_split(rows * m->heads, 1, &own.begin, &own.end);
        own.group = own.begin / FR_TILED_QUERIES + fr_team_rank(); /* the one before may be partial */
    }
    return own;
}

static int pair_of(const own_pairs *own, int item) {
    return item / own->heads * own->all_heads + own->head + item % own->heads;
}

/* Queries as the cache's rows want them, [W_UK^T q_nope | q_pe] * softmax_scale. Owned heads come out as the thread's own. */
void fr_absorb_queries(const fr_mla *m, const fr_rope *rope, int pos, int rows, fr_mla_scratch *s) {
    int width = m->kv_rank + m->rope, begin, end;
    fr_team_split(rows * m->heads, 1, &begin, &end);
    for (int i = begin; i < end; i++) { /* rows inside heads, so that a head's W_UK stays in cache for all rows */
        int head = i / rows, pair = i % rows * m->heads + head, first = head * (m->nope + m->v);
        float *q = s->q + (size_t)pair * (size_t)(m->nope + m->rope);
        float *query = s->q_absorbed + (size_t)pair * (size_t)width;
        fr_rope_apply(rope, pos + i % rows, q + m->nope);
        fr_linear_transposed(&m->kv_b_proj, first, first + m->nope, q, query, s->compute->kernels);
        memcpy(query + m->kv_rank, q + m->nope, (size_t)m->rope * sizeof(float));
        for (int j = 0; j < width; j++) query[j] *= m->softmax_scale;
    }
}

#define GROUP 4 /* pairs of one row that go through a span together */

static void scores_of(const fr_kernels *k, const float *const *q, int n, const fr_kv_cache *kv, int layer, int pos, int count,
                      float *const *scores) {
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

static void add_values(const fr_kernels *k, float *const *latent, int n, const float *const *p, const fr_kv_cache *kv, int layer,
                       int pos, int count) {
    if (kv->type == FR_KV_BF16 && k->attend_values_bf16) {
        k->attend_values_bf16(latent, n, p, fr_kv_cache_row(kv, layer, pos), kv->rank + kv->rope, count, kv->rank);
        return;
    }
    for (int t = 0; t < count; t++) {
        const void *row = fr_kv_cache_row(kv, layer, pos + t);
        for (int i = 0; i < n; i++)
            if (kv->type == FR_KV_F32)
                k->axpy_f32(latent[i], p[i][t], row, kv->rank);
            else
                k->axpy_bf16(latent[i], p[i][t], row, kv->rank);
    }
}

/* Folds positions pos .. pos + count - 1 into the online softmax of n pairs of one row. ONE THREAD. */
static void fold_span(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int count, int pair, int n, fr_mla_scratch *s) {
    const fr_kernels *k = s->compute->kernels;
    const float *q[GROUP];
    float *latent[GROUP], *scores[GROUP], space[GROUP][FR_KV_SPAN];
    for (int i = 0; i < n; i++) {
        q[i] = s->q_absorbed + (size_t)(pair + i) * (size_t)(m->kv_rank + m->rope);
        latent[i] = s->latent + (size_t)(pair + i) * (size_t)m->kv_rank;
        scores[i] = space[i];
    }
    scores_of(k, q, n, kv, layer, pos, count, scores);
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
    add_values(k, latent, n, (const float *const *)scores, kv, layer, pos, count);
}

/* s->latent of these pairs, by vectors. ONE THREAD. */
static void attend_pairs(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, const own_pairs *own,
                         fr_mla_scratch *s) {
    for (int item = own->begin; item < own->end; item++) {
        int pair = pair_of(own, item);
        memset(s->latent + (size_t)pair * (size_t)m->kv_rank, 0, (size_t)m->kv_rank * sizeof(float));
        s->pair_max[pair] = -INFINITY;
        s->pair_sum[pair] = 0.0f;
    }
    for (int span = 0; span < pos + rows; span += FR_KV_SPAN) {
        for (int item = own->begin, n; item < own->end; item += n) {
            int row = item / own->heads, seen = pos + row + 1 - span; /* positions of this span and later that the row sees */
            int row_end = (row + 1) * own->heads < own->end ? (row + 1) * own->heads : own->end;
            n = row_end - item < GROUP ? row_end - item : GROUP;
            if (seen > 0) fold_span(m, kv, layer, span, seen < FR_KV_SPAN ? seen : FR_KV_SPAN, pair_of(own, item), n, s);
        }
    }
    for (int item = own->begin; item < own->end; item++) {
        int pair = pair_of(own, item);
        for (int i = 0; i < m->kv_rank; i++) s->latent[(size_t)pair * (size_t)m->kv_rank + (size_t)i] /= s->pair_sum[pair];
    }
}

/* The same by tiles. */
static void attend_tiled(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, const own_pairs *own,
                         fr_mla_scratch *s) {
    const fr_tiled_attention *tiled = s->compute->kernels->tiled_attention;
    const int width = m->kv_rank + m->rope, total = pos + rows, begin = own->begin, end = own->end;
    const int count = (end - begin + FR_TILED_QUERIES - 1) / FR_TILED_QUERIES;
    fr_tiled_queries *groups = s->groups + own->group; /* no other thread's, see the taking */
    for (int i = 0; i < count; i++) {
        const float *q[FR_TILED_QUERIES];
        int first = begin + i * FR_TILED_QUERIES, seen[FR_TILED_QUERIES];
        int n = end - first < FR_TILED_QUERIES ? end - first : FR_TILED_QUERIES;
        for (int j = 0; j < n; j++) {
            q[j] = s->q_absorbed + (size_t)pair_of(own, first + j) * (size_t)width;
            seen[j] = pos + (first + j) / own->heads + 1;
        }
        tiled->begin(&groups[i], q, seen, n, width, m->kv_rank);
    }
    for (int at = 0; at < total; at += FR_TILED_SPAN)
        tiled->fold(groups, count, fr_kv_cache_row(kv, layer, at), width, at,
                    total - at < FR_TILED_SPAN ? total - at : FR_TILED_SPAN, width, m->kv_rank, s->tiled_scratch[fr_team_rank()]);
    for (int i = 0; i < count; i++) {
        float *latent[FR_TILED_QUERIES];
        int first = begin + i * FR_TILED_QUERIES, n = end - first < FR_TILED_QUERIES ? end - first : FR_TILED_QUERIES;
        for (int j = 0; j < n; j++) latent[j] = s->latent + (size_t)pair_of(own, first + j) * (size_t)m->kv_rank;
        tiled->end(&groups[i], latent, n, m->kv_rank);
    }
}

/* s->o_rows from s->latent; TEAM. */
static void project_values(const fr_mla *m, int rows, fr_mla_scratch *s) {
    int expanded = m->heads * (m->nope + m->v), width = m->heads * m->v, begin, end;
    unsigned input = fr_linear_input(&m->o_proj, m->act_fp8);
    fr_rows latents = {.kernels = s->compute->kernels, .rows = rows * m->heads, .width = m->kv_rank, .x = s->latent};
    fr_team_split(m->heads, 1, &begin, &end);
    for (int head = begin; head < end; head++) {
        /* The values of a head are outputs [first, first + v) of kv_b_proj; its weights are read once for all rows. */
        int first = head * (m->nope + m->v) + m->nope, pairs[FR_DECODE_ROWS];
        for (int r = 0; r < rows; r++) pairs[r] = r * m->heads + head;
        fr_linear_decode(&m->kv_b_proj, &latents, pairs, rows, first, first + m->v, s->kv_b_out, expanded);
        for (int r = 0; r < rows; r++)
            memcpy(s->o + (size_t)pairs[r] * (size_t)m->v, s->kv_b_out + (size_t)r * (size_t)expanded + first,
                   (size_t)m->v * sizeof(float));
    }
    if (input & FR_INPUT_QUANTIZED)
        fr_rows_complete(&s->o_rows, s->o, width, m->act_ue8m0, 0, rows, begin * m->v, end * m->v, s->o_done);
    if (fr_team_rank() == 0) fr_rows_begin(&s->o_rows, s->o, rows, width, input, m->act_ue8m0);
    fr_team_barrier();
}

void fr_attend_absorbed(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s) {
    assert(rows <= FR_DECODE_ROWS && fr_team_size() <= s->compute->threads);
    own_pairs own = own_pairs_of(m, rows);
    if (s->groups && kv->type == FR_KV_BF16)
        attend_tiled(m, kv, layer, pos, rows, &own, s);
    else
        attend_pairs(m, kv, layer, pos, rows, &own, s);
    if (!fr_heads_are_owned(m, rows)) fr_team_barrier();
    project_values(m, rows, s);
}
