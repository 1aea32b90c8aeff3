/* AMX: attention of 16 queries over spans of 64 positions (core/kernels/tiled_attention.h).
 *
 * Scores are tiles of 16 positions x 32 elements, read directly from the rows, times queries that are packed once. The result has
 * a query in each lane, so the softmax is computed in lanes. Sums of values are attention weights [16 queries, 32 positions]
 * times values whose neighbours in position are interleaved, which is done once for all queries of a span. Queries and attention
 * weights are sums of two BF16 numbers. Every query goes through the same operations in the same order; masked positions add
 * zeros. */
#include <math.h>
#include <string.h>

#include "core/kernels/amx.h"
#include "core/kernels/prefill.h"

#define SPAN FR_TILED_SPAN
#define QUERIES FR_TILED_QUERIES
#define TILE 16  /* rows, and floats or pairs a row */
#define DEPTH 32 /* BF16 numbers a row: what one product sums over */
_Static_assert(SPAN == 4 * TILE && SPAN == 2 * DEPTH && QUERIES == TILE, "a span's scores are four tiles of sums");

static int64_t up(int n, int unit) {
    return (n + unit - 1) / unit * unit;
}

/* ---- Memory ---- */

static void take(fr_tiled_queries *g, fr_arena *arena, int width, int rank) {
    g->high = FR_TAKE(arena, uint16_t, up(width, FR_BLOCK) * QUERIES);
    g->low = FR_TAKE(arena, uint16_t, up(width, FR_BLOCK) * QUERIES);
    g->sum = FR_TAKE(arena, float, up(rank, DEPTH) * QUERIES);
    g->max = FR_TAKE(arena, float, QUERIES);
    g->total = FR_TAKE(arena, float, QUERIES);
    g->seen = FR_TAKE(arena, int, QUERIES);
}

/* Values interleaved, and rows that cannot be read where they are: the ends of a cache, widths that fill no tile. */
static void *take_scratch(fr_arena *arena, int width, int rank) {
    return fr_arena_take(arena, (size_t)SPAN * (size_t)(up(rank, DEPTH) + up(width, DEPTH)), sizeof(uint16_t));
}

/* ---- Queries ---- */

static void pack(fr_tiled_queries *g, const float *const *q, int n, int width) {
    for (int i = 0; i < width; i += FR_BLOCK) {
        const float *rows[QUERIES];
        for (int j = 0; j < n; j++) rows[j] = q[j] + i;
        fr_prefill_kernels_avx512.pack_f32(g->high + i * QUERIES, g->low + i * QUERIES, QUERIES, true, rows, n,
                                           width - i < FR_BLOCK ? width - i : FR_BLOCK);
    }
}

static void begin(fr_tiled_queries *g, const int *seen, int n, int rank) {
    memset(g->sum, 0, (size_t)(up(rank, DEPTH) * QUERIES) * sizeof *g->sum);
    for (int j = 0; j < QUERIES; j++) {
        g->max[j] = -INFINITY;
        g->total[j] = 0.0f;
        g->seen[j] = j < n ? seen[j] : 0;
    }
}

/* ---- Values ---- */

/* [pair of tiles of 16 values][step of 32 positions][2 tiles][16 pairs of positions][16][2]. A tile has what unpacking gives: the
 * first or the second four of each eight values. Rows from `count` on are zero. */
static void pack_values(uint16_t *packed, const uint16_t *rows, int64_t stride, int count, int rank) {
    for (int t = 0; t < SPAN; t += 2) {
        const uint16_t *row = rows + t * stride;
        uint16_t *to = packed + t / DEPTH * 2 * TILE * DEPTH + t % DEPTH / 2 * DEPTH;
        for (int i = 0; i < rank; i += DEPTH, to += SPAN * DEPTH) {
            __mmask32 m = first32(rank - i);
            __m512i a = _mm512_maskz_loadu_epi16(t < count ? m : 0, row + i);
            __m512i b = _mm512_maskz_loadu_epi16(t + 1 < count ? m : 0, row + stride + i);
            _mm512_store_si512(to, _mm512_unpacklo_epi16(a, b));
            _mm512_store_si512(to + TILE * DEPTH, _mm512_unpackhi_epi16(a, b));
        }
    }
}

/* ---- Folding ---- */

/* A span of rows, of which tiles may read SPAN times up(width, DEPTH). */
typedef struct span {
    const uint16_t *rows;
    int64_t stride;
    int pos, steps, pairs; /* steps of 32 elements of a row; pairs of tiles of values */
    const uint16_t *values;
} span;

/* Scores of all positions [SPAN][16 queries]. */
INLINE void score(const fr_tiled_queries *g, const span *s, float (*scores)[TILE]) {
    const int64_t bytes = s->stride * (int64_t)sizeof(uint16_t);
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < s->steps; k++) {
        const uint16_t *a = s->rows + k * DEPTH;
        _tile_loadd(4, g->high + k * DEPTH * QUERIES, 64);
        _tile_loadd(5, g->low + k * DEPTH * QUERIES, 64);
        _tile_loadd(6, a, bytes);
        _tile_dpbf16ps(0, 6, 4);
        _tile_dpbf16ps(0, 6, 5);
        _tile_loadd(7, a + 16 * s->stride, bytes);
        _tile_dpbf16ps(1, 7, 4);
        _tile_dpbf16ps(1, 7, 5);
        _tile_loadd(6, a + 32 * s->stride, bytes);
        _tile_dpbf16ps(2, 6, 4);
        _tile_dpbf16ps(2, 6, 5);
        _tile_loadd(7, a + 48 * s->stride, bytes);
        _tile_dpbf16ps(3, 7, 4);
        _tile_dpbf16ps(3, 7, 5);
    }
    _tile_stored(0, scores[0], 64);
    _tile_stored(1, scores[16], 64);
    _tile_stored(2, scores[32], 64);
    _tile_stored(3, scores[48], 64);
    settle();
}

/* Positions 2i and 2i + 1 of a query's attention weights in a dword, as BF16: their high parts, cut off, and the rest, rounded.
 */
INLINE __m512i pair_high(__m512i a, __m512i b) {
    return _mm512_or_si512(_mm512_srli_epi32(a, 16), _mm512_and_si512(b, _mm512_set1_epi32((int)0xffff0000u)));
}

INLINE __m512i rest(__m512i a) {
    __m512 high = _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000u)));
    __m512i low = _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(a), high));
    return _mm512_add_epi32(low, _mm512_set1_epi32(0x8000));
}

/* The online softmax: makes attention weights of scores, not normalized, and updates the running maximum and total.
 * weights [step][high, low][16 queries][32 positions]. */
INLINE void softmax(fr_tiled_queries *g, const span *s, float (*scores)[TILE], uint16_t *weights) {
    const __m512i left = _mm512_sub_epi32(_mm512_load_si512(g->seen), _mm512_set1_epi32(s->pos));
    const __m512 before = _mm512_load_ps(g->max);
    __m512 max = before, total = _mm512_load_ps(g->total);
    for (int t = 0; t < SPAN; t++) {
        __mmask16 m = _mm512_cmpgt_epi32_mask(left, _mm512_set1_epi32(t));
        max = _mm512_mask_max_ps(max, m, max, _mm512_load_ps(scores[t]));
    }
    __mmask16 grown = _mm512_cmp_ps_mask(max, _mm512_add_ps(before, _mm512_set1_ps(FR_ATTEND_LATE)), _CMP_GT_OQ);
    max = _mm512_mask_mov_ps(before, grown, max);
    if (grown) {
        /* e^-inf is 0 in the first span, where the maximum was -inf */
        __m512 shrink = _mm512_mask_blend_ps(grown, _mm512_set1_ps(1.0f), exp_ps(_mm512_sub_ps(before, max)));
        float by[TILE];
        total = _mm512_mul_ps(total, shrink);
        _mm512_storeu_ps(by, shrink);
        _mm512_store_ps(g->max, max);
        grown &= _mm512_cmp_ps_mask(before, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ); /* the others have sums of 0 */
        for (int i = 0; i < QUERIES; i++) {
            if (!(grown >> i & 1)) continue;
            for (int v = 0; v < 2 * s->pairs; v++) {
                float *sum = g->sum + (v * QUERIES + i) * TILE;
                _mm512_store_ps(sum, _mm512_mul_ps(_mm512_load_ps(sum), _mm512_set1_ps(by[i])));
            }
        }
    }
    for (int t0 = 0; t0 < SPAN; t0 += DEPTH) {
        __m512i high[TILE], low[TILE];
        for (int i = 0; i < TILE; i++) {
            __m512i p[2];
            UNROLL for (int j = 0; j < 2; j++) {
                int t = t0 + 2 * i + j;
                __mmask16 m = _mm512_cmpgt_epi32_mask(left, _mm512_set1_epi32(t));
                __m512 e = _mm512_maskz_mov_ps(m, exp_ps(_mm512_sub_ps(_mm512_load_ps(scores[t]), max)));
                total = _mm512_add_ps(total, e);
                p[j] = _mm512_castps_si512(e);
            }
            high[i] = pair_high(p[0], p[1]);
            low[i] = pair_high(rest(p[0]), rest(p[1]));
        }
        transpose16(high);
        transpose16(low);
        for (int i = 0; i < TILE; i++) _mm512_store_si512(weights + (t0 + i) * DEPTH, high[i]);
        for (int i = 0; i < TILE; i++) _mm512_store_si512(weights + (t0 + TILE + i) * DEPTH, low[i]);
    }
    _mm512_store_ps(g->total, total);
}

INLINE void add_values(fr_tiled_queries *g, const span *s, const uint16_t *weights) {
    settle();
    _tile_loadd(4, weights, 64);
    _tile_loadd(5, weights + TILE * DEPTH, 64);
    _tile_loadd(6, weights + 2 * TILE * DEPTH, 64);
    _tile_loadd(7, weights + 3 * TILE * DEPTH, 64);
    for (int v = 0; v < s->pairs; v++) {
        float *sum = g->sum + v * 2 * QUERIES * TILE;
        const uint16_t *b = s->values + v * SPAN * DEPTH;
        _tile_loadd(0, sum, 64);
        _tile_loadd(2, b, 64);
        _tile_loadd(1, sum + QUERIES * TILE, 64);
        _tile_loadd(3, b + TILE * DEPTH, 64);
        _tile_dpbf16ps(0, 4, 2);
        _tile_dpbf16ps(1, 4, 3);
        _tile_dpbf16ps(0, 5, 2);
        _tile_dpbf16ps(1, 5, 3);
        _tile_loadd(2, b + 2 * TILE * DEPTH, 64);
        _tile_loadd(3, b + 3 * TILE * DEPTH, 64);
        _tile_dpbf16ps(0, 6, 2);
        _tile_dpbf16ps(1, 6, 3);
        _tile_dpbf16ps(0, 7, 2);
        _tile_dpbf16ps(1, 7, 3);
        _tile_stored(0, sum, 64);
        _tile_stored(1, sum + QUERIES * TILE, 64);
    }
    settle();
}

static void fold(fr_tiled_queries *g, int groups, const uint16_t *rows, int64_t stride, int pos, int count, int width, int rank,
                 void *scratch) {
    uint16_t *values = scratch, *copy = values + SPAN * up(rank, DEPTH);
    span s = {rows, stride, pos, (int)up(width, DEPTH) / DEPTH, (int)up(rank, DEPTH) / DEPTH, values};
    _Alignas(64) float scores[SPAN][TILE];
    _Alignas(64) uint16_t weights[2 * SPAN * QUERIES];
    pack_values(values, rows, stride, count, rank);
    if (count < SPAN || width % DEPTH != 0) {
        s.stride = up(width, DEPTH);
        s.rows = copy;
        memset(copy, 0, (size_t)(SPAN * s.stride) * sizeof *copy);
        for (int t = 0; t < count; t++) memcpy(copy + t * s.stride, rows + t * stride, (size_t)width * sizeof *copy);
    }
    load_config(&whole_tiles);
    for (int i = 0; i < groups; i++) {
        score(&g[i], &s, scores);
        softmax(&g[i], &s, scores, weights);
        add_values(&g[i], &s, weights);
    }
    _tile_release();
}

/* ---- Results ---- */

static void end(const fr_tiled_queries *g, float *const *out, float *max, float *total, int n, int rank) {
    /* Fours of values of the two tiles in turn: undoes what unpacking did. */
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int i = 0; i < n; i++) {
        max[i] = g->max[i];
        total[i] = g->total[i];
        for (int v = 0; v < rank; v += DEPTH) {
            const float *sum = g->sum + (v * QUERIES + i * TILE);
            __m512 a = _mm512_load_ps(sum), b = _mm512_load_ps(sum + QUERIES * TILE);
            __m512 x = _mm512_permutex2var_ps(a, low, b), y = _mm512_permutex2var_ps(a, high, b);
            int left = rank - v;
            _mm512_mask_storeu_ps(out[i] + v, (__mmask16)first32(left), x);
            _mm512_mask_storeu_ps(out[i] + v + TILE, (__mmask16)(first32(left) >> 16), y);
        }
    }
}

const fr_tiled_attention fr_tiled_attention_amx = {take, take_scratch, pack, begin, fold, end};
