/* Sizes and layout of the prefill regime's operands.
 *
 * Packed rows: a row (token) is a column here. Columns are grouped into tiles of FR_TILE_TOKENS; the last tile has a multiple of
 * 16 and is padded with zeros. Tile t starts at token FR_TILE_TOKENS * t and holds, for each 128-block of inputs, a matrix of
 * BF16, [64 pairs of inputs][columns][2]; for AMX that matrix in tiles of 16 pairs and 16 columns, [columns / 16][4][16][16][2].
 * Where products are in float32, the matrix is [128 inputs][columns] floats. pack_q has the quantized values. pack_x has the high
 * and then the low BF16 part of x for each block, or x in float32. pack_scale [blocks][all columns] has the scales. */
#ifndef FR_CORE_KERNELS_PREFILL_LAYOUT_H
#define FR_CORE_KERNELS_PREFILL_LAYOUT_H

#define FR_TILE_TOKENS 64
#define FR_TILE_OUTPUTS 64 /* of a tile of weights; ranges of outputs start at multiples of it */
_Static_assert(FR_TILE_TOKENS % 32 == 0 && FR_TILE_OUTPUTS % 32 == 0, "tiles are whole squares of 16 and of 32");

/* Columns of `rows` tokens, padding included. */
static inline int fr_tile_columns(int rows) {
    return (rows + 15) / 16 * 16;
}

#endif
