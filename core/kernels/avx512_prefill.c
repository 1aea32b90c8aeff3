/* AVX-512 with BF16. */
#include "core/kernels/prefill.h"

#include "core/kernels/avx512.h"

static inline void split16(__m512 v, __m256i *hi, __m256i *lo) {
    *hi = (__m256i)_mm512_cvtneps_pbh(v);
    __m512 rounded = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(*hi), 16));
    *lo = (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(v, rounded));
}

static void split(uint16_t *hi, uint16_t *lo, const float *x, int n) {
    for (int i = 0; i < n; i += 16) {
        __m256i h, l;
        split16(_mm512_maskz_loadu_ps(first16(n - i), x + i), &h, &l);
        _mm256_mask_storeu_epi16(hi + i, first16(n - i), h);
        _mm256_mask_storeu_epi16(lo + i, first16(n - i), l);
    }
}

/* Where pair `pair` of inputs of columns [column, column + 16) goes. */
static inline size_t place(int columns, bool tiles, int column, int pair) {
    return tiles ? (size_t)((column / 16 * (FR_BLOCK / 32) + pair / 16) * 512 + pair % 16 * 32)
                 : (size_t)(2 * (pair * columns + column));
}

static void pack_bf16(uint16_t *pack, int columns, bool tiles, const uint16_t *const *rows, int n) {
    for (int column = 0; column < columns; column += 16) {
        for (int i = 0; i < FR_BLOCK; i += 32) {
            __m512i r[16];
            for (int j = 0; j < 16; j++)
                r[j] = column + j < n ? _mm512_loadu_si512(rows[column + j] + i) : _mm512_setzero_si512();
            transpose16(r);
            for (int j = 0; j < 16; j++) _mm512_storeu_si512(pack + place(columns, tiles, column, i / 2 + j), r[j]);
        }
    }
}

static void pack_f32(uint16_t *hi, uint16_t *lo, int columns, bool tiles, const float *const *rows, int n, int m) {
    for (int column = 0; column < columns; column += 16) {
        for (int i = 0; i < FR_BLOCK; i += 32) {
            __m512i h[16], l[16];
            for (int j = 0; j < 16; j++) {
                __m256i part[2][2];
                const float *row = column + j < n ? rows[column + j] : rows[0];
                int left = column + j < n ? m - i : 0;
                split16(_mm512_maskz_loadu_ps(first16(left), row + i), &part[0][0], &part[1][0]);
                split16(_mm512_maskz_loadu_ps(first16(left - 16), row + i + 16), &part[0][1], &part[1][1]);
                h[j] = _mm512_inserti64x4(_mm512_castsi256_si512(part[0][0]), part[0][1], 1);
                l[j] = _mm512_inserti64x4(_mm512_castsi256_si512(part[1][0]), part[1][1], 1);
            }
            transpose16(h);
            transpose16(l);
            for (int j = 0; j < 16; j++) {
                size_t at = place(columns, tiles, column, i / 2 + j);
                _mm512_storeu_si512(hi + at, h[j]);
                _mm512_storeu_si512(lo + at, l[j]);
            }
        }
    }
}

static void add_scaled(float *sum, const float *c, int columns, float sw, const float *sx) {
    for (int column = 0; column < columns; column += 16) {
        __m512 s = _mm512_set1_ps(sw);
        if (sx) s = _mm512_mul_ps(s, _mm512_loadu_ps(sx + column));
        for (int i = 0; i < FR_TILE_OUTPUTS; i++) {
            int at = i * FR_TILE_TOKENS + column;
            _mm512_storeu_ps(sum + at, _mm512_fmadd_ps(_mm512_loadu_ps(c + at), s, _mm512_loadu_ps(sum + at)));
        }
    }
}

static void transpose(float *y, int64_t y_stride, const float *sum, int tokens, int outputs) {
    for (int token = 0; token < tokens; token += 16) {
        for (int output = 0; output < outputs; output += 16) {
            __m512i r[16];
            for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(sum + (output + i) * FR_TILE_TOKENS + token);
            transpose16(r);
            for (int i = 0; i < 16 && token + i < tokens; i++)
                _mm512_mask_storeu_epi32(y + (token + i) * y_stride + output, first16(outputs - output), r[i]);
        }
    }
}

const fr_prefill_kernels fr_prefill_kernels_avx512 = {split, pack_bf16, pack_f32, add_scaled, transpose};
