/* Streams of tokens: what comes out is UTF-8 at every step, whole characters only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/utf8.h"
#include "model/weights.h"
#include "text/stop_strings.h"
#include "text/text_stream.h"
#include "toy_tokenizer.h"

#define MARK "\xef\xbf\xbd"

static fr_text_stream *open_stream(const fr_tokenizer *tokenizer) {
    fr_text_stream *stream = NULL;
    assert_int_equal(fr_text_stream_open(tokenizer, &stream, NULL), FR_OK);
    return stream;
}

static void check_push(fr_text_stream *stream, int32_t token, const char *expected) {
    size_t length;
    const char *text = fr_text_stream_push(stream, token, &length);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
}

static void check_finish(fr_text_stream *stream, const char *expected) {
    size_t length;
    assert_string_equal(fr_text_stream_finish(stream, &length), expected);
    assert_int_equal(length, strlen(expected));
}

static void characters_wait_until_they_are_whole(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = toy_finish(toy_create(), NULL); /* ids are bytes */
    fr_text_stream *stream = open_stream(tokenizer);
    check_push(stream, 'a', "a");
    check_push(stream, 0xc3, "");
    check_push(stream, 0xa9, "é");
    check_push(stream, 0xe4, "");
    check_push(stream, 0xbd, "");
    check_push(stream, 0xa0, "你");
    check_push(stream, 0xf0, "");
    check_push(stream, 0x9f, "");
    check_push(stream, 0x98, "");
    check_push(stream, 0x80, "😀");
    check_finish(stream, "");
    check_push(stream, 0xf0, "");
    check_push(stream, 0x9f, "");
    check_finish(stream, MARK);
    check_finish(stream, "");
    check_push(stream, 'b', "b"); /* nothing is left of what was finished */
    fr_text_stream_destroy(stream);
    fr_text_stream_destroy(NULL);
    fr_tokenizer_destroy(tokenizer);
}

/* As Unicode recommends: one U+FFFD for the longest beginning of a character, as soon as it cannot go on. */
static void hopeless_bytes_are_replaced_at_once(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = toy_finish(toy_create(), NULL);
    fr_text_stream *stream = open_stream(tokenizer);
    check_push(stream, 0xff, MARK);
    check_push(stream, 0x80, MARK);
    check_push(stream, 0xe4, "");
    check_push(stream, 0xbd, "");
    check_push(stream, 'x', MARK "x");
    check_push(stream, 0xc3, "");
    check_push(stream, 0xc3, MARK);
    check_push(stream, 0xa9, "é");
    check_push(stream, 0xe0, "");
    check_push(stream, 0x80, MARK MARK); /* overlong: neither byte begins anything */
    check_push(stream, 0xed, "");
    check_push(stream, 0xa0, MARK MARK); /* a surrogate */
    check_push(stream, 0x80, MARK);
    check_push(stream, 0xf4, "");
    check_push(stream, 0x90, MARK MARK); /* above U+10FFFF */
    fr_text_stream_destroy(stream);
    fr_tokenizer_destroy(tokenizer);
}

static void a_nul_is_a_character(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = toy_finish(toy_create(), NULL);
    fr_text_stream *stream = open_stream(tokenizer);
    size_t length;
    assert_memory_equal(fr_text_stream_push(stream, 0, &length), "\0", 2);
    assert_int_equal(length, 1);
    fr_text_stream_destroy(stream);
    fr_tokenizer_destroy(tokenizer);
}

static void special_and_unknown_tokens_add_nothing(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    int eos = toy_add(toy, TOY_EOS, true, false), user = toy_add(toy, TOY_USER, false, false);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    fr_text_stream *stream = open_stream(tokenizer);
    check_push(stream, eos, "");
    check_push(stream, 0xc3, "");
    check_push(stream, eos, "");
    check_push(stream, -1, "");
    check_push(stream, 100000, "");
    check_push(stream, 0xa9, "é");
    check_push(stream, user, TOY_USER);
    fr_text_stream_destroy(stream);
    fr_tokenizer_destroy(tokenizer);
}

/* A token of many broken bytes: the most that a push can give. */
static void the_longest_token_fits(void **state) {
    (void)state;
    cJSON *toy = toy_create();
    char name[256] = "";
    for (int i = 0; i < 100; i++) strcat(name, toy_byte(0xff));
    int id = toy_next_id(toy);
    cJSON_AddNumberToObject(toy_vocab(toy), name, id);
    fr_tokenizer *tokenizer = toy_finish(toy, NULL);
    assert_int_equal(fr_tokenizer_max_token_bytes(tokenizer), 100);
    fr_text_stream *stream = open_stream(tokenizer);
    size_t length;
    check_push(stream, 0xf0, "");
    check_push(stream, 0x9f, "");
    check_push(stream, 0x98, "");
    const char *text = fr_text_stream_push(stream, id, &length);
    assert_int_equal(length, 3 * 101);
    for (size_t i = 0; i < length; i += 3) assert_memory_equal(text + i, MARK, 3);
    fr_text_stream_destroy(stream);
    fr_tokenizer_destroy(tokenizer);
}

/* Random tokens: each piece is whole characters, and together they are what a look at all bytes at once would give. */
static void any_tokens_give_utf8(void **state) {
    (void)state;
    char dir[1024];
    fr_tokenizer *tokenizer = NULL;
    uint64_t seed = 3;
    snprintf(dir, sizeof dir, "%s/golden/nano-mtp-s1", FR_TEST_DIR);
    assert_int_equal(fr_tokenizer_load(dir, &tokenizer, NULL), FR_OK);
    for (int round = 0; round < 100; round++) {
        int32_t tokens[100];
        for (int i = 0; i < 100; i++) /* mostly bytes of a character's first or later part, which do fit at times */
            tokens[i] = (int32_t)(toy_random(&seed) % (uint32_t)(round % 2 ? 262 : fr_tokenizer_size(tokenizer)));
        char joined[8192], *bytes, expected[8192];
        size_t length, n = 0, m = 0;
        fr_text_stream *stream = open_stream(tokenizer);
        for (int i = 0; i <= 100; i++) {
            const char *text = i < 100 ? fr_text_stream_push(stream, tokens[i], &length) : fr_text_stream_finish(stream, &length);
            for (size_t j = 0; j < length;) {
                int step = fr_utf8_next((const uint8_t *)text + j, length - j);
                assert_in_range(step, 1, 4);
                j += (size_t)step;
            }
            assert_true(n + length < sizeof joined);
            memcpy(joined + n, text, length);
            n += length;
        }
        assert_int_equal(fr_tokenizer_decode(tokenizer, tokens, 100, false, &bytes, &length, NULL), FR_OK);
        for (size_t i = 0; i < length;) {
            int step = fr_utf8_next((const uint8_t *)bytes + i, length - i);
            if (step > 0)
                memcpy(expected + m, bytes + i, (size_t)step), m += (size_t)step, i += (size_t)step;
            else
                memcpy(expected + m, MARK, 3), m += 3, i = step ? i + (size_t)-step : length;
        }
        assert_int_equal(n, m);
        assert_memory_equal(joined, expected, m);
        fr_free(bytes);
        fr_text_stream_destroy(stream);
    }
    fr_tokenizer_destroy(tokenizer);
}

/* All that two, three or four bytes can begin with, against the table of Unicode (3-7). */
static void utf8_is_as_unicode_defines_it(void **state) {
    (void)state;
    static const struct {
        uint8_t first[2], second[2];
        int length;
    } table[] = {{{0xc2, 0xdf}, {0x80, 0xbf}, 2}, {{0xe0, 0xe0}, {0xa0, 0xbf}, 3}, {{0xe1, 0xec}, {0x80, 0xbf}, 3},
                 {{0xed, 0xed}, {0x80, 0x9f}, 3}, {{0xee, 0xef}, {0x80, 0xbf}, 3}, {{0xf0, 0xf0}, {0x90, 0xbf}, 4},
                 {{0xf1, 0xf3}, {0x80, 0xbf}, 4}, {{0xf4, 0xf4}, {0x80, 0x8f}, 4}};
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            const uint8_t bytes[] = {(uint8_t)a, (uint8_t)b, 0x80, 0xbf}, bad[] = {(uint8_t)a, (uint8_t)b, 0x80, 0xc0};
            int length = a < 0x80 ? 1 : 0;
            bool begins = a < 0x80;
            for (size_t i = 0; i < sizeof table / sizeof *table; i++)
                if (a >= table[i].first[0] && a <= table[i].first[1]) {
                    begins = true;
                    if (b >= table[i].second[0] && b <= table[i].second[1]) length = table[i].length;
                }
            assert_int_equal(fr_utf8_next(bytes, 4), length ? length : -1);
            assert_int_equal(fr_utf8_next(bytes, 1), a < 0x80 ? 1 : begins ? 0 : -1);
            assert_int_equal(fr_utf8_next(bytes, 2), !length ? -1 : length <= 2 ? length : 0);
            assert_int_equal(fr_utf8_next(bytes, 3), !length ? -1 : length <= 3 ? length : 0);
            assert_int_equal(fr_utf8_next(bad, 4), !length ? -1 : length <= 3 ? length : -3);
        }
}

/* ---- Stop strings ---- */

/* What comes out of `text`; returns whether it was stopped. */
static bool run_stops(const char *text, const char *const *stops, size_t count, char *out) {
    fr_stop_strings *stop = NULL;
    assert_int_equal(fr_stop_strings_create(stops, count, &stop, NULL), FR_OK);
    size_t length = 0, held = 0;
    for (const char *c = text; *c; c++) {
        size_t before = length;
        length += fr_stop_strings_push(stop, *c, out + length);
        held += 1 - (length - before);
        if (!fr_stop_strings_found(stop)) assert_true(held <= fr_stop_strings_longest(stop)); /* no more than needed */
    }
    bool found = fr_stop_strings_found(stop);
    length += fr_stop_strings_finish(stop, out + length);
    out[length] = 0;
    fr_stop_strings_destroy(stop);
    return found;
}

static void check_stops(const char *text, const char *const *stops, size_t count, bool found, const char *expected) {
    char out[128];
    assert_int_equal(run_stops(text, stops, count, out), found);
    assert_string_equal(out, expected);
}

static void stop_strings_are_cut_off(void **state) {
    (void)state;
    const char *end[] = {"END"}, *both[] = {"abcd", "bc"}, *same_end[] = {"c", "abc"}, *repeats[] = {"aab"};
    check_stops("one END two", end, 1, true, "one ");
    check_stops("one EN", end, 1, false, "one EN"); /* held back, and given at last */
    check_stops("EEND", end, 1, true, "E");
    check_stops("ENEND", end, 1, true, "EN");
    check_stops("xabcd", both, 2, true, "xa");   /* the one that is whole first */
    check_stops("xabc", same_end, 2, true, "x"); /* of two that end together the longer */
    check_stops("aaaab!", repeats, 1, true, "aa");
    check_stops("", end, 1, false, "");
    fr_stop_strings *stop = NULL;
    assert_int_equal(fr_stop_strings_create((const char *[]){"a", ""}, 2, &stop, NULL), FR_ERROR_ARGUMENT);
    fr_stop_strings_destroy(NULL);
}

/* Random texts over two letters against strstr. */
static void stop_strings_are_found_as_by_a_search(void **state) {
    (void)state;
    uint32_t random = 1;
    int stopped = 0;
    for (int trial = 0; trial < 3000; trial++) {
        char text[33] = "", stops[3][8] = {"", "", ""}, out[128];
        const char *list[3] = {stops[0], stops[1], stops[2]}, *first = NULL;
        size_t ends = sizeof text;
        for (int i = 0; i < 32; i++) text[i] = (char)('a' + ((random = random * 1664525u + 1013904223u) >> 24) % 2);
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < 3 + (trial + k) % 5; i++)
                stops[k][i] = (char)('a' + ((random = random * 1664525u + 1013904223u) >> 24) % 2);
        for (int k = 0; k < 3; k++) {
            const char *at = strstr(text, stops[k]);
            size_t end = at ? (size_t)(at - text) + strlen(stops[k]) : sizeof text;
            if (at && (end < ends || (end == ends && at < first))) {
                ends = end;
                first = at;
            }
        }
        assert_int_equal(run_stops(text, list, 3, out), first != NULL);
        if (first) text[first - text] = 0;
        stopped += first != NULL;
        assert_string_equal(out, text);
    }
    assert_true(stopped > 300 && stopped < 2900);
}

/* Through the stream of tokens: across them, with a character cut in two, and ready for another text after it. */
static void a_stream_ends_before_a_stop_string(void **state) {
    (void)state;
    fr_tokenizer *tokenizer = toy_finish(toy_create(), NULL);
    fr_text_stream *stream = open_stream(tokenizer);
    assert_int_equal(fr_text_stream_stop_at(stream, (const char *[]){"\xc3\xa9!", "##"}, 2, NULL), FR_OK);
    for (int again = 0; again < 2; again++) {
        check_push(stream, 'a', "a");
        check_push(stream, '#', "");
        check_push(stream, 'b', "#b");
        check_push(stream, 0xc3, "");
        check_push(stream, 0xa9, ""); /* a whole character, but it may be the beginning of the end */
        assert_false(fr_text_stream_stopped(stream));
        check_push(stream, '!', "");
        assert_true(fr_text_stream_stopped(stream));
        check_push(stream, 'c', "");
        check_finish(stream, "");
    }
    check_push(stream, '#', "");
    check_push(stream, 0xc3, "");
    check_finish(stream, "#" MARK);
    fr_text_stream_destroy(stream);
    fr_tokenizer_destroy(tokenizer);
}

/* Generation configs name several. */
static void any_eos_id_ends_a_text(void **state) {
    (void)state;
    fr_model model = {.config = {.eos_token_ids = {5, 9, 3}, .num_eos_token_ids = 2}};
    assert_true(fr_token_ends_text(&model, 5));
    assert_true(fr_token_ends_text(&model, 9));
    assert_false(fr_token_ends_text(&model, 3));
    assert_false(fr_token_ends_text(&model, 0));
    model.config.num_eos_token_ids = 0;
    assert_false(fr_token_ends_text(&model, 5));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_wait_until_they_are_whole),
        cmocka_unit_test(hopeless_bytes_are_replaced_at_once),
        cmocka_unit_test(a_nul_is_a_character),
        cmocka_unit_test(special_and_unknown_tokens_add_nothing),
        cmocka_unit_test(the_longest_token_fits),
        cmocka_unit_test(any_tokens_give_utf8),
        cmocka_unit_test(utf8_is_as_unicode_defines_it),
        cmocka_unit_test(stop_strings_are_cut_off),
        cmocka_unit_test(stop_strings_are_found_as_by_a_search),
        cmocka_unit_test(a_stream_ends_before_a_stop_string),
        cmocka_unit_test(any_eos_id_ends_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
