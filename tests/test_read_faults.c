/* A file of a checkpoint that is cut while it is mapped, at any moment: an error that names it, of the call that needed it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "damage.h"
#include "forerun.h"
#include "forerun_checkpoint.h"
#include "forerun_study.h"

enum { PROMPT = 5, MADE = 24, CTX = 64 };
static const int32_t prompt[PROMPT] = {7, 30, 99, 210, 11};

#define GOLDEN FR_TEST_DIR "/golden/"
#define MODEL "pico-mtp-s1"
#define LAST "model.layers.2.mlp.experts.7.down_proj.weight" /* what is behind it is lost too */

static void succeed(fr_status status, const fr_error *error) {
    if (status != FR_OK) fail_msg("%s: %s", fr_status_name(status), error->message);
}

/* The test's own framework has handlers of its own, from the start of each test. */
static void catch_faults(void) {
    fr_error error;
    succeed(fr_catch_read_faults(&error), &error);
    succeed(fr_catch_read_faults(&error), &error);
}

static scratch copy_of(const char *golden) {
    catch_faults();
    scratch s = scratch_create();
    scratch_copy_from(&s, golden);
    return s;
}

static fr_model *open_model(const char *dir, int threads) {
    fr_error error;
    fr_model *model = NULL;
    succeed(fr_model_open(dir, &(fr_model_options){.threads = threads, .no_pin = true}, &model, &error), &error);
    return model;
}

static fr_session *new_session(const fr_model *model, fr_drafting drafting) {
    fr_error error;
    fr_session *session = NULL;
    fr_session_options o = {.ctx = CTX, .drafting = drafting, .depth = drafting == FR_DRAFTING_OFF ? 0 : 2, .ignore_eos = true};
    succeed(fr_session_create(model, &o, &session, &error), &error);
    return session;
}

static void prefill(fr_session *session) {
    fr_error error;
    succeed(fr_session_prefill(session, prompt, PROMPT, &error), &error);
}

/* Steps until there are `length` tokens. */
static void step_to(fr_session *session, size_t length) {
    fr_error error;
    fr_step step;
    while (fr_session_length(session) < length)
        succeed(fr_session_step(session, (int)(length - fr_session_length(session)), &step, &error), &error);
}

static void assert_lost(fr_status status, const fr_error *error) {
    if (status != FR_ERROR_IO) fail_msg("%s: %s", fr_status_name(status), status ? error->message : "no error");
    if (!strstr(error->where, ".safetensors: tensor model.layers.")) fail_msg("it names no file and tensor: %s", error->message);
    if (!strstr(error->message, "cannot be read at offset ")) fail_msg("it names no offset: %s", error->message);
}

static void assert_cut(fr_status status, const fr_error *error) {
    assert_lost(status, error);
    assert_non_null(strstr(error->message, " bytes now, and had "));
    assert_non_null(strstr(error->hint, "something cut it"));
}

/* ---- Sessions ---- */

/* The text that a session makes that nothing happens to. */
static void expected_text(int32_t text[MADE]) {
    fr_model *model = open_model(GOLDEN MODEL, 1);
    fr_session *session = new_session(model, FR_DRAFTING_OFF);
    prefill(session);
    step_to(session, MADE);
    memcpy(text, fr_session_tokens(session), MADE * sizeof *text);
    fr_session_destroy(session);
    fr_model_destroy(model);
}

/* Saves what a session had when its weights were lost, and goes on with it on a checkpoint that is whole. */
static void go_on_elsewhere(const fr_session *session, const int32_t text[MADE]) {
    fr_error error;
    scratch s = scratch_create();
    fr_model *model = open_model(GOLDEN MODEL, 1);
    fr_session *other = new_session(model, FR_DRAFTING_ON);
    const char *path = scratch_path(&s, "session");
    succeed(fr_session_save(session, path, &error), &error);
    succeed(fr_session_load(other, path, &error), &error);
    step_to(other, MADE);
    assert_memory_equal(fr_session_tokens(other), text, MADE * sizeof *text);
    fr_session_destroy(other);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_step_over_lost_weights_is_an_error_and_the_text_stays(void **state) {
    (void)state;
    int32_t text[MADE];
    expected_text(text);
    for (int way = 0; way < 6; way++) {
        static const int threads[] = {1, 2, 8};
        fr_error error;
        fr_step step;
        scratch s = copy_of(GOLDEN MODEL);
        fr_model *model = open_model(s.dir, threads[way % 3]);
        fr_session *session = new_session(model, FR_DRAFTING_AUTO);
        prefill(session);
        step_to(session, PROMPT + 6);
        cut_at(&s, way < 3 ? LAST : "model.layers.0.input_layernorm.weight");
        for (int again = 0; again < 3; again++) {
            assert_cut(fr_session_step(session, 4, &step, &error), &error);
            assert_int_equal(fr_session_length(session), PROMPT + 6);
            assert_memory_equal(fr_session_tokens(session), text, (PROMPT + 6) * sizeof *text);
        }
        assert_cut(fr_session_prefill(session, prompt, 2, &error), &error);
        succeed(fr_session_truncate(session, PROMPT + 6, &error), &error);
        go_on_elsewhere(session, text);
        fr_session_destroy(session);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
}

static void other_models_are_as_they_were(void **state) {
    (void)state;
    int32_t text[MADE];
    expected_text(text);
    fr_error error;
    fr_step step;
    scratch s = copy_of(GOLDEN MODEL);
    fr_model *whole = open_model(GOLDEN MODEL, 2), *model = open_model(s.dir, 2);
    fr_session *sound = new_session(whole, FR_DRAFTING_ON), *session = new_session(model, FR_DRAFTING_ON);
    prefill(sound);
    prefill(session);
    step_to(session, PROMPT + 1); /* of the prefill's logits: no weights are needed */
    cut_at(&s, LAST);
    assert_cut(fr_session_step(session, 4, &step, &error), &error);
    step_to(sound, MADE);
    assert_memory_equal(fr_session_tokens(sound), text, MADE * sizeof *text);
    fr_session_destroy(sound);
    fr_session_destroy(session);
    fr_model_destroy(model);
    model = open_model(GOLDEN MODEL, 2); /* the mapping's place may be taken again */
    session = new_session(model, FR_DRAFTING_OFF);
    prefill(session);
    step_to(session, MADE);
    fr_session_destroy(session);
    fr_model_destroy(model);
    fr_model_destroy(whole);
    scratch_destroy(&s);
}

/* ---- Whatever reads weights ---- */

typedef struct attack {
    const scratch *s;
    int after; /* calls */
} attack;

static bool cut_on_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    attack *a = user;
    (void)what, (void)done, (void)total;
    if (a->after-- == 0) cut_at(a->s, LAST);
    return true;
}

static void cut_when_planned(void *user, const fr_memory_plan *plan) {
    (void)plan;
    cut_on_progress(user, "", 0, 0);
}

static bool cut_on_batch(void *user, const fr_score_batch *batch) {
    (void)batch;
    return cut_on_progress(user, "", 0, 0);
}

static void opening_a_file_that_is_cut_is_an_error(void **state) {
    (void)state;
    static const fr_weights ways[] = {FR_WEIGHTS_COPY, FR_WEIGHTS_POPULATE};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        fr_error error;
        scratch s = copy_of(GOLDEN MODEL);
        attack a = {&s, 0};
        fr_model *model = NULL;
        fr_model_options o = {.threads = 2, .weights = ways[i], .planned = cut_when_planned, .user = &a, .no_pin = true};
        assert_lost(fr_model_open(s.dir, &o, &model, &error), &error);
        assert_null(model);
        scratch_destroy(&s);
    }
}

static void scoring_over_lost_weights_is_an_error(void **state) {
    (void)state;
    unsigned what = FR_SCORE_LOGITS | FR_SCORE_HIDDEN | FR_SCORE_MTP_LOGITS;
    fr_error error;
    scratch s = copy_of(GOLDEN MODEL);
    attack a = {&s, 0};
    fr_model *model = open_model(s.dir, 2);
    fr_session *session = NULL;
    fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON, .prefill_chunk = 2};
    succeed(fr_session_create(model, &o, &session, &error), &error);
    assert_cut(fr_session_score(session, prompt, PROMPT, what, cut_on_batch, &a, &error), &error);
    fr_session_destroy(session);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void converting_a_file_that_is_cut_leaves_nothing(void **state) {
    (void)state;
    for (int after = 0; after < 40; after += 13) {
        fr_error error;
        char to[512];
        scratch s = copy_of(GOLDEN MODEL);
        attack a = {&s, after};
        snprintf(to, sizeof to, "%s/to", s.dir);
        fr_quantize_options o = {.to = FR_PRECISION_BF16, .progress = cut_on_progress, .user = &a, .threads = 2};
        assert_cut(fr_quantize(s.dir, to, &o, NULL, &error), &error);
        assert_int_not_equal(access(to, F_OK), 0);
        scratch_destroy(&s);
    }
}

static void studies_over_lost_weights_end_in_an_error(void **state) {
    (void)state;
    for (int study = 0; study < 3; study++) {
        fr_error error;
        fr_status status;
        scratch s = copy_of(GOLDEN MODEL);
        attack a = {&s, 0};
        fr_model *model = open_model(s.dir, 2);
        fr_study_result *result = NULL;
        if (study < 2) {
            scratch_write_text(&s, "p.jsonl", "{\"tokens\": [5, 6, 7, 8]}\n{\"tokens\": [50, 60, 70, 80]}\n");
            fr_accept_options o = {.prompts = scratch_path(&s, "p.jsonl"),
                                   .max_tokens = 12,
                                   .progress = cut_on_progress,
                                   .user = &a,
                                   .teacher_forced = study == 1};
            status = fr_accept(model, &o, &result, &error);
        } else {
            fr_ab_options o = {.tokens = prompt,
                               .num_tokens = PROMPT,
                               .max_tokens = 12,
                               .ignore_eos = true,
                               .repeats = 1,
                               .progress = cut_on_progress,
                               .user = &a};
            status = fr_ab(model, &o, &result, &error);
        }
        assert_null(result);
        assert_cut(status, &error);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
}

/* ---- The handler ---- */

/* Reads beyond the end of a mapped file that is no checkpoint's. */
static void fault_elsewhere(void) {
    char path[] = "/tmp/forerun-test-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    volatile char *map = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) (void)map[0];
}

static void end_with_42(int number) {
    (void)number;
    _exit(42);
}

static void what_is_not_a_checkpoints_goes_to_the_handler_before(void **state) {
    (void)state;
    for (int way = 0; way < 2; way++) {
        int status = 0;
        pid_t child = fork(); /* a new program, without the handlers that this one has */
        assert_true(child >= 0);
        if (child == 0) {
            char *arguments[] = {"test_read_faults", way ? "handler" : "default", NULL};
            execv("/proc/self/exe", arguments);
            _exit(1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (way)
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        else
            assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS
                                            : WEXITSTATUS(status) != 0); /* or a sanitizer's report */
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_over_lost_weights_is_an_error_and_the_text_stays),
        cmocka_unit_test(other_models_are_as_they_were),
        cmocka_unit_test(opening_a_file_that_is_cut_is_an_error),
        cmocka_unit_test(scoring_over_lost_weights_is_an_error),
        cmocka_unit_test(converting_a_file_that_is_cut_leaves_nothing),
        cmocka_unit_test(studies_over_lost_weights_end_in_an_error),
        cmocka_unit_test(what_is_not_a_checkpoints_goes_to_the_handler_before),
    };
    if (argc == 2 && strcmp(argv[1], "handler") == 0) signal(SIGBUS, end_with_42);
    if (argc == 2) {
        catch_faults();
        fault_elsewhere();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
