/* Checkpoints made to do harm: each is refused with one message that says what and where, and takes little time and memory. What
 * headers of single files can say is in test_safetensors.c, what configs can in test_config.c; fuzz/ looks for the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "core/checkpoint/config.h"
#include "core/checkpoint/safetensors.h"
#include "core/json.h"
#include "core/memory.h"
#include "forerun_checkpoint.h"
#include "scratch.h"
#include "text/tokenizer.h"

#define GOLDEN FR_TEST_DIR "/golden/pico-alldense"

static scratch copy_of_golden(void) {
    scratch s = scratch_create();
    scratch_copy_from(&s, GOLDEN);
    return s;
}

/* The message of opening, which must fail; valid until the next call. */
static const fr_error *refusal(const scratch *s) {
    static fr_error error;
    fr_model *model = NULL;
    if (fr_model_open(s->dir, &(fr_model_options){.threads = 1}, &model, &error) == FR_OK) fail_msg("%s: opened", s->dir);
    assert_null(model);
    return &error;
}

static void check_says(const fr_error *error, const char *text) {
    if (!strstr(error->message, text)) fail_msg("'%s' does not say '%s'", error->message, text);
}

/* ---- Names that are no plain files ---- */

static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"};
enum { NAMES = sizeof names / sizeof *names };

static void a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(void **state) {
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        scratch s = copy_of_golden();
        unlink(scratch_path(&s, names[i]));
        assert_int_equal(mkfifo(scratch_path(&s, names[i]), 0600), 0);
        const fr_error *error = refusal(&s);
        check_says(error, names[i]);
        check_says(error, "not a regular file");
        scratch_destroy(&s);
    }
}

static void a_device_in_place_of_a_file_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        scratch s = copy_of_golden();
        unlink(scratch_path(&s, names[i]));
        assert_int_equal(symlink("/dev/zero", scratch_path(&s, names[i])), 0);
        check_says(refusal(&s), "not a regular file");
        scratch_destroy(&s);
    }
}

static void a_link_that_leads_nowhere_is_not_passed_over(void **state) {
    (void)state;
    static const struct {
        const char *target, *says;
    } links[] = {{"no-such-blob", "a link to a file that is not there"}, {NULL, "symbolic links"}}; /* NULL: to itself */
    for (int i = 0; i < NAMES; i++)
        for (int l = 0; l < 2; l++) {
            if (strcmp(names[i], "model.safetensors") == 0) continue; /* without weights it is no checkpoint: below */
            scratch s = copy_of_golden();
            unlink(scratch_path(&s, names[i]));
            assert_int_equal(symlink(links[l].target ? links[l].target : names[i], scratch_path(&s, names[i])), 0);
            const fr_error *error = refusal(&s);
            check_says(error, names[i]);
            check_says(error, links[l].says);
            scratch_destroy(&s);
        }
}

static void a_shard_that_is_a_link_to_nowhere_is_refused(void **state) {
    (void)state;
    scratch s = copy_of_golden();
    unlink(scratch_path(&s, "model.safetensors"));
    assert_int_equal(symlink("model.safetensors", scratch_path(&s, "model.safetensors")), 0);
    refusal(&s);
    scratch_write_text(&s, "model.safetensors.index.json", "{\"weight_map\":{\"x\":\"model.safetensors\"}}");
    check_says(refusal(&s), "symbolic links");
    scratch_destroy(&s);
}

/* As the cache of the Hugging Face hub has it: blobs elsewhere, and links to them. */
static void links_to_blobs_out_of_the_folder_are_followed(void **state) {
    (void)state;
    scratch blobs = copy_of_golden(), s = scratch_create();
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_int_equal(symlink(scratch_path(&blobs, files[i]), scratch_path(&s, files[i])), 0);
    fr_model *model = NULL;
    fr_error error;
    fr_model_info info;
    if (fr_model_open(s.dir, &(fr_model_options){.threads = 1}, &model, &error) != FR_OK) fail_msg("%s", error.message);
    fr_model_get_info(model, &info);
    assert_true(info.has_tokenizer);
    fr_model_destroy(model);
    scratch_destroy(&s);
    scratch_destroy(&blobs);
}

static void a_tokenizer_or_template_that_cannot_be_read_is_noticed(void **state) {
    (void)state;
    static const char *const files[] = {"tokenizer.json", "chat_template.jinja"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        scratch s = copy_of_golden();
        fr_model *model = NULL;
        fr_error error;
        size_t count;
        bool noticed = false;
        unlink(scratch_path(&s, files[i]));
        assert_int_equal(symlink("no-such-blob", scratch_path(&s, files[i])), 0);
        if (fr_model_open(s.dir, &(fr_model_options){.threads = 1}, &model, &error) != FR_OK) fail_msg("%s", error.message);
        const fr_notice *notices = fr_model_notices(model, &count);
        for (size_t n = 0; n < count; n++) noticed = noticed || strstr(notices[n].why, files[i]);
        assert_true(noticed);
        fr_model_destroy(model);
        scratch_destroy(&s);
    }
}

/* ---- Numbers of things ---- */

/* BEGIN, then MIDDLE until there are so many bytes, then END. */
static char *make_bomb(const char *begin, const char *middle, size_t bytes, const char *end, size_t *length) {
    char *text = malloc(strlen(begin) + bytes + strlen(middle) + strlen(end) + 1), *to = stpcpy(text, begin);
    size_t piece = strlen(middle);
    while (to < text + bytes) {
        memcpy(to, middle, piece);
        to += piece;
    }
    to = stpcpy(to, end);
    *length = (size_t)(to - text);
    return text;
}

static void a_file_of_very_many_values_is_refused_before_a_tree_of_them_is_made(void **state) {
    (void)state;
    static const char *const middles[] = {"1,", "[],", "{},", "[[[[[[[[]]]]]]]],"};
    for (size_t i = 0; i < sizeof middles / sizeof *middles; i++) {
        size_t length;
        char *text = make_bomb("[", middles[i], 4 * (size_t)FR_JSON_MAX_VALUES, "1]", &length);
        cJSON *json = NULL;
        fr_error error;
        uint64_t before = fr_alloc_count();
        assert_int_equal(fr_json_parse(text, length, "bomb", &json, &error), FR_ERROR_FORMAT);
        check_says(&error, "bomb: line 1, column ");
        check_says(&error, "more values than such a file can have");
        assert_true(fr_alloc_count() == before);
        free(text);
    }
}

static void a_huge_header_is_read_or_refused(void **state) {
    (void)state;
    static const struct {
        const char *begin, *middle, *end, *says; /* NULL: it can be read */
    } cases[] = {{"{", " ", "}", NULL},
                 {"{\"__metadata__\":{\"a\":\"", "x", "\"}}", NULL},
                 {"{\"__metadata__\":[", "1,", "1]}", "more values"},
                 {"{\"a\":", "{\"a\":", "1", "nested too deeply"},
                 {"{\"__metadata__\":{\"a\":\"", "x", "", "not valid JSON"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch s = scratch_create();
        fr_safetensors file;
        fr_error error;
        size_t length;
        char *text = make_bomb(cases[i].begin, cases[i].middle, 32 << 20, cases[i].end, &length);
        char *bytes = malloc(length + 8);
        for (int b = 0; b < 8; b++) bytes[b] = (char)(length >> 8 * b);
        memcpy(bytes + 8, text, length);
        free(text);
        scratch_write(&s, "x.safetensors", bytes, length + 8);
        free(bytes);
        fr_status status = fr_safetensors_open(s.dir, "x.safetensors", 0, NULL, NULL, &file, &error);
        if (status == FR_OK) fr_safetensors_release(&file);
        assert_int_equal(status, cases[i].says ? FR_ERROR_FORMAT : FR_OK);
        if (cases[i].says) check_says(&error, cases[i].says);
        scratch_destroy(&s);
    }
}

static void an_index_of_very_many_files_is_refused_before_they_are_looked_for(void **state) {
    (void)state;
    enum { FILES = 20000 };
    scratch s = copy_of_golden();
    char *text = malloc(FILES * 32 + 32), *to = stpcpy(text, "{\"weight_map\":{");
    for (int i = 0; i < FILES; i++) to += sprintf(to, "%s\"t%d\":\"m%d\"", i ? "," : "", i, i);
    strcpy(to, "}}");
    scratch_write_text(&s, "model.safetensors.index.json", text);
    free(text);
    check_says(refusal(&s), "weight_map names 20000 files, at most 16384 are possible");
    scratch_destroy(&s);
}

/* A config of 25 million tensors beside a small model's files. */
static scratch mismatched(void) {
    scratch s = copy_of_golden();
    size_t length;
    char *text = scratch_read(FR_TEST_DIR "/golden/pico-s1/config.json", &length);
    cJSON *config = cJSON_Parse(text);
    static const struct {
        const char *key;
        double value;
    } values[] = {
        {"num_hidden_layers", 1024}, {"n_routed_experts", 8192}, {"n_group", 1}, {"topk_group", 1}, {"first_k_dense_replace", 0}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        cJSON_ReplaceItemInObject(config, values[i].key, cJSON_CreateNumber(values[i].value));
    char *edited = cJSON_Print(config);
    scratch_write_text(&s, "config.json", edited);
    cJSON_free(edited);
    cJSON_Delete(config);
    free(text);
    return s;
}

static void count_problem(void *user, const fr_problem *problem) {
    int *about_config = user;
    if (strcmp(problem->file, "config.json") == 0 && strstr(problem->problem, "25165824 tensors")) ++*about_config;
}

static void a_config_of_millions_of_tensors_beside_a_small_model_is_one_error_and_one_problem(void **state) {
    (void)state;
    scratch s = mismatched();
    int about_config = 0;
    uint64_t problems = 0;
    fr_error error;
    check_says(refusal(&s), "25165824 tensors");
    assert_int_equal(fr_check(s.dir, 1, count_problem, NULL, &about_config, NULL, NULL, &problems, &error), FR_OK);
    assert_int_equal(about_config, 1);
    assert_int_equal(problems, 1);
    scratch_destroy(&s);
}

/* ---- Patterns ---- */

static fr_tokenizer *tokenizer_with(const scratch *s, const char *pattern) {
    size_t length;
    fr_tokenizer *tokenizer = NULL;
    fr_error error;
    char split[512], *text = scratch_read(FR_TEST_DIR "/fuzz/corpus/tokenizer/pairs", &length);
    cJSON *json = cJSON_Parse(text);
    snprintf(
        split, sizeof split,
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":"
        "\"Isolated\"},{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
        "\"use_regex\":false}]}",
        pattern);
    cJSON_ReplaceItemInObject(json, "pre_tokenizer", cJSON_Parse(split));
    char *edited = cJSON_PrintUnformatted(json);
    scratch_write_text(s, "tokenizer.json", edited);
    cJSON_free(edited);
    cJSON_Delete(json);
    free(text);
    if (fr_tokenizer_load(s->dir, &tokenizer, &error) != FR_OK) fail_msg("%s", error.message);
    return tokenizer;
}

/* Each piece alone would take a million steps, and there are thousands. */
static void a_pattern_that_explodes_on_short_pieces_is_an_error_at_the_first(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_tokenizer *tokenizer = tokenizer_with(&s, "(a+)+$");
    fr_error error;
    int32_t *tokens;
    size_t count, length;
    char *text = make_bomb("", "aaaaaaaaaaaaaaaaaaaaaaaab ", 100000, "", &length);
    assert_int_equal(fr_tokenizer_encode(tokenizer, text, length, false, &tokens, &count, &error), FR_ERROR_UNSUPPORTED);
    check_says(&error, "split 1 failed on a piece of 25 bytes");
    free(text);
    fr_tokenizer_destroy(tokenizer);
    scratch_destroy(&s);
}

/* What patterns of the family go back over: a run of capitals, marks or blanks of any length. */
static void long_runs_are_no_explosion(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "\\\\s+(?!\\\\S)|\\\\s+|\\\\S", "(?:(?=[\\\\p{L}])[\\\\p{Lu}])*(?:(?=[\\\\p{L}])[\\\\p{Ll}])+|\\\\p{L}+|.",
        "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s+"};
    static const char *const runs[] = {"A", "a", "\t", "\xcc\x81", "7", "!"};
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        scratch s = scratch_create();
        fr_tokenizer *tokenizer = tokenizer_with(&s, patterns[p]);
        for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
            fr_error error;
            int32_t *tokens = NULL;
            size_t count, length;
            char *text = make_bomb("", runs[r], 20000, "", &length);
            if (fr_tokenizer_encode(tokenizer, text, length, false, &tokens, &count, &error) != FR_OK)
                fail_msg("%s on a run of %s: %s", patterns[p], runs[r], error.message);
            fr_free(tokens);
            free(text);
        }
        fr_tokenizer_destroy(tokenizer);
        scratch_destroy(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_in_place_of_a_file_is_refused_and_not_waited_for),
        cmocka_unit_test(a_device_in_place_of_a_file_is_refused),
        cmocka_unit_test(a_link_that_leads_nowhere_is_not_passed_over),
        cmocka_unit_test(a_shard_that_is_a_link_to_nowhere_is_refused),
        cmocka_unit_test(links_to_blobs_out_of_the_folder_are_followed),
        cmocka_unit_test(a_tokenizer_or_template_that_cannot_be_read_is_noticed),
        cmocka_unit_test(a_file_of_very_many_values_is_refused_before_a_tree_of_them_is_made),
        cmocka_unit_test(a_huge_header_is_read_or_refused),
        cmocka_unit_test(an_index_of_very_many_files_is_refused_before_they_are_looked_for),
        cmocka_unit_test(a_config_of_millions_of_tensors_beside_a_small_model_is_one_error_and_one_problem),
        cmocka_unit_test(a_pattern_that_explodes_on_short_pieces_is_an_error_at_the_first),
        cmocka_unit_test(long_runs_are_no_explosion),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
