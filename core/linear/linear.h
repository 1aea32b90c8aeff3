/* Linear layers: y = W x, with W [out, in] as the checkpoint stores it: E4M3 with one float32 scale for each 128 x 128 block
 * (the last block of a row or column may be partial), or BF16, or F32. All matrix products of the network are here.
 *
 * There are two regimes. Decode is for up to FR_DECODE_ROWS rows (decode and verify passes): each weight is read once for all
 * rows, and a row gets the same bits whatever the number of rows and threads is. That makes drafting lossless. Prefill is for
 * more rows: BF16 or float32 products on tiles of weights that are converted in cache, by the first backend that is ready
 * (core/linear/prefill.c). Within this regime, too, a row's bits do not depend on the other rows or on the threads. Threads share
 * a product by outputs, and where these are too few for all of them, by tiles of tokens as well.
 *
 * Activations of an FP8 linear are quantized or exact (DeepSeek-V3 report, section 3.3). Quantized:
 *   y = sum over 128-blocks b of sx[b] * sw[b] * (qx[b] . qw[b]), accumulated in float32.
 * Exact: x is float32 in decode and where prefill multiplies floats (AVX2, AVX-512 without BF16); elsewhere in prefill it is the
 * sum of two BF16 parts (high and low), which keeps 16 bits of mantissa. BF16 and F32 weights always read exact activations.
 *
 * An FP8 block scale is applied in these places, and in no other:
 *   decode              core/kernels/decode_strips.h (AVX2, AVX-512), amx.c, scalar.c, neon.c: to each block's sum
 *   prefill, AMX        core/kernels/amx_prefill.c (fr_multiply_panel_amx): to each block's tile of sums
 *   prefill, brgemm     core/linear/brgemm.c (multiply_*), by add_scaled of avx512_prefill.c and avx2_prefill.c: likewise
 *   prefill, FP8 x FP8  core/linear/onednn_fp8.c (expand_scales): given to oneDNN's matmul
 *   transposed          core/linear/linear.c (add_rows_e4m3): to the vector's elements, before the sum
 *   converting files    model/convert/quantize.c: to the weights
 * Scales are made by quantize_block of core/kernels (activations), core/linear/quantize.c and model/convert/quantize.c. */
#ifndef FR_CORE_LINEAR_LINEAR_H
#define FR_CORE_LINEAR_LINEAR_H

#include "core/dtype.h"
#include "core/linear/compute.h"
#include "core/linear/rows.h"

typedef struct fr_linear {
    int out, in;
    fr_dtype dtype; /* FR_F8_E4M3, FR_BF16 or FR_F32 */
    const void *w;  /* [out, in], rows `stride` elements apart, at any address; in the checkpoint's mapping or copy */
    int64_t stride;
    const float *scale; /* [ceil(out/128), ceil(in/128)], rows scale_stride apart; NULL unless E4M3; there too */
    int64_t scale_stride;
    void *owned_w, *owned_scale; /* memory made at load time, else NULL */
    /* Outputs before and behind those that this rank computes (core/ranks.h). Of the matrix it then has these alone, rounded
     * outwards to whole 128-blocks: w and scale begin with output fr_linear_first. Outputs keep their numbers. */
    int before, behind;
    bool gathered; /* products of a team end with the outputs of all ranks */
} fr_linear;

/* The rank's own outputs are [before, fr_linear_end). */
static inline int fr_linear_end(const fr_linear *w) {
    return w->out - w->behind;
}
static inline int fr_linear_own(const fr_linear *w) {
    return w->out - w->behind - w->before;
}
/* Rows of which it has memory are [fr_linear_first, fr_linear_last); none, if it owns no outputs. */
static inline int fr_linear_first(const fr_linear *w) {
    return fr_linear_own(w) > 0 ? w->before / FR_BLOCK * FR_BLOCK : 0;
}
static inline int fr_linear_last(const fr_linear *w) {
    int end = fr_linear_own(w) > 0 ? (fr_linear_end(w) + FR_BLOCK - 1) / FR_BLOCK * FR_BLOCK : 0;
    return end < w->out ? end : w->out;
}

void fr_linear_release(fr_linear *linear);
/* An E4M3 copy of a BF16 or F32 linear, scales amax / 448 a block, in memory of its own. */
fr_status fr_linear_to_e4m3(const fr_linear *linear, int threads, fr_linear *out, fr_error *error);
/* Rows [begin, end) of a linear; shares its memory and is not released. begin is a multiple of FR_BLOCK if the linear has scales.
 */
fr_linear fr_linear_rows(const fr_linear *linear, int begin, int end);
uint64_t fr_linear_bytes(const fr_linear *linear); /* weights and scales */

/* How a linear reads its input: FR_INPUT_QUANTIZED or FR_INPUT_EXACT. */
static inline unsigned fr_linear_input(const fr_linear *w, bool act_fp8) {
    return w->dtype == FR_F8_E4M3 && act_fp8 ? FR_INPUT_QUANTIZED : FR_INPUT_EXACT;
}

/* ---- Products ---- */

/* TEAM. y[r * y_stride + o] = (W x[r])[o] for all rows and outputs; those of other ranks only if the linear is gathered. */
void fr_linear_forward(const fr_linear *w, const fr_rows *x, float *y, int64_t y_stride, const fr_compute *compute);

/* TEAM. y [rows, out] += W x, a thread adding the outputs that it computes; delta [rows, out] is used on the way. */
void fr_linear_add(const fr_linear *w, const fr_rows *x, float *y, float *delta, const fr_compute *compute);
/* A product of several that read the same rows. */
typedef struct fr_linear_product {
    const fr_linear *w;
    float *y; /* [rows, w->out] */
} fr_linear_product;
/* TEAM. All of them in one sweep. */
void fr_linear_forward_each(const fr_linear_product *products, int count, const fr_rows *x, const fr_compute *compute);
/* The calling thread's share of y [rows, out] = W x, for those who have a barrier of their own. */
void fr_linear_share(const fr_linear *w, const fr_rows *x, float *y, const fr_compute *compute);
/* In decode, the outputs that are this thread's share, of those that are the rank's. */
void fr_linear_split(const fr_linear *w, int *begin, int *end);

/* ONE THREAD of a team. Outputs [begin, end) only, at y[r * y_stride + o]. The number of rows decides the regime, as above. In
 * prefill, begin is a multiple of FR_TILE_OUTPUTS. */
void fr_linear_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride,
                     const fr_compute *compute);

/* The outputs that are the rank's. In prefill they are rounded outwards to whole tiles, which are then the same for any number of
 * ranks; what comes of others' is theirs to say. */
void fr_linear_own_range(const fr_linear *w, int rows, int *begin, int *end);
/* TEAM. A barrier at whose end y [rows, out], of which each rank has the outputs of such a linear that are its own, has all. */
void fr_linear_exchange(const fr_linear *w, float *y, int64_t y_stride, int rows, const fr_compute *compute);

/* ONE THREAD. Outputs [begin, end) for rows index[0..n) of x, by the decode kernels: n <= FR_DECODE_ROWS. y[i * y_stride + o] is
 * output o of row index[i]. */
void fr_linear_decode(const fr_linear *w, const fr_rows *x, const int *index, int n, int begin, int end, float *y,
                      int64_t y_stride);

/* ONE THREAD. y[0..in) = W[begin..end)^T v, v [end - begin]: the absorbed W_UK of MLA. v is never quantized. */
void fr_linear_transposed(const fr_linear *w, int begin, int end, const float *v, float *y, const fr_kernels *kernels);

/* ---- What runs the prefill regime ---- */

/* How many parts tokens are cut into, 1 .. token_tiles, when `threads` share work whose unit is one of `count` things, a tile of
 * outputs or a head, x a part of the tokens. What is converted for a unit costs about as much as a tile of tokens. */
int fr_token_parts(int count, int token_tiles, int threads);

/* "oneDNN 3.7.2 brgemm bf16 (avx512_core_bf16)", "amx tiles" or "portable", with these kernels. */
void fr_linear_prefill_path(const fr_kernels *kernels, char *text, size_t size);

/* ONE THREAD. Multiplies one tile (64 outputs x 128 inputs x 64 rows) `repeats` times by oneDNN, on data that stay in cache: the
 * most that prefill can be expected to reach, whichever backend runs it. Returns the number of floating-point operations.
 * `memory` has fr_linear_tile_bytes and is 64-byte aligned. */
double fr_linear_tile(const fr_kernels *kernels, void *memory, int repeats);
/* A multiple of 64; 0 when prefill is portable with these kernels, and there is no such product. */
size_t fr_linear_tile_bytes(const fr_kernels *kernels);

#endif
