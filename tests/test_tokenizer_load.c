/* Which tokenizer files are refused, and what is said about them. Nothing leaks on any of these ways (sanitizers look). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forerun_study.h"
#include "toy_tokenizer.h"

static void check_refused(const cJSON *toy, const char *config, fr_status expected, const char *says) {
    fr_tokenizer *tokenizer = NULL;
    fr_error error = {0};
    fr_status status = toy_load(toy, config, &tokenizer, &error);
    if (status != expected) {
        char *json = cJSON_PrintUnformatted(toy);
        fail_msg("%s, expected %s saying '%s': %s", status == FR_OK ? "loaded" : error.message, fr_status_name(expected), says,
                 json + strlen(json) * 3 / 4);
    }
    if (!strstr(error.message, says)) fail_msg("'%s' does not say '%s'", error.message, says);
    if (!strstr(error.message, config ? "/tokenizer" : "/tokenizer.json: ")) fail_msg("'%s' names no file", error.message);
    assert_null(tokenizer);
}

static cJSON *object_of(cJSON *toy, const char *path) {
    if (strcmp(path, "model") == 0) return toy_model(toy);
    if (strcmp(path, "vocab") == 0) return toy_vocab(toy);
    return toy;
}

typedef struct change {
    const char *object, *key, *value; /* value NULL: the key is taken out */
    fr_status expected;
    const char *says;
} change;

static void check_changes(const change *changes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        cJSON *toy = toy_create();
        toy_merge(toy, "a", "b", false);
        cJSON *object = object_of(toy, changes[i].object);
        if (changes[i].value)
            toy_set(object, changes[i].key, changes[i].value);
        else
            cJSON_DeleteItemFromObjectCaseSensitive(object, changes[i].key);
        if (changes[i].expected == FR_OK)
            fr_tokenizer_destroy(toy_finish(cJSON_Duplicate(toy, true), NULL));
        else
            check_refused(toy, NULL, changes[i].expected, changes[i].says);
        cJSON_Delete(toy);
    }
}
#define CHECK_CHANGES(changes) check_changes(changes, sizeof(changes) / sizeof *(changes))

static void unsupported_kinds_are_refused(void **state) {
    (void)state;
    static const change changes[] = {
        {"model", "type", "\"Unigram\"", FR_ERROR_UNSUPPORTED, "model: type \"Unigram\""},
        {"model", "type", "\"WordPiece\"", FR_ERROR_UNSUPPORTED, "WordPiece"},
        {"model", "byte_fallback", "true", FR_ERROR_UNSUPPORTED, "byte_fallback"},
        {"model", "dropout", "0.1", FR_ERROR_UNSUPPORTED, "dropout"},
        {"model", "continuing_subword_prefix", "\"##\"", FR_ERROR_UNSUPPORTED, "continuing_subword_prefix"},
        {"model", "end_of_word_suffix", "\"</w>\"", FR_ERROR_UNSUPPORTED, "end_of_word_suffix"},
        {"", "normalizer", "{\"type\": \"NFC\"}", FR_ERROR_UNSUPPORTED, "normalizer: type \"NFC\""},
        {"", "normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}]}", FR_ERROR_UNSUPPORTED, "NFKC"},
        {"", "pre_tokenizer", "{\"type\": \"Whitespace\"}", FR_ERROR_UNSUPPORTED, "pre_tokenizer: type \"Whitespace\""},
        {"", "pre_tokenizer", "null", FR_ERROR_UNSUPPORTED, "pre_tokenizer"},
        {"", "decoder", "null", FR_ERROR_UNSUPPORTED, "decoder: type \"null\""},
        {"", "decoder", "{\"type\": \"Metaspace\"}", FR_ERROR_UNSUPPORTED, "decoder: type \"Metaspace\""},
        {"", "post_processor", "{\"type\": \"BertProcessing\"}", FR_ERROR_UNSUPPORTED, "post_processor: type \"BertProcessing\""},
        {"", "post_processor", "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {}}, {\"SpecialToken\": {}}]}",
         FR_ERROR_UNSUPPORTED, "single"},
        {"", "post_processor", "{\"type\": \"TemplateProcessing\", \"single\": []}", FR_ERROR_UNSUPPORTED, "single"},
        {"", "added_tokens", "[{\"id\": 257, \"content\": \"<x>\", \"lstrip\": true}]", FR_ERROR_UNSUPPORTED,
         "\"<x>\" has lstrip"},
        {"", "added_tokens", "[{\"id\": 257, \"content\": \"<x>\", \"rstrip\": true}]", FR_ERROR_UNSUPPORTED, "rstrip"},
        {"", "added_tokens", "[{\"id\": 257, \"content\": \"<x>\", \"single_word\": true}]", FR_ERROR_UNSUPPORTED, "single_word"},
        /* é is how the vocabulary writes the byte 0xE9, but an added token is the character */
        {"", "added_tokens", "[{\"id\": 233, \"content\": \"é\"}]", FR_ERROR_UNSUPPORTED, "\"é\" stands for other bytes"},
        {"vocab", "a", NULL, FR_ERROR_UNSUPPORTED, "no token for the byte 0x61"},
        {"model", "vocab", "{}", FR_ERROR_UNSUPPORTED, "no token for the byte 0x00"},
    };
    CHECK_CHANGES(changes);
}

static void harmless_variants_are_accepted(void **state) {
    (void)state;
    static const change changes[] = {
        {"", "normalizer", "{\"type\": \"Sequence\", \"normalizers\": []}", FR_OK, NULL},
        {"", "normalizer", NULL, FR_OK, NULL},
        {"", "post_processor", "{\"type\": \"ByteLevel\", \"trim_offsets\": false}", FR_OK, NULL},
        {"", "post_processor", NULL, FR_OK, NULL},
        {"", "added_tokens", NULL, FR_OK, NULL},
        {"", "version", "\"1.0\"", FR_OK, NULL},
        {"model", "dropout", "0.0", FR_OK, NULL},
        {"model", "dropout", "null", FR_OK, NULL},
        {"model", "continuing_subword_prefix", "\"\"", FR_OK, NULL},
        {"model", "end_of_word_suffix", "\"\"", FR_OK, NULL},
        {"model", "byte_fallback", NULL, FR_OK, NULL},
        {"model", "merges", "[]", FR_OK, NULL},
        {"", "added_tokens", "[{\"id\": 97, \"content\": \"a\", \"special\": false}]", FR_OK, NULL},
    };
    CHECK_CHANGES(changes);
}

static void contradictions_are_refused(void **state) {
    (void)state;
    static const change changes[] = {
        {"", "model", NULL, FR_ERROR_FORMAT, "model"},
        {"", "model", "[]", FR_ERROR_FORMAT, "model"},
        {"model", "type", NULL, FR_ERROR_FORMAT, "type"},
        {"model", "vocab", NULL, FR_ERROR_FORMAT, "vocab"},
        {"model", "vocab", "[]", FR_ERROR_FORMAT, "vocab"},
        {"model", "merges", NULL, FR_ERROR_FORMAT, "merges"},
        {"model", "merges", "{}", FR_ERROR_FORMAT, "merges"},
        {"model", "merges", "[7]", FR_ERROR_FORMAT, "merges[0]: expected two tokens, found 7"},
        {"model", "merges", "[\"a b\", \"ab\"]", FR_ERROR_FORMAT, "merges[1]"},
        {"model", "merges", "[\"a  b\"]", FR_ERROR_FORMAT, "merges[0]"},
        {"model", "merges", "[[\"a\"]]", FR_ERROR_FORMAT, "merges[0]"},
        {"model", "merges", "[[\"a\", 3]]", FR_ERROR_FORMAT, "merges[0]"},
        {"model", "merges", "[[\"a\", \"b\", \"c\"]]", FR_ERROR_FORMAT, "merges[0]"},
        {"model", "merges", "[\"a b\", \"zz a\"]", FR_ERROR_FORMAT, "model: merges[1]: \"zz\" is not in the vocabulary"},
        {"model", "merges", "[\"a zz\"]", FR_ERROR_FORMAT, "\"zz\" is not in the vocabulary"},
        {"model", "merges", "[\"a c\"]", FR_ERROR_FORMAT, "\"ac\" is not in the vocabulary"},
        {"model", "merges", "[\" ab\"]", FR_ERROR_FORMAT, "\"\" is not in the vocabulary"},
        {"model", "ignore_merges", "1", FR_ERROR_FORMAT, "ignore_merges"},
        {"vocab", "a", "-1", FR_ERROR_FORMAT, "the id of \"a\": expected an integer in [0, 4194304), found -1"},
        {"vocab", "a", "1.5", FR_ERROR_FORMAT, "found 1.5"},
        {"vocab", "a", "4194304", FR_ERROR_FORMAT, "found 4194304"},
        {"vocab", "a", "1e300", FR_ERROR_FORMAT, "the id of \"a\""},
        {"vocab", "a", "\"97\"", FR_ERROR_FORMAT, "found the string \"97\""},
        {"vocab", "a", "null", FR_ERROR_FORMAT, "the id of \"a\""},
        {"vocab", "a", "98", FR_ERROR_FORMAT, "id 98 belongs to \"b\" and to \"a\""},
        {"", "added_tokens", "{}", FR_ERROR_FORMAT, "added_tokens: expected an array"},
        {"", "added_tokens", "[1]", FR_ERROR_FORMAT, "an added token is not an object"},
        {"", "added_tokens", "[{\"id\": 300}]", FR_ERROR_FORMAT, "content"},
        {"", "added_tokens", "[{\"id\": 300, \"content\": \"\"}]", FR_ERROR_FORMAT, "empty"},
        {"", "added_tokens", "[{\"id\": 300, \"content\": 3}]", FR_ERROR_FORMAT, "content"},
        {"", "added_tokens", "[{\"content\": \"<x>\"}]", FR_ERROR_FORMAT, "the id of \"<x>\""},
        {"", "added_tokens", "[{\"id\": 99999999, \"content\": \"<x>\"}]", FR_ERROR_FORMAT, "99999999"},
        {"", "added_tokens", "[{\"id\": 97, \"content\": \"<x>\"}]", FR_ERROR_FORMAT, "id 97 belongs to \"a\" and to \"<x>\""},
        {"", "added_tokens", "[{\"id\": 300, \"content\": \"a\"}]", FR_ERROR_FORMAT,
         "added_tokens: \"a\" has the ids 97 and 300"},
        {"", "added_tokens", "[{\"id\": 300, \"content\": \"<x>\"}, {\"id\": 300, \"content\": \"<x>\"}]", FR_ERROR_FORMAT,
         "twice"},
        {"", "added_tokens", "[{\"id\": 300, \"content\": \"<x>\"}, {\"id\": 300, \"content\": \"<y>\"}]", FR_ERROR_FORMAT,
         "id 300"},
        {"", "added_tokens", "[{\"id\": 300, \"content\": \"<x>\", \"special\": \"yes\"}]", FR_ERROR_FORMAT, "special"},
        {"", "normalizer", "3", FR_ERROR_FORMAT, "normalizer"},
        {"", "normalizer", "{\"type\": \"Sequence\"}", FR_ERROR_FORMAT, "normalizers"},
        {"", "decoder", "[]", FR_ERROR_FORMAT, "decoder"},
        {"", "post_processor", "\"x\"", FR_ERROR_FORMAT, "post_processor"},
        {"", "post_processor", "{\"type\": \"Sequence\", \"processors\": [1]}", FR_ERROR_FORMAT, "post_processor"},
        {"", "post_processor", "{\"type\": \"TemplateProcessing\"}", FR_ERROR_FORMAT, "single"},
        {"", "post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"B\"}}, {\"Sequence\": {}}], "
         "\"special_tokens\": {}}",
         FR_ERROR_FORMAT, "no \"B\""},
        {"", "post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"B\"}}, {\"Sequence\": {}}], "
         "\"special_tokens\": {\"B\": {\"ids\": [5000]}}}",
         FR_ERROR_FORMAT, "no token has id 5000"},
        {"", "post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"B\"}}, {\"Sequence\": {}}], "
         "\"special_tokens\": {\"B\": {\"ids\": [1, 2]}}}",
         FR_ERROR_UNSUPPORTED, "not one token"},
    };
    CHECK_CHANGES(changes);
}

static void a_name_that_comes_twice_is_refused(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    cJSON_AddNumberToObject(toy_vocab(toy), "a", 300);
    check_refused(toy, NULL, FR_ERROR_FORMAT, "model: vocab: \"a\" is there twice");
    cJSON_Delete(toy);
}

static void wrong_configs_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *config;
        fr_status expected;
        const char *says;
    } cases[] = {
        {"{\"bos_token\": \"<none>\"}", FR_ERROR_FORMAT, "tokenizer_config.json: bos_token: \"<none>\" is not in the vocabulary"},
        {"{\"eos_token\": {\"content\": \"<none>\"}}", FR_ERROR_FORMAT, "eos_token"},
        {"{\"bos_token\": {}}", FR_ERROR_FORMAT, "content"},
        {"{\"bos_token\": 3}", FR_ERROR_FORMAT, "bos_token"},
        {"{\"add_bos_token\": true}", FR_ERROR_FORMAT, "no bos_token"},
        {"{\"add_bos_token\": \"yes\"}", FR_ERROR_FORMAT, "add_bos_token"},
        {"{\"add_eos_token\": true}", FR_ERROR_UNSUPPORTED, "add_eos_token"},
        {"[]", FR_ERROR_FORMAT, "tokenizer_config.json"},
        {"{", FR_ERROR_FORMAT, "tokenizer_config.json"},
        {"", FR_ERROR_FORMAT, "tokenizer_config.json"},
    };
    cJSON *toy = toy_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(toy, cases[i].config, cases[i].expected, cases[i].says);
    cJSON_Delete(toy);
}

static void missing_files_are_errors(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = NULL;
    fr_error error = {0};
    scratch s = scratch_create();
    assert_false(fr_tokenizer_present(s.dir));
    assert_int_equal(fr_tokenizer_load(s.dir, &tokenizer, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "tokenizer.json"));
    assert_int_equal(fr_tokenizer_load(s.dir, &tokenizer, NULL), FR_ERROR_IO);
    assert_null(tokenizer);
    scratch_destroy(&s);
}

static void a_model_of_a_tokenizer_alone_knows_texts_and_computes_nothing(void **state) {
    (void)state;
    fr_model *model = NULL;
    fr_session *session;
    fr_bench_result *bench;
    fr_model_info info;
    fr_error error = {0};
    cJSON *toy = toy_create();
    char *json = cJSON_PrintUnformatted(toy), *text;
    int32_t *tokens;
    size_t count, length;
    scratch s = scratch_create();
    assert_int_equal(fr_model_open_tokenizer(s.dir, NULL, &model, &error), FR_ERROR_IO);
    assert_null(model);
    scratch_write_text(&s, "tokenizer.json", json);
    assert_int_equal(fr_model_open_tokenizer(s.dir, NULL, &model, &error), FR_OK);
    assert_int_equal(fr_tokenize(model, "a b", 3, true, &tokens, &count, &error), FR_OK);
    assert_int_equal(fr_detokenize(model, tokens, count, false, &text, &length, &error), FR_OK);
    assert_string_equal(text, "a b");
    fr_model_get_info(model, &info);
    assert_true(info.has_tokenizer && info.vocab_size >= 256 && info.weight_bytes == 0 && !info.has_mtp);
    assert_int_equal(fr_session_create(model, NULL, &session, &error), FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "tokenizer alone"));
    assert_int_equal(fr_bench(model, NULL, &bench, &error), FR_ERROR_ARGUMENT);
    fr_free(text);
    fr_free(tokens);
    fr_model_destroy(model);
    scratch_destroy(&s);
    cJSON_free(json);
    cJSON_Delete(toy);
}

/* Whatever a file is cut off at, and whatever one of its bytes is changed to, is loaded or refused: nothing else
 * happens. */
static void damaged_files_do_no_harm(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    toy_merge(toy, "a", "b", true);
    toy_merge(toy, "ab", "c", false);
    toy_add(toy, TOY_BOS, true, false);
    toy_set(toy, "pre_tokenizer",
            "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
            "\"[a-c]+|\\\\p{L}|\\\\s+\"}, "
            "\"behavior\": \"Isolated\", \"invert\": false}, " TOY_BYTE_LEVEL "]}");
    char *json = cJSON_PrintUnformatted(toy);
    cJSON_Delete(toy);
    size_t length = strlen(json), loaded = 0;
    uint64_t seed = 17;
    char *text = malloc(length + 1);
    assert_non_null(text);
    for (int round = 0; round < 1500; round++) {
        fr_tokenizer *tokenizer = NULL;
        fr_error error = {0};
        memcpy(text, json, length + 1);
        if (round % 3 == 0) {
            text[toy_random(&seed) % length] = '\0';
        } else {
            /* (most of the file is vocabulary: the rest of it has its turn, too) */
            size_t at = toy_random(&seed) % (round % 3 == 1 ? 500 : length);
            text[at] = (char)(round % 2 ? toy_random(&seed) : (uint32_t) "\"{}[]:,09-e"[toy_random(&seed) % 11]);
        }
        if (toy_load_text(text, NULL, &tokenizer, &error) != FR_OK) {
            assert_null(tokenizer);
            assert_true(error.message[0] != '\0');
            continue;
        }
        int32_t *tokens;
        size_t count, back_length;
        char *back;
        fr_status status = fr_tokenizer_encode(tokenizer, "abc cab x", 9, true, &tokens, &count, &error);
        assert_int_equal(status, FR_OK);
        assert_int_equal(fr_tokenizer_decode(tokenizer, tokens, count, true, &back, &back_length, &error), FR_OK);
        assert_string_equal(back, "abc cab x");
        fr_free(tokens);
        fr_free(back);
        fr_tokenizer_destroy(tokenizer);
        loaded++;
    }
    assert_in_range(loaded, 1, 1000);
    free(text);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsupported_kinds_are_refused),
        cmocka_unit_test(harmless_variants_are_accepted),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(a_name_that_comes_twice_is_refused),
        cmocka_unit_test(wrong_configs_are_refused),
        cmocka_unit_test(missing_files_are_errors),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(a_model_of_a_tokenizer_alone_knows_texts_and_computes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
