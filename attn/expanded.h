/* The expanded form of MLA, for prefill. Private to attn/.
 *
 * A head is one thread's work. Keys and values of FR_KV_BLOCK positions are made from their latents, and scores and sums of
 * values are products of the prefill regime of core/linear/linear.h, with keys and values as weights, so that all of it runs at
 * the speed of matrix products. Blocks stand at fixed positions: what a row gets does not depend on how a text is cut into
 * passes. */
#ifndef FR_ATTN_EXPANDED_H
#define FR_ATTN_EXPANDED_H

#include "attn/mla.h"

/* `e` of one thread. */
void fr_expanded_take(fr_expanded *e, fr_arena *arena, const fr_kernels *kernels, const fr_mla *mla, int max_rows);

/* TEAM. s->o [rows, heads, v] from s->q and the cache's positions [0, pos + rows), each row seeing those up to its own. */
void fr_attend_expanded(const fr_mla *mla, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s);

#endif
