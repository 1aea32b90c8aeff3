#include <stdio.h>
#include <string.h>

#include "core/checkpoint/config_sections.h"

/* What all members have in common. */
#define DEFAULTS                                                                                                                 \
    .rope_theta = 1e4f, .n_shared_experts = 1, .moe_layer_freq = 1, .norm_topk_prob = true, .kv_lora_rank = 512,                 \
    .qk_rope_head_dim = 64
#define DEEPSEEK                                                                                                                 \
    DEFAULTS, .rms_norm_eps = 1e-6f, .n_group = 8, .topk_group = 4, .num_experts_per_tok = 8, .first_k_dense_replace = 3,        \
              .routed_scaling_factor = 2.5f, .q_lora_rank = 1536, .qk_nope_head_dim = 128, .v_head_dim = 128, .bos_token_id = 0, \
              .eos_token_ids = {1}, .num_eos_token_ids = 1
#define GLM                                                                                                                      \
    DEFAULTS, .rms_norm_eps = 1e-5f, .n_group = 1, .topk_group = 1, .qk_nope_head_dim = 192, .v_head_dim = 256, .bos_token_id = -1

static const fr_member members[] = {
    {"deepseek_v3", "DeepseekV3ForCausalLM", {DEEPSEEK}},
    {"kimi_k2", "DeepseekV3ForCausalLM", {DEEPSEEK}},
    {"joyai_llm_flash", "DeepseekV3ForCausalLM", {DEEPSEEK, .mtp_dense = true}},
    {"glm4_moe_lite",
     "Glm4MoeLiteForCausalLM",
     {GLM, .num_experts_per_tok = 4, .first_k_dense_replace = 1, .routed_scaling_factor = 1.8f, .q_lora_rank = 768}},
    {"deepseek_v32",
     "DeepseekV32ForCausalLM",
     {DEEPSEEK, .index_n_heads = 64, .index_head_dim = 128, .index_topk = 2048, .norms_f32 = true}},
    {"glm_moe_dsa",
     "GlmMoeDsaForCausalLM",
     {GLM, .num_experts_per_tok = 8, .first_k_dense_replace = 3, .routed_scaling_factor = 2.5f, .q_lora_rank = 2048,
      .index_n_heads = 32, .index_head_dim = 128, .index_topk = 2048, .indexer_rope_interleave = true, .mtp_shares = true}},
};
enum { NUM_MEMBERS = sizeof members / sizeof *members };

/* What is taken for a member by its name, and is none. */
static const struct {
    const char *model_type, *is;
} others[] = {
    {"deepseek_v2", "DeepSeek-V2, whose router is another one (softmax scores, no correction bias)"},
    {"deepseek_v4", "DeepSeek-V4, whose attention is compressed and whose residual stream is fourfold (hyper-connections)"},
    {"glm5_next", "GLM-5.3, whose attention is not MLA with DeepSeek's indexer"},
    {"glm4_moe", "GLM-4.5 to 4.7 other than Flash: grouped-query attention, no MLA"},
    {"glm4", "GLM-4: grouped-query attention, no MLA, no experts"},
    {"kimi_k25", "Kimi-K2.5: an image encoder, and a text model in a nested config"},
    {"kimi_k3", "Kimi-K3: a nested config and another attention"},
    {"kimi_linear", "Kimi-Linear: linear attention in most layers"},
    {"gigachat3_5", "GigaChat3.5: linear attention in most layers, gated norms"},
};

static bool is_string(const cJSON *value, const char *text) {
    return cJSON_IsString(value) && strcmp(value->valuestring, text) == 0;
}

/* A model_type that nobody knows, with an architecture that is known, or neither of both. */
static void notice_guess(const fr_keys *k, const fr_member *member, const cJSON *type, const cJSON *architectures) {
    bool known = false;
    for (int i = 0; i < NUM_MEMBERS; i++) known = known || is_string(type, members[i].model_type);
    if (!type && !architectures) fr_keys_assume(k, "model_type", "%s", member->model_type);
    if (type && !known)
        fr_notices_add(k->notices, k->file, "model_type %.60s is not known: read as %s, whose architecture it names",
                       cJSON_IsString(type) ? type->valuestring : "is no text and", member->model_type);
}

static const fr_member *member_named(const cJSON *type, const cJSON *architectures) {
    const cJSON *item;
    for (int i = 0; i < NUM_MEMBERS; i++)
        if (is_string(type, members[i].model_type)) return &members[i];
    cJSON_ArrayForEach(item, architectures) {
        for (int i = 0; i < NUM_MEMBERS; i++)
            if (is_string(item, members[i].architecture)) return &members[i];
    }
    return type || architectures ? NULL : members;
}

static fr_status refuse_others(const fr_keys *k, const cJSON *type) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (is_string(type, others[i].model_type))
            return fr_fail_at(k->error, FR_ERROR_UNSUPPORTED, fr_keys_place(k, "model_type").text,
                              "%s is not of the DeepSeek-V3 family: it is %s", others[i].model_type, others[i].is);
    return FR_OK;
}

fr_status fr_config_member(const fr_keys *k, const fr_member **out) {
    const cJSON *type = fr_json_find(k->object, "model_type"), *architectures = fr_json_find(k->object, "architectures");
    FR_TRY(refuse_others(k, type));
    *out = member_named(type, architectures);
    if (*out) {
        notice_guess(k, *out, type, architectures);
        return FR_OK;
    }
    char only[256] = "the DeepSeek-V3 family (";
    for (int i = 0; i < NUM_MEMBERS; i++)
        snprintf(only + strlen(only), sizeof only - strlen(only), "%s%s", members[i].model_type,
                 i + 1 < NUM_MEMBERS ? ", " : ")");
    return fr_keys_unsupported(k, type ? "model_type" : "architectures", only);
}
