/* A table for people: columns as wide as they need be, numbers to the right, bars with intervals. On a terminal headings
 * are bold and bars are blocks (unless NO_COLOR is set or the locale is not UTF-8); anywhere else the text is plain, so that
 * it can be piped and compared. Cells may hold anybody's text (cli/shown.h).
 * Running out of memory ends the program with a message. */
#ifndef FR_CLI_TABLE_H
#define FR_CLI_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/message.h"

typedef struct fr_cli_table fr_cli_table;
typedef enum fr_cli_align { FR_ALIGN_LEFT, FR_ALIGN_RIGHT } fr_cli_align;

/* Headings of the columns, which are filled row by row. title is a line above the table; NULL: none. */
fr_cli_table *fr_cli_table_create(const char *title);
void fr_cli_table_column(fr_cli_table *table, const char *heading, fr_cli_align align);

/* Each gives the next cell; after the last column a row begins anew. Texts are cut to FR_CLI_TABLE_WIDEST columns. */
enum { FR_CLI_TABLE_WIDEST = 40, FR_CLI_TABLE_BAR = 20 };
void fr_cli_table_cell(fr_cli_table *table, const char *format, ...) FR_CLI_PRINTF(2, 3);
/* "83.1 %"; "-" when it is not finite. */
void fr_cli_table_percent(fr_cli_table *table, double share);
/* "[81.0, 85.2]" percent, or with `unit` 1 the numbers with three digits behind the point; "-" when one is not finite. */
void fr_cli_table_interval(fr_cli_table *table, double low, double high, double unit);
/* Of [0, most]: solid up to `low`, shaded up to `high`. An interval that is not finite is the value alone. */
void fr_cli_table_bar(fr_cli_table *table, double value, double low, double high, double most);

void fr_cli_table_print(const fr_cli_table *table, FILE *out);
void fr_cli_table_destroy(fr_cli_table *table);

#endif
