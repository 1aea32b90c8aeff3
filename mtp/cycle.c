/* The draft-then-verify cycle.
 *
 * Known: tokens t[0..n], t[n] emitted but not evaluated; main KV holds positions 0..n-1.
 *  1. Plan: at most how many drafts (0 when drafting is off, does not pay now, or nothing more fits).
 *  2. Draft: d1..dk, written past the text's end; the policy ends the chain early and drops drafts that are not worth a
 *     row. With rejection sampling it goes by what was known before they were drawn, else the distribution would shift.
 *     The MTP drafter first reads the positions committed since its last turn, with their true hidden states. What comes out
 *     at the last one gives d1; d2..dk are chained to it (fr_recycle).
 *  3. Verify: one pass of the main model over [t[n], d1..dk] at positions n..n+k.
 *  4. Accept the longest prefix of drafts that the verification rule agrees with, a of them, plus one token of the main
 *     model's own: the correction of draft a+1, or after the last draft a bonus. A token that ends the text is the last one:
 *     it is the model's own too, whatever was drafted there, and no draft behind it is looked at.
 *  5. Roll back: only positions n..n+a are committed. */
#include <assert.h>

#include "model/cache.h"
#include "model/forward.h"
#include "mtp/session.h"

_Static_assert(FR_DECODE_ROWS == FR_MAX_DEPTH + 1, "a cycle's pass is the largest that the decode kernels take");

static void plan(fr_session *s, int limit, fr_cycle *cycle) {
    *cycle = (fr_cycle){.length = s->length, .planned = s->drafter ? fr_policy_plan(&s->policy, limit) : 0};
}

static void draft(fr_session *s, fr_cycle *cycle) {
    fr_draft_context context = fr_session_draft_context(s);
    fr_drafter_draft(s->drafter, &context, cycle);
    cycle->verified = fr_policy_keep(&s->policy, cycle);
    assert(cycle->verified <= cycle->made && cycle->made <= cycle->planned);
}

static void verify(fr_session *s, const fr_cycle *cycle) {
    int rows = cycle->verified + 1;
    fr_forward(s->model, &s->ws, &s->kv, s->tokens + s->length - 1, rows);
    fr_lm_head(s->model, &s->ws, &s->model->lm_head, s->ws.hidden, rows, s->logits);
}

/* The text so far, of which penalties know, and whose length is the position of the token to choose. */
static fr_history history(const fr_session *s) {
    return (fr_history){s->tokens, s->length, s->generated};
}

/* Appends a token. Returns whether the text ends with it. */
static bool append(fr_session *s, int32_t token) {
    const fr_session_options *o = &s->options;
    s->tokens[s->length++] = token;
    bool eos = !o->ignore_eos && fr_token_ends_text(s->model, token);
    return (o->ends && o->ends(o->ends_user, token)) || eos;
}

static bool are_finite(const fr_session *s, const float *logits) {
    return fr_count_nonfinite(logits, s->model->config.vocab_size) == 0;
}

/* Appends the accepted drafts and the main model's own token. Stops before a row that is spoiled: the next cycle begins with it.
 */
static void accept(fr_session *s, fr_cycle *cycle) {
    size_t vocab = (size_t)s->model->config.vocab_size;
    for (int a = 0;; a++) {
        const float *logits = s->logits + (size_t)a * vocab;
        if (a > 0 && !are_finite(s, logits)) return;
        int32_t token = a < cycle->verified ? fr_sampler_verify(&s->sampler, logits, history(s), a, cycle->drafts[a])
                                            : fr_sampler_choose(&s->sampler, logits, history(s));
        s->logits_row = cycle->accepted = a;
        cycle->ended = append(s, token);
        if (cycle->ended || a == cycle->verified || token != cycle->drafts[a]) return;
    }
}

/* What the main model's pass just made has read; to be called before it is committed. */
static void count_pass(const fr_session *s, fr_cycle *cycle) {
    const fr_model *model = s->model;
    int rows = cycle->verified + 1;
    uint64_t unique = fr_unique_experts(model, &s->ws, rows), layers = (uint64_t)model->num_moe_layers;
    cycle->unique_experts = unique;
    cycle->chosen_experts = (uint64_t)rows * layers * (uint64_t)model->config.num_experts_per_tok;
    cycle->verify_bytes = s->traffic.fixed + (layers ? s->traffic.expert / layers * unique : 0) +
                          fr_cache_read_bytes(&model->config, FR_CACHE_MAIN, s->kv.length + rows, s->kv.type);
}

/* Rows past the first accepted + 1 are rolled back by never being committed: they lie past the length of both caches, where
 * nothing reads them and a later pass overwrites them. */
static void roll_back(fr_session *s, const fr_cycle *cycle) {
    fr_session_commit(s, cycle->accepted + 1);
}

void fr_stats_count(fr_stats *stats, const fr_cycle *c) {
    int drafted = fr_cycle_drafted(c);
    stats->num_cycles++;
    stats->num_drafts += drafted > 0;
    stats->num_draft_tokens += (uint64_t)drafted;
    stats->num_accepted_tokens += (uint64_t)c->accepted;
    stats->depth_histogram[drafted]++;
    for (int j = 0; j < drafted; j++) stats->drafted_at[j]++;
    for (int j = 0; j < drafted && j <= c->accepted; j++) stats->reached_at[j]++;
    for (int j = 0; j < c->accepted; j++) stats->accepted_at[j]++;
    stats->unique_experts += c->unique_experts;
    stats->chosen_experts += c->chosen_experts;
    stats->verify_bytes += c->verify_bytes;
    stats->draft_bytes += c->draft_bytes;
    stats->draft_s += c->draft_s;
    stats->verify_s += c->verify_s;
    stats->sample_s += c->sample_s;
    stats->rollback_s += c->rollback_s;
    stats->catch_up_s += c->catch_up_s;
    stats->catch_up_rows += c->catch_up_rows;
}

/* Seconds since *start, which moves to now. */
static double lap(double *start) {
    double now = fr_now(), seconds = now - *start;
    *start = now;
    return seconds;
}

/* Clocks differ, and the policy goes by times: those of rank 0 are everybody's. */
static void share_times(const fr_session *s, fr_cycle *c) {
    double *const times[] = {&c->first_s, &c->rest_s, &c->catch_up_s, &c->draft_s, &c->verify_s, &c->sample_s};
    enum { COUNT = sizeof times / sizeof *times };
    double all[COUNT];
    for (int i = 0; i < COUNT; i++) all[i] = *times[i];
    fr_ranks_share(s->model->ranks, all, sizeof all);
    for (int i = 0; i < COUNT; i++) *times[i] = all[i];
}

/* Before anything of a pass is used. On an error nothing was appended or committed: the text is what it was. */
static fr_status check_pass(fr_session *s, fr_error *error) {
    fr_status status = fr_session_trusts_pass(s, error);
    if (status == FR_OK) status = fr_session_check_logits(s, s->logits, s->length, error);
    if (status == FR_OK) return FR_OK;
    s->logits_row = -1;
    s->cycle.length = 0;
    return status;
}

static fr_status run_cycle(fr_session *s, int limit, fr_step *out, fr_error *error) {
    fr_cycle *cycle = &s->cycle;
    double at = fr_now();
    plan(s, limit, cycle); /* 1 */
    draft(s, cycle);       /* 2 */
    cycle->draft_s = lap(&at);
    verify(s, cycle); /* 3 */
    cycle->verify_s = lap(&at);
    FR_TRY(check_pass(s, error));
    accept(s, cycle); /* 4 */
    cycle->sample_s = lap(&at);
    count_pass(s, cycle);
    roll_back(s, cycle); /* 5 */
    share_times(s, cycle);
    if (s->drafter) fr_policy_observe(&s->policy, cycle);
    cycle->rollback_s = lap(&at);
    fr_stats_count(&s->stats, cycle);
    fr_session_check(s);
    *out = (fr_step){s->tokens + cycle->length, cycle->accepted + 1, fr_cycle_drafted(cycle), cycle->accepted, cycle->ended};
    return FR_OK;
}

const fr_cycle *fr_session_last_cycle(const fr_session *s) {
    return s->cycle.length > 0 ? &s->cycle : NULL;
}

fr_status fr_session_step(fr_session *s, int max_tokens, fr_step *out, fr_error *error) {
    if (max_tokens < 1) return fr_fail(error, FR_ERROR_ARGUMENT, "step: at most %d tokens asked for", max_tokens);
    if (s->length == 0) return fr_fail(error, FR_ERROR_ARGUMENT, "step: the session is empty; prefill it first");
    if (s->length >= s->ctx) return fr_fail(error, FR_ERROR_CONTEXT, "step: the context of %d tokens is full", s->ctx);
    s->cycle.length = 0;
    if (s->kv.length == s->length) { /* right after a prefill, which has the logits already */
        FR_TRY(fr_session_check_logits(s, fr_session_logits(s), s->length, error));
        bool ended = append(s, fr_sampler_choose(&s->sampler, fr_session_logits(s), history(s)));
        s->stats.num_first_tokens++;
        *out = (fr_step){.tokens = s->tokens + s->length - 1, .count = 1, .ended = ended};
        return FR_OK;
    }
    int limit = max_tokens - 1, room = s->ctx - s->length - 1; /* a cycle emits one token more than it drafts */
    if (limit > room) limit = room;
    return run_cycle(s, limit < FR_MAX_DEPTH ? limit : FR_MAX_DEPTH, out, error);
}
