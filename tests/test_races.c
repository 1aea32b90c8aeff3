/* Threads: of a team, however many they are and however few processors there are; and of callers, who share models, files and the
 * process. Run with ThreadSanitizer too. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "damage.h"
#include "forerun.h"
#include "forerun_checkpoint.h"

#define GOLDEN FR_TEST_DIR "/golden/pico-mtp-s1"
enum { PROMPT = 5, LENGTH = 24, CTX = 48, VOCAB = 320, CALLERS = 4, ROUNDS = 3 };
static const int32_t prompt[PROMPT] = {7, 30, 99, 210, 11};

/* A text and the logits that its last token was chosen from. */
typedef struct made {
    int32_t tokens[LENGTH];
    float logits[VOCAB];
    fr_status status;
    fr_error error;
} made;

static const fr_session_options sampled = {
    .ctx = CTX, .drafting = FR_DRAFTING_ON, .depth = 2, .ignore_eos = true, .sampling = {.temperature = 0.8f, .seed = 3}};

static fr_status make(const fr_model *model, made *out) {
    fr_session *session = NULL;
    fr_step step;
    fr_status status = fr_session_create(model, &sampled, &session, &out->error);
    if (status == FR_OK) status = fr_session_prefill(session, prompt, PROMPT, &out->error);
    while (status == FR_OK && fr_session_length(session) < LENGTH)
        status = fr_session_step(session, (int)(LENGTH - fr_session_length(session)), &step, &out->error);
    if (status == FR_OK) {
        memcpy(out->tokens, fr_session_tokens(session), sizeof out->tokens);
        memcpy(out->logits, fr_session_logits(session), sizeof out->logits);
    }
    fr_session_destroy(session);
    return out->status = status;
}

static fr_status open_at(const char *dir, int threads, fr_model **out, fr_error *error) {
    return fr_model_open(dir, &(fr_model_options){.threads = threads, .no_pin = true}, out, error);
}

static fr_model *open_model(int threads) {
    fr_error error;
    fr_model *model = NULL;
    if (open_at(GOLDEN, threads, &model, &error) != FR_OK) fail_msg("%s", error.message);
    return model;
}

static made make_with(int threads) {
    made out = {.status = FR_OK};
    fr_model *model = open_model(threads);
    if (make(model, &out) != FR_OK) fail_msg("%s", out.error.message);
    fr_model_destroy(model);
    return out;
}

static void assert_same(const made *a, const made *b) {
    if (b->status != FR_OK) fail_msg("%s", b->error.message);
    assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    made one = make_with(1);
    for (int threads = 2; threads <= 16; threads++) { /* more than this machine may have */
        made many = make_with(threads);
        assert_same(&one, &many);
    }
}

typedef struct caller {
    pthread_t thread;
    const fr_model *model;
    const char *dir, *path;
    int rank;
    made made;
    bool well;
} caller;

static void run_callers(caller *callers, int count, void *(*work)(void *)) {
    for (int i = 0; i < count; i++) assert_int_equal(pthread_create(&callers[i].thread, NULL, work, &callers[i]), 0);
    for (int i = 0; i < count; i++) assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
}

static void *make_here(void *argument) {
    caller *c = argument;
    make(c->model, &c->made);
    return NULL;
}

static void sessions_of_a_model_in_several_threads_give_the_bits_of_one(void **state) {
    (void)state;
    made alone = make_with(1);
    for (int threads = 1; threads <= 8; threads *= 2) {
        fr_model *model = open_model(threads);
        caller callers[2] = {{.model = model}, {.model = model}};
        run_callers(callers, 2, make_here);
        for (int i = 0; i < 2; i++) assert_same(&alone, &callers[i].made);
        fr_model_destroy(model);
    }
}

static void no_problem(void *user, const fr_problem *problem) {
    (void)problem;
    *(bool *)user = false;
}

/* Whatever there is to open, one after the other; each caller begins with another. */
static void *open_and_close(void *argument) {
    caller *c = argument;
    c->well = true;
    for (int i = 0; i < ROUNDS * 3; i++) {
        fr_model *model = NULL;
        fr_inspection *inspection = NULL;
        fr_error error;
        if ((i + c->rank) % 3 == 0) {
            c->well &= open_at(GOLDEN, 2, &model, &error) == FR_OK && make(model, &c->made) == FR_OK;
            fr_model_destroy(model);
        } else if ((i + c->rank) % 3 == 1) {
            c->well &= fr_inspect(GOLDEN, &inspection, &error) == FR_OK;
            fr_inspection_destroy(inspection);
            c->well &= fr_check(GOLDEN, 2, no_problem, NULL, &c->well, NULL, NULL, NULL, &error) == FR_OK;
        } else {
            int32_t *tokens = NULL;
            size_t count;
            c->well &= fr_catch_read_faults(NULL) == FR_OK && fr_model_open_tokenizer(GOLDEN, NULL, &model, &error) == FR_OK;
            c->well &= model && fr_tokenize(model, "abc", 3, true, &tokens, &count, &error) == FR_OK;
            fr_free(tokens);
            fr_model_destroy(model);
        }
    }
    return NULL;
}

static void everything_is_opened_and_closed_in_several_threads(void **state) {
    (void)state;
    made alone = make_with(1);
    caller callers[CALLERS];
    memset(callers, 0, sizeof callers);
    for (int i = 0; i < CALLERS; i++) callers[i].rank = i;
    run_callers(callers, CALLERS, open_and_close);
    for (int i = 0; i < CALLERS; i++) {
        assert_true(callers[i].well);
        assert_same(&alone, &callers[i].made);
    }
}

static void *save_here(void *argument) {
    caller *c = argument;
    fr_session *session = NULL;
    fr_error error;
    c->well = fr_session_create(c->model, &sampled, &session, &error) == FR_OK &&
              fr_session_prefill(session, prompt, PROMPT, &error) == FR_OK;
    for (int i = 0; i < ROUNDS * 4 && c->well; i++) c->well = fr_session_save(session, c->path, &error) == FR_OK;
    fr_session_destroy(session);
    return NULL;
}

/* Each writes a file of its own, and the last to finish has it. */
static void a_file_that_several_save_is_always_whole(void **state) {
    (void)state;
    fr_error error;
    scratch s = scratch_create();
    char path[512], name[300];
    fr_model *model = open_model(1);
    fr_session *session = NULL;
    snprintf(path, sizeof path, "%s/session", s.dir);
    caller callers[CALLERS];
    memset(callers, 0, sizeof callers);
    for (int i = 0; i < CALLERS; i++) callers[i].model = model, callers[i].path = path;
    run_callers(callers, CALLERS, save_here);
    for (int i = 0; i < CALLERS; i++) assert_true(callers[i].well);
    assert_int_equal(fr_session_create(model, &sampled, &session, &error), FR_OK);
    assert_int_equal(fr_session_load(session, path, &error), FR_OK);
    assert_int_equal(fr_session_length(session), PROMPT);
    for (int i = 0; i < CALLERS; i++) {
        snprintf(name, sizeof name, i ? ".session.partial%d" : ".session.partial", i);
        assert_int_not_equal(access(scratch_path(&s, name), F_OK), 0);
    }
    fr_session_destroy(session);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void weights_that_are_lost_are_lost_to_all_threads(void **state) {
    (void)state;
    fr_error error;
    scratch s = scratch_create();
    scratch_copy_from(&s, GOLDEN);
    fr_model *model = NULL;
    assert_int_equal(fr_catch_read_faults(&error), FR_OK);
    assert_int_equal(open_at(s.dir, 4, &model, &error), FR_OK);
    cut_at(&s, "model.layers.0.input_layernorm.weight");
    caller callers[2] = {{.model = model}, {.model = model}};
    run_callers(callers, 2, make_here);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(callers[i].made.status, FR_ERROR_IO);
        assert_non_null(strstr(callers[i].made.error.message, "cannot be read at offset"));
    }
    fr_model_destroy(model);
    scratch_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(sessions_of_a_model_in_several_threads_give_the_bits_of_one),
        cmocka_unit_test(everything_is_opened_and_closed_in_several_threads),
        cmocka_unit_test(a_file_that_several_save_is_always_whole),
        cmocka_unit_test(weights_that_are_lost_are_lost_to_all_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
