/* Rotary position embedding of adjacent pairs (2i, 2i+1), the checkpoint's interleaved layout, with YaRN (Peng et al.
 * 2023, section 3) where the config asks for it. */
#ifndef FR_ATTN_ROPE_H
#define FR_ATTN_ROPE_H

#include "core/checkpoint/config.h"
#include "core/memory.h"

typedef struct fr_rope {
    int dim;       /* qk_rope_head_dim */
    int positions; /* rows of the table */
    float *table;  /* [positions, dim]: cos and sin of pair i at 2i and 2i + 1 */
} fr_rope;

/* Takes the table; with a real arena, fills it. */
void fr_rope_take(fr_rope *rope, fr_arena *arena, const fr_config *config, int positions);
/* Rotates x [dim] to position `pos` < positions, in place. */
void fr_rope_apply(const fr_rope *rope, int pos, float *x);
/* The same of pairs (i, i + dim / 2). */
void fr_rope_apply_halves(const fr_rope *rope, int pos, float *x);
/* (qk_nope + qk_rope)^-0.5, times YaRN's m^2 with m = 0.1 * mscale_all_dim * ln(factor) + 1. */
float fr_softmax_scale(const fr_config *config);

#endif
