/* What core/linear_many.c does around brgemm, in vector instructions. Private to core. */
#ifndef FR_CORE_MANY_KERNELS_H
#define FR_CORE_MANY_KERNELS_H

#include "core/linear_many.h"

typedef struct fr_many {
    /* x = hi + lo, both BF16: 16 bits of mantissa. x need not be aligned. */
    void (*split)(uint16_t *hi, uint16_t *lo, const float *x, int n);
    /* Packs n <= columns rows of FR_BLOCK values as [FR_BLOCK / 2][columns][2]; columns beyond n become zero. */
    void (*pack_bf16)(uint16_t *pack, int columns, const uint16_t *const *rows, int n);
    /* The same for the two parts of rows of m <= FR_BLOCK floats, zero beyond m. */
    void (*pack_f32)(uint16_t *hi, uint16_t *lo, int columns, const float *const *rows, int n, int m);
    /* sum += c * sw * sx[column] (sx NULL: c * sw); both are [FR_MANY_OUTPUTS, FR_MANY_TOKENS]. */
    void (*add_scaled)(float *sum, const float *c, int columns, float sw, const float *sx);
    /* y[token * y_stride + output] = sum[output][token] for `tokens` and `outputs`. */
    void (*transpose)(float *y, int64_t y_stride, const float *sum, int tokens, int outputs);
} fr_many;

/* NULL when the CPU or the build lacks what brgemm needs (AVX512-BF16). */
const fr_many *fr_many_kernels(void);

#endif
