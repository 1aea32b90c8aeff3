#include "core/linear/norm.h"

#include <math.h>

#include "core/kernels/kernels.h"
#include "core/threads.h"

void fr_rmsnorm_row(float *y, const float *x, const float *w, float eps, int width) {
    float r = 1.0f / sqrtf(fr_kernels_get()->sum_squares(x, width) / (float)width + eps);
    for (int i = 0; i < width; i++) y[i] = x[i] * r * w[i];
}

void fr_rmsnorm(float *y, int64_t y_stride, const float *x, int64_t x_stride, const float *w, float eps, int rows, int width) {
    int begin, end;
    fr_team_split(rows, 1, &begin, &end);
    for (int i = begin; i < end; i++) fr_rmsnorm_row(y + i * y_stride, x + i * x_stride, w, eps, width);
    fr_team_barrier();
}
