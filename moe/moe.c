#include "moe/moe.h"

#include "core/threads.h"

void fr_moe_scratch_take(fr_moe_scratch *s, fr_arena *arena, const fr_moe *moe, int max_rows, int threads,
                         void *linear_scratch, size_t linear_scratch_bytes) {
    const fr_router *r = &moe->router;
    size_t rows = (size_t)max_rows, slots = rows * (size_t)r->topk, width = (size_t)moe->intermediate;
    int few_slots = (max_rows < FR_FEW_ROWS ? max_rows : FR_FEW_ROWS) * r->topk;
    s->max_rows = max_rows;
    s->threads = threads;
    s->linear_scratch = linear_scratch;
    s->linear_scratch_bytes = linear_scratch_bytes;
    s->scores = FR_TAKE(arena, float, rows * (size_t)r->experts);
    s->work = FR_TAKE(arena, float, (size_t)threads * (size_t)(r->experts + r->groups));
    s->ids = FR_TAKE(arena, int32_t, slots);
    s->weights = FR_TAKE(arena, float, slots);
    s->slot = FR_TAKE(arena, int, slots);
    s->slot_row = FR_TAKE(arena, int, slots);
    s->first_slot = FR_TAKE(arena, int, (size_t)r->experts + 1);
    s->next_slot = FR_TAKE(arena, int, r->experts);
    s->slots = FR_TAKE(arena, int, slots);
    for (size_t i = 0; s->slots && i < slots; i++) s->slots[i] = (int)i;
    s->gate = FR_TAKE(arena, float, (size_t)few_slots * width);
    s->up = FR_TAKE(arena, float, (size_t)few_slots * width);
    fr_rows_take(&s->product, arena, few_slots, moe->intermediate);
    s->gathered = FR_TAKE(arena, fr_rows, threads);
    s->inner = FR_TAKE(arena, fr_rows, threads);
    for (int t = 0; t < threads; t++) {
        fr_rows unused; /* while counting there is no array to write to */
        fr_rows_take(s->gathered ? &s->gathered[t] : &unused, arena, max_rows, moe->hidden);
        fr_rows_take(s->inner ? &s->inner[t] : &unused, arena, max_rows, moe->intermediate);
    }
    s->gate_alone = FR_TAKE(arena, float, (size_t)threads * rows * width);
    s->up_alone = FR_TAKE(arena, float, (size_t)threads * rows * width);
    s->z = FR_TAKE(arena, float, slots * (size_t)moe->hidden);
    if (moe->has_shared)
        fr_mlp_scratch_take(&s->shared, arena, max_rows, moe->shared.gate_proj.out, linear_scratch);
}

unsigned fr_moe_forms(const fr_moe *moe) {
    unsigned forms = fr_linear_form(&moe->router.gate, false);
    for (int e = 0; e < moe->router.experts; e++) forms |= fr_mlp_forms(&moe->experts[e], moe->act_fp8);
    return moe->has_shared ? forms | fr_mlp_forms(&moe->shared, moe->act_fp8) : forms;
}

/* Chooses experts for all rows and sorts the pairs into slots; TEAM. */
static void route_rows(const fr_moe *moe, const fr_rows *x, fr_moe_scratch *s) {
    const fr_router *r = &moe->router;
    fr_linear_forward(&r->gate, x, s->scores, r->experts, s->linear_scratch);
#pragma omp for schedule(static)
    for (int i = 0; i < x->rows; i++)
        fr_route(r, s->scores + (size_t)i * (size_t)r->experts,
                 s->work + (size_t)fr_team_rank() * (size_t)(r->experts + r->groups), s->ids + i * r->topk,
                 s->weights + i * r->topk);
#pragma omp single
    {
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
    }
}

/* z by slot, few rows: each thread takes a part of every chosen expert's outputs, so that all threads stream; TEAM. */
static void run_experts_few(const fr_moe *moe, const fr_rows *x, fr_moe_scratch *s) {
    const fr_kernels *k = fr_kernels_get();
    int width = moe->intermediate, begin, end;
    fr_team_split(width, 16, &begin, &end);
    for (int e = 0; e < moe->router.experts; e++) {
        int first = s->first_slot[e], n = s->first_slot[e + 1] - first;
        if (n == 0) continue;
        float *gate = s->gate + (size_t)first * (size_t)width, *up = s->up + (size_t)first * (size_t)width;
        fr_linear_few(&moe->experts[e].gate_proj, x, s->slot_row + first, n, begin, end, gate, width);
        fr_linear_few(&moe->experts[e].up_proj, x, s->slot_row + first, n, begin, end, up, width);
        for (int i = 0; i < n; i++)
            k->silu_mul(gate + (size_t)i * (size_t)width + begin, gate + (size_t)i * (size_t)width + begin,
                        up + (size_t)i * (size_t)width + begin, end - begin);
    }
#pragma omp barrier
    fr_rows_set(&s->product, s->gate, x->rows * moe->router.topk, width,
                fr_linear_form(&moe->experts[0].down_proj, moe->act_fp8) | FR_ROWS_FEW, moe->act_ue8m0);
    fr_team_split(moe->hidden, 16, &begin, &end);
    for (int e = 0; e < moe->router.experts; e++) {
        int first = s->first_slot[e], n = s->first_slot[e + 1] - first;
        if (n > 0)
            fr_linear_few(&moe->experts[e].down_proj, &s->product, s->slots + first, n, begin, end,
                          s->z + (size_t)first * (size_t)moe->hidden, moe->hidden);
    }
#pragma omp barrier
}

/* One expert's whole MLP for its n slots, by one thread. */
static void run_expert_alone(const fr_moe *moe, int e, const fr_rows *x, fr_moe_scratch *s) {
    const fr_mlp *expert = &moe->experts[e];
    int first = s->first_slot[e], n = s->first_slot[e + 1] - first, width = moe->intermediate, thread = fr_team_rank();
    void *scratch = (char *)s->linear_scratch + (size_t)thread * s->linear_scratch_bytes;
    size_t at = (size_t)thread * (size_t)s->max_rows * (size_t)width;
    float *gate = s->gate_alone + at, *up = s->up_alone + at, *z = s->z + (size_t)first * (size_t)moe->hidden;
    fr_rows *gathered = &s->gathered[thread], *inner = &s->inner[thread];
    if (n > FR_FEW_ROWS) {
        fr_rows_gather(gathered, x, s->slot_row + first, n, fr_mlp_forms(expert, moe->act_fp8));
        fr_linear_range(&expert->gate_proj, gathered, 0, width, gate, width, scratch);
        fr_linear_range(&expert->up_proj, gathered, 0, width, up, width, scratch);
    } else {
        fr_linear_few(&expert->gate_proj, x, s->slot_row + first, n, 0, width, gate, width);
        fr_linear_few(&expert->up_proj, x, s->slot_row + first, n, 0, width, up, width);
    }
    fr_kernels_get()->silu_mul(gate, gate, up, n * width);
    fr_rows_set_alone(inner, gate, n, width, fr_linear_form(&expert->down_proj, moe->act_fp8), moe->act_ue8m0);
    fr_linear_range(&expert->down_proj, inner, 0, moe->hidden, z, moe->hidden, scratch);
}

void fr_moe_forward(const fr_moe *moe, const fr_rows *x, float *y, fr_moe_scratch *s) {
    route_rows(moe, x, s);
    if (x->rows <= FR_FEW_ROWS) {
        run_experts_few(moe, x, s);
    } else {
#pragma omp for schedule(dynamic, 1)
        for (int e = 0; e < moe->router.experts; e++)
            if (s->first_slot[e + 1] > s->first_slot[e]) run_expert_alone(moe, e, x, s);
    }
    if (moe->has_shared)
        fr_mlp_forward(&moe->shared, moe->act_fp8, moe->act_ue8m0, x, y, &s->shared);
    else
#pragma omp for schedule(static)
        for (int i = 0; i < x->rows; i++) memset(y + (size_t)i * (size_t)moe->hidden, 0, (size_t)moe->hidden * sizeof(float));

    int begin, end;
    fr_team_split(moe->hidden, 16, &begin, &end);
    for (int i = 0; i < x->rows; i++) {
        float *row = y + (size_t)i * (size_t)moe->hidden + begin;
        for (int k = 0; k < moe->router.topk; k++) {
            size_t slot = (size_t)s->slot[i * moe->router.topk + k];
            fr_kernels_get()->axpy_f32(row, s->weights[i * moe->router.topk + k],
                                       s->z + slot * (size_t)moe->hidden + begin, end - begin);
        }
    }
#pragma omp barrier
}
