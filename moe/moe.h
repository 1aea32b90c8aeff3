/* A mixture-of-experts layer: routed experts plus shared ones (one MLP of n_shared_experts times the width, weight 1).
 *
 * Every (row, chosen expert) pair of a pass has a SLOT. Slots are sorted by expert, so that an expert's weights are read once for
 * all rows that chose it. A row's result is summed over its experts in ascending order of their ids, so it does not depend on
 * what other rows chose. */
#ifndef FR_MOE_MOE_H
#define FR_MOE_MOE_H

#include <stdatomic.h>

#include "moe/experts.h"
#include "moe/lots.h"
#include "moe/router.h"

typedef struct fr_moe {
    int hidden, intermediate; /* moe_intermediate_size */
    bool act_fp8, act_ue8m0;
    fr_router router;
    fr_mlp *experts; /* [n_routed_experts]; owned */
    bool has_shared;
    fr_mlp shared;
    unsigned inputs; /* fr_moe_inputs of all this, kept so that a pass need not look at every expert */
    /* Experts that are read when they are chosen; NULL: all are in memory, at `experts`. */
    fr_experts *streamed;
    int streamed_layer;        /* this one's number there */
    const struct fr_moe *next; /* the layer after this one, whose router is asked ahead of time; NULL: none */
} fr_moe;

typedef struct fr_moe_scratch {
    const fr_compute *compute;
    int max_rows;
    /* routing of the pass; rows of `ids` and `weights` by row, ids ascending */
    float *scores;   /* [R, experts] */
    float *work;     /* [threads, experts + groups] */
    int32_t *ids;    /* [R, topk] */
    float *weights;  /* [R, topk] */
    int *slot;       /* [R, topk]: the slot of (row, k) */
    int *slot_row;   /* [R * topk]: row of a slot */
    int *first_slot; /* [experts + 1] */
    int *next_slot;  /* [experts]: while slots are filled */
    int *slots;      /* 0, 1, 2, ... [R * topk] */
    /* decode: threads share the chosen experts, and the shared one last, as if they were one matrix */
    fr_mlp_decode *chosen;       /* [num_chosen] */
    int num_chosen, most_chosen; /* without the shared one */
    /* streamed: of the chosen experts those that are there are in `chosen`, and in use; the others follow */
    fr_expert_pass experts;
    fr_expert_use *in_use; /* [num_in_use] */
    int num_in_use;
    /* what the next layer's router says of these rows: [FR_DECODE_ROWS, experts], and of one of them [topk] */
    float *next_scores, *next_weights;
    int32_t *next_ids;
    float *gate, *up; /* [FR_DECODE_ROWS * topk, intermediate] */
    fr_rows product;  /* silu(gate) * up by slot */
    atomic_int *done; /* [chosen, blocks of intermediate]: see fr_mlp_decode */
    fr_lots lots;     /* prefill */
    float *z;         /* [R * topk, hidden]: an expert's output for a slot */
    fr_mlp_scratch shared;
} fr_moe_scratch;

/* How the experts and the gate read x: a set of FR_INPUT_*. Called once, when a layer is bound. */
unsigned fr_moe_inputs(const fr_moe *moe);

/* `moe` gives the sizes, which all layers share. */
void fr_moe_scratch_take(fr_moe_scratch *s, fr_arena *arena, const fr_moe *moe, int max_rows, const fr_compute *compute);

/* TEAM. y [rows, hidden] += moe(x), x set with moe->inputs; delta [rows, hidden] is used on the way. Leaves the routing in s->ids
 * and s->weights. Where experts cannot be read, s->experts.failed is true afterwards, y is worth nothing, and further calls do
 * nothing. */
void fr_moe_forward(const fr_moe *moe, const fr_rows *x, float *y, float *delta, fr_moe_scratch *s);

#endif
