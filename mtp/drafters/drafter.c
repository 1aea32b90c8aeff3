#include "mtp/drafters/drafter.h"

#include <assert.h>

#include "core/memory.h"

/* ---- Calls of what a drafter has ---- */

fr_status fr_drafter_create(const fr_drafter_type *type, const fr_model *model, const fr_session_options *options,
                            fr_drafter **out, fr_error *error) {
    assert(type->size >= sizeof(fr_drafter) && type->draft && !type->save == !type->load);
    fr_drafter *d = fr_alloc_zeroed(1, type->size);
    if (!d) return fr_fail(error, FR_ERROR_MEMORY, "drafter %s: out of memory", type->name);
    d->type = type;
    fr_status status = type->create ? type->create(d, model, options, error) : FR_OK;
    if (status != FR_OK) {
        fr_drafter_destroy(d);
        return status;
    }
    *out = d;
    return FR_OK;
}

void fr_drafter_destroy(fr_drafter *d) {
    if (!d) return;
    if (d->type->destroy) d->type->destroy(d);
    fr_free(d);
}

void fr_drafter_committed(fr_drafter *d, const fr_draft_context *context, int rows) {
    if (d && d->type->committed) d->type->committed(d, context, rows);
}

void fr_drafter_catch_up(fr_drafter *d, const fr_draft_context *context) {
    if (d && d->type->catch_up) d->type->catch_up(d, context);
}

void fr_drafter_truncate(fr_drafter *d, const fr_draft_context *context) {
    if (d && d->type->truncate) d->type->truncate(d, context);
}

void fr_drafter_draft(fr_drafter *d, const fr_draft_context *context, fr_cycle *cycle) {
    if (d) d->type->draft(d, context, cycle);
}

bool fr_drafter_has_state(const fr_drafter *d) {
    return d && d->type->save;
}

fr_drafter_state fr_drafter_save(const fr_drafter *d) {
    fr_drafter_state state = {0};
    if (fr_drafter_has_state(d)) d->type->save(d, &state);
    return state;
}

void fr_drafter_load(fr_drafter *d, int read, int unread, const void *bytes) {
    assert(fr_drafter_has_state(d));
    d->type->load(d, read, unread, bytes);
}

/* ---- Drafts ---- */

/* Drafts go behind the text, where penalties and the pass that verifies them look for them. */
static void add(const fr_draft_context *c, fr_cycle *cycle, int32_t token, double confidence) {
    int j = cycle->made;
    assert(j < cycle->planned && token >= 0 && token < c->model->config.vocab_size);
    c->tokens[c->length + j] = cycle->drafts[j] = token;
    cycle->confidence[j] = confidence;
    cycle->foreseen[j] = fr_sampler_foreseen(c->sampler, j, confidence);
    cycle->made++;
}

int32_t fr_draft_choose(const fr_draft_context *c, fr_cycle *cycle, const float *logits) {
    fr_history history = {c->tokens, c->length + cycle->made, c->generated};
    double confidence;
    int32_t token = fr_sampler_draft(c->sampler, logits, history, cycle->made, &confidence);
    add(c, cycle, token, confidence);
    return token;
}

void fr_draft_propose(const fr_draft_context *c, fr_cycle *cycle, int32_t token) {
    fr_sampler_propose(c->sampler, cycle->made, token);
    add(c, cycle, token, 1.0);
}
