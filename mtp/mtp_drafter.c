#include "model/forward.h"
#include "mtp/drafter.h"
#include "mtp/head.h"

/* Draft j from row `row` of the MTP pass just made; keeps what the next chained draft reads. */
static void draft_from(fr_session *s, int row, int j) {
    size_t hidden = (size_t)s->model->config.hidden_size, at = (size_t)row * hidden;
    fr_head(s->model, &s->ws, s->ws.hidden + at, 1, s->draft_logits);
    memcpy(s->recycled, (s->options.mtp_recycle == FR_HIDDEN_PRE ? s->ws.x : s->ws.hidden) + at, hidden * sizeof(float));
    s->tokens[s->length + j] =
        fr_sampler_draft(&s->sampler, s->draft_logits, fr_session_history(s, j), j, &s->confidence[j]);
}

static int draft(fr_session *s, int depth) {
    int pending = fr_session_pending(s);
    /* Without drafts the module only keeps up, before it falls behind by more rows than a few-row pass has. */
    if (pending == 0 || (depth == 0 && pending < FR_FEW_ROWS)) return 0;
    fr_session_follow(s, pending);
    for (int j = 0; j < depth; j++) {
        if (j == 0) {
            draft_from(s, pending - 1, 0);
        } else {
            const int32_t *last = s->tokens + s->length + j - 1;
            fr_mtp_forward(s->model, &s->ws, &s->mtp_kv, s->recycled, last, 1, s->mtp_kv.length + j - 1);
            draft_from(s, 0, j);
        }
    }
    return depth;
}

const fr_drafter fr_mtp_drafter = {"mtp", draft};
