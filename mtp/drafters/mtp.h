/* The MTP drafter: the checkpoint's MTP module, chained from the second draft on: on its own output, or on the hidden state that
 * the first one read.
 *
 * Invariants between calls, with e = positions that the main model has evaluated:
 *  - kv holds positions [0, kv.length) of the text, each computed from the main model's own hidden state and the token after
 *    it. Rows of chained drafts lie past that length and are computed again from true hidden states.
 *  - hidden holds the main model's hidden states of positions [kv.length, e), in order: what the module has yet to read,
 *    `unread` of them. When none of them can be read (after a truncate) a cycle does not draft. While drafting does not pay there
 *    are up to FR_DECODE_ROWS; the module then reads them in one pass. */
#ifndef FR_MTP_DRAFTERS_MTP_H
#define FR_MTP_DRAFTERS_MTP_H

#include "mtp/drafters/drafter.h"

typedef struct fr_mtp_drafter {
    fr_drafter base;
    fr_hidden_state reads; /* fr_session_options' mtp_hidden */
    fr_recycle recycles;   /* and mtp_recycle */
    int hidden_size;
    fr_kv_cache kv;
    float *hidden; /* [room, hidden_size] */
    int unread, room;
    float *recycled; /* [hidden_size]: what the next chained draft reads */
    float *logits;   /* [vocab_size] of the last draft */
    /* [1 + topk]: how many positions chained rows attend to, and which; NULL unless index_share_for_mtp_iteration */
    int32_t *choice;
    int topk;
} fr_mtp_drafter;

/* The MTP drafter that `drafter` is; NULL when it is another one, or NULL. */
fr_mtp_drafter *fr_mtp_drafter_of(fr_drafter *drafter);

/* Rows that the module can read now: their hidden states are there and the tokens after them known. */
int fr_mtp_readable(const fr_mtp_drafter *mtp, const fr_draft_context *context);
/* Reads the first `rows` of them. ws->x and ws->hidden then hold the module's outputs of the last `outputs` rows; the others are
 * KV-only, which is cheap. recycled [outputs, hidden_size]: takes what a row that is chained to each of them reads; NULL: none
 * is. */
void fr_mtp_read(fr_mtp_drafter *mtp, const fr_draft_context *context, int rows, int outputs, float *recycled);
/* Right after fr_mtp_read: to [outputs, 1 + topk] = what rows that are chained to these outputs have in `choice`. Only where
 * there is one. */
void fr_mtp_choices(const fr_mtp_drafter *mtp, const fr_draft_context *context, int outputs, int32_t *to);
/* Runs a chained row: position `pos`, from `recycled`, `choice` and `token`, which comes after `pos`. Leaves logits, and in
 * `recycled` what the next row reads. The cache keeps the row past its length. */
void fr_mtp_chain(fr_mtp_drafter *mtp, const fr_draft_context *context, int32_t token, int pos);

#endif
