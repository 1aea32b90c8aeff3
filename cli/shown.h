/* Words of unknown origin (a document's, a checkpoint's, a file's name) for people: what a terminal would obey, and
 * what is no UTF-8, becomes "?". */
#ifndef FR_CLI_SHOWN_H
#define FR_CLI_SHOWN_H

#include <stdarg.h>
#include <stdio.h>

/* Columns that a terminal gives the character at `text` (not at its NUL), and its length in bytes: 0 for those that
 * combine with the one before, 2 for East Asian ones and pictures, -1 for those that cannot be shown. */
int fr_cli_columns(const char *text, int *length);

/* Makes a text such a one, in its place. Returns it. */
char *fr_cli_make_shown(char *text);

/* Prints a line as it can be shown, with its newline; what is longer than 8 KiB is cut. */
void fr_cli_print_shown(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fr_cli_vprint_shown(FILE *out, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

#endif
