/* RMSNorm: y = x * rsqrt(mean(x^2) + eps) * w, statistics in float32. y may be x. */
#ifndef FR_CORE_LINEAR_NORM_H
#define FR_CORE_LINEAR_NORM_H

#include <stdint.h>

/* ONE THREAD, one row: x, w, y [width]. */
void fr_rmsnorm_row(float *y, const float *x, const float *w, float eps, int width);
/* TEAM, rows shared out: x [rows, width], rows x_stride apart; y likewise. Ends with a barrier. */
void fr_rmsnorm(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w, float eps, int rows, int width);

#endif
