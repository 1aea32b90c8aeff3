#include "moe/lots.h"

#include <assert.h>

#include "core/kernels/prefill_layout.h"
#include "core/threads.h"

/* Rows of a lot: a whole tile, for which weights are converted once. */
enum { LOT_ROWS = FR_TILE_TOKENS, SPAN = 4 /* 128-blocks of a lot's rows that are packed in one go */ };
_Static_assert(LOT_ROWS > 2 * FR_DECODE_ROWS, "rows are cut into lots that are all of the prefill regime, or none is");

/* ---- Memory ---- */

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* Enough lots in a round for all threads, but for hundreds of them slices have to do. Ranks, who may have more threads or fewer,
 * go through the same rounds. */
static int room_of(int slots, const fr_compute *c) {
    const int most = 32, least = c->exchange.ranks->size > 1 ? most : 4;
    const int lots = c->threads < least ? least : smaller(c->threads, most);
    return smaller(slots, LOT_ROWS / 16 * lots) * 16;
}

void fr_lots_take(fr_lots *l, fr_arena *arena, int slots, int hidden, int intermediate, const fr_compute *c) {
    l->room = room_of(slots, c);
    const size_t products = (size_t)l->room * (size_t)intermediate;
    l->list = FR_TAKE(arena, fr_lot, l->room / 16);
    l->gate = FR_TAKE(arena, float, products);
    l->up = FR_TAKE(arena, float, products);
    fr_rows_take(&l->packed, arena, c->kernels, l->room, hidden > intermediate ? hidden : intermediate, FR_INPUT_ANY);
}

/* ---- Rounds ---- */

/* Rows of the next lot of an expert that has `left`. The regime goes by their number, so none may be left with few of many. */
static int lot_rows(int left) {
    return left <= LOT_ROWS ? left : left - LOT_ROWS > FR_DECODE_ROWS ? LOT_ROWS : LOT_ROWS / 2;
}

int fr_lot_slices(int lots, int outputs, int threads) {
    const int tiles = (outputs + FR_TILE_OUTPUTS - 1) / FR_TILE_OUTPUTS;
    const int wanted = threads == 1 ? 1 : (4 * threads + lots - 1) / lots;
    return smaller(wanted, tiles);
}

static int slices_of(const fr_linear *w, int lots) {
    int begin, end;
    fr_linear_own_range(w, LOT_ROWS, &begin, &end);
    return lots > 0 ? fr_lot_slices(lots, end - begin, fr_team_size()) : 0;
}

static int spans(int width) {
    return (fr_blocks(width) + SPAN - 1) / SPAN;
}

static void add_lot(const fr_lots_job *j, int n, int row) {
    fr_lots *l = j->lots;
    fr_lot *lot = &l->list[l->count++];
    *lot = (fr_lot){.expert = l->mlp, .first = l->slot, .n = n, .row = row};
    lot->in = fr_rows_from(&l->packed, row, j->hidden > j->intermediate ? j->hidden : j->intermediate);
    lot->inner = lot->in;
    fr_rows_begin_gathered(&lot->in, n, j->hidden, fr_mlp_inputs(lot->expert, j->act_fp8), j->ue8m0);
    fr_rows_begin(&lot->inner, l->gate + (size_t)row * (size_t)j->intermediate, n, j->intermediate,
                  fr_linear_input(&lot->expert->down_proj, j->act_fp8), j->ue8m0);
    l->slot += n;
}

/* Goes on with another expert; false: there is none. */
static bool next_expert(const fr_lots_job *j) {
    fr_lots *l = j->lots;
    if (j->take) {
        l->mlp = j->take(j->user, l->count == 0, &l->expert);
    } else {
        do l->expert++;
        while (l->expert < j->count && j->first_slot[l->expert] == j->first_slot[l->expert + 1]);
        l->mlp = l->expert < j->count ? &j->experts[l->expert] : NULL;
    }
    if (!l->mlp) return false;
    l->slot = j->first_slot[l->expert];
    l->end = j->first_slot[l->expert + 1];
    return true;
}

/* As many lots as there is room for. ONE THREAD. */
static void plan_round(void *argument) {
    const fr_lots_job *j = argument;
    fr_lots *l = j->lots;
    int row = 0;
    l->count = 0;
    if (j->give_back) j->give_back(j->user, l->slot < l->end);
    while (l->slot < l->end || next_expert(j)) {
        int n = lot_rows(l->end - l->slot), padded = (n + 15) / 16 * 16;
        if (row + padded > l->room) break;
        add_lot(j, n, row);
        row += padded;
    }
    assert(l->count > 0 || l->slot == l->end);
    l->units[FR_LOT_GATHER] = spans(j->hidden);
    l->units[FR_LOT_PACK] = spans(j->intermediate);
    l->units[FR_LOT_PRODUCT] = slices_of(&j->experts[0].gate_proj, l->count);
    l->units[FR_LOT_DOWN] = slices_of(&j->experts[0].down_proj, l->count);
    for (int p = 0; p < FR_LOT_PHASES; p++) atomic_store_explicit(&l->next[p], 0, memory_order_relaxed);
}

void fr_lots_begin(const fr_lots_job *j) {
    j->lots->expert = -1;
    j->lots->slot = j->lots->end = 0;
    plan_round((void *)j);
}

/* ---- Phases: unit `unit` of `units` of a lot. ONE THREAD. ---- */

static void gather(const fr_lots_job *j, fr_lot *lot, int unit, int units) {
    int begin, end;
    if (lot->n <= FR_DECODE_ROWS) return; /* they are read where they are */
    fr_split(fr_blocks(j->hidden), 1, units, unit, &begin, &end);
    fr_rows_gather(&lot->in, j->x, j->slot_row + lot->first, fr_mlp_inputs(lot->expert, j->act_fp8), begin, end);
}

/* A slice [*begin, *end) of the outputs that are this rank's, in whole tiles in prefill. */
static void slice_of(const fr_linear *w, const fr_lot *lot, int unit, int units, int *begin, int *end) {
    int first, last;
    fr_linear_own_range(w, lot->n, &first, &last);
    fr_split(last - first, FR_TILE_OUTPUTS, units, unit, begin, end);
    *begin += first;
    *end += first;
}

static void multiply(const fr_lots_job *j, fr_lot *lot, int unit, int units) {
    const fr_mlp *e = lot->expert;
    const int width = j->intermediate, *rows = j->slot_row + lot->first;
    float *gate = j->lots->gate + (size_t)lot->row * (size_t)width, *up = j->lots->up + (size_t)lot->row * (size_t)width;
    int begin, end;
    slice_of(&e->gate_proj, lot, unit, units, &begin, &end);
    if (begin == end) return;
    if (lot->n > FR_DECODE_ROWS) {
        fr_linear_range(&e->gate_proj, &lot->in, begin, end, gate, width, j->compute);
        fr_linear_range(&e->up_proj, &lot->in, begin, end, up, width, j->compute);
    } else {
        fr_linear_decode(&e->gate_proj, j->x, rows, lot->n, begin, end, gate, width);
        fr_linear_decode(&e->up_proj, j->x, rows, lot->n, begin, end, up, width);
    }
    for (int i = 0; i < lot->n; i++) {
        size_t at = (size_t)i * (size_t)width + (size_t)begin;
        j->compute->kernels->silu_mul(gate + at, gate + at, up + at, end - begin);
    }
}

/* A lot's products, of which ranks have their parts. */
static fr_joint_rows products_of(const fr_lots_job *j, fr_lot *lot) {
    return (fr_joint_rows){.to = &lot->inner,
                           .x = j->lots->gate + (size_t)lot->row * (size_t)j->intermediate,
                           .rows = lot->n,
                           .width = j->intermediate,
                           .unit = fr_cut_unit(j->intermediate, j->compute->exchange.ranks->size),
                           .inputs = fr_linear_input(&lot->expert->down_proj, j->act_fp8),
                           .ue8m0 = j->ue8m0};
}

static bool travel_as_codes(const fr_lots_job *j, const fr_joint_rows *products) {
    const fr_exchange *e = &j->compute->exchange;
    return e->ranks->size > 1 && fr_rows_part_is_quantized(e, products);
}

static void pack(const fr_lots_job *j, fr_lot *lot, int unit, int units) {
    const fr_joint_rows products = products_of(j, lot);
    unsigned input = products.inputs;
    if (travel_as_codes(j, &products)) input |= FR_INPUT_CODED;
    fr_rows_set_part(&lot->inner, lot->inner.x, lot->n, j->intermediate, input, j->ue8m0, unit, units);
}

static void multiply_down(const fr_lots_job *j, fr_lot *lot, int unit, int units) {
    const fr_linear *down = &lot->expert->down_proj;
    int begin, end;
    slice_of(down, lot, unit, units, &begin, &end);
    if (begin < end)
        fr_linear_range(down, &lot->inner, begin, end, j->z + (size_t)lot->first * (size_t)j->hidden, j->hidden, j->compute);
}

static void run_phase(const fr_lots_job *j, int phase) {
    static void (*const work[FR_LOT_PHASES])(const fr_lots_job *, fr_lot *, int, int) = {gather, multiply, pack, multiply_down};
    fr_lots *l = j->lots;
    const int units = l->units[phase];
    int u;
    while ((u = atomic_fetch_add_explicit(&l->next[phase], 1, memory_order_relaxed)) < l->count * units)
        work[phase](j, &l->list[u / units], u % units, units);
}

/* TEAM. With one rank nothing. */
static void exchange_products(const fr_lots_job *j) {
    const fr_exchange *e = &j->compute->exchange;
    fr_lots *l = j->lots;
    for (int at = 0, n; e->ranks->size > 1 && at < l->count; at += n) {
        fr_joint_rows joint[FR_JOINT_ROWS] = {{0}};
        n = smaller(l->count - at, FR_JOINT_ROWS);
        for (int i = 0; i < n; i++) {
            int begin, end;
            joint[i] = products_of(j, &l->list[at + i]);
            fr_team_split(joint[i].rows, 1, &begin, &end);
            if (travel_as_codes(j, &joint[i])) fr_rows_quantize_part(e, &joint[i], begin, end);
        }
        fr_rows_exchange(e, joint, n);
    }
}

void fr_lots_run(const fr_lots_job *j) {
    while (j->lots->count > 0) {
        run_phase(j, FR_LOT_GATHER);
        fr_team_barrier();
        run_phase(j, FR_LOT_PRODUCT);
        fr_team_barrier();
        exchange_products(j);
        run_phase(j, FR_LOT_PACK);
        fr_team_barrier();
        run_phase(j, FR_LOT_DOWN);
        fr_team_barrier_do(plan_round, (void *)j);
    }
}
