/* RMSNorm: y = x * rsqrt(mean(x^2) + eps) * w, statistics in float32. y may be x. */
#ifndef FR_CORE_LINEAR_NORM_H
#define FR_CORE_LINEAR_NORM_H

#include "core/kernels/kernels.h"

/* ONE THREAD, one row: x, w, y [width]. */
void fr_rmsnorm_row(const fr_kernels *kernels, float *y, const float *x, const float *w, float eps, int width);
/* TEAM. Rows shared out: x, y [rows, width]. */
void fr_rmsnorm(const fr_kernels *kernels, float *y, const float *x, const float *w, float eps, int rows, int width);

#endif
