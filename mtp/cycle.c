/* The draft-then-verify cycle.
 *
 * Known: tokens t[0..n], t[n] emitted but not evaluated; main KV holds positions 0..n-1.
 *  1. Policy: how many drafts k (0 when drafting is off, or nothing more fits).
 *  2. Follow: the MTP module reads the positions confirmed since its last turn, with their true hidden states; the output of
 *     the last one, position n-1 with token t[n], gives draft d1.
 *  3. Chain: d2..dk, each from the module's own output and the draft before it. These rows lie past the MTP cache's length.
 *  4. Verify: one pass of the main model over [t[n], d1..dk] at positions n..n+k.
 *  5. Accept the longest prefix of drafts that the main model itself would have chosen, a of them, plus its own next token.
 *  6. Roll back: main KV keeps positions n..n+a; what rejected drafts and chained rows wrote lies past both lengths. */
#include "model/forward.h"
#include "mtp/head.h"
#include "mtp/policy.h"
#include "sampler/greedy.h"

/* Drafts from row `row` of the MTP pass just made, and keeps what the next chained draft reads. */
static int32_t draft_from(fr_session *s, int row) {
    size_t hidden = (size_t)s->model->config.hidden_size, at = (size_t)row * hidden;
    fr_head(s->model, &s->ws, s->ws.hidden + at, 1, s->draft_logits);
    memcpy(s->recycled, (s->options.mtp_recycle == FR_HIDDEN_PRE ? s->ws.x : s->ws.hidden) + at, hidden * sizeof(float));
    return fr_greedy(s->draft_logits, s->model->config.vocab_size);
}

/* Steps 2 and 3: fills s->drafts with `depth` drafts and returns how many there are. */
static int draft(fr_session *s, int depth) {
    int pending = fr_session_pending(s);
    /* Without drafts the module only keeps up, before it falls behind by more rows than a few-row pass has. */
    if (pending == 0 || (depth == 0 && pending < FR_FEW_ROWS)) return 0;
    fr_session_follow(s, pending);
    for (int j = 0; j < depth; j++) {
        if (j > 0) {
            int pos = s->mtp_kv.length + j - 1;
            fr_mtp_forward(s->model, &s->ws, &s->mtp_kv, s->recycled, &s->drafts[j - 1], 1, pos);
        }
        s->drafts[j] = draft_from(s, j > 0 ? 0 : pending - 1);
    }
    return depth;
}

/* Step 5: appends the tokens that row 0 and each accepted draft's row choose; returns the number of accepted drafts. */
static int accept(fr_session *s, int drafted) {
    int vocab = s->model->config.vocab_size;
    for (int a = 0;; a++) {
        int32_t token = fr_greedy(s->logits + (size_t)a * (size_t)vocab, vocab);
        s->tokens[s->length++] = token;
        s->logits_row = a;
        if (a == drafted || token != s->drafts[a]) return a;
    }
}

static void count_cycle(fr_stats *stats, int drafted, int accepted) {
    stats->num_cycles++;
    stats->num_drafts += drafted > 0;
    stats->num_draft_tokens += (uint64_t)drafted;
    stats->num_accepted_tokens += (uint64_t)accepted;
    stats->depth_histogram[drafted]++;
    for (int j = 0; j < drafted; j++) stats->drafted_at[j]++;
    for (int j = 0; j < accepted; j++) stats->accepted_at[j]++;
}

static void run_cycle(fr_session *s, int limit, fr_step *out) {
    int32_t rows[FR_FEW_ROWS];
    double start = fr_now();
    int drafted = draft(s, fr_policy_depth(s, limit));                     /* 1, 2, 3 */
    if (s->force) s->force(s->force_user, s, limit, s->drafts, &drafted);
    double drafting_done = fr_now();

    rows[0] = s->tokens[s->length - 1];                                    /* 4 */
    memcpy(rows + 1, s->drafts, (size_t)drafted * sizeof *rows);
    fr_forward(s->model, &s->ws, &s->kv, rows, drafted + 1);
    fr_head(s->model, &s->ws, s->ws.hidden, drafted + 1, s->logits);

    int before = s->length, accepted = accept(s, drafted);                 /* 5 */
    s->stats.num_passes_counted++;
    s->stats.unique_experts += fr_unique_experts(s->model, &s->ws, drafted + 1);
    s->stats.chosen_experts += (uint64_t)(drafted + 1) * (uint64_t)s->model->num_moe_layers *
                               (uint64_t)s->model->config.num_experts_per_tok;
    fr_session_commit(s, accepted + 1);                                    /* 6 */

    count_cycle(&s->stats, drafted, accepted);
    s->stats.draft_s += drafting_done - start;
    s->stats.verify_s += fr_now() - drafting_done;
    *out = (fr_step){s->tokens + before, accepted + 1, drafted, accepted};
}

fr_status fr_session_step(fr_session *s, int max_tokens, fr_step *out, fr_error *error) {
    if (max_tokens < 1) return fr_fail(error, FR_ERROR_ARGUMENT, "step: at most %d tokens asked for", max_tokens);
    if (s->length == 0) return fr_fail(error, FR_ERROR_ARGUMENT, "step: the session is empty; prefill it first");
    if (s->length >= s->ctx) return fr_fail(error, FR_ERROR_CONTEXT, "step: the context of %d tokens is full", s->ctx);
    if (s->kv.length == s->length) { /* right after a prefill, which has the logits already */
        s->tokens[s->length] = fr_greedy(fr_session_logits(s), s->model->config.vocab_size);
        *out = (fr_step){s->tokens + s->length++, 1, 0, 0};
        return FR_OK;
    }
    int limit = max_tokens - 1, room = s->ctx - s->length - 1; /* a cycle emits one token more than it drafts */
    if (limit > room) limit = room;
    run_cycle(s, limit < FR_MAX_DEPTH ? limit : FR_MAX_DEPTH, out);
    return FR_OK;
}
