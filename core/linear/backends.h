/* The ways to run the prefill regime. Private to core/linear. */
#ifndef FR_CORE_LINEAR_BACKENDS_H
#define FR_CORE_LINEAR_BACKENDS_H

#include "core/kernels/prefill_layout.h"
#include "core/linear/linear.h"

/* Rows that are packed, one 128-block of one tile of tokens at a time: from->x into to->pack_x, or from->q and from->scale into
 * to->pack_q and to->pack_scale. */
typedef struct fr_pack_job {
    const fr_rows *to, *from;
    const int *index; /* rows index[0..rows) of `from`; NULL: 0 .. rows - 1 */
    int rows, width;
    bool quantized;
} fr_pack_job;

static inline int64_t fr_pack_row(const fr_pack_job *job, int i) {
    return job->index ? job->index[i] : i;
}

/* A part of a product: outputs [begin, end) of rows [first, first + rows). begin is a multiple of FR_TILE_OUTPUTS and first of
 * FR_TILE_TOKENS, and so are end and first + rows where they are not the last. */
typedef struct fr_linear_part {
    int begin, end, first, rows;
} fr_linear_part;

typedef struct fr_prefill_backend {
    const char *name; /* as build information and documents say it; valid once the backend is ready */
    /* Whether it runs rows of this width, in this form, for these kernels. The first call that may say so creates what its
     * products need and what is the same for all shapes. */
    bool (*ready)(const fr_kernels *kernels, bool quantized, int width);
    /* Bytes of a thread's scratch for up to max_rows rows. (NULL: none.) */
    size_t (*scratch)(int max_rows);
    /* ONE THREAD, while a session is created: makes what products with w will need. (NULL: nothing.) A lack of memory is an error
     * only if the backend cannot do without. */
    fr_status (*prepare)(fr_compute *compute, const fr_linear *w, fr_error *error);
    void (*release)(fr_compute *compute);
    /* ONE THREAD. (NULL: rows are read as they are.) */
    void (*pack)(const fr_pack_job *job, int tile, int block);
    /* ONE THREAD of a team. y[r * y_stride + o] of a part, of rows that this backend has packed. A result has the same bits
     * however a product is cut into parts. */
    void (*multiply)(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                     const fr_compute *compute);
} fr_prefill_backend;

/* Of these, the first that is ready is taken. */
extern const fr_prefill_backend fr_backend_onednn_fp8; /* FP8 x FP8 by oneDNN's matmul */
extern const fr_prefill_backend fr_backend_amx;        /* our own kernel on matrix tiles */
extern const fr_prefill_backend fr_backend_brgemm;     /* oneDNN's ukernels in BF16 */
extern const fr_prefill_backend fr_backend_brgemm_f32; /* and in float32 */
extern const fr_prefill_backend fr_backend_portable;   /* the decode kernels */

#endif
