/* The SwiGLU MLP: down_proj(silu(gate_proj x) * up_proj x). Dense layers are one; so is every expert. */
#ifndef FR_MOE_MLP_H
#define FR_MOE_MLP_H

#include <stdatomic.h>

#include "core/linear/linear.h"

typedef struct fr_mlp {
    fr_linear gate_proj, up_proj; /* [intermediate, hidden] */
    fr_linear down_proj;          /* [hidden, intermediate] */
} fr_mlp;

typedef struct fr_mlp_scratch {
    float *gate, *up; /* [rows, intermediate]; the product ends up in gate */
    fr_rows rows;     /* the product, made ready for down_proj */
    atomic_int *done; /* see fr_mlp_decode */
    const fr_compute *compute;
} fr_mlp_scratch;

void fr_mlp_scratch_take(fr_mlp_scratch *s, fr_arena *arena, int max_rows, int intermediate, const fr_compute *compute);
/* TEAM. y [rows, hidden] = mlp(x); x ready in fr_mlp_forms. */
void fr_mlp_forward(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, float *y, fr_mlp_scratch *s);
unsigned fr_mlp_forms(const fr_mlp *mlp, bool act_fp8);

/* ---- Decode ----
 *
 * One sweep over the weights of gate_proj and up_proj gives silu(gate) * up, quantized for down_proj. Threads share the
 * outputs as they like: who completes a 128-block of them quantizes it. */
typedef struct fr_mlp_decode {
    const fr_mlp *mlp;
    const fr_rows *x;
    const int *index; /* rows index[0..n) of x */
    int n;
    float *gate, *up; /* [n, intermediate]; the product ends up in gate */
    fr_rows *product; /* of which they are rows first .. first + n - 1, begun with x = gate - first rows */
    int first;
    bool quantized, ue8m0; /* how down_proj wants them */
    float *y;              /* [n, hidden]: where down_proj's result belongs */
    atomic_int *done;      /* [blocks of intermediate]: outputs made; 0 before, and again after */
} fr_mlp_decode;

/* ONE THREAD. Outputs [begin, end) of the product; begin is a multiple of 16. A barrier has to follow the last. */
void fr_mlp_decode_product(const fr_mlp_decode *job, int begin, int end);

#endif
