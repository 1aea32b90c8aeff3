#include "model/forward.h"
#include "mtp/drafters/drafter.h"
#include "mtp/drafters/mtp_module.h"

static void count_draft(const fr_session *s, int end, fr_cycle *cycle) {
    const fr_kv_cache *kv = &s->mtp_kv;
    cycle->draft_bytes += s->traffic.draft + fr_kv_cache_bytes(1, end, kv->rank, kv->rope, kv->type);
}

/* Without drafts the module only keeps up: its cache takes in what was confirmed, a few rows at a time. */
static void keep_up(fr_session *s, int pending, fr_cycle *cycle) {
    double start = fr_now();
    fr_session_follow(s, pending, 0);
    cycle->draft_bytes = s->traffic.remember;
    cycle->catch_up_rows = (uint64_t)pending;
    cycle->catch_up_s = fr_now() - start;
}

/* The next draft from the MTP pass just made, whose output row is at position `pos`; keeps what the one after it reads. */
static void draft_from(fr_session *s, int pos, fr_cycle *cycle) {
    size_t hidden = (size_t)s->model->config.hidden_size;
    int j = cycle->made++;
    count_draft(s, pos + 1, cycle);
    fr_head(s->model, &s->ws, &s->model->draft_head, s->ws.hidden, 1, s->draft_logits);
    memcpy(s->recycled, s->options.mtp_recycle == FR_HIDDEN_PRE_NORM ? s->ws.x : s->ws.hidden, hidden * sizeof(float));
    s->tokens[s->length + j] = fr_sampler_draft(&s->sampler, s->draft_logits, fr_session_history(s, j), j, &cycle->confidence[j]);
}

static void draft(fr_session *s, fr_cycle *cycle) {
    int pending = fr_session_pending(s);
    if (cycle->planned == 0 && pending >= FR_DECODE_ROWS) keep_up(s, pending, cycle);
    if (cycle->planned == 0 || pending == 0) return;
    double start = fr_now();
    fr_session_follow(s, pending, 1);
    draft_from(s, s->mtp_kv.length - 1, cycle);
    double first = fr_now();
    cycle->first_s = first - start;
    while (cycle->made < cycle->planned && fr_policy_go_on(&s->policy, cycle)) {
        const int32_t *last = s->tokens + s->length + cycle->made - 1;
        int pos = s->mtp_kv.length + cycle->made - 1;
        fr_mtp_forward(s->model, &s->ws, &s->mtp_kv, s->recycled, last, 1, pos);
        draft_from(s, pos, cycle);
    }
    cycle->rest_s = cycle->made > 1 ? fr_now() - first : 0.0;
}

const fr_drafter fr_mtp_drafter = {"mtp", draft};
