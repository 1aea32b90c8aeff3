#include "moe/moe.h"

#include <assert.h>

#include "core/kernels/prefill_layout.h"
#include "core/threads.h"

/* Rows of an expert that a thread takes at a time in prefill. Every thread has memory for as many, and there may be hundreds of
 * threads. A whole tile: weights are converted once for it. */
enum { ROWS_ALONE = FR_TILE_TOKENS };
_Static_assert(ROWS_ALONE > 2 * FR_DECODE_ROWS, "an expert's rows are cut into lots that are all of the prefill regime");

/* Rows of a lot, at most. */
static int rows_alone(int max_rows) {
    return max_rows < ROWS_ALONE ? max_rows : ROWS_ALONE;
}

void fr_moe_scratch_take(fr_moe_scratch *s, fr_arena *arena, const fr_moe *moe, int max_rows, const fr_compute *compute) {
    const fr_router *r = &moe->router;
    const int threads = compute->threads;
    size_t rows = (size_t)max_rows, slots = rows * (size_t)r->topk, width = (size_t)moe->intermediate;
    int decode_slots = (max_rows < FR_DECODE_ROWS ? max_rows : FR_DECODE_ROWS) * r->topk;
    s->compute = compute;
    s->max_rows = max_rows;
    s->scores = FR_TAKE(arena, float, rows *(size_t)r->experts);
    s->work = FR_TAKE(arena, float, (size_t)threads *(size_t)(r->experts + r->groups));
    s->ids = FR_TAKE(arena, int32_t, slots);
    s->weights = FR_TAKE(arena, float, slots);
    s->slot = FR_TAKE(arena, int, slots);
    s->slot_row = FR_TAKE(arena, int, slots);
    s->first_slot = FR_TAKE(arena, int, (size_t)r->experts + 1);
    s->next_slot = FR_TAKE(arena, int, r->experts);
    s->slots = FR_TAKE(arena, int, slots);
    for (size_t i = 0; s->slots && i < slots; i++) s->slots[i] = (int)i;
    size_t most_chosen = (size_t)(decode_slots < r->experts ? decode_slots : r->experts);
    size_t blocks = (width + FR_BLOCK - 1) / FR_BLOCK;
    s->chosen = FR_TAKE(arena, fr_mlp_decode, most_chosen + 1);
    s->done = FR_TAKE(arena, atomic_int, most_chosen * blocks);
    for (size_t i = 0; s->done && i < most_chosen * blocks; i++) atomic_init(&s->done[i], 0);
    s->gate = FR_TAKE(arena, float, (size_t)decode_slots *width);
    s->up = FR_TAKE(arena, float, (size_t)decode_slots *width);
    fr_rows_take(&s->product, arena, compute->kernels, decode_slots, moe->intermediate, FR_INPUT_ANY | FR_INPUT_DECODE);
    s->gathered = FR_TAKE(arena, fr_rows, threads);
    s->inner = FR_TAKE(arena, fr_rows, threads);
    const int alone = rows_alone(max_rows);
    for (int t = 0; t < threads; t++) {
        fr_rows unused; /* while counting there is no array to write to */
        fr_rows_take(s->gathered ? &s->gathered[t] : &unused, arena, compute->kernels, alone, moe->hidden, FR_INPUT_ANY);
        fr_rows_take(s->inner ? &s->inner[t] : &unused, arena, compute->kernels, alone, moe->intermediate, FR_INPUT_ANY);
    }
    s->gate_alone = FR_TAKE(arena, float, (size_t)threads *(size_t)alone *width);
    s->up_alone = FR_TAKE(arena, float, (size_t)threads *(size_t)alone *width);
    s->z = FR_TAKE(arena, float, slots *(size_t)moe->hidden);
    if (moe->has_shared) fr_mlp_scratch_take(&s->shared, arena, max_rows, moe->shared.gate_proj.out, compute);
}

unsigned fr_moe_inputs(const fr_moe *moe) {
    unsigned inputs = fr_linear_input(&moe->router.gate, false);
    for (int e = 0; e < moe->router.experts; e++) inputs |= fr_mlp_inputs(&moe->experts[e], moe->act_fp8);
    return moe->has_shared ? inputs | fr_mlp_inputs(&moe->shared, moe->act_fp8) : inputs;
}

/* Lists the MLPs of a decode pass; ONE THREAD. */
static void list_chosen(const fr_moe *moe, const fr_rows *x, float *y, fr_moe_scratch *s) {
    int width = moe->intermediate, blocks = (width + FR_BLOCK - 1) / FR_BLOCK;
    unsigned input = fr_linear_input(&moe->experts[0].down_proj, moe->act_fp8);
    s->num_chosen = 0;
    fr_rows_begin(&s->product, s->gate, x->rows * moe->router.topk, width, input, moe->act_ue8m0);
    for (int e = 0; e < moe->router.experts; e++) {
        int first = s->first_slot[e], n = s->first_slot[e + 1] - first;
        if (n == 0) continue;
        s->chosen[s->num_chosen] = (fr_mlp_decode){.mlp = &moe->experts[e],
                                                   .x = x,
                                                   .index = s->slot_row + first,
                                                   .n = n,
                                                   .product = &s->product,
                                                   .gate = s->gate + (size_t)first * (size_t)width,
                                                   .up = s->up + (size_t)first * (size_t)width,
                                                   .first = first,
                                                   .quantized = input & FR_INPUT_QUANTIZED,
                                                   .ue8m0 = moe->act_ue8m0,
                                                   .done = s->done + s->num_chosen * blocks,
                                                   .y = s->z + (size_t)first * (size_t)moe->hidden};
        s->num_chosen++;
    }
    if (!moe->has_shared) return;
    input = fr_linear_input(&moe->shared.down_proj, moe->act_fp8);
    fr_rows_begin(&s->shared.rows, s->shared.gate, x->rows, moe->shared.gate_proj.out, input, moe->act_ue8m0);
    s->chosen[s->num_chosen++] = (fr_mlp_decode){.mlp = &moe->shared,
                                                 .x = x,
                                                 .index = s->slots,
                                                 .n = x->rows,
                                                 .product = &s->shared.rows,
                                                 .gate = s->shared.gate,
                                                 .up = s->shared.up,
                                                 .quantized = input & FR_INPUT_QUANTIZED,
                                                 .ue8m0 = moe->act_ue8m0,
                                                 .done = s->shared.done,
                                                 .y = y};
}

/* A pass's routing: what the threads need for it. */
typedef struct routing {
    const fr_moe *moe;
    const fr_rows *x;
    float *delta;
    fr_moe_scratch *s;
} routing;

/* Experts of rows [begin, end). ONE THREAD. */
static void choose_experts(const routing *c, int begin, int end) {
    const fr_router *r = &c->moe->router;
    for (int i = begin; i < end; i++)
        fr_route(r, c->s->scores + (size_t)i * (size_t)r->experts,
                 c->s->work + (size_t)fr_team_rank() * (size_t)(r->experts + r->groups), c->s->ids + i * r->topk,
                 c->s->weights + i * r->topk);
}

/* Sorts (row, expert) pairs into slots. ONE THREAD. */
static void sort_into_slots(void *argument) {
    const routing *c = argument;
    const fr_router *r = &c->moe->router;
    fr_moe_scratch *s = c->s;
    int count = c->x->rows * r->topk;
    atomic_store_explicit(&s->next_expert, 0, memory_order_relaxed);
    memset(s->first_slot, 0, ((size_t)r->experts + 1) * sizeof(int));
    for (int i = 0; i < count; i++) s->first_slot[s->ids[i] + 1]++;
    for (int e = 0; e < r->experts; e++) {
        s->first_slot[e + 1] += s->first_slot[e];
        s->next_slot[e] = s->first_slot[e];
    }
    for (int i = 0; i < count; i++) { /* rows in ascending order within an expert */
        s->slot[i] = s->next_slot[s->ids[i]]++;
        s->slot_row[s->slot[i]] = i / r->topk;
    }
    if (c->x->rows <= FR_DECODE_ROWS) list_chosen(c->moe, c->x, c->delta, s);
}

static void choose_and_sort(void *argument) {
    const routing *c = argument;
    choose_experts(c, 0, c->x->rows);
    sort_into_slots(argument);
}

enum { ROWS_ROUTED_ALONE = 2 }; /* it takes one thread as long as a barrier does */

/* Chooses experts for all rows and sorts (row, expert) pairs into slots; TEAM. */
static void route_rows(const routing *c) {
    const fr_linear *gate = &c->moe->router.gate;
    int begin, end;
    fr_linear_share(gate, c->x, c->s->scores, c->s->compute);
    if (c->x->rows <= ROWS_ROUTED_ALONE) {
        fr_team_barrier_do(choose_and_sort, (void *)c);
        return;
    }
    fr_team_barrier();
    fr_team_split(c->x->rows, 1, &begin, &end);
    choose_experts(c, begin, end);
    fr_team_barrier_do(sort_into_slots, (void *)c);
}

/* Outputs [begin, end) of all rows: the weighted sum of the experts' in ascending order of ids, onto the shared one's in delta,
 * added to y. ONE THREAD. */
static void add_experts(const fr_moe *moe, int rows, int begin, int end, float *y, float *delta, const fr_moe_scratch *s) {
    for (int i = 0; i < rows; i++) {
        float *sum = delta + (size_t)i * (size_t)moe->hidden, *to = y + (size_t)i * (size_t)moe->hidden;
        if (!moe->has_shared) memset(sum + begin, 0, (size_t)(end - begin) * sizeof *sum);
        for (int k = 0; k < moe->router.topk; k++) {
            size_t slot = (size_t)s->slot[i * moe->router.topk + k];
            s->compute->kernels->axpy_f32(sum + begin, s->weights[i * moe->router.topk + k],
                                          s->z + slot * (size_t)moe->hidden + begin, end - begin);
        }
        for (int j = begin; j < end; j++) to[j] += sum[j];
    }
}

/* Decode. The first sweep is over gate_proj and up_proj of all chosen MLPs, laid end to end; in the second a thread owns outputs
 * of all of them; TEAM. */
static void run_experts_decode(const fr_moe *moe, int rows, float *y, float *delta, fr_moe_scratch *s) {
    int total = 0, begin, end;
    for (int c = 0; c < s->num_chosen; c++) total += fr_whole_units(s->chosen[c].mlp->gate_proj.out, 16);
    fr_share share = fr_team_share(total, 16);
    for (int c = 0; c < s->num_chosen; c++)
        if (fr_share_next(&share, s->chosen[c].mlp->gate_proj.out, &begin, &end))
            fr_mlp_decode_product(&s->chosen[c], begin, end);
    fr_team_barrier();
    fr_linear_split(&s->chosen[0].mlp->down_proj, &begin, &end);
    for (int c = 0; c < s->num_chosen && begin < end; c++) {
        const fr_mlp_decode *job = &s->chosen[c];
        fr_linear_decode(&job->mlp->down_proj, job->product, s->slots + job->first, job->n, begin, end, job->y, moe->hidden);
    }
    if (begin < end) add_experts(moe, rows, begin, end, y, delta, s);
    fr_team_barrier();
}

/* An expert's whole MLP for slots [first, first + n), n <= ROWS_ALONE, by one thread. */
static void run_slots_alone(const fr_moe *moe, const fr_mlp *expert, const fr_rows *x, int first, int n, fr_moe_scratch *s) {
    int width = moe->intermediate, thread = fr_team_rank();
    size_t at = (size_t)thread * (size_t)rows_alone(s->max_rows) * (size_t)width;
    float *gate = s->gate_alone + at, *up = s->up_alone + at, *z = s->z + (size_t)first * (size_t)moe->hidden;
    fr_rows *gathered = &s->gathered[thread], *inner = &s->inner[thread];
    if (n > FR_DECODE_ROWS) {
        fr_rows_gather(gathered, x, s->slot_row + first, n, fr_mlp_inputs(expert, moe->act_fp8));
        fr_linear_range(&expert->gate_proj, gathered, 0, width, gate, width, s->compute);
        fr_linear_range(&expert->up_proj, gathered, 0, width, up, width, s->compute);
    } else {
        fr_linear_decode(&expert->gate_proj, x, s->slot_row + first, n, 0, width, gate, width);
        fr_linear_decode(&expert->up_proj, x, s->slot_row + first, n, 0, width, up, width);
    }
    s->compute->kernels->silu_mul(gate, gate, up, n * width);
    fr_rows_set_alone(inner, gate, n, width, fr_linear_input(&expert->down_proj, moe->act_fp8), moe->act_ue8m0);
    fr_linear_range(&expert->down_proj, inner, 0, moe->hidden, z, moe->hidden, s->compute);
}

/* All slots of an expert. The regime goes by their number, so no lot may be left with few of many. */
static void run_expert_alone(const fr_moe *moe, int e, const fr_rows *x, fr_moe_scratch *s) {
    int first = s->first_slot[e], left = s->first_slot[e + 1] - first;
    while (left > 0) {
        int n = left <= ROWS_ALONE ? left : left - ROWS_ALONE > FR_DECODE_ROWS ? ROWS_ALONE : ROWS_ALONE / 2;
        run_slots_alone(moe, &moe->experts[e], x, first, n, s);
        first += n;
        left -= n;
    }
}

/* Prefill; TEAM. */
static void run_experts_prefill(const fr_moe *moe, const fr_rows *x, float *y, float *delta, fr_moe_scratch *s) {
    int begin, end, e;
    while ((e = atomic_fetch_add_explicit(&s->next_expert, 1, memory_order_relaxed)) < moe->router.experts)
        if (s->first_slot[e + 1] > s->first_slot[e]) run_expert_alone(moe, e, x, s);
    fr_team_barrier();
    if (moe->has_shared) {
        fr_mlp_product(&moe->shared, moe->act_fp8, moe->act_ue8m0, x, &s->shared);
        fr_linear_forward(&moe->shared.down_proj, &s->shared.rows, delta, moe->hidden, s->compute);
    }
    fr_team_split(moe->hidden, 16, &begin, &end);
    if (begin < end) add_experts(moe, x->rows, begin, end, y, delta, s);
    fr_team_barrier();
}

void fr_moe_forward(const fr_moe *moe, const fr_rows *x, float *y, float *delta, fr_moe_scratch *s) {
    assert(x->rows <= s->max_rows && fr_team_size() <= s->compute->threads);
    route_rows(&(routing){moe, x, delta, s});
    if (x->rows <= FR_DECODE_ROWS)
        run_experts_decode(moe, x->rows, y, delta, s);
    else
        run_experts_prefill(moe, x, y, delta, s);
}
