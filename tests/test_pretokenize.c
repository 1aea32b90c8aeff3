/* Where texts are cut: behaviors of a split, what patterns mean, and which are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/memory.h"
#include "text/pretokenize.h"
#include "toy_tokenizer.h"

/* A pre_tokenizer of these steps, with ByteLevel at the end. */
static cJSON *sequence(const char *steps) {
    char json[2048];
    snprintf(json, sizeof json, "{\"type\": \"Sequence\", \"pretokenizers\": [%s%s" TOY_BYTE_LEVEL "]}", steps,
             *steps ? ", " : "");
    return toy_parse(json);
}

static cJSON *split(const char *kind, const char *pattern, const char *behavior, bool invert) {
    cJSON *json = sequence("{\"type\": \"Split\"}"), *step = cJSON_GetObjectItem(json, "pretokenizers")->child;
    cJSON *p = cJSON_AddObjectToObject(step, "pattern");
    cJSON_AddStringToObject(p, kind, pattern);
    cJSON_AddStringToObject(step, "behavior", behavior);
    cJSON_AddBoolToObject(step, "invert", invert);
    return json;
}

typedef struct pieces {
    char text[4096];
    size_t length, count, total;
} pieces;

static fr_status collect(void *user, const uint8_t *piece, size_t length, fr_error *error) {
    pieces *p = user;
    (void)error;
    assert_true(length > 0);
    if (p->length + length + 2 < sizeof p->text) {
        if (p->count) p->text[p->length++] = '|';
        memcpy(p->text + p->length, piece, length);
        p->length += length;
        p->text[p->length] = '\0';
    }
    p->count++;
    p->total += length;
    return FR_OK;
}

/* Takes the json. */
static void cut(cJSON *json, const char *text, size_t length, pieces *out) {
    fr_pretokenizer pretokenizer = {0};
    fr_pretokenize_scratch work = {0};
    fr_error error = {0};
    *out = (pieces){0};
    if (fr_pretokenizer_parse(&pretokenizer, json, &error) != FR_OK) fail_msg("%s", error.message);
    assert_int_equal(fr_pretokenize_scratch_create(&work, &error), FR_OK);
    if (fr_pretokenize(&pretokenizer, &work, (const uint8_t *)text, length, collect, out, &error) != FR_OK)
        fail_msg("%s", error.message);
    assert_int_equal(out->total, length);
    fr_pretokenize_scratch_release(&work);
    fr_pretokenizer_release(&pretokenizer);
    cJSON_Delete(json);
}

static void check(cJSON *json, const char *text, const char *expected) {
    pieces p;
    cut(json, text, strlen(text), &p);
    if (strcmp(p.text, expected) != 0) fail_msg("'%s' is cut '%s', expected '%s'", text, p.text, expected);
}

static void splits_do_what_their_behavior_says(void **state) {
    (void)state;
    static const struct {
        const char *kind, *pattern, *behavior;
        bool invert;
        const char *text, *expected;
    } cases[] = {
        {"String", "-", "Isolated", false, "the-final--countdown", "the|-|final|-|-|countdown"},
        {"String", "-", "Contiguous", false, "the-final--countdown", "the|-|final|--|countdown"},
        {"String", "-", "MergedWithPrevious", false, "the-final--countdown", "the-|final-|-|countdown"},
        {"String", "-", "MergedWithNext", false, "the-final--countdown", "the|-final|-|-countdown"},
        {"String", "-", "MergedWithPrevious", false, "-a-", "-|a-"},
        {"String", "-", "MergedWithNext", false, "-a-", "-a|-"},
        {"String", "-", "Isolated", false, "--", "-|-"},
        {"String", "-", "Contiguous", false, "--", "--"},
        {"Regex", "[a-z]+", "Isolated", true, "the-final--countdown", "the|-|final|--|countdown"},
        {"Regex", "[a-z]+", "MergedWithPrevious", true, "a-b--c", "a-|b--|c"},
        {"Regex", "[a-z]+", "MergedWithNext", true, "a-b--c", "a|-b|--c"},
        {"String", "", "Isolated", false, "abc", "abc"},
        {"String", ".+", "Isolated", false, "a.+b", "a|.+|b"},
        {"String", "好", "Isolated", false, "你好吗", "你|好|吗"},
        {"Regex", "x*", "Isolated", false, "axxb你", "a|xx|b|你"}, /* empty matches cut, too */
        {"Regex", "(?=[A-Z])", "Isolated", false, "camelCaseÉText", "camel|CaseÉ|Text"},
        {"Regex", "b", "Isolated", false, "aaa", "aaa"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(split(cases[i].kind, cases[i].pattern, cases[i].behavior, cases[i].invert), cases[i].text, cases[i].expected);
}

static void patterns_mean_what_oniguruma_means(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text, *expected;
    } cases[] = {
        /* white space is Unicode's: U+0085 is, U+180E and U+FEFF are not */
        {"\\s",
         "a b\xc2\x85"
         "c\u00a0d\u3000e\u180ef\ufeffg",
         "a| |b|\xc2\x85|"
         "c|\u00a0|d|\u3000|e\u180ef\ufeffg"},
        {"\\S+", "ab c", "ab| |c"},
        {"[^\\s]+", "ab c\u180e", "ab| |c\u180e"},
        {"[\\S]+", "ab c", "ab| |c"},
        {"\\p{N}{1,3}", "1234٣½x", "123|4٣½|x"},
        {"\\d+", "12½٣٣", "12|½|٣٣"},
        {"[\\p{L}\\p{M}]+", "e\u0301t\u00e9 1", "e\u0301t\u00e9| 1"},
        {"\\p{^L}+", "ab12cd", "ab|12|cd"},
        {"\\P{L}+", "ab12cd", "ab|12|cd"},
        /* a script, without the characters that it shares with others (U+3001) */
        {"\\p{Han}+", "漢字、かな", "漢字|、かな"},
        {"[一-龥぀-ゟ゠-ヿ]+", "x漢字かなカナー、y", "x|漢字かなカナー|、y"},
        {"(?i:'s|'t)", "it'S don'T", "it|'S| don|'T"},
        /* lines: ^ and $ at each, and . stops at line feeds only */
        {"^a", "aa\na", "a|a\n|a"},
        {"a$", "aa\na", "a|a|\n|a"},
        {".+", "a\rb\nc", "a\rb|\n|c"},
        {"[!\\\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]", "a]b\\c-d", "a|]|b|\\|c|-|d"},
        {"\\x{4f60}", "a你", "a|你"},
        /* what is in both classes */
        {"[a-z&&[^m-o]]", "mnopq", "mno|p|q"},
        {"[[a-f]&&[d-z]]+", "abcdefgh", "abc|def|gh"},
        {"[a-f&&d-z]+", "abcdefgh", "abc|def|gh"},
        {"[\\p{L}&&\\p{Han}]+", "ab漢字、c", "ab|漢字|、c"},
        {"x?[\\p{L}\\p{M}&&[^\\p{Han}]]{2,3}", "abcde漢xe\u0301字x漢", "abc|de|漢|xe\u0301|字x漢"},
        {"[a&&[^\\]]][&]", "a&a]", "a&|a]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(split("Regex", cases[i].pattern, "Isolated", false), cases[i].text, cases[i].expected);
}

static void steps_cut_the_pieces_of_those_before(void **state) {
    (void)state;
    static const char bracket[] = "{\"type\": \"Split\", \"pattern\": {\"String\": \"(\"}, \"behavior\": \"Isolated\"}, ";
    static const char look[] = "{\"type\": \"Split\", \"pattern\": {\"Regex\": \" +(?!x)\"}, \"behavior\": \"Isolated\"}";
    char both[512];
    snprintf(both, sizeof both, "%s%s", bracket, look);
    /* a lookahead ends with its piece */
    check(sequence(both), "a  (  x", "a|  |(| | x");
    check(sequence("{\"type\": \"Digits\", \"individual_digits\": true}"), "ab12½", "ab|1|2|½");
    check(sequence("{\"type\": \"Digits\", \"individual_digits\": false}"), "ab12½c", "ab|12½|c");
    check(sequence(""), "a b", "a b");
    check(toy_parse("{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"), "I'll go  to 12 x!?", "I|'ll| go| | to| 12| x|!?");
}

static void broken_utf8_ends_a_piece(void **state) {
    (void)state;
    check(split("Regex", "b+", "Isolated", false),
          "a\xff\xff\xe4\xbd"
          "bb\xe4\xbd\xa0",
          "a|\xff|\xff|\xe4|\xbd|bb|\xe4\xbd\xa0");
}

/* What a JIT would need much stack for, and a pattern that looks back over everything. */
static void long_pieces_are_cut(void **state) {
    (void)state;
    size_t length = (size_t)1 << 20;
    char *text = malloc(length);
    pieces p;
    assert_non_null(text);
    memset(text, 'a', length);
    cut(split("Regex", "(?:a|b)+c|(?:(?:a|aa)b)?", "Isolated", false), text, 2000, &p);
    assert_int_equal(p.count, 2000);
    cut(split("Regex", "(?:[ab])+|\\s+(?!\\S)|\\s+", "Isolated", false), text, length, &p);
    assert_int_equal(p.count, 1);
    memset(text, ' ', length);
    text[length - 1] = 'a';
    cut(split("Regex", "(?:[ab])+|\\s+(?!\\S)|\\s+", "Isolated", false), text, length, &p);
    assert_int_equal(p.count, 3);
    free(text);
}

/* Nested quantifiers that never match take for ever: they end in an error instead. */
static void runaway_patterns_are_errors(void **state) {
    (void)state;
    fr_pretokenizer pretokenizer = {0};
    fr_pretokenize_scratch work = {0};
    fr_error error = {0};
    char text[64];
    pieces p = {0};
    memset(text, 'a', sizeof text);
    cJSON *json = split("Regex", "(?:(?:a+)+)+b", "Isolated", false);
    text[40] = 'b'; /* PCRE2 will not even try without a b; it is behind a c */
    text[39] = 'c';
    assert_int_equal(fr_pretokenizer_parse(&pretokenizer, json, &error), FR_OK);
    assert_int_equal(fr_pretokenize_scratch_create(&work, &error), FR_OK);
    assert_int_equal(fr_pretokenize(&pretokenizer, &work, (const uint8_t *)text, sizeof text, collect, &p, &error),
                     FR_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "match limit"));
    fr_pretokenize_scratch_release(&work);
    fr_pretokenizer_release(&pretokenizer);
    cJSON_Delete(json);
}

static void check_refused(cJSON *json, fr_status expected, const char *what) {
    fr_pretokenizer pretokenizer = {0};
    fr_error error = {0};
    fr_status status = fr_pretokenizer_parse(&pretokenizer, json, &error);
    if (status != expected) fail_msg("%s: %s", what, status == FR_OK ? "accepted" : error.message);
    if (!strstr(error.message, what)) fail_msg("'%s' does not say '%s'", error.message, what);
    assert_int_equal(strncmp(error.message, "pre_tokenizer", 13), 0);
    fr_pretokenizer_release(&pretokenizer);
    cJSON_Delete(json);
}

/* Oniguruma and PCRE2 read these differently. */
static void patterns_of_two_meanings_are_refused(void **state) {
    (void)state;
    static const char *const patterns[] = {"\\w+",    "a\\b",   "\\h",     "\\R",       "[a[bc]]", "[a&&b&&c]",   "[]a]",
                                           "(*ANY)a", "(?m:.)", "(?<n>a)", "(?C1)a",    "a{,3}",   "a{1,2}+",     "\\pL",
                                           "\\Ga",    "\\Ka",   "\\x41",   "(a)\\1",    "\\Qa\\E", "[\\w]",       "(?#c)a",
                                           "\\v",     "\\C",    "\\N",     "(?P<n>a)",  "(?R)",    "(?i-m)a",     "[^]a]",
                                           "[^a&&b]", "[a&&]",  "[&&a]",   "[a&&[b]c]", "[a&&^b]", "[a&&[b[c]]]", "[a[b]&&c]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        check_refused(split("Regex", patterns[i], "Isolated", false), FR_ERROR_UNSUPPORTED, patterns[i]);
}

static void wrong_patterns_are_refused(void **state) {
    (void)state;
    static const char *const patterns[] = {"(a", "[a", "a)", "*", "\\", "\\p{Nonsense}", "[z-a]", "a\\x{110000}", "\\p{"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        fr_status expected = strcmp(patterns[i], "\\p{") == 0 ? FR_ERROR_UNSUPPORTED : FR_ERROR_FORMAT;
        check_refused(split("Regex", patterns[i], "Isolated", false), expected, "regular expression");
    }
    check_refused(split("Regex", "\xff", "Isolated", false), FR_ERROR_FORMAT, "UTF-8");
    check_refused(split("String", "\xff", "Isolated", false), FR_ERROR_FORMAT, "UTF-8");
}

static void unsupported_pretokenizers_are_refused(void **state) {
    (void)state;
    check_refused(split("String", " ", "Removed", false), FR_ERROR_UNSUPPORTED, "Removed");
    check_refused(split("Other", " ", "Isolated", false), FR_ERROR_FORMAT, "Regex and String");
    check_refused(NULL, FR_ERROR_UNSUPPORTED, "ByteLevel");
    check_refused(toy_parse("{\"type\": \"Sequence\", \"pretokenizers\": []}"), FR_ERROR_UNSUPPORTED, "ByteLevel");
    check_refused(toy_parse("{\"type\": \"Metaspace\"}"), FR_ERROR_UNSUPPORTED, "Metaspace");
    check_refused(toy_parse("{\"type\": \"ByteLevel\", \"add_prefix_space\": true}"), FR_ERROR_UNSUPPORTED, "add_prefix_space");
    check_refused(toy_parse("{\"type\": \"ByteLevel\", \"use_regex\": 1}"), FR_ERROR_FORMAT, "use_regex");
    check_refused(sequence(TOY_BYTE_LEVEL), FR_ERROR_UNSUPPORTED, "after ByteLevel");
    check_refused(toy_parse("[]"), FR_ERROR_FORMAT, "not an object");
    check_refused(toy_parse("{\"type\": \"Sequence\", \"pretokenizers\": [3]}"), FR_ERROR_FORMAT, "not an object");
    check_refused(toy_parse("{\"type\": \"Sequence\"}"), FR_ERROR_FORMAT, "pretokenizers");
    check_refused(toy_parse("{\"type\": \"Split\", \"behavior\": \"Isolated\"}"), FR_ERROR_FORMAT, "pattern");
    check_refused(toy_parse("{}"), FR_ERROR_FORMAT, "type");
    char many[1200] = "";
    for (int i = 0; i <= FR_MAX_SPLITS; i++) strcat(many, i ? ", {\"type\": \"Digits\"}" : "{\"type\": \"Digits\"}");
    check_refused(sequence(many), FR_ERROR_UNSUPPORTED, "more than");
}

/* An error of the receiver ends the call and comes through. */
static fr_status refuse(void *user, const uint8_t *piece, size_t length, fr_error *error) {
    (void)piece;
    (void)length;
    return ++*(int *)user == 2 ? fr_fail(error, FR_ERROR_MEMORY, "enough") : FR_OK;
}

static void the_receiver_can_stop(void **state) {
    (void)state;
    fr_pretokenizer pretokenizer = {0};
    fr_pretokenize_scratch work = {0};
    fr_error error = {0};
    int calls = 0;
    cJSON *json = split("String", " ", "Isolated", false);
    assert_int_equal(fr_pretokenizer_parse(&pretokenizer, json, &error), FR_OK);
    assert_int_equal(fr_pretokenize_scratch_create(&work, &error), FR_OK);
    assert_int_equal(fr_pretokenize(&pretokenizer, &work, (const uint8_t *)"a b c", 5, refuse, &calls, &error), FR_ERROR_MEMORY);
    assert_int_equal(calls, 2);
    fr_pretokenize_scratch_release(&work);
    fr_pretokenizer_release(&pretokenizer);
    cJSON_Delete(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_do_what_their_behavior_says),
        cmocka_unit_test(patterns_mean_what_oniguruma_means),
        cmocka_unit_test(steps_cut_the_pieces_of_those_before),
        cmocka_unit_test(broken_utf8_ends_a_piece),
        cmocka_unit_test(long_pieces_are_cut),
        cmocka_unit_test(runaway_patterns_are_errors),
        cmocka_unit_test(patterns_of_two_meanings_are_refused),
        cmocka_unit_test(wrong_patterns_are_refused),
        cmocka_unit_test(unsupported_pretokenizers_are_refused),
        cmocka_unit_test(the_receiver_can_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
