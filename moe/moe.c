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
    s->chosen = FR_TAKE(arena, fr_mlp_decode, most_chosen + 1);
    s->done = FR_TAKE(arena, atomic_int, most_chosen * blocks);
    for (size_t i = 0; s->done && i < most_chosen * blocks; i++) atomic_init(&s->done[i], 0);
    s->gate = FR_TAKE(arena, float, (size_t)decode_slots *width);
    s->up = FR_TAKE(arena, float, (size_t)decode_slots *width);
    fr_rows_take(&s->product, arena, compute->kernels, decode_slots, moe->intermediate, FR_INPUT_ANY | FR_INPUT_DECODE);
    s->gathered = FR_TAKE(arena, fr_rows, threads);
    s->inner = FR_TAKE(arena, fr_rows, threads);
    for (int t = 0; t < threads; t++) {
        fr_rows unused; /* while counting there is no array to write to */
        fr_rows_take(s->gathered ? &s->gathered[t] : &unused, arena, compute->kernels, max_rows, moe->hidden, FR_INPUT_ANY);
        fr_rows_take(s->inner ? &s->inner[t] : &unused, arena, compute->kernels, max_rows, moe->intermediate, FR_INPUT_ANY);
    }
    s->gate_alone = FR_TAKE(arena, float, (size_t)threads *rows *width);
    s->up_alone = FR_TAKE(arena, float, (size_t)threads *rows *width);
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

/* Chooses experts for all rows and sorts (row, expert) pairs into slots; TEAM. */
static void route_rows(const fr_moe *moe, const fr_rows *x, float *y, fr_moe_scratch *s) {
    const fr_router *r = &moe->router;
    int begin, end;
    fr_linear_forward(&r->gate, x, s->scores, r->experts, s->compute);
    fr_team_split(x->rows, 1, &begin, &end);
    for (int i = begin; i < end; i++)
        fr_route(r, s->scores + (size_t)i * (size_t)r->experts,
                 s->work + (size_t)fr_team_rank() * (size_t)(r->experts + r->groups), s->ids + i * r->topk,
                 s->weights + i * r->topk);
    fr_team_barrier();
    if (fr_team_rank() == 0) {
        atomic_store_explicit(&s->next_expert, 0, memory_order_relaxed);
        memset(s->first_slot, 0, ((size_t)r->experts + 1) * sizeof(int));
        for (int i = 0; i < x->rows * r->topk; i++) s->first_slot[s->ids[i] + 1]++;
        for (int e = 0; e < r->experts; e++) {
            s->first_slot[e + 1] += s->first_slot[e];
            s->next_slot[e] = s->first_slot[e];
        }
        for (int i = 0; i < x->rows * r->topk; i++) { /* rows in ascending order within an expert */
            s->slot[i] = s->next_slot[s->ids[i]]++;
            s->slot_row[s->slot[i]] = i / r->topk;
        }
        if (x->rows <= FR_DECODE_ROWS) list_chosen(moe, x, y, s);
    }
    fr_team_barrier();
}

/* This thread's part of the outputs of all chosen MLPs, laid end to end, is for `c` of them [*begin, *end). *at walks on. */
static bool own_part(int mine, int mine_end, int outputs, int *at, int *begin, int *end) {
    *begin = mine > *at ? mine - *at : 0;
    *end = mine_end - *at < outputs ? mine_end - *at : outputs;
    *at += (outputs + 15) / 16 * 16;
    return *begin < *end;
}

/* Decode: z by slot, and the shared expert's y. Every thread streams its share of all weights together; TEAM. */
static void run_experts_decode(const fr_moe *moe, fr_moe_scratch *s) {
    int total = 0, mine, mine_end, begin, end, at = 0;
    for (int c = 0; c < s->num_chosen; c++) total += (s->chosen[c].mlp->gate_proj.out + 15) / 16 * 16;
    fr_team_split(total, 16, &mine, &mine_end);
    for (int c = 0; c < s->num_chosen; c++)
        if (own_part(mine, mine_end, s->chosen[c].mlp->gate_proj.out, &at, &begin, &end))
            fr_mlp_decode_product(&s->chosen[c], begin, end);
    fr_team_barrier();
    fr_team_split(s->num_chosen * ((moe->hidden + 15) / 16 * 16), 16, &mine, &mine_end);
    at = 0;
    for (int c = 0; c < s->num_chosen; c++) {
        const fr_mlp_decode *job = &s->chosen[c];
        if (own_part(mine, mine_end, moe->hidden, &at, &begin, &end))
            fr_linear_decode(&job->mlp->down_proj, job->product, s->slots + job->first, job->n, begin, end, job->y, moe->hidden);
    }
    fr_team_barrier();
}

/* One expert's whole MLP for its n slots, by one thread. */
static void run_expert_alone(const fr_moe *moe, int e, const fr_rows *x, fr_moe_scratch *s) {
    const fr_mlp *expert = &moe->experts[e];
    int first = s->first_slot[e], n = s->first_slot[e + 1] - first, width = moe->intermediate, thread = fr_team_rank();
    size_t at = (size_t)thread * (size_t)s->max_rows * (size_t)width;
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

void fr_moe_forward(const fr_moe *moe, const fr_rows *x, float *y, fr_moe_scratch *s) {
    int begin, end, e;
    assert(x->rows <= s->max_rows && fr_team_size() <= s->compute->threads);
    route_rows(moe, x, y, s);
    if (x->rows <= FR_DECODE_ROWS) {
        run_experts_decode(moe, s);
    } else {
        while ((e = atomic_fetch_add_explicit(&s->next_expert, 1, memory_order_relaxed)) < moe->router.experts)
            if (s->first_slot[e + 1] > s->first_slot[e]) run_expert_alone(moe, e, x, s);
        fr_team_barrier();
        if (moe->has_shared) fr_mlp_forward(&moe->shared, moe->act_fp8, moe->act_ue8m0, x, y, &s->shared);
    }
    fr_team_split(moe->hidden, 16, &begin, &end);
    for (int i = 0; i < x->rows; i++) {
        float *row = y + (size_t)i * (size_t)moe->hidden + begin;
        if (!moe->has_shared) memset(row, 0, (size_t)(end - begin) * sizeof *row);
        for (int k = 0; k < moe->router.topk; k++) {
            size_t slot = (size_t)s->slot[i * moe->router.topk + k];
            s->compute->kernels->axpy_f32(row, s->weights[i * moe->router.topk + k], s->z + slot * (size_t)moe->hidden + begin,
                                          end - begin);
        }
    }
    fr_team_barrier();
}
