#include "moe/mlp.h"

#include <assert.h>

#include "core/threads.h"

void fr_mlp_scratch_take(fr_mlp_scratch *s, fr_arena *arena, int max_rows, int intermediate, const fr_compute *compute) {
    size_t count = (size_t)max_rows * (size_t)intermediate, blocks = ((size_t)intermediate + FR_BLOCK - 1) / FR_BLOCK;
    s->gate = FR_TAKE(arena, float, count);
    s->up = FR_TAKE(arena, float, count);
    s->done = FR_TAKE(arena, atomic_int, blocks);
    for (size_t i = 0; s->done && i < blocks; i++) atomic_init(&s->done[i], 0);
    fr_rows_take(&s->rows, arena, compute->kernels, max_rows, intermediate, FR_INPUT_ANY);
    s->compute = compute;
}

unsigned fr_mlp_inputs(const fr_mlp *mlp, bool act_fp8) {
    return fr_linear_input(&mlp->gate_proj, act_fp8) | fr_linear_input(&mlp->up_proj, act_fp8);
}

void fr_mlp_decode_product(const fr_mlp_decode *f, int begin, int end) {
    int width = f->mlp->gate_proj.out;
    assert(begin % 16 == 0 && begin < end && end <= width);
    fr_linear_decode(&f->mlp->gate_proj, f->x, f->index, f->n, begin, end, f->gate, width);
    fr_linear_decode(&f->mlp->up_proj, f->x, f->index, f->n, begin, end, f->up, width);
    for (int i = 0; i < f->n; i++) {
        float *gate = f->gate + (size_t)i * (size_t)width + begin;
        f->x->kernels->silu_mul(gate, gate, f->up + (size_t)i * (size_t)width + begin, end - begin);
    }
    if (!f->quantized) return;
    fr_rows_complete(f->product, f->gate - (size_t)f->first * (size_t)width, width, f->ue8m0, f->first, f->n, begin, end,
                     f->done);
}

static void decode_product(const fr_mlp *mlp, unsigned input, bool ue8m0, const fr_rows *x, fr_mlp_scratch *s) {
    static const int all[] = {0, 1, 2, 3, 4, 5, 6, 7};
    _Static_assert(sizeof all / sizeof *all == FR_DECODE_ROWS, "an index for each row of a decode pass");
    const fr_exchange *e = &s->compute->exchange;
    int width = mlp->gate_proj.out, begin, end;
    fr_joint_rows product = {&s->rows, s->gate, x->rows, width, fr_cut_unit(width, e->ranks->size), input, ue8m0};
    fr_mlp_decode job = {.mlp = mlp,
                         .x = x,
                         .index = all,
                         .n = x->rows,
                         .gate = s->gate,
                         .up = s->up,
                         .product = &s->rows,
                         .quantized = fr_rows_part_is_quantized(e, &product),
                         .ue8m0 = ue8m0,
                         .done = s->done};
    if (fr_team_rank() == 0) fr_rows_begin(&s->rows, s->gate, x->rows, width, input, ue8m0);
    fr_team_split(fr_linear_own(&mlp->gate_proj), 16, &begin, &end);
    begin += mlp->gate_proj.before;
    end += mlp->gate_proj.before;
    if (begin < end) fr_mlp_decode_product(&job, begin, end);
    fr_rows_join(e, &product, 1);
}

void fr_mlp_product(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, fr_mlp_scratch *s) {
    int width = mlp->gate_proj.out, begin, end;
    const fr_exchange *e = &s->compute->exchange;
    unsigned input = fr_linear_input(&mlp->down_proj, act_fp8);
    if (x->rows <= FR_DECODE_ROWS) {
        decode_product(mlp, input, ue8m0, x, s);
        return;
    }
    fr_linear_forward_each((const fr_linear_product[]){{&mlp->gate_proj, s->gate}, {&mlp->up_proj, s->up}}, 2, x, s->compute);
    fr_team_split(fr_linear_own(&mlp->gate_proj), 16, &begin, &end);
    for (int r = 0; r < x->rows && begin < end; r++) {
        size_t at = (size_t)r * (size_t)width + (size_t)(mlp->gate_proj.before + begin);
        s->compute->kernels->silu_mul(s->gate + at, s->gate + at, s->up + at, end - begin);
    }
    fr_team_barrier();
    fr_rows_set_joint(e, &(fr_joint_rows){&s->rows, s->gate, x->rows, width, fr_cut_unit(width, e->ranks->size), input, ue8m0});
}

void fr_mlp_forward(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, float *y, float *delta, fr_mlp_scratch *s) {
    fr_mlp_product(mlp, act_fp8, ue8m0, x, s);
    fr_linear_add(&mlp->down_proj, &s->rows, y, delta, s->compute);
}
