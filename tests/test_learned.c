/* What auto has learned, from one session to the next: kept, found again, and left alone where it does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "driver.h"
#include "goldens.h"
#include "mtp/session.h"
#include "scratch.h"

enum { PROMPT = 8, TOKENS = 48 };
static const int32_t prompt[PROMPT] = {5, 17, 3, 200, 41, 8, 99, 12};

/* A session that made a text with everything drafted, so that there is something to keep. */
static fr_session *taught(const fr_model *model, const char *folder, fr_kv kv) {
    int32_t made[TOKENS];
    fr_session *s = driver_session(model, &(fr_session_options){.ctx = 128, .learned = folder, .kv = kv});
    driver_prefill(s, prompt, PROMPT);
    driver_generate(s, TOKENS, made, NULL, NULL);
    s->policy.drafting_cycles += 8; /* however few were worth their time on this machine */
    return s;
}

static int files_in(const char *folder, char *path, size_t size) {
    int count = 0;
    DIR *dir = opendir(folder);
    if (!dir) return 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            count++;
            if (path) snprintf(path, size, "%s/%s", folder, entry->d_name);
        }
    closedir(dir);
    return count;
}

static bool begins_with_it(const fr_model *model, const char *folder) {
    fr_session *s = driver_session(model, &(fr_session_options){.ctx = 128, .learned = folder});
    bool recalled = s->policy.recalled;
    fr_session_destroy(s);
    return recalled;
}

static void a_session_begins_with_what_the_one_before_it_learned(void **state) {
    (void)state;
    scratch dir = scratch_create();
    char folder[512], path[1024];
    snprintf(folder, sizeof folder, "%s/cache/forerun", dir.dir);
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    assert_false(begins_with_it(model, folder));
    assert_int_equal(files_in(folder, NULL, 0), 0); /* reading makes nothing */
    fr_session *s = taught(model, folder, FR_KV_BF16);
    assert_int_equal(fr_session_keep_learned(s, NULL), FR_OK);
    assert_int_equal(files_in(folder, path, sizeof path), 1); /* and no temporary one */
    assert_true(begins_with_it(model, folder));
    assert_false(begins_with_it(model, NULL));
    fr_session *next = driver_session(model, &(fr_session_options){.ctx = 128, .learned = folder});
    for (int r = 2; r <= 4; r++)
        assert_true(fabs(fr_costs_pass(&next->policy.costs, r) - fr_costs_pass(&s->policy.costs, r)) < 1e-6);
    assert_true(fabs(next->policy.mean[0] - s->policy.mean[0]) < 1e-6);
    fr_session_destroy(next);
    fr_session_destroy(s);
    /* Another setting is another file; a fixed depth and a session without drafts keep nothing. */
    s = taught(model, folder, FR_KV_F32);
    assert_false(s->policy.recalled);
    assert_int_equal(fr_session_keep_learned(s, NULL), FR_OK);
    assert_int_equal(files_in(folder, NULL, 0), 2);
    fr_session_destroy(s);
    s = driver_session(model, &(fr_session_options){.ctx = 128, .learned = folder, .drafting = FR_DRAFTING_ON});
    assert_int_equal(fr_session_keep_learned(s, NULL), FR_OK);
    assert_int_equal(files_in(folder, NULL, 0), 2);
    fr_session_destroy(s);
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

/* What passes cost from memory says nothing of what they cost from the disk. */
static void streamed_weights_learn_on_their_own(void **state) {
    (void)state;
    scratch dir = scratch_create();
    char model_dir[512];
    golden_model_dir("pico-mtp-s1", model_dir, sizeof model_dir);
    for (int streamed = 0; streamed < 2; streamed++) {
        fr_model_options o = {.weights = streamed ? FR_WEIGHTS_STREAM : FR_WEIGHTS_MMAP, .threads = 1};
        fr_model *model;
        assert_int_equal(fr_model_open(model_dir, &o, &model, NULL), FR_OK);
        assert_false(begins_with_it(model, dir.dir));
        fr_session *s = taught(model, dir.dir, FR_KV_BF16);
        assert_int_equal(fr_session_keep_learned(s, NULL), FR_OK);
        assert_true(begins_with_it(model, dir.dir));
        fr_session_destroy(s);
        fr_model_destroy(model);
    }
    scratch_destroy(&dir);
}

static void write_file(const char *path, const char *text, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void a_file_that_does_not_fit_is_left_alone(void **state) {
    (void)state;
    scratch dir = scratch_create();
    char path[1024], *text, changed[8192];
    size_t length;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    fr_session *s = taught(model, dir.dir, FR_KV_BF16);
    assert_int_equal(fr_session_keep_learned(s, NULL), FR_OK);
    fr_session_destroy(s);
    assert_int_equal(files_in(dir.dir, path, sizeof path), 1);
    assert_int_equal(fr_read_file(path, 8000, &text, &length, NULL), FR_OK);
    for (size_t cut = 0; cut + 2 < length; cut += 7) { /* however it was cut off */
        write_file(path, text, cut);
        assert_false(begins_with_it(model, dir.dir));
    }
    static const char *const changes[][2] = {
        {"forerun.learned/1", "forerun.learned/2"}, {"\"tokens\"", "\"tokans\""},
        {"\"chained\":\t[", "\"chained\":\t[1, "},  {"\"cycles\":\t[", "\"cycles\":\t[-"},
        {"\"level_s\":\t[", "\"level_s\":\t[-"},    {"\"off\":\t[", "\"off\":\t[7"},
        {"\"pass\":\t[", "\"pass\":\t[3e9,"},       {"\"acceptance\":\t[", "\"acceptance\":\t[null,"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const char *at = strstr(text, changes[i][0]);
        if (!at) print_message("not there: %s\n", changes[i][0]);
        assert_non_null(at);
        int n = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, changes[i][1], at + strlen(changes[i][0]));
        write_file(path, changed, (size_t)n);
        assert_false(begins_with_it(model, dir.dir));
    }
    write_file(path, text, length);
    assert_true(begins_with_it(model, dir.dir));
    fr_free(text);
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

/* Nobody hears of it, but a caller that asks. */
static void a_folder_that_cannot_be_made_is_an_error_to_who_asks(void **state) {
    (void)state;
    fr_error error = {0};
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    fr_session *s = taught(model, "/proc/nowhere", FR_KV_BF16);
    assert_int_equal(fr_session_keep_learned(s, NULL), FR_ERROR_IO);
    assert_int_equal(fr_session_keep_learned(s, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "/proc/nowhere"));
    fr_session_destroy(s);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_with_what_the_one_before_it_learned),
        cmocka_unit_test(streamed_weights_learn_on_their_own),
        cmocka_unit_test(a_file_that_does_not_fit_is_left_alone),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error_to_who_asks),
    };
    return cmocka_run_group_tests_name("learned", tests, NULL, NULL);
}
