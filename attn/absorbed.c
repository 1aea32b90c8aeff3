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

/* What pairs attend to: rows `pos` and on of a pass see the positions up to their own; or one row sees those of a list. */
typedef struct attended {
    const fr_kv_cache *kv;
    int layer, pos, rows;
    const int32_t *list; /* [pos + rows]: the positions, ascending; NULL: 0, 1, .. */
    void *gathered;      /* the thread's own, of which a list needs one */
} attended;

/* Rows of the cache of the n positions from the at-th on, one after the other. */
static const void *span_rows(const attended *a, int at, int n) {
    const fr_kv_cache *kv = a->kv;
    const int32_t *list = a->list + at;
    size_t bytes = (size_t)(kv->rank + kv->rope) * (kv->type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
    if (!a->list) return fr_kv_cache_row(kv, a->layer, at);
    if (list[n - 1] - list[0] == n - 1) return fr_kv_cache_row(kv, a->layer, list[0]); /* they are neighbours */
    for (int t = 0; t < n; t++) memcpy((char *)a->gathered + (size_t)t * bytes, fr_kv_cache_row(kv, a->layer, list[t]), bytes);
    return a->gathered;
}

/* latent[i] += sum of p[i][t] times the latent of row t, of `count` rows of the cache. */
static void add_values(const fr_kernels *k, float *const *latent, int n, const float *const *p, const fr_kv_cache *kv,
                       const void *rows, int count) {
    const size_t width = (size_t)(kv->rank + kv->rope);
    if (kv->type == FR_KV_BF16 && k->attend_values_bf16) {
        k->attend_values_bf16(latent, n, p, rows, (int64_t)width, count, kv->rank);
        return;
    }
    for (size_t t = 0; t < (size_t)count; t++)
        for (int i = 0; i < n; i++)
            if (kv->type == FR_KV_F32)
                k->axpy_f32(latent[i], p[i][t], (const float *)rows + t * width, kv->rank);
            else
                k->axpy_bf16(latent[i], p[i][t], (const uint16_t *)rows + t * width, kv->rank);
}

/* Folds `count` rows of the cache into the online softmax of n pairs of one row. ONE THREAD. */
static void fold_span(const fr_mla *m, const fr_kv_cache *kv, const void *rows, int count, int pair, int n, fr_mla_scratch *s) {
    const fr_kernels *k = s->compute->kernels;
    const float *q[GROUP] = {0};
    float *latent[GROUP] = {0}, *scores[GROUP] = {0}, space[GROUP][FR_KV_SPAN];
    for (int i = 0; i < n; i++) {
        q[i] = s->q_absorbed + (size_t)(pair + i) * (size_t)(m->kv_rank + m->rope);
        latent[i] = s->latent + (size_t)(pair + i) * (size_t)m->kv_rank;
        scores[i] = space[i];
    }
    fr_kv_scores(kv->type, q, n, rows, kv->rank + kv->rope, count, scores, k);
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
    add_values(k, latent, n, (const float *const *)scores, kv, rows, count);
}

/* s->latent of these pairs, by vectors. ONE THREAD. */
static void attend_pairs(const fr_mla *m, const attended *a, const own_pairs *own, fr_mla_scratch *s) {
    const int total = a->pos + a->rows;
    for (int item = own->begin; item < own->end; item++) {
        int pair = pair_of(own, item);
        memset(s->latent + (size_t)pair * (size_t)m->kv_rank, 0, (size_t)m->kv_rank * sizeof(float));
        s->pair_max[pair] = -INFINITY;
        s->pair_sum[pair] = 0.0f;
    }
    for (int span = 0; span < total; span += FR_KV_SPAN) {
        const void *rows = span_rows(a, span, total - span < FR_KV_SPAN ? total - span : FR_KV_SPAN);
        for (int item = own->begin, n; item < own->end; item += n) {
            int row = item / own->heads, seen = a->pos + row + 1 - span; /* positions of this span and later that the row sees */
            int row_end = (row + 1) * own->heads < own->end ? (row + 1) * own->heads : own->end;
            n = row_end - item < GROUP ? row_end - item : GROUP;
            if (seen > 0) fold_span(m, a->kv, rows, seen < FR_KV_SPAN ? seen : FR_KV_SPAN, pair_of(own, item), n, s);
        }
    }
    for (int item = own->begin; item < own->end; item++) {
        int pair = pair_of(own, item);
        for (int i = 0; i < m->kv_rank; i++) s->latent[(size_t)pair * (size_t)m->kv_rank + (size_t)i] /= s->pair_sum[pair];
    }
}

/* The same by tiles. */
static void attend_tiled(const fr_mla *m, const attended *a, const own_pairs *own, fr_mla_scratch *s) {
    const fr_tiled_attention *tiled = s->compute->kernels->tiled_attention;
    const int width = m->kv_rank + m->rope, total = a->pos + a->rows, begin = own->begin, end = own->end;
    const int count = (end - begin + FR_TILED_QUERIES - 1) / FR_TILED_QUERIES;
    fr_tiled_queries *groups = s->groups + own->group; /* no other thread's, see the taking */
    for (int i = 0; i < count; i++) {
        const float *q[FR_TILED_QUERIES];
        int first = begin + i * FR_TILED_QUERIES, seen[FR_TILED_QUERIES];
        int n = end - first < FR_TILED_QUERIES ? end - first : FR_TILED_QUERIES;
        for (int j = 0; j < n; j++) {
            q[j] = s->q_absorbed + (size_t)pair_of(own, first + j) * (size_t)width;
            seen[j] = a->pos + (first + j) / own->heads + 1;
        }
        tiled->begin(&groups[i], q, seen, n, width, m->kv_rank);
    }
    for (int at = 0; at < total; at += FR_TILED_SPAN) {
        int n = total - at < FR_TILED_SPAN ? total - at : FR_TILED_SPAN;
        tiled->fold(groups, count, span_rows(a, at, n), width, at, n, width, m->kv_rank, s->tiled_scratch[fr_team_rank()]);
    }
    for (int i = 0; i < count; i++) {
        float *latent[FR_TILED_QUERIES];
        int first = begin + i * FR_TILED_QUERIES, n = end - first < FR_TILED_QUERIES ? end - first : FR_TILED_QUERIES;
        for (int j = 0; j < n; j++) latent[j] = s->latent + (size_t)pair_of(own, first + j) * (size_t)m->kv_rank;
        tiled->end(&groups[i], latent, n, m->kv_rank);
    }
}

static void attend(const fr_mla *m, const attended *a, const own_pairs *own, fr_mla_scratch *s) {
    if (own->begin == own->end) return;
    if (s->groups && a->kv->type == FR_KV_BF16)
        attend_tiled(m, a, own, s);
    else
        attend_pairs(m, a, own, s);
}

/* Whether the rows of a pass attend to all positions up to their own. */
static bool see_all(const fr_choice *choices, int pos, int rows) {
    for (int r = 0; choices && r < rows; r++)
        if (choices[r].positions || choices[r].count != pos + r + 1) return false;
    return true;
}

/* Rows that attend to what each has chosen, one after the other. */
static void attend_chosen(const fr_mla *m, const fr_kv_cache *kv, int layer, int rows, const own_pairs *own, fr_mla_scratch *s) {
    for (int r = 0; r < rows; r++) {
        const fr_choice *choice = &s->index.choices[r];
        attended a = {kv, layer, choice->count - 1 - r, r + 1, choice->positions, s->gathered[fr_team_rank()]};
        own_pairs part = *own;
        if (part.begin < r * own->heads) part.begin = r * own->heads;
        if (part.end > (r + 1) * own->heads) part.end = (r + 1) * own->heads;
        if (part.begin < part.end) attend(m, &a, &part, s);
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
    if (see_all(s->index.choices, pos, rows))
        attend(m, &(attended){.kv = kv, .layer = layer, .pos = pos, .rows = rows}, &own, s);
    else
        attend_chosen(m, kv, layer, rows, &own, s);
    if (!fr_heads_are_owned(m, rows)) fr_team_barrier();
    project_values(m, rows, s);
}
