/* What the public headers say of all their functions: NULL where it is allowed, who keeps what, errors that change nothing,
 * sessions of one model in several threads at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "forerun_checkpoint.h"
#include "forerun_study.h"
#include "goldens.h"
#include "scratch.h"

enum { PROMPT = 11, MADE = 40, CTX = PROMPT + MADE };

static const int32_t prompt[PROMPT] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};

static void destroy_takes_null(void **state) {
    (void)state;
    fr_model_destroy(NULL);
    fr_session_destroy(NULL);
    fr_text_stream_destroy(NULL);
    fr_inspection_destroy(NULL);
    fr_bench_result_destroy(NULL);
    fr_study_destroy(NULL);
    fr_free(NULL);
}

static void info_has_all_ids_that_end_a_text(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_model *model;
    fr_model_info info;
    fr_error error;
    scratch_copy_from(&s, FR_TEST_DIR "/golden/pico-s1");
    scratch_write_text(&s, "generation_config.json", "{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}");
    if (fr_model_open(s.dir, NULL, &model, &error) != FR_OK) fail_msg("%s", error.message);
    fr_model_get_info(model, &info);
    assert_int_equal(info.num_eos_token_ids, 12);
    for (int i = 0; i < 12; i++) assert_int_equal(info.eos_token_ids[i], i + 1);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

/* Every function that can fail, made to fail by somebody who asks for no reason. */
static void nobody_needs_to_take_an_error(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1), *none = NULL;
    fr_session *session = driver_session(model, &(fr_session_options){.ctx = CTX}), *no_session = NULL;
    fr_inspection *inspection = NULL;
    fr_study_result *study = NULL;
    fr_bench_result *bench = NULL;
    fr_session_options beyond = {.ctx = 1 << 30};
    fr_memory_plan plan;
    fr_step step;
    char *text = NULL;
    size_t count;
    uint64_t problems;
    assert_int_not_equal(fr_model_open("none", NULL, &none, NULL), FR_OK);
    assert_int_not_equal(fr_model_open_tokenizer("none", NULL, &none, NULL), FR_OK);
    assert_int_not_equal(fr_detokenize(model, (const int32_t[]){-1}, 1, false, &text, &count, NULL), FR_OK);
    assert_int_not_equal(fr_render_chat(model, &(fr_chat_turn){FR_CHAT_USER, "a"}, 1, NULL, &text, NULL), FR_OK);
    assert_int_not_equal(fr_session_create(model, &beyond, &no_session, NULL), FR_OK);
    assert_int_not_equal(fr_session_prefill(session, prompt, 0, NULL), FR_OK);
    assert_int_not_equal(fr_session_prefill_from(session, prompt, 0, &count, NULL), FR_OK);
    assert_int_not_equal(fr_session_step(session, 1, &step, NULL), FR_OK);
    assert_int_not_equal(fr_session_truncate(session, 1, NULL), FR_OK);
    assert_int_not_equal(fr_session_save(session, "/none/file", NULL), FR_OK);
    assert_int_not_equal(fr_session_load(session, "/none/file", NULL), FR_OK);
    assert_int_not_equal(fr_session_score(session, prompt, 0, FR_SCORE_LOGITS, NULL, NULL, NULL), FR_OK);
    assert_int_not_equal(fr_find_checkpoint("none", true, &text, NULL), FR_OK);
    assert_null(text);
    assert_int_not_equal(fr_inspect("none", &inspection, NULL), FR_OK);
    assert_int_not_equal(fr_check("none", 0, NULL, NULL, NULL, NULL, NULL, &problems, NULL), FR_OK);
    assert_int_not_equal(fr_synth("none", "/none/dir", NULL, NULL, NULL), FR_OK);
    assert_int_not_equal(fr_quantize("none", "/none/dir", NULL, NULL, NULL), FR_OK);
    assert_int_not_equal(fr_bench(model, &(fr_bench_options){.ctx = -1}, &bench, NULL), FR_OK);
    assert_int_not_equal(fr_accept(model, &(fr_accept_options){.prompts = "none"}, &study, NULL), FR_OK);
    assert_int_not_equal(fr_ab(model, &(fr_ab_options){.prompts = "none"}, &study, NULL), FR_OK);
    assert_int_not_equal(fr_ab_compare("", "", &study, NULL), FR_OK);
    assert_int_not_equal(fr_study_html("", &text, NULL), FR_OK);
    assert_int_not_equal(fr_study_csv("", &text, NULL), FR_OK);
    assert_int_equal(fr_inspect(FR_TEST_DIR "/golden/deepseek-v3-config.json", &inspection, NULL), FR_OK);
    assert_int_not_equal(fr_plan_memory(inspection, NULL, &beyond, &plan, NULL), FR_OK);
    fr_inspection_destroy(inspection);
    fr_session_destroy(session);
    fr_model_destroy(model);
}

static void a_prefill_that_is_refused_changes_nothing(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON, .depth = 3};
    fr_session *tried = driver_session(model, &o), *plain = driver_session(model, &o);
    int32_t made[2][MADE], wrong[CTX] = {0};
    driver_prefill(tried, prompt, PROMPT);
    driver_prefill(plain, prompt, PROMPT);
    wrong[4] = 320;
    assert_int_equal(fr_session_prefill(tried, NULL, 0, NULL), FR_ERROR_ARGUMENT);
    assert_int_equal(fr_session_prefill(tried, wrong, 5, NULL), FR_ERROR_ARGUMENT);
    wrong[4] = -1;
    assert_int_equal(fr_session_prefill(tried, wrong, 5, NULL), FR_ERROR_ARGUMENT);
    wrong[4] = 0;
    assert_int_equal(fr_session_prefill(tried, wrong, MADE + 1, NULL), FR_ERROR_CONTEXT);
    assert_int_equal(fr_session_truncate(tried, PROMPT + 1, NULL), FR_ERROR_ARGUMENT);
    assert_int_equal(fr_session_length(tried), PROMPT);
    assert_memory_equal(fr_session_logits(tried), fr_session_logits(plain), 320 * sizeof(float));
    driver_generate(tried, MADE, made[0], NULL, NULL);
    driver_generate(plain, MADE, made[1], NULL, NULL);
    assert_memory_equal(made[0], made[1], sizeof made[0]);
    fr_session_destroy(tried);
    fr_session_destroy(plain);
    fr_model_destroy(model);
}

/* As forerun.h says of fr_session_logits. */
static void logits_are_there_when_the_header_says(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    fr_session *session = driver_session(model, &(fr_session_options){.ctx = CTX});
    fr_step step;
    float after_prefill[320];
    assert_null(fr_session_logits(session)); /* empty */
    driver_prefill(session, prompt, PROMPT);
    memcpy(after_prefill, fr_session_logits(session), sizeof after_prefill);
    assert_int_equal(fr_session_truncate(session, PROMPT, NULL), FR_OK); /* nothing was cut */
    assert_memory_equal(fr_session_logits(session), after_prefill, sizeof after_prefill);
    assert_int_equal(fr_session_step(session, 1, &step, NULL), FR_OK);
    assert_memory_equal(fr_session_logits(session), after_prefill, sizeof after_prefill); /* its token was chosen from them */
    assert_int_equal(fr_session_step(session, 1, &step, NULL), FR_OK);
    assert_memory_not_equal(fr_session_logits(session), after_prefill, sizeof after_prefill);
    assert_int_equal(fr_session_truncate(session, PROMPT, NULL), FR_OK);
    assert_null(fr_session_logits(session));
    assert_int_equal(fr_session_step(session, 1, &step, NULL), FR_OK);
    assert_non_null(fr_session_logits(session));
    fr_session_destroy(session);
    fr_model_destroy(model);
}

static void a_session_keeps_copies_of_what_its_options_point_to(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    fr_logit_bias biases[] = {{70, 80.0f}};
    fr_session_options *o = &(fr_session_options){.ctx = CTX, .sampling = {.logit_bias = biases, .num_logit_bias = 1}};
    fr_session *session = driver_session(model, o);
    int32_t made[MADE];
    biases[0] = (fr_logit_bias){71, 80.0f};
    memset(o, 0xff, sizeof *o);
    driver_prefill(session, prompt, PROMPT);
    driver_generate(session, MADE, made, NULL, NULL);
    for (int i = 0; i < MADE; i++) assert_int_equal(made[i], 70);
    fr_session_destroy(session);
    fr_model_destroy(model);
}

/* ---- Several threads --------------------------------------------------------------------------------------------------- */

enum { USERS = 4, ROUNDS = 3 };

typedef struct user {
    const fr_model *model;
    fr_session_options options;
    int32_t made[ROUNDS][MADE];
    float logits[320];
} user;

static void *use(void *argument) {
    user *u = argument;
    fr_session *session = driver_session(u->model, &u->options);
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(fr_session_truncate(session, 0, NULL), FR_OK);
        driver_prefill(session, prompt + i, PROMPT - i);
        driver_generate(session, MADE, u->made[i], NULL, NULL);
    }
    memcpy(u->logits, fr_session_logits(session), sizeof u->logits);
    fr_session_destroy(session);
    return NULL;
}

static void sessions_of_a_model_run_at_the_same_time(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 2);
    static user alone[USERS], together[USERS];
    pthread_t threads[USERS];
    for (int i = 0; i < USERS; i++) {
        alone[i] = (user){.model = model,
                          .options = {.ctx = CTX,
                                      .drafting = i % 2 ? FR_DRAFTING_ON : FR_DRAFTING_OFF,
                                      .depth = i % 2 ? 2 + i : 0,
                                      .sampling = {.temperature = i / 2 ? 0.8f : 0.0f, .seed = 9}}};
        together[i] = alone[i];
        use(&alone[i]);
    }
    for (int i = 0; i < USERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, use, &together[i]), 0);
    for (int i = 0; i < USERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < USERS; i++) {
        assert_memory_equal(together[i].made, alone[i].made, sizeof alone[i].made);
        assert_memory_equal(together[i].logits, alone[i].logits, sizeof alone[i].logits);
    }
    assert_memory_equal(alone[0].made, alone[1].made, sizeof alone[0].made); /* drafting on and off */
    assert_memory_not_equal(alone[0].made, alone[2].made, sizeof alone[0].made);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destroy_takes_null),
        cmocka_unit_test(info_has_all_ids_that_end_a_text),
        cmocka_unit_test(nobody_needs_to_take_an_error),
        cmocka_unit_test(a_prefill_that_is_refused_changes_nothing),
        cmocka_unit_test(logits_are_there_when_the_header_says),
        cmocka_unit_test(a_session_keeps_copies_of_what_its_options_point_to),
        cmocka_unit_test(sessions_of_a_model_run_at_the_same_time),
    };
    return cmocka_run_group_tests_name("face", tests, NULL, NULL);
}
