/* The chat template: its text, and that bos appears once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/chat_template.h"
#include "toy_tokenizer.h"

#define CONFIG(add) "{\"bos_token\": \"" TOY_BOS "\", \"eos_token\": \"" TOY_EOS "\", \"add_bos_token\": " add "}"

/* Tokens of the template as DeepSeek-V3 has them: bos 256, eos 257, User 258, Assistant 259. */
static fr_tokenizer *chat_tokenizer(const char *config) {
    cJSON *toy = toy_create();
    toy_add(toy, TOY_BOS, true, false);
    toy_add(toy, TOY_EOS, true, false);
    toy_add(toy, TOY_USER, false, true);
    toy_add(toy, TOY_ASSISTANT, false, true);
    return toy_finish(toy, config);
}

static void check(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, bool reply, const char *expected) {
    char *text;
    fr_error error = {0};
    if (fr_chat_render(tokenizer, turns, count, reply, &text, &error) != FR_OK) fail_msg("%s", error.message);
    assert_string_equal(text, expected);
    fr_free(text);
}

static void conversations_are_rendered(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG("true"));
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, "Be kind."},
                                  {FR_CHAT_USER, "Hello"},
                                  {FR_CHAT_ASSISTANT, "Hi."},
                                  {FR_CHAT_USER, "How?\n"},
                                  {FR_CHAT_SYSTEM, "Be short."}};
    check(tokenizer, turns + 1, 1, true, TOY_USER "Hello" TOY_ASSISTANT);
    check(tokenizer, turns, 2, true, "Be kind." TOY_USER "Hello" TOY_ASSISTANT);
    check(tokenizer, turns, 3, false, "Be kind." TOY_USER "Hello" TOY_ASSISTANT "Hi." TOY_EOS);
    check(tokenizer, turns, 4, true, "Be kind." TOY_USER "Hello" TOY_ASSISTANT "Hi." TOY_EOS TOY_USER "How?\n" TOY_ASSISTANT);
    check(tokenizer, turns, 5, true,
          "Be kind.\n\nBe short." TOY_USER "Hello" TOY_ASSISTANT "Hi." TOY_EOS TOY_USER "How?\n" TOY_ASSISTANT);
    check(tokenizer, NULL, 0, false, "");
    check(tokenizer, NULL, 0, true, TOY_ASSISTANT);
    fr_tokenizer_destroy(tokenizer);
}

/* With what has been answered, a conversation begins with the text that was answered: a KV cache can be kept. */
static void a_conversation_grows_at_its_end(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG("false"));
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, "S"}, {FR_CHAT_USER, "A"}, {FR_CHAT_ASSISTANT, "B"}, {FR_CHAT_USER, "C"}};
    char *before, *after;
    assert_int_equal(fr_chat_render(tokenizer, turns, 2, true, &before, NULL), FR_OK);
    assert_int_equal(fr_chat_render(tokenizer, turns, 4, true, &after, NULL), FR_OK);
    assert_memory_equal(after, before, strlen(before));
    assert_string_equal(after + strlen(before), "B" TOY_EOS TOY_USER "C" TOY_ASSISTANT);
    fr_free(before);
    fr_free(after);
    fr_tokenizer_destroy(tokenizer);
}

/* A system turn and a user turn, "U". */
static const fr_chat_turn *one_turn(const char *system) {
    static fr_chat_turn turns[2];
    turns[0] = (fr_chat_turn){FR_CHAT_SYSTEM, system};
    turns[1] = (fr_chat_turn){FR_CHAT_USER, "U"};
    return turns;
}

static void bos_appears_once(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int bos;
    } cases[] = {{CONFIG("true"), 1}, {CONFIG("false"), 1}, {"{}", 0}, {NULL, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_tokenizer *tokenizer = chat_tokenizer(cases[i].config);
        char *text;
        int32_t *tokens;
        size_t count;
        static const int32_t expected[] = {256, 'S', 258, 'U', 259};
        assert_int_equal(fr_chat_render(tokenizer, one_turn("S"), 2, true, &text, NULL), FR_OK);
        assert_int_equal(fr_tokenizer_encode(tokenizer, text, strlen(text), true, &tokens, &count, NULL), FR_OK);
        assert_int_equal(count, 4 + cases[i].bos);
        assert_memory_equal(tokens, expected + 1 - cases[i].bos, count * sizeof *tokens);
        fr_free(text);
        fr_free(tokens);
        fr_tokenizer_destroy(tokenizer);
    }
}

static void a_system_turn_is_optional(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG("true"));
    for (size_t i = 0; i < 2; i++) {
        char *text;
        assert_int_equal(i == 0 ? fr_chat_render(tokenizer, one_turn("") + 1, 1, true, &text, NULL)
                                : fr_chat_render(tokenizer, one_turn(""), 2, true, &text, NULL),
                         FR_OK);
        assert_string_equal(text, TOY_USER "U" TOY_ASSISTANT);
        fr_free(text);
    }
    fr_tokenizer_destroy(tokenizer);
}

static void missing_tokens_are_named(void **state) {
    (void)state;
    static const char *const needed[] = {TOY_USER, TOY_ASSISTANT, TOY_EOS};
    for (size_t missing = 0; missing < 3; missing++) {
        cJSON *toy = toy_create();
        for (size_t i = 0; i < 3; i++)
            if (i != missing) toy_add(toy, needed[i], false, false);
        fr_tokenizer *tokenizer = toy_finish(toy, NULL);
        char *text = NULL;
        fr_error error = {0};
        assert_int_equal(fr_chat_render(tokenizer, one_turn(""), 2, true, &text, &error), FR_ERROR_UNSUPPORTED);
        assert_non_null(strstr(error.message, needed[missing]));
        assert_non_null(strstr(error.hint, "base model"));
        assert_null(text);
        fr_tokenizer_destroy(tokenizer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_rendered), cmocka_unit_test(a_conversation_grows_at_its_end),
        cmocka_unit_test(bos_appears_once),           cmocka_unit_test(a_system_turn_is_optional),
        cmocka_unit_test(missing_tokens_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
