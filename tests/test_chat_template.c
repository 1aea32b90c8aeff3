/* Chat formats: which template is which, the texts of conversations against those that the templates themselves render
 * (data/chat-formats.json says how), and that what people type stays text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/chat_recognize.h"
#include "text/chat_template.h"
#include "text/tokenizer_private.h"
#include "toy_tokenizer.h"

#define CONFIG(bos, add) "{\"bos_token\": \"" bos "\", \"add_bos_token\": " add "}"

/* The control tokens of every format, from 256 on; special or not as the checkpoints have them. */
static const struct {
    const char *content;
    bool special;
} controls[] = {{TOY_BOS, true},         {TOY_EOS, true},       {TOY_USER, false},          {TOY_ASSISTANT, false},
                {"<think>", false},      {"</think>", false},   {"[gMASK]", true},          {"<sop>", true},
                {"<|system|>", true},    {"<|user|>", true},    {"<|assistant|>", true},    {"<|observation|>", true},
                {"<|endoftext|>", true}, {"<s>", true},         {"<|role_sep|>\n", true},   {"<|message_sep|>\n\n", true},
                {"<|im_system|>", true}, {"<|im_user|>", true}, {"<|im_assistant|>", true}, {"<|im_middle|>", true},
                {"<|im_end|>", true}};
enum { NUM_CONTROLS = sizeof controls / sizeof controls[0] };

static int control(const char *content) {
    for (int i = 0; i < NUM_CONTROLS; i++)
        if (strcmp(controls[i].content, content) == 0) return 256 + i;
    fail_msg("%s", content);
    return -1;
}

static fr_tokenizer *chat_tokenizer(const char *config) {
    cJSON *toy = toy_create();
    for (int i = 0; i < NUM_CONTROLS; i++) toy_add(toy, controls[i].content, controls[i].special, false);
    toy_add(toy, "word", false, false); /* an added token that controls nothing */
    return toy_finish(toy, config);
}

static void use_format(fr_tokenizer *tokenizer, const char *name, const char *text) {
    fr_error error = {0};
    if (fr_chat_recognize(&tokenizer->chat, tokenizer, text, NULL, name, NULL, &error) != FR_OK) fail_msg("%s", error.message);
    assert_string_equal(fr_tokenizer_chat_format(tokenizer), name);
}

/* ---- Texts --------------------------------------------------------------------------------------------------------------- */

static void check(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, fr_chat_options options,
                  const char *expected) {
    char *text;
    fr_error error = {0};
    if (fr_chat_render(tokenizer, turns, count, &options, &text, &error) != FR_OK) fail_msg("%s", error.message);
    assert_string_equal(text, expected);
    fr_free(text);
}

static fr_chat_role role_of(const char *name) {
    return strcmp(name, "system") == 0 ? FR_CHAT_SYSTEM : strcmp(name, "user") == 0 ? FR_CHAT_USER : FR_CHAT_ASSISTANT;
}

static void conversations_are_those_of_the_templates(void **state) {
    (void)state;
    size_t length;
    char *json = scratch_read(FR_TEST_DIR "/data/chat-formats.json", &length);
    cJSON *data = toy_parse(json), *item, *turn;
    fr_tokenizer *deepseek = chat_tokenizer(CONFIG(TOY_BOS, "false")), *gigachat = chat_tokenizer(CONFIG("<s>", "false"));
    int checked = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(data, "conversations")) {
        const char *format = cJSON_GetObjectItem(item, "format")->valuestring;
        const cJSON *think = cJSON_GetObjectItem(item, "think");
        fr_chat_options options = {.reply = true};
        if (cJSON_IsString(think)) options.think = strcmp(think->valuestring, "on") == 0 ? FR_THINK_ON : FR_THINK_OFF;
        fr_chat_turn turns[8];
        size_t count = 0;
        cJSON_ArrayForEach(turn, cJSON_GetObjectItem(item, "turns")) turns[count++] =
            (fr_chat_turn){role_of(turn->child->valuestring), turn->child->next->valuestring};
        fr_tokenizer *tokenizer = strcmp(format, "gigachat3") == 0 ? gigachat : deepseek;
        use_format(tokenizer, format,
                   "x {%- set DEVSYSTEM -%}\n<rules>\nRules of the house.\n\nA dialog will follow.\n{%- endset -%} y");
        check(tokenizer, turns, count, options, cJSON_GetObjectItem(item, "text")->valuestring);
        checked++;
    }
    assert_true(checked > 40);
    fr_tokenizer_destroy(deepseek);
    fr_tokenizer_destroy(gigachat);
    cJSON_Delete(data);
    free(json);
}

/* Formats whose templates are not at hand, as their makers and others describe them. */
static void conversations_are_those_that_are_described(void **state) {
    (void)state;
    static const char *const answer = "<think>\nHm.\n</think>\n\nHello.";
    static const struct {
        const char *format;
        fr_think think;
        const char *expected;
    } cases[] = {
        {"deepseek-r1", FR_THINK_AUTO,
         TOY_BOS "S" TOY_USER "A" TOY_ASSISTANT "\n\nHello." TOY_EOS TOY_USER "B" TOY_ASSISTANT "<think>\n"},
        {"deepseek-r1", FR_THINK_ON,
         TOY_BOS "S" TOY_USER "A" TOY_ASSISTANT "\n\nHello." TOY_EOS TOY_USER "B" TOY_ASSISTANT "<think>\n"},
        {"deepseek-r1-0528", FR_THINK_AUTO,
         TOY_BOS "S" TOY_USER "A" TOY_ASSISTANT "\n\nHello." TOY_EOS TOY_USER "B" TOY_ASSISTANT},
        {"deepseek-v3.2", FR_THINK_AUTO,
         TOY_BOS "S" TOY_USER "A" TOY_ASSISTANT "</think>\n\nHello." TOY_EOS TOY_USER "B" TOY_ASSISTANT "</think>"},
        {"deepseek-v3.2", FR_THINK_ON,
         TOY_BOS "S" TOY_USER "A" TOY_ASSISTANT "</think>\n\nHello." TOY_EOS TOY_USER "B" TOY_ASSISTANT "<think>"},
        {"glm-5.2", FR_THINK_AUTO,
         "[gMASK]<sop><|system|>Reasoning Effort: Max<|system|>S<|user|>A<|assistant|><think></think>Hello.<|user|>B<|assistant|>"
         "<think>"},
        {"glm-5.2", FR_THINK_OFF,
         "[gMASK]<sop><|system|>S<|user|>A<|assistant|><think></think>Hello.<|user|>B<|assistant|><think></think>"},
    };
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, "S"}, {FR_CHAT_USER, "A"}, {FR_CHAT_ASSISTANT, answer}, {FR_CHAT_USER, "B"}};
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG(TOY_BOS, "false"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        use_format(tokenizer, cases[i].format, NULL);
        check(tokenizer, turns, 4, (fr_chat_options){.reply = true, .think = cases[i].think}, cases[i].expected);
    }
    use_format(tokenizer, "kimi-k2", NULL);
    check(tokenizer, turns + 1, 1, (fr_chat_options){.reply = true},
          "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>\n"
          "<|im_user|>user<|im_middle|>A<|im_end|><|im_assistant|>assistant<|im_middle|>");
    check(tokenizer, turns, 2, (fr_chat_options){.reply = true},
          "<|im_system|>system<|im_middle|>S<|im_end|><|im_user|>user<|im_middle|>A<|im_end|><|im_assistant|>assistant<|im_"
          "middle|>");
    fr_tokenizer_destroy(tokenizer);
}

static void system_turns_go_where_the_format_has_them(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG(TOY_BOS, "true"));
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, "S"}, {FR_CHAT_USER, "A"}, {FR_CHAT_SYSTEM, "T"}};
    use_format(tokenizer, "deepseek-v3", NULL);
    check(tokenizer, turns, 3, (fr_chat_options){0}, "S\n\nT" TOY_USER "A");
    check(tokenizer, NULL, 0, (fr_chat_options){0}, "");
    check(tokenizer, NULL, 0, (fr_chat_options){.reply = true}, TOY_ASSISTANT);
    use_format(tokenizer, "glm-4.7", NULL);
    check(tokenizer, turns, 3, (fr_chat_options){0}, "[gMASK]<sop><|system|>S<|user|>A<|system|>T");
    check(tokenizer, turns + 1, 1, (fr_chat_options){.goes_on = true, .reply = true}, "<|user|>A<|assistant|><think>");
    fr_tokenizer_destroy(tokenizer);
}

/* With what has been answered, a conversation begins with the text that was answered: a KV cache can be kept. */
static void a_conversation_without_thinking_grows_at_its_end(void **state) {
    (void)state;
    static const char *const names[] = {"deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "glm-4.7",
                                        "glm-5.2",     "gigachat3",     "kimi",          "kimi-k2"};
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG(TOY_BOS, "false"));
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, "S"}, {FR_CHAT_USER, "A"}, {FR_CHAT_ASSISTANT, "B"}, {FR_CHAT_USER, "C"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fr_chat_options options = {.reply = true};
        char *before, *after, *rest;
        use_format(tokenizer, names[i], NULL);
        if (tokenizer->chat.format->thinking == FR_CHAT_THINKS_OR_NOT) options.think = FR_THINK_OFF;
        assert_int_equal(fr_chat_render(tokenizer, turns, 2, &options, &before, NULL), FR_OK);
        assert_int_equal(fr_chat_render(tokenizer, turns, 4, &options, &after, NULL), FR_OK);
        assert_memory_equal(after, before, strlen(before));
        assert_int_equal(after[strlen(before)], 'B');
        options.goes_on = true;
        assert_int_equal(fr_chat_render(tokenizer, turns + 3, 1, &options, &rest, NULL), FR_OK);
        assert_string_equal(after + strlen(after) - strlen(rest), rest);
        fr_free(before);
        fr_free(after);
        fr_free(rest);
    }
    fr_tokenizer_destroy(tokenizer);
}

/* ---- Tokens ---------------------------------------------------------------------------------------------------------------- */

static void check_tokens(const fr_tokenizer *tokenizer, const char *message, bool raw, const int32_t *expected, size_t count) {
    const fr_chat_turn turn = {FR_CHAT_USER, message};
    const fr_chat_options options = {.reply = true, .raw_special = raw};
    int32_t *tokens;
    size_t found;
    assert_int_equal(fr_chat_encode(tokenizer, &turn, 1, &options, &tokens, &found, NULL), FR_OK);
    for (size_t i = 0; i < found && i < count; i++)
        if (tokens[i] != expected[i])
            fail_msg("'%s': token %zu is %d, expected %d", message, i, (int)tokens[i], (int)expected[i]);
    assert_int_equal(found, count);
    fr_free(tokens);
}

static void bos_appears_once(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int bos;
    } cases[] = {{CONFIG(TOY_BOS, "true"), 1}, {CONFIG(TOY_BOS, "false"), 1}, {"{}", 0}, {NULL, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_tokenizer *tokenizer = chat_tokenizer(cases[i].config);
        const fr_chat_turn turn = {FR_CHAT_USER, "U"};
        const int32_t expected[] = {256, control(TOY_USER), 'U', control(TOY_ASSISTANT)};
        char *text;
        int32_t *tokens;
        size_t count;
        use_format(tokenizer, "deepseek-v3", NULL);
        assert_int_equal(fr_chat_render(tokenizer, &turn, 1, &(fr_chat_options){.reply = true}, &text, NULL), FR_OK);
        assert_int_equal(fr_tokenizer_encode(tokenizer, text, strlen(text), true, &tokens, &count, NULL), FR_OK);
        assert_int_equal(count, 3 + cases[i].bos);
        assert_memory_equal(tokens, expected + 1 - cases[i].bos, count * sizeof *tokens);
        check_tokens(tokenizer, "U", false, expected + 1 - cases[i].bos, count);
        fr_free(text);
        fr_free(tokens);
        use_format(tokenizer, "glm-4.7", NULL); /* has its own beginning */
        const int32_t glm[] = {control("[gMASK]"),       control("<sop>"),  control("<|user|>"), 'U',
                               control("<|assistant|>"), control("<think>")};
        check_tokens(tokenizer, "U", false, glm, 6);
        fr_tokenizer_destroy(tokenizer);
    }
}

static void control_tokens_in_a_message_are_text(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG(TOY_BOS, "true"));
    for (int i = 0; i < NUM_CONTROLS; i++) {
        const char *typed = controls[i].content;
        size_t length = strlen(typed), n = 0;
        int32_t expected[64] = {256, control(TOY_USER)};
        use_format(tokenizer, "deepseek-v3", NULL);
        for (n = 2; n < 2 + length; n++) expected[n] = (uint8_t)typed[n - 2];
        expected[n++] = control(TOY_ASSISTANT);
        check_tokens(tokenizer, typed, false, expected, n);
        check_tokens(tokenizer, typed, true, (int32_t[]){256, control(TOY_USER), 256 + i, control(TOY_ASSISTANT)}, 4);
    }
    /* added tokens that control nothing are the model's way to write words */
    check_tokens(tokenizer, "a word", false,
                 (int32_t[]){256, control(TOY_USER), 'a', ' ', 256 + NUM_CONTROLS, control(TOY_ASSISTANT)}, 6);
    /* a token of the template is not made with what was typed beside it */
    check_tokens(tokenizer, "<", false, (int32_t[]){256, control(TOY_USER), '<', control(TOY_ASSISTANT)}, 4);
    fr_tokenizer_destroy(tokenizer);
}

static void answers_end_with_the_tokens_of_the_format(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(CONFIG(TOY_BOS, "true"));
    assert_false(fr_chat_ends(tokenizer, control(TOY_EOS)));
    assert_int_equal(fr_chat_end_token(tokenizer), -1);
    use_format(tokenizer, "gigachat3", NULL);
    assert_true(fr_chat_ends(tokenizer, control("<|message_sep|>\n\n")));
    assert_int_equal(fr_chat_end_token(tokenizer), control("<|message_sep|>\n\n"));
    use_format(tokenizer, "kimi", NULL);
    assert_true(fr_chat_ends(tokenizer, control("<|im_end|>")));
    assert_false(fr_chat_ends(tokenizer, 'a'));
    use_format(tokenizer, "glm-4.7", NULL);
    assert_true(fr_chat_ends(tokenizer, control("<|user|>")));
    assert_true(fr_chat_ends(tokenizer, control("<|observation|>")));
    assert_int_equal(fr_chat_end_token(tokenizer), -1); /* the next turn's first token ends it */
    fr_tokenizer_destroy(tokenizer);
}

/* ---- Recognition ------------------------------------------------------------------------------------------------------------
 */

/* What is recognised in a template, and how many notices tell of it. */
static void check_recognized(fr_tokenizer *tokenizer, const char *text, const char *type, const char *expected,
                             size_t num_notices, const char *says) {
    fr_notices notices = {0};
    fr_error error = {0};
    assert_int_equal(fr_chat_recognize(&tokenizer->chat, tokenizer, text, type, NULL, &notices, &error), FR_OK);
    const char *found = fr_tokenizer_chat_format(tokenizer);
    if (!expected != !found || (found && strcmp(found, expected) != 0))
        fail_msg("'%.60s': %s, expected %s", text ? text : "no template", found ? found : "nothing",
                 expected ? expected : "nothing");
    assert_int_equal(notices.count, num_notices);
    if (says && !strstr(notices.list[0].why, says)) fail_msg("'%s' does not say '%s'", notices.list[0].why, says);
}

static void templates_are_recognized_by_what_is_in_them(void **state) {
    (void)state;
    static const struct {
        const char *text, *format;
    } cases[] = {
        {"{{'<｜User｜>' + c + '<｜Assistant｜>'}}", "deepseek-v3"},
        {"{{'<｜User｜>'}}{% set c = c.split('</think>')[-1] %}{{'<｜Assistant｜><think>\\n'}}", "deepseek-r1"},
        {"{{'<｜User｜>'}}{% set c = c.split('</think>')[-1] %}{{'<｜Assistant｜>'}}", "deepseek-r1-0528"},
        {"{{'<｜User｜>'}}{% if not thinking %}{{'<｜Assistant｜>'}}{% set c = c.split('</think>', 1)[1] %}", "deepseek-v3.1"},
        {"[gMASK]<sop><|user|>{{ c }}<|assistant|>{{ '</think>' if (enable_thinking is defined and not enable_thinking) else "
         "'<think>' }}",
         "glm-4.7"},
        {"[gMASK]<sop><|system|>Reasoning Effort: {{ e }}<|assistant|>{{ '<think></think>' }}", "glm-5.2"},
        {"{% set sep = \"<|role_sep|>\\n\" %}{% set end = \"<|message_sep|>\\n\\n\" %}", "gigachat3"},
        {"{{ '<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>' }}<|im_assistant|>", "kimi"},
        {"<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|><|im_assistant|>",
         "kimi-k2"},
        /* near them, and none of them */
        {"", NULL},
        {"<|im_start|>user", NULL},
        {"[gMASK]<sop><|user|>\n{{ c }}<|assistant|>{{ '</think>' if (enable_thinking is defined and not enable_thinking) else "
         "'<think>' }}",
         NULL},
        {"<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|><|im_assistant|><think></think>", NULL},
        {"{{'<｜User｜>' + c + '<｜Assistant｜>'}}{{ '<think>' if x }}", NULL},
    };
    fr_tokenizer *tokenizer = chat_tokenizer(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_recognized(tokenizer, cases[i].text, "deepseek_v3", cases[i].format, 1,
                         cases[i].format ? "taken for" : "none of those that are known");
    fr_tokenizer_destroy(tokenizer);
}

static void a_template_that_was_compared_needs_no_notice(void **state) {
    (void)state;
    size_t length;
    char *json = scratch_read(FR_TEST_DIR "/../models/demo/tokenizer_config.json", &length), other[2048];
    cJSON *config = toy_parse(json);
    const char *text = cJSON_GetObjectItem(config, "chat_template")->valuestring;
    fr_tokenizer *tokenizer = chat_tokenizer(NULL);
    check_recognized(tokenizer, text, NULL, "deepseek-v3", 0, NULL);
    snprintf(other, sizeof other, "\n %s\r\n", text);
    check_recognized(tokenizer, other, NULL, "deepseek-v3", 0, NULL);
    snprintf(other, sizeof other, "%s!", text);
    check_recognized(tokenizer, other, NULL, "deepseek-v3", 1, "not the one that was compared");
    fr_tokenizer_destroy(tokenizer);
    cJSON_Delete(config);
    free(json);
}

static void without_a_template_the_model_type_and_tokens_tell(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(NULL), *base = toy_finish(toy_create(), NULL);
    check_recognized(tokenizer, NULL, "deepseek_v32", "deepseek-v3.2", 1, "the checkpoint has none");
    check_recognized(tokenizer, NULL, "deepseek_v3", "deepseek-v3", 1, "the checkpoint has none");
    check_recognized(tokenizer, NULL, "joyai_llm_flash", NULL, 0, NULL);
    check_recognized(tokenizer, NULL, NULL, NULL, 0, NULL);
    check_recognized(base, NULL, "deepseek_v32", NULL, 0, NULL);
    fr_tokenizer_destroy(tokenizer);
    fr_tokenizer_destroy(base);
}

/* Where a checkpoint keeps its template: a file of its own comes first, and a list has a default. */
static void templates_are_found_in_the_files(void **state) {
    (void)state;
    static const char *const kimi = "<|im_middle|><|im_assistant|>You are a helpful assistant<|im_end|>";
    cJSON *toy = toy_create();
    for (int i = 0; i < NUM_CONTROLS; i++) toy_add(toy, controls[i].content, controls[i].special, false);
    char *json = cJSON_PrintUnformatted(toy);
    scratch s = scratch_create();
    fr_tokenizer *tokenizer;
    scratch_write_text(&s, "tokenizer.json", json);
    scratch_write_text(&s, "config.json", "{\"model_type\": \"deepseek_v32\"}");
    assert_int_equal(fr_tokenizer_load(s.dir, &tokenizer, NULL), FR_OK);
    assert_null(fr_tokenizer_chat_format(tokenizer));
    static const struct {
        const char *config, *file, *expected;
    } cases[] = {
        {"{}", NULL, "deepseek-v3.2"},
        {"{\"chat_template\": \"<｜User｜><｜Assistant｜>\"}", NULL, "deepseek-v3"},
        {"{\"chat_template\": [{\"name\": \"tools\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": "
         "\"<｜User｜><｜Assistant｜>\"}]}",
         NULL, "deepseek-v3"},
        {"{\"chat_template\": 3}", NULL, "deepseek-v3.2"},
        {"{\"chat_template\": \"<｜User｜><｜Assistant｜>\"}", kimi, "kimi"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_write_text(&s, "tokenizer_config.json", cases[i].config);
        if (cases[i].file) scratch_write_text(&s, "chat_template.jinja", cases[i].file);
        assert_int_equal(fr_tokenizer_load_chat(tokenizer, s.dir, NULL, NULL, NULL), FR_OK);
        assert_string_equal(fr_tokenizer_chat_format(tokenizer), cases[i].expected);
    }
    fr_tokenizer_destroy(tokenizer);
    scratch_destroy(&s);
    free(json);
    cJSON_Delete(toy);
}

/* ---- Errors -----------------------------------------------------------------------------------------------------------------
 */

static void check_refused(const fr_tokenizer *tokenizer, fr_think think, const char *says) {
    char *text = NULL;
    int32_t *tokens = NULL;
    size_t count;
    fr_error error = {0};
    const fr_chat_turn turn = {FR_CHAT_USER, "U"};
    const fr_chat_options options = {.think = think};
    assert_int_equal(fr_chat_render(tokenizer, &turn, 1, &options, &text, &error), FR_ERROR_UNSUPPORTED);
    if (!strstr(error.message, says)) fail_msg("'%s' does not say '%s'", error.message, says);
    assert_int_equal(fr_chat_encode(tokenizer, &turn, 1, &options, &tokens, &count, &error), FR_ERROR_UNSUPPORTED);
    assert_null(text);
    assert_null(tokens);
}

static void what_a_format_cannot_do_is_refused(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = chat_tokenizer(NULL), *base = toy_finish(toy_create(), NULL);
    fr_error error = {0};
    check_refused(tokenizer, FR_THINK_AUTO, "no chat template");
    check_recognized(tokenizer, "<|im_start|>", NULL, NULL, 1, NULL);
    check_refused(tokenizer, FR_THINK_AUTO, "not known");
    use_format(tokenizer, "deepseek-v3", NULL);
    check_refused(tokenizer, FR_THINK_ON, "no thinking");
    use_format(tokenizer, "deepseek-r1", NULL);
    check_refused(tokenizer, FR_THINK_OFF, "cannot be turned off");
    use_format(base, "deepseek-v3", NULL);
    check_refused(base, FR_THINK_AUTO, TOY_USER);
    assert_int_equal(fr_chat_recognize(&base->chat, base, NULL, NULL, "nonsense", NULL, &error), FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "nonsense"));
    for (int i = 0; fr_chat_format_at(i); i++) assert_non_null(strstr(error.hint, fr_chat_format_at(i)->name));
    fr_tokenizer_destroy(tokenizer);
    fr_tokenizer_destroy(base);
}

static void missing_tokens_are_named(void **state) {
    (void)state;
    static const char *const needed[] = {TOY_USER, TOY_ASSISTANT, TOY_EOS};
    for (size_t missing = 0; missing < 3; missing++) {
        cJSON *toy = toy_create();
        for (size_t i = 0; i < 3; i++)
            if (i != missing) toy_add(toy, needed[i], false, false);
        fr_tokenizer *tokenizer = toy_finish(toy, NULL);
        use_format(tokenizer, "deepseek-v3", NULL);
        check_refused(tokenizer, FR_THINK_AUTO, needed[missing]);
        fr_tokenizer_destroy(tokenizer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_those_of_the_templates),
        cmocka_unit_test(conversations_are_those_that_are_described),
        cmocka_unit_test(system_turns_go_where_the_format_has_them),
        cmocka_unit_test(a_conversation_without_thinking_grows_at_its_end),
        cmocka_unit_test(bos_appears_once),
        cmocka_unit_test(control_tokens_in_a_message_are_text),
        cmocka_unit_test(answers_end_with_the_tokens_of_the_format),
        cmocka_unit_test(templates_are_recognized_by_what_is_in_them),
        cmocka_unit_test(a_template_that_was_compared_needs_no_notice),
        cmocka_unit_test(without_a_template_the_model_type_and_tokens_tell),
        cmocka_unit_test(templates_are_found_in_the_files),
        cmocka_unit_test(what_a_format_cannot_do_is_refused),
        cmocka_unit_test(missing_tokens_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
