/* One decoder layer: x += attention(norm(x)); x += mlp(norm(x)). */
#ifndef FR_MODEL_LAYER_H
#define FR_MODEL_LAYER_H

#include "model/workspace.h"

/* TEAM. Rows ws->x [rows, hidden] at positions pos .. pos + rows - 1 through a layer, whose cache is layer `kv_layer` of
 * kv; written there, not committed. A MoE layer leaves its routing in ws->moe. */
void fr_layer_forward(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows);
/* TEAM. Only what the layer's cache keeps of these rows; leaves ws->x as it is. */
void fr_layer_remember(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                       int rows);

#endif
