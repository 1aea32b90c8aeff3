/* A session: one timeline of tokens, the two KV caches, and what drafting carries from cycle to cycle.
 *
 * Invariants between calls, with n = length (tokens known):
 *  - tokens[0..n) is the text. kv holds positions [0, kv.length) of it, kv.length is n or n - 1. It is n only right after a
 *    prefill: then logits_row is the prefill's last row, and the next step takes its token from there. Otherwise
 *    tokens[n - 1] has been emitted but not evaluated, and the next pass begins with it.
 *  - mtp_kv holds positions [0, mtp_kv.length), each computed from the main model's own hidden state and the token after
 *    it; rows of chained drafts lie past that length and are computed again from true hidden states.
 *  - hidden holds the main model's hidden states of positions [mtp_kv.length, kv.length), in order: what the MTP module
 *    has yet to read. When there are none (after a truncate) a cycle does not draft. While drafting does not pay there are up
 *    to FR_DECODE_ROWS of them; the module then reads them in one pass.
 * What would break losslessness: a pass of more than FR_DECODE_ROWS rows in a cycle (another kernel), or a token emitted that
 * was not the main model's own choice given the tokens before it. */
#ifndef FR_MTP_SESSION_H
#define FR_MTP_SESSION_H

#include "model/traffic.h"
#include "model/workspace.h"
#include "mtp/policy.h"
#include "sampler/sampler.h"

struct fr_drafter;

/* Replaces the drafts of a cycle before they are verified: may change drafts [*count] and *count (0..FR_MAX_DEPTH, as many as
 * limit allows). For tests of rollback under any history of acceptance. */
typedef void (*fr_force_drafts_fn)(void *user, const fr_session *session, int limit, int32_t *drafts, int *count);

struct fr_session {
    const fr_model *model;
    fr_session_options options; /* with defaults filled in */
    bool mtp;                   /* the MTP module is followed */
    int chunk;                  /* rows of a prefill pass */
    int ctx;

    int32_t *tokens; /* [ctx]; drafts stand in [length, ...), past the text, as their rows do in the caches */
    int length;
    int generated; /* the completion begins here: what was prefilled last ends here */
    fr_kv_cache kv, mtp_kv;
    float *hidden;   /* [chunk + FR_DECODE_ROWS, hidden_size] */
    float *recycled; /* [hidden_size]: what the next chained draft reads */

    float *logits;                    /* [FR_DECODE_ROWS, vocab_size] of the last pass */
    int logits_row;                   /* the row that chose, or will choose, the newest token; -1: none */
    float *draft_logits;              /* [vocab_size] */
    const struct fr_drafter *drafter; /* NULL: none */
    fr_cycle cycle;                   /* the last one; its length is 0 when the last step made no pass */
    fr_policy policy;
    fr_traffic traffic;
    fr_sampler sampler;
    void *sampler_memory;
    size_t sampler_bytes;
    fr_workspace ws;

    fr_stats stats;
    fr_force_drafts_fn force;
    void *force_user;
};

/* The text with its first `drafts` drafts: what penalties look at; the next token's position is its length. */
fr_history fr_session_history(const fr_session *session, int drafts);

void fr_session_force_drafts(fr_session *session, fr_force_drafts_fn fn, void *user);

/* Adds tokens to the text, checked as fr_session_prefill says, without evaluating them. */
fr_status fr_session_append(fr_session *session, const int32_t *tokens, size_t count, fr_error *error);

/* Sees the rows of a pass, of tokens [first, first + rows), while the workspace still holds them. */
typedef fr_status (*fr_rows_fn)(void *user, fr_session *session, int first, int rows, fr_error *error);

/* Evaluates tokens [kv.length, length) in chunks, the MTP module following each; main_fn and mtp_fn may be NULL. If a
 * callback stops it, the timeline ends with what was evaluated. */
fr_status fr_session_evaluate(fr_session *session, fr_rows_fn main_fn, fr_rows_fn mtp_fn, void *user, fr_error *error);

/* The two halves of evaluation that a cycle needs too. Commits `rows` rows of the main pass just made and keeps their
 * hidden states for the MTP module. */
void fr_session_commit(fr_session *session, int rows);
/* Rows that the MTP module can read now: hidden state there, next token known. */
int fr_session_pending(const fr_session *session);
/* Runs the MTP module over its first `rows` pending rows. ws->x and ws->hidden then hold its output for the last `outputs` of
 * them; the others only enter its cache, which is cheap. */
void fr_session_follow(fr_session *session, int rows, int outputs);

/* The cycle that the last step ran; NULL when it took its token from a prefill's logits. Valid until the next step. */
const fr_cycle *fr_session_last_cycle(const fr_session *session);

/* Adds a cycle to the counters. */
void fr_stats_count(fr_stats *stats, const fr_cycle *cycle);

/* Asserts the invariants above; nothing in a release build. */
void fr_session_check(const fr_session *session);

/* Seconds on a clock that only goes forward. */
double fr_now(void);

#endif
