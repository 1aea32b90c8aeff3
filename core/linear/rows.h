/* Activations: rows, quantized and packed for the linears that read them. */
#ifndef FR_CORE_LINEAR_ROWS_H
#define FR_CORE_LINEAR_ROWS_H

#include "core/kernels/kernels.h"
#include "core/memory.h"

typedef struct fr_rows {
    const fr_kernels *kernels; /* that they are packed for, and multiplied by */
    int max_rows, rows, width;
    bool quantized, ue8m0;
    bool bf16;      /* x holds BF16 numbers only */
    const float *x; /* [rows, width], the caller's, must stay while the linears run */
    uint16_t *q;    /* [rows, width rounded up to FR_BLOCK] E4M3 values as BF16, padded with zeros; when quantized */
    float *scale;   /* [rows, ceil(width/128)]; when quantized */
    /* packed for the prefill regime, when rows > FR_DECODE_ROWS; layout private to the backend (core/linear/backends.h) */
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

#endif
