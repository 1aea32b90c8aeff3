/* The arithmetic: a table of kernels for each instruction set, of which a model has one (core/kernels/isa.h). A kernel
 * accumulates in an order that depends on the length alone, so equal inputs give equal bits wherever it is called from.
 * Elementwise kernels (silu_mul, exp_sub's elements, conversions, axpy) give an element the same bits at every place of the
 * array: tails are masked or padded vectors, never another formula. */
#ifndef FR_CORE_KERNELS_KERNELS_H
#define FR_CORE_KERNELS_KERNELS_H

#include "core/dtype.h"
#include "core/status.h"

#define FR_DECODE_ROWS 8 /* most rows of a decode or verify pass: FR_MAX_DEPTH drafts and the token before them */
_Static_assert(FR_DECODE_ROWS == FR_MAX_DEPTH + 1, "a cycle's rows take the decode kernels, whatever its depth");

/* y[r][o] = w[o] . x[r] for rows r and outputs o. It is summed by blocks of 128 inputs, and a block's sum is multiplied with the
 * scales that it has: scale[o / 128][b] of E4M3 weights, sx[r][b] of quantized rows. Each weight is read once for all rows. A
 * pair (r, o) goes through the same chain of operations whatever the other rows and outputs of the job are. */
typedef struct fr_decode_job {
    const void *w; /* [out, in], rows `stride` elements apart, at any address */
    int64_t stride;
    const float *scale; /* [ceil(out / 128), ceil(in / 128)], rows scale_stride apart; NULL unless E4M3 */
    int64_t scale_stride;
    int in, begin, end;     /* the outputs [begin, end) are wanted */
    const void *const *x;   /* [rows]: each a row [in] of float32, or of E4M3 values as BF16, when quantized.
                               E4M3 weights take 1e-23 < |x| < 1e14 as exact inputs, and smaller ones for zero */
    const float *const *sx; /* [rows]: their scales [ceil(in / 128)]; NULL unless quantized */
    int rows;               /* 1 .. FR_DECODE_ROWS */
    float *y;               /* y[r * y_stride + o] */
    int64_t y_stride;
} fr_decode_job;

/* Of an online softmax in decode: sums are scaled to a larger maximum only if it is larger by this. Without that they are up to
 * e^4 times as large, and as exact. */
#define FR_ATTEND_LATE 4.0f

struct fr_panel;
struct fr_prefill_kernels;
struct fr_float_prefill_kernels;
struct fr_tiled_attention;

typedef struct fr_kernels {
    fr_isa isa;
    const char *name; /* of the table: that of the instruction set, and what extends it: "avx512", "avx512_bf16" */
    float (*dot_f32)(const float *a, const float *b, int n);
    float (*dot_bf16)(const float *a, const uint16_t *b, int n); /* sum a[i] * bf16 b[i] */
    void (*axpy_f32)(float *y, float a, const float *x, int n);  /* y += a x */
    void (*axpy_bf16)(float *y, float a, const uint16_t *x, int n);
    void (*axpy_e4m3)(float *y, float a, const uint8_t *x, int n); /* exact values of x */
    void (*bf16_to_f32)(float *y, const uint16_t *x, int n);
    void (*f32_to_bf16)(uint16_t *y, const float *x, int n);    /* round to nearest even */
    void (*e4m3_to_bf16)(uint16_t *y, const uint8_t *x, int n); /* exact */
    float (*sum_squares)(const float *x, int n);
    float (*max)(const float *x, int n);                                   /* n >= 1 */
    float (*exp_sub)(float *x, float max, int n);                          /* x = exp(x - max); returns the sum */
    void (*silu_mul)(float *y, const float *gate, const float *up, int n); /* y = gate / (1 + exp(-gate)) * up */
    /* One 128-block (n <= 128) of dynamic activation quantization: s = max(|x|, 1e-4) / 448, rounded up to a power of two
     * with ue8m0; q = e4m3(x / s). The values of q are written as BF16, which holds them exactly. Returns s. */
    float (*quantize_block)(uint16_t *q, const float *x, int n, bool ue8m0);
    /* Attention of n queries over the same `count` BF16 rows, `stride` elements apart: scores[i][t] = q[i] . row t, q [width];
     * sum[i] += sum over t of p[i][t] row t, sum [width]. (NULL: dot and axpy are as good.) */
    void (*attend_scores_bf16)(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                               float *const *scores);
    void (*attend_values_bf16)(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                               int width);
    /* The same by matrix tiles, with exact keys and values, and 16 bits of mantissa for queries and probabilities. (NULL: none.)
     */
    const struct fr_tiled_attention *tiled_attention;
    /* Packing and scaling around the products of prefill, in BF16 or in float32. (Both NULL: prefill takes the decode kernels.)
     */
    const struct fr_prefill_kernels *prefill;
    const struct fr_float_prefill_kernels *float_prefill;
    /* Prefill by matrix tiles (both NULL: these kernels have no products of their own; core/kernels/prefill.h). e4m3_to_tiles
     * converts a 128-block of `rows` outputs, at most 64, `stride` apart, to BF16 tiles [16 outputs each][4 of 32
     * inputs][16][32]. */
    void (*e4m3_to_tiles)(uint16_t *a, const uint8_t *w, int64_t stride, int rows);
    void (*multiply_panel)(const struct fr_panel *panel);
    /* y += a[0] x[0] + .. + a[rows - 1] x[rows - 1], E4M3 rows `stride` apart, n <= 128. (NULL: axpy_e4m3 for each.) */
    void (*add_rows_e4m3)(float *y, const float *a, const uint8_t *x, int64_t stride, int rows, int n);
    /* Decode, by the type of the weights; _q: with quantized rows. */
    void (*decode_linear_e4m3)(const fr_decode_job *job);
    void (*decode_linear_e4m3_q)(const fr_decode_job *job);
    void (*decode_linear_bf16)(const fr_decode_job *job);
    void (*decode_linear_f32)(const fr_decode_job *job);
} fr_kernels;

#endif
