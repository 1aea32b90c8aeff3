/* What the AVX-512 files share. Private to core. */
#ifndef FR_CORE_KERNELS_AVX512_H
#define FR_CORE_KERNELS_AVX512_H

#include <immintrin.h>

#include "core/kernels_few.h"

#define LANES 16
#define OUTPUTS 4
#define ROWS 4

INLINE float sum_lanes(__m512 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* e4m3_to_bf16 with byte tables, and few_e4m3_q with BF16 dot products (core/kernels_avx512_bf16.c). */
void fr_e4m3_to_bf16_vbmi(uint16_t *y, const uint8_t *x, int n);
void fr_few_e4m3_q_bf16(const uint8_t *w, int64_t stride, const float *scale, int64_t scale_stride, int in, int begin,
                        int end, const uint16_t *const *q, const float *const *sx, int n, float *y, int64_t y_stride);

/* few_e4m3_q with tiles (core/kernels_avx512_amx.c). */
void fr_few_e4m3_q_amx(const uint8_t *w, int64_t stride, const float *scale, int64_t scale_stride, int in, int begin,
                       int end, const uint16_t *const *q, const float *const *sx, int n, float *y, int64_t y_stride);

/* core/kernels_avx512_attend.c */
void fr_attend_scores_avx512(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                             float *const *scores);
void fr_attend_values_avx512(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                             int width);
void fr_axpy4_e4m3_avx512(float *y, const float *a, const uint8_t *x, int64_t stride, int n);

#endif
