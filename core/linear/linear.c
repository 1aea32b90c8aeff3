#include "core/linear/linear.h"

#include <assert.h>
#include <string.h>

#include "core/kernels/prefill_layout.h"
#include "core/linear/prefill.h"
#include "core/threads.h"

void fr_linear_release(fr_linear *linear) {
    fr_free(linear->owned_w);
    fr_free(linear->owned_scale);
    memset(linear, 0, sizeof *linear);
}

fr_linear fr_linear_rows(const fr_linear *linear, int begin, int end) {
    const int first = fr_linear_first(linear), row = begin - first;
    assert(first <= begin && begin < end && end <= fr_linear_last(linear) && (!linear->scale || row % FR_BLOCK == 0));
    fr_linear part = *linear;
    part.owned_w = part.owned_scale = NULL;
    part.before = part.behind = 0;
    part.gathered = false;
    part.out = end - begin;
    part.w = (const char *)linear->w + row * linear->stride * (int64_t)fr_dtype_size(linear->dtype);
    if (linear->scale) part.scale = linear->scale + row / FR_BLOCK * linear->scale_stride;
    return part;
}

uint64_t fr_linear_bytes(const fr_linear *linear) {
    int rows = fr_linear_last(linear) - fr_linear_first(linear);
    uint64_t bytes = (uint64_t)rows * (uint64_t)linear->in * fr_dtype_size(linear->dtype);
    if (linear->scale) bytes += (uint64_t)fr_blocks(rows) * (uint64_t)fr_blocks(linear->in) * sizeof(float);
    return bytes;
}

/* What there is of a cut linear, by itself; its outputs are numbered from *first on. */
static fr_linear bound_rows(const fr_linear *w, int *first) {
    *first = fr_linear_first(w);
    return fr_linear_rows(w, *first, fr_linear_last(w));
}

/* ---- Products ---- */

static void multiply(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                     const fr_compute *c) {
    const fr_prefill_backend *backend = &fr_backend_portable;
    if (w->before | w->behind) {
        int first;
        const fr_linear rows = bound_rows(w, &first);
        const fr_linear_part of_rows = {part->begin - first, part->end - first, part->first, part->rows};
        multiply(&rows, x, &of_rows, y + first, y_stride, c);
        return;
    }
    assert(x->kernels == c->kernels && x->width == w->in && fr_team_rank() < c->threads);
    if (x->rows > FR_DECODE_ROWS) {
        assert(part->begin % FR_TILE_OUTPUTS == 0 && part->first % FR_TILE_TOKENS == 0 && x->rows <= c->max_rows);
        backend = fr_prefill_backend_of(c->kernels, w->dtype == FR_F8_E4M3 && x->quantized, w->in);
    }
    backend->multiply(w, x, part, y, y_stride, c);
}

void fr_linear_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, const fr_compute *c) {
    multiply(w, x, &(fr_linear_part){begin, end, 0, x->rows}, y, y_stride, c);
}

/* In decode, units of 16 leave few strips of outputs incomplete (core/kernels/decode_strips.h), if there are enough for all. */
static int unit_of(int outputs, int rows) {
    return rows > FR_DECODE_ROWS ? FR_TILE_OUTPUTS : outputs >= 64 * fr_team_size() ? 16 : 4;
}

void fr_linear_own_range(const fr_linear *w, int rows, int *begin, int *end) {
    *begin = w->before;
    *end = fr_linear_end(w);
    if (rows <= FR_DECODE_ROWS || *begin == *end) return;
    *begin = *begin / FR_TILE_OUTPUTS * FR_TILE_OUTPUTS;
    *end = fr_whole_units(*end, FR_TILE_OUTPUTS) < w->out ? fr_whole_units(*end, FR_TILE_OUTPUTS) : w->out;
}

void fr_linear_split(const fr_linear *w, int *begin, int *end) {
    fr_team_split(fr_linear_own(w), unit_of(fr_linear_own(w), 1), begin, end);
    *begin += w->before;
    *end += w->before;
}

enum { MOST_PRODUCTS = 4 };

/* This thread's share of products of the same rows, laid end to end. With add_to [rows, out], of one product, it is added there,
 * too. */
static void share(const fr_linear_product *products, int count, int64_t y_stride, const fr_rows *x, float *add_to,
                  const fr_compute *c) {
    int outputs = 0, units = 0, parts = 1, begin, end;
    int first[MOST_PRODUCTS], own[MOST_PRODUCTS];
    assert(count <= MOST_PRODUCTS);
    for (int i = 0; i < count; i++) {
        fr_linear_own_range(products[i].w, x->rows, &first[i], &own[i]);
        outputs += own[i] -= first[i];
    }
    if (outputs == 0) return;
    const int unit = unit_of(outputs, x->rows), size = fr_team_size();
    for (int i = 0; i < count; i++) units += (own[i] + unit - 1) / unit;
    if (x->rows > FR_DECODE_ROWS) parts = fr_token_parts(units, (x->rows + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS, size);
    fr_split(units * parts, 1, size, fr_team_rank(), &begin, &end);
    for (int t = begin / units; t * units < end; t++) {
        fr_linear_part part;
        int last, from = begin - t * units, to = end - t * units;
        fr_share of_part = {.begin = from > 0 ? from * unit : 0, .end = (to < units ? to : units) * unit, .unit = unit};
        fr_split(x->rows, FR_TILE_TOKENS, parts, t, &part.first, &last);
        part.rows = last - part.first;
        for (int i = 0; i < count; i++) {
            const fr_linear_product *p = &products[i];
            if (!fr_share_next(&of_part, own[i], &part.begin, &part.end)) continue;
            part.begin += first[i];
            part.end += first[i];
            multiply(p->w, x, &part, p->y, y_stride ? y_stride : p->w->out, c);
            for (int64_t r = part.first; add_to && r < last; r++)
                for (int64_t o = r * p->w->out + part.begin; o < r * p->w->out + part.end; o++) add_to[o] += p->y[o];
        }
    }
}

void fr_linear_share(const fr_linear *w, const fr_rows *x, float *y, const fr_compute *c) {
    share(&(fr_linear_product){w, y}, 1, w->out, x, NULL, c);
}

void fr_linear_exchange(const fr_linear *w, float *y, int64_t y_stride, int rows, const fr_compute *c) {
    const fr_exchange *e = &c->exchange;
    if (!w->gathered) {
        fr_team_barrier();
        return;
    }
    const fr_plane plane = {.x = y,
                            .rows = rows,
                            .width = w->out,
                            .unit = fr_cut_unit(w->out, e->ranks->size),
                            .stride = (size_t)y_stride * sizeof *y,
                            .columns = 1,
                            .column_bytes = sizeof *y};
    fr_exchange_planes(e, &plane, 1);
}

void fr_linear_forward(const fr_linear *w, const fr_rows *x, float *y, int64_t y_stride, const fr_compute *c) {
    share(&(fr_linear_product){w, y}, 1, y_stride, x, NULL, c);
    fr_linear_exchange(w, y, y_stride, x->rows, c);
}

void fr_linear_add(const fr_linear *w, const fr_rows *x, float *y, float *delta, const fr_compute *c) {
    share(&(fr_linear_product){w, delta}, 1, w->out, x, y, c);
    fr_linear_exchange(w, y, w->out, x->rows, c);
}

void fr_linear_forward_each(const fr_linear_product *products, int count, const fr_rows *x, const fr_compute *c) {
    share(products, count, 0, x, NULL, c);
    fr_team_barrier();
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
    assert(0 <= begin && begin <= end && end <= w->out && !w->before && !w->behind);
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
