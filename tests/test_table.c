/* The program's tables where they do not go to a terminal: plain text in columns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/shown.h"
#include "cli/table.h"

static void print(fr_cli_table *table, char *out, size_t room) {
    FILE *file = tmpfile();
    assert_non_null(file);
    fr_cli_table_print(table, file);
    fr_cli_table_destroy(table);
    rewind(file);
    out[fread(out, 1, room - 1, file)] = '\0';
    fclose(file);
}

static void test_columns_bars_and_intervals(void **state) {
    char out[2048];
    fr_cli_table *table = fr_cli_table_create("acceptance");
    (void)state;
    fr_cli_table_column(table, "domain", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "rate", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
    fr_cli_table_column(table, "", FR_ALIGN_LEFT);
    fr_cli_table_cell(table, "code");
    fr_cli_table_percent(table, 0.75);
    fr_cli_table_interval(table, 0.5, 1, 100);
    fr_cli_table_bar(table, 0.75, 0.5, 1, 1);
    fr_cli_table_cell(table, "\xE6\x97\xA5\xE6\x9C\xAC e\xCC\x81"); /* two wide letters, and one with an accent of its own */
    fr_cli_table_percent(table, NAN);
    fr_cli_table_interval(table, 0.25, NAN, 100);
    fr_cli_table_bar(table, 0.25, NAN, NAN, 1);
    print(table, out, sizeof out);
    assert_string_equal(out, "acceptance\n"
                             "  domain    rate           95 %\n"
                             "  code    75.0 %  [50.0, 100.0]  ##########==========\n"
                             "  \xE6\x97\xA5\xE6\x9C\xAC e\xCC\x81       -              -  #####...............\n");
}

static void test_texts_of_others(void **state) {
    char out[2048], longest[200];
    fr_cli_table *table = fr_cli_table_create(NULL);
    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    fr_cli_table_column(table, "a", FR_ALIGN_LEFT);
    fr_cli_table_column(table, "b", FR_ALIGN_LEFT);
    fr_cli_table_cell(table, "\033[31m\n\t\x7F");
    fr_cli_table_cell(table, "\xFF\xE2\x80\xAE#"); /* broken UTF-8, and what turns the text around */
    fr_cli_table_cell(table, "%s", longest);
    fr_cli_table_cell(table, "end");
    print(table, out, sizeof out);
    const char *expected = "  ?[31m???";
    const char *row = strchr(out, '\n') + 1;
    assert_memory_equal(row, expected, strlen(expected));
    assert_non_null(strstr(row, "  ??#\n"));
    row = strchr(row, '\n') + 1;
    assert_int_equal(strspn(row + 2, "x"), FR_CLI_TABLE_WIDEST - 3);
    assert_string_equal(row + 2 + FR_CLI_TABLE_WIDEST - 3, "...  end\n");
}

static void what_a_terminal_would_obey_is_not_printed(void **state) {
    char *text = NULL;
    size_t length = 0;
    (void)state;
    FILE *out = open_memstream(&text, &length);
    fr_cli_print_shown(out, "! %s", "a\x1b[31m\r\n\xE2\x80\xAE\xff\xC3\xA9\xED\xA0\x80\xC2\x9B");
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "! a?[31m????\xC3\xA9????\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_bars_and_intervals),
        cmocka_unit_test(what_a_terminal_would_obey_is_not_printed),
        cmocka_unit_test(test_texts_of_others),
    };
    setenv("LC_ALL", "C.UTF-8", 1); /* the locale does not matter where there is no terminal */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
