#include "mtp/drafters/mtp_module.h"

#include <assert.h>

#include "core/linear/norm.h"
#include "core/threads.h"
#include "model/forward.h"
#include "model/layer.h"

void fr_mtp_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, const int32_t *tokens,
                    int rows, int outputs, int pos) {
    const fr_mtp_module *mtp = &model->mtp;
    const fr_config *c = &model->config;
    size_t width = (size_t)c->hidden_size;
    fr_team team = FR_TEAM;
    int passed = rows - outputs;
    assert(rows >= 1 && rows <= ws->max_rows && outputs >= 0 && passed >= 0 && pos >= kv->length && pos + rows <= kv->ctx);
#pragma omp parallel num_threads(model->threads)
    {
        int begin, end;
        fr_team_enter(&team);
        fr_team_split(rows, 1, &begin, &end);
        for (int r = begin; r < end; r++) { /* joined = [enorm(e); hnorm(h)]: the embedding comes first */
            float *joined = ws->joined + (size_t)r * 2 * width;
            fr_embed(model, tokens[r], joined);
            fr_rmsnorm_row(model->kernels, joined, joined, mtp->enorm, c->rms_norm_eps, c->hidden_size);
            fr_rmsnorm_row(model->kernels, joined + width, hidden + (size_t)r * width, mtp->hnorm, c->rms_norm_eps,
                           c->hidden_size);
        }
        fr_team_barrier();
        fr_rows_set(&ws->joined_rows, ws->joined, rows, 2 * c->hidden_size, fr_linear_input(&mtp->eh_proj, model->act_fp8),
                    c->act_ue8m0);
        fr_linear_forward(&mtp->eh_proj, &ws->joined_rows, ws->x, c->hidden_size, &ws->compute);
        if (passed > 0) {
            fr_layer_kv_only(model, &mtp->layer, ws, kv, 0, pos, passed);
            if (fr_team_rank() == 0) memmove(ws->x, ws->x + (size_t)passed * width, (size_t)outputs * width * sizeof(float));
            fr_team_barrier();
        }
        if (outputs > 0) {
            fr_layer_forward(model, &mtp->layer, ws, kv, 0, pos + passed, outputs);
            fr_rmsnorm(model->kernels, ws->hidden, ws->x, mtp->shared_head_norm, c->rms_norm_eps, outputs, c->hidden_size);
        }
        fr_team_leave();
    }
}
