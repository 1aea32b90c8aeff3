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
#include "core/kernels/kernels.h"
#include "core/memory.h"

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

/* ---- Activations: rows made ready for linears ---- */

typedef struct fr_rows {
    const fr_kernels *kernels; /* that they are packed for, and multiplied by */
    int max_rows, rows, width;
    bool quantized, ue8m0;
    bool bf16;      /* x holds BF16 numbers only */
    const float *x; /* [rows, width], the caller's, must stay while the linears run */
    uint16_t *q;    /* [rows, width rounded up to FR_BLOCK] E4M3 values as BF16, padded with zeros; when quantized */
    float *scale;   /* [rows, ceil(width/128)]; when quantized */
    /* the form for the prefill regime, when rows > FR_DECODE_ROWS; layout private to core/linear/prefill.c */
    uint16_t *pack_q, *pack_x;
    float *pack_scale;
} fr_rows;

/* What the linears that will read these rows need. */
enum {
    FR_ROWS_QUANTIZED = 1, /* E4M3 weights, activations quantized: an E4M3 linear uses this form when it is there */
    FR_ROWS_EXACT = 2,     /* all others */
    FR_ROWS_BF16 = 8,      /* with EXACT: x holds BF16 numbers only, so that its high parts are all of it */
    FR_ROWS_ANY = 3,
    FR_ROWS_DECODE = 4, /* only fr_linear_decode will read them: nothing is packed, however many rows there are */
};
/* The form in which a linear wants its input. */
static inline unsigned fr_linear_form(const fr_linear *w, bool act_fp8) {
    return w->dtype == FR_F8_E4M3 && act_fp8 ? FR_ROWS_QUANTIZED : FR_ROWS_EXACT;
}

/* Takes buffers for up to max_rows rows of up to max_width in `forms`. (Planning: see fr_arena.) */
void fr_rows_take(fr_rows *rows, fr_arena *arena, const fr_kernels *kernels, int max_rows, int max_width, unsigned forms);
/* TEAM. Makes x [rows, width] ready. `forms` is a set of FR_ROWS_*. */
void fr_rows_set(fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0);
/* ONE THREAD. The same. */
void fr_rows_set_alone(fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0);
/* The same by hand, for decode, where values come piece by piece. fr_rows_begin, by one thread: what the rows will be.
 * fr_rows_quantize, by any, for each row and 128-block of x when it is whole; unless they are wanted in exact form alone.
 * A barrier has to follow. */
void fr_rows_begin(fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0);
void fr_rows_quantize(const fr_rows *r, const float *x, int width, bool ue8m0, int row, int block);
/* ONE THREAD. Makes rows index[0..n) of `from` (itself ready, in the same forms) ready for the prefill regime as rows
 * 0..n-1 of r: only their packed form is made, so n > FR_DECODE_ROWS. How an expert takes its tokens. */
void fr_rows_gather(fr_rows *r, const fr_rows *from, const int *index, int n, unsigned forms);

/* Rows [first, first + n) of r, ready in exact form alone, sharing its memory. first is a multiple of 64; so is n, unless
 * they are the last. */
fr_rows fr_rows_part(const fr_rows *r, int first, int n);

/* ---- Products ---- */

/* What computing needs beside weights and activations: the kernels of the model's instruction set, and working memory of each
 * thread. A session has one. */
typedef struct fr_compute {
    const fr_kernels *kernels;
    int threads;
    void *scratch;        /* [threads, scratch_bytes]: of products in the prefill regime */
    size_t scratch_bytes; /* of a thread */
} fr_compute;

/* Takes the scratch for products of up to max_rows rows. (Planning: see fr_arena.) */
void fr_compute_take(fr_compute *compute, fr_arena *arena, const fr_kernels *kernels, int max_rows, int threads);
/* Creates what these products will need (JIT kernels are cached by shape class, for the process). Called when a session is
 * created, so that a pass allocates nothing. */
fr_status fr_compute_prepare(const fr_compute *compute, int max_rows, fr_error *error);

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

/* ONE THREAD of a team. oneDNN's product of one tile (64 outputs x 128 inputs x 64 rows) `repeats` times, on data that stay in
 * cache: the most that the prefill regime can be expected to reach, whichever way it runs. Returns the floating-point operations;
 * 0, and nothing done, when the regime is portable. */
double fr_linear_tile(const fr_compute *compute, int repeats);

/* What runs the prefill regime with these kernels: "oneDNN 3.7.2 brgemm bf16 (avx512_core_bf16)", "amx tiles" or "portable".
 * Static storage. */
const char *fr_linear_prefill_path(const fr_kernels *kernels);

#endif
