#include "model/forward.h"
#include "mtp/drafter.h"
#include "mtp/head.h"

/* Draft j from row `row` of the MTP pass just made; keeps what the next chained draft reads. */
static void draft_from(fr_session *s, int row, int j) {
    size_t hidden = (size_t)s->model->config.hidden_size, at = (size_t)row * hidden;
    fr_head(s->model, &s->ws, &s->model->draft_head, s->ws.hidden + at, 1, s->draft_logits);
    memcpy(s->recycled, (s->options.mtp_recycle == FR_HIDDEN_PRE ? s->ws.x : s->ws.hidden) + at, hidden * sizeof(float));
    s->tokens[s->length + j] =
        fr_sampler_draft(&s->sampler, s->draft_logits, fr_session_history(s, j), j, &s->confidence[j]);
}

static int draft(fr_session *s, int depth) {
    int pending = fr_session_pending(s), made = 0;
    /* Without drafts the module only keeps up, before it falls behind by more rows than a few-row pass has. */
    if (pending == 0 || (depth == 0 && pending < FR_FEW_ROWS)) return 0;
    double start = fr_now();
    fr_session_follow(s, pending);
    if (depth == 0) return 0;
    draft_from(s, pending - 1, made++);
    s->first_draft_s = fr_now() - start;
    for (start = fr_now(); made < depth && fr_policy_go_on(&s->policy, s->confidence, made); made++) {
        const int32_t *last = s->tokens + s->length + made - 1;
        fr_mtp_forward(s->model, &s->ws, &s->mtp_kv, s->recycled, last, 1, s->mtp_kv.length + made - 1);
        draft_from(s, 0, made);
    }
    s->other_drafts_s = fr_now() - start;
    return made;
}

const fr_drafter fr_mtp_drafter = {"mtp", draft};
