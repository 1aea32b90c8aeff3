/* Attention of up to 16 queries at a time over BF16 rows, by matrix tiles. A row is a key, and its first `rank` elements are the
 * value, as in the compressed cache of MLA. The softmax is online. A query's result has the same bits at any place among the 16
 * and whatever the others are. */
#ifndef FR_CORE_KERNELS_TILED_ATTENTION_H
#define FR_CORE_KERNELS_TILED_ATTENTION_H

#include "core/memory.h"

#define FR_TILED_QUERIES 16
#define FR_TILED_SPAN 64 /* positions that are folded in at a time; spans begin at multiples of it */

typedef struct fr_tiled_queries {
    uint16_t *high, *low; /* the queries packed, in two parts that add up to them */
    float *sum;           /* of the values, not normalized; layout private to the kernels */
    float *max, *total;   /* [16]: of the online softmax, whose maximum is brought up late (FR_ATTEND_LATE) */
    int *seen;            /* [16]: positions [0, seen) are a query's to see */
} fr_tiled_queries;

typedef struct fr_tiled_attention {
    /* Takes the memory of 16 queries [width], and of a thread's work on a span. */
    void (*take)(fr_tiled_queries *g, fr_arena *arena, int width, int rank);
    void *(*take_scratch)(fr_arena *arena, int width, int rank);
    /* Queries q[0..n), n <= 16. */
    void (*pack)(fr_tiled_queries *g, const float *const *q, int n, int width);
    /* They have seen nothing yet. */
    void (*begin)(fr_tiled_queries *g, const int *seen, int n, int rank);
    /* Folds positions [pos, pos + count) into `groups` groups, count <= FR_TILED_SPAN; row t of them at rows + t * stride. They
     * are finite: to a query that does not see one it adds zero times its value. */
    void (*fold)(fr_tiled_queries *g, int groups, const uint16_t *rows, int64_t stride, int pos, int count, int width, int rank,
                 void *scratch);
    /* Of query i < n: out[i] [rank] is the sum of exp(score - max[i]) times the values that it has seen, total[i] that of the
     * weights; nothing and -inf where it has seen none. */
    void (*end)(const fr_tiled_queries *g, float *const *out, float *max, float *total, int n, int rank);
} fr_tiled_attention;

#endif
