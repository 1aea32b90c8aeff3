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
#include "cli/view.h"

static void print(fr_cli_table *table, char *out, size_t room) {
    FILE *file = tmpfile();
    assert_non_null(file);
    fr_cli_table_print(table, file);
    fr_cli_table_destroy(table);
    rewind(file);
    out[fread(out, 1, room - 1, file)] = '\0';
    fclose(file);
}

static void columns_bars_and_intervals_line_up(void **state) {
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

static void texts_of_others_are_cleaned_and_cut(void **state) {
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

static void a_view_is_a_table_of_its_items(void **state) {
    static const fr_column columns[] = {
        {"", "compared", .kind = FR_CELL_PAIR},
        {"x.median", "x", .unit = FR_UNIT_TIMES, .interval = "x.ci95", .bar = true},
        {"share", "share", .unit = FR_UNIT_PERCENT},
        {"slower", "slower", .kind = FR_CELL_OF, .n = "of"},
        {"ms", "ms", .digits = 2},
        {"only on the page", .page = "page"},
    };
    static const fr_view view = {.columns = columns, .num_columns = 6, .title = "speedups", .counted = "of"};
    cJSON *array = cJSON_Parse("[{\"a\": \"off\", \"b\": \"on\", \"x\": {\"median\": 1.5, \"ci95\": [1, 2]}, \"share\": 0.25,"
                               "\"slower\": 2, \"of\": 8, \"ms\": 3}, {\"of\": 0}, {\"a\": \"off\", \"x\": {\"median\": 1}}]");
    char out[2048];
    (void)state;
    fr_cli_table *table = fr_cli_view_table(&view, NULL);
    fr_cli_view_add(table, &view, array);
    print(table, out, sizeof out);
    assert_string_equal(out, "speedups\n"
                             "  compared          x            95 %          0 to longest   share  slower    ms\n"
                             "  on over off  1.500x  [1.000, 2.000]  ##########==========  25.0 %  2 of 8  3.00\n"
                             "   over off    1.000x               -  ##########..........       -       -     -\n");
    cJSON_Delete(array);
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
        cmocka_unit_test(columns_bars_and_intervals_line_up),
        cmocka_unit_test(a_view_is_a_table_of_its_items),
        cmocka_unit_test(what_a_terminal_would_obey_is_not_printed),
        cmocka_unit_test(texts_of_others_are_cleaned_and_cut),
    };
    setenv("LC_ALL", "C.UTF-8", 1); /* the locale does not matter where there is no terminal */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
