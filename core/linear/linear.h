/* Linear layers: y = W x, W [out, in] as the checkpoint stores it: E4M3 with one float32 scale for each 128 x 128 block
 * (the last block of a row or column may be partial), or BF16, or F32. All of the network's matrix work goes through here.
 *
 * Two regimes. Up to FR_DECODE_ROWS rows (decode and verify passes): each weight is read once for all rows, and the result
 * of a row is bit-identical whatever the number of rows and threads. That is what makes drafting lossless. More rows
 * (prefill): BF16 products, by oneDNN brgemm or our own AMX kernel, on tiles of weights decoded in cache; rows and threads
 * do not change the result of a row either, as long as it stays in this regime.
 *
 * Activations of an FP8 linear are quantized or not (DeepSeek-V3 report, section 3.3): with quantization
 *   y = sum over 128-blocks b of sx[b] * sw[b] * (qx[b] . qw[b]), accumulated in float32;
 * without, x stays float32 in the decode kernels, and in the prefill ones it is carried as a sum of BF16 parts (hi + lo)
 * so that the product keeps 16 bits of mantissa. BF16 and F32 weights always see the unquantized x. */
#ifndef FR_CORE_LINEAR_LINEAR_H
#define FR_CORE_LINEAR_LINEAR_H

#include "core/dtype.h"
#include "core/linear/compute.h"
#include "core/linear/rows.h"

typedef struct fr_linear {
    int out, in;    /* of this shard */
    fr_dtype dtype; /* FR_F8_E4M3, FR_BF16 or FR_F32 */
    const void *w;  /* [out, in], rows `stride` elements apart; in the checkpoint's mapping or copy */
    int64_t stride;
    const float *scale; /* [ceil(out/128), ceil(in/128)], rows scale_stride apart; NULL unless E4M3; there too */
    int64_t scale_stride;
    void *owned_w, *owned_scale; /* memory made at load time, else NULL */
} fr_linear;

void fr_linear_release(fr_linear *linear);
/* An E4M3 copy of a BF16 or F32 linear, scales amax / 448 a block, in memory of its own. */
fr_status fr_linear_to_e4m3(const fr_linear *linear, fr_linear *out, fr_error *error);
/* Rows [begin, end) of a linear, sharing its memory; begin must be a multiple of FR_BLOCK unless the linear has no scales.
 * (Not released.) */
fr_linear fr_linear_rows(const fr_linear *linear, int begin, int end);
uint64_t fr_linear_bytes(const fr_linear *linear); /* weights and scales */

/* The form in which a linear wants its input. */
static inline unsigned fr_linear_form(const fr_linear *w, bool act_fp8) {
    return w->dtype == FR_F8_E4M3 && act_fp8 ? FR_ROWS_QUANTIZED : FR_ROWS_EXACT;
}

/* ---- Products ---- */

/* TEAM. y[r * y_stride + o] = (W x[r])[o] for all rows and outputs. */
void fr_linear_forward(const fr_linear *w, const fr_rows *x, float *y, int64_t y_stride, const fr_compute *compute);

/* ONE THREAD of a team. The outputs [begin, end) only, written to y[r * y_stride + o]. Rows decide the regime as above. begin is
 * a multiple of 64 (of anything in the decode regime). */
void fr_linear_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride,
                     const fr_compute *compute);

/* ONE THREAD, decode regime: outputs [begin, end) for the rows `index[0..n)` of x only: y[i * y_stride + o] is row index[i]. */
void fr_linear_decode(const fr_linear *w, const fr_rows *x, const int *index, int n, int begin, int end, float *y,
                      int64_t y_stride);

/* ONE THREAD. y[0..in) = W[begin..end)^T v, v [end - begin]: the absorbed W_UK of MLA. x-quantization does not apply. */
void fr_linear_transposed(const fr_linear *w, int begin, int end, const float *v, float *y, const fr_kernels *kernels);

/* ---- What runs the prefill regime ---- */

/* "oneDNN 3.7.2 brgemm bf16 (avx512_core_bf16)", "amx tiles" or "portable", with these kernels. */
void fr_linear_prefill_path(const fr_kernels *kernels, char *text, size_t size);

/* ONE THREAD. oneDNN's product of one tile (64 outputs x 128 inputs x 64 rows) `repeats` times, on data that stay in cache: the
 * most that the prefill regime can be expected to reach, whichever way it runs. Returns the floating-point operations. `memory`:
 * fr_linear_tile_bytes, 64-byte aligned, as that is; 0 when the regime is portable, and there is no such product. */
double fr_linear_tile(void *memory, int repeats);
size_t fr_linear_tile_bytes(const fr_kernels *kernels);

#endif
