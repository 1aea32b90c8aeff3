/* AVX2: what prefill does around products in float32. */
#include "core/kernels/avx2.h"
#include "core/kernels/prefill.h"

static void e4m3_to_f32(float *y, const uint8_t *x, int n) {
    for (int i = 0; i < n; i += LANES) store_f32(y + i, n - i, e4m3_f32(load_u8(x + i, n - i)));
}

/* r[j] = column j of the 8 x 8 matrix whose rows are r. */
INLINE void transpose8(__m256 *r) {
    __m256 t[8], u[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL for (int j = 0; j < 4; j++) {
        r[j] = _mm256_permute2f128_ps(u[j], u[j + 4], 0x20);
        r[j + 4] = _mm256_permute2f128_ps(u[j], u[j + 4], 0x31);
    }
}

/* Puts 8 columns of 8 inputs where they belong. */
INLINE void place8(float *pack, int columns, __m256 *r) {
    transpose8(r);
    UNROLL for (int j = 0; j < 8; j++) _mm256_storeu_ps(pack + j * columns, r[j]);
}

static void pack_bf16(float *pack, int columns, const uint16_t *const *rows, int n) {
    for (int column = 0; column < columns; column += 8)
        for (int i = 0; i < FR_BLOCK; i += 8) {
            __m256 r[8];
            UNROLL for (int j = 0; j < 8; j++) {
                r[j] = column + j < n ? widen_bf16(_mm_loadu_si128((const void *)(rows[column + j] + i))) : _mm256_setzero_ps();
            }
            place8(pack + i * columns + column, columns, r);
        }
}

static void pack_f32(float *pack, int columns, const float *const *rows, int n, int m) {
    for (int column = 0; column < columns; column += 8)
        for (int i = 0; i < FR_BLOCK; i += 8) {
            __m256 r[8];
            UNROLL for (int j = 0; j < 8; j++) r[j] =
                column + j < n ? load_f32(rows[column + j] + i, m - i) : _mm256_setzero_ps();
            place8(pack + i * columns + column, columns, r);
        }
}

static void add_scaled(float *sum, const float *c, int columns, float sw, const float *sx) {
    for (int column = 0; column < columns; column += 8) {
        __m256 s = _mm256_set1_ps(sw);
        if (sx) s = _mm256_mul_ps(s, _mm256_loadu_ps(sx + column));
        for (int i = 0; i < FR_TILE_OUTPUTS; i++) {
            int at = i * FR_TILE_TOKENS + column;
            _mm256_storeu_ps(sum + at, _mm256_fmadd_ps(_mm256_loadu_ps(c + at), s, _mm256_loadu_ps(sum + at)));
        }
    }
}

static void transpose(float *y, int64_t y_stride, const float *sum, int tokens, int outputs) {
    for (int token = 0; token < tokens; token += 8)
        for (int output = 0; output < outputs; output += 8) {
            __m256 r[8];
            UNROLL for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(sum + (output + i) * FR_TILE_TOKENS + token);
            transpose8(r);
            for (int i = 0; i < 8 && token + i < tokens; i++)
                store_f32(y + (token + i) * y_stride + output, outputs - output, r[i]);
        }
}

const fr_float_prefill_kernels fr_float_prefill_kernels_avx2 = {e4m3_to_f32, pack_bf16, pack_f32, add_scaled, transpose};
