/* All working memory of a session's passes, planned once: nothing is allocated while tokens are generated. The parts are in the
 * order of a pass. All layers share them, the MTP module's too. */
#ifndef FR_MODEL_WORKSPACE_H
#define FR_MODEL_WORKSPACE_H

#include "model/finite.h"
#include "model/weights.h"

typedef struct fr_workspace {
    int max_rows, ctx;
    fr_rope rope;
    float *x;      /* [R, hidden_size]: the residual stream; after a pass the hidden states before the last norm */
    float *normed; /* [R, hidden_size]: input of attention or MLP */
    float *delta;  /* [R, hidden_size]: what attention or MLP adds */
    float *hidden; /* [R, hidden_size]: hidden states after model.norm (main) or shared_head.norm (MTP) */
    fr_rows rows;  /* `normed` or `hidden`, quantized and packed for linears */
    float *joined; /* [R, 2 * hidden_size]: input of eh_proj */
    fr_rows joined_rows;
    fr_mla_scratch mla;
    fr_mlp_scratch mlp; /* dense layers */
    fr_moe_scratch moe;
    int32_t *experts; /* [num_moe_layers, rows, num_experts_per_tok] that the last main pass chose; rows are those of the pass */
    fr_compute compute;
    fr_finite finite;
    void *memory; /* the arena that has all of it */
    uint64_t bytes;
} fr_workspace;

/* R = max_rows. */
fr_status fr_workspace_create(fr_workspace *ws, const fr_model *model, int max_rows, int ctx, fr_error *error);
void fr_workspace_release(fr_workspace *ws);
/* Whether all passes since the last call could read what they needed; if not, their outputs are worth nothing. */
fr_status fr_workspace_check(fr_workspace *ws, fr_error *error);
/* The bytes that it will take. Of the model it needs no weights: config, kernels, threads, mtp.files.present and num_moe_layers.
 */
uint64_t fr_workspace_bytes(const fr_model *model, int max_rows, int ctx);

#endif
