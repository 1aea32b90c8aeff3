/* All working memory of a session's passes, planned once: nothing is allocated while tokens are made. The parts follow a
 * row's way through the network; all layers, and the MTP module's, use the same ones. */
#ifndef FR_MODEL_WORKSPACE_H
#define FR_MODEL_WORKSPACE_H

#include "model/weights.h"

typedef struct fr_workspace {
    int max_rows, ctx;
    fr_rope rope;
    float *x;      /* [R, hidden]: the residual stream; after a pass the hidden states before the last norm */
    float *normed; /* [R, hidden]: input of attention, MLP or head */
    float *delta;  /* [R, hidden]: what attention or MLP adds */
    float *hidden; /* [R, hidden]: after model.norm (main) or shared_head.norm (MTP) */
    fr_rows rows;  /* `normed`, or `hidden`, made ready */
    float *joined; /* [R, 2 * hidden]: input of eh_proj */
    fr_rows joined_rows;
    fr_mla_scratch mla;
    fr_mlp_scratch mlp; /* dense layers */
    fr_moe_scratch moe;
    int32_t *experts; /* [moe layers, R, topk] of the last main pass: rows of a layer are the pass's rows, close together */
    fr_compute compute;
    void *memory; /* the arena that all of it lies in */
    uint64_t bytes;
} fr_workspace;

/* R = max_rows. */
fr_status fr_workspace_create(fr_workspace *ws, const fr_model *model, int max_rows, int ctx, fr_error *error);
void fr_workspace_release(fr_workspace *ws);
/* What it will take. Of the model it needs no weights: config, kernels, threads, mtp.present and num_moe_layers. */
uint64_t fr_workspace_bytes(const fr_model *model, int max_rows, int ctx);

#endif
