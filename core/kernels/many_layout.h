/* Sizes and layout of the many-row regime's operands, which kernels and core/linear share.
 *
 * Packed form of rows (tokens), made for products: tokens stand in tiles of FR_MANY_TOKENS, the last one of a multiple of
 * 16 columns, padded with zeros; tile t starts at token FR_MANY_TOKENS * t and holds, for each 128-block of inputs, a
 * [64 pairs of inputs][columns][2] matrix of BF16, or, where our own kernel runs (AMX), that matrix in tiles of 16 pairs and 16
 * columns, [columns / 16][4][16][16][2]. pack_q holds the quantized values; pack_x, twice as large, the high and then the low
 * BF16 part of x for each block; pack_scale [blocks][all columns] the scales. */
#ifndef FR_CORE_KERNELS_MANY_LAYOUT_H
#define FR_CORE_KERNELS_MANY_LAYOUT_H

#define FR_MANY_TOKENS 64
#define FR_MANY_OUTPUTS 64 /* ranges of outputs start at multiples of this */

/* Columns of `rows` tokens, padding included. */
static inline int fr_many_columns(int rows) {
    return (rows + 15) / 16 * 16;
}

#endif
