#include "attn/indexer.h"

#include <assert.h>
#include <math.h>

#include "core/threads.h"

enum { SPAN = 64, GROUP = 4 }; /* positions, and heads, that are scored together */

static int at_most(int a, int b) {
    return a < b ? a : b;
}

void fr_index_scratch_take(fr_index_scratch *s, fr_arena *arena, const fr_indexer *ix, int max_rows, int ctx,
                           const fr_compute *compute) {
    size_t rows = (size_t)max_rows, heads = (size_t)ix->heads, dim = (size_t)ix->dim;
    s->compute = compute;
    s->ctx = ctx;
    s->k = FR_TAKE(arena, float, rows *dim);
    s->q = FR_TAKE(arena, float, rows *heads *dim);
    s->weights = FR_TAKE(arena, float, rows *heads);
    s->scores = FR_TAKE(arena, float, FR_INDEX_ROWS *(size_t)ctx);
    fr_select_take(&s->select, arena, FR_INDEX_ROWS, compute->threads, ctx);
    s->positions = FR_TAKE(arena, int32_t, rows * (size_t)at_most(ix->topk, ctx));
    s->choices = FR_TAKE(arena, fr_choice, rows);
}

unsigned fr_indexer_inputs(const fr_indexer *ix, bool act_fp8) {
    return ix->topk > 0 ? fr_linear_input(&ix->wk, act_fp8) | FR_INPUT_EXACT : 0;
}

/* ---- Queries and keys ---- */

static void rotate(const fr_indexer *ix, const fr_rope *rope, int pos, float *x) {
    if (ix->interleaved)
        fr_rope_apply(rope, pos, x);
    else
        fr_rope_apply_halves(rope, pos, x);
}

/* LayerNorm, in place. */
static void normalize(const fr_indexer *ix, float *x) {
    float mean = 0.0f, variance = 0.0f, width = (float)ix->dim;
    for (int i = 0; i < ix->dim; i++) mean += x[i];
    mean /= width;
    for (int i = 0; i < ix->dim; i++) variance += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf(variance / width + 1e-6f);
    for (int i = 0; i < ix->dim; i++) x[i] = (x[i] - mean) * factor * ix->k_norm_weight[i] + ix->k_norm_bias[i];
}

void fr_indexer_write_keys(const fr_indexer *ix, const fr_rope *rope, fr_kv_cache *kv, int pos, int begin, int end,
                           fr_index_scratch *s) {
    for (int r = begin; r < end; r++) {
        float *k = s->k + (size_t)r * (size_t)ix->dim;
        normalize(ix, k);
        rotate(ix, rope, pos + r, k);
        fr_kv_cache_write_key(kv, ix->kv_layer, pos + r, k, s->compute->kernels);
    }
}

/* Of heads [begin, end) of a row. */
static void finish_queries(const fr_indexer *ix, const fr_rope *rope, int pos, int row, int begin, int end,
                           const fr_index_scratch *s) {
    const float scale = 1.0f / sqrtf((float)ix->dim);
    for (int h = begin; h < end; h++) {
        float *q = s->q + ((size_t)row * (size_t)ix->heads + (size_t)h) * (size_t)ix->dim;
        rotate(ix, rope, pos + row, q);
        for (int i = 0; i < ix->dim; i++) q[i] *= scale;
    }
}

void fr_indexer_queries(const fr_indexer *ix, const fr_rope *rope, const fr_rows *cq, int pos, fr_index_scratch *s) {
    int width = ix->heads * ix->dim, begin, end;
    if (cq->rows <= FR_DECODE_ROWS) {
        fr_team_split(ix->heads, 1, &begin, &end);
        if (begin < end) fr_linear_range(&ix->wq_b, cq, begin * ix->dim, end * ix->dim, s->q, width, s->compute);
        for (int r = 0; r < cq->rows; r++) finish_queries(ix, rope, pos, r, begin, end, s);
        return;
    }
    fr_linear_forward(&ix->wq_b, cq, s->q, width, s->compute);
    fr_team_split(cq->rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) finish_queries(ix, rope, pos, r, 0, ix->heads, s);
    fr_team_barrier();
}

/* ---- Scores ---- */

/* Of positions [at, at + n) for a row; heads in ascending order. */
static void score_span(const fr_indexer *ix, const fr_kv_cache *kv, int row, int at, int n, const fr_index_scratch *s,
                       float *scores) {
    const float scale = 1.0f / sqrtf((float)ix->heads), *weights = s->weights + (size_t)row * (size_t)ix->heads;
    const float *q[GROUP] = {0};
    float space[GROUP][SPAN], *dots[GROUP] = {0};
    memset(scores, 0, (size_t)n * sizeof *scores);
    for (int h = 0, heads; h < ix->heads; h += heads) {
        heads = at_most(ix->heads - h, GROUP);
        for (int i = 0; i < heads; i++) {
            q[i] = s->q + ((size_t)row * (size_t)ix->heads + (size_t)(h + i)) * (size_t)ix->dim;
            dots[i] = space[i];
        }
        fr_kv_scores(kv->type, q, heads, fr_kv_cache_key(kv, ix->kv_layer, at), ix->dim, n, dots, s->compute->kernels);
        for (int i = 0; i < heads; i++) {
            const float weight = weights[h + i] * scale;
            for (int t = 0; t < n; t++) scores[t] += weight * (dots[i][t] > 0.0f ? dots[i][t] : 0.0f);
        }
    }
}

/* s->scores of rows [first, first + n), each over the positions that it sees, counted. Rows inside spans, so that keys stay in
 * cache. */
static void score_rows(const fr_indexer *ix, const fr_kv_cache *kv, int pos, int first, int n, fr_index_scratch *s) {
    int spans = (pos + first + n + SPAN - 1) / SPAN, begin, end;
    fr_team_split(spans * n, 1, &begin, &end);
    fr_select_begin(&s->select, n);
    for (int unit = begin; unit < end; unit++) {
        int row = first + unit % n, at = unit / n * SPAN, seen = pos + row + 1;
        float *scores = s->scores + (size_t)(unit % n) * (size_t)s->ctx;
        int count = at_most(seen - at, SPAN);
        if (seen <= ix->topk || count <= 0) continue;
        score_span(ix, kv, row, at, count, s, scores + at);
        fr_select_count(&s->select, unit % n, scores, at, at + count);
    }
}

/* ---- The choice ---- */

void fr_indexer_see_all(int pos, int rows, fr_index_scratch *s) {
    for (int r = 0; r < rows; r++) s->choices[r] = (fr_choice){.count = pos + r + 1};
}

/* Rows [first, first + n), the scores of which are there. */
typedef struct chosen_rows {
    const fr_indexer *ix;
    fr_index_scratch *s;
    int first, n;
} chosen_rows;

static float *scores_of(const chosen_rows *c, int i) {
    return c->s->scores + (size_t)i * (size_t)c->s->ctx;
}

static bool chooses(const chosen_rows *c, int i) {
    return c->s->choices[c->first + i].count > c->ix->topk;
}

static void finish_row(const chosen_rows *c, int i) {
    int32_t *positions = c->s->positions + (size_t)(c->first + i) * (size_t)c->ix->topk;
    if (!chooses(c, i)) return;
    fr_select_finish(&c->s->select, i, scores_of(c, i), c->ix->topk, positions);
    c->s->choices[c->first + i] = (fr_choice){c->ix->topk, positions};
}

static void finish_one(void *argument) {
    finish_row(argument, 0);
}

void fr_indexer_choose(const fr_indexer *ix, const fr_kv_cache *kv, int pos, int rows, fr_index_scratch *s) {
    int begin, end;
    for (int first = 0, n; first < rows; first += n) {
        n = at_most(rows - first, FR_INDEX_ROWS);
        chosen_rows c = {ix, s, first, n};
        score_rows(ix, kv, pos, first, n, s);
        fr_team_barrier();
        for (int i = 0; i < n; i++)
            if (chooses(&c, i)) fr_select_collect(&s->select, i, scores_of(&c, i), ix->topk);
        if (n == 1) {
            fr_team_barrier_do(finish_one, &c);
            continue;
        }
        fr_team_barrier();
        fr_team_split(n, 1, &begin, &end);
        for (int i = begin; i < end; i++) finish_row(&c, i);
        fr_team_barrier();
    }
}
