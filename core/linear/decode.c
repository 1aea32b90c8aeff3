/* Decode: linears by the decode kernels. */
#include <assert.h>

#include "core/linear/linear.h"

void fr_linear_decode(const fr_linear *w, const fr_rows *x, const int *index, int n, int begin, int end, float *y,
                      int64_t y_stride) {
    const int first = fr_linear_first(w);
    assert(n >= 1 && n <= FR_DECODE_ROWS && x->width == w->in && first <= begin && end <= fr_linear_last(w));
    const fr_kernels *k = x->kernels;
    const void *rows[FR_DECODE_ROWS];
    const float *scales[FR_DECODE_ROWS];
    int64_t blocks = fr_blocks(x->width);
    bool use_q = w->dtype == FR_F8_E4M3 && x->quantized;
    for (int i = 0; i < n; i++) {
        int64_t row = index[i];
        if (use_q) scales[i] = x->scale + row * blocks;
        rows[i] = use_q ? (const void *)(x->q + row * blocks * FR_BLOCK) : x->x + row * x->width;
    }
    const fr_decode_job job = {.w = w->w,
                               .stride = w->stride,
                               .scale = w->scale,
                               .scale_stride = w->scale_stride,
                               .in = w->in,
                               .begin = begin - first,
                               .end = end - first,
                               .x = rows,
                               .sx = use_q ? scales : NULL,
                               .rows = n,
                               .y = y + first,
                               .y_stride = y_stride};
    if (use_q)
        k->decode_linear_e4m3_q(&job);
    else if (w->dtype == FR_F8_E4M3)
        k->decode_linear_e4m3(&job);
    else if (w->dtype == FR_BF16)
        k->decode_linear_bf16(&job);
    else
        k->decode_linear_f32(&job);
}
