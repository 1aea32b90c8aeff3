#include "core/linear/norm.h"

#include <assert.h>
#include <math.h>

#include "core/threads.h"

static float factor(const fr_kernels *k, const float *x, float eps, int width) {
    return 1.0f / sqrtf(k->sum_squares(x, width) / (float)width + eps);
}

void fr_rmsnorm_row(const fr_kernels *k, float *y, const float *x, const float *w, float eps, int width) {
    float r = factor(k, x, eps, width);
    for (int i = 0; i < width; i++) y[i] = x[i] * r * w[i];
}

void fr_rmsnorm(const fr_kernels *k, float *y, const float *x, const float *w, float eps, int rows, int width) {
    int begin, end;
    fr_team_split(rows, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) fr_rmsnorm_row(k, y + i * width, x + i * width, w, eps, width);
    fr_team_barrier();
}

void fr_rows_normed_part(const fr_norm_job *j, int begin, int end) {
    const fr_kernels *k = j->to->kernels;
    const int blocks = fr_blocks(j->width);
    assert(j->rows <= FR_DECODE_ROWS && j->x != j->y);
    for (int unit = begin; unit < end;) {
        int row = unit / blocks, block = unit % blocks;
        const float *x = j->x + (int64_t)row * j->width;
        float *y = j->y + (int64_t)row * j->width, r = factor(k, x, j->eps, j->width);
        for (; block < blocks && unit < end; block++, unit++) {
            int last = (block + 1) * FR_BLOCK < j->width ? (block + 1) * FR_BLOCK : j->width;
            for (int i = block * FR_BLOCK; i < last; i++) y[i] = x[i] * r * j->w[i];
            if (j->inputs & FR_INPUT_QUANTIZED) fr_rows_quantize(j->to, j->y, j->width, j->ue8m0, row, block);
        }
    }
}

void fr_rows_set_normed(const fr_norm_job *j) {
    int begin, end;
    if (j->rows > FR_DECODE_ROWS) {
        fr_rmsnorm(j->to->kernels, j->y, j->x, j->w, j->eps, j->rows, j->width);
        fr_rows_set(j->to, j->y, j->rows, j->width, j->inputs, j->ue8m0);
        return;
    }
    fr_team_split(j->rows * fr_blocks(j->width), 1, &begin, &end);
    fr_rows_normed_part(j, begin, end);
    if (fr_team_rank() == 0) fr_rows_begin(j->to, j->y, j->rows, j->width, j->inputs, j->ue8m0);
    fr_team_barrier();
}
