#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <sys/wait.h>

#include "core/file.h"
#include "core/json.h"
#include "core/json_builder.h"
#include "core/json_path.h"
#include "core/memory.h"
#include "core/text_size.h"
#include "scratch.h"

static cJSON *parse(const char *text) {
    cJSON *json = NULL;
    fr_error error;
    if (fr_json_parse(text, strlen(text), "t.json", &json, &error) != FR_OK) fail_msg("%s", error.message);
    return json;
}

static void anything_but_one_json_value_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "t.json: line 1, column 1: no JSON at all"},
        {"   ", "not valid JSON"},
        {"{\"a\": 1} x", "line 1, column 10: not valid JSON"},
        {"{\"a\": 1}{}", "not valid JSON"},
        {"{\"a\": 1,}", "not valid JSON"},
        {"{\n \"a\": tru}", "line 2, column 7: not valid JSON"},
        {"{\"a\": 1", "not valid JSON"},
        {"{\"a\": 1,", "not valid JSON"},
        {"\"abc", "not valid JSON"},
        {"{\"a\": \"x\\u0000y\"}", "a NUL character in a string"},
        {"{\"a\": \"x\ny\"}", "a control character in a string"},
        {"[1 2]", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *json = NULL;
        fr_error error = {0};
        assert_int_equal(fr_json_parse(cases[i].text, strlen(cases[i].text), "t.json", &json, &error), FR_ERROR_FORMAT);
        assert_null(json);
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
    }
    cJSON *json = NULL;
    fr_error error;
    assert_int_equal(fr_json_parse("{\"a\0\": 1}", 9, "t.json", &json, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "column 4: a NUL byte"));
}

static void an_escaped_nul_is_kept_where_it_is_asked_for(void **state) {
    (void)state;
    static const char text[] = "{\"a\": \"x\\u0000y\\\\u0000\\u0000\"}";
    cJSON *json = NULL;
    fr_error error;
    size_t length;
    assert_int_equal(fr_json_parse_nul(text, strlen(text), "t.json", &json, &error), FR_OK);
    const char *bytes = fr_json_bytes(cJSON_GetObjectItem(json, "a"), &length);
    assert_int_equal(length, 10);
    assert_memory_equal(bytes, "x\0y\\u0000\0", 11);
    cJSON_Delete(json);
    assert_int_equal(fr_json_parse_nul("[\"" FR_JSON_NUL "\"]", 6, "t.json", &json, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "column 3: bytes that are not UTF-8"));
}

static void nesting_is_limited(void **state) {
    (void)state;
    enum { BOMB = 100000 };
    char *text = malloc(BOMB);
    cJSON *json = NULL;
    fr_error error;
    memset(text, '[', BOMB);
    assert_int_equal(fr_json_parse(text, BOMB, "t.json", &json, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t.json: line 1, column 65: nested too deeply");
    /* the limit itself is fine, and brackets in strings do not count */
    memset(text + FR_JSON_MAX_DEPTH, ']', FR_JSON_MAX_DEPTH);
    assert_int_equal(fr_json_parse(text, 2 * FR_JSON_MAX_DEPTH, "t.json", &json, &error), FR_OK);
    cJSON_Delete(json);
    memset(text, '[', 1000);
    text[0] = text[999] = '"';
    assert_int_equal(fr_json_parse(text, 1000, "t.json", &json, &error), FR_OK);
    cJSON_Delete(json);
    free(text);
}

static void getters_say_what_they_expected(void **state) {
    (void)state;
    cJSON *json = parse("{\"i\": 7, \"f\": 2.5, \"s\": \"text\", \"b\": true, \"n\": null, \"a\": [1, 2], \"o\": {}, "
                        "\"whole\": 3.0, \"huge\": 1e300}");
    fr_error error;
    int i = -1;
    float f = -1;
    bool b = false;
    const char *s = NULL;
    const cJSON *o = NULL;
    assert_int_equal(fr_json_int(json, "t", "i", 0, 7, &i, &error), FR_OK);
    assert_int_equal(i, 7);
    assert_int_equal(fr_json_int(json, "t", "whole", 0, 7, &i, &error), FR_OK);
    assert_int_equal(i, 3);
    assert_int_equal(fr_json_int(json, "t", "i", 8, 9, &i, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t: i: expected a whole number from 8 to 9, found 7");
    assert_int_equal(i, 3);
    assert_int_equal(fr_json_int(json, "t", "f", 0, 9, &i, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t: f: expected a whole number from 0 to 9, found 2.5");
    assert_int_equal(fr_json_int(json, "t", "huge", 0, 9, &i, &error), FR_ERROR_FORMAT);
    assert_int_equal(fr_json_int(json, "t", "I", 0, 9, &i, &error), FR_ERROR_FORMAT); /* case counts */
    assert_string_equal(error.message, "t: I: expected a whole number from 0 to 9, found nothing");
    assert_int_equal(fr_json_float(json, "t", "f", 0, 3, &f, &error), FR_OK);
    assert_true(f == 2.5f);
    assert_int_equal(fr_json_float(json, "t", "s", 0, 3, &f, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t: s: expected a number from 0 to 3, found the string \"text\"");
    assert_int_equal(fr_json_bool(json, "t", "b", &b, &error), FR_OK);
    assert_true(b);
    assert_int_equal(fr_json_bool(json, "t", "i", &b, &error), FR_ERROR_FORMAT);
    assert_int_equal(fr_json_string(json, "t", "s", &s, &error), FR_OK);
    assert_string_equal(s, "text");
    assert_int_equal(fr_json_string(json, "t", "n", &s, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t: n: expected a string, found null");
    assert_int_equal(fr_json_object(json, "t", "o", &o, &error), FR_OK);
    assert_int_equal(fr_json_object(json, "t", "a", &o, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t: a: expected an object, found an array of 2");
    assert_int_equal(fr_json_array(json, "t", "a", &o, &error), FR_OK);
    assert_int_equal(cJSON_GetArraySize(o), 2);
    assert_int_equal(fr_json_array(json, "t", "o", &o, NULL), FR_ERROR_FORMAT); /* no error wanted */
    cJSON_Delete(json);
}

static void fallbacks_are_for_absent_and_null_only(void **state) {
    (void)state;
    cJSON *json = parse("{\"i\": \"seven\", \"n\": null}");
    fr_error error;
    int i = 0;
    float f = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(fr_json_int_or(json, "t", "absent", 0, 9, 5, &i, &error), FR_OK);
    assert_int_equal(i, 5);
    assert_int_equal(fr_json_int_or(json, "t", "n", 0, 9, 6, &i, &error), FR_OK);
    assert_int_equal(i, 6);
    assert_int_equal(fr_json_int_or(json, "t", "i", 0, 9, 5, &i, &error), FR_ERROR_FORMAT);
    assert_int_equal(fr_json_float_or(json, "t", "absent", 0, 9, 1.5f, &f, &error), FR_OK);
    assert_true(f == 1.5f);
    assert_int_equal(fr_json_bool_or(json, "t", "absent", true, &b, &error), FR_OK);
    assert_true(b);
    assert_int_equal(fr_json_bool_or(json, "t", "i", true, &b, &error), FR_ERROR_FORMAT);
    assert_int_equal(fr_json_string_or(json, "t", "absent", "x", &s, &error), FR_OK);
    assert_string_equal(s, "x");
    cJSON_Delete(json);
}

static void keys_that_are_there_twice_are_found(void **state) {
    (void)state;
    fr_error error;
    cJSON *json = parse("{\"a\": 1, \"b\": 2, \"A\": 3}");
    assert_int_equal(fr_json_unique(json, "t", &error), FR_OK);
    cJSON_Delete(json);
    json = parse("{\"a\": 1, \"b\": 2, \"a\": 3}");
    assert_int_equal(fr_json_unique(json, "t", &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "t: the key \"a\" is there twice");
    cJSON_Delete(json);
}

static void u64_is_exact_or_refused(void **state) {
    (void)state;
    cJSON *json = parse("[0, 9007199254740992, 9007199254740994, -1, 0.5, 1e999, \"1\", 18446744073709551616]");
    uint64_t value = 1;
    assert_true(fr_json_to_u64(cJSON_GetArrayItem(json, 0), &value));
    assert_true(value == 0);
    assert_true(fr_json_to_u64(cJSON_GetArrayItem(json, 1), &value));
    assert_true(value == 9007199254740992u);
    for (int i = 2; i < 8; i++) assert_false(fr_json_to_u64(cJSON_GetArrayItem(json, i), &value));
    cJSON_Delete(json);
}

static void paths_lead_to_values_of_the_type_asked_for(void **state) {
    (void)state;
    double low, high;
    cJSON *json = parse(
        "{\"n\": 1.5, \"s\": \"t\", \"o\": {\"p\": {\"q\": 7}}, \"a\": [1, \"x\", {\"k\": 2}], \"no\": [], \"none\": null}");
    assert_true(fr_path_number(json, "n") == 1.5 && fr_path_number(json, "o.p.q") == 7 && fr_path_number(json, "a.2.k") == 2);
    assert_true(fr_path_number(fr_json_find(json, "n"), "") == 1.5);
    assert_string_equal(fr_path_text(json, "s"), "t");
    assert_non_null(fr_path_object(json, "o.p"));
    assert_int_equal(cJSON_GetArraySize(fr_path_array(json, "a")), 3);
    assert_true(fr_path_number(json, "missing|s|n|o.p.q") == 1.5); /* the first that is a number */
    assert_string_equal(fr_path_text(json, "n|o.p.q|a.1"), "x");
    assert_true(isnan(fr_path_number(json, "s")) && isnan(fr_path_number(json, "none")) && isnan(fr_path_number(json, "a.9")));
    assert_null(fr_path_text(json, "n"));
    assert_null(fr_path_object(json, "a"));
    assert_null(fr_path_array(json, "no"));
    assert_null(fr_path_array(json, "o"));
    assert_null(fr_path_value(json, "none"));
    assert_null(fr_path_value(json, "n.p"));
    fr_path_interval(json, "a", &low, &high);
    assert_true(low == 1 && isnan(high));
    assert_true(!fr_path_value(NULL, "n") && isnan(fr_path_number(NULL, "n")) && !fr_json_find(fr_json_find(json, "a"), "n"));
    assert_true(isnan(fr_json_number_at(NULL, 0)) && isnan(fr_json_number_at(json, 0)));
    cJSON_Delete(json);
}

/* Adds `bytes` to a new document; the text of the document is the caller's. */
static char *with_bytes(bool keeps_bytes, const char *bytes, size_t length) {
    fr_json_builder b;
    fr_json_begin(&b);
    b.keeps_bytes = keeps_bytes;
    fr_json_add_bytes(&b, b.root, "b", bytes, length);
    char *text = fr_json_print(&b);
    assert_non_null(text);
    fr_json_discard(&b);
    return text;
}

static void strings_hold_any_bytes(void **state) {
    (void)state;
#define MARK "\xEF\xBF\xBD"
    static const struct {
        const char *bytes, *again, *kept; /* as a document that we read again has them, and one that keeps bytes */
        size_t length;
    } cases[] = {
        {"", "", "", 0},
        {"\"\\\b\f\n\r\t/\x01\x1F\x7F", "\\\"\\\\\\b\\f\\n\\r\\t/\\u0001\\u001f\x7F",
         "\\\"\\\\\\b\\f\\n\\r\\t/\\u0001\\u001f\x7F", 11},
        {"\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x99\x82", "\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x99\x82", "\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x99\x82",
         9},
        {"a\0b", "a" MARK "b", "a\\u0000b", 3},
        {"\xE4\xBD", MARK, MARK MARK, 2}, /* the beginning of a character */
        {"\xF0\x9F\x98(\xFF\xFE", MARK "(" MARK MARK, MARK MARK MARK "(" MARK MARK, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int keeps = 0; keeps < 2; keeps++) {
            char expected[256];
            char *text = with_bytes(keeps, cases[i].bytes, cases[i].length);
            snprintf(expected, sizeof expected, "{\n\t\"b\":\t\"%s\"\n}", keeps ? cases[i].kept : cases[i].again);
            assert_string_equal(text, expected);
            cJSON *json = NULL;
            if (!keeps) assert_int_equal(fr_json_parse(text, strlen(text), "t.json", &json, NULL), FR_OK);
            cJSON_Delete(json);
            cJSON_free(text);
        }
#undef MARK
}

static void numbers_have_ten_digits_or_all_of_them(void **state) {
    (void)state;
    fr_json_builder b;
    fr_json_begin(&b);
    fr_json_add_real(&b, b.root, "real", 1.0 / 3);
    fr_json_add_number(&b, b.root, "number", 1.0 / 3);
    fr_json_add_number(&b, b.root, "none", NAN);
    fr_json_add_count(&b, b.root, "count", UINT64_MAX);
    fr_json_add_ids(&b, b.root, "ids", (int32_t[]){0, INT32_MAX}, 2);
    fr_json_add_reals(&b, b.root, "reals", (double[]){1e-7, -INFINITY}, 2);
    fr_json_add_texts(&b, b.root, "texts", (const char *[]){"a", NULL}, 2);
    char *text = fr_json_print(&b);
    assert_non_null(text);
    assert_string_equal(text, "{\n\t\"real\":\t0.3333333333,\n\t\"number\":\t0.33333333333333331,\n\t\"none\":\tnull,\n"
                              "\t\"count\":\t18446744073709551615,\n\t\"ids\":\t[0, 2147483647],\n\t\"reals\":\t[1e-07, null],\n"
                              "\t\"texts\":\t[\"a\", null]\n}");
    cJSON_free(text);
    fr_json_add_null(&b, NULL, "lost"); /* as after memory ran out: the failure stays */
    assert_null(fr_json_print(&b));
    fr_json_discard(&b);
    fr_json_discard(&b);
}

static void sizes_are_in_the_largest_unit_that_they_reach(void **state) {
    (void)state;
    assert_string_equal(FR_TEXT_SIZE(0), "0 B");
    assert_string_equal(FR_TEXT_SIZE(1023), "1023 B");
    assert_string_equal(FR_TEXT_SIZE(1024), "1.00 KiB");
    assert_string_equal(FR_TEXT_SIZE(UINT64_C(690) << 30), "690.00 GiB");
    assert_string_equal(FR_TEXT_SIZE(UINT64_MAX), "16384.00 PiB");
    assert_string_equal(FR_TEXT_COUNT(999), "999 ");
    assert_string_equal(FR_TEXT_COUNT(671026419200), "671.03 B");
    assert_string_equal(FR_TEXT_GROUPED(0), "0");
    assert_string_equal(FR_TEXT_GROUPED(1234567), "1,234,567");
    assert_string_equal(FR_TEXT_GROUPED(UINT64_MAX), "18,446,744,073,709,551,615");
}

static void input_may_be_a_pipe_of_any_length(void **state) {
    (void)state;
    enum { BYTES = 200000 }; /* more than a pipe holds, and than is read at once */
    fr_error error;
    int ends[2];
    char path[32], *read_back = NULL, *sent = malloc(BYTES);
    size_t length = 0;
    assert_non_null(sent);
    for (int i = 0; i < BYTES; i++) sent[i] = (char)(i * 31);
    assert_int_equal(pipe(ends), 0);
    pid_t writer = fork();
    if (writer == 0) {
        for (ssize_t at = 0, n; at < BYTES && (n = write(ends[1], sent + at, (size_t)(BYTES - at))) > 0;) at += n;
        _exit(0);
    }
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    assert_int_equal(fr_read_input(path, &read_back, &length, &error), FR_OK);
    assert_int_equal(length, BYTES);
    assert_memory_equal(read_back, sent, BYTES);
    assert_int_equal(read_back[length], 0);
    fr_free(read_back);
    free(sent);
    close(ends[0]);
    assert_int_equal(waitpid(writer, NULL, 0), writer);
    assert_int_equal(fr_read_input("/", &read_back, &length, &error), FR_ERROR_IO);
    assert_string_equal(error.message, "/: cannot read: Is a directory");
}

static void files_have_a_limit_and_a_name_in_errors(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    char *text = NULL;
    size_t length = 0;
    cJSON *json = NULL;
    scratch_write_text(&s, "a.json", "{\"x\": 1}");
    assert_int_equal(fr_read_file(scratch_path(&s, "a.json"), 8, &text, &length, &error), FR_OK);
    assert_int_equal(length, 8);
    assert_string_equal(text, "{\"x\": 1}");
    fr_free(text);
    assert_int_equal(fr_read_file(scratch_path(&s, "a.json"), 7, &text, &length, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "a.json: 8 bytes, at most 7"));
    assert_int_equal(fr_read_file(scratch_path(&s, "none"), 7, &text, &length, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "/none: No such file"));
    assert_int_equal(fr_read_file(s.dir, 7, &text, &length, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "not a regular file"));
    assert_int_equal(mkfifo(scratch_path(&s, "fifo"), 0600), 0);
    assert_int_equal(fr_read_file(scratch_path(&s, "fifo"), 7, &text, &length, &error), FR_ERROR_IO);
    assert_int_equal(fr_json_load(scratch_path(&s, "a.json"), 100, &json, &error), FR_OK);
    cJSON_Delete(json);
    scratch_write_text(&s, "b.json", "[1]");
    assert_int_equal(fr_json_load(scratch_path(&s, "b.json"), 100, &json, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "b.json: expected a JSON object, found an array of 1"));
    scratch_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_but_one_json_value_is_refused),
        cmocka_unit_test(an_escaped_nul_is_kept_where_it_is_asked_for),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(getters_say_what_they_expected),
        cmocka_unit_test(fallbacks_are_for_absent_and_null_only),
        cmocka_unit_test(keys_that_are_there_twice_are_found),
        cmocka_unit_test(u64_is_exact_or_refused),
        cmocka_unit_test(paths_lead_to_values_of_the_type_asked_for),
        cmocka_unit_test(strings_hold_any_bytes),
        cmocka_unit_test(numbers_have_ten_digits_or_all_of_them),
        cmocka_unit_test(sizes_are_in_the_largest_unit_that_they_reach),
        cmocka_unit_test(files_have_a_limit_and_a_name_in_errors),
        cmocka_unit_test(input_may_be_a_pipe_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
