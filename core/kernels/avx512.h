/* What the AVX-512 files share. Private to core. */
#ifndef FR_CORE_KERNELS_AVX512_H
#define FR_CORE_KERNELS_AVX512_H

#include <immintrin.h>

#include "core/kernels/decode.h"
#include "core/kernels/tiled_attention.h"

#define LANES 16

/* Masks of the first n elements, as many as there are at most; none for n <= 0. */
INLINE __mmask16 first16(int n) {
    return n >= 16 ? (__mmask16)0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

INLINE __mmask32 first32(int n) {
    return n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1;
}

INLINE float sum_lanes(__m512 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* The sums of four vectors, each added up in sum_lanes' order. */
INLINE __m128 sum_lanes_of_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    __m512 abcd = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    abcd = _mm512_add_ps(abcd, _mm512_permute_ps(abcd, 0x4e));
    abcd = _mm512_add_ps(abcd, _mm512_movehdup_ps(abcd));
    const __m512i order = _mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12));
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(order, abcd));
}

/* e^x = 2^k e^r with |r| <= ln(2) / 2, where the Taylor series up to r^7 / 7! is good to 5e-9. NaN stays NaN. */
INLINE __m512 exp_ps(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(89.0f), x));
    __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(k, _mm512_set1_ps(0x1.62e400p-1f), x);
    r = _mm512_fnmadd_ps(k, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, k);
}

/* out[j] = column j of the 16 x 16 matrix of 32-bit values whose rows are r. */
INLINE void transpose16(__m512i *r) {
    __m512i t[16], u[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        __m512i a = _mm512_shuffle_i32x4(u[j], u[4 + j], 0x88), b = _mm512_shuffle_i32x4(u[j], u[4 + j], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0x88), d = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0xdd);
        r[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* e4m3_to_bf16 with byte tables, decode_linear_e4m3_q with BF16 dot products, add_rows_e4m3 with bit matrices
 * (core/kernels/avx512_bf16.c). */
void fr_e4m3_to_bf16_vbmi(uint16_t *y, const uint8_t *x, int n);
void fr_decode_linear_e4m3_q_bf16(const fr_decode_job *job);
void fr_add_rows_e4m3_bf16(float *y, const float *a, const uint8_t *x, int64_t stride, int rows, int n);

/* decode_linear_e4m3_q with tiles (core/kernels/amx.c). */
void fr_decode_linear_e4m3_q_amx(const fr_decode_job *job);

/* core/kernels/avx512_attend.c */
void fr_attend_scores_avx512(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                             float *const *scores);
void fr_attend_values_avx512(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                             int width);

/* core/kernels/avx512_prefill.c, with BF16 */
extern const struct fr_prefill_kernels fr_prefill_kernels_avx512;

/* core/kernels/amx_prefill.c, core/kernels/amx_attend.c */
void fr_e4m3_to_tiles_amx(uint16_t *a, const uint8_t *w, int64_t stride, int rows);
void fr_multiply_panel_amx(const struct fr_panel *panel);
extern const fr_tiled_attention fr_tiled_attention_amx;

#endif
