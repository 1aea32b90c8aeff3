/* RMSNorm: y = x * rsqrt(mean(x^2) + eps) * w, statistics in float32. y may be x. */
#ifndef FR_CORE_LINEAR_NORM_H
#define FR_CORE_LINEAR_NORM_H

#include "core/linear/rows.h"

/* ONE THREAD, one row: x, w, y [width]. */
void fr_rmsnorm_row(const fr_kernels *kernels, float *y, const float *x, const float *w, float eps, int width);
/* TEAM. Rows shared out: x, y [rows, width]. */
void fr_rmsnorm(const fr_kernels *kernels, float *y, const float *x, const float *w, float eps, int rows, int width);

/* Rows that are normalized, and quantized and packed for linears, in one go. */
typedef struct fr_norm_job {
    fr_rows *to;
    float *y;       /* [rows, width]: the normalized rows; it stays while linears read them */
    const float *x; /* [rows, width]; in a decode pass not y, since every thread reads whole rows */
    const float *w; /* [width] */
    float eps;
    int rows, width;
    unsigned inputs; /* as for fr_rows_set */
    bool ue8m0;
} fr_norm_job;

/* TEAM. */
void fr_rows_set_normed(const fr_norm_job *job);
/* The same in steps, for decode: one thread calls fr_rows_begin, and all together cover the units [0, rows * 128-blocks of a
 * row). ONE THREAD. A barrier must follow. */
void fr_rows_normed_part(const fr_norm_job *job, int begin, int end);

#endif
