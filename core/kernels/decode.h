/* What the decode kernels of vector units share. Private to core/kernels. */
#ifndef FR_CORE_KERNELS_DECODE_H
#define FR_CORE_KERNELS_DECODE_H

#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "core/kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define TWICE _Pragma("unroll 2")
#else
#define UNROLL _Pragma("GCC unroll 8")
#define TWICE _Pragma("GCC unroll 2") /* and not wholly, as compilers would: the code of all rows and kinds has to stay small */
#endif

typedef enum weight_kind { W_E4M3, W_BF16, W_F32 } weight_kind;

INLINE int weight_size(weight_kind kind) {
    return kind == W_E4M3 ? 1 : kind == W_BF16 ? 2 : 4;
}

/* How far apart a strip takes its outputs when it takes `streams` of them. The weights of each then come in the order of memory,
 * strip after strip, and memory serves the streams side by side. (Neighbouring outputs of a narrow matrix would be one stream,
 * which gets two thirds of what several get.) The distance is odd, so that the streams do not all fall into the same sets of the
 * caches, but for short ranges, where rounding up would leave strips incomplete. */
static inline int fr_streams_apart(int outputs, int streams) {
    int apart = (outputs + streams - 1) / streams;
    return apart > 16 ? apart | 1 : apart;
}

/* A partial block of n values of `size` bytes, padded with zeros. */
static inline const char *fr_pad_block(char *to, const char *from, int n, int size) {
    memset(to, 0, (size_t)(FR_BLOCK * size));
    memcpy(to, from, (size_t)n * (size_t)size);
    return to;
}

#if defined(__x86_64__)
/* Subnormal floats are numbers here, whatever the program that forerun is a library of has told its threads to make of them.
 * Returns what the thread had. */
INLINE unsigned subnormals_on(void) {
    const unsigned flush = 0x8040; /* to zero: results, operands */
    unsigned had = _mm_getcsr();
    if (had & flush) _mm_setcsr(had & ~flush);
    return had;
}
#endif

#endif
