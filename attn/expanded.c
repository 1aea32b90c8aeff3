#include <assert.h>
#include <math.h>

#include "attn/expanded.h"
#include "core/kernels/prefill_layout.h"
#include "core/threads.h"

_Static_assert(FR_KV_EXPANDED_SPAN % FR_KV_BLOCK == 0, "a span is whole blocks");
_Static_assert(FR_KV_BLOCK % FR_TILE_TOKENS == 0, "a block's rows begin at a tile (fr_rows_part)");
_Static_assert(16 > FR_DECODE_ROWS, "padded positions are too many for decode");

static int at_most(int a, int b) {
    return a < b ? a : b;
}

void fr_expanded_take(fr_expanded *e, fr_arena *arena, const fr_kernels *kernels, const fr_mla *m, int max_rows) {
    size_t rows = (size_t)max_rows;
    e->q = FR_TAKE(arena, float, rows *(size_t)(m->nope + m->rope));
    e->kv = FR_TAKE(arena, float, (size_t)FR_KV_BLOCK *(size_t)(m->nope + m->v + FR_BLOCK));
    e->k = FR_TAKE(arena, float, (size_t)FR_KV_BLOCK *(size_t)(m->nope + m->rope));
    e->v = FR_TAKE(arena, float, (size_t)m->v *FR_KV_BLOCK);
    e->p = FR_TAKE(arena, float, rows *FR_KV_BLOCK);
    e->pv = FR_TAKE(arena, float, rows *(size_t)m->v);
    fr_rows_take(&e->q_rows, arena, kernels, max_rows, m->nope + m->rope, FR_INPUT_EXACT);
    fr_rows_take(&e->p_rows, arena, kernels, max_rows, FR_KV_BLOCK, FR_INPUT_EXACT);
}

/* Gathers the head's queries, scaled, and packs them. */
static void begin_head(const fr_mla *m, fr_mla_scratch *s, fr_expanded *e, int head, int rows) {
    int width = m->nope + m->rope;
    for (int r = 0; r < rows; r++) {
        const float *q = fr_mla_query(m, s, r, head);
        for (int i = 0; i < width; i++) e->q[r * width + i] = q[i] * m->softmax_scale;
    }
    fr_rows_set_alone(&e->q_rows, e->q, rows, width, FR_INPUT_EXACT, false);
}

/* Keys e->k [count, nope + rope] and values e->v [v, count] of positions [at, at + count) of the span. */
static void expand(const fr_mla *m, const fr_mla_scratch *s, fr_expanded *e, int head, int at, int count) {
    int first = m->kv_before + head * (m->nope + m->v), aligned = first / FR_BLOCK * FR_BLOCK, skip = first - aligned;
    int width = skip + m->nope + m->v, k_width = m->nope + m->rope;
    /* Positions are padded to a multiple of 16, so that these are more than FR_DECODE_ROWS rows, and the regime is prefill. */
    fr_rows latents = fr_rows_part(&s->span_rows, at, (count + 15) / 16 * 16);
    fr_linear part = fr_linear_rows(&m->kv_b_proj, aligned, aligned + width);
    fr_linear_range(&part, &latents, 0, width, e->kv, width, s->compute);
    for (int t = 0; t < count; t++) {
        float *k = e->k + t * k_width;
        memcpy(k, e->kv + t * width + skip, (size_t)m->nope * sizeof *k);
        memcpy(k + m->nope, s->span_pe + (at + t) * m->rope, (size_t)m->rope * sizeof *k);
    }
    for (int t0 = 0; t0 < count; t0 += 16) /* transposed by cache lines */
        for (int i = 0; i < m->v; i++)
            for (int t = t0; t < t0 + 16 && t < count; t++) e->v[i * count + t] = e->kv[t * width + skip + m->nope + i];
}

/* The online softmax of one row: p becomes exp(score - maximum), and what was summed before is scaled to the new maximum. The row
 * sees the first `seen` of `count` positions. */
static void softmax(const fr_kernels *k, float *p, int seen, int count, float *running_max, float *running_sum, float *o, int v) {
    if (seen > 0) {
        float highest = k->max(p, seen);
        if (highest > *running_max) {
            float shrink = expf(*running_max - highest); /* 0 in the first block, where the maximum was -inf */
            *running_sum *= shrink;
            for (int i = 0; i < v; i++) o[i] *= shrink;
            *running_max = highest;
        }
        *running_sum += k->exp_sub(p, *running_max, seen);
    }
    for (int t = seen > 0 ? seen : 0; t < count; t++) p[t] = 0.0f;
}

/* The first of a choice's positions that is at least `from`. */
static int first_from(const fr_choice *choice, int from) {
    int low = 0, high = choice->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (choice->positions[middle] < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The same of a row that attends to what it has chosen of positions [block, block + count): the scores of these are moved to the
 * front, and their probabilities back to where they belong, among zeros. */
static void softmax_chosen(const fr_kernels *k, const fr_choice *choice, float *p, int block, int count, float *running_max,
                           float *running_sum, float *o, int v) {
    int first = first_from(choice, block), n = 0;
    const int32_t *chosen = choice->positions + first;
    for (; first + n < choice->count && chosen[n] < block + count; n++) p[n] = p[chosen[n] - block];
    softmax(k, p, n, n, running_max, running_sum, o, v);
    for (int t = count - 1; t >= 0; t--) p[t] = n > 0 && chosen[n - 1] == block + t ? p[--n] : 0.0f;
}

/* Folds positions [block, block + count), which begin at `at` of the span, into the online softmax of a head's rows. The sum of
 * values is kept in s->o, not normalized. */
static void fold_block(const fr_mla *m, fr_mla_scratch *s, fr_expanded *e, int head, int pos, int rows, int block, int at,
                       int count) {
    /* Rows before `first` see nothing of the block. A part of a tile is as much work as all of it, and FR_DECODE_ROWS or fewer
     * rows would be in the other regime. */
    int first = block > pos ? (block - pos) / FR_TILE_TOKENS * FR_TILE_TOKENS : 0;
    if (first > 0 && rows - first <= FR_DECODE_ROWS) first -= FR_TILE_TOKENS;
    int n = rows - first, k_width = m->nope + m->rope;
    fr_linear keys = {.out = count, .in = k_width, .dtype = FR_F32, .w = e->k, .stride = k_width};
    fr_linear values = {.out = m->v, .in = count, .dtype = FR_F32, .w = e->v, .stride = count};
    fr_rows queries = fr_rows_part(&e->q_rows, first, n);
    expand(m, s, e, head, at, count);
    fr_linear_range(&keys, &queries, 0, count, e->p, count, s->compute);
    for (int i = 0; i < n; i++) {
        size_t rh = (size_t)(first + i) * (size_t)m->heads + (size_t)head;
        float *p = e->p + i * count, *highest = s->running_max + rh, *sum = s->running_sum + rh;
        float *o = fr_mla_output(m, s, first + i, head);
        const fr_choice choice = s->index.choices ? s->index.choices[first + i] : (fr_choice){.count = pos + first + i + 1};
        if (choice.positions)
            softmax_chosen(s->compute->kernels, &choice, p, block, count, highest, sum, o, m->v);
        else
            softmax(s->compute->kernels, p, at_most(choice.count - block, count), count, highest, sum, o, m->v);
    }
    fr_rows_set_alone(&e->p_rows, e->p, n, count, FR_INPUT_EXACT, false);
    fr_linear_range(&values, &e->p_rows, 0, m->v, e->pv, m->v, s->compute);
    for (int i = 0; i < n; i++) {
        float *o = fr_mla_output(m, s, first + i, head);
        for (int j = 0; j < m->v; j++) o[j] += e->pv[i * m->v + j];
    }
}

/* Reads positions [span, span + n) of the cache and packs their latents; TEAM. */
static void read_span(const fr_mla *m, const fr_kv_cache *kv, int layer, int span, int n, fr_mla_scratch *s) {
    int padded = (n + 15) / 16 * 16, begin, end;
    fr_team_split(padded, 1, &begin, &end);
    for (int t = begin; t < end; t++) {
        float *latent = s->span_latent + t * m->kv_rank;
        if (t < n)
            fr_kv_cache_read(kv, layer, span + t, latent, s->span_pe + t * m->rope, s->compute->kernels);
        else
            memset(latent, 0, (size_t)m->kv_rank * sizeof *latent);
    }
    fr_team_barrier();
    fr_rows_set(&s->span_rows, s->span_latent, padded, m->kv_rank, FR_INPUT_EXACT | (kv->type == FR_KV_BF16 ? FR_INPUT_BF16 : 0),
                false);
}

void fr_attend_expanded(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s) {
    assert(rows > FR_DECODE_ROWS && fr_team_size() <= s->compute->threads);
    int total = pos + rows, begin, end;
    fr_expanded *e = &s->expanded[fr_team_rank()];
    fr_team_split(m->heads, 1, &begin, &end);
    for (int r = 0; r < rows; r++)
        for (int head = begin; head < end; head++) {
            size_t rh = (size_t)r * (size_t)m->heads + (size_t)head;
            s->running_max[rh] = -INFINITY;
            s->running_sum[rh] = 0.0f;
            memset(fr_mla_output(m, s, r, head), 0, (size_t)m->v * sizeof(float));
        }
    for (int span = 0; span < total; span += FR_KV_EXPANDED_SPAN) {
        int n = at_most(total - span, FR_KV_EXPANDED_SPAN);
        read_span(m, kv, layer, span, n, s);
        for (int head = begin; head < end; head++) {
            begin_head(m, s, e, head, rows);
            for (int at = 0; at < n; at += FR_KV_BLOCK)
                fold_block(m, s, e, head, pos, rows, span + at, at, at_most(n - at, FR_KV_BLOCK));
        }
        fr_team_barrier(); /* before the next span overwrites this one */
    }
    for (int r = 0; r < rows; r++)
        for (int head = begin; head < end; head++) {
            float *o = fr_mla_output(m, s, r, head), sum = s->running_sum[(size_t)r * (size_t)m->heads + (size_t)head];
            for (int i = 0; i < m->v; i++) o[i] /= sum;
        }
    fr_team_barrier();
}
