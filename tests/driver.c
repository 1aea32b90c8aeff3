#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernels/isa.h"
#include "core/threads.h"
#include "goldens.h"
#include "model/layer.h"

bool driver_packs(fr_isa isa) {
    const fr_kernels *kernels = fr_isa_kernels(isa);
    return kernels && kernels->prefill;
}

bool driver_multiplies_by_onednn(fr_isa isa) {
    const fr_kernels *kernels = fr_isa_kernels(isa);
    return kernels && (kernels->prefill || kernels->float_prefill);
}

static void succeed(fr_status status, const fr_error *error, const char *what) {
    if (status != FR_OK) fail_msg("%s: %s: %s", what, fr_status_name(status), error->message);
}

fr_model *driver_open(const char *model, fr_isa isa, fr_act act, int threads) {
    char dir[512];
    fr_error error;
    fr_model *out = NULL;
    golden_model_dir(model, dir, sizeof dir);
    fr_status status = fr_model_open(dir, &(fr_model_options){.threads = threads, .act = act, .isa = isa}, &out, &error);
    if (status == FR_ERROR_UNSUPPORTED && isa != FR_ISA_AUTO && isa != FR_ISA_SCALAR) return NULL;
    succeed(status, &error, model);
    fr_model_info info;
    fr_model_get_info(out, &info);
    if (isa != FR_ISA_AUTO) assert_string_equal(info.isa, fr_isa_name(isa));
    return out;
}

fr_isa driver_best_isa(void) {
    fr_model *model = driver_open("pico-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    fr_model_info info;
    fr_model_get_info(model, &info);
    fr_model_destroy(model);
    for (int i = 0; i < DRIVER_ISAS; i++) {
        if (strcmp(info.isa, fr_isa_name(driver_isa(i))) == 0) return driver_isa(i);
    }
    fail_msg("unknown instruction set %s", info.isa);
    return FR_ISA_SCALAR;
}

fr_session *driver_session(const fr_model *model, const fr_session_options *options) {
    fr_session *session = NULL;
    fr_error error;
    succeed(fr_session_create(model, options, &session, &error), &error, "session");
    return session;
}

typedef struct collector {
    driver_scores *scores;
    fr_model_info info;
    bool mtp;
    int next; /* the chunk's first position must be this */
} collector;

static bool collect(void *user, const fr_score_batch *batch) {
    collector *c = user;
    driver_scores *s = c->scores;
    size_t vocab = (size_t)c->info.vocab_size, hidden = (size_t)c->info.hidden_size;
    size_t k = (size_t)c->info.num_experts_per_tok, first = batch->first, rows = batch->rows;
    assert_int_equal(first, c->next);
    assert_true(rows >= 1 && first + rows <= (size_t)s->rows);
    assert_non_null(batch->logits);
    assert_non_null(batch->hidden);
    assert_true(batch->experts || c->info.num_moe_layers == 0);
    memcpy(s->logits + first * vocab, batch->logits, rows * vocab * sizeof(float));
    memcpy(s->hidden + first * hidden, batch->hidden, rows * hidden * sizeof(float));
    for (size_t i = 0; i < (size_t)c->info.num_moe_layers; i++) {
        memcpy(s->experts + (i * (size_t)s->rows + first) * k, batch->experts + i * rows * k, rows * k * sizeof(int32_t));
    }
    c->next += (int)rows;
    if (!c->mtp) return true;
    if (batch->mtp_rows > 0) {
        assert_non_null(batch->mtp_logits);
        assert_true((size_t)s->mtp_rows + batch->mtp_rows <= (size_t)s->rows);
        memcpy(s->mtp_logits + (size_t)s->mtp_rows * vocab, batch->mtp_logits, batch->mtp_rows * vocab * sizeof(float));
        s->mtp_rows += (int)batch->mtp_rows;
    }
    return true;
}

void driver_score(const fr_model *model, const fr_session_options *options, const int32_t *tokens, int count,
                  driver_scores *out) {
    fr_session_options o = *options;
    collector c = {.scores = out, .mtp = options->drafting != FR_DRAFTING_OFF};
    fr_error error;
    fr_model_get_info(model, &c.info);
    o.ctx = count;
    size_t rows = (size_t)count, vocab = (size_t)c.info.vocab_size;
    *out = (driver_scores){.rows = count};
    out->logits = calloc(rows * vocab, sizeof(float));
    out->hidden = calloc(rows * (size_t)c.info.hidden_size, sizeof(float));
    out->mtp_logits = c.mtp ? calloc(rows * vocab, sizeof(float)) : NULL;
    out->experts = calloc(rows * (size_t)(c.info.num_moe_layers * c.info.num_experts_per_tok) + 1, sizeof(int32_t));
    assert_true(out->logits && out->hidden && out->experts && (out->mtp_logits || !c.mtp));
    unsigned what = FR_SCORE_LOGITS | FR_SCORE_HIDDEN | FR_SCORE_EXPERTS | (c.mtp ? FR_SCORE_MTP_LOGITS : 0);
    fr_session *session = driver_session(model, &o);
    succeed(fr_session_score(session, tokens, rows, what, collect, &c, &error), &error, "score");
    assert_int_equal(c.next, count);
    if (c.mtp) assert_int_equal(out->mtp_rows, count - 1);
    fr_session_destroy(session);
}

void driver_scores_release(driver_scores *s) {
    free(s->logits);
    free(s->hidden);
    free(s->mtp_logits);
    free(s->experts);
    *s = (driver_scores){0};
}

void driver_prefill(fr_session *session, const int32_t *tokens, int count) {
    fr_error error;
    succeed(fr_session_prefill(session, tokens, (size_t)count, &error), &error, "prefill");
}

void driver_generate(fr_session *session, int count, int32_t *tokens, driver_step_fn fn, void *user) {
    size_t start = fr_session_length(session);
    fr_error error;
    for (int made = 0; made < count;) {
        fr_step step;
        succeed(fr_session_step(session, count - made, &step, &error), &error, "step");
        assert_true(step.count >= 1 && step.count <= count - made);
        assert_true(step.accepted >= 0 && step.accepted <= step.drafted && step.drafted <= FR_MAX_DEPTH);
        assert_true(step.count <= step.accepted + 1);
        memcpy(tokens + made, step.tokens, (size_t)step.count * sizeof *tokens);
        made += step.count;
        assert_int_equal(fr_session_length(session), start + (size_t)made);
        assert_memory_equal(fr_session_tokens(session) + start, tokens, (size_t)made * sizeof *tokens);
        if (fn) fn(user, session, &step);
    }
}

typedef struct layer_job {
    const fr_model *model;
    fr_workspace *ws;
    fr_kv_cache *kv;
    int layer, pos, rows;
} layer_job;

static void run_layer(void *argument) {
    const layer_job *j = argument;
    fr_layer_forward(j->model, &j->model->layers[j->layer], j->ws, j->kv, j->layer, j->pos, j->rows);
}

void driver_layer(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, int layer, int pos, int rows, int threads) {
    fr_team_run(threads, run_layer, &(layer_job){model, ws, kv, layer, pos, rows});
}
