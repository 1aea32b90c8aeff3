/* Encoding and decoding: against a naive reference, and back again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "toy_tokenizer.h"

/* ---- Checks ---- */

static void check_tokens(const fr_tokenizer *tokenizer, const char *text, size_t length, bool special, const int32_t *expected,
                         size_t expected_count) {
    int32_t *tokens;
    size_t count;
    fr_error error = {0};
    if (fr_tokenizer_encode(tokenizer, text, length, special, &tokens, &count, &error) != FR_OK) fail_msg("%s", error.message);
    for (size_t i = 0; i < count && i < expected_count; i++)
        if (tokens[i] != expected[i])
            fail_msg("'%.*s': token %zu is %d, expected %d", (int)length, text, i, (int)tokens[i], (int)expected[i]);
    if (count != expected_count) fail_msg("'%.*s': %zu tokens, expected %zu", (int)length, text, count, expected_count);
    fr_free(tokens);
}

#define CHECK_TOKENS(tokenizer, text, special, ...)                                                                              \
    do {                                                                                                                         \
        const int32_t expected_[] = {__VA_ARGS__};                                                                               \
        check_tokens(tokenizer, text, strlen(text), special, expected_, sizeof expected_ / sizeof *expected_);                   \
    } while (0)

/* decode(encode(x)) == x, whatever the flags, once bos is taken off. */
static void check_round_trip(const fr_tokenizer *tokenizer, const char *text, size_t length) {
    for (int special = 0; special < 2; special++) {
        int32_t *tokens;
        size_t count, back_length;
        char *back;
        fr_error error = {0};
        assert_int_equal(fr_tokenizer_encode(tokenizer, text, length, special, &tokens, &count, &error), FR_OK);
        size_t skip = special && fr_tokenizer_add_bos(tokenizer);
        for (size_t i = 0; i < count; i++) assert_in_range(tokens[i], 0, fr_tokenizer_size(tokenizer) - 1);
        assert_int_equal(fr_tokenizer_decode(tokenizer, tokens + skip, count - skip, true, &back, &back_length, &error), FR_OK);
        assert_int_equal(back_length, length);
        if (length) assert_memory_equal(back, text, length);
        assert_int_equal(back[back_length], 0);
        fr_free(tokens);
        fr_free(back);
    }
}

/* ---- The reference: symbols are strings of the alphabet, merged one by one ---- */

typedef struct reference {
    cJSON *json;
    const cJSON *vocab, *merges;
} reference;

static reference reference_of(cJSON *json) {
    const cJSON *model = cJSON_GetObjectItem(json, "model");
    return (reference){json, cJSON_GetObjectItem(model, "vocab"), cJSON_GetObjectItem(model, "merges")};
}

static bool is_merge(const cJSON *merge, const char *left, const char *right) {
    if (cJSON_IsArray(merge))
        return strcmp(merge->child->valuestring, left) == 0 && strcmp(merge->child->next->valuestring, right) == 0;
    size_t n = strlen(left);
    const char *text = merge->valuestring;
    return strncmp(text, left, n) == 0 && text[n] == ' ' && strcmp(text + n + 1, right) == 0;
}

static int rank_of(const reference *r, const char *left, const char *right) {
    int rank = 0;
    const cJSON *merge;
    cJSON_ArrayForEach(merge, r->merges) {
        if (is_merge(merge, left, right)) return rank;
        rank++;
    }
    return INT32_MAX;
}

/* Appends the tokens of one piece. */
static size_t reference_encode(const reference *r, const char *piece, size_t length, int32_t *out) {
    char(*symbols)[128] = malloc((length + 1) * sizeof *symbols);
    int *ranks = malloc((length + 1) * sizeof *ranks);
    assert_true(symbols && ranks);
    size_t n = length;
    for (size_t i = 0; i < n; i++) strcpy(symbols[i], toy_byte((uint8_t)piece[i]));
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(r, symbols[i], symbols[i + 1]);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (n < 2 || ranks[best] == INT32_MAX) break;
        size_t left = strlen(symbols[best]);
        memmove(symbols[best] + left, symbols[best + 1], strlen(symbols[best + 1]) + 1);
        memmove(symbols[best + 1], symbols[best + 2], (n - best - 2) * sizeof *symbols);
        n--;
        for (size_t i = best; i + 1 < n; i++) ranks[i] = i > best ? ranks[i + 1] : rank_of(r, symbols[i], symbols[i + 1]);
        if (best) ranks[best - 1] = rank_of(r, symbols[best - 1], symbols[best]);
    }
    for (size_t i = 0; i < n; i++) {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(r->vocab, symbols[i]);
        assert_non_null(id);
        out[i] = id->valueint;
    }
    free(symbols);
    free(ranks);
    return n;
}

/* ---- Reference tokenizers ---- */

static const char *const models[] = {"pico-s1", "nano-mtp-s1"};

static fr_tokenizer *load_golden(const char *model) {
    char dir[1024];
    fr_tokenizer *tokenizer = NULL;
    fr_error error = {0};
    snprintf(dir, sizeof dir, "%s/golden/%s", FR_TEST_DIR, model);
    assert_true(fr_tokenizer_present(dir));
    if (fr_tokenizer_load(dir, &tokenizer, &error) != FR_OK) fail_msg("%s", error.message);
    return tokenizer;
}

/* Texts cut by hand where DeepSeek-V3's patterns cut them. */
static const char *const cut_texts[] = {
    "Hello|,| world|!",
    "   | def| __|init|__(|self|):\n",
    "x| =| |123|456|7|.|89|\n\n",
    "return| self|._|foo| +| '|bar|'\n\n|   \t\n|   | the| end|  ",
    "你好|，|世界|。\n|カタカナー|abc",
    "naïve| café|\r\n| |½①٣| Ω",
    ".foo|.bar| $|x|->|y|();",
    "a|\t|\tb|   | c",
};

static void golden_tokenizers_agree_with_the_reference(void **state) {
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char path[1024], *json;
        size_t length;
        snprintf(path, sizeof path, "%s/golden/%s/tokenizer.json", FR_TEST_DIR, models[m]);
        json = scratch_read(path, &length);
        reference r = reference_of(toy_parse(json));
        fr_tokenizer *tokenizer = load_golden(models[m]);
        for (size_t i = 0; i < sizeof cut_texts / sizeof *cut_texts; i++) {
            char text[256] = "";
            int32_t expected[256];
            size_t count = 0;
            for (const char *p = cut_texts[i]; *p;) {
                size_t n = strcspn(p, "|");
                strncat(text, p, n);
                count += reference_encode(&r, p, n, expected + count);
                p += p[n] ? n + 1 : n;
            }
            check_tokens(tokenizer, text, strlen(text), false, expected, count);
        }
        assert_true(fr_tokenizer_add_bos(tokenizer));
        assert_int_equal(fr_tokenizer_bos(tokenizer), 0);
        assert_int_equal(fr_tokenizer_eos(tokenizer), 1);
        CHECK_TOKENS(tokenizer, "", true, 0);
        CHECK_TOKENS(tokenizer, TOY_EOS "!", true, 0, 1, 3);
        fr_tokenizer_destroy(tokenizer);
        cJSON_Delete(r.json);
        free(json);
    }
}

/* ---- Merging ---- */

/* Random merges over three letters, so that many compete; pieces below and above where the algorithm changes. */
static void random_merges_agree_with_the_reference(void **state) {
    (void)state;
    uint64_t seed = 11;
    for (int round = 0; round < 12; round++) {
        cJSON *toy = toy_create();
        for (int i = 0; i < 40; i++) {
            /* two tokens from the letters and the merges so far */
            char sides[2][128];
            for (int side = 0; side < 2; side++) {
                uint32_t k = toy_random(&seed) % (uint32_t)(3 + i);
                const cJSON *merged = k < 3 ? NULL : cJSON_GetArrayItem(toy_vocab(toy), 253 + (int)k);
                snprintf(sides[side], sizeof sides[side], "%s", merged ? merged->string : toy_byte("abc"[k % 3]));
            }
            if (strlen(sides[0]) + strlen(sides[1]) < 24) toy_merge(toy, sides[0], sides[1], i % 2);
        }
        /* a pair that comes twice has its last rank, so the reference sees it once */
        reference r = reference_of(cJSON_Duplicate(toy, true));
        for (int i = cJSON_GetArraySize(r.merges) - 1; i > 0; i--)
            for (int j = i - 1; j >= 0; j--) {
                cJSON *a = cJSON_GetArrayItem(r.merges, i), *b = cJSON_GetArrayItem(r.merges, j);
                char left[128], right[128];
                if (cJSON_IsArray(a))
                    snprintf(left, 128, "%s", a->child->valuestring), snprintf(right, 128, "%s", a->child->next->valuestring);
                else
                    sscanf(a->valuestring, "%127s %127s", left, right);
                if (is_merge(b, left, right)) {
                    cJSON_DeleteItemFromArray((cJSON *)(uintptr_t)r.merges, j);
                    i--;
                }
            }
        fr_tokenizer *tokenizer = toy_finish(toy, NULL);
        for (int i = 0; i < 60; i++) {
            char text[200];
            int32_t expected[200];
            size_t length = 1 + toy_random(&seed) % (i % 2 ? 180 : 60);
            for (size_t j = 0; j < length; j++) text[j] = "abc"[toy_random(&seed) % 3];
            size_t count = reference_encode(&r, text, length, expected);
            check_tokens(tokenizer, text, length, false, expected, count);
        }
        fr_tokenizer_destroy(tokenizer);
        cJSON_Delete(r.json);
    }
}

static void the_leftmost_of_equal_merges_comes_first(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    int aa = toy_merge(toy, "a", "a", false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    CHECK_TOKENS(tokenizer, "aaa", false, aa, 'a');
    char many[101] = "";
    int32_t expected[51];
    for (int i = 0; i < 50; i++) expected[i] = aa;
    expected[50] = 'a';
    memset(many, 'a', sizeof many);
    check_tokens(tokenizer, many, sizeof many, false, expected, 51); /* also through the heap */
    fr_tokenizer_destroy(tokenizer);
}

/* 4 MB of one letter: hours, if each merge looked at everything. */
static void a_long_word_is_not_quadratic(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    toy_merge(toy, "a", "a", false);
    toy_merge(toy, "aa", "aa", true);
    int last = toy_merge(toy, "aaaa", "aaaa", false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    size_t length = (size_t)4 << 20, count;
    char *text = malloc(length);
    int32_t *tokens;
    assert_non_null(text);
    memset(text, 'a', length);
    assert_int_equal(fr_tokenizer_encode(tokenizer, text, length, false, &tokens, &count, NULL), FR_OK);
    assert_int_equal(count, length / 8);
    for (size_t i = 0; i < count; i++) assert_int_equal(tokens[i], last);
    fr_free(tokens);
    free(text);
    fr_tokenizer_destroy(tokenizer);
}

static void ignore_merges_takes_a_whole_piece(void **state) {
    (void)state;
    for (int ignore = 0; ignore < 2; ignore++) {
        cJSON *toy = toy_create();
        toy_set(toy_model(toy), "ignore_merges", ignore ? "true" : "false");
        toy_set(toy, "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}");
        int he = toy_merge(toy, "h", "e", false), word = toy_next_id(toy);
        cJSON_AddNumberToObject(toy_vocab(toy), "Ġhey", word); /* no merge leads to it */
        fr_tokenizer *tokenizer = toy_finish(toy, NULL);
        if (ignore)
            CHECK_TOKENS(tokenizer, "hey hey he", false, he, 'y', word, ' ', he);
        else
            CHECK_TOKENS(tokenizer, "hey hey he", false, he, 'y', ' ', he, 'y', ' ', he);
        check_round_trip(tokenizer, "hey hey he", 10);
        fr_tokenizer_destroy(tokenizer);
    }
}

/* ---- Added tokens ---- */

static void added_tokens_are_the_longest_at_each_place(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    toy_merge(toy, "<", "a", false);
    int a = toy_add(toy, "<a>", false, true), ab = toy_add(toy, "<a><b>", false, true);
    int b = toy_add(toy, "<b>", false, true), star = toy_add(toy, "**", false, true);
    int eos = toy_add(toy, TOY_EOS, true, false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    CHECK_TOKENS(tokenizer, "<a>", false, a);
    CHECK_TOKENS(tokenizer, "<a><b>", false, ab);
    CHECK_TOKENS(tokenizer, "<a><a><b><b>", false, a, ab, b);
    CHECK_TOKENS(tokenizer, "<a><b", false, a, '<', 'b');
    CHECK_TOKENS(tokenizer, "x***y", false, 'x', star, '*', 'y');
    CHECK_TOKENS(tokenizer, "x" TOY_EOS "y<b>", true, 'x', eos, 'y', b);
    assert_int_equal(fr_tokenizer_find(tokenizer, "<a>"), a);
    assert_int_equal(fr_tokenizer_find(tokenizer, TOY_EOS), eos);
    assert_int_equal(fr_tokenizer_find(tokenizer, "<"), -1); /* of the vocabulary, not added */
    check_round_trip(tokenizer, "<a><b" TOY_EOS "***<｜end▁of", strlen("<a><b" TOY_EOS "***<｜end▁of"));
    fr_tokenizer_destroy(tokenizer);
}

static void special_tokens_are_plain_text_unless_asked_for(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    int special = toy_add(toy, "<s>", true, false), added = toy_add(toy, "<t>", false, false);
    int within = toy_add(toy, "s>", false, false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    CHECK_TOKENS(tokenizer, "<s><t>", true, special, added);
    CHECK_TOKENS(tokenizer, "<s><t>", false, '<', within, added);
    fr_tokenizer_destroy(tokenizer);
}

/* Those matched before normalization win over those matched after it, even over longer and earlier ones. */
static void added_tokens_are_found_in_two_passes(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    int early = toy_add(toy, "bc", false, false);
    int late = toy_add(toy, "abcd", false, true), de = toy_add(toy, "de", false, true);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    CHECK_TOKENS(tokenizer, "abcde", false, 'a', early, de);
    fr_tokenizer_destroy(tokenizer);
    toy = toy_create();
    early = toy_add(toy, "bc", false, true);
    late = toy_add(toy, "abcd", false, true);
    tokenizer = toy_finish(toy, NULL);
    CHECK_TOKENS(tokenizer, "abcd bc", false, late, ' ', early);
    fr_tokenizer_destroy(tokenizer);
}

/* An added token cuts the text: no merge and no pattern sees across it. */
static void added_tokens_cut_the_text(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    int ab = toy_merge(toy, "a", "b", false), cut = toy_add(toy, "||", false, false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    CHECK_TOKENS(tokenizer, "aba||bab", false, ab, 'a', cut, 'b', ab);
    fr_tokenizer_destroy(tokenizer);
}

/* ---- bos and eos ---- */

static void bos_comes_from_the_config(void **state) {
    (void)state;
    static const struct {
        const char *config, *post_processor;
        bool bos_known, add_bos, eos_known;
    } cases[] = {
        {NULL, NULL, false, false, false},
        {"{}", NULL, false, false, false},
        {"{\"bos_token\": \"" TOY_BOS "\", \"eos_token\": {\"content\": \"" TOY_EOS "\"}}", NULL, true, false, true},
        {"{\"bos_token\": {\"content\": \"" TOY_BOS "\"}, \"add_bos_token\": true}", NULL, true, true, false},
        {NULL,
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"B\", \"type_id\": 0}}, "
         "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"special_tokens\": {\"B\": {\"id\": \"B\", \"ids\": "
         "[256]}}}",
         true, true, false},
        {"{\"add_bos_token\": false}",
         "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\", "
         "\"single\": [{\"SpecialToken\": {\"id\": \"B\"}}, {\"Sequence\": {\"id\": \"A\"}}], "
         "\"special_tokens\": {\"B\": {\"ids\": [256]}}}]}",
         true, false, false},
        {NULL, "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {}}", false,
         false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *toy = toy_create();
        int bos = toy_add(toy, TOY_BOS, true, false), eos = toy_add(toy, TOY_EOS, true, false);
        assert_int_equal(bos, 256);
        if (cases[i].post_processor) toy_set(toy, "post_processor", cases[i].post_processor);
        fr_tokenizer *tokenizer = toy_finish(toy, cases[i].config);
        assert_int_equal(fr_tokenizer_bos(tokenizer), cases[i].bos_known ? bos : -1);
        assert_int_equal(fr_tokenizer_eos(tokenizer), cases[i].eos_known ? eos : -1);
        assert_int_equal(fr_tokenizer_add_bos(tokenizer), cases[i].add_bos);
        if (cases[i].add_bos)
            CHECK_TOKENS(tokenizer, "x", true, bos, 'x');
        else
            CHECK_TOKENS(tokenizer, "x", true, 'x');
        CHECK_TOKENS(tokenizer, "x", false, 'x');
        fr_tokenizer_destroy(tokenizer);
    }
}

/* ---- Any bytes ---- */

/* Bytes that are not UTF-8 are tokens of their own, whatever merges there are for them. */
static void bytes_that_are_not_utf8_are_tokens_of_their_own(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    char pair[8];
    int ff = toy_merge(toy, toy_byte(0xff), toy_byte(0xff), false);
    snprintf(pair, sizeof pair, "%s", toy_byte(0xc3));
    int e_acute = toy_merge(toy, pair, toy_byte(0xa9), false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    (void)ff;
    CHECK_TOKENS(tokenizer, "\xff\xff", false, 0xff, 0xff);
    CHECK_TOKENS(tokenizer, "\xc3\xa9\xc3", false, e_acute, 0xc3);
    CHECK_TOKENS(tokenizer, "\xc3\xc3\xa9\xa9", false, 0xc3, e_acute, 0xa9);
    CHECK_TOKENS(tokenizer, "a\xed\xa0\x80", false, 'a', 0xed, 0xa0, 0x80);               /* a surrogate */
    CHECK_TOKENS(tokenizer, "\xf4\x90\x80\x80", false, 0xf4, 0x90, 0x80, 0x80);           /* above U+10FFFF */
    CHECK_TOKENS(tokenizer, "\xc0\xaf\xe0\x80\xaf", false, 0xc0, 0xaf, 0xe0, 0x80, 0xaf); /* overlong */
    fr_tokenizer_destroy(tokenizer);
}

static size_t random_character(uint64_t *seed, char *out) {
    static const uint32_t ends[] = {0x80, 0x80, 0x800, 0x3000, 0xa000, 0x10000, 0x110000};
    uint32_t c;
    do c = toy_random(seed) % ends[toy_random(seed) % 7];
    while (c >= 0xd800 && c < 0xe000);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return (size_t)n;
}

static void any_bytes_round_trip(void **state) {
    (void)state;
    static const char *const fragments[] = {TOY_BOS, TOY_EOS, "<｜", "\xef\xbd", "  \n", "\t ", "123456", "'s", "你好", "é"};
    uint64_t seed = 5;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        fr_tokenizer *tokenizer = load_golden(models[m]);
        check_round_trip(tokenizer, NULL, 0);
        for (int round = 0; round < 400; round++) {
            char text[700];
            size_t length = 0, target = toy_random(&seed) % 600;
            while (length < target) {
                switch ((round + toy_random(&seed) % 2) % 4) {
                case 0:
                    text[length++] = (char)toy_random(&seed);
                    break;
                case 1:
                    length += random_character(&seed, text + length);
                    break;
                case 2:
                    text[length++] = " \n\tabcXYZ019.,'<|>"[toy_random(&seed) % 18];
                    break;
                default: {
                    const char *fragment = fragments[toy_random(&seed) % 10];
                    memcpy(text + length, fragment, strlen(fragment));
                    length += strlen(fragment);
                }
                }
            }
            check_round_trip(tokenizer, text, length);
        }
        fr_tokenizer_destroy(tokenizer);
    }
}

/* Encoding shares nothing that changes. */
static void threads_share_a_tokenizer(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = load_golden("nano-mtp-s1");
    static const char text[] = "def f(self):\n    return 12345 + self.x # 你好 \xff the end";
    int32_t *expected;
    size_t expected_count;
    int wrong = 0;
    assert_int_equal(fr_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &expected, &expected_count, NULL), FR_OK);
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 200; i++) {
        int32_t *tokens = NULL;
        size_t count = 0;
        if (fr_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &tokens, &count, NULL) != FR_OK ||
            count != expected_count || memcmp(tokens, expected, count * sizeof *tokens) != 0)
            wrong++;
        fr_free(tokens);
    }
    assert_int_equal(wrong, 0);
    fr_free(expected);
    fr_tokenizer_destroy(tokenizer);
}

/* ---- Decoding ---- */

static void tokens_have_bytes(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    int ab = toy_merge(toy, "a", "b", false), special = toy_add(toy, TOY_EOS, true, false);
    int late = special + 10; /* leaves a hole */
    cJSON_AddNumberToObject(toy_vocab(toy), "Ġhi", late);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    size_t length;
    assert_int_equal(fr_tokenizer_size(tokenizer), late + 1);
    assert_memory_equal(fr_tokenizer_token_bytes(tokenizer, ab, &length), "ab", 2);
    assert_int_equal(length, 2);
    assert_memory_equal(fr_tokenizer_token_bytes(tokenizer, late, &length), " hi", 3);
    assert_int_equal(length, 3);
    assert_int_equal(*fr_tokenizer_token_bytes(tokenizer, 0, &length), 0);
    assert_int_equal(length, 1);
    const int32_t textless[] = {-1, special + 1, late + 1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof textless / sizeof *textless; i++) {
        assert_null(fr_tokenizer_token_bytes(tokenizer, textless[i], &length));
        assert_int_equal(length, 0);
        assert_false(fr_tokenizer_is_special(tokenizer, textless[i]));
    }
    assert_true(fr_tokenizer_is_special(tokenizer, special));
    assert_false(fr_tokenizer_is_special(tokenizer, ab));
    assert_int_equal(fr_tokenizer_max_token_bytes(tokenizer), strlen(TOY_EOS));

    char *text;
    fr_error error = {0};
    const int32_t tokens[] = {ab, special, 0xc3, late + 5, late};
    assert_int_equal(fr_tokenizer_decode(tokenizer, tokens, 5, true, &text, &length, &error), FR_OK);
    assert_string_equal(text, "ab" TOY_EOS "\xc3 hi");
    fr_free(text);
    assert_int_equal(fr_tokenizer_decode(tokenizer, tokens, 5, false, &text, &length, &error), FR_OK);
    assert_string_equal(text, "ab\xc3 hi");
    fr_free(text);
    assert_int_equal(fr_tokenizer_decode(tokenizer, NULL, 0, false, &text, &length, &error), FR_OK);
    assert_string_equal(text, "");
    fr_free(text);
    assert_int_equal(fr_tokenizer_decode(tokenizer, textless, 1, true, &text, &length, &error), FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "-1"));
    fr_tokenizer_destroy(tokenizer);
    fr_tokenizer_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_tokenizers_agree_with_the_reference),
        cmocka_unit_test(random_merges_agree_with_the_reference),
        cmocka_unit_test(the_leftmost_of_equal_merges_comes_first),
        cmocka_unit_test(a_long_word_is_not_quadratic),
        cmocka_unit_test(ignore_merges_takes_a_whole_piece),
        cmocka_unit_test(added_tokens_are_the_longest_at_each_place),
        cmocka_unit_test(special_tokens_are_plain_text_unless_asked_for),
        cmocka_unit_test(added_tokens_are_found_in_two_passes),
        cmocka_unit_test(added_tokens_cut_the_text),
        cmocka_unit_test(bos_comes_from_the_config),
        cmocka_unit_test(bytes_that_are_not_utf8_are_tokens_of_their_own),
        cmocka_unit_test(any_bytes_round_trip),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(tokens_have_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
