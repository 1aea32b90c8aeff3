#include "moe/moe.h"

#include <assert.h>

#include "core/threads.h"

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
    s->most_chosen = (int)most_chosen;
    s->chosen = FR_TAKE(arena, fr_mlp_decode, most_chosen + 1);
    s->done = FR_TAKE(arena, atomic_int, most_chosen * blocks);
    for (size_t i = 0; s->done && i < most_chosen * blocks; i++) atomic_init(&s->done[i], 0);
    fr_expert_pass_take_memory(&s->experts, arena, r->experts);
    s->in_use = FR_TAKE(arena, fr_expert_use, r->experts);
    s->next_scores = FR_TAKE(arena, float, FR_DECODE_ROWS *(size_t)r->experts);
    s->next_ids = FR_TAKE(arena, int32_t, r->topk);
    s->next_weights = FR_TAKE(arena, float, r->topk);
    s->gate = FR_TAKE(arena, float, (size_t)decode_slots *width);
    s->up = FR_TAKE(arena, float, (size_t)decode_slots *width);
    fr_rows_take(&s->product, arena, compute->kernels, decode_slots, moe->intermediate, FR_INPUT_ANY | FR_INPUT_DECODE);
    if (max_rows > FR_DECODE_ROWS) fr_lots_take(&s->lots, arena, (int)slots, moe->hidden, moe->intermediate, compute);
    s->z = FR_TAKE(arena, float, slots *(size_t)moe->hidden);
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

/* A pass's routing: what the threads need for it. */
typedef struct routing {
    const fr_moe *moe;
    const fr_rows *x;
    float *delta;
    fr_moe_scratch *s;
} routing;

static int rows_of_expert(const fr_moe_scratch *s, int e) {
    return s->first_slot[e + 1] - s->first_slot[e];
}

/* Adds a chosen expert to the MLPs that threads share in a decode pass; ONE THREAD. */
static void add_chosen(const routing *c, int e, const fr_mlp *mlp) {
    fr_moe_scratch *s = c->s;
    assert(s->num_chosen < s->most_chosen); /* the shared expert comes last */
    int width = c->moe->intermediate, blocks = (width + FR_BLOCK - 1) / FR_BLOCK, first = s->first_slot[e];
    fr_joint_rows joint = routed_products(c->moe, c->x->rows, s);
    s->chosen[s->num_chosen] = (fr_mlp_decode){.mlp = mlp,
                                               .x = c->x,
                                               .index = s->slot_row + first,
                                               .n = rows_of_expert(s, e),
                                               .product = &s->product,
                                               .gate = s->gate + (size_t)first * (size_t)width,
                                               .up = s->up + (size_t)first * (size_t)width,
                                               .first = first,
                                               .quantized = fr_rows_part_is_quantized(&s->compute->exchange, &joint),
                                               .ue8m0 = c->moe->act_ue8m0,
                                               .done = s->done + s->num_chosen * blocks,
                                               .y = s->z + (size_t)first * (size_t)c->moe->hidden};
    s->num_chosen++;
}

static void add_shared(const routing *c) {
    const fr_moe *moe = c->moe;
    fr_moe_scratch *s = c->s;
    fr_joint_rows joint = shared_products(moe, c->x->rows, s);
    fr_rows_begin(&s->shared.rows, s->shared.gate, c->x->rows, joint.width, joint.inputs, moe->act_ue8m0);
    s->chosen[s->num_chosen++] = (fr_mlp_decode){.mlp = &moe->shared,
                                                 .x = c->x,
                                                 .index = s->slots,
                                                 .n = c->x->rows,
                                                 .product = &s->shared.rows,
                                                 .gate = s->shared.gate,
                                                 .up = s->shared.up,
                                                 .quantized = fr_rows_part_is_quantized(&s->compute->exchange, &joint),
                                                 .ue8m0 = moe->act_ue8m0,
                                                 .done = s->shared.done,
                                                 .y = c->delta};
}

/* ---- Streamed experts -------------------------------------------------------------------------------------------- */

/* The next layer's experts, as its router would choose them for these rows: most of them are those that it will choose. ONE
 * THREAD.
 */
static void foresee(const routing *c) {
    const fr_moe *next = c->moe->next;
    fr_moe_scratch *s = c->s;
    const fr_router *r = &next->router;
    float *work = s->work + (size_t)fr_team_rank() * (size_t)(r->experts + r->groups);
    for (int i = 0; i < c->x->rows; i++) {
        fr_route(r, s->next_scores + (size_t)i * (size_t)r->experts, work, s->next_ids, s->next_weights);
        fr_experts_foresee(next->streamed, &s->experts, next->streamed_layer, s->next_ids, r->topk);
    }
}

static void give_back(const routing *c) {
    fr_experts_give_back(c->moe->streamed, c->s->in_use, c->s->num_in_use);
    c->s->num_in_use = 0;
}

/* The experts that are there; wait: or the next to come. ONE THREAD. */
static void take_experts(const routing *c, bool wait) {
    fr_moe_scratch *s = c->s;
    fr_expert_use use;
    while (fr_experts_take(c->moe->streamed, &s->experts, wait && s->num_chosen == 0, &use)) {
        s->in_use[s->num_in_use++] = use;
        add_chosen(c, use.id, fr_experts_mlp(c->moe->streamed, use.slot));
    }
}

static void go_on_with_others(void *argument) {
    const routing *c = argument;
    give_back(c);
    c->s->num_chosen = 0;
    take_experts(c, true);
}

static void end_pass(void *argument) {
    give_back(argument);
}

/* ---- Prefill ----------------------------------------------------------------------------------------------------- */

static const fr_mlp *take_expert(void *user, bool wait, int *expert) {
    const routing *c = user;
    fr_expert_use use;
    if (!fr_experts_take(c->moe->streamed, &c->s->experts, wait, &use)) return NULL;
    c->s->in_use[c->s->num_in_use++] = use;
    *expert = use.id;
    return fr_experts_mlp(c->moe->streamed, use.slot);
}

static void give_back_all_but(void *user, int kept) {
    const routing *c = user;
    fr_moe_scratch *s = c->s;
    fr_experts_give_back(c->moe->streamed, s->in_use, s->num_in_use - kept);
    if (kept > 0) s->in_use[0] = s->in_use[s->num_in_use - 1];
    s->num_in_use = kept;
}

static fr_lots_job lots_of(const routing *c) {
    const fr_moe *moe = c->moe;
    fr_moe_scratch *s = c->s;
    return (fr_lots_job){.lots = &s->lots,
                         .experts = moe->experts,
                         .count = moe->router.experts,
                         .hidden = moe->hidden,
                         .intermediate = moe->intermediate,
                         .act_fp8 = moe->act_fp8,
                         .ue8m0 = moe->act_ue8m0,
                         .first_slot = s->first_slot,
                         .slot_row = s->slot_row,
                         .x = c->x,
                         .z = s->z,
                         .compute = s->compute,
                         .take = moe->streamed ? take_expert : NULL,
                         .give_back = moe->streamed ? give_back_all_but : NULL,
                         .user = (void *)c};
}

/* ---- Routing ----------------------------------------------------------------------------------------------------- */

/* Says which experts are needed, and lists those that threads begin with; ONE THREAD. */
static void list_chosen(const routing *c) {
    const fr_moe *moe = c->moe;
    fr_moe_scratch *s = c->s;
    fr_joint_rows joint = routed_products(moe, c->x->rows, s);
    s->num_chosen = 0;
    fr_rows_begin(&s->product, s->gate, joint.rows, joint.width, joint.inputs, moe->act_ue8m0);
    for (int e = 0; !moe->streamed && e < moe->router.experts; e++)
        if (rows_of_expert(s, e) > 0) add_chosen(c, e, &moe->experts[e]);
    if (moe->streamed && moe->next) foresee(c);
    if (moe->streamed) take_experts(c, !moe->has_shared);
    if (moe->has_shared) add_shared(c);
}

/* The experts of the pass, for those who read them; ONE THREAD. */
static void begin_streaming(const routing *c) {
    fr_moe_scratch *s = c->s;
    for (int e = 0; e < c->moe->router.experts; e++) s->next_slot[e] = rows_of_expert(s, e);
    fr_experts_begin(c->moe->streamed, &s->experts, c->moe->streamed_layer, s->next_slot, c->x->rows,
                     c->x->rows > FR_DECODE_ROWS);
}

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
    if (c->moe->streamed) begin_streaming(c);
    if (c->x->rows <= FR_DECODE_ROWS) {
        list_chosen(c);
    } else {
        const fr_lots_job job = lots_of(c);
        fr_lots_begin(&job);
    }
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
    if (c->moe->streamed && c->moe->next && c->x->rows <= FR_DECODE_ROWS)
        fr_linear_share(&c->moe->next->router.gate, c->x, c->s->next_scores, c->s->compute);
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

/* Decode. The first sweep is over gate_proj and up_proj of the listed MLPs, laid end to end; in the second a thread owns outputs
 * [begin, end) of all of them; TEAM. */
static void run_chosen(const fr_moe *moe, int rows, int begin, int end, fr_moe_scratch *s) {
    const fr_joint_rows joint[] = {routed_products(moe, rows, s), shared_products(moe, rows, s)};
    int total = 0, from, to;
    for (int c = 0; c < s->num_chosen; c++) total += fr_whole_units(fr_linear_own(&s->chosen[c].mlp->gate_proj), 16);
    fr_share share = fr_team_share(total, 16);
    for (int c = 0; c < s->num_chosen; c++) {
        const fr_linear *gate = &s->chosen[c].mlp->gate_proj;
        if (fr_share_next(&share, fr_linear_own(gate), &from, &to))
            fr_mlp_decode_product(&s->chosen[c], gate->before + from, gate->before + to);
    }
    fr_rows_join(&s->compute->exchange, joint, moe->has_shared ? 2 : 1);
    for (int c = 0; c < s->num_chosen && begin < end; c++) {
        const fr_mlp_decode *job = &s->chosen[c];
        fr_linear_decode(&job->mlp->down_proj, job->product, s->slots + job->first, job->n, begin, end, job->y, moe->hidden);
    }
}

/* All MLPs are listed, or if they are streamed, they come one lot after the other; TEAM. */
static void run_experts_decode(const routing *c, float *y) {
    const fr_linear *down = &c->moe->experts[0].down_proj;
    int rows = c->x->rows, begin, end;
    fr_linear_split(down, &begin, &end);
    run_chosen(c->moe, rows, begin, end, c->s);
    while (c->s->experts.num_wanted > 0) { /* changes at the barrier only */
        fr_team_barrier_do(go_on_with_others, (void *)c);
        run_chosen(c->moe, rows, begin, end, c->s);
    }
    if (begin < end) add_experts(c->moe, rows, begin, end, y, c->delta, c->s);
    if (c->moe->streamed)
        fr_team_barrier_do(end_pass, (void *)c);
    else
        fr_linear_exchange(down, y, c->moe->hidden, rows, c->s->compute);
}

/* Prefill; TEAM. */
static void run_experts_prefill(const routing *c, float *y) {
    const fr_moe *moe = c->moe;
    const fr_rows *x = c->x;
    fr_moe_scratch *s = c->s;
    const fr_linear *down = &moe->experts[0].down_proj;
    const fr_lots_job job = lots_of(c);
    int begin, end;
    fr_lots_run(&job);
    if (moe->has_shared) {
        fr_mlp_product(&moe->shared, moe->act_fp8, moe->act_ue8m0, x, &s->shared);
        fr_linear_share(&moe->shared.down_proj, &s->shared.rows, c->delta, s->compute);
        fr_team_barrier();
    }
    fr_team_split(fr_linear_own(down), 16, &begin, &end);
    if (begin < end) add_experts(moe, x->rows, down->before + begin, down->before + end, y, c->delta, s);
    fr_linear_exchange(down, y, moe->hidden, x->rows, s->compute);
}

void fr_moe_forward(const fr_moe *moe, const fr_rows *x, float *y, float *delta, fr_moe_scratch *s) {
    const routing c = {moe, x, delta, s};
    assert(x->rows <= s->max_rows && fr_team_size() <= s->compute->threads);
    if (s->experts.failed) return;
    route_rows(&c);
    if (x->rows <= FR_DECODE_ROWS)
        run_experts_decode(&c, y);
    else
        run_experts_prefill(&c, y);
}
