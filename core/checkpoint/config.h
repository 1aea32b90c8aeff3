/* config.json and generation_config.json of a DeepSeek-V3-family checkpoint. Fields have the file's own names. What a member of
 * the family is called and what its file may leave out is one entry of `members` in config_members.c. */
#ifndef FR_CORE_CHECKPOINT_CONFIG_H
#define FR_CORE_CHECKPOINT_CONFIG_H

#include "core/notices.h"
#include "core/status.h"

#define FR_MAX_EOS 256
#define FR_MAX_LAYERS 1024

/* Layers of the main model. */
typedef struct fr_layer_set {
    uint64_t bits[FR_MAX_LAYERS / 64];
} fr_layer_set;

typedef struct fr_config {
    const char *model_type; /* the member's, static */
    int hidden_size, vocab_size, num_hidden_layers, num_nextn_predict_layers;
    int max_position_embeddings;
    float rms_norm_eps;
    bool tie_word_embeddings;
    /* MLA */
    int num_attention_heads;
    int q_lora_rank; /* 0: null in the file, q_proj instead of q_a_proj and q_b_proj */
    int kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
    float rope_theta;
    struct {
        bool present; /* YaRN; without it plain RoPE */
        float factor, beta_fast, beta_slow;
        float mscale, mscale_all_dim, attention_factor; /* 0: absent */
        int original_max_position_embeddings;
    } yarn;
    /* MLP and MoE */
    int intermediate_size, moe_intermediate_size;
    int n_routed_experts, n_shared_experts, num_experts_per_tok, n_group, topk_group;
    int first_k_dense_replace, moe_layer_freq;
    fr_layer_set moe_layers; /* by mlp_layer_types or, without it, by these two */
    bool mtp_dense;          /* MTP modules have no experts; what tensors there are decides (model/source.h) */
    bool mtp_shares;         /* the original stores no embedding and LM head for them */
    bool norm_topk_prob;
    float routed_scaling_factor;
    /* sparse attention; index_topk 0: none */
    int index_n_heads, index_head_dim, index_topk;
    bool indexer_rope_interleave, index_share_for_mtp_iteration;
    fr_layer_set full_indexers; /* layers with an indexer of their own; the others take the choice of the one before */
    bool norms_f32;             /* the original stores norms as F32, not BF16 */
    /* quantization_config; absent: no FP8 linears are expected, but a file that has scales loads the same way */
    bool fp8;
    bool act_dynamic; /* activation_scheme "dynamic" */
    bool act_ue8m0;   /* scale_fmt "ue8m0": activation scales are powers of two */
    /* tokens that begin and end a text; an eos of config.json or of generation_config.json ends it */
    int bos_token_id; /* -1: none */
    int eos_token_ids[FR_MAX_EOS], num_eos_token_ids;
} fr_config;

/* Reads DIR/config.json (and generation_config.json if there). What was assumed is added to `notices`, which may be NULL. */
fr_status fr_config_load(const char *dir, fr_config *out, fr_notices *notices, fr_error *error);
/* The same from text; `where` names the file in messages. Every value is range-checked; what forerun does not compute
 * (attention_bias, another scoring_func, ...) is FR_ERROR_UNSUPPORTED with the key and value. */
fr_status fr_config_parse(const char *json, size_t length, const char *where, fr_config *out, fr_notices *notices,
                          fr_error *error);

/* Whether layer `i` has an indexer of its own; MTP modules do where the main model has any. */
bool fr_config_layer_has_indexer(const fr_config *config, int layer);
int fr_config_num_indexers(const fr_config *config); /* main model only */
/* Whether layer `i` (of the main model, or num_hidden_layers + j for MTP module j) has experts. */
bool fr_config_layer_is_moe(const fr_config *config, int layer);
int fr_config_num_moe_layers(const fr_config *config); /* main model only */

/* fr_hash64 of what the network is: every field but those that limit a text or end it, which may be edited. */
uint64_t fr_config_hash(uint64_t hash, const fr_config *config);

#endif
