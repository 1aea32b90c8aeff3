#include "model/schema.h"

#include <stdio.h>
#include <string.h>

#define LAYERS "model.layers."
#define BLOCK 128 /* side of a scale block */

typedef struct walk {
    const fr_config *config;
    fr_schema_fn fn;
    void *user;
    fr_schema_tensor tensor; /* what the next emit starts from: layer, expert, mtp, part */
    char prefix[96];         /* "model.layers.3.", or "" */
} walk;

static fr_status emit(walk *w, fr_schema_kind kind, const char *suffix, int rank, int64_t out, int64_t in) {
    char name[192];
    snprintf(name, sizeof name, "%s%s", w->prefix, suffix);
    fr_schema_tensor tensor = w->tensor;
    tensor.name = name;
    tensor.kind = kind;
    tensor.rank = rank;
    tensor.shape[0] = out;
    tensor.shape[1] = rank == 2 ? in : 1;
    return w->fn(w->user, &tensor);
}

static fr_status linear(walk *w, fr_schema_part part, const char *suffix, int64_t out, int64_t in) {
    w->tensor.part = part;
    return emit(w, FR_SCHEMA_LINEAR, suffix, 2, out, in);
}

static fr_status matrix(walk *w, fr_schema_part part, const char *suffix, int64_t out, int64_t in) {
    w->tensor.part = part;
    return emit(w, FR_SCHEMA_PLAIN, suffix, 2, out, in);
}

static fr_status norm(walk *w, fr_schema_part part, const char *suffix, int64_t width) {
    w->tensor.part = part;
    return emit(w, FR_SCHEMA_PLAIN, suffix, 1, width, 1);
}

static fr_status optional_matrix(walk *w, fr_schema_part part, const char *suffix, int64_t out, int64_t in) {
    w->tensor.optional = true;
    fr_status status = matrix(w, part, suffix, out, in);
    w->tensor.optional = false;
    return status;
}

static fr_status attention(walk *w) {
    const fr_config *c = w->config;
    int heads = c->num_attention_heads, qk = c->qk_nope_head_dim + c->qk_rope_head_dim;
    if (c->q_lora_rank) {
        FR_TRY(linear(w, FR_PART_ATTENTION, "self_attn.q_a_proj.weight", c->q_lora_rank, c->hidden_size));
        FR_TRY(norm(w, FR_PART_ATTENTION, "self_attn.q_a_layernorm.weight", c->q_lora_rank));
        FR_TRY(linear(w, FR_PART_ATTENTION, "self_attn.q_b_proj.weight", heads * qk, c->q_lora_rank));
    } else {
        FR_TRY(linear(w, FR_PART_ATTENTION, "self_attn.q_proj.weight", heads * qk, c->hidden_size));
    }
    FR_TRY(linear(w, FR_PART_ATTENTION, "self_attn.kv_a_proj_with_mqa.weight", c->kv_lora_rank + c->qk_rope_head_dim,
                  c->hidden_size));
    FR_TRY(norm(w, FR_PART_ATTENTION, "self_attn.kv_a_layernorm.weight", c->kv_lora_rank));
    FR_TRY(linear(w, FR_PART_ATTENTION, "self_attn.kv_b_proj.weight", heads * (c->qk_nope_head_dim + c->v_head_dim),
                  c->kv_lora_rank));
    return linear(w, FR_PART_ATTENTION, "self_attn.o_proj.weight", c->hidden_size, heads * c->v_head_dim);
}

/* gate, up and down projections of one SwiGLU MLP; `stem` is "mlp.", "mlp.experts.7.", ... */
static fr_status mlp(walk *w, fr_schema_part part, const char *stem, int width) {
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    int hidden = w->config->hidden_size;
    for (int i = 0; i < 3; i++) {
        char suffix[96];
        snprintf(suffix, sizeof suffix, "%s%s.weight", stem, names[i]);
        FR_TRY(linear(w, part, suffix, i == 2 ? hidden : width, i == 2 ? width : hidden));
    }
    return FR_OK;
}

static fr_status moe(walk *w) {
    const fr_config *c = w->config;
    FR_TRY(matrix(w, FR_PART_ROUTER, "mlp.gate.weight", c->n_routed_experts, c->hidden_size));
    w->tensor.part = FR_PART_ROUTER;
    FR_TRY(emit(w, FR_SCHEMA_BIAS, "mlp.gate.e_score_correction_bias", 1, c->n_routed_experts, 1));
    fr_status status = FR_OK;
    for (int e = 0; e < c->n_routed_experts && status == FR_OK; e++) {
        char stem[48];
        snprintf(stem, sizeof stem, "mlp.experts.%d.", e);
        w->tensor.expert = e;
        status = mlp(w, FR_PART_EXPERT, stem, c->moe_intermediate_size);
    }
    w->tensor.expert = -1;
    if (status != FR_OK || !c->n_shared_experts) return status;
    return mlp(w, FR_PART_SHARED_EXPERT, "mlp.shared_experts.", c->n_shared_experts * c->moe_intermediate_size);
}

static fr_status decoder_layer(walk *w) {
    const fr_config *c = w->config;
    FR_TRY(norm(w, FR_PART_NORM, "input_layernorm.weight", c->hidden_size));
    FR_TRY(attention(w));
    FR_TRY(norm(w, FR_PART_NORM, "post_attention_layernorm.weight", c->hidden_size));
    if (fr_config_layer_is_moe(c, w->tensor.layer)) return moe(w);
    return mlp(w, FR_PART_DENSE_MLP, "mlp.", c->intermediate_size);
}

static void enter(walk *w, int layer) {
    w->tensor.layer = layer;
    w->tensor.mtp = layer >= w->config->num_hidden_layers;
    snprintf(w->prefix, sizeof w->prefix, LAYERS "%d.", layer);
}

static fr_status mtp_module(walk *w) {
    const fr_config *c = w->config;
    FR_TRY(optional_matrix(w, FR_PART_EMBEDDING, "embed_tokens.weight", c->vocab_size, c->hidden_size));
    FR_TRY(norm(w, FR_PART_NORM, "enorm.weight", c->hidden_size));
    FR_TRY(norm(w, FR_PART_NORM, "hnorm.weight", c->hidden_size));
    FR_TRY(matrix(w, FR_PART_MTP_INPUT, "eh_proj.weight", c->hidden_size, 2 * c->hidden_size));
    FR_TRY(decoder_layer(w));
    FR_TRY(norm(w, FR_PART_NORM, "shared_head.norm.weight", c->hidden_size));
    return optional_matrix(w, FR_PART_HEAD, "shared_head.head.weight", c->vocab_size, c->hidden_size);
}

fr_status fr_schema_each(const fr_config *config, fr_schema_fn fn, void *user) {
    walk w = {.config = config, .fn = fn, .user = user, .tensor = {.layer = -1, .expert = -1}};
    int hidden = config->hidden_size;
    FR_TRY(matrix(&w, FR_PART_EMBEDDING, "model.embed_tokens.weight", config->vocab_size, hidden));
    for (int i = 0; i < config->num_hidden_layers; i++) {
        enter(&w, i);
        FR_TRY(decoder_layer(&w));
    }
    w.tensor.layer = -1;
    w.prefix[0] = '\0';
    FR_TRY(norm(&w, FR_PART_NORM, "model.norm.weight", hidden));
    if (config->tie_word_embeddings)
        FR_TRY(optional_matrix(&w, FR_PART_HEAD, "lm_head.weight", config->vocab_size, hidden));
    else
        FR_TRY(matrix(&w, FR_PART_HEAD, "lm_head.weight", config->vocab_size, hidden));
    for (int j = 0; j < config->num_nextn_predict_layers; j++) {
        enter(&w, config->num_hidden_layers + j);
        FR_TRY(mtp_module(&w));
    }
    return FR_OK;
}

static int64_t blocks(int64_t width) {
    return (width + BLOCK - 1) / BLOCK;
}

bool fr_schema_scale(const fr_schema_tensor *tensor, char *name, size_t size, int64_t shape[2]) {
    shape[0] = blocks(tensor->shape[0]);
    shape[1] = blocks(tensor->shape[1]);
    return (size_t)snprintf(name, size, "%s_scale_inv", tensor->name) < size;
}

uint64_t fr_schema_bytes(const fr_schema_tensor *tensor) {
    uint64_t elements = (uint64_t)tensor->shape[0] * (uint64_t)tensor->shape[1];
    if (tensor->kind == FR_SCHEMA_BIAS) return 4 * elements;
    if (tensor->kind == FR_SCHEMA_PLAIN) return 2 * elements;
    return elements + 4 * (uint64_t)(blocks(tensor->shape[0]) * blocks(tensor->shape[1]));
}

unsigned fr_schema_dtypes(fr_schema_kind kind) {
    unsigned floats = 1u << FR_BF16 | 1u << FR_F32;
    return kind == FR_SCHEMA_LINEAR ? floats | 1u << FR_F8_E4M3 : floats;
}

int fr_schema_layer_of(const char *name) {
    int layer = -1;
    if (strncmp(name, LAYERS, strlen(LAYERS)) != 0) return -1;
    name += strlen(LAYERS);
    for (; *name >= '0' && *name <= '9' && layer < 100000000; name++) layer = (layer < 0 ? 0 : layer) * 10 + (*name - '0');
    return *name == '.' ? layer : -1;
}

bool fr_schema_has_mtp(const fr_config *config, const fr_checkpoint *checkpoint) {
    if (config->num_nextn_predict_layers == 0) return false;
    for (size_t i = 0; i < fr_checkpoint_count(checkpoint); i++)
        if (fr_schema_layer_of(fr_checkpoint_at(checkpoint, i)->name) == config->num_hidden_layers) return true;
    return false;
}
