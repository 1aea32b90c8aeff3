/* One row a tensor, as a DeepSeek-V3-family checkpoint names and shapes it; see model/schema.h. */
#include "model/schema.h"
#include "model/weights.h"

/* ---- Widths, in the config's words ---- */

#define WIDTH(name, value)                                                                                                       \
    static int name(const fr_config *c) {                                                                                        \
        (void)c;                                                                                                                 \
        return value;                                                                                                            \
    }

WIDTH(one, 1)
WIDTH(vocab_size, c->vocab_size)
WIDTH(hidden_size, c->hidden_size)
WIDTH(two_hidden, 2 * c->hidden_size)
WIDTH(q_lora_rank, c->q_lora_rank)
WIDTH(kv_lora_rank, c->kv_lora_rank)
WIDTH(kv_lora_rope, c->kv_lora_rank + c->qk_rope_head_dim)
WIDTH(heads_qk, c->num_attention_heads *(c->qk_nope_head_dim + c->qk_rope_head_dim))
WIDTH(heads_kv, c->num_attention_heads *(c->qk_nope_head_dim + c->v_head_dim))
WIDTH(heads_v, c->num_attention_heads * c->v_head_dim)
WIDTH(index_heads, c->index_n_heads)
WIDTH(index_dim, c->index_head_dim)
WIDTH(index_queries, c->index_n_heads * c->index_head_dim)
WIDTH(dense_width, c->intermediate_size)
WIDTH(expert_width, c->moe_intermediate_size)
WIDTH(shared_width, c->n_shared_experts * c->moe_intermediate_size)
WIDTH(experts, c->n_routed_experts)

/* ---- Conditions ---- */

#define WHEN(name, presence)                                                                                                     \
    static fr_presence name(const fr_config *c, int layer) {                                                                     \
        (void)c, (void)layer;                                                                                                    \
        return presence;                                                                                                         \
    }
#define REQUIRED_IF(condition) ((condition) ? FR_REQUIRED : FR_ABSENT)

WHEN(always, FR_REQUIRED)
WHEN(copied, c->mtp_shares ? FR_ABSENT : FR_OPTIONAL) /* may repeat the main model's, or be left out */
WHEN(unless_tied, c->tie_word_embeddings ? FR_OPTIONAL : FR_REQUIRED)
WHEN(low_rank_q, REQUIRED_IF(c->q_lora_rank > 0))
WHEN(full_rank_q, REQUIRED_IF(c->q_lora_rank == 0))
WHEN(indexer, REQUIRED_IF(fr_config_layer_has_indexer(c, layer)))
WHEN(dense, REQUIRED_IF(!fr_config_layer_is_moe(c, layer)))
WHEN(moe, REQUIRED_IF(fr_config_layer_is_moe(c, layer)))
WHEN(moe_shared, REQUIRED_IF(fr_config_layer_is_moe(c, layer) && c->n_shared_experts > 0))

/* ---- The rows ---- */

/* A row of a kind. Where it is bound is checked by the compiler: linears are bound to an fr_linear, vectors to a float *. */
#define ROW(kind, name, out, in, part, cut, scope, offset, when)                                                                 \
    { name, FR_SCHEMA_##kind, out, in, FR_PART_##part, FR_CUT_##cut, FR_SCOPE_##scope, offset, when }
#define AT(bound, scope, member) _Generic(((BOUND_IN_##scope *)0)->member, bound : offsetof(BOUND_IN_##scope, member))
#define BOUND_IN_MODEL fr_model
#define BOUND_IN_LAYER fr_layer
#define BOUND_IN_EXPERT fr_mlp
#define BOUND_IN_MTP fr_mtp_module

#define LINEAR(name, out, in, part, cut, scope, member, when)                                                                    \
    ROW(LINEAR, name, out, in, part, cut, scope, AT(fr_linear, scope, member), when)
#define MATRIX(name, out, in, part, cut, scope, member, when)                                                                    \
    ROW(MATRIX, name, out, in, part, cut, scope, AT(fr_linear, scope, member), when)
#define LOOKUP(name, out, in, part, cut, scope, member, when)                                                                    \
    ROW(LOOKUP, name, out, in, part, cut, scope, AT(fr_linear, scope, member), when)
#define VECTOR(name, out, in, part, cut, scope, member, when)                                                                    \
    ROW(VECTOR, name, out, in, part, cut, scope, AT(float *, scope, member), when)
#define SHIFT(name, out, in, part, cut, scope, member, when)                                                                     \
    ROW(SHIFT, name, out, in, part, cut, scope, AT(float *, scope, member), when)
#define BIAS(name, out, in, part, cut, scope, member, when)                                                                      \
    ROW(BIAS, name, out, in, part, cut, scope, AT(float *, scope, member), when)
/* clang-format off */
static const fr_schema_row rows[] = {
    /*     name                                   out           in            part           cut    bound at                          when */
    LOOKUP("model.embed_tokens.weight",           vocab_size,   hidden_size,  EMBEDDING,     NONE,  MODEL,  embed_tokens,             always),

    LOOKUP("embed_tokens.weight",                 vocab_size,   hidden_size,  EMBEDDING,     NONE,  MTP,    embed_tokens,             copied),
    VECTOR("enorm.weight",                        hidden_size,  one,          NORM,          NONE,  MTP,    enorm,                    always),
    VECTOR("hnorm.weight",                        hidden_size,  one,          NORM,          NONE,  MTP,    hnorm,                    always),
    MATRIX("eh_proj.weight",                      hidden_size,  two_hidden,   MTP_INPUT,     OUT,   MTP,    eh_proj,                  always),

    VECTOR("input_layernorm.weight",              hidden_size,  one,          NORM,          NONE,  LAYER,  input_layernorm,          always),
    LINEAR("self_attn.q_a_proj.weight",           q_lora_rank,  hidden_size,  ATTENTION,     NONE,  LAYER,  mla.q_a_proj,             low_rank_q),
    VECTOR("self_attn.q_a_layernorm.weight",      q_lora_rank,  one,          ATTENTION,     NONE,  LAYER,  mla.q_a_layernorm,        low_rank_q),
    LINEAR("self_attn.q_b_proj.weight",           heads_qk,     q_lora_rank,  ATTENTION,     HEADS, LAYER,  mla.q_b_proj,             low_rank_q),
    LINEAR("self_attn.q_proj.weight",             heads_qk,     hidden_size,  ATTENTION,     HEADS, LAYER,  mla.q_proj,               full_rank_q),
    LINEAR("self_attn.kv_a_proj_with_mqa.weight", kv_lora_rope, hidden_size,  ATTENTION,     NONE,  LAYER,  mla.kv_a_proj_with_mqa,   always),
    VECTOR("self_attn.kv_a_layernorm.weight",     kv_lora_rank, one,          ATTENTION,     NONE,  LAYER,  mla.kv_a_layernorm,       always),
    LINEAR("self_attn.kv_b_proj.weight",          heads_kv,     kv_lora_rank, ATTENTION,     HEADS, LAYER,  mla.kv_b_proj,            always),
    LINEAR("self_attn.o_proj.weight",             hidden_size,  heads_v,      ATTENTION,     OUT,   LAYER,  mla.o_proj,               always),
    LINEAR("self_attn.indexer.wq_b.weight",       index_queries, q_lora_rank, INDEXER,       NONE,  LAYER,  mla.indexer.wq_b,         indexer),
    LINEAR("self_attn.indexer.wk.weight",         index_dim,    hidden_size,  INDEXER,       NONE,  LAYER,  mla.indexer.wk,           indexer),
    VECTOR("self_attn.indexer.k_norm.weight",     index_dim,    one,          INDEXER,       NONE,  LAYER,  mla.indexer.k_norm_weight, indexer),
    SHIFT("self_attn.indexer.k_norm.bias",        index_dim,    one,          INDEXER,       NONE,  LAYER,  mla.indexer.k_norm_bias,  indexer),
    MATRIX("self_attn.indexer.weights_proj.weight", index_heads, hidden_size, INDEXER,       NONE,  LAYER,  mla.indexer.weights_proj, indexer),
    VECTOR("post_attention_layernorm.weight",     hidden_size,  one,          NORM,          NONE,  LAYER,  post_attention_layernorm, always),

    LINEAR("mlp.gate_proj.weight",                dense_width,  hidden_size,  DENSE_MLP,     INNER, LAYER,  mlp.gate_proj,            dense),
    LINEAR("mlp.up_proj.weight",                  dense_width,  hidden_size,  DENSE_MLP,     INNER, LAYER,  mlp.up_proj,              dense),
    LINEAR("mlp.down_proj.weight",                hidden_size,  dense_width,  DENSE_MLP,     OUT,   LAYER,  mlp.down_proj,            dense),

    MATRIX("mlp.gate.weight",                     experts,      hidden_size,  ROUTER,        NONE,  LAYER,  moe.router.gate,          moe),
    BIAS("mlp.gate.e_score_correction_bias",      experts,      one,          ROUTER,        NONE,  LAYER,  moe.router.bias,          moe),
    LINEAR("mlp.experts.*.gate_proj.weight",      expert_width, hidden_size,  EXPERT,        INNER, EXPERT, gate_proj,                moe),
    LINEAR("mlp.experts.*.up_proj.weight",        expert_width, hidden_size,  EXPERT,        INNER, EXPERT, up_proj,                  moe),
    LINEAR("mlp.experts.*.down_proj.weight",      hidden_size,  expert_width, EXPERT,        OUT,   EXPERT, down_proj,                moe),
    LINEAR("mlp.shared_experts.gate_proj.weight", shared_width, hidden_size,  SHARED_EXPERT, INNER, LAYER,  moe.shared.gate_proj,     moe_shared),
    LINEAR("mlp.shared_experts.up_proj.weight",   shared_width, hidden_size,  SHARED_EXPERT, INNER, LAYER,  moe.shared.up_proj,       moe_shared),
    LINEAR("mlp.shared_experts.down_proj.weight", hidden_size,  shared_width, SHARED_EXPERT, OUT,   LAYER,  moe.shared.down_proj,     moe_shared),

    VECTOR("shared_head.norm.weight",             hidden_size,  one,          NORM,          NONE,  MTP,    shared_head_norm,         always),
    MATRIX("shared_head.head.weight",             vocab_size,   hidden_size,  LM_HEAD,       OUT,   MTP,    lm_head,                  copied),

    VECTOR("model.norm.weight",                   hidden_size,  one,          NORM,          NONE,  MODEL,  norm,                     always),
    MATRIX("lm_head.weight",                      vocab_size,   hidden_size,  LM_HEAD,       OUT,   MODEL,  lm_head,                  unless_tied),
};
/* clang-format on */

const fr_schema fr_tensors = {rows, sizeof rows / sizeof *rows};
