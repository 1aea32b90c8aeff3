/* The draft-then-verify cycle.
 *
 * Known: tokens t[0..n], t[n] emitted but not evaluated; main KV holds positions 0..n-1.
 *  1. Plan: at most how many drafts (0 when drafting is off, does not pay now, or nothing more fits).
 *  2. Draft: d1..dk, written past the text's end; the policy ends the chain early and drops drafts that are not worth a
 *     row. (The MTP drafter first reads the positions confirmed since its last turn, with their true hidden states; what
 *     comes out at the last one gives d1, its own output then d2..dk.)
 *  3. Verify: one pass of the main model over [t[n], d1..dk] at positions n..n+k.
 *  4. Accept the longest prefix of drafts that the verification rule lets stand, a of them, plus one token of the main
 *     model's own: the correction of draft a+1, or after the last draft a bonus.
 *  5. Roll back: main KV keeps positions n..n+a; what rejected drafts and chained rows wrote lies past both caches' lengths. */
#include "model/forward.h"
#include "mtp/drafters/drafter.h"

/* Appends the tokens that stand after verification; returns the number of accepted drafts. */
static int accept(fr_session *s, int drafted) {
    size_t vocab = (size_t)s->model->config.vocab_size;
    for (int a = 0;; a++) {
        const float *logits = s->logits + (size_t)a * vocab;
        int32_t draft = s->tokens[s->length];
        int32_t token = a < drafted ? fr_sampler_judge(&s->sampler, logits, fr_session_history(s, 0), a, draft)
                                    : fr_sampler_choose(&s->sampler, logits, fr_session_history(s, 0));
        s->tokens[s->length++] = token;
        s->logits_row = a;
        if (a == drafted || token != draft) return a;
    }
}

void fr_stats_count(fr_stats *stats, int drafted, int accepted) {
    stats->num_cycles++;
    stats->num_drafts += drafted > 0;
    stats->num_draft_tokens += (uint64_t)drafted;
    stats->num_accepted_tokens += (uint64_t)accepted;
    stats->depth_histogram[drafted]++;
    for (int j = 0; j < drafted; j++) stats->drafted_at[j]++;
    for (int j = 0; j < drafted && j <= accepted; j++) stats->reached_at[j]++;
    for (int j = 0; j < accepted; j++) stats->accepted_at[j]++;
}

/* What the main model's pass just made has read; to be called before it is committed. */
static void count_pass(fr_session *s, int rows) {
    const fr_model *model = s->model;
    uint64_t unique = fr_unique_experts(model, &s->ws, rows), layers = (uint64_t)model->num_moe_layers;
    s->stats.unique_experts += unique;
    s->stats.chosen_experts += (uint64_t)rows * layers * (uint64_t)model->config.num_experts_per_tok;
    s->stats.verify_bytes += s->traffic.fixed + (layers ? s->traffic.expert / layers * unique : 0) +
                             fr_kv_cache_bytes(s->kv.layers, s->kv.length + rows, s->kv.rank, s->kv.rope, s->kv.type);
}

/* Replaces the drafts by a test's, which stand for themselves alone. */
static int force_drafts(fr_session *s, int limit, int drafted) {
    int32_t *drafts = s->tokens + s->length;
    s->force(s->force_user, s, limit, drafts, &drafted);
    for (int j = 0; j < drafted; j++) fr_sampler_propose(&s->sampler, j, drafts[j]);
    return drafted;
}

static void run_cycle(fr_session *s, int limit, fr_step *out) {
    double start = fr_now();
    int depth = s->drafter ? fr_policy_plan(&s->policy, limit) : 0; /* 1 */
    s->first_draft_s = s->other_drafts_s = 0.0;
    int made = s->drafter ? s->drafter->draft(s, depth) : 0; /* 2 */
    int drafted = fr_policy_keep(&s->policy, s->confidence, made);
    if (s->force) drafted = force_drafts(s, limit, drafted);
    memcpy(s->proposed, s->tokens + s->length, (size_t)drafted * sizeof *s->proposed);
    double drafted_at = fr_now();

    int rows = drafted + 1, before = s->length;
    fr_forward(s->model, &s->ws, &s->kv, s->tokens + s->length - 1, rows); /* 3 */
    fr_head(s->model, &s->ws, &s->model->lm_head, s->ws.hidden, rows, s->logits);
    double verified_at = fr_now();

    int accepted = accept(s, drafted); /* 4 */
    double sampled_at = fr_now();

    count_pass(s, rows);
    fr_session_commit(s, accepted + 1); /* 5 */
    if (s->drafter && !s->force)
        fr_policy_observe(&s->policy, s->confidence, made, drafted, accepted, s->first_draft_s, s->other_drafts_s,
                          sampled_at - drafted_at);
    fr_stats_count(&s->stats, drafted, accepted);
    s->stats.draft_s += drafted_at - start;
    s->stats.verify_s += verified_at - drafted_at;
    s->stats.sample_s += sampled_at - verified_at;
    s->stats.rollback_s += fr_now() - sampled_at;
    fr_session_check(s);
    *out = (fr_step){s->tokens + before, accepted + 1, drafted, accepted};
}

fr_status fr_session_step(fr_session *s, int max_tokens, fr_step *out, fr_error *error) {
    if (max_tokens < 1) return fr_fail(error, FR_ERROR_ARGUMENT, "step: at most %d tokens asked for", max_tokens);
    if (s->length == 0) return fr_fail(error, FR_ERROR_ARGUMENT, "step: the session is empty; prefill it first");
    if (s->length >= s->ctx) return fr_fail(error, FR_ERROR_CONTEXT, "step: the context of %d tokens is full", s->ctx);
    if (s->kv.length == s->length) { /* right after a prefill, which has the logits already */
        s->tokens[s->length] = fr_sampler_choose(&s->sampler, fr_session_logits(s), fr_session_history(s, 0));
        *out = (fr_step){s->tokens + s->length++, 1, 0, 0};
        return FR_OK;
    }
    int limit = max_tokens - 1, room = s->ctx - s->length - 1; /* a cycle emits one token more than it drafts */
    if (limit > room) limit = room;
    run_cycle(s, limit < FR_MAX_DEPTH ? limit : FR_MAX_DEPTH, out);
    return FR_OK;
}
