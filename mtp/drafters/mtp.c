#include "model/forward.h"
#include "mtp/drafters/drafter.h"
#include "mtp/drafters/mtp_module.h"

static void count_draft(fr_session *s, int end) {
    const fr_kv_cache *kv = &s->mtp_kv;
    s->stats.draft_bytes += s->traffic.draft + fr_kv_cache_bytes(1, end, kv->rank, kv->rope, kv->type);
}

/* Without drafts the module only keeps up: its cache takes in what was confirmed, a few rows at a time. */
static void keep_up(fr_session *s, int pending) {
    double start = fr_now();
    fr_session_follow(s, pending, 0);
    s->stats.draft_bytes += s->traffic.remember;
    s->stats.catch_up_rows += (uint64_t)pending;
    s->stats.catch_up_s += fr_now() - start;
}

/* Draft j from the MTP pass just made, whose output row is at position `pos`; keeps what the next chained draft reads. */
static void draft_from(fr_session *s, int pos, int j) {
    size_t hidden = (size_t)s->model->config.hidden_size;
    count_draft(s, pos + 1);
    fr_head(s->model, &s->ws, &s->model->draft_head, s->ws.hidden, 1, s->draft_logits);
    memcpy(s->recycled, s->options.mtp_recycle == FR_HIDDEN_PRE_NORM ? s->ws.x : s->ws.hidden, hidden * sizeof(float));
    s->tokens[s->length + j] = fr_sampler_draft(&s->sampler, s->draft_logits, fr_session_history(s, j), j, &s->confidence[j]);
}

static int draft(fr_session *s, int depth) {
    int pending = fr_session_pending(s), made = 0;
    if (depth == 0 && pending >= FR_DECODE_ROWS) keep_up(s, pending);
    if (depth == 0 || pending == 0) return 0;
    double start = fr_now();
    fr_session_follow(s, pending, 1);
    draft_from(s, s->mtp_kv.length - 1, made++);
    double first = fr_now();
    s->first_draft_s = first - start;
    for (; made < depth && fr_policy_go_on(&s->policy, s->confidence, made); made++) {
        const int32_t *last = s->tokens + s->length + made - 1;
        int pos = s->mtp_kv.length + made - 1;
        fr_mtp_forward(s->model, &s->ws, &s->mtp_kv, s->recycled, last, 1, pos);
        draft_from(s, pos, made);
    }
    s->other_drafts_s = made > 1 ? fr_now() - first : 0.0;
    return made;
}

const fr_drafter fr_mtp_drafter = {"mtp", draft};
