/* Kernels of the prefill regime: what packs rows and adds up around its products, and the products themselves with AMX. */
#ifndef FR_CORE_KERNELS_PREFILL_H
#define FR_CORE_KERNELS_PREFILL_H

#include "core/dtype.h"
#include "core/kernels/prefill_layout.h"

typedef struct fr_prefill_kernels {
    /* x = hi + lo, both BF16: 16 bits of mantissa. x need not be aligned. */
    void (*split)(uint16_t *hi, uint16_t *lo, const float *x, int n);
    /* Packs n <= columns rows of FR_BLOCK values as [FR_BLOCK / 2][columns][2], or in tiles as [columns / 16][FR_BLOCK /
     * 32][16][16][2]; columns beyond n become zero. (16 columns: the same.) */
    void (*pack_bf16)(uint16_t *pack, int columns, bool tiles, const uint16_t *const *rows, int n);
    /* The same for the two parts of rows of m <= FR_BLOCK floats, zero beyond m. */
    void (*pack_f32)(uint16_t *hi, uint16_t *lo, int columns, bool tiles, const float *const *rows, int n, int m);
    /* sum += c * sw * sx[column] (sx NULL: c * sw); both are [FR_TILE_OUTPUTS, FR_TILE_TOKENS]. */
    void (*add_scaled)(float *sum, const float *c, int columns, float sw, const float *sx);
    /* y[token * y_stride + output] = sum[output][token] for `tokens` and `outputs`. */
    void (*transpose)(float *y, int64_t y_stride, const float *sum, int tokens, int outputs);
} fr_prefill_kernels;

/* The same around products of floats, for vector units without BF16 products. */
typedef struct fr_float_prefill_kernels {
    void (*e4m3_to_f32)(float *y, const uint8_t *x, int n); /* exact */
    /* Packs n <= columns rows of FR_BLOCK values as [FR_BLOCK][columns]; columns beyond n become zero. */
    void (*pack_bf16)(float *pack, int columns, const uint16_t *const *rows, int n);
    /* The same for rows of m <= FR_BLOCK floats, zero beyond m. */
    void (*pack_f32)(float *pack, int columns, const float *const *rows, int n, int m);
    /* As in fr_prefill_kernels. */
    void (*add_scaled)(float *sum, const float *c, int columns, float sw, const float *sx);
    void (*transpose)(float *y, int64_t y_stride, const float *sum, int tokens, int outputs);
} fr_float_prefill_kernels;

extern const fr_float_prefill_kernels fr_float_prefill_kernels_avx2;

/* A tile of weights times a tile of tokens, block by block of inputs, both laid out for AMX (core/kernels/prefill_layout.h):
 * sum += sw[block] * sx[block][token] * (a[0] b[0] + .. + a[products - 1] b[products - 1]). */
typedef struct fr_panel {
    int blocks, products, columns;
    const uint16_t *a[4]; /* a block is FR_TILE_OUTPUTS * FR_BLOCK */
    const uint16_t *b[4]; /* a block is b_stride */
    int64_t b_stride;
    const float *sw; /* [blocks], or NULL: 1 */
    const float *sx; /* rows sx_stride apart, or NULL: 1 */
    int64_t sx_stride;
    float *sum; /* [FR_TILE_OUTPUTS, FR_TILE_TOKENS] */
    /* What the next call will read, or NULL: it is prefetched meanwhile. */
    const uint16_t *next_b;
    size_t next_b_bytes;
    const float *next_sum;
} fr_panel;

#endif
