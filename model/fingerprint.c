#include "model/fingerprint.h"

#include <string.h>

#include "core/checkpoint/checksum.h"

enum { SAMPLES = 256, SAMPLE_BYTES = 64 };

static uint64_t add_number(uint64_t hash, uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> 8 * i);
    return fr_hash64(hash, bytes, sizeof bytes);
}

static uint64_t add_text(uint64_t hash, const char *text) {
    return fr_hash64(hash, text, strlen(text) + 1); /* the NUL ends it: "ab", "c" is not "a", "bc" */
}

/* Only what changes numbers: limits of a text and tokens that end it may be edited. */
static uint64_t add_config(uint64_t hash, const fr_config *c) {
    const int numbers[] = {
        c->hidden_size,
        c->vocab_size,
        c->num_hidden_layers,
        c->num_nextn_predict_layers,
        c->tie_word_embeddings,
        c->num_attention_heads,
        c->q_lora_rank,
        c->kv_lora_rank,
        c->qk_nope_head_dim,
        c->qk_rope_head_dim,
        c->v_head_dim,
        c->yarn.present,
        c->yarn.original_max_position_embeddings,
        c->intermediate_size,
        c->moe_intermediate_size,
        c->n_routed_experts,
        c->n_shared_experts,
        c->num_experts_per_tok,
        c->n_group,
        c->topk_group,
        c->first_k_dense_replace,
        c->moe_layer_freq,
        c->norm_topk_prob,
        c->fp8,
        c->act_dynamic,
        c->act_ue8m0,
    };
    const float reals[] = {
        c->rms_norm_eps,   c->rope_theta,  c->yarn.factor,         c->yarn.beta_fast,
        c->yarn.beta_slow, c->yarn.mscale, c->yarn.mscale_all_dim, c->routed_scaling_factor,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) hash = add_number(hash, (uint64_t)numbers[i]);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) hash = add_number(hash, fr_f32_bits(reals[i]));
    return hash;
}

uint64_t fr_model_fingerprint(const fr_model *model) {
    const fr_checkpoint *checkpoint = model->checkpoint;
    size_t count = fr_checkpoint_count(checkpoint), samples = count < SAMPLES ? count : SAMPLES;
    uint64_t hash = add_config(FR_HASH64_START, &model->config);
    for (size_t i = 0; i < count; i++) {
        const fr_tensor *tensor = fr_checkpoint_at(checkpoint, i);
        hash = add_text(add_text(hash, tensor->name), fr_dtype_name(tensor->dtype));
        hash = add_number(hash, (uint64_t)tensor->rank);
        for (int d = 0; d < tensor->rank; d++) hash = add_number(hash, (uint64_t)tensor->shape[d]);
    }
    for (size_t k = 0; k < samples; k++) { /* from the middle: tensors may begin with padding */
        const fr_tensor *tensor = fr_checkpoint_at(checkpoint, k * count / samples);
        uint64_t bytes = tensor->bytes < SAMPLE_BYTES ? tensor->bytes : SAMPLE_BYTES;
        hash = fr_hash64(hash, (const char *)tensor->data + (tensor->bytes - bytes) / 2, (size_t)bytes);
    }
    return hash;
}
