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
    fr_rows rows;     /* the product, as down_proj reads it */
    atomic_int *done; /* see fr_mlp_decode */
    const fr_compute *compute;
} fr_mlp_scratch;

void fr_mlp_scratch_take(fr_mlp_scratch *s, fr_arena *arena, int max_rows, int intermediate, const fr_compute *compute);
/* TEAM. y [rows, hidden] += mlp(x), x set with fr_mlp_inputs; delta [rows, hidden] is used on the way. */
void fr_mlp_forward(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, float *y, float *delta, fr_mlp_scratch *s);
/* TEAM. The first part of that: s->rows = silu(gate_proj x) * up_proj x, as down_proj reads it. */
void fr_mlp_product(const fr_mlp *mlp, bool act_fp8, bool ue8m0, const fr_rows *x, fr_mlp_scratch *s);
/* How gate_proj and up_proj read x: a set of FR_INPUT_*. */
unsigned fr_mlp_inputs(const fr_mlp *mlp, bool act_fp8);

/* ---- Decode ----
 *
 * One sweep over the weights of gate_proj and up_proj gives silu(gate) * up, quantized for down_proj. Threads may share the
 * outputs in any way: the one that completes a 128-block of them quantizes it. */
typedef struct fr_mlp_decode {
    const fr_mlp *mlp;
    const fr_rows *x;
    const int *index; /* rows index[0..n) of x */
    int n;
    float *gate, *up; /* [n, intermediate]; the product ends up in gate */
    fr_rows *product; /* in which they are rows first .. first + n - 1; its x is gate - first rows */
    int first;
    bool quantized, ue8m0; /* how down_proj reads them */
    float *y;              /* [n, hidden]: where down_proj's result goes */
    atomic_int *done;      /* [blocks of intermediate]: outputs computed; 0 before, and again after */
} fr_mlp_decode;

/* ONE THREAD. Outputs [begin, end) of the product; begin is a multiple of 16. A barrier must follow the last call. */
void fr_mlp_decode_product(const fr_mlp_decode *job, int begin, int end);

#endif
