/* Binds the schema's rows to a checkpoint's tensors. Matrices are used where they are mapped; vectors become float32. A rank
 * takes its part of the matrices that are cut, and the whole of everything else. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/threads.h"
#include "model/weights.h"

/* ---- One tensor ---- */

static const char *bytes_at(const fr_tensor *t, int64_t at) {
    return t->part ? (const char *)t->part + (at - (int64_t)t->part_begin) : (const char *)t->data + at;
}

/* Scales are used where they are mapped, or copied if they are not aligned there. */
static fr_status bind_scales(fr_linear *linear, const fr_tensor *tensor, fr_schema_share share, fr_error *error) {
    int rows = fr_blocks(share.last - share.first), columns = fr_blocks(linear->in);
    const char *from = bytes_at(tensor, share.first / FR_BLOCK * tensor->shape[1] * 4);
    if ((uintptr_t)from % sizeof(float) == 0) {
        linear->scale = (const float *)(const void *)from;
        linear->scale_stride = tensor->shape[1];
        return FR_OK;
    }
    float *scale = fr_alloc((size_t)rows * (size_t)columns * sizeof *scale);
    if (!scale) return fr_fail_at(error, FR_ERROR_MEMORY, tensor->name, "no memory for %d x %d scales", rows, columns);
    for (int i = 0; i < rows; i++)
        memcpy(scale + (size_t)i * (size_t)columns, from + i * tensor->shape[1] * 4, (size_t)columns * 4);
    linear->scale = linear->owned_scale = scale;
    linear->scale_stride = columns;
    return FR_OK;
}

fr_status fr_linear_bind(fr_linear *linear, const fr_checkpoint *checkpoint, const fr_schema_tensor *t, const fr_ranks *ranks,
                         fr_error *error) {
    char name[256];
    int64_t scale_shape[2];
    const fr_tensor *tensor, *scale;
    const fr_schema_share share = fr_schema_share_of(t, ranks);

    assert(t->rank == 2);
    memset(linear, 0, sizeof *linear);
    FR_TRY(fr_checkpoint_get(checkpoint, t->name, fr_schema_dtypes(t->row->kind), 2, t->shape, &tensor, error));
    linear->out = t->row->cut == FR_CUT_HEADS ? share.last - share.first : (int)t->shape[0];
    linear->in = (int)t->shape[1];
    linear->dtype = tensor->dtype;
    linear->stride = t->shape[1];
    if (t->row->cut != FR_CUT_HEADS) {
        linear->before = share.begin;
        linear->behind = (int)t->shape[0] - share.end;
        linear->gathered = t->row->cut == FR_CUT_OUT && ranks->size > 1;
    }
    if (share.first == share.last) return FR_OK;
    linear->w = bytes_at(tensor, share.first * t->shape[1] * (int64_t)fr_dtype_size(tensor->dtype));
    if (tensor->dtype != FR_F8_E4M3) return FR_OK;

    fr_schema_scale(t, name, sizeof name, scale_shape);
    FR_TRY(fr_checkpoint_get(checkpoint, name, 1u << FR_F32, 2, scale_shape, &scale, error));
    return bind_scales(linear, scale, share, error);
}

/* Converts to float32 whatever the file has. */
static fr_status bind_vector(float **out, const fr_checkpoint *checkpoint, const fr_schema_tensor *t, fr_error *error) {
    size_t width = (size_t)t->shape[0];
    const fr_tensor *tensor;
    FR_TRY(fr_checkpoint_get(checkpoint, t->name, fr_schema_dtypes(t->row->kind), 1, t->shape, &tensor, error));
    float *values = fr_alloc(width * sizeof *values);
    if (!values) return fr_fail_at(error, FR_ERROR_MEMORY, t->name, "out of memory");
    if (tensor->dtype == FR_F32) {
        memcpy(values, tensor->data, width * sizeof *values);
    } else {
        for (size_t i = 0; i < width; i++) {
            uint16_t bits;
            memcpy(&bits, (const char *)tensor->data + 2 * i, sizeof bits);
            values[i] = fr_bf16_f32(bits);
        }
    }
    *out = values;
    return FR_OK;
}

/* ---- Places ---- */

bool fr_weights_use(const fr_model *model, const fr_schema_tensor *t) {
    const fr_mtp_files *files = &model->mtp.files;
    if (!t->mtp) return true;
    if (!files->present || t->layer != model->config.num_hidden_layers) return false;
    return !t->optional || (t->row->part == FR_PART_EMBEDDING ? files->own_embedding : files->own_lm_head);
}

/* The layer that a tensor belongs to; NULL before it is made. */
static const fr_layer *layer_of(const fr_model *model, const fr_schema_tensor *t) {
    if (t->mtp) return &model->mtp.layer;
    return model->layers ? &model->layers[t->layer] : NULL;
}

/* The struct that a row's offset counts from; NULL before it is made. */
static const void *base_of(const fr_model *model, const fr_schema_tensor *t) {
    switch (t->row->scope) {
    case FR_SCOPE_MODEL:
        return model;
    case FR_SCOPE_LAYER:
        return layer_of(model, t);
    case FR_SCOPE_EXPERT: {
        const fr_layer *layer = layer_of(model, t);
        return layer && layer->moe.experts ? &layer->moe.experts[t->expert] : NULL;
    }
    case FR_SCOPE_MTP:
        return &model->mtp;
    }
    return NULL;
}

/* Where a tensor is bound: an fr_linear or, for a vector, a float *. NULL when it is not bound, or its layer is not made. */
static void *place_of(const fr_model *model, const fr_schema_tensor *t) {
    const char *base = fr_weights_use(model, t) ? base_of(model, t) : NULL;
    return base ? (void *)(base + t->row->offset) : NULL;
}

typedef struct visit {
    const fr_model *model;
    fr_linear_fn fn;
    void *user;
} visit;

static fr_status visit_linear(void *user, const fr_schema_tensor *t) {
    const visit *v = user;
    const fr_linear *linear = t->rank == 2 ? place_of(v->model, t) : NULL;
    if (linear && linear->in > 0) v->fn(v->user, t, linear);
    return FR_OK;
}

void fr_weights_each_linear(const fr_model *model, fr_linear_fn fn, void *user) {
    fr_schema_each(&model->config, visit_linear, &(visit){model, fn, user});
}

/* ---- Layers ---- */

/* Of a matrix with `width` outputs a head, bound for heads [begin, end) of `heads`: what lies before and behind them. */
static void find_margins(int heads, int width, int begin, int end, int *before, int *behind) {
    const fr_linear cut = {.out = heads * width, .before = begin * width, .behind = (heads - end) * width};
    *before = begin < end ? begin * width - fr_linear_first(&cut) : 0;
    *behind = begin < end ? fr_linear_last(&cut) - end * width : 0;
}

static fr_mla mla_of(const fr_model *model) {
    const fr_config *c = &model->config;
    const int heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, v = c->v_head_dim;
    int begin, end;
    fr_ranks_part(model->ranks, model->ranks->rank, heads, 1, &begin, &end);
    fr_mla m = {.hidden = c->hidden_size,
                .heads = end - begin,
                .first_head = begin,
                .other_heads = heads - (end - begin),
                .q_rank = c->q_lora_rank,
                .kv_rank = c->kv_lora_rank,
                .nope = nope,
                .rope = rope,
                .v = v,
                .eps = 1e-6f, /* of the latents' norms: not rms_norm_eps, in DeepSeek's code and in transformers */
                .softmax_scale = fr_softmax_scale(c),
                .act_fp8 = model->act_fp8,
                .act_ue8m0 = c->act_ue8m0};
    find_margins(heads, nope + rope, begin, end, &m.q_before, &m.q_behind);
    find_margins(heads, nope + v, begin, end, &m.kv_before, &m.kv_behind);
    return m;
}

static fr_indexer indexer_of(const fr_config *c, int layer) {
    int before = 0;
    if (!fr_config_layer_has_indexer(c, layer)) return (fr_indexer){.topk = 0};
    for (int i = 0; layer < c->num_hidden_layers && i < layer; i++) before += fr_config_layer_has_indexer(c, i);
    return (fr_indexer){.heads = c->index_n_heads,
                        .dim = c->index_head_dim,
                        .topk = c->index_topk,
                        .kv_layer = before,
                        .interleaved = c->indexer_rope_interleave};
}

static fr_moe moe_of(const fr_model *model) {
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

void fr_layer_sizes(const fr_model *model, fr_layer *layer) {
    const fr_config *c = &model->config;
    *layer = (fr_layer){.mla = mla_of(model), .moe = moe_of(model)};
    layer->mla.indexer = indexer_of(c, 0);
    layer->moe.shared.gate_proj.out = c->n_shared_experts * c->moe_intermediate_size;
}

/* Sets a layer's sizes and allocates its experts, so that tensors can be bound. */
static fr_status make_layer(const fr_model *model, int index, fr_layer *layer, fr_error *error) {
    *layer = (fr_layer){.mla = mla_of(model), .is_moe = fr_config_layer_is_moe(&model->config, index)};
    layer->mla.indexer = indexer_of(&model->config, index);
    if (!layer->is_moe) return FR_OK;
    layer->moe = moe_of(model);
    layer->moe.experts = fr_alloc_zeroed((size_t)layer->moe.router.experts, sizeof *layer->moe.experts);
    if (layer->moe.experts) return FR_OK;
    return fr_fail_at(error, FR_ERROR_MEMORY, fr_place_of("model.layers.%d.mlp.experts", index).text, "out of memory");
}

static fr_status make_layers(fr_model *model, fr_error *error) {
    int count = model->config.num_hidden_layers;
    model->layers = fr_alloc_zeroed((size_t)count, sizeof *model->layers);
    if (!model->layers) return fr_fail_at(error, FR_ERROR_MEMORY, "model.layers", "out of memory");
    for (int i = 0; i < count; i++) FR_TRY(make_layer(model, i, &model->layers[i], error));
    return model->mtp.files.present ? make_layer(model, count, &model->mtp.layer, error) : FR_OK;
}

static void finish_layer(fr_layer *layer) {
    if (layer->is_moe) layer->moe.inputs = fr_moe_inputs(&layer->moe);
}

/* ---- The network ---- */

typedef struct binder {
    fr_model *model;
    fr_error *error;
} binder;

/* What is not bound (copies, MTP modules beyond the first) is held to the same rules, which are those of fr_check. */
static fr_status bind_tensor(void *user, const fr_schema_tensor *t) {
    const binder *b = user;
    const fr_checkpoint *checkpoint = b->model->checkpoint;
    void *place = place_of(b->model, t);
    if (t->mtp && !b->model->mtp.files.present) return FR_OK;
    if ((t->optional || (t->mtp && !place)) && !fr_checkpoint_find(checkpoint, t->name)) return FR_OK;
    FR_TRY(fr_schema_fit(t, checkpoint, b->error));
    if (!place) return FR_OK;
    return t->rank == 1 ? bind_vector(place, checkpoint, t, b->error)
                        : fr_linear_bind(place, checkpoint, t, b->model->ranks, b->error);
}

/* The rank's part of the embedding, as an LM head. */
static fr_linear tied_head(const fr_model *model) {
    fr_linear head = model->embed_tokens;
    int begin, end;
    fr_ranks_part(model->ranks, model->ranks->rank, head.out, fr_cut_unit(head.out, model->ranks->size), &begin, &end);
    head.before = begin;
    head.behind = head.out - end;
    head.gathered = model->ranks->size > 1;
    head.w = (const char *)head.w + fr_linear_first(&head) * head.stride * (int64_t)fr_dtype_size(head.dtype);
    return head;
}

fr_status fr_weights_bind(fr_model *model, fr_error *error) {
    binder b = {model, error};
    model->num_moe_layers = fr_config_num_moe_layers(&model->config);
    FR_TRY(make_layers(model, error));
    FR_TRY(fr_schema_each(&model->config, bind_tensor, &b));
    for (int i = 0; i < model->config.num_hidden_layers; i++) finish_layer(&model->layers[i]);
    finish_layer(&model->mtp.layer);
    if (fr_schema_head_is_tied(&model->config, model->checkpoint, &model->notices)) {
        fr_linear_release(&model->lm_head);
        model->lm_head = tied_head(model); /* an embedding has no scales, so there is nothing to release twice */
    }
    if (!model->mtp.files.own_embedding) model->mtp.embed_tokens = model->embed_tokens;
    if (!model->mtp.files.own_lm_head) model->mtp.lm_head = model->lm_head;
    return FR_OK;
}

static fr_status release_tensor(void *user, const fr_schema_tensor *t) {
    fr_model *model = user;
    void *place = place_of(model, t);
    if (!place) return FR_OK;
    if (t->rank == 1) {
        fr_free(*(float **)place);
        *(float **)place = NULL;
    } else {
        fr_linear_release(place);
    }
    return FR_OK;
}

void fr_weights_release(fr_model *model) {
    fr_schema_each(&model->config, release_tensor, model);
    for (int i = 0; model->layers && i < model->config.num_hidden_layers; i++) fr_free(model->layers[i].moe.experts);
    fr_free(model->layers);
    fr_free(model->mtp.layer.moe.experts);
    if (model->draft_head.owned_w) fr_linear_release(&model->draft_head);
    model->layers = NULL;
    memset(&model->draft_head, 0, sizeof model->draft_head);
    model->mtp = (fr_mtp_module){.files = model->mtp.files};
}
