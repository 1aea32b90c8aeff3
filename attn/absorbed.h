/* The absorbed form of MLA, for decode and verify passes. Private to attn/.
 *
 * A PAIR is a row and a head. Its softmax is computed by chunks of positions (attn/chunk.h), so that heads, or heads and
 * positions, can be shared between threads: who owns a head computes all that concerns it, without a barrier; where the context
 * is long, or heads do not come out even, threads share chunks, in the order of positions, so that neighbours read the same part
 * of the cache.
 */
#ifndef FR_ATTN_ABSORBED_H
#define FR_ATTN_ABSORBED_H

#include "attn/mla.h"

/* Takes its part of the scratch. */
void fr_absorbed_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *mla, int max_rows);

/* Whether all threads of the team have equally many heads. */
bool fr_heads_are_even(const fr_mla *mla);
/* Whether threads share attention by position, rather than that each computes all of it for its own heads. Then barriers come
 * before, for the queries, and in it. One row, or even heads, are owned unless it pays. */
bool fr_attention_is_shared(const fr_mla *mla, fr_kv type, int pos, int rows, const fr_mla_scratch *s);

/* ALL THREADS. s->q_absorbed of the thread's own pairs, from s->q, whose rope part is rotated. Without a barrier. */
void fr_absorb_queries(const fr_mla *mla, const fr_rope *rope, int pos, int rows, fr_mla_scratch *s);
/* ALL THREADS. s->merged of the thread's own heads, from s->q_absorbed and the cache's positions [0, pos + rows), each row seeing
 * those up to its own, or what s->index.choices says. A barrier must have come before if it is shared. */
void fr_attend_absorbed(const fr_mla *mla, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s);
/* TEAM. s->o_rows [rows, heads * v], as o_proj reads them, from that. */
void fr_project_values(const fr_mla *mla, int rows, fr_mla_scratch *s);

#endif
