/* DeepSeek-V3's own tokenizer against encodings computed elsewhere (data/deepseek-v3-encodings.json says how). Skipped
 * where it is not at hand: $FORERUN_DEEPSEEK_TOKENIZER names its tokenizer.json, else it is looked for where
 * tools/fetch-deepseek-tokenizer.sh puts it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/chat_template.h"
#include "toy_tokenizer.h"

static fr_tokenizer *deepseek; /* NULL: not here */
static char deepseek_dir[1024];

static int load(void **state) {
    (void)state;
    char *dir = deepseek_dir;
    size_t size = sizeof deepseek_dir;
    fr_error error = {0};
    const char *file = getenv("FORERUN_DEEPSEEK_TOKENIZER"), *cache = getenv("FORERUN_CACHE");
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (file && *file) {
        const char *slash = strrchr(file, '/');
        snprintf(dir, size, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
    } else if (cache && *cache) {
        snprintf(dir, size, "%s/deepseek-v3", cache);
    } else if (xdg && *xdg) {
        snprintf(dir, size, "%s/forerun/deepseek-v3", xdg);
    } else {
        snprintf(dir, size, "%s/.cache/forerun/deepseek-v3", home ? home : "");
    }
    if (!fr_tokenizer_present(dir)) {
        print_message("no %s/tokenizer.json: run tools/fetch-deepseek-tokenizer.sh\n", dir);
        return 0;
    }
    if (fr_tokenizer_load(dir, &deepseek, &error) == FR_OK) return 0;
    print_error("%s\n", error.message);
    return -1;
}

static int unload(void **state) {
    (void)state;
    fr_tokenizer_destroy(deepseek);
    return 0;
}

static void encodings_are_those_of_deepseek(void **state) {
    (void)state;
    size_t length;
    char *text = scratch_read(FR_TEST_DIR "/data/deepseek-v3-encodings.json", &length);
    cJSON *data = toy_parse(text);
    const cJSON *item, *id;
    int count = 0;
    if (!deepseek) {
        cJSON_Delete(data);
        free(text);
        skip();
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(data, "encodings")) {
        const char *input = cJSON_GetObjectItem(item, "text")->valuestring;
        int32_t *tokens;
        size_t n, i = 1;
        assert_int_equal(fr_tokenizer_encode(deepseek, input, strlen(input), true, &tokens, &n, NULL), FR_OK);
        assert_int_equal(tokens[0], 0); /* bos */
        cJSON_ArrayForEach(id, cJSON_GetObjectItem(item, "tokens")) {
            if (i >= n || tokens[i] != id->valueint) fail_msg("'%s': token %zu is not %d", input, i - 1, id->valueint);
            i++;
        }
        if (i != n) fail_msg("'%s': %zu tokens, expected %zu", input, n - 1, i - 1);
        char *back;
        assert_int_equal(fr_tokenizer_decode(deepseek, tokens + 1, n - 1, true, &back, &n, NULL), FR_OK);
        assert_string_equal(back, input);
        fr_free(back);
        fr_free(tokens);
        count++;
    }
    assert_true(count >= 60);
    cJSON_Delete(data);
    free(text);
}

static void its_tokens_are_known(void **state) {
    (void)state;
    if (!deepseek) skip();
    assert_int_equal(fr_tokenizer_size(deepseek), 128815);
    assert_int_equal(fr_tokenizer_bos(deepseek), 0);
    assert_int_equal(fr_tokenizer_eos(deepseek), 1);
    assert_true(fr_tokenizer_add_bos(deepseek));
    assert_int_equal(fr_tokenizer_find(deepseek, TOY_USER), 128803);
    assert_int_equal(fr_tokenizer_find(deepseek, TOY_ASSISTANT), 128804);
    assert_true(fr_tokenizer_is_special(deepseek, 1));
    assert_false(fr_tokenizer_is_special(deepseek, 128803));
    for (int32_t id = 0; id < 128815; id++) assert_non_null(fr_tokenizer_token_bytes(deepseek, id, NULL));
}

static void its_chat_template_encodes_to_special_tokens(void **state) {
    (void)state;
    if (!deepseek) skip();
    static const int32_t expected[] = {0, 3476, 477, 11502, 128803, 19923, 128804}; /* bos, "You are helpful", ... */
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, "You are helpful"}, {FR_CHAT_USER, "Hello"}};
    char *text;
    int32_t *tokens;
    size_t count;
    const fr_chat_options options = {.reply = true};
    fr_notices notices = {0};
    assert_int_equal(fr_tokenizer_load_chat(deepseek, deepseek_dir, NULL, &notices, NULL), FR_OK);
    assert_string_equal(fr_tokenizer_chat_format(deepseek), "deepseek-v3");
    assert_int_equal(notices.count, 0); /* the template was compared */
    assert_int_equal(fr_chat_render(deepseek, turns, 2, &options, &text, NULL), FR_OK);
    assert_int_equal(fr_tokenizer_encode(deepseek, text, strlen(text), true, &tokens, &count, NULL), FR_OK);
    assert_int_equal(count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < count; i++) assert_int_equal(tokens[i], expected[i]);
    fr_free(text);
    fr_free(tokens);
}

static void special_tokens_can_be_plain_text(void **state) {
    (void)state;
    if (!deepseek) skip();
    static const char text[] = TOY_EOS TOY_USER;
    int32_t *tokens;
    size_t count;
    assert_int_equal(fr_tokenizer_encode(deepseek, text, sizeof text - 1, false, &tokens, &count, NULL), FR_OK);
    assert_true(count > 3);
    for (size_t i = 0; i < count; i++) assert_int_not_equal(tokens[i], 1);
    assert_int_equal(tokens[count - 1], 128803);
    fr_free(tokens);
}

static void random_bytes_round_trip(void **state) {
    (void)state;
    if (!deepseek) skip();
    uint64_t seed = 1;
    for (int round = 0; round < 200; round++) {
        char text[600], *back;
        int32_t *tokens;
        size_t length = toy_random(&seed) % sizeof text, count, back_length;
        for (size_t i = 0; i < length; i++) text[i] = (char)(round % 2 ? toy_random(&seed) : 0x20 + toy_random(&seed) % 0x60);
        assert_int_equal(fr_tokenizer_encode(deepseek, text, length, false, &tokens, &count, NULL), FR_OK);
        assert_int_equal(fr_tokenizer_decode(deepseek, tokens, count, true, &back, &back_length, NULL), FR_OK);
        assert_int_equal(back_length, length);
        if (length) assert_memory_equal(back, text, length);
        fr_free(tokens);
        fr_free(back);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_are_those_of_deepseek),
        cmocka_unit_test(its_tokens_are_known),
        cmocka_unit_test(its_chat_template_encodes_to_special_tokens),
        cmocka_unit_test(special_tokens_can_be_plain_text),
        cmocka_unit_test(random_bytes_round_trip),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
