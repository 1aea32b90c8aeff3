/* Prefill by our own kernel on matrix tiles (AMX), which scales and adds what it has multiplied while it multiplies on. */
#include "core/kernels/prefill.h"
#include "core/linear/panels.h"

static bool ready(const fr_kernels *kernels, bool quantized, int width) {
    (void)quantized, (void)width;
    return kernels->multiply_panel != NULL;
}

static size_t scratch(int max_rows) {
    return fr_panels_scratch(max_rows, 0);
}

static void pack(const fr_pack_job *job, int tile, int block) {
    fr_panels_pack(job, FR_PANEL_TILES, tile, block);
}

static void add_product(fr_panel *p, const uint16_t *a, const uint16_t *b) {
    p->a[p->products] = a;
    p->b[p->products++] = b;
}

static void multiply(const fr_panel_job *j) {
    const int groups = (j->end - j->begin + FR_TILE_OUTPUTS - 1) / FR_TILE_OUTPUTS;
    const uint16_t *lo = j->b + j->columns * FR_BLOCK;
    for (int g = 0; g < groups; g++) {
        const uint16_t *a = j->a + g * FR_PANEL_BLOCKS * FR_PANEL_A, *a_lo = j->a_lo + g * FR_PANEL_BLOCKS * FR_PANEL_A;
        fr_panel p = {.blocks = j->last - j->first, .columns = j->columns, .b_stride = j->b_stride};
        add_product(&p, a, j->b);
        if (!j->one_part) add_product(&p, a, lo);
        if (j->w->dtype == FR_F32) add_product(&p, a_lo, j->b);
        if (j->w->dtype == FR_F32 && !j->one_part) add_product(&p, a_lo, lo);
        if (j->w->scale) p.sw = j->w->scale + (j->begin + g * FR_TILE_OUTPUTS) / FR_BLOCK * j->w->scale_stride + j->first;
        p.sx = j->sx;
        p.sx_stride = j->sx_stride;
        p.sum = j->sum + g * j->sum_stride;
        if (j->next_tile) { /* each group asks for its part of the next tile's tokens */
            p.next_b_bytes = (size_t)(p.b_stride * p.blocks / groups) * sizeof *p.next_b;
            p.next_b = j->b + j->next_tile + g * p.b_stride * p.blocks / groups;
            p.next_sum = p.sum + FR_PANEL_C;
        }
        j->kernels->multiply_panel(&p);
    }
}

static void multiply_part(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                          const fr_compute *c) {
    fr_panels_multiply(w, x, part, y, y_stride, FR_PANEL_TILES, multiply, fr_compute_scratch(c));
}

const fr_prefill_backend fr_backend_amx = {
    .name = "amx tiles", .ready = ready, .scratch = scratch, .pack = pack, .multiply = multiply_part};
