/* AVX-512: attention over a block of BF16 rows that several queries share. */
#include "core/dtype.h"
#include "core/kernels/avx512.h"

#define QUERIES 4
#define POSITIONS 4
#define VECTORS 4 /* of a query's sum that stay in registers */
_Static_assert(POSITIONS == 4, "scores of a tile's positions are summed together");

INLINE __m512 load_bf16(const uint16_t *x, __mmask16 m) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, x)), 16));
}

INLINE void score_tile(int queries, int positions, const float *const *q, const uint16_t *rows, int64_t stride, int width,
                       float *const *scores) {
    __m512 sum[QUERIES][POSITIONS];
    UNROLL for (int i = 0; i < queries; i++) {
        UNROLL for (int t = 0; t < positions; t++) sum[i][t] = _mm512_setzero_ps();
    }
    for (int c = 0; c < width; c += LANES) {
        __mmask16 m = first16(width - c);
        __m512 x[QUERIES];
        UNROLL for (int i = 0; i < queries; i++) x[i] = _mm512_maskz_loadu_ps(m, q[i] + c);
        UNROLL for (int t = 0; t < positions; t++) {
            __m512 row = load_bf16(rows + t * stride + c, m);
            UNROLL for (int i = 0; i < queries; i++) sum[i][t] = _mm512_fmadd_ps(x[i], row, sum[i][t]);
        }
    }
    UNROLL for (int i = 0; i < queries; i++) {
        if (positions == 4)
            _mm_storeu_ps(scores[i], sum_lanes_of_four(sum[i][0], sum[i][1], sum[i][2], sum[i][3]));
        else
            for (int t = 0; t < positions; t++) scores[i][t] = sum_lanes(sum[i][t]);
    }
}

INLINE void add_tile(int queries, int vectors, float *const *sum, const float *const *p, const uint16_t *rows, int64_t stride,
                     int count, int width, int c) {
    __m512 y[QUERIES][VECTORS];
    UNROLL for (int i = 0; i < queries; i++) {
        UNROLL for (int v = 0; v < vectors; v++) y[i][v] =
            _mm512_maskz_loadu_ps(first16(width - c - LANES * v), sum[i] + c + LANES * v);
    }
    for (int t = 0; t < count; t++) {
        __m512 row[VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) row[v] =
            load_bf16(rows + t * stride + c + LANES * v, first16(width - c - LANES * v));
        UNROLL for (int i = 0; i < queries; i++) {
            __m512 weight = _mm512_set1_ps(p[i][t]);
            UNROLL for (int v = 0; v < vectors; v++) y[i][v] = _mm512_fmadd_ps(weight, row[v], y[i][v]);
        }
    }
    UNROLL for (int i = 0; i < queries; i++) {
        UNROLL for (int v = 0; v < vectors; v++)
            _mm512_mask_storeu_ps(sum[i] + c + LANES * v, first16(width - c - LANES * v), y[i][v]);
    }
}

#include "core/kernels/attend_queries.h"

void fr_attend_scores_avx512(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                             float *const *scores) {
    attend_scores(q, n, rows, stride, count, width, scores);
}

void fr_attend_values_avx512(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                             int width) {
    attend_values(sum, n, p, rows, stride, count, width);
}
