/* Prefill without a matrix product: rows as they are, FR_DECODE_ROWS at a time, through the decode kernels. It serves decode,
 * too, whose rows are one such lot. */
#include "core/linear/backends.h"

static bool ready(const fr_kernels *kernels, bool quantized, int width) {
    (void)kernels, (void)quantized, (void)width;
    return true;
}

static void multiply(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                     const fr_compute *c) {
    (void)c;
    /* A strip of outputs at a time, so that its weights are still in cache for the next rows. */
    const int strip = x->rows > FR_DECODE_ROWS ? 16 : part->end - part->begin, last = part->first + part->rows;
    for (int o = part->begin; o < part->end; o += strip) {
        int o_end = part->end - o < strip ? part->end : o + strip;
        for (int first = part->first; first < last; first += FR_DECODE_ROWS) {
            int index[FR_DECODE_ROWS], n = last - first < FR_DECODE_ROWS ? last - first : FR_DECODE_ROWS;
            for (int i = 0; i < n; i++) index[i] = first + i;
            fr_linear_decode(w, x, index, n, o, o_end, y + first * y_stride, y_stride);
        }
    }
}

const fr_prefill_backend fr_backend_portable = {.name = "portable", .ready = ready, .multiply = multiply};
