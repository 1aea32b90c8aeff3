/* A session: one timeline of tokens, the main model's KV cache, and what drafting carries from cycle to cycle.
 *
 * Invariants between calls, with n = length (tokens known):
 *  - tokens[0..n) is the text. kv holds positions [0, kv.length) of it, kv.length is n or n - 1. It is n only right after a
 *    prefill: then logits_row is the prefill's last row, and the next step takes its token from there. Otherwise
 *    tokens[n - 1] has been emitted but not evaluated, and the next pass begins with it.
 *  - The drafter has been told of every position in kv (committed) and of none past it. Of a text from a session file it has
 *    what its own state in the file has. That state is described where it is declared (mtp/drafters/mtp.h).
 * What would break losslessness: a pass of more than FR_DECODE_ROWS rows in a cycle (another kernel), or a token emitted that
 * was not the main model's own choice given the tokens before it. */
#ifndef FR_MTP_SESSION_H
#define FR_MTP_SESSION_H

#include "core/clock.h"
#include "model/traffic.h"
#include "model/workspace.h"
#include "mtp/drafters/drafter.h"
#include "mtp/learned.h"
#include "mtp/policy.h"
#include "sampler/sampler.h"

struct fr_session {
    const fr_model *model;
    fr_session_options options; /* with defaults filled in */
    int chunk;                  /* rows of a prefill pass */
    int ctx;

    int32_t *tokens; /* [ctx]; drafts lie in [length, ...), past the text, as their rows do in the caches */
    int length;
    int generated; /* the completion begins here: what was prefilled last ends here */
    fr_kv_cache kv;
    float *logits;  /* [FR_DECODE_ROWS, vocab_size] of the last pass */
    int logits_row; /* the row that chose, or will choose, the newest token; -1: none */

    fr_drafter *drafter; /* owned; NULL: none */
    fr_policy policy;
    char *learned;  /* path of the file with what was learned; NULL: none */
    fr_cycle cycle; /* the last one; its length is 0 when the last step made no pass */
    fr_stats stats;
    fr_stats streamed_before; /* of streamed experts: what had been counted when `stats` began */

    fr_traffic traffic;
    fr_sampler sampler;
    void *sampler_memory;
    size_t sampler_bytes;
    fr_workspace ws;
};

/* Begins the policy anew, with what was learned before; NULL: with nothing but the bytes that passes and drafts read. */
void fr_session_begin_policy(fr_session *session, const fr_learned *learned);
/* What drafters are lent. It holds until the text changes. */
fr_draft_context fr_session_draft_context(fr_session *session);
/* Puts another drafter in the place of the session's own, which it returns: a wrapper around it, or one that the session is to
 * own from now on. The text must be one that the new drafter has been told of, or empty. */
fr_drafter *fr_session_swap_drafter(fr_session *session, fr_drafter *drafter);

/* Adds tokens to the text, checked as fr_session_prefill says, without evaluating them. */
fr_status fr_session_append(fr_session *session, const int32_t *tokens, size_t count, fr_error *error);

/* Sees the rows of a pass, of tokens [first, first + rows), while the workspace still holds them. */
typedef fr_status (*fr_rows_fn)(void *user, fr_session *session, int first, int rows, fr_error *error);

/* Evaluates tokens [kv.length, length) in passes of `chunk` rows, each of which becomes text. before_fn sees the main model's
 * outputs; after_fn is called when the rows are committed and the drafter has not caught up with them yet. Both may be NULL. If
 * one of them stops it, the timeline ends with what was evaluated. */
fr_status fr_session_evaluate(fr_session *session, fr_rows_fn before_fn, fr_rows_fn after_fn, void *user, fr_error *error);

/* Makes the first `rows` rows of the main pass just made part of the timeline. Rows behind them are rolled back thereby: they lie
 * past the caches' lengths. */
void fr_session_commit(fr_session *session, int rows);

/* The cycle that the last step ran; NULL when it took its token from a prefill's logits. Valid until the next step. */
const fr_cycle *fr_session_last_cycle(const fr_session *session);

/* Adds a cycle to the counters. */
void fr_stats_count(fr_stats *stats, const fr_cycle *cycle);

/* Whether what the last passes gave may be used: weights were read, and with check_finite all values were finite. */
fr_status fr_session_trusts_pass(fr_session *session, fr_error *error);
/* The error of a row of logits that are not finite, which choose the token at `position`; FR_OK if they are. */
fr_status fr_session_check_logits(const fr_session *session, const float *logits, int position, fr_error *error);

/* Asserts the invariants above; nothing in a release build. */
void fr_session_check(const fr_session *session);

#endif
