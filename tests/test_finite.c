/* Values that are not finite, of damaged weights: an error and never a token; with check_finite, the first place where they are.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "damage.h"
#include "forerun.h"

#define GOLDEN FR_TEST_DIR "/golden/pico-mtp-s1"
enum { PROMPT = 5, CTX = 64 };
static const int32_t prompt[PROMPT] = {7, 30, 99, 210, 11};

static void succeed(fr_status status, const fr_error *error) {
    if (status != FR_OK) fail_msg("%s: %s", fr_status_name(status), error->message);
}

static fr_session *new_session(fr_model *model, fr_session_options o) {
    fr_error error;
    fr_session *session = NULL;
    o.ctx = CTX;
    o.ignore_eos = true;
    succeed(fr_session_create(model, &o, &session, &error), &error);
    return session;
}

static fr_model *open_model(const char *dir) {
    fr_error error;
    fr_model *model = NULL;
    succeed(fr_model_open(dir, &(fr_model_options){.threads = 2, .no_pin = true}, &model, &error), &error);
    return model;
}

/* Every scale of a matrix becomes `value`, in a copy of the checkpoint. */
static scratch with_scales(const char *tensor, size_t count, float value) {
    scratch s = scratch_create();
    scratch_copy_from(&s, GOLDEN);
    for (size_t i = 0; i < count; i++) damage(&s, tensor, i * sizeof value, &value, sizeof value);
    return s;
}

typedef struct place {
    const char *tensor, *where;
    int scales;  /* to spoil */
    bool drafts; /* it is the MTP module's, which text does not depend on */
} place;

static const place places[] = {
    {"model.layers.0.self_attn.o_proj.weight_scale_inv", "layer 0, attention", 1, false},
    {"model.layers.0.mlp.down_proj.weight_scale_inv", "layer 0, MLP", 1, false},
    {"model.layers.1.self_attn.kv_a_proj_with_mqa.weight_scale_inv", "layer 1, attention", 1, false},
    {"model.layers.1.mlp.shared_experts.up_proj.weight_scale_inv", "layer 1, MLP", 1, false},
    {"model.layers.2.self_attn.q_b_proj.weight_scale_inv", "layer 2, attention", 1, false},
    {"model.layers.3.self_attn.o_proj.weight_scale_inv", "MTP module, layer 3, attention", 1, true},
    {"model.layers.3.mlp.shared_experts.down_proj.weight_scale_inv", "MTP module, layer 3, MLP", 1, true},
};
enum { PLACES = sizeof places / sizeof *places };

/* Prefills and steps until something fails; FR_OK after some tokens. */
static fr_status run(fr_session *session, fr_error *error) {
    fr_step step;
    FR_TRY(fr_session_prefill(session, prompt, PROMPT, error));
    for (int i = 0; i < 6; i++) FR_TRY(fr_session_step(session, 4, &step, error));
    return FR_OK;
}

static void the_first_layer_and_part_are_named(void **state) {
    (void)state;
    const float values[] = {INFINITY, NAN, 3e38f};
    for (int i = 0; i < PLACES * 3; i++) {
        const place *p = &places[i / 3];
        fr_error error = {0};
        scratch s = with_scales(p->tensor, (size_t)p->scales, values[i % 3]);
        fr_model *model = open_model(s.dir);
        fr_session *session = new_session(model, (fr_session_options){.drafting = FR_DRAFTING_ON, .check_finite = true});
        fr_status status = run(session, &error);
        if (status != FR_ERROR_FORMAT || strcmp(error.where, p->where) != 0)
            fail_msg("%s of %g: %s, expected %s", p->tensor, (double)values[i % 3], status ? error.message : "no error",
                     p->where);
        assert_non_null(strstr(error.message, "not finite, first at position "));
        assert_true(strlen(error.hint) > 0);
        fr_session_destroy(session);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
}

static void a_row_of_the_embedding_is_named(void **state) {
    (void)state;
    fr_error error;
    const uint16_t nan = 0x7fc0;
    scratch s = scratch_create();
    scratch_copy_from(&s, GOLDEN);
    damage(&s, "model.embed_tokens.weight", 99 * 160 * 2, &nan, 2); /* the third token of the prompt */
    fr_model *model = open_model(s.dir);
    fr_session *session = new_session(model, (fr_session_options){.drafting = FR_DRAFTING_OFF, .check_finite = true});
    assert_int_equal(fr_session_prefill(session, prompt, PROMPT, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "embedding: values are not finite, first at position 2");
    assert_int_equal(fr_session_length(session), 0);
    fr_session_destroy(session);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void no_token_comes_of_logits_that_are_not_finite(void **state) {
    (void)state;
    for (int i = 0; i < PLACES * 4; i++) {
        const place *p = &places[i / 4];
        if (p->drafts) continue;
        fr_error error = {0};
        scratch s = with_scales(p->tensor, (size_t)p->scales, i & 1 ? NAN : INFINITY);
        fr_model *model = open_model(s.dir);
        fr_session_options o = {.drafting = FR_DRAFTING_ON, .sampling.temperature = i & 2 ? 0.8f : 0.0f};
        fr_session *session = new_session(model, o);
        assert_int_equal(run(session, &error), FR_ERROR_FORMAT);
        assert_int_equal(fr_session_length(session), PROMPT);
        assert_non_null(strstr(error.message, "logits are not finite"));
        assert_non_null(strstr(error.hint, "--check-finite"));
        fr_session_destroy(session);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
}

/* One row of the LM head makes one logit so; which one does not matter, nor whether a choice would take it. */
static void one_logit_is_enough(void **state) {
    (void)state;
    const uint16_t values[] = {0x7f80, 0xff80, 0x7fc0}; /* infinity, -infinity, NaN */
    const int tokens[] = {0, 1, 163, 319};
    for (int i = 0; i < 4 * 3 * 3; i++) {
        fr_error error = {0};
        char text[80];
        int token = tokens[i % 4];
        scratch s = scratch_create();
        scratch_copy_from(&s, GOLDEN);
        damage(&s, "lm_head.weight", (size_t)token * 160 * 2, &values[i / 4 % 3], 2);
        fr_model *model = open_model(s.dir);
        fr_session_options o = {.drafting = FR_DRAFTING_ON, .check_finite = i % 2 == 1};
        o.sampling.temperature = i / 12 ? 0.8f : 0.0f;
        o.sampling.top_k = i / 12 == 2 ? 1 : 0;
        fr_session *session = new_session(model, o);
        assert_int_equal(run(session, &error), FR_ERROR_FORMAT);
        snprintf(text, sizeof text, "1 of 320 logits are not finite, the first is of token %d: weights of the LM head", token);
        if (!strstr(error.message, text)) fail_msg("%s", error.message);
        fr_session_destroy(session);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
}

/* The module's own values do no harm to the text where nobody looks for them. */
static void drafts_that_are_not_finite_change_no_text(void **state) {
    (void)state;
    fr_error error;
    fr_model *whole = open_model(GOLDEN);
    fr_session *sound = new_session(whole, (fr_session_options){.drafting = FR_DRAFTING_OFF});
    succeed(run(sound, &error), &error);
    for (int i = 0; i < PLACES; i++) {
        if (!places[i].drafts) continue;
        scratch s = with_scales(places[i].tensor, 1, NAN);
        fr_model *model = open_model(s.dir);
        fr_session *session = new_session(model, (fr_session_options){.drafting = FR_DRAFTING_ON, .depth = 3});
        succeed(run(session, &error), &error);
        size_t count =
            fr_session_length(sound) < fr_session_length(session) ? fr_session_length(sound) : fr_session_length(session);
        assert_true(count > PROMPT + 1);
        assert_memory_equal(fr_session_tokens(session), fr_session_tokens(sound), count * sizeof(int32_t));
        fr_session_destroy(session);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
    fr_session_destroy(sound);
    fr_model_destroy(whole);
}

static bool take_batch(void *user, const fr_score_batch *batch) {
    *(size_t *)user += batch->rows;
    return true;
}

static void scoring_gives_out_no_row_that_is_not_finite(void **state) {
    (void)state;
    fr_error error;
    size_t rows = 0;
    scratch s = with_scales(places[4].tensor, 1, NAN);
    fr_model *model = open_model(s.dir);
    for (int check = 0; check < 2; check++) {
        fr_session *session = new_session(model, (fr_session_options){.drafting = FR_DRAFTING_OFF, .check_finite = check});
        assert_int_equal(fr_session_score(session, prompt, PROMPT, FR_SCORE_LOGITS, take_batch, &rows, &error), FR_ERROR_FORMAT);
        assert_int_equal(rows, 0);
        assert_string_equal(error.where, check ? places[4].where : "position 1");
        fr_session_destroy(session);
    }
    fr_model_destroy(model);
    scratch_destroy(&s);
}

/* It looks, and changes nothing. */
static void looking_changes_no_bit(void **state) {
    (void)state;
    fr_error error;
    fr_model *model = open_model(GOLDEN);
    fr_session *sessions[2];
    for (int i = 0; i < 2; i++) {
        sessions[i] = new_session(model, (fr_session_options){.drafting = FR_DRAFTING_ON, .check_finite = i == 1});
        succeed(run(sessions[i], &error), &error);
    }
    size_t length = fr_session_length(sessions[0]);
    assert_int_equal(fr_session_length(sessions[1]), length);
    assert_memory_equal(fr_session_tokens(sessions[0]), fr_session_tokens(sessions[1]), length * sizeof(int32_t));
    assert_memory_equal(fr_session_logits(sessions[0]), fr_session_logits(sessions[1]), 320 * sizeof(float));
    for (int i = 0; i < 2; i++) fr_session_destroy(sessions[i]);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_layer_and_part_are_named),
        cmocka_unit_test(a_row_of_the_embedding_is_named),
        cmocka_unit_test(no_token_comes_of_logits_that_are_not_finite),
        cmocka_unit_test(one_logit_is_enough),
        cmocka_unit_test(drafts_that_are_not_finite_change_no_text),
        cmocka_unit_test(scoring_gives_out_no_row_that_is_not_finite),
        cmocka_unit_test(looking_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
