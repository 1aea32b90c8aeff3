#include "moe/mlp.h"

#include "core/threads.h"

void fr_mlp_scratch_take(fr_mlp_scratch *s, fr_arena *arena, int max_rows, int intermediate, void *linear_scratch) {
    size_t count = (size_t)max_rows * (size_t)intermediate;
    s->gate = FR_TAKE(arena, float, count);
    s->up = FR_TAKE(arena, float, count);
    fr_rows_take(&s->rows, arena, max_rows, intermediate);
    s->linear_scratch = linear_scratch;
}

unsigned fr_mlp_forms(const fr_mlp *mlp, bool act_fp8) {
    return fr_linear_form(&mlp->gate_proj, act_fp8) | fr_linear_form(&mlp->up_proj, act_fp8);
}

void fr_mlp_forward(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, float *y, fr_mlp_scratch *s) {
    int width = mlp->gate_proj.out, begin, end;
    fr_linear_forward(&mlp->gate_proj, x, s->gate, width, s->linear_scratch);
    fr_linear_forward(&mlp->up_proj, x, s->up, width, s->linear_scratch);
    fr_team_split(x->rows * width, 16, &begin, &end);
    fr_kernels_get()->silu_mul(s->gate + begin, s->gate + begin, s->up + begin, end - begin);
#pragma omp barrier
    fr_rows_set(&s->rows, s->gate, x->rows, width, fr_linear_form(&mlp->down_proj, act_fp8), ue8m0);
    fr_linear_forward(&mlp->down_proj, &s->rows, y, mlp->down_proj.out, s->linear_scratch);
}
