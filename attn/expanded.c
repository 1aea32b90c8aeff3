#include <assert.h>
#include <math.h>

#include "attn/expanded.h"
#include "core/kernels/prefill_layout.h"
#include "core/threads.h"

_Static_assert(FR_KV_EXPANDED_SPAN % FR_KV_BLOCK == 0, "a span is whole blocks");
_Static_assert(FR_KV_BLOCK % FR_TILE_TOKENS == 0, "a block's rows begin at a tile (fr_rows_part)");
_Static_assert(16 > FR_DECODE_ROWS, "padded positions are too many for decode");

enum { BLOCKS = FR_KV_EXPANDED_SPAN / FR_KV_BLOCK };

static int at_most(int a, int b) {
    return a < b ? a : b;
}

/* ---- Memory ---- */

int fr_expanded_shared_heads(int heads, int threads) {
    const int most = (heads + threads - 1) / threads; /* of a thread; fewer on average, and the others wait */
    return 10 * most * threads > 11 * heads ? at_most(heads, 2 * threads) : 0;
}

static void take_kv(fr_expanded_kv *kv, fr_arena *arena, const fr_mla *m) {
    kv->k = FR_TAKE(arena, float, (size_t)FR_KV_BLOCK *(size_t)(m->nope + m->rope));
    kv->v = FR_TAKE(arena, float, (size_t)m->v *FR_KV_BLOCK);
}

static void take_thread(fr_expanded *e, fr_arena *arena, const fr_kernels *kernels, const fr_mla *m, int max_rows) {
    size_t rows = (size_t)max_rows;
    e->q = FR_TAKE(arena, float, rows *(size_t)(m->nope + m->rope));
    e->kv = FR_TAKE(arena, float, (size_t)FR_KV_BLOCK *(size_t)(m->nope + m->v + FR_BLOCK));
    take_kv(&e->own, arena, m);
    e->p = FR_TAKE(arena, float, rows *FR_KV_BLOCK);
    e->pv = FR_TAKE(arena, float, rows *(size_t)m->v);
    fr_rows_take(&e->q_rows, arena, kernels, max_rows, m->nope + m->rope, FR_INPUT_EXACT);
    fr_rows_take(&e->p_rows, arena, kernels, max_rows, FR_KV_BLOCK, FR_INPUT_EXACT);
}

void fr_expanded_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows) {
    const int threads = s->compute->threads;
    s->expanded = FR_TAKE(arena, fr_expanded, threads);
    for (int t = 0; t < threads; t++) {
        fr_expanded unused; /* while counting there is no array to write to */
        take_thread(s->expanded ? &s->expanded[t] : &unused, arena, s->compute->kernels, m, max_rows);
    }
    s->shared_heads = fr_expanded_shared_heads(m->heads, threads);
    if (!s->shared_heads) return;
    s->shared = FR_TAKE(arena, fr_expanded_kv, s->shared_heads * BLOCKS);
    for (int i = 0; i < s->shared_heads * BLOCKS; i++) {
        fr_expanded_kv unused;
        take_kv(s->shared ? &s->shared[i] : &unused, arena, m);
    }
}

/* ---- One head ---- */

/* Rows [begin, end) of a pass. begin is a multiple of FR_TILE_TOKENS, and so is end unless it is the last. */
typedef struct row_range {
    int begin, end;
} row_range;

/* Gathers the rows' queries of the head, scaled, and packs them. */
static void begin_head(const fr_mla *m, fr_mla_scratch *s, fr_expanded *e, int head, row_range rows) {
    int width = m->nope + m->rope, n = rows.end - rows.begin;
    for (int r = 0; r < n; r++) {
        const float *q = fr_mla_query(m, s, rows.begin + r, head);
        for (int i = 0; i < width; i++) e->q[r * width + i] = q[i] * m->softmax_scale;
    }
    fr_rows_set_alone(&e->q_rows, e->q, n, width, FR_INPUT_EXACT, false);
}

/* Keys [count, nope + rope] and values [v, count] of positions [at, at + count) of the span; kv is the thread's own. */
static void expand(const fr_mla *m, const fr_mla_scratch *s, float *kv, const fr_expanded_kv *to, int head, int at, int count) {
    int first = m->kv_before + head * (m->nope + m->v), aligned = first / FR_BLOCK * FR_BLOCK, skip = first - aligned;
    int width = skip + m->nope + m->v, k_width = m->nope + m->rope;
    /* Positions are padded to a multiple of 16, so that these are more than FR_DECODE_ROWS rows, and the regime is prefill. */
    fr_rows latents = fr_rows_part(&s->span_rows, at, (count + 15) / 16 * 16);
    fr_linear part = fr_linear_rows(&m->kv_b_proj, aligned, aligned + width);
    fr_linear_range(&part, &latents, 0, width, kv, width, s->compute);
    for (int t = 0; t < count; t++) {
        float *k = to->k + t * k_width;
        memcpy(k, kv + t * width + skip, (size_t)m->nope * sizeof *k);
        memcpy(k + m->nope, s->span_pe + (at + t) * m->rope, (size_t)m->rope * sizeof *k);
    }
    for (int t0 = 0; t0 < count; t0 += 16) /* transposed by cache lines */
        for (int i = 0; i < m->v; i++)
            for (int t = t0; t < t0 + 16 && t < count; t++) to->v[i * count + t] = kv[t * width + skip + m->nope + i];
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

/* Positions [first, first + count). */
typedef struct kv_block {
    int first, count;
} kv_block;

/* Folds a block into the online softmax of a head's rows, whose queries are packed. The sum of values is kept in s->o, not
 * normalized. */
static void fold_block(const fr_mla *m, fr_mla_scratch *s, fr_expanded *e, const fr_expanded_kv *kv, int head, int pos,
                       row_range rows, kv_block b) {
    /* Rows before `first` see nothing of the block. A part of a tile is as much work as all of it, and FR_DECODE_ROWS or fewer
     * rows would be in the other regime. */
    int first = b.first > pos ? (b.first - pos) / FR_TILE_TOKENS * FR_TILE_TOKENS : 0;
    if (first >= rows.end) return;
    if (first < rows.begin) first = rows.begin;
    if (first > rows.begin && rows.end - first <= FR_DECODE_ROWS) first -= FR_TILE_TOKENS;
    int n = rows.end - first, count = b.count, k_width = m->nope + m->rope;
    fr_linear keys = {.out = count, .in = k_width, .dtype = FR_F32, .w = kv->k, .stride = k_width};
    fr_linear values = {.out = m->v, .in = count, .dtype = FR_F32, .w = kv->v, .stride = count};
    fr_rows queries = fr_rows_part(&e->q_rows, first - rows.begin, n);
    fr_linear_range(&keys, &queries, 0, count, e->p, count, s->compute);
    for (int i = 0; i < n; i++) {
        size_t rh = (size_t)(first + i) * (size_t)m->heads + (size_t)head;
        float *p = e->p + i * count, *highest = s->running_max + rh, *sum = s->running_sum + rh;
        float *o = fr_mla_output(m, s, first + i, head);
        const fr_choice choice = s->index.choices ? s->index.choices[first + i] : (fr_choice){.count = pos + first + i + 1};
        if (choice.positions)
            softmax_chosen(s->compute->kernels, &choice, p, b.first, count, highest, sum, o, m->v);
        else
            softmax(s->compute->kernels, p, at_most(choice.count - b.first, count), count, highest, sum, o, m->v);
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

/* ---- All heads ---- */

/* A pass of `rows` at `pos`, and positions [first, first + n) of the cache, which are read. */
typedef struct span {
    int pos, rows, first, n;
} span;

static kv_block block_of(const span *p, int i) {
    return (kv_block){p->first + i * FR_KV_BLOCK, at_most(p->n - i * FR_KV_BLOCK, FR_KV_BLOCK)};
}

/* A head is one thread's work. */
static void attend_own_heads(const fr_mla *m, const span *p, fr_mla_scratch *s) {
    fr_expanded *e = &s->expanded[fr_team_rank()];
    const row_range all = {0, p->rows};
    int begin, end;
    fr_team_split(m->heads, 1, &begin, &end);
    for (int head = begin; head < end; head++) {
        begin_head(m, s, e, head, all);
        for (int i = 0; i * FR_KV_BLOCK < p->n; i++) {
            kv_block b = block_of(p, i);
            expand(m, s, e->kv, &e->own, head, b.first - p->first, b.count);
            fold_block(m, s, e, &e->own, head, p->pos, all, b);
        }
    }
}

/* Tiles of a pass's rows. The last may have FR_DECODE_ROWS rows or fewer, which then go with those before. */
static int tiles_of(int rows) {
    return (rows - FR_DECODE_ROWS - 1) / FR_TILE_TOKENS + 1;
}

/* Part `i` of `parts`. */
static row_range part_of(int rows, int parts, int i) {
    row_range r;
    fr_split(tiles_of(rows), 1, parts, i, &r.begin, &r.end);
    return (row_range){r.begin * FR_TILE_TOKENS, r.end == tiles_of(rows) ? rows : r.end * FR_TILE_TOKENS};
}

/* Heads [first, first + heads), whose keys and values all threads expand before they share heads x parts of the rows; TEAM. */
static void attend_together(const fr_mla *m, const span *p, int first, int heads, fr_mla_scratch *s) {
    fr_expanded *e = &s->expanded[fr_team_rank()];
    const int blocks = (p->n + FR_KV_BLOCK - 1) / FR_KV_BLOCK, parts = fr_token_parts(heads, tiles_of(p->rows), fr_team_size());
    int begin, end;
    fr_team_split(heads * blocks, 1, &begin, &end);
    for (int i = begin; i < end; i++) {
        kv_block b = block_of(p, i % blocks);
        expand(m, s, e->kv, &s->shared[i / blocks * BLOCKS + i % blocks], first + i / blocks, b.first - p->first, b.count);
    }
    fr_team_barrier();
    fr_team_split(heads * parts, 1, &begin, &end);
    for (int i = begin; i < end; i++) {
        const row_range rows = part_of(p->rows, parts, i % parts);
        begin_head(m, s, e, first + i / parts, rows);
        for (int b = 0; b < blocks; b++)
            fold_block(m, s, e, &s->shared[i / parts * BLOCKS + b], first + i / parts, p->pos, rows, block_of(p, b));
    }
}

/* Before the first span, and after the last: pairs of row and head [begin, end). */
static void begin_pairs(const fr_mla *m, fr_mla_scratch *s, int begin, int end) {
    for (int i = begin; i < end; i++) {
        s->running_max[i] = -INFINITY;
        s->running_sum[i] = 0.0f;
        memset(fr_mla_output(m, s, i / m->heads, i % m->heads), 0, (size_t)m->v * sizeof(float));
    }
}

static void normalize_pairs(const fr_mla *m, fr_mla_scratch *s, int begin, int end) {
    for (int i = begin; i < end; i++) {
        float *o = fr_mla_output(m, s, i / m->heads, i % m->heads);
        for (int j = 0; j < m->v; j++) o[j] /= s->running_sum[i];
    }
}

void fr_attend_expanded(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s) {
    assert(rows > FR_DECODE_ROWS && fr_team_size() <= s->compute->threads);
    const int total = pos + rows;
    int begin, end;
    fr_team_split(rows * m->heads, 1, &begin, &end);
    begin_pairs(m, s, begin, end); /* for whomever; reading a span has a barrier */
    for (int first = 0; first < total; first += FR_KV_EXPANDED_SPAN) {
        const span p = {pos, rows, first, at_most(total - first, FR_KV_EXPANDED_SPAN)};
        read_span(m, kv, layer, first, p.n, s);
        for (int head = 0; s->shared && head < m->heads; head += s->shared_heads) {
            attend_together(m, &p, head, at_most(m->heads - head, s->shared_heads), s);
            fr_team_barrier(); /* before the next heads overwrite these, or the next span this one */
        }
        if (s->shared) continue;
        attend_own_heads(m, &p, s);
        fr_team_barrier();
    }
    normalize_pairs(m, s, begin, end);
    fr_team_barrier();
}
