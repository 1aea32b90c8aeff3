#include "core/linear/linear.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/linear/prefill.h"
#include "core/threads.h"

void fr_linear_release(fr_linear *linear) {
    fr_free(linear->owned_w);
    fr_free(linear->owned_scale);
    memset(linear, 0, sizeof *linear);
}

fr_linear fr_linear_rows(const fr_linear *linear, int begin, int end) {
    fr_linear part = *linear;
    part.out = end - begin;
    part.w = (const char *)linear->w + begin * linear->stride * (int64_t)fr_dtype_size(linear->dtype);
    if (linear->scale) part.scale = linear->scale + begin / FR_BLOCK * linear->scale_stride;
    return part;
}

uint64_t fr_linear_bytes(const fr_linear *linear) {
    uint64_t bytes = (uint64_t)linear->out * (uint64_t)linear->in * fr_dtype_size(linear->dtype);
    if (linear->scale) bytes += (uint64_t)fr_blocks(linear->out) * (uint64_t)fr_blocks(linear->in) * sizeof(float);
    return bytes;
}

/* ---- Activations ---- */

void fr_rows_take(fr_rows *rows, fr_arena *arena, const fr_kernels *kernels, int max_rows, int max_width, unsigned forms) {
    size_t blocks = (size_t)fr_blocks(max_width), width = blocks * FR_BLOCK, columns = (size_t)fr_tile_columns(max_rows);
    memset(rows, 0, sizeof *rows);
    rows->kernels = kernels;
    rows->max_rows = max_rows;
    bool pack = max_rows > FR_DECODE_ROWS && !(forms & FR_ROWS_DECODE);
    if (forms & FR_ROWS_QUANTIZED) {
        rows->q = FR_TAKE(arena, uint16_t, (size_t)max_rows * width);
        rows->scale = FR_TAKE(arena, float, (size_t)max_rows *blocks);
        if (pack) rows->pack_q = FR_TAKE(arena, uint16_t, columns * width);
        if (pack) rows->pack_scale = FR_TAKE(arena, float, columns *blocks);
    }
    if (pack && (forms & FR_ROWS_EXACT)) rows->pack_x = FR_TAKE(arena, uint16_t, 2 * columns * width);
}

void fr_rows_begin(fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0) {
    r->x = x;
    r->rows = rows;
    r->width = width;
    r->quantized = forms & FR_ROWS_QUANTIZED;
    r->bf16 = forms & FR_ROWS_BF16;
    r->ue8m0 = ue8m0;
}

void fr_rows_quantize(const fr_rows *r, const float *x, int width, bool ue8m0, int row, int block) {
    int blocks = fr_blocks(width), at = block * FR_BLOCK, n = width - at < FR_BLOCK ? width - at : FR_BLOCK;
    uint16_t *q = r->q + ((int64_t)row * blocks + block) * FR_BLOCK;
    r->scale[(int64_t)row * blocks + block] = r->kernels->quantize_block(q, x + (int64_t)row * width + at, n, ue8m0);
    memset(q + n, 0, (size_t)(FR_BLOCK - n) * sizeof *q);
}

#define SPAN 4 /* blocks of a row that are quantized in one go, so that rows are read in long runs */

/* Part `part` of `parts` of making rows ready. The unit of work is a span of blocks of a row, or of a tile of rows that
 * are packed. */
static void set_part(const fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0, int part, int parts) {
    bool pack = rows > FR_DECODE_ROWS && !(forms & FR_ROWS_DECODE) && fr_prefill_packed(r->kernels);
    int blocks = fr_blocks(width), span = pack ? SPAN : 1, spans = (blocks + span - 1) / span, begin, end;
    int tile = pack ? FR_TILE_TOKENS : 1, tiles = (rows + tile - 1) / tile;
    fr_rows from = {.x = x, .q = r->q, .scale = r->scale, .rows = rows, .width = width};
    fr_split(tiles * spans, 1, parts, part, &begin, &end);
    for (int unit = begin; unit < end; unit++) {
        int t = unit / spans, first = unit % spans * span, last = first + span < blocks ? first + span : blocks;
        if (forms & FR_ROWS_QUANTIZED)
            for (int i = t * tile; i < (t + 1) * tile && i < rows; i++)
                for (int block = first; block < last; block++) fr_rows_quantize(r, x, width, ue8m0, i, block);
        if (pack)
            for (int block = first; block < last; block++) fr_prefill_pack(r, &from, NULL, rows, width, forms, t, block);
    }
}

void fr_rows_set(fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0) {
    set_part(r, x, rows, width, forms, ue8m0, fr_team_rank(), fr_team_size());
    if (fr_team_rank() == 0) fr_rows_begin(r, x, rows, width, forms, ue8m0);
    fr_team_barrier();
}

void fr_rows_set_alone(fr_rows *r, const float *x, int rows, int width, unsigned forms, bool ue8m0) {
    set_part(r, x, rows, width, forms, ue8m0, 0, 1);
    fr_rows_begin(r, x, rows, width, forms, ue8m0);
}

void fr_rows_gather(fr_rows *r, const fr_rows *from, const int *index, int n, unsigned forms) {
    int blocks = fr_blocks(from->width);
    fr_rows_begin(r, NULL, n, from->width, forms, from->ue8m0);
    if (fr_prefill_packed(r->kernels)) {
        for (int tile = 0; tile * FR_TILE_TOKENS < n; tile++)
            for (int block = 0; block < blocks; block++) fr_prefill_pack(r, from, index, n, from->width, forms, tile, block);
        return;
    }
    /* Not packed: the same rows, next to each other. pack_x is large enough for x. */
    float *x = (float *)(void *)r->pack_x;
    r->x = x;
    for (int i = 0; i < n; i++) {
        int64_t row = index[i], q_width = (int64_t)blocks * FR_BLOCK;
        if (forms & FR_ROWS_EXACT)
            memcpy(x + (int64_t)i * from->width, from->x + row * from->width, (size_t)from->width * sizeof *x);
        if (forms & FR_ROWS_QUANTIZED) {
            memcpy(r->q + i * q_width, from->q + row * q_width, (size_t)q_width * sizeof *r->q);
            memcpy(r->scale + (int64_t)i * blocks, from->scale + row * blocks, (size_t)blocks * sizeof *r->scale);
        }
    }
}

fr_rows fr_rows_part(const fr_rows *r, int first, int n) {
    fr_rows part = *r;
    part.rows = n;
    part.x += (int64_t)first * r->width;
    part.pack_x += (int64_t)first * fr_blocks(r->width) * FR_BLOCK * 2;
    return part;
}

/* ---- Products ---- */

/* Rows index[0..n) (NULL: first, first + 1, ...), n <= FR_DECODE_ROWS, through the kernels. */
static void decode(const fr_linear *w, const fr_rows *x, const int *index, int first, int n, int begin, int end, float *y,
                   int64_t y_stride) {
    const fr_kernels *k = x->kernels;
    const void *rows[FR_DECODE_ROWS];
    const float *scales[FR_DECODE_ROWS];
    int64_t blocks = fr_blocks(x->width);
    bool use_q = w->dtype == FR_F8_E4M3 && x->quantized;
    for (int i = 0; i < n; i++) {
        int64_t row = index ? index[i] : first + i;
        if (use_q) scales[i] = x->scale + row * blocks;
        rows[i] = use_q ? (const void *)(x->q + row * blocks * FR_BLOCK) : x->x + row * x->width;
    }
    const fr_decode_job job = {.w = w->w,
                               .stride = w->stride,
                               .scale = w->scale,
                               .scale_stride = w->scale_stride,
                               .in = w->in,
                               .begin = begin,
                               .end = end,
                               .x = rows,
                               .sx = use_q ? scales : NULL,
                               .rows = n,
                               .y = y,
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

void fr_linear_decode(const fr_linear *w, const fr_rows *x, const int *index, int n, int begin, int end, float *y,
                      int64_t y_stride) {
    decode(w, x, index, 0, n, begin, end, y, y_stride);
}

void fr_linear_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, const fr_compute *c) {
    assert(x->kernels == c->kernels && fr_team_rank() < c->threads);
    if (x->rows > FR_DECODE_ROWS && fr_prefill_packed(c->kernels)) {
        fr_prefill_range(w, x, begin, end, y, y_stride, (char *)c->scratch + (size_t)fr_team_rank() * c->scratch_bytes);
        return;
    }
    /* A strip of outputs at a time, so that its weights are still in cache for the next rows. */
    const int strip = x->rows > FR_DECODE_ROWS ? 16 : end - begin;
    for (int o = begin; o < end; o += strip) {
        int o_end = end - o < strip ? end : o + strip;
        for (int row = 0; row < x->rows; row += FR_DECODE_ROWS) {
            int n = x->rows - row < FR_DECODE_ROWS ? x->rows - row : FR_DECODE_ROWS;
            decode(w, x, NULL, row, n, o, o_end, y + row * y_stride, y_stride);
        }
    }
}

void fr_linear_forward(const fr_linear *w, const fr_rows *x, float *y, int64_t y_stride, const fr_compute *c) {
    int begin, end;
    /* Decode: in units that leave few strips short (core/kernels/decode.h), where there is enough for all. */
    int unit = x->rows > FR_DECODE_ROWS ? FR_TILE_OUTPUTS : w->out >= 64 * fr_team_size() ? 16 : 4;
    fr_team_split(w->out, unit, &begin, &end);
    if (begin < end) fr_linear_range(w, x, begin, end, y, y_stride, c);
    fr_team_barrier();
}

void fr_compute_take(fr_compute *c, fr_arena *arena, const fr_kernels *kernels, int max_rows, int threads) {
    c->kernels = kernels;
    c->threads = threads;
    c->scratch_bytes = max_rows > FR_DECODE_ROWS ? fr_prefill_scratch_bytes(kernels, max_rows) : 0;
    c->scratch = fr_arena_take(arena, (size_t)threads, c->scratch_bytes);
}

fr_status fr_compute_prepare(const fr_compute *c, int max_rows, fr_error *error) {
    return max_rows > FR_DECODE_ROWS ? fr_prefill_prepare(c->kernels, error) : FR_OK;
}

/* y += sum over j < n of v[j] times row o + j, for one 128-block of columns; n <= FR_BLOCK. */
static void add_rows_e4m3(const fr_linear *w, int o, int n, const float *v, int column, float *y, const fr_kernels *k) {
    const uint8_t *row = (const uint8_t *)w->w + o * w->stride + column;
    int width = w->in - column < FR_BLOCK ? w->in - column : FR_BLOCK;
    float a[FR_BLOCK];
    for (int j = 0; j < n; j++) a[j] = v[j] * w->scale[(o + j) / FR_BLOCK * w->scale_stride + column / FR_BLOCK];
    if (k->add_rows_e4m3) {
        k->add_rows_e4m3(y, a, row, w->stride, n, width);
        return;
    }
    for (int j = 0; j < n; j++) k->axpy_e4m3(y, a[j], row + j * w->stride, width);
}

void fr_linear_transposed(const fr_linear *w, int begin, int end, const float *v, float *y, const fr_kernels *k) {
    memset(y, 0, (size_t)w->in * sizeof *y);
    for (int o = begin, n; o < end; o += n) {
        n = w->dtype != FR_F8_E4M3 ? 1 : end - o < FR_BLOCK ? end - o : FR_BLOCK;
        int64_t at = o * w->stride;
        if (w->dtype == FR_BF16) k->axpy_bf16(y, v[o - begin], (const uint16_t *)w->w + at, w->in);
        if (w->dtype == FR_F32) k->axpy_f32(y, v[o - begin], (const float *)w->w + at, w->in);
        if (w->dtype == FR_F8_E4M3)
            for (int i = 0; i < w->in; i += FR_BLOCK) add_rows_e4m3(w, o, n, v + o - begin, i, y + i, k);
    }
}
