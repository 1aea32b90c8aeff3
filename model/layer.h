/* One decoder layer: x += attention(norm(x)); x += mlp(norm(x)).
 *
 * A decode pass goes through it in nine phases, each ended by a barrier:
 *   1 norm, quantized             every thread sums the squares of whole rows, and writes its own 128-blocks
 *   2 q_a_proj, kv_a_proj         in one sweep
 *   3 norms of the latents        the cache's rows; the queries' latent, quantized
 *   4 a head                      by the thread that owns it: q_b_proj, RoPE, W_UK absorbed, attention, values, quantized
 *   5 o_proj, added to x          a thread adds the outputs that it computes
 *   6 norm, quantized
 *   7 the router's gate           and, by the last to come, the choice of experts
 *   8 gate_proj, up_proj, SiLU    of all chosen experts and the shared one, quantized
 *   9 down_proj, summed, added    a thread has the same outputs of all of them
 * Where ranks share the model (core/ranks.h), the barriers that end the fourth, fifth, eighth and ninth are exchanges. A dense
 * layer lacks the seventh. Where positions are so many that it pays, the fourth is three: queries, attention shared by
 * chunks of positions, values (attn/absorbed.h). Where the team's size does not divide the number of heads, q_b_proj is a phase
 * of its own, and with several rows attention is always shared. From three rows on, the choice of experts is one more. Sparse
 * attention has its keys in the second and third; where there is something to choose, it has three more before attention: the
 * indexer's queries, its scores, and what each thread's part of the positions has to choose from, of which the last to come makes
 * the choice; with several rows threads make theirs, in a fourth. */
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
