#include "model/layer.h"

#include <assert.h>

#include "core/linear/norm.h"

/* TEAM. ws->rows = norm(ws->x), as linears with these inputs read it. */
static void set_normed(const fr_model *model, fr_workspace *ws, const float *w, int rows, unsigned inputs) {
    fr_rows_set_normed(&(fr_norm_job){.to = &ws->rows,
                                      .y = ws->normed,
                                      .x = ws->x,
                                      .w = w,
                                      .eps = model->config.rms_norm_eps,
                                      .rows = rows,
                                      .width = model->config.hidden_size,
                                      .inputs = inputs,
                                      .ue8m0 = model->config.act_ue8m0});
}

void fr_layer_forward(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows) {
    bool act_fp8 = model->act_fp8;
    assert(rows > 0 && rows <= ws->max_rows && kv_layer < kv->layers && pos >= kv->length && pos + rows <= kv->ctx);

    set_normed(model, ws, layer->input_layernorm, rows, fr_mla_inputs(&layer->mla));
    fr_mla_forward(&layer->mla, &ws->rope, kv, kv_layer, pos, &ws->rows, ws->x, ws->delta, &ws->mla);
    fr_finite_look(&ws->finite, ws->x, rows, model->config.hidden_size, kv_layer, FR_FINITE_ATTENTION, pos);

    set_normed(model, ws, layer->post_attention_layernorm, rows,
               layer->is_moe ? layer->moe.inputs : fr_mlp_inputs(&layer->mlp, act_fp8));
    if (layer->is_moe)
        fr_moe_forward(&layer->moe, &ws->rows, ws->x, ws->delta, &ws->moe);
    else
        fr_mlp_forward(&layer->mlp, act_fp8, model->config.act_ue8m0, &ws->rows, ws->x, ws->delta, &ws->mlp);
    fr_finite_look(&ws->finite, ws->x, rows, model->config.hidden_size, kv_layer, FR_FINITE_MLP, pos);
}

void fr_layer_kv_only(const fr_model *model, const fr_layer *layer, fr_workspace *ws, fr_kv_cache *kv, int kv_layer, int pos,
                      int rows) {
    assert(rows > 0 && rows <= ws->max_rows && kv_layer < kv->layers && pos >= kv->length && pos + rows <= kv->ctx);
    set_normed(model, ws, layer->input_layernorm, rows, fr_mla_inputs(&layer->mla));
    fr_mla_kv_only(&layer->mla, &ws->rope, kv, kv_layer, pos, &ws->rows, &ws->mla);
}
