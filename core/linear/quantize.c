#include <math.h>

#include "core/linear/linear.h"
#include "core/threads.h"

/* Rows [row, row + rows) and columns [column, ...) of a BF16 or F32 linear as float32, one block. */
static void load_block(const fr_linear *w, int row, int column, int rows, int columns, float *block) {
    for (int r = 0; r < rows; r++) {
        const char *from = (const char *)w->w + ((row + r) * w->stride + column) * (int64_t)fr_dtype_size(w->dtype);
        float *to = block + r * FR_BLOCK;
        uint16_t half[FR_BLOCK];
        memcpy(w->dtype == FR_F32 ? (void *)to : half, from, (size_t)columns * fr_dtype_size(w->dtype));
        for (int i = 0; w->dtype == FR_BF16 && i < columns; i++) to[i] = fr_bf16_f32(half[i]);
    }
}

static float quantize_one(const fr_linear *w, int row, int column, uint8_t *codes) {
    float block[FR_BLOCK * FR_BLOCK], amax = 0.0f;
    int rows = w->out - row < FR_BLOCK ? w->out - row : FR_BLOCK, columns = w->in - column < FR_BLOCK ? w->in - column : FR_BLOCK;
    load_block(w, row, column, rows, columns, block);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) amax = fmaxf(amax, fabsf(block[r * FR_BLOCK + c]));
    float scale = fr_e4m3_scale(amax);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            codes[(int64_t)(row + r) * w->in + column + c] = fr_f32_e4m3(block[r * FR_BLOCK + c] / scale);
    return scale;
}

fr_status fr_linear_to_e4m3(const fr_linear *w, fr_linear *out, fr_error *error) {
    int block_rows = (w->out + FR_BLOCK - 1) / FR_BLOCK, block_columns = (w->in + FR_BLOCK - 1) / FR_BLOCK;
    uint8_t *codes = fr_alloc((size_t)w->out * (size_t)w->in);
    float *scale = fr_alloc((size_t)block_rows * (size_t)block_columns * sizeof *scale);
    if (!codes || !scale) {
        fr_free(codes);
        fr_free(scale);
        return fr_fail(error, FR_ERROR_MEMORY, "FP8 copy of a %d x %d linear: out of memory", w->out, w->in);
    }
#pragma omp parallel for schedule(static)
    for (int i = 0; i < block_rows; i++)
        for (int j = 0; j < block_columns; j++) scale[i * block_columns + j] = quantize_one(w, i * FR_BLOCK, j * FR_BLOCK, codes);
    *out = (fr_linear){.out = w->out,
                       .in = w->in,
                       .dtype = FR_F8_E4M3,
                       .w = codes,
                       .stride = w->in,
                       .scale = scale,
                       .scale_stride = block_columns,
                       .owned_w = codes,
                       .owned_scale = scale};
    return FR_OK;
}
