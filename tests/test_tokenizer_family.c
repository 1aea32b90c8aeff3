/* The family's tokenizers against what the libraries that they were made for compute (data/family-encodings.json says how):
 * where GLM's, GigaChat3's and Kimi's patterns cut, and tiktoken.model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/memory.h"
#include "text/pretokenize.h"
#include "toy_tokenizer.h"

#define NUM_PAIRS (256 + 256 * 256) /* tokens of the vocabulary of bytes and pairs: id 256 + 256 * first + second */
#define KIMI_CLASS "\"tokenizer_class\": \"TikTokenTokenizer\""

static cJSON *data;

static int load(void **state) {
    (void)state;
    size_t length;
    char *text = scratch_read(FR_TEST_DIR "/data/family-encodings.json", &length);
    data = toy_parse(text);
    free(text);
    return 0;
}

static int unload(void **state) {
    (void)state;
    cJSON_Delete(data);
    return 0;
}

/* ---- Splits ---- */

typedef struct cuts {
    const char *text;
    const cJSON *next; /* bytes of the piece that is to come */
} cuts;

static fr_status expect_piece(void *user, const uint8_t *piece, size_t length, fr_error *error) {
    cuts *c = user;
    (void)error;
    if (!c->next || (size_t)c->next->valueint != length)
        fail_msg("'%s': a piece '%.*s' of %zu bytes, expected %d", c->text, (int)length, (const char *)piece, length,
                 c->next ? c->next->valueint : 0);
    c->next = c->next->next;
    return FR_OK;
}

static void check_cuts(const char *name) {
    const cJSON *kind = cJSON_GetObjectItem(data, name), *item;
    fr_pretokenizer pretokenizer = {0};
    fr_pretokenize_scratch work = {0};
    fr_error error = {0};
    int count = 0;
    if (fr_pretokenizer_parse(&pretokenizer, cJSON_GetObjectItem(kind, "pre_tokenizer"), &error) != FR_OK)
        fail_msg("%s", error.message);
    assert_int_equal(fr_pretokenize_scratch_create(&work, &error), FR_OK);
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(kind, "cuts")) {
        cuts c = {cJSON_GetObjectItem(item, "text")->valuestring, cJSON_GetObjectItem(item, "pieces")->child};
        if (fr_pretokenize(&pretokenizer, &work, (const uint8_t *)c.text, strlen(c.text), expect_piece, &c, &error) != FR_OK)
            fail_msg("%s", error.message);
        assert_null(c.next);
        count++;
    }
    assert_true(count > 100);
    fr_pretokenize_scratch_release(&work);
    fr_pretokenizer_release(&pretokenizer);
}

static void texts_are_cut_as_glm_cuts_them(void **state) {
    (void)state;
    check_cuts("glm");
}

static void texts_are_cut_as_gigachat_cuts_them(void **state) {
    (void)state;
    check_cuts("gigachat");
}

static void texts_are_cut_as_kimi_cuts_them(void **state) {
    (void)state;
    check_cuts("kimi");
}

/* ---- tiktoken.model ---- */

static void write_base64(FILE *to, const uint8_t *bytes, int count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = (unsigned)bytes[0] << 16 | (count > 1 ? (unsigned)bytes[1] << 8 : 0);
    fprintf(to, "%c%c%c=", digits[bits >> 18], digits[bits >> 12 & 63], count > 1 ? digits[bits >> 6 & 63] : '=');
}

/* The vocabulary of bytes and, if asked for, pairs. */
static char *vocabulary(bool pairs) {
    char *text;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    assert_non_null(to);
    for (int i = 0; i < (pairs ? NUM_PAIRS : 256); i++) {
        uint8_t bytes[2] = {(uint8_t)(i < 256 ? i : (i - 256) >> 8), (uint8_t)(i & 255)};
        write_base64(to, bytes, i < 256 ? 1 : 2);
        fprintf(to, " %d\n", i);
    }
    fclose(to);
    return text;
}

static fr_status load_tiktoken(const char *vocab, const char *config, fr_tokenizer **out, fr_error *error) {
    scratch s = scratch_create();
    scratch_write_text(&s, "tiktoken.model", vocab);
    if (config) scratch_write_text(&s, "tokenizer_config.json", config);
    assert_true(fr_tokenizer_present(s.dir));
    fr_status status = fr_tokenizer_load(s.dir, out, error);
    scratch_destroy(&s);
    return status;
}

/* The special tokens that the data were made with: 65792 [BOS] to 65795 <|im_user|>, and reserved ones. */
static fr_tokenizer *pairs_tokenizer(void) {
    static const char config[] =
        "{" KIMI_CLASS ", \"bos_token\": \"[BOS]\", \"eos_token\": \"[EOS]\", \"added_tokens_decoder\": {"
        "\"65792\": {\"content\": \"[BOS]\", \"special\": true}, "
        "\"65793\": {\"content\": \"[EOS]\", \"special\": true}, "
        "\"65794\": {\"content\": \"<|im_end|>\", \"special\": true}, "
        "\"65795\": {\"content\": \"<|im_user|>\", \"special\": true}}}";
    fr_tokenizer *tokenizer;
    fr_error error = {0};
    char *vocab = vocabulary(true);
    if (load_tiktoken(vocab, config, &tokenizer, &error) != FR_OK) fail_msg("%s", error.message);
    free(vocab);
    return tokenizer;
}

static int check_encodings(const fr_tokenizer *tokenizer, const char *name, bool special) {
    const cJSON *item, *id;
    int checked = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(data, name)) {
        const char *text = cJSON_GetObjectItem(item, "text")->valuestring;
        int32_t *tokens;
        size_t count, i = 0, length;
        char *back;
        assert_int_equal(fr_tokenizer_encode(tokenizer, text, strlen(text), special, &tokens, &count, NULL), FR_OK);
        cJSON_ArrayForEach(id, cJSON_GetObjectItem(item, "tokens")) {
            if (i == count || tokens[i] != id->valueint)
                fail_msg("'%s': token %zu is %d, expected %d", text, i, i < count ? (int)tokens[i] : -1, id->valueint);
            i++;
        }
        assert_int_equal(i, count);
        assert_int_equal(fr_tokenizer_decode(tokenizer, tokens, count, true, &back, &length, NULL), FR_OK);
        assert_string_equal(back, text);
        fr_free(tokens);
        fr_free(back);
        checked++;
    }
    return checked;
}

static void encodings_are_those_of_tiktoken(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = pairs_tokenizer();
    assert_int_equal(fr_tokenizer_size(tokenizer), NUM_PAIRS + 258);
    assert_true(check_encodings(tokenizer, "tiktoken", true) > 100);
    assert_int_equal(check_encodings(tokenizer, "tiktoken_ordinary", false), 1);
    fr_tokenizer_destroy(tokenizer);
}

static void special_tokens_behind_a_tiktoken_vocabulary_have_names(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = pairs_tokenizer();
    assert_int_equal(fr_tokenizer_bos(tokenizer), NUM_PAIRS);
    assert_int_equal(fr_tokenizer_eos(tokenizer), NUM_PAIRS + 1);
    assert_false(fr_tokenizer_add_bos(tokenizer));
    assert_int_equal(fr_tokenizer_find(tokenizer, "<|im_end|>"), NUM_PAIRS + 2);
    assert_int_equal(fr_tokenizer_find(tokenizer, "<|reserved_token_66049|>"), NUM_PAIRS + 257);
    assert_int_equal(fr_tokenizer_find(tokenizer, "<|reserved_token_66050|>"), -1);
    assert_true(fr_tokenizer_is_special(tokenizer, NUM_PAIRS + 4));
    fr_tokenizer_destroy(tokenizer);
}

/* A token of two bytes is merged by rank even when its bytes are also parts of others; a whole piece is its own token. */
static void ranks_order_the_merges_of_a_tiktoken_vocabulary(void **state) {
    (void)state;
    char *bytes = vocabulary(false), vocab[8192];
    fr_tokenizer *tokenizer;
    fr_error error = {0};
    int32_t *tokens;
    size_t count;
    /* bc, ab, abc, and bcd, which no two tokens but b and cd (which is none), or bc and d, make up */
    snprintf(vocab, sizeof vocab, "%sYmM= 256\nYWI= 257\nYWJj 258\nYmNk 259", bytes);
    if (load_tiktoken(vocab, "{" KIMI_CLASS "}", &tokenizer, &error) != FR_OK) fail_msg("%s", error.message);
    assert_int_equal(fr_tokenizer_encode(tokenizer, "abcd", 4, false, &tokens, &count, NULL), FR_OK);
    assert_int_equal(count, 2); /* a bc d, abc d: abc comes before bcd */
    assert_int_equal(tokens[0], 258);
    assert_int_equal(tokens[1], 'd');
    fr_free(tokens);
    fr_tokenizer_destroy(tokenizer);
    free(bytes);
}

static void check_refused(const char *vocab, const char *config, fr_status expected, const char *what) {
    fr_tokenizer *tokenizer;
    fr_error error = {0};
    fr_status status = load_tiktoken(vocab, config, &tokenizer, &error);
    if (status != expected) fail_msg("%s: %s", what, status == FR_OK ? "accepted" : error.message);
    if (!strstr(error.message, what)) fail_msg("'%s' does not say '%s'", error.message, what);
    if (!strstr(error.message, "tiktoken.model")) fail_msg("'%s' does not name the file", error.message);
}

static void wrong_tiktoken_files_are_refused(void **state) {
    (void)state;
    static const char config[] = "{" KIMI_CLASS "}";
    static const char *const lines[] = {"YmM=\n",     "YmM 256\n", "Y*M= 256\n", "YmM= \n",
                                        "YmM= 257\n", "YmM= 2x\n", "= 256\n",    "\n"};
    char *bytes = vocabulary(false), vocab[8192];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        snprintf(vocab, sizeof vocab, "%s%s", bytes, lines[i]);
        check_refused(vocab, config, FR_ERROR_FORMAT, "line 257: expected");
    }
    snprintf(vocab, sizeof vocab, "%sYQ== 256\n", bytes);
    check_refused(vocab, config, FR_ERROR_FORMAT, "twice");
    check_refused("YQ== 0\n", config, FR_ERROR_UNSUPPORTED, "no token for the byte 0x00");
    check_refused("", config, FR_ERROR_UNSUPPORTED, "no token for the byte");
    check_refused(bytes, NULL, FR_ERROR_UNSUPPORTED, "tokenizer_class \"none\"");
    check_refused(bytes, "{\"tokenizer_class\": \"Other\"}", FR_ERROR_UNSUPPORTED, "\"Other\"");
    check_refused(bytes, "{" KIMI_CLASS ", \"added_tokens_decoder\": {\"256\": {\"content\": \"\"}}}", FR_ERROR_FORMAT, "256");
    check_refused(bytes,
                  "{" KIMI_CLASS ", \"added_tokens_decoder\": {\"256\": {\"content\": \"x\"}, \"257\": {\"content\": \"x\"}}}",
                  FR_ERROR_FORMAT, "\"x\" is there twice");
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut_as_glm_cuts_them),
        cmocka_unit_test(texts_are_cut_as_gigachat_cuts_them),
        cmocka_unit_test(texts_are_cut_as_kimi_cuts_them),
        cmocka_unit_test(encodings_are_those_of_tiktoken),
        cmocka_unit_test(special_tokens_behind_a_tiktoken_vocabulary_have_names),
        cmocka_unit_test(ranks_order_the_merges_of_a_tiktoken_vocabulary),
        cmocka_unit_test(wrong_tiktoken_files_are_refused),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
