/* The SwiGLU MLP: down_proj(silu(gate_proj x) * up_proj x). Dense layers are one; so is every expert. */
#ifndef FR_MOE_MLP_H
#define FR_MOE_MLP_H

#include "core/linear.h"

typedef struct fr_mlp {
    fr_linear gate_proj, up_proj; /* [intermediate, hidden] */
    fr_linear down_proj;          /* [hidden, intermediate] */
} fr_mlp;

typedef struct fr_mlp_scratch {
    float *gate, *up; /* [rows, intermediate]; the product ends up in gate */
    fr_rows rows;     /* the product, made ready for down_proj */
    void *linear_scratch;
} fr_mlp_scratch;

void fr_mlp_scratch_take(fr_mlp_scratch *s, fr_arena *arena, int max_rows, int intermediate, void *linear_scratch);
/* TEAM. y [rows, hidden] = mlp(x); x ready in fr_mlp_forms. */
void fr_mlp_forward(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, float *y, fr_mlp_scratch *s);
unsigned fr_mlp_forms(const fr_mlp *mlp, bool act_fp8);

#endif
