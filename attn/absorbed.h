/* The absorbed form of MLA, for decode and verify passes. Private to attn/.
 *
 * A pair of a row and a head is one thread's work. It goes through the positions of the cache in spans that begin at fixed
 * places, with an online softmax, so its result does not depend on the other rows of the pass or on the number of threads. On
 * BF16 caches, 16 pairs at a time use matrix tiles where the CPU has them (core/kernels/tiled_attention.h). */
#ifndef FR_ATTN_ABSORBED_H
#define FR_ATTN_ABSORBED_H

#include "attn/mla.h"

/* Takes its part of the scratch. */
void fr_absorbed_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *mla, int max_rows);

/* Whether all threads of the team have equally many heads. */
bool fr_heads_are_even(const fr_mla *mla);
/* Whether a thread owns its heads: from absorbing to values it computes all that concerns one of them for all rows, and needs no
 * barrier in between. If not, pairs are shared out as evenly as they can be. */
bool fr_heads_are_owned(const fr_mla *mla, int rows);

/* ALL THREADS. s->q_absorbed of the thread's own pairs, from s->q, whose rope part is rotated. Without a barrier. */
void fr_absorb_queries(const fr_mla *mla, const fr_rope *rope, int pos, int rows, fr_mla_scratch *s);
/* TEAM. s->o_rows [rows, heads * v], as o_proj reads them, from s->q_absorbed and the cache's positions [0, pos + rows), each row
 * seeing those up to its own, or what s->index.choices says. Begins with the thread's own pairs: a barrier must have come before,
 * unless heads are owned. */
void fr_attend_absorbed(const fr_mla *mla, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s);

#endif
