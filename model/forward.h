/* A pass of the main model, and the LM head. Each opens one parallel region over the model's threads. */
#ifndef FR_MODEL_FORWARD_H
#define FR_MODEL_FORWARD_H

#include "model/workspace.h"

/* Runs tokens [rows] at positions kv->length .. through all layers. Leaves ws->x [rows, hidden_size] (before model.norm),
 * ws->hidden (after it) and ws->experts. The rows are written to the cache and not committed. Tokens are in the vocabulary, and
 * kv->length + rows <= kv->ctx. Where streamed weights cannot be read, fr_workspace_check says so. */
void fr_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const int32_t *tokens, int rows);

/* logits [rows, vocab_size] = lm_head(hidden), normed hidden states [rows, hidden_size]. lm_head is the model's, the MTP
 * module's, or the draft_head. */
void fr_lm_head(const fr_model *model, fr_workspace *ws, const fr_linear *lm_head, const float *hidden, int rows, float *logits);

/* y [hidden_size] = a token's row of embed_tokens, the model's or the MTP module's, as float32. */
void fr_embed(const fr_kernels *kernels, const fr_linear *embed_tokens, int32_t token, float *y);

/* Distinct (layer, expert) pairs of the last main pass, of `rows` rows. One row has num_moe_layers * num_experts_per_tok. */
uint64_t fr_unique_experts(const fr_model *model, const fr_workspace *ws, int rows);

#endif
