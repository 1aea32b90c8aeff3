#include "mtp/drafters/mtp.h"

#include <assert.h>
#include <string.h>

#include "core/clock.h"
#include "model/cache.h"
#include "model/forward.h"
#include "model/plan.h"
#include "mtp/drafters/mtp_module.h"

static fr_mtp_drafter *mtp_of(fr_drafter *d) {
    return (fr_mtp_drafter *)d;
}

static size_t hidden_bytes(const fr_mtp_drafter *m, int rows) {
    return (size_t)rows * (size_t)m->hidden_size * sizeof(float);
}

static fr_status create(fr_drafter *d, const fr_model *model, const fr_session_options *o, fr_error *error) {
    fr_mtp_drafter *m = mtp_of(d);
    const fr_config *c = &model->config;
    fr_session_sizes sizes = fr_session_sizes_of(model, o);
    m->reads = o->mtp_hidden;
    m->recycles = o->mtp_recycle;
    m->hidden_size = c->hidden_size;
    m->room = sizes.chunk + FR_DECODE_ROWS; /* a prefill pass behind what a cycle has left */
    FR_TRY(fr_cache_create(&m->kv, c, FR_CACHE_MTP, sizes.ctx, sizes.kv, error));
    m->hidden = fr_alloc(hidden_bytes(m, m->room));
    m->recycled = fr_alloc(hidden_bytes(m, 1));
    m->logits = fr_alloc((size_t)c->vocab_size * sizeof(float));
    m->topk = c->index_topk;
    if (c->index_share_for_mtp_iteration && c->index_topk > 0) {
        m->choice = fr_alloc((1 + (size_t)m->topk) * sizeof *m->choice);
        if (!m->choice) return fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
    }
    return m->hidden && m->recycled && m->logits ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
}

static void destroy(fr_drafter *d) {
    fr_mtp_drafter *m = mtp_of(d);
    fr_kv_cache_release(&m->kv);
    fr_free(m->hidden);
    fr_free(m->recycled);
    fr_free(m->logits);
    fr_free(m->choice);
}

/* ---- Reading what became text ---- */

static void committed(fr_drafter *d, const fr_draft_context *c, int rows) {
    fr_mtp_drafter *m = mtp_of(d);
    const float *from = m->reads == FR_HIDDEN_PRE_NORM ? c->ws->x : c->ws->hidden;
    assert(m->unread + rows <= m->room && m->kv.length + m->unread + rows == c->evaluated);
    memcpy((char *)m->hidden + hidden_bytes(m, m->unread), from, hidden_bytes(m, rows));
    m->unread += rows;
}

int fr_mtp_readable(const fr_mtp_drafter *m, const fr_draft_context *c) {
    int known = c->length - 1 - m->kv.length; /* position i needs token i + 1 */
    return known < 0 ? 0 : known < m->unread ? known : m->unread;
}

/* The module's own outputs of the pass just made, as chained rows read them. */
static const float *outputs_of(const fr_mtp_drafter *m, const fr_draft_context *c) {
    return m->recycles == FR_RECYCLE_PRE_NORM ? c->ws->x : c->ws->hidden;
}

void fr_mtp_read(fr_mtp_drafter *m, const fr_draft_context *c, int rows, int outputs, float *recycled) {
    int pos = m->kv.length;
    assert(rows > 0 && rows <= fr_mtp_readable(m, c) && outputs >= 0 && outputs <= rows);
    fr_mtp_forward(c->model, c->ws, &m->kv, m->hidden, c->tokens + pos + 1, rows, outputs, pos);
    fr_kv_cache_commit(&m->kv, rows);
    const float *read = (const float *)((const char *)m->hidden + hidden_bytes(m, rows - outputs));
    if (recycled) memcpy(recycled, m->recycles == FR_RECYCLE_PINNED ? read : outputs_of(m, c), hidden_bytes(m, outputs));
    m->unread -= rows;
    memmove(m->hidden, (const char *)m->hidden + hidden_bytes(m, rows), hidden_bytes(m, m->unread));
}

static void catch_up(fr_drafter *d, const fr_draft_context *c) {
    int rows = fr_mtp_readable(mtp_of(d), c);
    if (rows > 0) fr_mtp_read(mtp_of(d), c, rows, 0, NULL);
}

/* Without drafts the module only keeps up: its cache takes in what was committed, a few rows at a time. */
static void keep_up(fr_mtp_drafter *m, const fr_draft_context *c, int rows, fr_cycle *cycle) {
    double start = fr_now();
    fr_mtp_read(m, c, rows, 0, NULL);
    cycle->draft_bytes = c->traffic->kv_only;
    cycle->catch_up_rows = (uint64_t)rows;
    cycle->catch_up_s = fr_now() - start;
}

static void truncate(fr_drafter *d, const fr_draft_context *c) {
    fr_mtp_drafter *m = mtp_of(d);
    if (m->kv.length > c->evaluated) fr_kv_cache_truncate(&m->kv, c->evaluated);
    if (m->kv.length + m->unread > c->evaluated) m->unread = c->evaluated - m->kv.length;
}

/* ---- Drafting ---- */

/* Takes the logits of the pass just made, of one output row. */
static void take_logits(fr_mtp_drafter *m, const fr_draft_context *c) {
    fr_lm_head(c->model, c->ws, &c->model->draft_head, c->ws->hidden, 1, m->logits);
}

void fr_mtp_choices(const fr_mtp_drafter *m, const fr_draft_context *c, int outputs, int32_t *to) {
    for (int r = 0; r < outputs; r++, to += 1 + m->topk) {
        const fr_choice *choice = &c->ws->mla.index.choices[r];
        to[0] = choice->count;
        for (int i = 0; i < choice->count; i++) to[1 + i] = choice->positions ? choice->positions[i] : i;
    }
}

void fr_mtp_chain(fr_mtp_drafter *m, const fr_draft_context *c, int32_t token, int pos) {
    assert(pos >= m->kv.length && pos < m->kv.ctx);
    fr_choice choice = {.count = 0};
    if (m->choice) choice = (fr_choice){m->choice[0], m->choice + 1};
    fr_mtp_chain_forward(c->model, c->ws, &m->kv, m->recycled, token, pos, m->choice ? &choice : NULL);
    if (m->recycles != FR_RECYCLE_PINNED) memcpy(m->recycled, outputs_of(m, c), hidden_bytes(m, 1));
    take_logits(m, c);
}

/* Draws a draft from the logits of position `pos`. Returns its token. */
static int32_t draw(const fr_mtp_drafter *m, const fr_draft_context *c, int pos, fr_cycle *cycle) {
    cycle->draft_bytes += c->traffic->draft + fr_cache_read_bytes(&c->model->config, FR_CACHE_MTP, pos + 1, m->kv.type);
    return fr_draft_choose(c, cycle, m->logits);
}

static void draft(fr_drafter *d, const fr_draft_context *c, fr_cycle *cycle) {
    fr_mtp_drafter *m = mtp_of(d);
    int rows = fr_mtp_readable(m, c);
    assert(m->unread <= FR_DECODE_ROWS);
    if (cycle->planned == 0 && rows >= FR_DECODE_ROWS) keep_up(m, c, rows, cycle);
    if (cycle->planned == 0 || rows == 0) return;
    double start = fr_now();
    fr_mtp_read(m, c, rows, 1, m->recycled);
    if (c->ws->moe.experts.failed) return; /* the session looks after each turn of a drafter */
    if (m->choice) fr_mtp_choices(m, c, 1, m->choice);
    take_logits(m, c);
    int pos = m->kv.length - 1;
    int32_t token = draw(m, c, pos, cycle);
    double first = fr_now();
    cycle->first_s = first - start;
    while (cycle->made < cycle->planned && c->go_on(c->policy, cycle)) {
        fr_mtp_chain(m, c, token, ++pos);
        if (c->ws->moe.experts.failed) return;
        token = draw(m, c, pos, cycle);
    }
    cycle->rest_s = cycle->made > 1 ? fr_now() - first : 0.0;
}

/* ---- Session files ---- */

static void save(const fr_drafter *d, fr_drafter_state *out) {
    const fr_mtp_drafter *m = (const fr_mtp_drafter *)d;
    const fr_kv_cache *kv = &m->kv;
    out->read = kv->length;
    out->piece[0].bytes = kv->rows;
    out->piece[0].size = fr_kv_cache_bytes(1, kv->length, kv->rank, kv->rope, kv->type);
    out->piece[1].bytes = kv->index_rows;
    out->piece[1].size = fr_kv_cache_bytes(kv->index_layers, kv->length, kv->index_dim, 0, kv->type);
    out->piece[2].bytes = m->hidden;
    out->piece[2].size = hidden_bytes(m, m->unread);
}

static void load(fr_drafter *d, int read, int unread, const void *bytes) {
    fr_mtp_drafter *m = mtp_of(d);
    fr_drafter_state state;
    assert(read >= 0 && read <= m->kv.ctx && unread >= 0 && unread <= FR_DECODE_ROWS);
    m->kv.length = read;
    m->unread = unread;
    save(d, &state);
    const char *keys = (const char *)bytes + state.piece[0].size, *hidden = keys + state.piece[1].size;
    memcpy(m->kv.rows, bytes, state.piece[0].size);
    if (m->kv.index_rows) memcpy(m->kv.index_rows, keys, state.piece[1].size);
    memcpy(m->hidden, hidden, state.piece[2].size);
}

const fr_drafter_type fr_mtp_drafter_type = {.name = "mtp",
                                             .size = sizeof(fr_mtp_drafter),
                                             .needs_mtp = true,
                                             .create = create,
                                             .destroy = destroy,
                                             .committed = committed,
                                             .catch_up = catch_up,
                                             .truncate = truncate,
                                             .draft = draft,
                                             .save = save,
                                             .load = load};

fr_mtp_drafter *fr_mtp_drafter_of(fr_drafter *d) {
    return d && d->type == &fr_mtp_drafter_type ? mtp_of(d) : NULL;
}
