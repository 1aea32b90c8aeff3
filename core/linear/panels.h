/* What brgemm and our own AMX kernel share: panels of weights, made BF16 or float32 in cache, times tiles of packed tokens.
 * Private to core/linear.
 *
 * A product is C [FR_TILE_OUTPUTS, columns] (+)= A [FR_TILE_OUTPUTS, FR_BLOCK] x B [FR_BLOCK, columns]: A are weights, B
 * packed tokens, C the transposed result. Partial tiles of weights are padded with zeros and tiles of tokens are 16, 32, 48 or 64
 * wide, so few kernels serve every shape. */
#ifndef FR_CORE_LINEAR_PANELS_H
#define FR_CORE_LINEAR_PANELS_H

#include "core/linear/backends.h"

enum {
    FR_PANEL_GROUP = 4,       /* tiles of weights that share one reading of the packed tokens */
    FR_PANEL_BLOCKS = 8,      /* blocks of inputs that are made BF16 at a time: a sum then stays in cache for as many products */
    FR_PANEL_FLOAT_GROUP = 2, /* the same of panels in float32, which take half of the cache that BF16's do */
    FR_PANEL_FLOAT_BLOCKS = 4,
    FR_PANEL_A = FR_TILE_OUTPUTS * FR_BLOCK,
    FR_PANEL_C = FR_TILE_OUTPUTS * FR_TILE_TOKENS,
};

/* Of A and B. Sizes and distances in the structures below count halves: numbers of 16 bits; a float is two. */
typedef enum fr_panel_form {
    FR_PANEL_BF16,
    FR_PANEL_TILES, /* BF16, cut into the tiles that AMX loads (core/kernels/prefill_layout.h) */
    FR_PANEL_F32,
} fr_panel_form;

/* One tile of tokens and the panel: blocks [first, last) of outputs [begin, end), at most FR_PANEL_GROUP tiles of them. */
typedef struct fr_panel_job {
    const fr_kernels *kernels;
    const fr_linear *w;
    int begin, end, first, last;
    /* In BF16 [FR_PANEL_GROUP][FR_PANEL_BLOCKS][FR_PANEL_A] each; F32 weights fill both, others the first. In float32 `a` is
     * [FR_PANEL_FLOAT_GROUP][FR_PANEL_FLOAT_BLOCKS][FR_PANEL_A] floats. */
    const uint16_t *a, *a_lo;
    int token, columns; /* of the tile */
    const uint16_t *b;  /* the tile's block `first`: its values, or in BF16 their high and then their low parts */
    int64_t b_stride;   /* to the next block, and */
    int64_t next_tile;  /* to the same of the next tile of as many columns; 0: there is none */
    bool one_part;      /* the values are all of it, or the high parts are */
    const float *sx;    /* scales of the tile's columns, rows sx_stride apart, from block `first` on; NULL: 1 */
    int64_t sx_stride;
    float *sum; /* of the group's first tile of weights, [FR_TILE_OUTPUTS, FR_TILE_TOKENS], the others sum_stride apart */
    int64_t sum_stride;
    void *own; /* scratch of the multiplying */
} fr_panel_job;

/* Adds the products to the sums. */
typedef void (*fr_multiply_fn)(const fr_panel_job *job);

/* Packs as the backends' `pack` is to. */
void fr_panels_pack(const fr_pack_job *job, fr_panel_form form, int tile, int block);
/* Bytes of scratch, `own_bytes` for the multiplying among them. */
size_t fr_panels_scratch(int max_rows, size_t own_bytes);
void fr_panels_multiply(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                        fr_panel_form form, fr_multiply_fn multiply, void *scratch);

#endif
