#include "model/traffic.h"

#include <math.h>

static uint64_t mlp_bytes(const fr_mlp *mlp) {
    return fr_linear_bytes(&mlp->gate_proj) + fr_linear_bytes(&mlp->up_proj) + fr_linear_bytes(&mlp->down_proj);
}

/* What every row of a layer needs; one expert's bytes apart. */
static uint64_t layer_bytes(const fr_layer *layer, uint64_t *expert) {
    const fr_mla *mla = &layer->mla;
    uint64_t bytes = fr_linear_bytes(&mla->kv_a_proj_with_mqa) + fr_linear_bytes(&mla->kv_b_proj) + fr_linear_bytes(&mla->o_proj);
    bytes += mla->q_rank ? fr_linear_bytes(&mla->q_a_proj) + fr_linear_bytes(&mla->q_b_proj) : fr_linear_bytes(&mla->q_proj);
    *expert = 0;
    if (!layer->is_moe) return bytes + mlp_bytes(&layer->mlp);
    *expert = mlp_bytes(&layer->moe.experts[0]);
    return bytes + fr_linear_bytes(&layer->moe.router.gate) + (layer->moe.has_shared ? mlp_bytes(&layer->moe.shared) : 0);
}

void fr_traffic_of(const fr_model *model, fr_traffic *out) {
    uint64_t expert, head = fr_linear_bytes(&model->lm_head);
    *out = (fr_traffic){.fixed = head, .experts = model->config.n_routed_experts, .chosen = model->config.num_experts_per_tok};
    for (int i = 0; i < model->config.num_hidden_layers; i++) {
        out->fixed += layer_bytes(&model->layers[i], &expert);
        out->expert += expert;
    }
    if (!model->mtp.present) return;
    out->draft =
        fr_linear_bytes(&model->draft_head) + fr_linear_bytes(&model->mtp.eh_proj) + layer_bytes(&model->mtp.layer, &expert);
    out->draft += expert * (uint64_t)out->chosen;
    out->remember = fr_linear_bytes(&model->mtp.eh_proj) + fr_linear_bytes(&model->mtp.layer.mla.kv_a_proj_with_mqa);
}

double fr_traffic_pass(const fr_traffic *t, double unique) {
    return (double)t->fixed + (double)t->expert * unique;
}

double fr_traffic_independent(const fr_traffic *t, int rows) {
    if (t->experts == 0) return 0.0;
    return t->experts * (1.0 - pow(1.0 - (double)t->chosen / t->experts, rows));
}
