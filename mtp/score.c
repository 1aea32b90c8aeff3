/* Evaluation of a given text: the prefill path, with logits of every row handed out. */
#include "model/forward.h"
#include "mtp/drafters/mtp.h"
#include "mtp/session.h"

typedef struct fr_scorer {
    unsigned what;
    fr_score_fn fn;
    void *user;
    float *logits, *mtp_logits; /* [chunk, vocab_size] */
    float *hidden;              /* [chunk, hidden_size] */
    int32_t *experts;
    fr_score_batch batch;
} fr_scorer;

/* Keeps what was asked for of a main pass, since the MTP pass that follows uses the same workspace. */
static fr_status keep_main(void *user, fr_session *s, int first, int rows, fr_error *error) {
    fr_scorer *scorer = user;
    const fr_model *model = s->model;
    size_t hidden = (size_t)rows * (size_t)model->config.hidden_size;
    size_t experts = (size_t)model->num_moe_layers * (size_t)rows * (size_t)model->config.num_experts_per_tok;
    scorer->batch = (fr_score_batch){.first = (size_t)first, .rows = (size_t)rows};
    memcpy(scorer->hidden, s->ws.hidden, hidden * sizeof(float));
    if (scorer->what & FR_SCORE_LOGITS) {
        fr_lm_head(model, &s->ws, &model->lm_head, scorer->hidden, rows, scorer->logits);
        FR_TRY(fr_session_trusts_pass(s, error));
        for (int i = 0; i < rows; i++)
            FR_TRY(
                fr_session_check_logits(s, scorer->logits + (size_t)i * (size_t)model->config.vocab_size, first + i + 1, error));
        scorer->batch.logits = scorer->logits;
    }
    if (scorer->what & FR_SCORE_HIDDEN) scorer->batch.hidden = scorer->hidden;
    if (scorer->what & FR_SCORE_EXPERTS && experts > 0) {
        memcpy(scorer->experts, s->ws.experts, experts * sizeof(int32_t));
        scorer->batch.experts = scorer->experts;
    }
    return FR_OK;
}

/* Adds the MTP module's logits, and hands the batch out. The text's last row alone has none. */
static fr_status hand_out(void *user, fr_session *s, int first, int rows, fr_error *error) {
    fr_scorer *scorer = user;
    fr_draft_context context = fr_session_draft_context(s);
    fr_mtp_drafter *mtp = scorer->what & FR_SCORE_MTP_LOGITS ? fr_mtp_drafter_of(s->drafter) : NULL;
    int mtp_rows = mtp ? fr_mtp_readable(mtp, &context) : 0;
    if (mtp_rows > 0) {
        fr_mtp_read(mtp, &context, mtp_rows, mtp_rows, NULL);
        fr_lm_head(s->model, &s->ws, &s->model->mtp.lm_head, s->ws.hidden, mtp_rows, scorer->mtp_logits);
        FR_TRY(fr_session_trusts_pass(s, error));
        scorer->batch.mtp_logits = scorer->mtp_logits;
        scorer->batch.mtp_rows = (size_t)mtp_rows;
    }
    if (scorer->fn(scorer->user, &scorer->batch)) return FR_OK;
    return fr_fail(error, FR_INTERRUPTED, "score: interrupted at token %d", first + rows);
}

static fr_status allocate(fr_scorer *scorer, const fr_session *s, fr_error *error) {
    const fr_config *c = &s->model->config;
    size_t rows = (size_t)s->chunk, vocab = (size_t)c->vocab_size;
    scorer->hidden = fr_alloc(rows * (size_t)c->hidden_size * sizeof(float));
    scorer->experts = fr_alloc(rows * (size_t)s->model->num_moe_layers * (size_t)c->num_experts_per_tok * sizeof(int32_t));
    bool whole = scorer->hidden && scorer->experts;
    if (scorer->what & FR_SCORE_LOGITS) whole &= (scorer->logits = fr_alloc(rows * vocab * sizeof(float))) != NULL;
    if (scorer->what & FR_SCORE_MTP_LOGITS) whole &= (scorer->mtp_logits = fr_alloc(rows * vocab * sizeof(float))) != NULL;
    return whole ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "score: out of memory");
}

fr_status fr_session_score(fr_session *s, const int32_t *tokens, size_t count, unsigned what, fr_score_fn fn, void *user,
                           fr_error *error) {
    if (s->length > 0) return fr_fail(error, FR_ERROR_ARGUMENT, "score: the session is not empty");
    if (what & FR_SCORE_MTP_LOGITS && !fr_mtp_drafter_of(s->drafter))
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "score: MTP logits were asked for, but the session runs without MTP");
    fr_scorer scorer = {.what = what, .fn = fn, .user = user};
    fr_status status = fr_ranks_agree(s->model->ranks, allocate(&scorer, s, error), error);
    if (status == FR_OK) status = fr_session_append(s, tokens, count, error);
    if (status == FR_OK) status = fr_session_evaluate(s, keep_main, hand_out, &scorer, error);
    fr_free(scorer.logits);
    fr_free(scorer.mtp_logits);
    fr_free(scorer.hidden);
    fr_free(scorer.experts);
    return status;
}
