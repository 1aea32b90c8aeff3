/* What the AVX2 files share. Private to core/kernels. */
#ifndef FR_CORE_KERNELS_AVX2_H
#define FR_CORE_KERNELS_AVX2_H

#include <immintrin.h>

#include "core/kernels/decode.h"

#define LANES 8

INLINE float sum_lanes(__m256 v) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* The sums of four vectors, each added up in sum_lanes' order. */
INLINE __m128 sum_lanes_of_four(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    __m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
    __m256 acbd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    acbd = _mm256_add_ps(acbd, _mm256_movehdup_ps(acbd));
    return _mm256_castps256_ps128(_mm256_permutevar8x32_ps(acbd, _mm256_setr_epi32(0, 4, 2, 6, 0, 0, 0, 0)));
}

INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE __m256 load_f32(const float *x, int n) {
    return n >= LANES ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first(n));
}

INLINE void store_f32(float *y, int n, __m256 v) {
    if (n >= LANES)
        _mm256_storeu_ps(y, v);
    else
        _mm256_maskstore_ps(y, first(n), v);
}

/* Up to 8 values of 2 bytes; zeros beyond n. */
INLINE __m128i load_u16(const uint16_t *x, int n) {
    if (n >= LANES) return _mm_loadu_si128((const void *)x);
    uint16_t buffer[LANES] = {0};
    memcpy(buffer, (const char *)x, 2 * (size_t)n);
    return _mm_loadu_si128((const void *)buffer);
}

INLINE __m256 widen_bf16(__m128i v) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

INLINE __m128i load_u8(const uint8_t *x, int n) {
    if (n >= LANES) return _mm_loadl_epi64((const void *)x);
    uint8_t buffer[LANES] = {0};
    memcpy(buffer, x, (size_t)n);
    return _mm_loadl_epi64((const void *)buffer);
}

/* 8 E4M3 codes as 2^-8 times their value: as half floats they differ in the exponent's bias alone, and the conversion
 * takes subnormals right. */
INLINE __m256 e4m3_scaled(__m128i codes) {
    __m128i half = _mm_slli_epi16(_mm_cvtepi8_epi16(codes), 7);
    return _mm256_cvtph_ps(_mm_and_si128(half, _mm_set1_epi16((short)0xbfff)));
}

INLINE __m256 e4m3_f32(__m128i codes) {
    return _mm256_mul_ps(e4m3_scaled(codes), _mm256_set1_ps(0x1p8f));
}

/* 8 E4M3 codes as 2^-120 times their value: a code with its exponent and mantissa at the lower end of a float's exponent is that,
 * subnormals included. */
INLINE __m256 e4m3_shifted(const uint8_t *codes) {
    __m256i words = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)codes));
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(words, 20), _mm256_set1_epi32((int)0x87f00000u)));
}

/* core/kernels/avx2_attend.c */
void fr_attend_scores_avx2(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                           float *const *scores);
void fr_attend_values_avx2(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                           int width);
void fr_add_rows_e4m3_avx2(float *y, const float *a, const uint8_t *x, int64_t stride, int rows, int n);

#endif
