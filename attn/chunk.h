/* Decode attention over one chunk of positions. Private to attn/.
 *
 * The positions that a row attends to are cut into chunks of FR_CHUNK, counted from the first. Of each chunk a pair of a row and
 * a head has a partial softmax: the largest score, and relative to it the sum of weights and that of weighted latents. They are
 * merged one by one, in the order of chunks. That is the arithmetic whoever computes which chunk, so a pair's result depends
 * neither on the number of threads, nor on how work is shared between them, nor on the other rows of the pass. */
#ifndef FR_ATTN_CHUNK_H
#define FR_ATTN_CHUNK_H

#include "attn/mla.h"

#define FR_CHUNK 512
_Static_assert(FR_CHUNK % FR_KV_SPAN == 0 && FR_CHUNK % FR_TILED_SPAN == 0, "a chunk is whole spans");

/* Rows of a pass that attend to the same positions: [row, row + rows), of which the first sees `seen` positions, and each further
 * one sees one more. */
typedef struct fr_attended {
    int row, rows, seen;
    const int32_t *list; /* the positions, ascending; NULL: 0, 1, .. */
} fr_attended;

static inline int fr_attended_positions(const fr_attended *a) {
    return a->seen + a->rows - 1;
}

/* Pairs of such rows: item i of [begin, end) is row a->row + i / heads and head + i % heads. */
typedef struct fr_pairs {
    int begin, end;
    int head, heads;
} fr_pairs;

/* Takes what threads need for it. */
void fr_chunk_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *mla);
/* ONE THREAD. Forgets the queries of other layers; before the first chunk of each. */
void fr_chunk_begin(fr_mla_scratch *s);
/* ONE THREAD. `to` of those pairs that see any of the chunk's positions. */
void fr_chunk_attend(const fr_mla *mla, const fr_kv_cache *kv, int layer, const fr_attended *a, int chunk, const fr_pairs *pairs,
                     fr_partials to, fr_mla_scratch *s);
/* ONE THREAD. Merges a pair's partial softmax of the next chunk into that of all before it. */
void fr_chunk_merge(fr_partials all, fr_partials next, int pair, int rank);

#endif
