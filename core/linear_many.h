/* The many-row regime of core/linear.c. Private to core.
 *
 * Packed form of rows (tokens), made for products: tokens stand in tiles of FR_MANY_TOKENS, the last one of a multiple of
 * 16 columns, padded with zeros; tile t starts at token FR_MANY_TOKENS * t and holds, for each 128-block of inputs, a
 * [64 pairs of inputs][columns][2] matrix of BF16, or, where our own kernel runs (AMX), that matrix in tiles of 16 pairs and 16 columns,
 * [columns / 16][4][16][16][2]. pack_q holds the quantized values; pack_x, twice as large, the high
 * and then the low BF16 part of x for each block; pack_scale [blocks][all columns] the scales. */
#ifndef FR_CORE_LINEAR_MANY_H
#define FR_CORE_LINEAR_MANY_H

#include "core/linear.h"

#define FR_MANY_TOKENS 64
#define FR_MANY_OUTPUTS 64 /* ranges of outputs start at multiples of this */

static inline int fr_blocks(int width) {
    return (width + FR_BLOCK - 1) / FR_BLOCK;
}

/* Columns of `rows` tokens, padding included. */
static inline int fr_many_columns(int rows) {
    return (rows + 15) / 16 * 16;
}

/* Whether the kernels in use take packed rows; if not, blocks of FR_FEW_ROWS rows go through the few-row
 * kernels. */
bool fr_many_packed(void);
size_t fr_many_scratch_bytes(int max_rows);
/* ONE THREAD. Packs block `block` of tile `tile` of rows index[0..rows) of `from` (NULL: 0..rows) into r. */
void fr_many_pack(const fr_rows *r, const fr_rows *from, const int *index, int rows, int width, unsigned forms,
                  int tile, int block);
/* ONE THREAD. Outputs [begin, end) from packed rows. */
void fr_many_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, void *scratch);

#endif
