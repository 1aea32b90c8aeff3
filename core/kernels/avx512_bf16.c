/* AVX-512 with BF16 dot products, VBMI byte tables and GFNI bit matrices: decode with quantized rows, and sums of rows of
 * weights. */
#include "core/kernels/avx512.h"
#include "core/kernels/e4m3.h"

#define STREAMS 4 /* outputs of a strip */
#define AHEAD 512 /* bytes of a row that are asked for before they are needed */
#define TILE(rows) ((rows) <= 2 ? 4 : 2)

/* High and low bytes of the BF16 of each magnitude of E4M3, 127 being NaN. E4M3 subnormals are normal numbers in BF16,
 * which matters because the dot product takes BF16 subnormals for zeros. */
#define SAME16(v) v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v
#define STEPS16 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0
const uint8_t fr_e4m3_high[128] = {
    0x00, 0x3b, 0x3b, 0x3b,         0x3c,         0x3c,         0x3c,         0x3c,         0x3c,         0x3c, 0x3c, 0x3c, 0x3c,
    0x3c, 0x3c, 0x3c, SAME16(0x3d), SAME16(0x3e), SAME16(0x3f), SAME16(0x40), SAME16(0x41), SAME16(0x42), 0x43, 0x43, 0x43, 0x43,
    0x43, 0x43, 0x43, 0x43,         0x43,         0x43,         0x43,         0x43,         0x43,         0x43, 0x43, 0x7f,
};
const uint8_t fr_e4m3_low[128] = {
    0x00, 0x00, 0x80, 0xc0,    0x00,    0x20,    0x40,    0x60,    0x80,    0x90, 0xa0, 0xb0, 0xc0,
    0xd0, 0xe0, 0xf0, STEPS16, STEPS16, STEPS16, STEPS16, STEPS16, STEPS16, 0x00, 0x10, 0x20, 0x30,
    0x40, 0x50, 0x60, 0x70,    0x80,    0x90,    0xa0,    0xb0,    0xc0,    0xd0, 0xe0, 0xc0,
};

/* 64 E4M3 codes as two vectors of BF16, in order: the qwords are dealt out first so that unpacking restores the order.
 */
INLINE void convert(const char *w, __m512i *a, __m512i *b) {
    const __m512i deal = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    convert_dealt(_mm512_permutexvar_epi64(deal, _mm512_loadu_si512(w)), a, b);
}

void fr_e4m3_to_bf16_vbmi(uint16_t *y, const uint8_t *x, int n) {
    __m512i a, b;
    for (; n >= 64; n -= 64, x += 64, y += 64) {
        convert((const char *)x, &a, &b);
        _mm512_storeu_si512(y, a);
        _mm512_storeu_si512(y + 32, b);
    }
    if (n == 0) return;
    uint8_t codes[64] = {0};
    uint16_t values[64];
    memcpy(codes, x, (size_t)n);
    fr_e4m3_to_bf16_vbmi(values, codes, 64);
    memcpy(y, values, 2 * (size_t)n);
}

INLINE float sum_times(weight_kind kind) {
    (void)kind; /* E4M3 */
    return 1.0f;
}

INLINE bool makes_inputs(weight_kind kind) {
    (void)kind;
    return false;
}

/* Quantized rows are BF16 as they are, with zeros behind them. */
INLINE const char *block_of_x(weight_kind kind, bool quantized, const char *x, int n, char *buffer) {
    (void)kind, (void)quantized, (void)n, (void)buffer;
    return x;
}

INLINE void add_block(weight_kind kind, int rows, int tile, const char *const *w, int at, const char *const *x,
                      __m512 (*sum)[FR_DECODE_ROWS]) {
    (void)kind;
    __m512 s[TILE(1)][FR_DECODE_ROWS];
    UNROLL for (int o = 0; o < tile; o++) {
        UNROLL for (int r = 0; r < rows; r++) s[o][r] = _mm512_setzero_ps();
    }
    UNROLL for (int i = 0; i < FR_BLOCK; i += 64) {
        __m512i a[TILE(1)], b[TILE(1)];
        UNROLL for (int o = 0; o < tile; o++) {
            _mm_prefetch(w[o] + at + i + AHEAD, _MM_HINT_T0);
            convert(w[o] + at + i, &a[o], &b[o]);
        }
        UNROLL for (int r = 0; r < rows; r++) {
            __m512bh xa = (__m512bh)_mm512_loadu_si512(x[r] + 2 * i), xb = (__m512bh)_mm512_loadu_si512(x[r] + 2 * i + 64);
            UNROLL for (int o = 0; o < tile; o++) {
                s[o][r] = _mm512_dpbf16_ps(s[o][r], (__m512bh)a[o], xa);
                s[o][r] = _mm512_dpbf16_ps(s[o][r], (__m512bh)b[o], xb);
            }
        }
    }
    UNROLL for (int o = 0; o < tile; o++) {
        UNROLL for (int r = 0; r < rows; r++) sum[o][r] = s[o][r];
    }
}

#define VECTOR __m512
#define ZERO _mm512_setzero_ps
#define SAME _mm512_set1_ps
#define MULTIPLY _mm512_mul_ps
#define MULTIPLY_ADD _mm512_fmadd_ps
#include "core/kernels/decode_strips.h"

DECODE_LINEAR(, fr_decode_linear_e4m3_q_bf16, W_E4M3, true)

/* ---- Sums of rows ---- */

#define VECTORS 8     /* of a block */
#define AHEAD_ROWS 16 /* that are asked for before they are needed */

/* A block of weights as float32, dealt: of each 64, with 16 to a lane, the first half of each lane, even ones, then odd ones;
 * then the second half. */
INLINE void convert_block(const char *w, __m512 *f) {
    __m512i r[4];
    convert_dealt_128(_mm512_loadu_si512(w), _mm512_loadu_si512(w + 64), r);
    UNROLL for (int i = 0; i < 4; i++) {
        f[2 * i] = _mm512_castsi512_ps(_mm512_slli_epi32(r[i], 16));
        f[2 * i + 1] = _mm512_castsi512_ps(_mm512_and_si512(r[i], _mm512_set1_epi32((int)0xffff0000u)));
    }
}

void fr_add_rows_e4m3_bf16(float *y, const float *a, const uint8_t *x, int64_t stride, int rows, int n) {
    __m512 sum[VECTORS];
    char tail[FR_BLOCK];
    float whole[FR_BLOCK];
    UNROLL for (int i = 0; i < VECTORS; i++) sum[i] = _mm512_setzero_ps();
    for (int r = 0; r < rows; r++) {
        const char *row = (const char *)x + r * stride;
        __m512 f[VECTORS], weight = _mm512_set1_ps(a[r]);
        _mm_prefetch(row + AHEAD_ROWS * stride, _MM_HINT_T0);
        _mm_prefetch(row + AHEAD_ROWS * stride + 64, _MM_HINT_T0);
        convert_block(n < FR_BLOCK ? fr_pad_block(tail, row, n, 1) : row, f);
        UNROLL for (int i = 0; i < VECTORS; i++) sum[i] = _mm512_fmadd_ps(weight, f[i], sum[i]);
    }
    UNROLL for (int i = 0; i < VECTORS; i += 4) { /* undoes the dealing, lane by lane */
        __m512 lane[4] = {_mm512_unpacklo_ps(sum[i], sum[i + 1]), _mm512_unpackhi_ps(sum[i], sum[i + 1]),
                          _mm512_unpacklo_ps(sum[i + 2], sum[i + 3]), _mm512_unpackhi_ps(sum[i + 2], sum[i + 3])};
        UNROLL for (int k = 0; k < 4; k++) {
            float *to = whole + 16 * i + 4 * k;
            _mm_storeu_ps(to, _mm512_extractf32x4_ps(lane[k], 0));
            _mm_storeu_ps(to + 16, _mm512_extractf32x4_ps(lane[k], 1));
            _mm_storeu_ps(to + 32, _mm512_extractf32x4_ps(lane[k], 2));
            _mm_storeu_ps(to + 48, _mm512_extractf32x4_ps(lane[k], 3));
        }
    }
    for (int i = 0; i < n; i++) y[i] += whole[i];
}
