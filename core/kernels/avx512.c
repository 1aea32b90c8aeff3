/* AVX-512 without its extensions. */
#include <immintrin.h>
#include <string.h>

#include "core/dtype.h"
#include "core/kernels/avx512.h"
#include "core/kernels/isa.h"
#include "core/kernels/prefill.h"

INLINE __m512 widen_bf16(__m256i v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

/* Round to nearest even; NaN stays NaN. */
INLINE __m256i narrow_bf16(__m512 v) {
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

INLINE __m512 e4m3_f32_16(__m128i codes) {
    __m256i half = _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7), _mm256_set1_epi16((short)0xbfff));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(0x1p8f));
}

static float dot_f32(const float *a, const float *b, int n) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int i = 0;
    for (; i + 64 <= n; i += 64) {
        UNROLL for (int j = 0; j < 4; j++) s[j] =
            _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * j), _mm512_loadu_ps(b + i + 16 * j), s[j]);
    }
    for (; i < n; i += 16) {
        __mmask16 m = first16(n - i);
        s[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s[0]);
    }
    return sum_lanes(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static float dot_bf16(const float *a, const uint16_t *b, int n) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int i = 0;
    for (; i + 64 <= n; i += 64) {
        UNROLL for (int j = 0; j < 4; j++) {
            __m512 v = widen_bf16(_mm256_loadu_si256((const void *)(b + i + 16 * j)));
            s[j] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * j), v, s[j]);
        }
    }
    for (; i < n; i += 16) {
        __mmask16 m = first16(n - i);
        __m512 v = widen_bf16(_mm256_maskz_loadu_epi16(m, b + i));
        s[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), v, s[0]);
    }
    return sum_lanes(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static void axpy_f32(float *y, float a, const float *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(_mm512_set1_ps(a), v, _mm512_maskz_loadu_ps(m, y + i)));
    }
}

static void axpy_bf16(float *y, float a, const uint16_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512 v = widen_bf16(_mm256_maskz_loadu_epi16(m, x + i));
        _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(_mm512_set1_ps(a), v, _mm512_maskz_loadu_ps(m, y + i)));
    }
}

static void axpy_e4m3(float *y, float a, const uint8_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512 v = e4m3_f32_16(_mm_maskz_loadu_epi8(m, x + i));
        _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(_mm512_set1_ps(a), v, _mm512_maskz_loadu_ps(m, y + i)));
    }
}

static void add_rows_e4m3(float *y, const float *a, const uint8_t *x, int64_t stride, int rows, int n) {
    for (int i = 0; i < n; i += 2 * LANES) { /* two sums at a time, which do not wait for each other */
        __mmask16 m = first16(n - i), last = first16(n - i - LANES);
        __m512 s = _mm512_maskz_loadu_ps(m, y + i), t = _mm512_maskz_loadu_ps(last, y + i + LANES);
        for (int r = 0; r < rows; r++) {
            const uint8_t *row = x + r * stride + i;
            s = _mm512_fmadd_ps(_mm512_set1_ps(a[r]), e4m3_f32_16(_mm_maskz_loadu_epi8(m, row)), s);
            t = _mm512_fmadd_ps(_mm512_set1_ps(a[r]), e4m3_f32_16(_mm_maskz_loadu_epi8(last, row + LANES)), t);
        }
        _mm512_mask_storeu_ps(y + i, m, s);
        _mm512_mask_storeu_ps(y + i + LANES, last, t);
    }
}

static void bf16_to_f32(float *y, const uint16_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        _mm512_mask_storeu_ps(y + i, m, widen_bf16(_mm256_maskz_loadu_epi16(m, x + i)));
    }
}

static void f32_to_bf16(uint16_t *y, const float *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        _mm256_mask_storeu_epi16(y + i, m, narrow_bf16(_mm512_maskz_loadu_ps(m, x + i)));
    }
}

static void e4m3_to_bf16(uint16_t *y, const uint8_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512i bits = _mm512_castps_si512(e4m3_f32_16(_mm_maskz_loadu_epi8(m, x + i)));
        _mm256_mask_storeu_epi16(y + i, m, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
    }
}

static float sum_squares(const float *x, int n) {
    return dot_f32(x, x, n);
}

static float max_f32(const float *x, int n) {
    __m512 max = _mm512_set1_ps(x[0]);
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        max = _mm512_mask_max_ps(max, m, max, _mm512_maskz_loadu_ps(m, x + i));
    }
    return _mm512_reduce_max_ps(max);
}

static float exp_sub(float *x, float max, int n) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512 e = exp_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(max)));
        _mm512_mask_storeu_ps(x + i, m, e);
        sum = _mm512_add_ps(sum, _mm512_maskz_mov_ps(m, e));
    }
    return sum_lanes(sum);
}

static void silu_mul(float *y, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512 g = _mm512_maskz_loadu_ps(m, gate + i), u = _mm512_maskz_loadu_ps(m, up + i);
        __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), g));
        __m512 s = _mm512_div_ps(g, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(s, u));
    }
}

/* v rounded to the E4M3 grid, as the bits of a float. Below 2^-6 the grid is that of the subnormals, 2^-9, which is the
 * last place of a float near 2^14; above, the last of three mantissa bits. */
INLINE __m512i round_e4m3(__m512 v) {
    const __m512i sign = _mm512_set1_epi32((int)0x80000000u);
    __m512i bits = _mm512_castps_si512(v), magnitude = _mm512_andnot_si512(sign, bits);
    __m512 small = _mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p14f));
    small = _mm512_sub_ps(small, _mm512_set1_ps(0x1p14f));
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
    __m512i large = _mm512_add_epi32(magnitude, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    large = _mm512_and_si512(large, _mm512_set1_epi32((int)0xfff00000u));
    large = _mm512_min_epu32(large, _mm512_set1_epi32(0x43e00000)); /* 448 */
    __mmask16 is_small = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x3c800000));
    __mmask16 is_nan = _mm512_cmpgt_epu32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
    large = _mm512_mask_mov_epi32(large, is_nan, _mm512_set1_epi32(0x7fc00000));
    __m512i rounded = _mm512_mask_mov_epi32(large, is_small, _mm512_castps_si512(small));
    return _mm512_or_si512(rounded, _mm512_andnot_si512(_mm512_set1_epi32(0x7fffffff), bits));
}

static float quantize_block(uint16_t *q, const float *x, int n, bool ue8m0) {
    __m512 max = _mm512_set1_ps(1e-4f);
    for (int i = 0; i < n; i += LANES) max = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(first16(n - i), x + i)), max);
    float s = _mm512_reduce_max_ps(max) / 448.0f;
    if (ue8m0) s = fr_bits_f32((fr_f32_bits(s) + 0x7fffffu) & 0x7f800000u);
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = first16(n - i);
        __m512i v = round_e4m3(_mm512_div_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(s)));
        _mm256_mask_storeu_epi16(q + i, m, _mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
    }
    return s;
}

/* ---- Decode ---- */

#define STREAMS 8 /* outputs of a strip */
#define AHEAD 512 /* bytes of a row that are asked for before they are needed */
#define TILE(rows) ((rows) <= 2 ? 8 : (rows) <= 5 ? 4 : 2)

/* 16 weights; E4M3 2^-120 times their value: a code with its exponent and mantissa at the lower end of a float's exponent is
 * that, subnormals included. */
INLINE __m512 load_weights(weight_kind kind, const char *w) {
    if (kind == W_E4M3) {
        __m512i words = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)w));
        return _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(words, 20), _mm512_set1_epi32((int)0x87f00000u)));
    }
    if (kind == W_BF16) return widen_bf16(_mm256_loadu_si256((const void *)w));
    return _mm512_loadu_ps(w);
}

INLINE __m512 load_x(bool quantized, const char *x, int i, int n) {
    if (quantized) return widen_bf16(_mm256_loadu_si256((const void *)(x + 2 * i)));
    return _mm512_maskz_loadu_ps(first16(n - i), x + 4 * i);
}

#define VECTOR __m512
#define ZERO _mm512_setzero_ps
#define SAME _mm512_set1_ps
#define STORE _mm512_store_ps
#define LOAD _mm512_loadu_ps
#define MULTIPLY _mm512_mul_ps
#define MULTIPLY_ADD _mm512_fmadd_ps
#include "core/kernels/decode_floats.h"
#include "core/kernels/decode_strips.h"

DECODE_LINEAR(static, decode_linear_e4m3, W_E4M3, false)
DECODE_LINEAR(static, decode_linear_e4m3_q, W_E4M3, true)
DECODE_LINEAR(static, decode_linear_bf16, W_BF16, false)
DECODE_LINEAR(static, decode_linear_f32, W_F32, false)

#define COMMON                                                                                                                   \
    .dot_f32 = dot_f32, .dot_bf16 = dot_bf16, .axpy_f32 = axpy_f32, .axpy_bf16 = axpy_bf16, .axpy_e4m3 = axpy_e4m3,              \
    .bf16_to_f32 = bf16_to_f32, .f32_to_bf16 = f32_to_bf16, .sum_squares = sum_squares, .max = max_f32, .exp_sub = exp_sub,      \
    .silu_mul = silu_mul, .quantize_block = quantize_block, .attend_scores_bf16 = fr_attend_scores_avx512,                       \
    .attend_values_bf16 = fr_attend_values_avx512, .decode_linear_e4m3 = decode_linear_e4m3,                                     \
    .decode_linear_bf16 = decode_linear_bf16, .decode_linear_f32 = decode_linear_f32
#define EXTENDED                                                                                                                 \
    .e4m3_to_bf16 = fr_e4m3_to_bf16_vbmi, .add_rows_e4m3 = fr_add_rows_e4m3_bf16, .prefill = &fr_prefill_kernels_avx512

const fr_kernels fr_kernels_avx512 = {COMMON,
                                      .isa = FR_ISA_AVX512,
                                      .name = "avx512",
                                      .e4m3_to_bf16 = e4m3_to_bf16,
                                      .add_rows_e4m3 = add_rows_e4m3,
                                      .decode_linear_e4m3_q = decode_linear_e4m3_q,
                                      .float_prefill = &fr_float_prefill_kernels_avx2};
const fr_kernels fr_kernels_avx512_bf16 = {COMMON, EXTENDED, .isa = FR_ISA_AVX512, .name = "avx512_bf16",
                                           .decode_linear_e4m3_q = fr_decode_linear_e4m3_q_bf16};
const fr_kernels fr_kernels_amx = {COMMON,
                                   EXTENDED,
                                   .isa = FR_ISA_AMX,
                                   .name = "amx",
                                   .decode_linear_e4m3_q = fr_decode_linear_e4m3_q_amx,
                                   .e4m3_to_tiles = fr_e4m3_to_tiles_amx,
                                   .multiply_panel = fr_multiply_panel_amx,
                                   .tiled_attention = &fr_tiled_attention_amx};
