#include "attn/chunk.h"

#include <assert.h>
#include <math.h>

#include "core/threads.h"

static int at_most(int a, int b) {
    return a < b ? a : b;
}

/* ---- Memory ---- */

void fr_chunk_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m) {
    const fr_tiled_attention *tiled = s->compute->kernels->tiled_attention;
    const int width = m->kv_rank + m->rope;
    if (!tiled) return;
    s->tiles = FR_TAKE(arena, fr_mla_tiles, s->compute->threads);
    for (int t = 0; t < s->compute->threads; t++) {
        fr_mla_tiles unused, *own = s->tiles ? &s->tiles[t] : &unused; /* while counting there is no array to write to */
        for (int i = 0; i < FR_MLA_GROUPS; i++) tiled->take(&own->groups[i], arena, width, m->kv_rank);
        own->scratch = tiled->take_scratch(arena, width, m->kv_rank);
    }
}

void fr_chunk_begin(fr_mla_scratch *s) {
    for (int i = 0; s->tiles && i < FR_MLA_GROUPS; i++) s->tiles[fr_team_rank()].packed[i] = -1;
}

/* ---- Pairs and positions ---- */

static int pair_of(const fr_mla *m, const fr_attended *a, const fr_pairs *pairs, int item) {
    return (a->row + item / pairs->heads) * m->heads + pairs->head + item % pairs->heads;
}

/* Positions that the item's row sees. */
static int seen_by(const fr_attended *a, const fr_pairs *pairs, int item) {
    return a->seen + item / pairs->heads;
}

static float *latent_of(fr_partials p, int pair, int rank) {
    return p.latent + (size_t)(pair - p.first) * (size_t)rank;
}

/* Rows of the cache of the n positions from the at-th on, one after the other. */
static const void *span_rows(const fr_kv_cache *kv, int layer, const fr_attended *a, int at, int n, const fr_mla_scratch *s) {
    size_t bytes = (size_t)(kv->rank + kv->rope) * (kv->type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
    if (!a->list) return fr_kv_cache_row(kv, layer, at);
    const int32_t *list = a->list + at;
    if (list[n - 1] - list[0] == n - 1) return fr_kv_cache_row(kv, layer, list[0]); /* they are neighbours */
    char *gathered = (char *)s->gathered[fr_team_rank()];
    for (int t = 0; t < n; t++) memcpy(gathered + (size_t)t * bytes, fr_kv_cache_row(kv, layer, list[t]), bytes);
    return gathered;
}

/* ---- By vectors ---- */

#define GROUP 4 /* pairs of one row that go through a span together */

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

/* Folds `count` rows of the cache into the online softmax of n pairs of one row. */
static void fold_span(const fr_mla *m, const fr_kv_cache *kv, const void *rows, int count, int pair, int n, fr_partials to,
                      const fr_mla_scratch *s) {
    const fr_kernels *k = s->compute->kernels;
    const float *q[GROUP] = {0};
    float *latent[GROUP] = {0}, *scores[GROUP] = {0}, space[GROUP][FR_KV_SPAN];
    for (int i = 0; i < n; i++) {
        q[i] = s->q_absorbed + (size_t)(pair + i) * (size_t)(m->kv_rank + m->rope);
        latent[i] = latent_of(to, pair + i, m->kv_rank);
        scores[i] = space[i];
    }
    fr_kv_scores(kv->type, q, n, rows, kv->rank + kv->rope, count, scores, k);
    for (int i = 0; i < n; i++) {
        float highest = k->max(scores[i], count), *max = &to.max[pair + i - to.first], *sum = &to.sum[pair + i - to.first];
        if (highest > *max + FR_ATTEND_LATE) {
            float shrink = expf(*max - highest); /* 0 in the first span, where the maximum is -inf and sums are 0 */
            *sum *= shrink;
            for (int j = 0; *max > -INFINITY && j < m->kv_rank; j++) latent[i][j] *= shrink;
            *max = highest;
        }
        *sum += k->exp_sub(scores[i], *max, count);
    }
    add_values(k, latent, n, (const float *const *)scores, kv, rows, count);
}

static void attend_vectors(const fr_mla *m, const fr_kv_cache *kv, int layer, const fr_attended *a, int begin, int end,
                           const fr_pairs *pairs, fr_partials to, const fr_mla_scratch *s) {
    for (int item = pairs->begin; item < pairs->end; item++) {
        int pair = pair_of(m, a, pairs, item);
        memset(latent_of(to, pair, m->kv_rank), 0, (size_t)m->kv_rank * sizeof(float));
        to.max[pair - to.first] = -INFINITY;
        to.sum[pair - to.first] = 0.0f;
    }
    for (int span = begin; span < end; span += FR_KV_SPAN) {
        const void *rows = span_rows(kv, layer, a, span, at_most(end - span, FR_KV_SPAN), s);
        for (int item = pairs->begin, n; item < pairs->end; item += n) {
            int row_end = (item / pairs->heads + 1) * pairs->heads, seen = seen_by(a, pairs, item) - span;
            n = at_most(at_most(row_end, pairs->end) - item, GROUP);
            if (seen > 0) fold_span(m, kv, rows, at_most(seen, FR_KV_SPAN), pair_of(m, a, pairs, item), n, to, s);
        }
    }
}

/* ---- By tiles ---- */

/* Items [first, first + n) become queries of a group that has seen nothing yet. Packed queries serve all chunks of a layer. */
static void begin_group(const fr_mla *m, const fr_attended *a, const fr_pairs *pairs, int first, int n, fr_mla_tiles *own,
                        int group, const fr_mla_scratch *s) {
    const fr_tiled_attention *tiled = s->compute->kernels->tiled_attention;
    const int width = m->kv_rank + m->rope;
    const float *q[FR_TILED_QUERIES];
    int seen[FR_TILED_QUERIES];
    for (int i = 0; i < n; i++) {
        q[i] = s->q_absorbed + (size_t)pair_of(m, a, pairs, first + i) * (size_t)width;
        seen[i] = seen_by(a, pairs, first + i);
    }
    if (own->packed[group] != pair_of(m, a, pairs, first)) tiled->pack(&own->groups[group], q, n, width);
    own->packed[group] = pair_of(m, a, pairs, first);
    tiled->begin(&own->groups[group], seen, n, m->kv_rank);
}

static void end_group(const fr_mla *m, const fr_attended *a, const fr_pairs *pairs, int first, int n,
                      const fr_tiled_queries *group, fr_partials to, const fr_mla_scratch *s) {
    float *latent[FR_TILED_QUERIES], max[FR_TILED_QUERIES], sum[FR_TILED_QUERIES];
    for (int i = 0; i < n; i++) latent[i] = latent_of(to, pair_of(m, a, pairs, first + i), m->kv_rank);
    s->compute->kernels->tiled_attention->end(group, latent, max, sum, n, m->kv_rank);
    for (int i = 0; i < n; i++) {
        int pair = pair_of(m, a, pairs, first + i) - to.first;
        to.max[pair] = max[i];
        to.sum[pair] = sum[i];
    }
}

/* In batches whose groups have their places among the thread's own: a span's values are interleaved once for all of them. */
static void attend_tiled(const fr_mla *m, const fr_kv_cache *kv, int layer, const fr_attended *a, int begin, int end,
                         const fr_pairs *pairs, fr_partials to, const fr_mla_scratch *s) {
    enum { Q = FR_TILED_QUERIES, BATCH = FR_MLA_GROUPS * Q };
    const fr_tiled_attention *tiled = s->compute->kernels->tiled_attention;
    const int width = m->kv_rank + m->rope;
    fr_mla_tiles *own = &s->tiles[fr_team_rank()];
    assert(pairs->begin % Q == 0);
    for (int first = pairs->begin, last; first < pairs->end; first = last) {
        last = at_most((first / BATCH + 1) * BATCH, pairs->end);
        fr_tiled_queries *groups = own->groups + first % BATCH / Q;
        int count = (last - first + Q - 1) / Q;
        for (int i = 0; i < count; i++)
            begin_group(m, a, pairs, first + i * Q, at_most(last - first - i * Q, Q), own, first % BATCH / Q + i, s);
        for (int at = begin; at < end; at += FR_TILED_SPAN) {
            int n = at_most(end - at, FR_TILED_SPAN);
            tiled->fold(groups, count, span_rows(kv, layer, a, at, n, s), width, at, n, width, m->kv_rank, own->scratch);
        }
        for (int i = 0; i < count; i++)
            end_group(m, a, pairs, first + i * Q, at_most(last - first - i * Q, Q), &groups[i], to, s);
    }
}

/* ---- Chunks ---- */

void fr_chunk_attend(const fr_mla *m, const fr_kv_cache *kv, int layer, const fr_attended *a, int chunk, const fr_pairs *pairs,
                     fr_partials to, fr_mla_scratch *s) {
    int begin = chunk * FR_CHUNK, end = at_most(begin + FR_CHUNK, fr_attended_positions(a));
    if (fr_mla_has_tiles(s, kv->type))
        attend_tiled(m, kv, layer, a, begin, end, pairs, to, s);
    else
        attend_vectors(m, kv, layer, a, begin, end, pairs, to, s);
}

void fr_chunk_merge(fr_partials all, fr_partials next, int pair, int rank) {
    float *a = latent_of(all, pair, rank), *max = &all.max[pair - all.first], *sum = &all.sum[pair - all.first];
    const float *b = latent_of(next, pair, rank), next_max = next.max[pair - next.first];
    float highest = next_max > *max ? next_max : *max, by = expf(*max - highest), next_by = expf(next_max - highest);
    for (int i = 0; i < rank; i++) a[i] = a[i] * by + b[i] * next_by;
    *sum = *sum * by + next.sum[pair - next.first] * next_by;
    *max = highest;
}
