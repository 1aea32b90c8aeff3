#include "mtp/drafters/mtp_module.h"

#include <assert.h>

#include "core/linear/norm.h"
#include "core/threads.h"
#include "model/forward.h"
#include "model/layer.h"

typedef struct pass {
    const fr_model *model;
    fr_workspace *ws;
    fr_kv_cache *kv;
    const float *hidden;
    const int32_t *tokens;
    int rows, outputs, pos;
    bool chooses; /* with an indexer: the positions that outputs attend to; else ws->mla.index.choices has them */
} pass;

/* joined = [enorm(e); hnorm(h)]: the embedding comes first; TEAM. */
static void join(const pass *p) {
    const fr_mtp_module *mtp = &p->model->mtp;
    const fr_config *c = &p->model->config;
    size_t width = (size_t)c->hidden_size;
    int begin, end;
    fr_team_split(p->rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        float *joined = p->ws->joined + (size_t)r * 2 * width;
        fr_embed(p->model->kernels, &mtp->embed_tokens, p->tokens[r], joined);
        fr_rmsnorm_row(p->model->kernels, joined, joined, mtp->enorm, c->rms_norm_eps, c->hidden_size);
        fr_rmsnorm_row(p->model->kernels, joined + width, p->hidden + (size_t)r * width, mtp->hnorm, c->rms_norm_eps,
                       c->hidden_size);
    }
    fr_team_barrier();
}

/* TEAM. */
static void run_pass(void *argument) {
    const pass *p = argument;
    const fr_model *model = p->model;
    const fr_mtp_module *mtp = &model->mtp;
    const fr_config *c = &model->config;
    fr_workspace *ws = p->ws;
    size_t width = (size_t)c->hidden_size;
    int outputs = p->outputs, passed = p->rows - outputs;
    join(p);
    fr_rows_set(&ws->joined_rows, ws->joined, p->rows, 2 * c->hidden_size, fr_linear_input(&mtp->eh_proj, model->act_fp8),
                c->act_ue8m0);
    fr_linear_forward(&mtp->eh_proj, &ws->joined_rows, ws->x, c->hidden_size, &ws->compute);
    fr_finite_look(&ws->finite, ws->x, p->rows, c->hidden_size, 0, FR_FINITE_INPUT, p->pos);
    if (passed > 0) {
        fr_layer_kv_only(model, &mtp->layer, ws, p->kv, 0, p->pos, passed);
        if (fr_team_rank() == 0) memmove(ws->x, ws->x + (size_t)passed * width, (size_t)outputs * width * sizeof(float));
        fr_team_barrier();
    }
    if (outputs > 0) {
        fr_layer layer = mtp->layer;
        if (!p->chooses) layer.mla.indexer = (fr_indexer){.topk = 0};
        fr_layer_forward(model, &layer, ws, p->kv, 0, p->pos + passed, outputs);
        fr_rmsnorm(model->kernels, ws->hidden, ws->x, mtp->shared_head_norm, c->rms_norm_eps, outputs, c->hidden_size);
        fr_finite_look(&ws->finite, ws->hidden, outputs, c->hidden_size, 0, FR_FINITE_NORM, p->pos + passed);
    }
}

/* The module is the layer behind the main model's. */
static void run(pass *p) {
    p->ws->finite.first_layer = p->model->config.num_hidden_layers;
    fr_team_run(p->model->threads, run_pass, p);
}

void fr_mtp_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, const int32_t *tokens,
                    int rows, int outputs, int pos) {
    assert(rows >= 1 && rows <= ws->max_rows && outputs >= 0 && outputs <= rows && pos >= kv->length && pos + rows <= kv->ctx);
    pass p = {model, ws, kv, hidden, tokens, rows, outputs, pos, true};
    run(&p);
}

void fr_mtp_chain_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, int32_t token, int pos,
                          const fr_choice *choice) {
    assert(pos >= kv->length && pos < kv->ctx);
    if (choice) ws->mla.index.choices[0] = *choice;
    pass p = {model, ws, kv, hidden, &token, 1, 1, pos, !choice};
    run(&p);
}
