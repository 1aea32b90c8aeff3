/* One decoder layer: x += attention(norm(x)); x += mlp(norm(x)). */
#ifndef FR_MODEL_LAYER_H
#define FR_MODEL_LAYER_H

#include "model/workspace.h"

/* TEAM. Runs a layer on ws->x [rows, hidden_size], at positions pos .. pos + rows - 1. Its cache is layer `kv_layer` of kv, where
 * the rows are written and not committed. A MoE layer leaves its routing in ws->moe. */
void fr_layer_forward(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows);
/* TEAM. A KV-only pass: writes what the cache keeps of these rows, and leaves ws->x as it is. */
void fr_layer_kv_only(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows);

#endif
