#include "core/linear/norm.h"

#include <math.h>

#include "core/threads.h"

void fr_rmsnorm_row(const fr_kernels *k, float *y, const float *x, const float *w, float eps, int width) {
    float r = 1.0f / sqrtf(k->sum_squares(x, width) / (float)width + eps);
    for (int i = 0; i < width; i++) y[i] = x[i] * r * w[i];
}

void fr_rmsnorm(const fr_kernels *k, float *y, const float *x, const float *w, float eps, int rows, int width) {
    int begin, end;
    fr_team_split(rows, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) fr_rmsnorm_row(k, y + i * width, x + i * width, w, eps, width);
    fr_team_barrier();
}
