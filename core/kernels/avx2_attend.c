/* AVX2: attention over a block of BF16 rows that several queries share, and sums of rows of weights. */
#include "core/kernels/avx2.h"

#define QUERIES 4
#define POSITIONS 2
#define VECTORS 2 /* of a query's sum that stay in registers */
_Static_assert(POSITIONS == 2, "scores of a tile's positions are summed together");

INLINE __m256 load_bf16(const uint16_t *x, int n) {
    return widen_bf16(load_u16(x, n));
}

/* y[0] and y[1] = sum_lanes of a[0] and a[1], z's of b, each with the same additions. */
INLINE void sum_lanes_of_two(const __m256 *a, const __m256 *b, float *y, float *z) {
    __m256 first = _mm256_add_ps(_mm256_permute2f128_ps(a[0], b[0], 0x20), _mm256_permute2f128_ps(a[0], b[0], 0x31));
    __m256 second = _mm256_add_ps(_mm256_permute2f128_ps(a[1], b[1], 0x20), _mm256_permute2f128_ps(a[1], b[1], 0x31));
    __m256 s = _mm256_add_ps(_mm256_shuffle_ps(first, second, 0x44), _mm256_shuffle_ps(first, second, 0xee));
    s = _mm256_add_ps(s, _mm256_movehdup_ps(s));
    s = _mm256_shuffle_ps(s, s, 0x88);
    _mm_storel_pi((void *)y, _mm256_castps256_ps128(s));
    _mm_storel_pi((void *)z, _mm256_extractf128_ps(s, 1));
}

INLINE void score_tile(int queries, int positions, const float *const *q, const uint16_t *rows, int64_t stride, int width,
                       float *const *scores) {
    __m256 sum[QUERIES][POSITIONS];
    UNROLL for (int i = 0; i < queries; i++) {
        UNROLL for (int t = 0; t < positions; t++) sum[i][t] = _mm256_setzero_ps();
    }
    for (int c = 0; c < width; c += LANES) {
        __m256 row[POSITIONS];
        UNROLL for (int t = 0; t < positions; t++) row[t] = load_bf16(rows + t * stride + c, width - c);
        UNROLL for (int i = 0; i < queries; i++) {
            __m256 x = load_f32(q[i] + c, width - c);
            UNROLL for (int t = 0; t < positions; t++) sum[i][t] = _mm256_fmadd_ps(x, row[t], sum[i][t]);
        }
    }
    UNROLL for (int i = 0; i < queries; i++) {
        if (positions == 1)
            scores[i][0] = sum_lanes(sum[i][0]);
        else if (i % 2 == 0)
            sum_lanes_of_two(sum[i], sum[i + 1 < queries ? i + 1 : i], scores[i], scores[i + 1 < queries ? i + 1 : i]);
    }
}

INLINE void add_tile(int queries, int vectors, float *const *sum, const float *const *p, const uint16_t *rows, int64_t stride,
                     int count, int width, int c) {
    __m256 y[QUERIES][VECTORS];
    UNROLL for (int i = 0; i < queries; i++) {
        UNROLL for (int v = 0; v < vectors; v++) y[i][v] = load_f32(sum[i] + c + LANES * v, width - c - LANES * v);
    }
    for (int t = 0; t < count; t++) {
        __m256 row[VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) row[v] = load_bf16(rows + t * stride + c + LANES * v, width - c - LANES * v);
        UNROLL for (int i = 0; i < queries; i++) {
            __m256 weight = _mm256_broadcast_ss(&p[i][t]);
            UNROLL for (int v = 0; v < vectors; v++) y[i][v] = _mm256_fmadd_ps(weight, row[v], y[i][v]);
        }
    }
    UNROLL for (int i = 0; i < queries; i++) {
        UNROLL for (int v = 0; v < vectors; v++) store_f32(sum[i] + c + LANES * v, width - c - LANES * v, y[i][v]);
    }
}

#include "core/kernels/attend_queries.h"

void fr_attend_scores_avx2(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                           float *const *scores) {
    attend_scores(q, n, rows, stride, count, width, scores);
}

void fr_attend_values_avx2(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                           int width) {
    attend_values(sum, n, p, rows, stride, count, width);
}

/* ---- Sums of rows of weights ---- */

#define COLUMNS 8 /* vectors of a row that are summed at a time */

void fr_add_rows_e4m3_avx2(float *y, const float *a, const uint8_t *x, int64_t stride, int rows, int n) {
    const unsigned had = subnormals_on();
    const float part = 0x1p60f; /* weights are loaded as 2^-120 times their value: half of that to a, half to the sum */
    for (int c = 0; c < n; c += COLUMNS * LANES) {
        __m256 sum[COLUMNS];
        UNROLL for (int v = 0; v < COLUMNS; v++) sum[v] = _mm256_setzero_ps();
        for (int r = 0; r < rows; r++) {
            const uint8_t *row = x + r * stride + c;
            __m256 weight = _mm256_set1_ps(part * a[r]);
            uint8_t tail[COLUMNS * LANES];
            if (n - c < COLUMNS * LANES) row = memcpy(memset(tail, 0, sizeof tail), row, (size_t)(n - c));
            _mm_prefetch((const char *)(row + 16 * stride), _MM_HINT_T0);
            UNROLL for (int v = 0; v < COLUMNS; v++) sum[v] = _mm256_fmadd_ps(weight, e4m3_shifted(row + LANES * v), sum[v]);
        }
        for (int v = 0; v < COLUMNS && c + LANES * v < n; v++) {
            float *to = y + c + LANES * v;
            int left = n - c - LANES * v;
            store_f32(to, left, _mm256_fmadd_ps(sum[v], _mm256_set1_ps(part), load_f32(to, left)));
        }
    }
    _mm_setcsr(had);
}
