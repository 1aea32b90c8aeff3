/* fr_session_prefill_from: what is kept of a session's text is kept, and what comes out is what a new session gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mtp/drafters/mtp.h"
#include "mtp/session.h"

enum { CTX = 128, VOCAB = 320, WANTED = 30, MADE = 20 };

static void succeed(fr_status status, const fr_error *error) {
    if (status != FR_OK) fail_msg("%s: %s", fr_status_name(status), error->message);
}

static fr_model *open_model(const char *name) {
    char dir[512];
    fr_error error;
    fr_model *model = NULL;
    snprintf(dir, sizeof dir, "%s/golden/%s", FR_TEST_DIR, name);
    succeed(fr_model_open(dir, &(fr_model_options){.threads = 1, .act = FR_ACT_NONE}, &model, &error), &error);
    return model;
}

static fr_session *new_session(const fr_model *model, const fr_session_options *options) {
    fr_error error;
    fr_session *session = NULL;
    succeed(fr_session_create(model, options, &session, &error), &error);
    return session;
}

static void make_text(int32_t *tokens, int count, uint32_t seed) {
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % VOCAB);
    }
}

static void generate(fr_session *session, int count) {
    fr_error error;
    fr_step step;
    for (int made = 0; made < count; made += step.count) succeed(fr_session_step(session, count - made, &step, &error), &error);
}

static void assert_same_kv(const fr_session *a, const fr_session *b) {
    assert_int_equal(a->kv.length, b->kv.length);
    size_t row = (size_t)(a->kv.rank + a->kv.rope) * (a->kv.type == FR_KV_F32 ? 4 : 2);
    for (int layer = 0; layer < a->kv.layers; layer++)
        assert_memory_equal(fr_kv_cache_row(&a->kv, layer, 0), fr_kv_cache_row(&b->kv, layer, 0), (size_t)a->kv.length * row);
}

/* What the session holds before: the first `shared` tokens that are wanted, then `more` others, then tokens of its own. */
static void fill(fr_session *session, const int32_t *wanted, int shared, int more, int made) {
    int32_t text[CTX];
    fr_error error;
    memcpy(text, wanted, (size_t)shared * sizeof *text);
    make_text(text + shared, more, 99);
    if (more > 0) text[shared] = (wanted[shared] + 1) % VOCAB; /* and not one shared by chance */
    if (shared + more > 0) succeed(fr_session_prefill(session, text, (size_t)(shared + more), &error), &error);
    if (made > 0) generate(session, made);
}

/* In passes of few rows a row's bits do not depend on the others: then everything is as in a new session. */
static void a_kept_prefix_gives_the_bits_of_a_new_session(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    int32_t wanted[WANTED];
    make_text(wanted, WANTED, 1);
    for (int variant = 0; variant < 8; variant++) {
        fr_session_options o = {.ctx = CTX, .prefill_chunk = 8, .kv = variant & 1 ? FR_KV_F32 : FR_KV_BF16};
        o.drafting = variant & 2 ? FR_DRAFTING_ON : FR_DRAFTING_OFF;
        o.depth = variant & 2 ? 3 : 0;
        if (variant & 4) o.sampling = (fr_sampling){.temperature = 0.8f, .presence_penalty = 0.5f, .seed = 4};
        fr_session *fresh = new_session(model, &o);
        fr_error error;
        succeed(fr_session_prefill(fresh, wanted, WANTED, &error), &error);
        float logits[VOCAB];
        memcpy(logits, fr_session_logits(fresh), sizeof logits);
        generate(fresh, MADE);
        for (int shared = 0; shared <= WANTED; shared += shared == 9 ? 20 : 3) {
            for (int shape = 0; shape < 4; shape++) {
                int more = shape & 1 && shared < WANTED ? 11 : 0, made = shape & 2 && shared + more > 0 ? 5 : 0;
                fr_session *session = new_session(model, &o);
                size_t reused = SIZE_MAX;
                fill(session, wanted, shared, more, made);
                /* Tokens that the session made itself may go on as is wanted. */
                int same = 0, length = session->length;
                while (same < length && same < WANTED && session->tokens[same] == wanted[same]) same++;
                int expected = same < length ? same - 1 : session->kv.length;
                succeed(fr_session_prefill_from(session, wanted, WANTED, &reused, &error), &error);
                assert_int_equal(reused, expected > 0 ? expected : 0);
                assert_int_equal(session->length, WANTED);
                assert_int_equal(session->generated, WANTED);
                assert_int_equal(session->kv.length, WANTED);
                assert_memory_equal(fr_session_logits(session), logits, sizeof logits);
                generate(session, MADE);
                assert_int_equal(session->length, fresh->length);
                assert_memory_equal(session->tokens, fresh->tokens, (size_t)fresh->length * sizeof *wanted);
                assert_same_kv(session, fresh);
                fr_session_destroy(session);
            }
        }
        fr_session_destroy(fresh);
    }
    fr_model_destroy(model);
}

/* In the default chunks what is kept may differ from a new session's in last bits, and no more. */
static void default_chunks_differ_in_last_bits_only(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    int32_t wanted[WANTED];
    make_text(wanted, WANTED, 1);
    fr_session_options o = {.ctx = CTX, .kv = FR_KV_F32, .drafting = FR_DRAFTING_ON, .depth = 2};
    fr_error error;
    fr_session *fresh = new_session(model, &o), *session = new_session(model, &o);
    succeed(fr_session_prefill(fresh, wanted, WANTED, &error), &error);
    fill(session, wanted, 14, 9, 12);
    size_t reused;
    succeed(fr_session_prefill_from(session, wanted, WANTED, &reused, &error), &error);
    assert_int_equal(reused, 13);
    double worst = 0, range = 0;
    for (int i = 0; i < VOCAB; i++) {
        worst = fmax(worst, fabs((double)fr_session_logits(session)[i] - (double)fr_session_logits(fresh)[i]));
        range = fmax(range, fabs((double)fr_session_logits(fresh)[i]));
    }
    if (!(worst < 1e-2 * range)) fail_msg("logits are %g off, of %g", worst, range);
    fr_session_destroy(fresh);
    fr_session_destroy(session);
    fr_model_destroy(model);
}

static void errors_leave_the_session_unchanged(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    int32_t wanted[CTX + 1];
    make_text(wanted, CTX + 1, 1);
    fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON};
    fr_session *session = new_session(model, &o), *other = new_session(model, &o);
    fr_error error;
    fill(session, wanted, 10, 5, 6);
    fill(other, wanted, 10, 5, 6);
    size_t reused;
    assert_int_equal(fr_session_prefill_from(session, wanted, 0, &reused, &error), FR_ERROR_ARGUMENT);
    assert_int_equal(fr_session_prefill_from(session, wanted, CTX + 1, &reused, &error), FR_ERROR_CONTEXT);
    wanted[20] = VOCAB;
    assert_int_equal(fr_session_prefill_from(session, wanted, 30, &reused, &error), FR_ERROR_ARGUMENT);
    wanted[20] = -1;
    assert_int_equal(fr_session_prefill_from(session, wanted, 30, NULL, NULL), FR_ERROR_ARGUMENT);
    assert_int_equal(session->length, other->length);
    assert_int_equal(fr_mtp_drafter_of(session->drafter)->kv.length, fr_mtp_drafter_of(other->drafter)->kv.length);
    assert_same_kv(session, other);
    generate(session, 5);
    generate(other, 5);
    assert_memory_equal(session->tokens, other->tokens, (size_t)other->length * sizeof *wanted);
    wanted[20] = 1;
    succeed(fr_session_prefill_from(session, wanted, CTX, &reused, &error), &error); /* just fits */
    fr_session_destroy(session);
    fr_session_destroy(other);
    fr_model_destroy(model);
}

static bool stop(void *user, const char *what, uint64_t done, uint64_t total) {
    int *calls = user;
    return what && done <= total && --*calls > 0;
}

/* Interrupted, the session holds what was evaluated, and a second call does the rest. */
static void an_interrupted_prefill_goes_on_with_a_second_call(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    int32_t wanted[WANTED];
    make_text(wanted, WANTED, 1);
    int calls = 100;
    fr_session_options o = {
        .ctx = CTX, .prefill_chunk = 8, .drafting = FR_DRAFTING_ON, .depth = 2, .progress = stop, .user = &calls};
    fr_session *session = new_session(model, &o), *fresh = new_session(model, &o);
    fr_error error;
    succeed(fr_session_prefill(fresh, wanted, WANTED, &error), &error);
    fill(session, wanted, 5, 9, 0);
    calls = 2;
    size_t reused;
    assert_int_equal(fr_session_prefill_from(session, wanted, WANTED, &reused, &error), FR_INTERRUPTED);
    assert_int_equal(reused, 4);
    assert_int_equal(session->length, 20); /* two chunks */
    assert_memory_equal(session->tokens, wanted, 20 * sizeof *wanted);
    calls = 100;
    succeed(fr_session_prefill_from(session, wanted, WANTED, &reused, &error), &error);
    assert_int_equal(reused, 19);
    assert_memory_equal(fr_session_logits(session), fr_session_logits(fresh), VOCAB * sizeof(float));
    assert_same_kv(session, fresh);
    /* Nothing to do. */
    succeed(fr_session_prefill_from(session, wanted, WANTED, &reused, &error), &error);
    assert_int_equal(reused, WANTED);
    assert_memory_equal(fr_session_logits(session), fr_session_logits(fresh), VOCAB * sizeof(float));
    fr_session_destroy(session);
    fr_session_destroy(fresh);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_prefix_gives_the_bits_of_a_new_session),
        cmocka_unit_test(default_chunks_differ_in_last_bits_only),
        cmocka_unit_test(errors_leave_the_session_unchanged),
        cmocka_unit_test(an_interrupted_prefill_goes_on_with_a_second_call),
    };
    return cmocka_run_group_tests_name("prefill_from", tests, NULL, NULL);
}
