#include "core/linear/panels.h"

#include <string.h>

#include "core/kernels/prefill.h"

_Static_assert(FR_BLOCK % FR_TILE_OUTPUTS == 0, "a tile of weights has one scale a block of inputs");

void fr_panels_pack(const fr_pack_job *j, fr_panel_form form, int tile, int block) {
    const fr_rows *r = j->to, *from = j->from;
    const fr_prefill_kernels *k = r->kernels->prefill;
    const fr_float_prefill_kernels *floats = r->kernels->float_prefill;
    const bool tiles = form == FR_PANEL_TILES, in_f32 = form == FR_PANEL_F32;
    int blocks = fr_blocks(j->width), all = fr_tile_columns(j->rows), first = tile * FR_TILE_TOKENS;
    int n = j->rows - first < FR_TILE_TOKENS ? j->rows - first : FR_TILE_TOKENS;
    int columns = fr_tile_columns(n), at = block * FR_BLOCK, m = j->width - at < FR_BLOCK ? j->width - at : FR_BLOCK;
    int64_t tile_at = ((int64_t)first * blocks + (int64_t)columns * block) * FR_BLOCK;
    if (j->quantized) {
        const uint16_t *q[FR_TILE_TOKENS];
        float *s = r->pack_scale + (int64_t)block * all + first;
        for (int i = 0; i < columns; i++) {
            int64_t row = i < n ? fr_pack_row(j, first + i) : 0;
            if (i < n) q[i] = from->q + (row * blocks + block) * FR_BLOCK;
            s[i] = i < n ? from->scale[row * blocks + block] : 0.0f;
        }
        if (in_f32)
            floats->pack_bf16((float *)(void *)r->pack_q + tile_at, columns, q, n);
        else
            k->pack_bf16(r->pack_q + tile_at, columns, tiles, q, n);
    } else {
        const float *x[FR_TILE_TOKENS];
        uint16_t *hi = r->pack_x + 2 * tile_at;
        for (int i = 0; i < n; i++) x[i] = from->x + fr_pack_row(j, first + i) * j->width + at;
        if (in_f32)
            floats->pack_f32((float *)(void *)hi, columns, x, n, m);
        else
            k->pack_f32(hi, hi + columns * FR_BLOCK, columns, tiles, x, n, m);
    }
}

/* ---- Weights in BF16 ---- */

/* The next block of an output: too many rows at once for the hardware to see the pattern. */
static void prefetch_next(const fr_linear *w, int output, int block) {
    const int size = (int)fr_dtype_size(w->dtype), ahead = FR_BLOCK * size;
    if ((block + 1) * FR_BLOCK > w->in) return;
    const char *next = (const char *)w->w + (output * w->stride + block * FR_BLOCK) * size + ahead;
    for (int line = 0; line <= ahead; line += 64) __builtin_prefetch(next + line, 0, 2);
}

/* A block of one output in float32, padded with zeros. */
static void convert_row_f32(const fr_kernels *k, const fr_linear *w, int output, int block, float *a) {
    int at = block * FR_BLOCK, m = w->in - at < FR_BLOCK ? w->in - at : FR_BLOCK;
    int64_t from = output * w->stride + at;
    prefetch_next(w, output, block);
    if (w->dtype == FR_F8_E4M3)
        k->float_prefill->e4m3_to_f32(a, (const uint8_t *)w->w + from, m);
    else if (w->dtype == FR_BF16)
        k->bf16_to_f32(a, (const uint16_t *)w->w + from, m);
    else
        memcpy(a, (const float *)w->w + from, (size_t)m * sizeof *a);
    memset(a + m, 0, (size_t)(FR_BLOCK - m) * sizeof *a);
}

/* A block of one output in BF16, padded with zeros. F32 fills two parts, the others one. */
static void convert_row(const fr_kernels *k, const fr_linear *w, int output, int block, uint16_t *a, uint16_t *a_lo) {
    int at = block * FR_BLOCK, m = w->in - at < FR_BLOCK ? w->in - at : FR_BLOCK;
    int64_t from = output * w->stride + at;
    prefetch_next(w, output, block);
    if (w->dtype == FR_F8_E4M3)
        k->e4m3_to_bf16(a, (const uint8_t *)w->w + from, m);
    else if (w->dtype == FR_BF16)
        memcpy(a, (const char *)w->w + 2 * from, 2 * (size_t)m);
    else
        k->prefill->split(a, a_lo, (const float *)w->w + from, m);
    memset(a + m, 0, 2 * (size_t)(FR_BLOCK - m));
    if (w->dtype == FR_F32) memset(a_lo + m, 0, 2 * (size_t)(FR_BLOCK - m));
}

/* Puts row i of a tile of weights where AMX loads it: [16 rows of tiles][4 tiles of 32 inputs][16][32]. */
static void place_row(uint16_t *a, int i, const uint16_t *row) {
    for (int t = 0; t < FR_BLOCK / 32; t++) memcpy(a + (i / 16 * 4 + t) * 512 + i % 16 * 32, row + t * 32, 64);
}

/* A tile, `rows` outputs of block `block`, padded with zeros. */
static void convert_tile(const fr_kernels *k, const fr_linear *w, fr_panel_form form, int output, int rows, int block,
                         uint16_t *a, uint16_t *a_lo) {
    const bool tiles = form == FR_PANEL_TILES;
    if (form == FR_PANEL_F32) {
        float *to = (float *)(void *)a;
        for (int i = 0; i < rows; i++) convert_row_f32(k, w, output + i, block, to + i * FR_BLOCK);
        memset(to + rows * FR_BLOCK, 0, (size_t)((FR_TILE_OUTPUTS - rows) * FR_BLOCK) * sizeof *to);
        return;
    }
    if (rows < FR_TILE_OUTPUTS) {
        memset(a, 0, FR_PANEL_A * sizeof *a);
        memset(a_lo, 0, FR_PANEL_A * sizeof *a_lo);
    }
    if (tiles && w->dtype == FR_F8_E4M3 && (block + 1) * FR_BLOCK <= w->in) {
        k->e4m3_to_tiles(a, (const uint8_t *)w->w + output * w->stride + block * FR_BLOCK, w->stride, rows);
        return;
    }
    for (int i = 0; i < rows; i++) {
        uint16_t row[FR_BLOCK], row_lo[FR_BLOCK];
        if (!tiles) {
            convert_row(k, w, output + i, block, a + i * FR_BLOCK, a_lo + i * FR_BLOCK);
            continue;
        }
        convert_row(k, w, output + i, block, row, row_lo);
        place_row(a, i, row);
        if (w->dtype == FR_F32) place_row(a_lo, i, row_lo);
    }
}

/* ---- Products ---- */

/* What one thread works with. */
typedef struct scratch {
    uint16_t *a, *a_lo; /* see fr_panel_job */
    float *sum;         /* [FR_PANEL_GROUP][tiles of tokens][FR_PANEL_C] */
    void *own;
} scratch;

enum { PART = FR_PANEL_GROUP * FR_PANEL_BLOCKS * FR_PANEL_A };
_Static_assert(FR_PANEL_FLOAT_GROUP <= FR_PANEL_GROUP && FR_PANEL_FLOAT_GROUP * FR_PANEL_FLOAT_BLOCKS * FR_PANEL_A <= PART,
               "a panel in float32 fits, too");

static int group_of(fr_panel_form form) {
    return form == FR_PANEL_F32 ? FR_PANEL_FLOAT_GROUP : FR_PANEL_GROUP;
}

static int blocks_of(fr_panel_form form) {
    return form == FR_PANEL_F32 ? FR_PANEL_FLOAT_BLOCKS : FR_PANEL_BLOCKS;
}

static scratch take_scratch(fr_arena *arena, int max_rows, size_t own_bytes) {
    scratch s;
    int tiles = (max_rows + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS;
    s.a = FR_TAKE(arena, uint16_t, PART);
    s.a_lo = FR_TAKE(arena, uint16_t, PART);
    s.sum = FR_TAKE(arena, float, FR_PANEL_GROUP *tiles *FR_PANEL_C);
    s.own = fr_arena_take(arena, 1, own_bytes);
    return s;
}

size_t fr_panels_scratch(int max_rows, size_t own_bytes) {
    fr_arena arena = {0};
    take_scratch(&arena, max_rows, own_bytes);
    return arena.used;
}

/* Blocks [first, last), at most blocks_of(form), of outputs [begin, end). */
static void convert_panel(const fr_kernels *k, const fr_linear *w, fr_panel_form form, int begin, int end, int first, int last,
                          const scratch *s) {
    for (int output = begin, g = 0; output < end; output += FR_TILE_OUTPUTS, g++)
        for (int block = first; block < last; block++) {
            int at = (g * blocks_of(form) + block - first) * FR_PANEL_A * (form == FR_PANEL_F32 ? 2 : 1), rows = end - output;
            convert_tile(k, w, form, output, rows < FR_TILE_OUTPUTS ? rows : FR_TILE_OUTPUTS, block, s->a + at, s->a_lo + at);
        }
}

/* Tiles of tokens [first, last), of a part of a product. */
typedef struct token_tiles {
    int first, last;
} token_tiles;

static token_tiles tiles_of(const fr_linear_part *part) {
    return (token_tiles){part->first / FR_TILE_TOKENS, (part->first + part->rows + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS};
}

/* The job of tile `tile` with the panel in s. */
static fr_panel_job job_of(const fr_linear *w, const fr_rows *x, fr_panel_form form, int begin, int end, int first, int last,
                           token_tiles tiles, int tile, const scratch *s) {
    int blocks = fr_blocks(w->in), all = fr_tile_columns(x->rows);
    int token = tile * FR_TILE_TOKENS, columns = all - token < FR_TILE_TOKENS ? all - token : FR_TILE_TOKENS;
    bool use_q = w->dtype == FR_F8_E4M3 && x->quantized;
    int parts = use_q && form != FR_PANEL_F32 ? 1 : 2; /* x is packed in two, if only one counts */
    fr_panel_job j = {.kernels = x->kernels,
                      .w = w,
                      .begin = begin,
                      .end = end,
                      .first = first,
                      .last = last,
                      .a = s->a,
                      .a_lo = s->a_lo,
                      .token = token,
                      .columns = columns,
                      .b = (use_q ? x->pack_q : x->pack_x) +
                           ((int64_t)token * blocks + (int64_t)columns * first) * FR_BLOCK * parts,
                      .b_stride = (int64_t)columns * FR_BLOCK * parts,
                      .one_part = use_q || x->bf16,
                      .sx = use_q ? x->pack_scale + (int64_t)first * all + token : NULL,
                      .sx_stride = all,
                      .sum = s->sum + (tile - tiles.first) * FR_PANEL_C,
                      .sum_stride = (int64_t)(tiles.last - tiles.first) * FR_PANEL_C,
                      .own = s->own};
    if (tile + 1 < tiles.last && all - token >= 2 * FR_TILE_TOKENS)
        j.next_tile = (int64_t)FR_TILE_TOKENS * blocks * FR_BLOCK * parts;
    return j;
}

/* Outputs [begin, end), at most group_of(form) tiles, of these tokens, into s->sum. */
static void multiply_group(const fr_linear *w, const fr_rows *x, int begin, int end, token_tiles tiles, fr_panel_form form,
                           fr_multiply_fn multiply, const scratch *s) {
    int blocks = fr_blocks(w->in), group = (end - begin + FR_TILE_OUTPUTS - 1) / FR_TILE_OUTPUTS;
    memset(s->sum, 0, (size_t)(group * (tiles.last - tiles.first) * FR_PANEL_C) * sizeof *s->sum);
    for (int first = 0; first < blocks; first += blocks_of(form)) {
        int last = first + blocks_of(form) < blocks ? first + blocks_of(form) : blocks;
        convert_panel(x->kernels, w, form, begin, end, first, last, s);
        for (int tile = tiles.first; tile < tiles.last; tile++) {
            fr_panel_job job = job_of(w, x, form, begin, end, first, last, tiles, tile, s);
            multiply(&job);
        }
    }
}

void fr_panels_multiply(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                        fr_panel_form form, fr_multiply_fn multiply, void *memory) {
    const fr_kernels *k = x->kernels;
    const token_tiles tiles = tiles_of(part);
    const int group = group_of(form), step = group * FR_TILE_OUTPUTS, per_group = tiles.last - tiles.first;
    fr_arena arena = {.base = memory, .size = SIZE_MAX};
    scratch s = take_scratch(&arena, part->rows, 0);
    for (int o = part->begin; o < part->end; o += step) {
        multiply_group(w, x, o, part->end - o < step ? part->end : o + step, tiles, form, multiply, &s);
        for (int i = 0; i < group * per_group; i++) {
            int output = o + i / per_group * FR_TILE_OUTPUTS, first = (tiles.first + i % per_group) * FR_TILE_TOKENS;
            int outputs = part->end - output < FR_TILE_OUTPUTS ? part->end - output : FR_TILE_OUTPUTS;
            int tokens = x->rows - first < FR_TILE_TOKENS ? x->rows - first : FR_TILE_TOKENS;
            if (outputs <= 0) break;
            (form == FR_PANEL_F32 ? k->float_prefill->transpose : k->prefill->transpose)(y + first * y_stride + output, y_stride,
                                                                                         s.sum + i * FR_PANEL_C, tokens, outputs);
        }
    }
}
