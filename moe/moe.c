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
    if (compute->exchange.ranks->size > 1 && max_rows > FR_DECODE_ROWS) s->products = FR_TAKE(arena, float, slots *width);
    if (moe->has_shared) fr_mlp_scratch_take(&s->shared, arena, max_rows, moe->shared.gate_proj.out, compute);
}

unsigned fr_moe_inputs(const fr_moe *moe) {
    unsigned inputs = fr_linear_input(&moe->router.gate, false);
    for (int e = 0; e < moe->router.experts; e++) inputs |= fr_mlp_inputs(&moe->experts[e], moe->act_fp8);
    return moe->has_shared ? inputs | fr_mlp_inputs(&moe->shared, moe->act_fp8) : inputs;
}

/* What ranks make together of a decode pass: the products of the routed experts, by slot, and of the shared one. */
static fr_joint_rows routed_products(const fr_moe *moe, int rows, fr_moe_scratch *s) {
    return (fr_joint_rows){.to = &s->product,
                           .x = s->gate,
                           .rows = rows * moe->router.topk,
                           .width = moe->intermediate,
                           .unit = fr_cut_unit(moe->intermediate, s->compute->exchange.ranks->size),
                           .inputs = fr_linear_input(&moe->experts[0].down_proj, moe->act_fp8) | FR_INPUT_DECODE,
                           .ue8m0 = moe->act_ue8m0};
}

static fr_joint_rows shared_products(const fr_moe *moe, int rows, fr_moe_scratch *s) {
    const int width = moe->shared.gate_proj.out;
    return (fr_joint_rows){.to = &s->shared.rows,
                           .x = s->shared.gate,
                           .rows = rows,
                           .width = width,
                           .unit = fr_cut_unit(width, s->compute->exchange.ranks->size),
                           .inputs = fr_linear_input(&moe->shared.down_proj, moe->act_fp8),
                           .ue8m0 = moe->act_ue8m0};
}

/* Lists the MLPs of a decode pass; ONE THREAD. */
static void list_chosen(const fr_moe *moe, const fr_rows *x, float *y, fr_moe_scratch *s) {
    int width = moe->intermediate, blocks = (width + FR_BLOCK - 1) / FR_BLOCK;
    fr_joint_rows joint = routed_products(moe, x->rows, s);
    s->num_chosen = 0;
    fr_rows_begin(&s->product, s->gate, joint.rows, width, joint.inputs, moe->act_ue8m0);
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
                                                   .quantized = fr_rows_part_is_quantized(&s->compute->exchange, &joint),
                                                   .ue8m0 = moe->act_ue8m0,
                                                   .done = s->done + s->num_chosen * blocks,
                                                   .y = s->z + (size_t)first * (size_t)moe->hidden};
        s->num_chosen++;
    }
    if (!moe->has_shared) return;
    joint = shared_products(moe, x->rows, s);
    fr_rows_begin(&s->shared.rows, s->shared.gate, x->rows, joint.width, joint.inputs, moe->act_ue8m0);
    s->chosen[s->num_chosen++] = (fr_mlp_decode){.mlp = &moe->shared,
                                                 .x = x,
                                                 .index = s->slots,
                                                 .n = x->rows,
                                                 .product = &s->shared.rows,
                                                 .gate = s->shared.gate,
                                                 .up = s->shared.up,
                                                 .quantized = fr_rows_part_is_quantized(&s->compute->exchange, &joint),
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
    const fr_joint_rows joint[] = {routed_products(moe, rows, s), shared_products(moe, rows, s)};
    int total = 0, begin, end;
    for (int c = 0; c < s->num_chosen; c++) total += fr_whole_units(fr_linear_own(&s->chosen[c].mlp->gate_proj), 16);
    fr_share share = fr_team_share(total, 16);
    for (int c = 0; c < s->num_chosen; c++) {
        const fr_linear *gate = &s->chosen[c].mlp->gate_proj;
        if (fr_share_next(&share, fr_linear_own(gate), &begin, &end))
            fr_mlp_decode_product(&s->chosen[c], gate->before + begin, gate->before + end);
    }
    fr_rows_join(&s->compute->exchange, joint, moe->has_shared ? 2 : 1);
    fr_linear_split(&s->chosen[0].mlp->down_proj, &begin, &end);
    for (int c = 0; c < s->num_chosen && begin < end; c++) {
        const fr_mlp_decode *job = &s->chosen[c];
        fr_linear_decode(&job->mlp->down_proj, job->product, s->slots + job->first, job->n, begin, end, job->y, moe->hidden);
    }
    if (begin < end) add_experts(moe, rows, begin, end, y, delta, s);
    fr_linear_exchange(&s->chosen[0].mlp->down_proj, y, moe->hidden, rows, s->compute);
}

/* silu(gate) * up of an expert for slots [first, first + n), n <= ROWS_ALONE; of several ranks, each has its part of the columns.
 * Returns where it is, [n, intermediate]. ONE THREAD. */
static float *product_alone(const fr_moe *moe, const fr_mlp *expert, const fr_rows *x, int first, int n, fr_moe_scratch *s) {
    int width = moe->intermediate, thread = fr_team_rank(), begin, end, own = fr_linear_own(&expert->gate_proj);
    size_t at = (size_t)thread * (size_t)rows_alone(s->max_rows) * (size_t)width;
    float *gate = s->products ? s->products + (size_t)first * (size_t)width : s->gate_alone + at, *up = s->up_alone + at;
    fr_rows *gathered = &s->gathered[thread];
    fr_linear_own_range(&expert->gate_proj, n, &begin, &end);
    if (own == 0) return gate;
    if (n > FR_DECODE_ROWS) {
        fr_rows_gather(gathered, x, s->slot_row + first, n, fr_mlp_inputs(expert, moe->act_fp8));
        fr_linear_range(&expert->gate_proj, gathered, begin, end, gate, width, s->compute);
        fr_linear_range(&expert->up_proj, gathered, begin, end, up, width, s->compute);
    } else {
        fr_linear_decode(&expert->gate_proj, x, s->slot_row + first, n, begin, end, gate, width);
        fr_linear_decode(&expert->up_proj, x, s->slot_row + first, n, begin, end, up, width);
    }
    for (int i = 0; i < n; i++) {
        float *product = gate + (size_t)i * (size_t)width + expert->gate_proj.before;
        s->compute->kernels->silu_mul(product, product, up + (size_t)i * (size_t)width + expert->gate_proj.before, own);
    }
    return gate;
}

/* The expert's outputs for these slots. ONE THREAD. */
static void down_alone(const fr_moe *moe, const fr_mlp *expert, const float *product, int first, int n, fr_moe_scratch *s) {
    fr_rows *inner = &s->inner[fr_team_rank()];
    float *z = s->z + (size_t)first * (size_t)moe->hidden;
    int begin, end;
    fr_linear_own_range(&expert->down_proj, n, &begin, &end);
    if (begin == end) return;
    fr_rows_set_alone(inner, product, n, moe->intermediate, fr_linear_input(&expert->down_proj, moe->act_fp8), moe->act_ue8m0);
    fr_linear_range(&expert->down_proj, inner, begin, end, z, moe->hidden, s->compute);
}

enum { PRODUCT = 1, DOWN = 2 };

/* All slots of an expert. The regime goes by their number, so no lot may be left with few of many. */
static void run_expert_alone(const fr_moe *moe, int e, const fr_rows *x, unsigned what, fr_moe_scratch *s) {
    const fr_mlp *expert = &moe->experts[e];
    int first = s->first_slot[e], left = s->first_slot[e + 1] - first;
    while (left > 0) {
        int n = left <= ROWS_ALONE ? left : left - ROWS_ALONE > FR_DECODE_ROWS ? ROWS_ALONE : ROWS_ALONE / 2;
        const float *product = s->products ? s->products + (size_t)first * (size_t)moe->intermediate : NULL;
        if (what & PRODUCT) product = product_alone(moe, expert, x, first, n, s);
        if (what & DOWN) down_alone(moe, expert, product, first, n, s);
        first += n;
        left -= n;
    }
}

/* An expert is one thread's work. ALL THREADS. */
static void run_experts(const fr_moe *moe, const fr_rows *x, unsigned what, fr_moe_scratch *s) {
    int e;
    while ((e = atomic_fetch_add_explicit(&s->next_expert, 1, memory_order_relaxed)) < moe->router.experts)
        if (s->first_slot[e + 1] > s->first_slot[e]) run_expert_alone(moe, e, x, what, s);
}

static void begin_again(void *argument) {
    fr_moe_scratch *s = argument;
    atomic_store_explicit(&s->next_expert, 0, memory_order_relaxed);
}

/* Ranks exchange the products of all experts before anybody can go on with one. TEAM. */
static void run_experts_jointly(const fr_moe *moe, const fr_rows *x, fr_moe_scratch *s) {
    const fr_exchange *e = &s->compute->exchange;
    run_experts(moe, x, PRODUCT, s);
    fr_team_barrier_do(begin_again, s);
    fr_exchange_floats(e, s->products, x->rows * moe->router.topk, moe->intermediate,
                       fr_cut_unit(moe->intermediate, e->ranks->size));
    run_experts(moe, x, DOWN, s);
}

/* Prefill; TEAM. */
static void run_experts_prefill(const fr_moe *moe, const fr_rows *x, float *y, float *delta, fr_moe_scratch *s) {
    const fr_linear *down = &moe->experts[0].down_proj;
    int begin, end;
    if (s->products)
        run_experts_jointly(moe, x, s);
    else
        run_experts(moe, x, PRODUCT | DOWN, s);
    fr_team_barrier();
    if (moe->has_shared) {
        fr_mlp_product(&moe->shared, moe->act_fp8, moe->act_ue8m0, x, &s->shared);
        fr_linear_share(&moe->shared.down_proj, &s->shared.rows, delta, s->compute);
        fr_team_barrier();
    }
    fr_team_split(fr_linear_own(down), 16, &begin, &end);
    if (begin < end) add_experts(moe, x->rows, down->before + begin, down->before + end, y, delta, s);
    fr_linear_exchange(down, y, moe->hidden, x->rows, s->compute);
}

void fr_moe_forward(const fr_moe *moe, const fr_rows *x, float *y, float *delta, fr_moe_scratch *s) {
    assert(x->rows <= s->max_rows && fr_team_size() <= s->compute->threads);
    route_rows(&(routing){moe, x, delta, s});
    if (x->rows <= FR_DECODE_ROWS)
        run_experts_decode(moe, x->rows, y, delta, s);
    else
        run_experts_prefill(moe, x, y, delta, s);
}
