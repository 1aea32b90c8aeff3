#include "model/layer.h"

#include <assert.h>

#include "core/linear/norm.h"
#include "core/threads.h"

/* TEAM. ws->x += ws->delta. */
static void add_delta(fr_workspace *ws, int rows, int hidden_size) {
    int begin, end;
    fr_team_split(rows * hidden_size, 16, &begin, &end);
    for (int i = begin; i < end; i++) ws->x[i] += ws->delta[i];
    fr_team_barrier();
}

void fr_layer_forward(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows) {
    int hidden_size = model->config.hidden_size;
    float eps = model->config.rms_norm_eps;
    bool act_fp8 = model->act_fp8, ue8m0 = model->config.act_ue8m0;
    assert(rows > 0 && rows <= ws->max_rows && kv_layer < kv->layers && pos >= kv->length && pos + rows <= kv->ctx);

    fr_rmsnorm(model->kernels, ws->normed, ws->x, layer->input_layernorm, eps, rows, hidden_size);
    fr_rows_set(&ws->rows, ws->normed, rows, hidden_size, fr_mla_inputs(&layer->mla), ue8m0);
    fr_mla_forward(&layer->mla, &ws->rope, kv, kv_layer, pos, &ws->rows, ws->delta, &ws->mla);
    add_delta(ws, rows, hidden_size);

    fr_rmsnorm(model->kernels, ws->normed, ws->x, layer->post_attention_layernorm, eps, rows, hidden_size);
    if (layer->is_moe) {
        fr_rows_set(&ws->rows, ws->normed, rows, hidden_size, layer->moe.inputs, ue8m0);
        fr_moe_forward(&layer->moe, &ws->rows, ws->delta, &ws->moe);
    } else {
        fr_rows_set(&ws->rows, ws->normed, rows, hidden_size, fr_mlp_inputs(&layer->mlp, act_fp8), ue8m0);
        fr_mlp_forward(&layer->mlp, act_fp8, ue8m0, &ws->rows, ws->delta, &ws->mlp);
    }
    add_delta(ws, rows, hidden_size);
}

void fr_layer_kv_only(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows) {
    int hidden_size = model->config.hidden_size;
    assert(rows > 0 && rows <= ws->max_rows && kv_layer < kv->layers && pos >= kv->length && pos + rows <= kv->ctx);
    fr_rmsnorm(model->kernels, ws->normed, ws->x, layer->input_layernorm, model->config.rms_norm_eps, rows, hidden_size);
    fr_rows_set(&ws->rows, ws->normed, rows, hidden_size, fr_mla_inputs(&layer->mla), model->config.act_ue8m0);
    fr_mla_kv_only(&layer->mla, &ws->rope, kv, kv_layer, pos, &ws->rows, &ws->mla);
}
