/* What the decode kernels of vector units share. They work on strips of OUTPUTS outputs and up to ROWS rows; a pair (output,
 * row) has the same chain of operations wherever it stands in a strip and whatever shares the strip, so its result does not
 * depend on the number of rows or on how outputs are split between threads. Private to core. */
#ifndef FR_CORE_KERNELS_DECODE_H
#define FR_CORE_KERNELS_DECODE_H

#include <string.h>

#include "core/kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* A call of a decode kernel: the arguments of core/kernels/kernels.h. */
typedef struct fr_decode_job {
    const void *w;
    int64_t stride;
    const float *scale;
    int64_t scale_stride;
    int in, begin, end;
    const void *const *x;
    const float *const *sx; /* NULL: x are rows of float32; else of BF16, quantized */
    int rows;
    float *y;
    int64_t y_stride;
} fr_decode_job;

/* How far apart a strip takes its outputs when it takes `streams` of them: then the weights of each come in the order of
 * memory, strip after strip, and memory serves the streams side by side (neighbouring outputs of a narrow matrix are one
 * stream, which gets two thirds of what many get). Odd, lest all streams fall into the same sets of the caches; a short
 * range can't spare the outputs that would be missing. */
static inline int fr_streams_apart(int outputs, int streams) {
    int apart = (outputs + streams - 1) / streams;
    return apart > 16 ? apart | 1 : apart;
}

/* A partial block of n values of `size` bytes, made whole with zeros. */
static inline const char *fr_pad_block(char *to, const char *from, int n, int size) {
    memset(to, 0, (size_t)(FR_BLOCK * size));
    memcpy(to, from, (size_t)n * (size_t)size);
    return to;
}

#endif
