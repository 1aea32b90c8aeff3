/* Acceptance along a given text, teacher-forced.
 *
 * The text is evaluated in prefill passes, the MTP module following. Every position i is a start: it is taken for the last one
 * whose hidden state is known when a cycle begins. Tokens 0..i+1 are known then, and draft j (from 0 on) is for position i+2+j.
 *  - Draft 0 comes from the MTP module's row i, which the pass has made anyway.
 *  - Draft j > 0 takes a chained row of its own: the MTP module at position i+j, given what it recycles and the text's token
 *    i+1+j, its cache holding the true rows 0..i and the chained ones. A chain ends with the first rejected draft.
 *  - The main model's logits of position i+1+j verify draft j.
 *
 * Chained rows overwrite the true rows after i. So the starts of a pass are gone through from the last to the first (a chain
 * needs nothing that later ones have overwritten), and the true rows put back in the end. */
#include <string.h>

#include "core/memory.h"
#include "model/forward.h"
#include "mtp/drafters/mtp.h"
#include "study/accept/accept.h"

typedef struct text_run {
    fr_accept_run *run;
    fr_mtp_drafter *mtp;        /* the session's */
    int count, first;           /* tokens; where verifying begins */
    int base;                   /* the buffers' row 0 is this position: the first start that is not done yet */
    int main_end, mtp_end;      /* positions evaluated by either */
    float *logits;              /* [rows, vocab]: the main model's */
    float *draft_logits;        /* [rows, vocab]: of first drafts */
    float *recycled;            /* [rows, hidden]: what the second draft reads */
    int32_t *choices;           /* [rows, 1 + topk]: and which positions it attends to, where drafts share that */
    char *saved, *saved_keys;   /* [rows] of the MTP module's cache, and of its index keys */
    int rows;                   /* of the buffers */
    int8_t *drafted, *accepted; /* [count], by start; -1: not verified */
} text_run;

static size_t hidden_size(const text_run *t) {
    return (size_t)t->run->model->config.hidden_size;
}

static size_t vocab_size(const text_run *t) {
    return (size_t)t->run->model->config.vocab_size;
}

static size_t cache_bytes(const text_run *t, int rows) {
    return (size_t)fr_kv_cache_bytes(1, rows, t->mtp->kv.rank, t->mtp->kv.rope, t->mtp->kv.type);
}

static size_t key_bytes(const text_run *t, int rows) {
    const fr_kv_cache *kv = &t->mtp->kv;
    return (size_t)fr_kv_cache_bytes(kv->index_layers, rows, kv->index_dim, 0, kv->type);
}

/* Of a position, in numbers; 0 where drafts share none. */
static size_t choice_size(const text_run *t) {
    return t->mtp->choice ? 1 + (size_t)t->mtp->topk : 0;
}

/* Most drafts of a cycle that starts at i: it emits one token more than drafts, and ends with the text. */
static int depth_at(const text_run *t, int i) {
    int room = t->count - i - 3;
    return room < t->run->config->depth ? room : t->run->config->depth;
}

/* Takes draft j of start i from its logits and verifies it: whether it is accepted. */
static bool verify(text_run *t, fr_session *s, const float *logits, int i, int j, int32_t *draft, double *confidence) {
    fr_history history = {s->tokens, i + 2 + j, t->first + 1};
    *draft = fr_sampler_draft(&s->sampler, logits, history, j, confidence);
    const float *main_logits = t->logits + (size_t)(i + 1 + j - t->base) * vocab_size(t);
    return fr_sampler_verify(&s->sampler, main_logits, history, j, *draft) == *draft;
}

/* The logits of draft j > 0 of start i, given that those before it were the text's tokens. */
static const float *chain(text_run *t, fr_session *s, int i, int j) {
    fr_draft_context context = fr_session_draft_context(s);
    size_t hidden = hidden_size(t);
    size_t row = (size_t)(i - t->base), choice = choice_size(t);
    if (j == 1) memcpy(t->mtp->recycled, t->recycled + row * hidden, hidden * sizeof(float));
    if (j == 1 && choice) memcpy(t->mtp->choice, t->choices + row * choice, choice * sizeof(int32_t));
    t->mtp->kv.length = i + 1;
    fr_mtp_chain(t->mtp, &context, s->tokens[i + 1 + j], i + j);
    return t->mtp->logits;
}

static void verify_start(text_run *t, fr_session *s, int i) {
    fr_cycle cycle = {.length = i + 2, .verified = depth_at(t, i)};
    for (int j = 0; j < cycle.verified; j = ++cycle.accepted) {
        const float *logits = j == 0 ? t->draft_logits + (size_t)(i - t->base) * vocab_size(t) : chain(t, s, i, j);
        if (!verify(t, s, logits, i, j, &cycle.drafts[j], &cycle.confidence[j])) break;
    }
    t->drafted[i] = (int8_t)cycle.verified;
    t->accepted[i] = (int8_t)cycle.accepted;
    fr_accept_count_cycle(t->run, &cycle);
    fr_stats_count(&t->run->config->stats, &cycle);
    t->run->text->tokens++;
}

/* Verifies the starts whose logits are all there, and moves what the others need to the front. */
static void verify_starts(text_run *t, fr_session *s) {
    int end = t->base;
    while (end < t->mtp_end && (depth_at(t, end) < 1 || end + depth_at(t, end) < t->main_end)) end++;
    /* Chains write up to position end + depth - 2, of which the module has evaluated those before mtp_end. */
    int length = t->mtp->kv.length, last = end + t->run->config->depth;
    int rows = (last < length ? last : length) - t->base;
    const bool keyed = key_bytes(t, 1) > 0;
    void *cache = (void *)fr_kv_cache_row(&t->mtp->kv, 0, t->base);
    void *keys = keyed ? (void *)fr_kv_cache_key(&t->mtp->kv, 0, t->base) : NULL;
    if (rows > 0) memcpy(t->saved, cache, cache_bytes(t, rows));
    if (rows > 0 && keyed) memcpy(t->saved_keys, keys, key_bytes(t, rows));
    for (int i = end - 1; i >= t->base; i--)
        if (i >= t->first && depth_at(t, i) > 0) verify_start(t, s, i);
    t->mtp->kv.length = length;
    if (rows > 0) memcpy(cache, t->saved, cache_bytes(t, rows));
    if (rows > 0 && keyed) memcpy(keys, t->saved_keys, key_bytes(t, rows));

    size_t done = (size_t)(end - t->base), main_left = (size_t)(t->main_end - end), mtp_left = (size_t)(t->mtp_end - end);
    memmove(t->logits, t->logits + done * vocab_size(t), main_left * vocab_size(t) * sizeof(float));
    memmove(t->draft_logits, t->draft_logits + done * vocab_size(t), mtp_left * vocab_size(t) * sizeof(float));
    memmove(t->recycled, t->recycled + done * hidden_size(t), mtp_left * hidden_size(t) * sizeof(float));
    memmove(t->choices, t->choices + done * choice_size(t), mtp_left * choice_size(t) * sizeof(int32_t));
    t->base = end;
}

static fr_status after_main(void *user, fr_session *s, int first, int rows, fr_error *error) {
    text_run *t = user;
    const fr_model *model = t->run->model;
    float *logits = t->logits + (size_t)(first - t->base) * vocab_size(t);
    fr_lm_head(model, &s->ws, &model->lm_head, s->ws.hidden, rows, logits);
    for (int i = 0; i < rows; i++) FR_TRY(fr_session_check_logits(s, logits + (size_t)i * vocab_size(t), first + i + 1, error));
    fr_accept_count_experts(t->run, s->ws.experts, rows, rows);
    t->main_end = first + rows;
    return FR_OK;
}

/* The MTP module's rows of the same pass, but for those whose next token is not known yet. */
static fr_status read_mtp(void *user, fr_session *s, int main_first, int main_rows, fr_error *error) {
    text_run *t = user;
    const fr_model *model = t->run->model;
    fr_draft_context context = fr_session_draft_context(s);
    int first = t->mtp->kv.length, rows = fr_mtp_readable(t->mtp, &context);
    size_t at = (size_t)(first - t->base);
    (void)main_first, (void)main_rows;
    if (rows == 0) return FR_OK;
    fr_mtp_read(t->mtp, &context, rows, rows, t->recycled + at * hidden_size(t));
    if (t->mtp->choice) fr_mtp_choices(t->mtp, &context, rows, t->choices + at * choice_size(t));
    fr_lm_head(model, &s->ws, &model->draft_head, s->ws.hidden, rows, t->draft_logits + at * vocab_size(t));
    t->mtp_end = first + rows;
    verify_starts(t, s);
    return fr_accept_report(t->run, (size_t)t->main_end, error);
}

/* The cycles that decoding this text would have made, had it been the main model's own. */
static void walk(const text_run *t) {
    fr_stats *stats = &t->run->config->along_cycles;
    stats->num_first_tokens += t->first + 1 < t->count; /* the prompt's last position gives it */
    for (int i = t->first; i < t->count - 2;) {
        fr_cycle cycle = {0};
        if (t->drafted[i] >= 0) cycle = (fr_cycle){.verified = t->drafted[i], .accepted = t->accepted[i]};
        fr_stats_count(stats, &cycle);
        i += cycle.accepted + 1;
    }
}

static fr_status allocate(text_run *t, const fr_session *s, fr_error *error) {
    t->rows = s->chunk + FR_MAX_DEPTH + 2; /* of a pass, and those that wait for the next one's logits */
    size_t rows = (size_t)t->rows, count = (size_t)t->count;
    t->logits = fr_alloc(rows * vocab_size(t) * sizeof(float));
    t->draft_logits = fr_alloc(rows * vocab_size(t) * sizeof(float));
    t->recycled = fr_alloc(rows * hidden_size(t) * sizeof(float));
    t->choices = fr_alloc(rows * choice_size(t) * sizeof(int32_t));
    t->saved = fr_alloc(cache_bytes(t, t->rows + FR_MAX_DEPTH));
    t->saved_keys = fr_alloc(key_bytes(t, t->rows + FR_MAX_DEPTH));
    t->drafted = fr_alloc(count);
    t->accepted = fr_alloc(count);
    bool whole = t->logits && t->draft_logits && t->recycled && t->choices && t->saved && t->saved_keys;
    if (!whole || !t->drafted || !t->accepted)
        return fr_fail(error, FR_ERROR_MEMORY, "accept: not enough for the logits of %d positions", t->rows);
    memset(t->drafted, -1, count);
    memset(t->accepted, -1, count);
    return FR_OK;
}

fr_status fr_accept_verify_text(fr_accept_run *run, const int32_t *tokens, int count, int first, fr_error *error) {
    fr_session *s = run->session;
    text_run t = {.run = run, .mtp = fr_mtp_drafter_of(s->drafter), .count = count, .first = first};
    fr_status status;
    FR_CHECK(allocate(&t, s, error));
    FR_CHECK(fr_session_append(s, tokens, (size_t)count, error));
    double start = fr_now();
    FR_CHECK(fr_session_evaluate(s, after_main, read_mtp, &t, error));
    verify_starts(&t, s);
    FR_CHECK(fr_session_trusts_pass(s, error));
    run->config->stats.prefill_s += fr_now() - start;
    run->config->stats.prefill_tokens += (uint64_t)count;
    walk(&t);
done:
    fr_free(t.logits);
    fr_free(t.draft_logits);
    fr_free(t.recycled);
    fr_free(t.choices);
    fr_free(t.saved);
    fr_free(t.saved_keys);
    fr_free(t.drafted);
    fr_free(t.accepted);
    return status;
}
