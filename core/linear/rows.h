/* Activations: rows, quantized and packed for the linears that read them. */
#ifndef FR_CORE_LINEAR_ROWS_H
#define FR_CORE_LINEAR_ROWS_H

#include <stdatomic.h>

#include "core/kernels/kernels.h"
#include "core/ranks.h"

typedef struct fr_rows {
    const fr_kernels *kernels; /* that they are packed for, and multiplied by */
    int max_rows, rows, width;
    bool quantized, ue8m0;
    bool bf16;      /* x holds BF16 numbers only */
    const float *x; /* [rows, width], the caller's; it must stay while linears read the rows */
    uint16_t *q;    /* [rows, width rounded up to FR_BLOCK] E4M3 values as BF16, padded with zeros; when quantized */
    float *scale;   /* [rows, ceil(width/128)]; when quantized */
    /* packed for prefill, when rows > FR_DECODE_ROWS; the layout is the backend's (core/linear/backends.h) */
    uint16_t *pack_q, *pack_x;
    float *pack_scale;
} fr_rows;

/* How linears will read the rows: a set of these. */
enum {
    FR_INPUT_QUANTIZED = 1, /* quantized: E4M3 linears read them so where they are */
    FR_INPUT_EXACT = 2,     /* as they are: all other linears */
    FR_INPUT_ANY = FR_INPUT_QUANTIZED | FR_INPUT_EXACT,
    FR_INPUT_DECODE = 4, /* by fr_linear_decode only: nothing is packed, however many rows there are */
    FR_INPUT_BF16 = 8,   /* with EXACT: x holds BF16 numbers only, so that its high parts are all of it */
    FR_INPUT_CODED = 16, /* with QUANTIZED, of fr_rows_set_part: they are quantized, and only to be packed */
};

/* Takes buffers for up to max_rows rows of up to max_width. (Planning: see fr_arena.) */
void fr_rows_take(fr_rows *rows, fr_arena *arena, const fr_kernels *kernels, int max_rows, int max_width, unsigned inputs);
/* TEAM. Sets the rows to x [rows, width], and quantizes and packs them as `inputs` says. Ends with a barrier. */
void fr_rows_set(fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0);
/* ONE THREAD. The same. */
void fr_rows_set_alone(fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0);
/* The same in steps, for decode, where values come piece by piece. One thread calls fr_rows_begin with what the rows will be.
 * Then, if they are quantized, any thread calls fr_rows_quantize for a row and 128-block of x once that is complete. A barrier
 * must follow. */
void fr_rows_begin(fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0);
void fr_rows_quantize(const fr_rows *r, const float *x, int width, bool ue8m0, int row, int block);
/* Or this: columns [begin, end) of rows [first, first + n) of x have been computed, by any thread. Quantizes the 128-blocks that
 * are complete with them. done [blocks] counts columns: 0 before, and again after. */
void fr_rows_complete(const fr_rows *r, const float *x, int width, bool ue8m0, int first, int n, int begin, int end,
                      atomic_int *done);
/* ---- Of several ranks ---- */

/* Rows x [rows, width] of which each rank has computed its part of the columns, by `unit`. */
typedef struct fr_joint_rows {
    fr_rows *to;
    float *x;
    int rows, width, unit;
    unsigned inputs; /* as for fr_rows_set */
    bool ue8m0;
} fr_joint_rows;

/* Whether a rank quantizes its part: they are to be quantized, and the part is whole 128-blocks. Then codes and scales travel,
 * else floats. */
bool fr_rows_part_is_quantized(const fr_exchange *exchange, const fr_joint_rows *rows);
/* ONE THREAD. Quantizes the rank's part of rows [begin, end). */
void fr_rows_quantize_part(const fr_exchange *exchange, const fr_joint_rows *rows, int begin, int end);
enum { FR_JOINT_ROWS = 32 }; /* of so many rows at most, together */
/* TEAM. A barrier at whose end the columns of all ranks are there, as they have travelled. */
void fr_rows_exchange(const fr_exchange *exchange, const fr_joint_rows *rows, int count);
/* TEAM. Decode: the same of rows whose parts are quantized if they can be, and at the end they are so in any case, if they are to
 * be. fr_rows_begin must have come for each, or come before from a thread of the team. */
void fr_rows_join(const fr_exchange *exchange, const fr_joint_rows *rows, int count);
/* TEAM. fr_rows_set of rows whose parts are not quantized yet. With one rank it is that and nothing else. */
void fr_rows_set_joint(const fr_exchange *exchange, const fr_joint_rows *rows);

/* ONE THREAD. Part `part` of `parts` of what fr_rows_set does, which must all be done; fr_rows_begin beside them. */
void fr_rows_set_part(const fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0, int part, int parts);
/* Rows of others, packed for the prefill regime: this is how an expert takes its tokens. fr_rows_begin_gathered says how many
 * there are, n > FR_DECODE_ROWS; then 128-blocks [begin, end) of rows index[0..n) of `from`, which has the same inputs, are
 * packed as rows 0 .. n - 1 of r, by ONE THREAD. */
void fr_rows_begin_gathered(fr_rows *r, int n, int width, unsigned inputs, bool ue8m0);
void fr_rows_gather(const fr_rows *r, const fr_rows *from, const int *index, unsigned inputs, int begin, int end);
/* The buffers of r, which was taken for rows of max_width, from row `first` on, a multiple of 16: others may use those before. */
fr_rows fr_rows_from(const fr_rows *r, int first, int max_width);

/* Rows [first, first + n) of r, which are exact only; shares its memory. first is a multiple of FR_TILE_TOKENS, and so is n
 * unless they are the last. */
fr_rows fr_rows_part(const fr_rows *r, int first, int n);

#endif
