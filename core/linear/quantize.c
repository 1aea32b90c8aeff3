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

/* The largest magnitude of n values that is no NaN. Magnitudes are in the order of their bits, and whole numbers make vectors. */
static float largest(const float *x, int n) {
    int32_t most = 0;
    for (int i = 0; i < n; i++) {
        int32_t magnitude = (int32_t)(fr_f32_bits(x[i]) & 0x7fffffffu);
        int32_t number = magnitude > 0x7f800000 ? 0 : magnitude;
        most = number > most ? number : most;
    }
    return fr_bits_f32((uint32_t)most);
}

static float quantize_one(const fr_linear *w, int row, int column, uint8_t *codes) {
    float block[FR_BLOCK * FR_BLOCK], amax = 0.0f;
    uint8_t to[FR_BLOCK];
    int rows = w->out - row < FR_BLOCK ? w->out - row : FR_BLOCK, columns = w->in - column < FR_BLOCK ? w->in - column : FR_BLOCK;
    load_block(w, row, column, rows, columns, block);
    for (int r = 0; r < rows; r++) {
        float most = largest(block + r * FR_BLOCK, columns);
        amax = most > amax ? most : amax;
    }
    float scale = fr_e4m3_scale(amax);
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++) to[c] = fr_f32_e4m3(block[r * FR_BLOCK + c] / scale);
        memcpy(codes + (int64_t)(row + r) * w->in + column, to, (size_t)columns);
    }
    return scale;
}

typedef struct copying {
    const fr_linear *w;
    int block_rows, block_columns;
    uint8_t *codes;
    float *scale;
} copying;

static void copy_blocks(void *argument) {
    const copying *c = argument;
    int begin, end;
    fr_team_split(c->block_rows, 1, &begin, &end);
    for (int i = begin; i < end; i++)
        for (int j = 0; j < c->block_columns; j++)
            c->scale[i * c->block_columns + j] = quantize_one(c->w, i * FR_BLOCK, j * FR_BLOCK, c->codes);
}

fr_status fr_linear_to_e4m3(const fr_linear *whole, int threads, fr_linear *out, fr_error *error) {
    *out = (fr_linear){.out = whole->out,
                       .in = whole->in,
                       .dtype = FR_F8_E4M3,
                       .stride = whole->in,
                       .before = whole->before,
                       .behind = whole->behind,
                       .gathered = whole->gathered};
    if (fr_linear_own(whole) == 0) return FR_OK;
    const fr_linear part = fr_linear_rows(whole, fr_linear_first(whole), fr_linear_last(whole)), *w = &part;
    copying c = {.w = w, .block_rows = fr_blocks(w->out), .block_columns = fr_blocks(w->in)};
    c.codes = fr_alloc((size_t)w->out * (size_t)w->in);
    c.scale = fr_alloc((size_t)c.block_rows * (size_t)c.block_columns * sizeof *c.scale);
    if (!c.codes || !c.scale) {
        fr_free(c.codes);
        fr_free(c.scale);
        return fr_fail(error, FR_ERROR_MEMORY, "FP8 copy of a %d x %d linear: out of memory", w->out, w->in);
    }
    fr_team_run(threads, copy_blocks, &c);
    out->w = out->owned_w = c.codes;
    out->scale = out->owned_scale = c.scale;
    out->scale_stride = c.block_columns;
    return FR_OK;
}
