/* The expanded form of MLA, for prefill. Private to attn/.
 *
 * Keys and values of FR_KV_BLOCK positions are made from their latents. Scores and sums of values are then linears in the prefill
 * regime (core/linear/linear.h), with keys and values as weights, so that all of it runs at the speed of matrix products. Blocks
 * begin at fixed positions, so a row's result does not depend on how a text is cut into passes.
 *
 * Where threads divide the heads about evenly, a head is one thread's work, which expands a block and uses it at once. Where they
 * do not, all expand the heads of a span together, and share heads x parts of the rows.
 */
#ifndef FR_ATTN_EXPANDED_H
#define FR_ATTN_EXPANDED_H

#include "attn/mla.h"

void fr_expanded_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *mla, int max_rows);
/* Heads that `threads` expand together at a time; 0: a head is one thread's work. */
int fr_expanded_shared_heads(int heads, int threads);

/* TEAM. s->o [rows, heads, v] from s->q and the cache's positions [0, pos + rows), each row seeing those up to its own, or what
 * s->index.choices says. */
void fr_attend_expanded(const fr_mla *mla, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s);

#endif
