/* AVX2 with FMA and F16C. Partial vectors go through masks or small buffers, so every element sees the same operations.
 */
#include "core/kernels/avx2.h"

#include "core/dtype.h"
#include "core/kernels/isa.h"
#include "core/kernels/prefill.h"

INLINE void store_u16(uint16_t *y, int n, __m128i v) {
    uint16_t buffer[LANES];
    _mm_storeu_si128((void *)buffer, v);
    memcpy(y, buffer, n >= LANES ? 16 : 2 * (size_t)n);
}

/* The upper halves of 8 words of 32 bits. */
INLINE __m128i upper_halves(__m256i bits) {
    __m256i v = _mm256_srli_epi32(bits, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Round to nearest even; NaN stays NaN. */
INLINE __m128i narrow_bf16(__m256 v) {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256 quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
    __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    return upper_halves(_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), quiet, nan)));
}

static float dot_f32(const float *a, const float *b, int n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        UNROLL for (int j = 0; j < 4; j++) s[j] =
            _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * j), _mm256_loadu_ps(b + i + 8 * j), s[j]);
    }
    for (; i < n; i += LANES) s[0] = _mm256_fmadd_ps(load_f32(a + i, n - i), load_f32(b + i, n - i), s[0]);
    return sum_lanes(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static float dot_bf16(const float *a, const uint16_t *b, int n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        UNROLL for (int j = 0; j < 4; j++) s[j] =
            _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * j), widen_bf16(load_u16(b + i + 8 * j, 8)), s[j]);
    }
    for (; i < n; i += LANES) s[0] = _mm256_fmadd_ps(load_f32(a + i, n - i), widen_bf16(load_u16(b + i, n - i)), s[0]);
    return sum_lanes(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static void axpy_f32(float *y, float a, const float *x, int n) {
    for (int i = 0; i < n; i += LANES)
        store_f32(y + i, n - i, _mm256_fmadd_ps(_mm256_set1_ps(a), load_f32(x + i, n - i), load_f32(y + i, n - i)));
}

static void axpy_bf16(float *y, float a, const uint16_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __m256 v = widen_bf16(load_u16(x + i, n - i));
        store_f32(y + i, n - i, _mm256_fmadd_ps(_mm256_set1_ps(a), v, load_f32(y + i, n - i)));
    }
}

static void axpy_e4m3(float *y, float a, const uint8_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __m256 v = e4m3_f32(load_u8(x + i, n - i));
        store_f32(y + i, n - i, _mm256_fmadd_ps(_mm256_set1_ps(a), v, load_f32(y + i, n - i)));
    }
}

static void bf16_to_f32(float *y, const uint16_t *x, int n) {
    for (int i = 0; i < n; i += LANES) store_f32(y + i, n - i, widen_bf16(load_u16(x + i, n - i)));
}

static void f32_to_bf16(uint16_t *y, const float *x, int n) {
    for (int i = 0; i < n; i += LANES) store_u16(y + i, n - i, narrow_bf16(load_f32(x + i, n - i)));
}

static void e4m3_to_bf16(uint16_t *y, const uint8_t *x, int n) {
    for (int i = 0; i < n; i += LANES)
        store_u16(y + i, n - i, upper_halves(_mm256_castps_si256(e4m3_f32(load_u8(x + i, n - i)))));
}

static float sum_squares(const float *x, int n) {
    return dot_f32(x, x, n);
}

INLINE float max_lanes(__m256 v) {
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static float max_f32(const float *x, int n) {
    __m256 max = _mm256_set1_ps(x[0]);
    int i = 0;
    for (; i + LANES <= n; i += LANES) max = _mm256_max_ps(max, _mm256_loadu_ps(x + i));
    float m = max_lanes(max);
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* 2^k, k in [-126, 127]. */
INLINE __m256 power_of_two(__m256i k) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23));
}

/* e^x = 2^k e^r with |r| <= ln(2) / 2, where the Taylor series up to r^7 / 7! is good to 5e-9. NaN stays NaN. */
INLINE __m256 exp_ps(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-104.0f), _mm256_min_ps(_mm256_set1_ps(89.0f), x));
    __m256 k = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT);
    __m256 r = _mm256_fnmadd_ps(k, _mm256_set1_ps(0x1.62e400p-1f), x);
    r = _mm256_fnmadd_ps(k, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    /* In two steps: 2^k alone may be too large or too small for a float. */
    __m256i whole = _mm256_cvtps_epi32(k), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
}

static float exp_sub(float *x, float max, int n) {
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < n; i += LANES) {
        __m256 e = exp_ps(_mm256_sub_ps(load_f32(x + i, n - i), _mm256_set1_ps(max)));
        store_f32(x + i, n - i, e);
        sum = _mm256_add_ps(sum, _mm256_and_ps(e, _mm256_castsi256_ps(first(n - i))));
    }
    return sum_lanes(sum);
}

static void silu_mul(float *y, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i += LANES) {
        __m256 g = load_f32(gate + i, n - i), u = load_f32(up + i, n - i);
        __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), g));
        __m256 s = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
        store_f32(y + i, n - i, _mm256_mul_ps(s, u));
    }
}

/* v rounded to the E4M3 grid, as the bits of a float. Below 2^-6 the grid is that of the subnormals, 2^-9, which is the
 * last place of a float near 2^14; above, the last of three mantissa bits. */
INLINE __m256i round_e4m3(__m256 v) {
    __m256i bits = _mm256_castps_si256(v), magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    __m256 small = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p14f));
    small = _mm256_sub_ps(small, _mm256_set1_ps(0x1p14f));
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
    __m256i large = _mm256_add_epi32(magnitude, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
    large = _mm256_and_si256(large, _mm256_set1_epi32((int)0xfff00000u));
    large = _mm256_min_epu32(large, _mm256_set1_epi32(0x43e00000)); /* 448 */
    __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), magnitude);
    __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    large = _mm256_blendv_epi8(large, _mm256_set1_epi32(0x7fc00000), is_nan);
    __m256i rounded = _mm256_blendv_epi8(large, _mm256_castps_si256(small), is_small);
    return _mm256_or_si256(rounded, _mm256_and_si256(bits, _mm256_set1_epi32((int)0x80000000u)));
}

static float quantize_block(uint16_t *q, const float *x, int n, bool ue8m0) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 max = _mm256_set1_ps(1e-4f);
    for (int i = 0; i < n; i += LANES) max = _mm256_max_ps(_mm256_and_ps(load_f32(x + i, n - i), magnitude), max);
    float s = max_lanes(max) / 448.0f;
    if (ue8m0) s = fr_bits_f32((fr_f32_bits(s) + 0x7fffffu) & 0x7f800000u);
    for (int i = 0; i < n; i += LANES) {
        __m256i v = round_e4m3(_mm256_div_ps(load_f32(x + i, n - i), _mm256_set1_ps(s)));
        store_u16(q + i, n - i, upper_halves(v));
    }
    return s;
}

/* ---- Decode ---- */

#define STREAMS 4 /* outputs of a strip */
#define AHEAD 512 /* bytes of a row that are asked for before they are needed */
#define TILE(rows) ((rows) <= 2 ? 4 : (rows) <= 5 ? 2 : 1)

/* 8 weights; E4M3 2^-120 times their value. */
INLINE __m256 load_weights(weight_kind kind, const char *w) {
    if (kind == W_E4M3) return e4m3_shifted((const uint8_t *)w);
    if (kind == W_BF16) return widen_bf16(_mm_loadu_si128((const void *)w));
    return _mm256_loadu_ps((const void *)w);
}

/* Quantized rows have zeros behind them. */
INLINE __m256 load_x(bool quantized, const char *x, int i, int n) {
    if (quantized) return widen_bf16(_mm_loadu_si128((const void *)(x + 2 * i)));
    return load_f32((const float *)(const void *)x + i, n - i);
}

#define VECTOR __m256
#define ZERO _mm256_setzero_ps
#define SAME _mm256_set1_ps
#define STORE _mm256_store_ps
#define LOAD _mm256_loadu_ps
#define MULTIPLY _mm256_mul_ps
#define MULTIPLY_ADD _mm256_fmadd_ps
#include "core/kernels/decode_floats.h"
#include "core/kernels/decode_strips.h"

DECODE_LINEAR(static, decode_linear_e4m3, W_E4M3, false)
DECODE_LINEAR(static, decode_linear_e4m3_q, W_E4M3, true)
DECODE_LINEAR(static, decode_linear_bf16, W_BF16, false)
DECODE_LINEAR(static, decode_linear_f32, W_F32, false)

const fr_kernels fr_kernels_avx2 = {
    .isa = FR_ISA_AVX2,
    .name = "avx2",
    .dot_f32 = dot_f32,
    .dot_bf16 = dot_bf16,
    .axpy_f32 = axpy_f32,
    .axpy_bf16 = axpy_bf16,
    .axpy_e4m3 = axpy_e4m3,
    .bf16_to_f32 = bf16_to_f32,
    .f32_to_bf16 = f32_to_bf16,
    .e4m3_to_bf16 = e4m3_to_bf16,
    .sum_squares = sum_squares,
    .max = max_f32,
    .exp_sub = exp_sub,
    .silu_mul = silu_mul,
    .quantize_block = quantize_block,
    .decode_linear_e4m3 = decode_linear_e4m3,
    .decode_linear_e4m3_q = decode_linear_e4m3_q,
    .decode_linear_bf16 = decode_linear_bf16,
    .decode_linear_f32 = decode_linear_f32,
    .attend_scores_bf16 = fr_attend_scores_avx2,
    .attend_values_bf16 = fr_attend_values_avx2,
    .add_rows_e4m3 = fr_add_rows_e4m3_avx2,
    .float_prefill = &fr_float_prefill_kernels_avx2,
};
