/* A drafter: an object that proposes the tokens to come, with a state of its own.
 *
 * To add one, write a file that defines its fr_drafter_type and give it a row in drafters.c; examples/drafter.c is a worked
 * example. What a drafter proposes changes how fast tokens come, never which. */
#ifndef FR_MTP_DRAFTERS_DRAFTER_H
#define FR_MTP_DRAFTERS_DRAFTER_H

#include "model/traffic.h"
#include "model/workspace.h"
#include "mtp/drafters/cycle.h"
#include "sampler/sampler.h"

/* What a session lends a drafter for the time of a call. */
typedef struct fr_draft_context {
    const fr_model *model;
    fr_workspace *ws;          /* of passes; see `committed` for what it holds */
    const fr_traffic *traffic; /* bytes that passes read */
    fr_sampler *sampler;
    int32_t *tokens; /* [length]: the text; behind it the drafts of this cycle */
    int length;
    int generated; /* the completion begins at this token */
    int evaluated; /* the main model has evaluated positions [0, evaluated): length of them, or length - 1 */
    /* Whether one more draft is worth its time, given those that the cycle has made. For drafters that pay for each draft. */
    bool (*go_on)(const void *policy, const fr_cycle *cycle);
    const void *policy;
} fr_draft_context;

#define FR_STATE_PIECES 3
/* What a session file keeps of a drafter: bytes in pieces, which lie one after the other in the file. */
typedef struct fr_drafter_state {
    int read; /* positions of the text that the drafter has read; it keeps something for each evaluated one after them */
    struct {
        const void *bytes;
        uint64_t size;
    } piece[FR_STATE_PIECES];
} fr_drafter_state;

typedef struct fr_drafter fr_drafter;

/* A kind of drafter. `name` and `draft` must be there; of the others, those that a drafter has no use for are NULL. Nothing but
 * `create` may allocate. */
typedef struct fr_drafter_type {
    const char *name; /* the word for it in options and documents */
    size_t size;      /* of the object, which begins with an fr_drafter */
    bool needs_mtp;   /* the checkpoint must have an MTP module */
    /* Fills in an object of zeros. After a failure `destroy` is called as well. */
    fr_status (*create)(fr_drafter *drafter, const fr_model *model, const fr_session_options *options, fr_error *error);
    /* Releases what `create` took, but not the object itself. */
    void (*destroy)(fr_drafter *drafter);
    /* The first `rows` rows of the main model's last pass became text; the last of them is position evaluated - 1. The
     * workspace holds the outputs of the pass. */
    void (*committed)(fr_drafter *drafter, const fr_draft_context *context, int rows);
    /* A prefill pass is over: no cycle follows, and the next pass may bring as many rows. */
    void (*catch_up)(fr_drafter *drafter, const fr_draft_context *context);
    /* The text was cut to `length` tokens, `evaluated` of which are evaluated. */
    void (*truncate)(fr_drafter *drafter, const fr_draft_context *context);
    /* Makes up to cycle->planned drafts with the functions below. Called once a cycle, also when none is planned: a drafter
     * that reads what was committed can then keep up. */
    void (*draft)(fr_drafter *drafter, const fr_draft_context *context, fr_cycle *cycle);
    /* For session files: where the state lies, and taking one over whose `bytes` were saved with `read` positions read and
     * `unread` evaluated ones after them. A drafter without them is not told of a text that comes from a file. */
    void (*save)(const fr_drafter *drafter, fr_drafter_state *out);
    void (*load)(fr_drafter *drafter, int read, int unread, const void *bytes);
} fr_drafter_type;

struct fr_drafter {
    const fr_drafter_type *type;
};

/* The type of a kind; NULL when there is none. */
const fr_drafter_type *fr_drafter_type_of(int kind);

fr_status fr_drafter_create(const fr_drafter_type *type, const fr_model *model, const fr_session_options *options,
                            fr_drafter **out, fr_error *error);
/* These take NULL, a session without a drafter. */
void fr_drafter_destroy(fr_drafter *drafter);
void fr_drafter_committed(fr_drafter *drafter, const fr_draft_context *context, int rows);
void fr_drafter_catch_up(fr_drafter *drafter, const fr_draft_context *context);
void fr_drafter_truncate(fr_drafter *drafter, const fr_draft_context *context);
void fr_drafter_draft(fr_drafter *drafter, const fr_draft_context *context, fr_cycle *cycle);
bool fr_drafter_has_state(const fr_drafter *drafter);
/* Zeros when there is no state. */
fr_drafter_state fr_drafter_save(const fr_drafter *drafter);
/* Only with a state. */
void fr_drafter_load(fr_drafter *drafter, int read, int unread, const void *bytes);

/* The two ways to add a draft to a cycle. Drawn by the session's rule from logits [vocab_size] of the drafter's own,
 * with the probability there as its confidence. Returns the token. */
int32_t fr_draft_choose(const fr_draft_context *context, fr_cycle *cycle, const float *logits);
/* Or known: its confidence is 1. */
void fr_draft_propose(const fr_draft_context *context, fr_cycle *cycle, int32_t token);

#endif
