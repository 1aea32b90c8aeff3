#include "core/linear/rows.h"

#include <assert.h>
#include <string.h>

#include "core/linear/prefill.h"
#include "core/threads.h"

void fr_rows_take(fr_rows *rows, fr_arena *arena, const fr_kernels *kernels, int max_rows, int max_width, unsigned inputs) {
    size_t blocks = (size_t)fr_blocks(max_width), width = blocks * FR_BLOCK, columns = (size_t)fr_tile_columns(max_rows);
    memset(rows, 0, sizeof *rows);
    rows->kernels = kernels;
    rows->max_rows = max_rows;
    bool pack = max_rows > FR_DECODE_ROWS && !(inputs & FR_INPUT_DECODE);
    if (inputs & FR_INPUT_QUANTIZED) {
        rows->q = FR_TAKE(arena, uint16_t, (size_t)max_rows * width);
        rows->scale = FR_TAKE(arena, float, (size_t)max_rows *blocks);
        if (pack) rows->pack_q = FR_TAKE(arena, uint16_t, columns * width * (kernels->float_prefill ? 2 : 1));
        if (pack) rows->pack_scale = FR_TAKE(arena, float, columns *blocks);
    }
    if (pack && (inputs & FR_INPUT_EXACT)) rows->pack_x = FR_TAKE(arena, uint16_t, 2 * columns * width);
}

_Static_assert(2 * sizeof(uint16_t) == sizeof(float), "the two BF16 parts of x take as much as x");

void fr_rows_begin(fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0) {
    assert(rows >= 1 && rows <= r->max_rows && (inputs & FR_INPUT_ANY));
    r->x = x;
    r->rows = rows;
    r->width = width;
    r->quantized = inputs & FR_INPUT_QUANTIZED;
    r->bf16 = inputs & FR_INPUT_BF16;
    r->ue8m0 = ue8m0;
}

void fr_rows_quantize(const fr_rows *r, const float *x, int width, bool ue8m0, int row, int block) {
    int blocks = fr_blocks(width), at = block * FR_BLOCK, n = width - at < FR_BLOCK ? width - at : FR_BLOCK;
    uint16_t *q = r->q + ((int64_t)row * blocks + block) * FR_BLOCK;
    r->scale[(int64_t)row * blocks + block] = r->kernels->quantize_block(q, x + (int64_t)row * width + at, n, ue8m0);
    memset(q + n, 0, (size_t)(FR_BLOCK - n) * sizeof *q);
}

void fr_rows_complete(const fr_rows *r, const float *x, int width, bool ue8m0, int first, int n, int begin, int end,
                      atomic_int *done) {
    for (int block = begin / FR_BLOCK, to; begin < end; begin = to, block++) {
        int block_end = (block + 1) * FR_BLOCK < width ? (block + 1) * FR_BLOCK : width;
        to = end < block_end ? end : block_end;
        /* The order of the additions makes the others' columns visible to the last. */
        int made = atomic_fetch_add_explicit(&done[block], to - begin, memory_order_acq_rel) + to - begin;
        if (made < block_end - block * FR_BLOCK) continue;
        atomic_store_explicit(&done[block], 0, memory_order_relaxed);
        for (int i = 0; i < n; i++) fr_rows_quantize(r, x, width, ue8m0, first + i, block);
    }
}

/* Which backend packs quantized and which exact rows; NULL: none, linears read them as they are. */
typedef struct packers {
    const fr_prefill_backend *quantized, *exact;
} packers;

static packers packers_of(const fr_kernels *k, int width, unsigned inputs) {
    packers p = {NULL, NULL};
    if (inputs & FR_INPUT_QUANTIZED) p.quantized = fr_prefill_backend_of(k, true, width);
    if (inputs & FR_INPUT_EXACT) p.exact = fr_prefill_backend_of(k, false, width);
    if (p.quantized && !p.quantized->pack) p.quantized = NULL;
    if (p.exact && !p.exact->pack) p.exact = NULL;
    return p;
}

static void pack_block(const packers *p, fr_pack_job *job, int tile, int block) {
    job->quantized = true;
    if (p->quantized) p->quantized->pack(job, tile, block);
    job->quantized = false;
    if (p->exact) p->exact->pack(job, tile, block);
}

#define SPAN 4 /* blocks of a row that are quantized in one go, so that rows are read in long runs */

/* Quantizes and packs part `part` of `parts`. The unit of work is a span of blocks of one row, or of one tile of rows if they are
 * packed. */
void fr_rows_set_part(const fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0, int part, int parts) {
    packers by = {NULL, NULL};
    if (rows > FR_DECODE_ROWS && !(inputs & FR_INPUT_DECODE)) by = packers_of(r->kernels, width, inputs);
    bool pack = by.quantized || by.exact;
    int blocks = fr_blocks(width), span = pack ? SPAN : 1, spans = (blocks + span - 1) / span, begin, end;
    int tile = pack ? FR_TILE_TOKENS : 1, tiles = (rows + tile - 1) / tile;
    fr_rows from = {.x = x, .q = r->q, .scale = r->scale};
    fr_pack_job job = {.to = r, .from = &from, .rows = rows, .width = width};
    fr_split(tiles * spans, 1, parts, part, &begin, &end);
    for (int unit = begin; unit < end; unit++) {
        int t = unit / spans, first = unit % spans * span, last = first + span < blocks ? first + span : blocks;
        if ((inputs & FR_INPUT_QUANTIZED) && !(inputs & FR_INPUT_CODED))
            for (int i = t * tile; i < (t + 1) * tile && i < rows; i++)
                for (int block = first; block < last; block++) fr_rows_quantize(r, x, width, ue8m0, i, block);
        for (int block = first; pack && block < last; block++) pack_block(&by, &job, t, block);
    }
}

void fr_rows_set(fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0) {
    fr_rows_set_part(r, x, rows, width, inputs, ue8m0, fr_team_rank(), fr_team_size());
    if (fr_team_rank() == 0) fr_rows_begin(r, x, rows, width, inputs, ue8m0);
    fr_team_barrier();
}

void fr_rows_set_alone(fr_rows *r, const float *x, int rows, int width, unsigned inputs, bool ue8m0) {
    fr_rows_set_part(r, x, rows, width, inputs, ue8m0, 0, 1);
    fr_rows_begin(r, x, rows, width, inputs, ue8m0);
}

/* ---- Of several ranks ---- */

bool fr_rows_part_is_quantized(const fr_exchange *e, const fr_joint_rows *j) {
    return j->inputs & FR_INPUT_QUANTIZED && (e->ranks->size == 1 || j->unit % FR_BLOCK == 0);
}

void fr_rows_quantize_part(const fr_exchange *e, const fr_joint_rows *j, int begin, int end) {
    int first, last;
    fr_ranks_part(e->ranks, e->ranks->rank, j->width, j->unit, &first, &last);
    for (int row = begin; row < end; row++)
        for (int block = first / FR_BLOCK; block < fr_blocks(last); block++)
            fr_rows_quantize(j->to, j->x, j->width, j->ue8m0, row, block);
}

void fr_rows_exchange(const fr_exchange *e, const fr_joint_rows *joint, int count) {
    fr_plane planes[2 * FR_JOINT_ROWS] = {{0}};
    int n = 0;
    assert(count <= FR_JOINT_ROWS);
    for (const fr_joint_rows *j = joint; j < joint + count; j++) {
        size_t blocks = (size_t)fr_blocks(j->width), q = FR_BLOCK * sizeof *j->to->q, scale = sizeof *j->to->scale;
        if (fr_rows_part_is_quantized(e, j)) {
            planes[n++] = (fr_plane){j->to->q, j->rows, j->width, j->unit, blocks * q, FR_BLOCK, q, true};
            planes[n++] = (fr_plane){j->to->scale, j->rows, j->width, j->unit, blocks * scale, FR_BLOCK, scale, false};
        } else {
            planes[n++] = (fr_plane){j->x, j->rows, j->width, j->unit, (size_t)j->width * sizeof *j->x, 1, sizeof *j->x, false};
        }
    }
    fr_exchange_planes(e, planes, n);
}

void fr_rows_join(const fr_exchange *e, const fr_joint_rows *joint, int count) {
    fr_rows_exchange(e, joint, count);
    for (const fr_joint_rows *j = joint; j < joint + count; j++)
        if (j->inputs & FR_INPUT_QUANTIZED && !fr_rows_part_is_quantized(e, j))
            fr_rows_set(j->to, j->x, j->rows, j->width, j->inputs, j->ue8m0);
}

void fr_rows_set_joint(const fr_exchange *e, const fr_joint_rows *j) {
    bool coded = e->ranks->size > 1 && fr_rows_part_is_quantized(e, j);
    int begin, end;
    fr_team_split(j->rows, 1, &begin, &end);
    if (coded) fr_rows_quantize_part(e, j, begin, end);
    if (e->ranks->size > 1) fr_rows_exchange(e, j, 1);
    fr_rows_set(j->to, j->x, j->rows, j->width, coded ? j->inputs | FR_INPUT_CODED : j->inputs, j->ue8m0);
}

/* Without packing: the same rows, next to each other. pack_x is large enough for x (the assertion below fr_rows_take). */
void fr_rows_begin_gathered(fr_rows *r, int n, int width, unsigned inputs, bool ue8m0) {
    fr_rows_begin(r, (const float *)(const void *)r->pack_x, n, width, inputs, ue8m0);
}

static void copy_rows(const fr_rows *r, const fr_rows *from, const int *index, int begin, int end) {
    float *x = (float *)(void *)r->pack_x;
    int at = begin * FR_BLOCK, width = end * FR_BLOCK < r->width ? (end - begin) * FR_BLOCK : r->width - at;
    for (int i = 0; i < r->rows; i++)
        memcpy(x + (int64_t)i * r->width + at, from->x + (int64_t)index[i] * r->width + at, (size_t)width * sizeof *x);
}

static void copy_quantized(const fr_rows *r, const fr_rows *from, const int *index, int begin, int end) {
    int64_t blocks = fr_blocks(r->width);
    for (int i = 0; i < r->rows; i++) {
        int64_t to = i * blocks + begin, at = index[i] * blocks + begin;
        memcpy(r->q + to * FR_BLOCK, from->q + at * FR_BLOCK, (size_t)((end - begin) * FR_BLOCK) * sizeof *r->q);
        memcpy(r->scale + to, from->scale + at, (size_t)(end - begin) * sizeof *r->scale);
    }
}

void fr_rows_gather(const fr_rows *r, const fr_rows *from, const int *index, unsigned inputs, int begin, int end) {
    packers by = packers_of(r->kernels, r->width, inputs);
    fr_pack_job job = {.to = r, .from = from, .index = index, .rows = r->rows, .width = r->width};
    assert(r->rows > FR_DECODE_ROWS && from->kernels == r->kernels && from->width == r->width);
    for (int tile = 0; tile * FR_TILE_TOKENS < r->rows; tile++)
        for (int block = begin; block < end; block++) pack_block(&by, &job, tile, block);
    if ((inputs & FR_INPUT_EXACT) && !by.exact) copy_rows(r, from, index, begin, end);
    if ((inputs & FR_INPUT_QUANTIZED) && !by.quantized) copy_quantized(r, from, index, begin, end);
}

fr_rows fr_rows_from(const fr_rows *r, int first, int max_width) {
    assert(first % 16 == 0 && first < r->max_rows);
    fr_rows rest = *r;
    int64_t blocks = (int64_t)first * fr_blocks(max_width), floats = r->kernels->float_prefill ? 2 : 1;
    rest.max_rows -= first;
    if (r->q) rest.q += blocks * FR_BLOCK, rest.scale += blocks;
    if (r->pack_q) rest.pack_q += blocks * FR_BLOCK * floats, rest.pack_scale += blocks;
    if (r->pack_x) rest.pack_x += blocks * FR_BLOCK * 2;
    return rest;
}

fr_rows fr_rows_part(const fr_rows *r, int first, int n) {
    assert(first % FR_TILE_TOKENS == 0 && !r->quantized && (n % FR_TILE_TOKENS == 0 || first + n == r->rows));
    fr_rows part = *r;
    part.rows = n;
    part.x += (int64_t)first * r->width;
    part.pack_x += (int64_t)first * fr_blocks(r->width) * FR_BLOCK * 2;
    return part;
}
