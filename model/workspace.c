#include "model/workspace.h"

/* Of what ranks exchange at a time: the most that decoding does; prefill exchanges more by and by. */
static size_t exchange_bytes(const fr_model *model) {
    const fr_config *c = &model->config;
    int widths[] = {c->vocab_size, c->hidden_size, c->num_attention_heads * c->v_head_dim, c->intermediate_size,
                    c->moe_intermediate_size * (c->num_experts_per_tok + c->n_shared_experts)};
    int most = 0;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) most = widths[i] > most ? widths[i] : most;
    return FR_DECODE_ROWS * (size_t)most * sizeof(float);
}

/* Counts what is needed, or with a real arena takes it; see fr_arena. */
static void take(fr_workspace *ws, fr_arena *arena, const fr_model *model) {
    const fr_config *c = &model->config;
    size_t rows = (size_t)ws->max_rows, width = (size_t)c->hidden_size;
    /* Layers of one kind share their scratch. The MTP module's layer may be the only one with experts. */
    bool dense = false, sparse = false;
    fr_layer layer;
    fr_layer_sizes(model, &layer);
    for (int i = 0; i < c->num_hidden_layers + model->mtp.files.present; i++) {
        bool is_moe = fr_config_layer_is_moe(c, i);
        sparse |= is_moe;
        dense |= !is_moe;
    }
    fr_rope_take(&ws->rope, arena, c, ws->ctx);
    ws->x = FR_TAKE(arena, float, rows *width);
    ws->normed = FR_TAKE(arena, float, rows *width);
    ws->delta = FR_TAKE(arena, float, rows *width);
    ws->hidden = FR_TAKE(arena, float, rows *width);
    fr_rows_take(&ws->rows, arena, model->kernels, ws->max_rows, c->hidden_size, FR_INPUT_ANY);
    if (model->mtp.files.present) {
        ws->joined = FR_TAKE(arena, float, rows * 2 * width);
        fr_rows_take(&ws->joined_rows, arena, model->kernels, ws->max_rows, 2 * c->hidden_size, FR_INPUT_ANY);
    }
    /* Prefill attention expands FR_KV_BLOCK positions, also for fewer rows. */
    int most = ws->max_rows > FR_DECODE_ROWS && ws->max_rows < FR_KV_BLOCK ? FR_KV_BLOCK : ws->max_rows;
    fr_compute_take(&ws->compute, arena, model->kernels, most, model->threads);
    fr_exchange_take(&ws->compute.exchange, arena, model->ranks, exchange_bytes(model));
    fr_mla_scratch_take(&ws->mla, arena, &layer.mla, ws->max_rows, &ws->compute);
    if (c->index_topk > 0) fr_mla_scratch_take_index(&ws->mla, arena, &layer.mla, ws->max_rows, ws->ctx);
    if (dense) fr_mlp_scratch_take(&ws->mlp, arena, ws->max_rows, c->intermediate_size, &ws->compute);
    if (sparse) {
        fr_moe_scratch_take(&ws->moe, arena, &layer.moe, ws->max_rows, &ws->compute);
        ws->experts = FR_TAKE(arena, int32_t, (size_t)model->num_moe_layers * rows * (size_t)c->num_experts_per_tok);
    }
}

uint64_t fr_workspace_bytes(const fr_model *model, int max_rows, int ctx) {
    fr_workspace ws = {.max_rows = max_rows, .ctx = ctx};
    fr_arena arena = {0};
    take(&ws, &arena, model);
    return arena.used;
}

typedef struct preparation {
    fr_compute *compute;
    fr_status status;
    fr_error *error;
} preparation;

static void prepare(void *user, const fr_schema_tensor *tensor, const fr_linear *linear) {
    preparation *p = user;
    (void)tensor;
    if (p->status == FR_OK) p->status = fr_compute_prepare(p->compute, linear, p->error);
}

fr_status fr_workspace_create(fr_workspace *ws, const fr_model *model, int max_rows, int ctx, fr_error *error) {
    *ws = (fr_workspace){
        .max_rows = max_rows, .ctx = ctx, .finite = {.layers = model->config.num_hidden_layers, .least = FR_FINITE_ALL}};
    fr_arena arena = {0};
    ws->bytes = arena.size = fr_workspace_bytes(model, max_rows, ctx);
    arena.base = ws->memory = fr_alloc(arena.size);
    if (!ws->memory) {
        fr_fail(error, FR_ERROR_MEMORY, "workspace: %llu bytes cannot be allocated", (unsigned long long)ws->bytes);
        return fr_hint(error, FR_ERROR_MEMORY, "a shorter context or smaller prefill chunks need less");
    }
    take(ws, &arena, model);
    preparation p = {&ws->compute, FR_OK, error};
    fr_weights_each_linear(model, prepare, &p);
    prepare(&p, NULL, &model->draft_head);
    return p.status;
}

fr_status fr_workspace_check(fr_workspace *ws, fr_error *error) {
    fr_expert_pass *pass = &ws->moe.experts;
    if (!pass->failed) return FR_OK;
    pass->failed = false;
    if (error) *error = pass->error;
    return pass->error.status;
}

void fr_workspace_release(fr_workspace *ws) {
    fr_compute_release(&ws->compute);
    fr_free(ws->memory);
    ws->memory = NULL;
}
