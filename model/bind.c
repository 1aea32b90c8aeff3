/* Checkpoint names to weights. A tensor-parallel shard takes its heads of attention and its columns of every MLP; norms,
 * gates, embedding and the MTP projection are whole on every shard. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/threads.h"
#include "model/schema.h"
#include "model/weights.h"

/* ---- One linear ---- */

/* Scales stay where they are unless the file has them at an odd place. */
static fr_status bind_scales(fr_linear *linear, const fr_tensor *tensor, int block_row, int block_column, fr_error *error) {
    int rows = fr_blocks(linear->out), columns = fr_blocks(linear->in);
    const char *from = (const char *)tensor->data + (block_row * tensor->shape[1] + block_column) * 4;
    if ((uintptr_t)from % sizeof(float) == 0) {
        linear->scale = (const float *)(const void *)from;
        linear->scale_stride = tensor->shape[1];
        return FR_OK;
    }
    float *scale = fr_alloc((size_t)rows * (size_t)columns * sizeof *scale);
    if (!scale) return fr_fail(error, FR_ERROR_MEMORY, "%s: no memory for %d x %d scales", tensor->name, rows, columns);
    for (int i = 0; i < rows; i++)
        memcpy(scale + (size_t)i * (size_t)columns, from + i * tensor->shape[1] * 4, (size_t)columns * 4);
    linear->scale = linear->owned_scale = scale;
    linear->scale_stride = columns;
    return FR_OK;
}

/* This shard's part of `size`, in whole blocks. */
static fr_status cut_range(const char *name, int size, bool cut, fr_shard shard, int *begin, int *end, fr_error *error) {
    *begin = 0;
    *end = size;
    if (cut) fr_split(size, FR_BLOCK, shard.count, shard.index, begin, end);
    if (*begin < *end) return FR_OK;
    return fr_fail(error, FR_ERROR_UNSUPPORTED, "%s: %d cannot be cut into %d parts of whole %d-blocks", name, size, shard.count,
                   FR_BLOCK);
}

fr_status fr_linear_bind(fr_linear *linear, const fr_checkpoint *checkpoint, const char *prefix, int out, int in, fr_cut cut,
                         fr_shard shard, fr_error *error) {
    char name[256];
    const fr_tensor *tensor, *scale;
    const unsigned dtypes = 1u << FR_F8_E4M3 | 1u << FR_BF16 | 1u << FR_F32;
    int row, row_end, column, column_end;

    memset(linear, 0, sizeof *linear);
    snprintf(name, sizeof name, "%s.weight", prefix);
    FR_TRY(fr_checkpoint_get(checkpoint, name, dtypes, 2, (int64_t[]){out, in}, &tensor, error));
    FR_TRY(cut_range(name, out, cut == FR_CUT_OUT, shard, &row, &row_end, error));
    FR_TRY(cut_range(name, in, cut == FR_CUT_IN, shard, &column, &column_end, error));
    linear->out = row_end - row;
    linear->in = column_end - column;
    linear->dtype = tensor->dtype;
    linear->stride = in;
    linear->w = (const char *)tensor->data + ((int64_t)row * in + column) * (int64_t)fr_dtype_size(tensor->dtype);
    if (tensor->dtype != FR_F8_E4M3) return FR_OK;

    snprintf(name, sizeof name, "%s.weight_scale_inv", prefix);
    FR_TRY(fr_checkpoint_get(checkpoint, name, 1u << FR_F32, 2, (int64_t[]){fr_blocks(out), fr_blocks(in)}, &scale, error));
    return bind_scales(linear, scale, row / FR_BLOCK, column / FR_BLOCK, error);
}

/* ---- The network ---- */

typedef struct fr_binder {
    const fr_model *model;
    fr_shard shard;
    fr_error *error;
} fr_binder;

#define NAME_MAX_LENGTH 160 /* the checkpoint's longest is about 70 */

/* A tensor's name or prefix, in out [NAME_MAX_LENGTH]. */
static const char *name_of(char *out, const char *format, ...) FR_PRINTF(2, 3);
static const char *name_of(char *out, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(out, NAME_MAX_LENGTH, format, args);
    va_end(args);
    return out;
}

/* A vector as float32, whatever the file has. */
static fr_status bind_vector(const fr_binder *b, const char *name, int width, float **out) {
    const fr_tensor *tensor;
    FR_TRY(fr_checkpoint_get(b->model->checkpoint, name, 1u << FR_BF16 | 1u << FR_F32, 1, (const int64_t[]){width}, &tensor,
                             b->error));
    float *values = fr_alloc((size_t)width * sizeof(float));
    if (!values) return fr_fail(b->error, FR_ERROR_MEMORY, "%s: out of memory", name);
    if (tensor->dtype == FR_F32) {
        memcpy(values, tensor->data, (size_t)width * sizeof(float));
    } else {
        for (int i = 0; i < width; i++) {
            uint16_t bits;
            memcpy(&bits, (const char *)tensor->data + 2 * (size_t)i, sizeof bits);
            values[i] = fr_bf16_f32(bits);
        }
    }
    *out = values;
    return FR_OK;
}

static fr_status bind_linear(const fr_binder *b, const char *prefix, const char *name, int out, int in, fr_cut cut,
                             fr_linear *linear) {
    char full[NAME_MAX_LENGTH];
    return fr_linear_bind(linear, b->model->checkpoint, name_of(full, "%s.%s", prefix, name), out, in, cut, b->shard, b->error);
}

static fr_status bind_norm(const fr_binder *b, const char *prefix, const char *name, int width, float **out) {
    char full[NAME_MAX_LENGTH];
    return bind_vector(b, name_of(full, "%s.%s.weight", prefix, name), width, out);
}

static fr_mla mla_shape(const fr_model *model) {
    const fr_config *c = &model->config;
    return (fr_mla){.hidden = c->hidden_size,
                    .heads = c->num_attention_heads,
                    .q_rank = c->q_lora_rank,
                    .kv_rank = c->kv_lora_rank,
                    .nope = c->qk_nope_head_dim,
                    .rope = c->qk_rope_head_dim,
                    .v = c->v_head_dim,
                    .eps = c->rms_norm_eps,
                    .softmax_scale = fr_softmax_scale(c),
                    .act_fp8 = model->act_fp8,
                    .act_ue8m0 = c->act_ue8m0};
}

static fr_status bind_mla(const fr_binder *b, const char *prefix, fr_mla *mla) {
    *mla = mla_shape(b->model);
    int q_width = mla->heads * (mla->nope + mla->rope), kv_width = mla->heads * (mla->nope + mla->v);
    if (mla->q_rank) {
        FR_TRY(bind_linear(b, prefix, "q_a_proj", mla->q_rank, mla->hidden, FR_CUT_NONE, &mla->q_a_proj));
        FR_TRY(bind_norm(b, prefix, "q_a_layernorm", mla->q_rank, &mla->q_a_layernorm));
        FR_TRY(bind_linear(b, prefix, "q_b_proj", q_width, mla->q_rank, FR_CUT_OUT, &mla->q_b_proj));
    } else {
        FR_TRY(bind_linear(b, prefix, "q_proj", q_width, mla->hidden, FR_CUT_OUT, &mla->q_proj));
    }
    FR_TRY(bind_linear(b, prefix, "kv_a_proj_with_mqa", mla->kv_rank + mla->rope, mla->hidden, FR_CUT_NONE,
                       &mla->kv_a_proj_with_mqa));
    FR_TRY(bind_norm(b, prefix, "kv_a_layernorm", mla->kv_rank, &mla->kv_a_layernorm));
    FR_TRY(bind_linear(b, prefix, "kv_b_proj", kv_width, mla->kv_rank, FR_CUT_OUT, &mla->kv_b_proj));
    return bind_linear(b, prefix, "o_proj", mla->hidden, mla->heads * mla->v, FR_CUT_IN, &mla->o_proj);
}

static fr_status bind_mlp(const fr_binder *b, const char *prefix, int intermediate, fr_mlp *mlp) {
    int hidden = b->model->config.hidden_size;
    FR_TRY(bind_linear(b, prefix, "gate_proj", intermediate, hidden, FR_CUT_OUT, &mlp->gate_proj));
    FR_TRY(bind_linear(b, prefix, "up_proj", intermediate, hidden, FR_CUT_OUT, &mlp->up_proj));
    return bind_linear(b, prefix, "down_proj", hidden, intermediate, FR_CUT_IN, &mlp->down_proj);
}

static fr_moe moe_shape(const fr_model *model) {
    const fr_config *c = &model->config;
    return (fr_moe){.hidden = c->hidden_size,
                    .intermediate = c->moe_intermediate_size,
                    .act_fp8 = model->act_fp8,
                    .act_ue8m0 = c->act_ue8m0,
                    .router = {.experts = c->n_routed_experts,
                               .groups = c->n_group,
                               .topk_group = c->topk_group,
                               .topk = c->num_experts_per_tok,
                               .norm_topk_prob = c->norm_topk_prob,
                               .scaling = c->routed_scaling_factor},
                    .has_shared = c->n_shared_experts > 0};
}

static fr_status bind_moe(const fr_binder *b, const char *prefix, fr_moe *moe) {
    const fr_config *c = &b->model->config;
    *moe = moe_shape(b->model);
    char name[NAME_MAX_LENGTH];
    FR_TRY(bind_linear(b, prefix, "gate", c->n_routed_experts, c->hidden_size, FR_CUT_NONE, &moe->router.gate));
    FR_TRY(bind_vector(b, name_of(name, "%s.gate.e_score_correction_bias", prefix), c->n_routed_experts, &moe->router.bias));
    moe->experts = fr_alloc_zeroed((size_t)c->n_routed_experts, sizeof *moe->experts);
    if (!moe->experts) return fr_fail(b->error, FR_ERROR_MEMORY, "%s.experts: out of memory", prefix);
    for (int e = 0; e < c->n_routed_experts; e++) {
        name_of(name, "%s.experts.%d", prefix, e);
        FR_TRY(bind_mlp(b, name, c->moe_intermediate_size, &moe->experts[e]));
        /* A layer's experts share one pass over ready-made rows, so they must want them in one form. */
        if (moe->experts[e].down_proj.dtype != moe->experts[0].down_proj.dtype)
            return fr_fail(b->error, FR_ERROR_UNSUPPORTED, "%s.down_proj.weight: %s, but expert 0 of the layer has %s", name,
                           fr_dtype_name(moe->experts[e].down_proj.dtype), fr_dtype_name(moe->experts[0].down_proj.dtype));
    }
    if (moe->has_shared)
        FR_TRY(bind_mlp(b, name_of(name, "%s.shared_experts", prefix), c->n_shared_experts * c->moe_intermediate_size,
                        &moe->shared));
    moe->forms = fr_moe_forms(moe);
    return FR_OK;
}

void fr_layer_shape(const fr_model *model, fr_layer *layer) {
    const fr_config *c = &model->config;
    *layer = (fr_layer){.mla = mla_shape(model), .moe = moe_shape(model)};
    layer->moe.shared.gate_proj.out = c->n_shared_experts * c->moe_intermediate_size;
}

static fr_status bind_layer(const fr_binder *b, int index, fr_layer *layer) {
    const fr_config *c = &b->model->config;
    char prefix[NAME_MAX_LENGTH], part[NAME_MAX_LENGTH];
    name_of(prefix, "model.layers.%d", index);
    layer->is_moe = fr_config_layer_is_moe(c, index);
    FR_TRY(bind_norm(b, prefix, "input_layernorm", c->hidden_size, &layer->input_layernorm));
    FR_TRY(bind_mla(b, name_of(part, "%s.self_attn", prefix), &layer->mla));
    FR_TRY(bind_norm(b, prefix, "post_attention_layernorm", c->hidden_size, &layer->post_attention_layernorm));
    name_of(part, "%s.mlp", prefix);
    return layer->is_moe ? bind_moe(b, part, &layer->moe) : bind_mlp(b, part, c->intermediate_size, &layer->mlp);
}

static fr_status bind_mtp(const fr_binder *b, fr_mtp_module *mtp) {
    const fr_config *c = &b->model->config;
    char prefix[NAME_MAX_LENGTH];
    name_of(prefix, "model.layers.%d", c->num_hidden_layers);
    mtp->present = true;
    FR_TRY(bind_norm(b, prefix, "enorm", c->hidden_size, &mtp->enorm));
    FR_TRY(bind_norm(b, prefix, "hnorm", c->hidden_size, &mtp->hnorm));
    FR_TRY(bind_linear(b, prefix, "eh_proj", c->hidden_size, 2 * c->hidden_size, FR_CUT_NONE, &mtp->eh_proj));
    FR_TRY(bind_norm(b, prefix, "shared_head.norm", c->hidden_size, &mtp->shared_head_norm));
    return bind_layer(b, c->num_hidden_layers, &mtp->layer);
}

fr_status fr_weights_bind(fr_model *model, fr_shard shard, fr_error *error) {
    const fr_config *c = &model->config;
    fr_binder b = {model, shard, error};
    model->num_moe_layers = fr_config_num_moe_layers(c);
    FR_TRY(bind_linear(&b, "model", "embed_tokens", c->vocab_size, c->hidden_size, FR_CUT_NONE, &model->embed_tokens));
    if (model->embed_tokens.dtype == FR_F8_E4M3)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "model.embed_tokens.weight: FP8 embeddings; expected BF16 or F32");
    model->layers = fr_alloc_zeroed((size_t)c->num_hidden_layers, sizeof *model->layers);
    if (!model->layers) return fr_fail(error, FR_ERROR_MEMORY, "model.layers: out of memory");
    for (int i = 0; i < c->num_hidden_layers; i++) FR_TRY(bind_layer(&b, i, &model->layers[i]));
    FR_TRY(bind_vector(&b, "model.norm.weight", c->hidden_size, &model->norm));
    if (c->tie_word_embeddings && !fr_checkpoint_find(model->checkpoint, "lm_head.weight"))
        model->lm_head = model->embed_tokens; /* without scales: there is nothing to release twice */
    else
        FR_TRY(fr_linear_bind(&model->lm_head, model->checkpoint, "lm_head", c->vocab_size, c->hidden_size, FR_CUT_OUT, shard,
                              error));
    return fr_schema_has_mtp(c, model->checkpoint) ? bind_mtp(&b, &model->mtp) : FR_OK;
}

static void release_mlp(fr_mlp *mlp) {
    fr_linear_release(&mlp->gate_proj);
    fr_linear_release(&mlp->up_proj);
    fr_linear_release(&mlp->down_proj);
}

static void release_layer(fr_layer *layer) {
    fr_mla *mla = &layer->mla;
    fr_linear *linears[] = {&mla->q_proj,    &mla->q_a_proj, &mla->q_b_proj,         &mla->kv_a_proj_with_mqa,
                            &mla->kv_b_proj, &mla->o_proj,   &layer->moe.router.gate};
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) fr_linear_release(linears[i]);
    fr_free(layer->input_layernorm);
    fr_free(layer->post_attention_layernorm);
    fr_free(mla->q_a_layernorm);
    fr_free(mla->kv_a_layernorm);
    fr_free(layer->moe.router.bias);
    release_mlp(&layer->mlp);
    release_mlp(&layer->moe.shared);
    for (int e = 0; layer->moe.experts && e < layer->moe.router.experts; e++) release_mlp(&layer->moe.experts[e]);
    fr_free(layer->moe.experts);
}

void fr_weights_release(fr_model *model) {
    fr_linear_release(&model->embed_tokens);
    for (int i = 0; model->layers && i < model->config.num_hidden_layers; i++) release_layer(&model->layers[i]);
    fr_free(model->layers);
    fr_free(model->norm);
    fr_linear_release(&model->lm_head);
    if (model->draft_head.owned_w) fr_linear_release(&model->draft_head);
    fr_free(model->mtp.enorm);
    fr_free(model->mtp.hnorm);
    fr_free(model->mtp.shared_head_norm);
    fr_linear_release(&model->mtp.eh_proj);
    release_layer(&model->mtp.layer);
    model->layers = NULL;
    model->norm = NULL;
    memset(&model->draft_head, 0, sizeof model->draft_head);
    memset(&model->mtp, 0, sizeof model->mtp);
}
