/* Which experts are kept in a cache of slots: the books alone, without memory for weights and without reading.
 *
 * An expert's warmth is how often it was chosen lately: each choice adds to it, and it halves every HALF_LIFE passes of a layer,
 * whether the layer's or not. The coldest goes first, of equally cold ones that which was used longest ago. So what a prefill
 * reads once and few rows choose does not push out what decoding goes back to. */
#ifndef FR_MOE_EXPERT_CACHE_H
#define FR_MOE_EXPERT_CACHE_H

#include "core/memory.h"

typedef struct fr_expert_cache {
    int layers, experts, slots; /* experts: of a layer. An expert's key is layer * experts + its id. */
    int32_t *slot_of;           /* [layers, experts]; -1: in none */
    int32_t *key_of;            /* [slots]; -1: empty */
    int *pins;                  /* [slots]: users, for which it stays where it is */
    uint64_t *used;             /* [slots]: the clock when it was used last */
    double *warmth;             /* [layers, experts], in units that grow: see `unit` */
    /* What a choice adds now. Instead of all warmth shrinking, this grows. */
    double unit, growth;
    uint64_t clock;
} fr_expert_cache;

/* Takes the tables, all slots empty. (Planning: see fr_arena.) */
void fr_expert_cache_take(fr_expert_cache *cache, fr_arena *arena, int layers, int experts, int slots);

/* A layer's pass begins: everything grows older. */
void fr_expert_cache_age(fr_expert_cache *cache);
/* A choice of the pass: `share` of its rows (of a decode pass: 1) chose the expert. */
void fr_expert_cache_choose(fr_expert_cache *cache, int32_t key, double share);

/* The slot for an expert that is in none: an empty one, or that of the coldest one that is not pinned; -1: all are pinned, or
 * (colder) none is colder than the expert itself. */
int fr_expert_cache_victim(const fr_expert_cache *cache, int32_t key, bool colder);
/* Puts an expert into a slot that is not pinned, in place of what was there. */
void fr_expert_cache_put(fr_expert_cache *cache, int slot, int32_t key);
void fr_expert_cache_empty(fr_expert_cache *cache, int slot);

#endif
