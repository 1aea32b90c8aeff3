/* A drafter of one's own, as a worked example: it remembers which token came after each one the last time, and proposes the
 * chain that follows from the newest token. (Good enough for lists and tables.)
 *
 * To have it in forerun: put this file into mtp/drafters/ and its name into the CMakeLists.txt there, and give it a row in
 * mtp/drafters/drafters.c and a constant in fr_drafter_kind (CONTRIBUTING.md). `--drafter bigram` and the studies then know it.
 * tests/test_example_drafter.c holds it to what every drafter must keep: the text is that of drafting off.
 *
 * Not needed here: `catch_up` and `save`/`load`, of drafters that read hidden states (see mtp/drafters/mtp.c). */
#include "mtp/drafters/drafter.h"

#include "core/memory.h"

/* The object begins with an fr_drafter; behind it is its own state. */
typedef struct bigram {
    fr_drafter base;
    int32_t *after; /* [vocab_size]: the token that came after each one; -1: none yet */
} bigram;

/* The only place to allocate. */
static fr_status create(fr_drafter *drafter, const fr_model *model, const fr_session_options *options, fr_error *error) {
    bigram *b = (bigram *)drafter;
    (void)options;
    b->after = fr_alloc((size_t)model->config.vocab_size * sizeof *b->after);
    if (!b->after) return fr_fail(error, FR_ERROR_MEMORY, "drafter bigram: out of memory");
    for (int i = 0; i < model->config.vocab_size; i++) b->after[i] = -1;
    return FR_OK;
}

static void destroy(fr_drafter *drafter) {
    fr_free(((bigram *)drafter)->after);
}

/* Positions [evaluated - rows, evaluated) became text: of the prompt, or of what a cycle accepted. Rejected drafts never come
 * here, so there is nothing to take back. */
static void committed(fr_drafter *drafter, const fr_draft_context *context, int rows) {
    bigram *b = (bigram *)drafter;
    for (int i = context->evaluated - rows; i < context->evaluated; i++)
        if (i > 0) b->after[context->tokens[i - 1]] = context->tokens[i];
}

/* There is no `truncate`: what was cut off the text may still be in the table, and a wrong proposal costs nothing but time. */
static void draft(fr_drafter *drafter, const fr_draft_context *context, fr_cycle *cycle) {
    const bigram *b = (const bigram *)drafter;
    int32_t token = context->tokens[context->length - 1];
    while (cycle->made < cycle->planned && b->after[token] >= 0) {
        token = b->after[token];
        fr_draft_propose(context, cycle, token);
    }
}

extern const fr_drafter_type fr_bigram_drafter_type;
const fr_drafter_type fr_bigram_drafter_type = {
    .name = "bigram", .size = sizeof(bigram), .create = create, .destroy = destroy, .committed = committed, .draft = draft};
