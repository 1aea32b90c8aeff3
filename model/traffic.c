#include "model/traffic.h"

#include <math.h>

/* Experts of a layer are alike: the first is counted. */
static void add_linear(void *user, const fr_schema_tensor *t, const fr_linear *linear) {
    fr_traffic *traffic = user;
    bool routed = t->expert == 0;
    uint64_t bytes = fr_linear_bytes(linear), times = routed ? (uint64_t)traffic->chosen : 1;
    if (t->row->part == FR_PART_EMBEDDING || t->expert > 0) return;
    if (t->mtp && t->row->part == FR_PART_LM_HEAD) return; /* drafts read the draft head */
    if (t->mtp) {
        traffic->draft += bytes * times;
        if (routed) traffic->draft_experts += bytes * times;
        return;
    }
    *(routed ? &traffic->expert : &traffic->fixed) += bytes;
    if (t->row->part != FR_PART_LM_HEAD) traffic->token_weights += (uint64_t)linear->out * (uint64_t)linear->in * times;
}

#define ASSUMED_MEMORY 20e9 /* bytes a second, of a machine that nobody has measured */

void fr_traffic_of(const fr_model *model, fr_traffic *out) {
    const fr_mtp_module *mtp = &model->mtp;
    const fr_memory_plan *p = &model->plan;
    *out = (fr_traffic){.experts = model->config.n_routed_experts, .chosen = model->config.num_experts_per_tok};
    fr_weights_each_linear(model, add_linear, out);
    if (model->experts) {
        out->missing = 1.0 - (double)p->cached_experts / p->experts;
        out->disk = ASSUMED_MEMORY / p->disk_bytes_per_s;
    }
    if (!mtp->files.present) return;
    out->draft += fr_linear_bytes(&model->draft_head);
    out->kv_only = fr_linear_bytes(&mtp->eh_proj) + fr_linear_bytes(&mtp->layer.mla.kv_a_proj_with_mqa) +
                   fr_linear_bytes(&mtp->layer.mla.indexer.wk);
}

double fr_traffic_pass(const fr_traffic *t, double unique) {
    return (double)t->fixed + (double)t->expert * unique;
}

double fr_traffic_pass_cost(const fr_traffic *t, double unique) {
    return fr_traffic_pass(t, unique) + (double)t->expert * unique * t->missing * t->disk;
}

double fr_traffic_draft_cost(const fr_traffic *t) {
    return (double)t->draft + (double)t->draft_experts * t->missing * t->disk;
}

double fr_traffic_independent(const fr_traffic *t, int rows) {
    if (t->experts == 0) return 0.0;
    return t->experts * (1.0 - pow(1.0 - (double)t->chosen / t->experts, rows));
}
