/* Errors: a message begins with its place, and the place can be told from what went wrong there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/status.h"

static void assert_error(const fr_error *error, const char *where, const char *what) {
    char message[sizeof error->message];
    assert_string_equal(error->where, where);
    assert_string_equal(fr_error_what(error), what);
    snprintf(message, sizeof message, "%s%s%s", where, *where ? ": " : "", what);
    assert_string_equal(error->message, message);
}

static void an_error_without_a_place_is_its_message(void **state) {
    fr_error error;
    (void)state;
    memset(&error, 'x', sizeof error);
    assert_int_equal(fr_fail(&error, FR_ERROR_MEMORY, "%d bytes: too many", 7), FR_ERROR_MEMORY);
    assert_error(&error, "", "7 bytes: too many");
    assert_int_equal(error.status, FR_ERROR_MEMORY);
    assert_string_equal(error.hint, "");
}

static void a_place_begins_the_message(void **state) {
    fr_error error;
    (void)state;
    memset(&error, 'x', sizeof error);
    assert_int_equal(fr_fail_at(&error, FR_ERROR_IO, "a.json", "%s", "is: not there"), FR_ERROR_IO);
    assert_error(&error, "a.json", "is: not there");
    fr_fail_at(&error, FR_ERROR_FORMAT, fr_place_of("%s: tensor %.200s", "a.st", "b.weight").text, "missing");
    assert_error(&error, "a.st: tensor b.weight", "missing");
    fr_fail(&error, FR_ERROR_FORMAT, "nowhere");
    assert_error(&error, "", "nowhere");
}

static void a_context_goes_before_the_place(void **state) {
    fr_error error;
    (void)state;
    fr_fail_at(&error, FR_ERROR_FORMAT, "vocab", "no id %d", 3);
    fr_hint(&error, FR_ERROR_FORMAT, "look there");
    assert_int_equal(fr_context(&error, FR_ERROR_FORMAT, "tokenizer.json"), FR_ERROR_FORMAT);
    assert_error(&error, "tokenizer.json: vocab", "no id 3");
    assert_string_equal(error.hint, "look there");
    assert_int_equal(error.status, FR_ERROR_FORMAT);
    fr_fail(&error, FR_ERROR_FORMAT, "no tokens");
    fr_context(&error, FR_ERROR_FORMAT, "%s", "merges[4]");
    assert_error(&error, "merges[4]", "no tokens");
}

/* What is too long is cut, and what went wrong is still there after a long path. */
static void long_places_leave_room_for_what_went_wrong(void **state) {
    char path[2000];
    fr_error error;
    (void)state;
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = '\0';
    fr_fail_at(&error, FR_ERROR_IO, path, "gone");
    assert_int_equal(strlen(error.where), sizeof error.where - 1);
    assert_string_equal(fr_error_what(&error), "gone");
    fr_context(&error, FR_ERROR_IO, "%s", path);
    assert_string_equal(fr_error_what(&error), "gone");
    fr_fail(&error, FR_ERROR_IO, "%s", path);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
}

/* Names in files may hold anything. */
static void a_message_is_one_line_whatever_it_quotes(void **state) {
    fr_error error;
    (void)state;
    fr_fail_at(&error, FR_ERROR_FORMAT, "a\nb", "\"%s\" is \x1b[31mred", "two\r\nlines");
    fr_hint(&error, FR_ERROR_FORMAT, "look\x7f%s", "\tthere");
    assert_error(&error, "a?b", "\"two??lines\" is ?[31mred");
    assert_string_equal(error.hint, "look??there");
}

static void nobody_has_to_ask(void **state) {
    (void)state;
    assert_int_equal(fr_fail(NULL, FR_ERROR_IO, "x"), FR_ERROR_IO);
    assert_int_equal(fr_fail_at(NULL, FR_ERROR_IO, "x", "y"), FR_ERROR_IO);
    assert_int_equal(fr_hint(NULL, FR_ERROR_IO, "x"), FR_ERROR_IO);
    assert_int_equal(fr_context(NULL, FR_ERROR_IO, "x"), FR_ERROR_IO);
}

static void keys_of_json_files_are_places(void **state) {
    cJSON *json = NULL;
    fr_error error;
    int value;
    (void)state;
    assert_int_equal(fr_json_parse("{\"a\": {\"b\": 1.5}}", 17, "f.json", &json, &error), FR_OK);
    assert_int_equal(fr_json_int(cJSON_GetObjectItem(json, "a"), "f.json: a", "b", 0, 9, &value, &error), FR_ERROR_FORMAT);
    assert_error(&error, "f.json: a: b", "expected a whole number from 0 to 9, found 1.5");
    cJSON_Delete(json);
    assert_int_equal(fr_json_parse("{", 1, "f.json", &json, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.where, "f.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_without_a_place_is_its_message),
        cmocka_unit_test(a_place_begins_the_message),
        cmocka_unit_test(a_context_goes_before_the_place),
        cmocka_unit_test(long_places_leave_room_for_what_went_wrong),
        cmocka_unit_test(a_message_is_one_line_whatever_it_quotes),
        cmocka_unit_test(nobody_has_to_ask),
        cmocka_unit_test(keys_of_json_files_are_places),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
