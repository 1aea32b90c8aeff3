/* Sizes and layout of the prefill regime's operands, which kernels and core/linear share.
 *
 * Packed form of rows (tokens), made for products: tokens stand in tiles of FR_TILE_TOKENS, the last one of a multiple of
 * 16 columns, padded with zeros; tile t starts at token FR_TILE_TOKENS * t and holds, for each 128-block of inputs, a
 * [64 pairs of inputs][columns][2] matrix of BF16, or, where our own kernel runs (AMX), that matrix in tiles of 16 pairs and 16
 * columns, [columns / 16][4][16][16][2]. pack_q holds the quantized values; pack_x, twice as large, the high and then the low
 * BF16 part of x for each block; pack_scale [blocks][all columns] the scales. */
#ifndef FR_CORE_KERNELS_PREFILL_LAYOUT_H
#define FR_CORE_KERNELS_PREFILL_LAYOUT_H

#define FR_TILE_TOKENS 64
#define FR_TILE_OUTPUTS 64 /* ranges of outputs start at multiples of this */

/* Columns of `rows` tokens, padding included. */
static inline int fr_tile_columns(int rows) {
    return (rows + 15) / 16 * 16;
}

#endif
