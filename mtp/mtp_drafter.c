#include "model/forward.h"
#include "mtp/drafter.h"
#include "mtp/head.h"

/* Draft j from row `row` of the MTP pass just made, which ended at position `end`; keeps what the next chained draft reads. */
static void draft_from(fr_session *s, int row, int end, int j) {
    s->stats.draft_bytes += fr_session_module_bytes(s, row + 1, end) + s->traffic.draft_head;
    size_t hidden = (size_t)s->model->config.hidden_size, at = (size_t)row * hidden;
    fr_head(s->model, &s->ws, &s->model->draft_head, s->ws.hidden + at, 1, s->draft_logits);
    memcpy(s->recycled, (s->options.mtp_recycle == FR_HIDDEN_PRE ? s->ws.x : s->ws.hidden) + at, hidden * sizeof(float));
    s->tokens[s->length + j] =
        fr_sampler_draft(&s->sampler, s->draft_logits, fr_session_history(s, j), j, &s->confidence[j]);
}

static int draft(fr_session *s, int depth) {
    int pending = fr_session_pending(s), made = 0;
    /* Without drafts the module only has to keep up. Where drafting does not pay, following every cycle or every few would
     * cost several percent for nothing; a pass of many rows costs little more than one of eight. */
    if (pending == 0 || (depth == 0 && pending < FR_BACKLOG)) return 0;
    if (depth == 0 || pending > FR_FEW_ROWS) {
        int rows = depth == 0 ? pending : pending - 1;
        fr_session_catch_up(s, rows);
        pending -= rows;
    }
    if (depth == 0) return 0;
    double start = fr_now();
    fr_session_follow(s, pending);
    draft_from(s, pending - 1, s->mtp_kv.length, made++);
    double first = fr_now();
    s->first_draft_s = first - start;
    for (; made < depth && fr_policy_go_on(&s->policy, s->confidence, made); made++) {
        const int32_t *last = s->tokens + s->length + made - 1;
        int pos = s->mtp_kv.length + made - 1;
        fr_mtp_forward(s->model, &s->ws, &s->mtp_kv, s->recycled, last, 1, pos);
        draft_from(s, 0, pos + 1, made);
    }
    s->other_drafts_s = made > 1 ? fr_now() - first : 0.0;
    return made;
}

const fr_drafter fr_mtp_drafter = {"mtp", draft};
