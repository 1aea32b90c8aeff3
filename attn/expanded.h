/* The expanded form of MLA, for prefill. Private to attn/.
 *
 * A head is one thread's work. Keys and values of FR_KV_BLOCK positions are made from their latents. Scores and sums of values
 * are then linears in the prefill regime (core/linear/linear.h), with keys and values as weights, so that all of it runs at the
 * speed of matrix products. Blocks begin at fixed positions, so a row's result does not depend on how a text is cut into passes.
 */
#ifndef FR_ATTN_EXPANDED_H
#define FR_ATTN_EXPANDED_H

#include "attn/mla.h"

/* `e` of one thread. */
void fr_expanded_take(fr_expanded *e, fr_arena *arena, const fr_kernels *kernels, const fr_mla *mla, int max_rows);

/* TEAM. s->o [rows, heads, v] from s->q and the cache's positions [0, pos + rows), each row seeing those up to its own, or what
 * s->index.choices says. */
void fr_attend_expanded(const fr_mla *mla, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s);

#endif
