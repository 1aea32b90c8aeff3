/* What the decode kernels of vector units share. Private to core/kernels. */
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

#endif
