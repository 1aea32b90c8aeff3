#include "model/forward.h"

#include <assert.h>

#include "core/linear/norm.h"
#include "core/threads.h"
#include "model/layer.h"

void fr_embed(const fr_kernels *kernels, const fr_linear *e, int32_t token, float *y) {
    assert(token >= 0 && token < e->out);
    if (e->dtype == FR_F32)
        memcpy(y, (const float *)e->w + (int64_t)token * e->stride, (size_t)e->in * sizeof(float));
    else
        kernels->bf16_to_f32(y, (const uint16_t *)e->w + (int64_t)token * e->stride, e->in);
}

typedef struct pass {
    const fr_model *model;
    fr_workspace *ws;
    fr_kv_cache *kv;
    const int32_t *tokens;
    int rows;
} pass;

/* TEAM. */
static void run_pass(void *argument) {
    const pass *p = argument;
    const fr_model *model = p->model;
    const fr_config *c = &model->config;
    fr_workspace *ws = p->ws;
    int rows = p->rows, hidden_size = c->hidden_size, pos = p->kv->length, begin, end;
    fr_team_split(rows, 1, &begin, &end);
    for (int r = begin; r < end; r++)
        fr_embed(model->kernels, &model->embed_tokens, p->tokens[r], ws->x + (size_t)r * (size_t)hidden_size);
    fr_team_barrier();
    fr_finite_look(&ws->finite, ws->x, rows, hidden_size, 0, FR_FINITE_INPUT, pos);
    for (int i = 0, moe = 0; i < c->num_hidden_layers && !ws->moe.experts.failed; i++) {
        fr_layer_forward(model, &model->layers[i], ws, p->kv, i, pos, rows);
        if (!model->layers[i].is_moe) continue;
        size_t count = (size_t)rows * (size_t)c->num_experts_per_tok;
        if (fr_team_rank() == 0) memcpy(ws->experts + (size_t)moe * count, ws->moe.ids, count * sizeof(int32_t));
        moe++;
    }
    fr_rmsnorm(model->kernels, ws->hidden, ws->x, model->norm, c->rms_norm_eps, rows, hidden_size);
    fr_finite_look(&ws->finite, ws->hidden, rows, hidden_size, c->num_hidden_layers - 1, FR_FINITE_NORM, pos);
}

void fr_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const int32_t *tokens, int rows) {
    assert(rows > 0 && rows <= ws->max_rows && kv->length + rows <= kv->ctx);
    pass p = {model, ws, kv, tokens, rows};
    ws->finite.first_layer = 0;
    fr_team_pin(model->pinned); /* and so for what follows a pass: head, drafts */
    fr_team_run(model->threads, run_pass, &p);
}

typedef struct head_pass {
    const fr_model *model;
    fr_workspace *ws;
    const fr_linear *lm_head;
    const float *hidden;
    int rows;
    float *logits;
} head_pass;

/* TEAM. */
static void run_head(void *argument) {
    const head_pass *p = argument;
    const fr_config *c = &p->model->config;
    fr_rows_set(&p->ws->rows, p->hidden, p->rows, c->hidden_size, fr_linear_input(p->lm_head, p->model->act_fp8), c->act_ue8m0);
    fr_linear_forward(p->lm_head, &p->ws->rows, p->logits, c->vocab_size, &p->ws->compute);
}

void fr_lm_head(const fr_model *model, fr_workspace *ws, const fr_linear *lm_head, const float *hidden, int rows, float *logits) {
    assert(rows > 0 && rows <= ws->max_rows);
    head_pass p = {model, ws, lm_head, hidden, rows, logits};
    fr_team_run(model->threads, run_head, &p);
}

uint64_t fr_unique_experts(const fr_model *model, const fr_workspace *ws, int rows) {
    int count = rows * model->config.num_experts_per_tok;
    uint64_t unique = 0;
    for (int layer = 0; layer < model->num_moe_layers; layer++) {
        const int32_t *ids = ws->experts + (size_t)layer * (size_t)count;
        for (int i = 0; i < count; i++) { /* quadratic, of a few rows and experts */
            int j = 0;
            while (j < i && ids[j] != ids[i]) j++;
            unique += j == i;
        }
    }
    return unique;
}
