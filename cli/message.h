/* Messages on stderr, exit codes, and memory that ends the program when there is none. */
#ifndef FR_CLI_MESSAGE_H
#define FR_CLI_MESSAGE_H

#include <stdio.h>

#include "forerun.h"

enum { FR_EXIT_DONE = 0, FR_EXIT_FAILED = 1, FR_EXIT_USAGE = 2, FR_EXIT_NOT_OK = 3, FR_EXIT_INTERRUPTED = 130 };

#define FR_CLI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Quiet leaves only errors on stderr. */
void fr_cli_set_quiet(bool quiet);
bool fr_cli_quiet(void);
/* A silent program prints no errors either, for another one does; it keeps the first, "" while there is none. */
void fr_cli_set_silent(bool silent);
const char *fr_cli_last_error(void);

/* Prints "forerun: MESSAGE" (message: "WHAT: WHY") and returns exit_code, so that `return fr_cli_error(...)` reads
 * well. */
int fr_cli_error(int exit_code, const char *format, ...) FR_CLI_PRINTF(2, 3);
/* Prints "hint: TEXT" below the error that was just printed. */
void fr_cli_hint(const char *format, ...) FR_CLI_PRINTF(1, 2);
/* Prints a library error with its hint; returns the exit code that its status asks for. */
int fr_cli_failure(const fr_error *error);
/* A line on stderr for people: nothing with --quiet. */
void fr_cli_note(const char *format, ...) FR_CLI_PRINTF(1, 2);

/* Flushes stdout; a full disk or a closed file turns exit_code 0 into a printed failure. Returns the code to end with. */
int fr_cli_flush(int exit_code);
/* From now on stdout is written when it is flushed: what prints tokens as they are chosen does not wait for a slow terminal in
 * the middle of a cycle, whose time is measured. To be called before anything is printed. */
void fr_cli_hold_output(void);

/* Memory for small things of the program: out of memory ends the program with a message. Release with free. */
void *fr_cli_alloc(size_t count, size_t size);
void *fr_cli_grow(void *memory, size_t count, size_t size);

/* From now on nothing is taken for a terminal: mpirun gives rank 0 one, wherever what it prints goes to. */
void fr_cli_set_plain(void);
/* Whether it is a terminal that can do more than print. */
bool fr_cli_is_terminal(FILE *out);
/* Whether to colour what is printed there: a terminal that can, without NO_COLOR. */
bool fr_cli_colour(FILE *out);

double fr_cli_seconds(void); /* a monotonic clock */

#endif
