#include "cli/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/shown.h"

static bool quiet_stderr, silent_stderr, plain;
static char last_error[1024]; /* of a silent program */

void fr_cli_set_quiet(bool quiet) {
    quiet_stderr = quiet || silent_stderr;
}

bool fr_cli_quiet(void) {
    return quiet_stderr;
}

void fr_cli_set_silent(bool silent) {
    silent_stderr = silent;
    if (silent) quiet_stderr = true;
}

const char *fr_cli_last_error(void) {
    return last_error;
}

static void print_line(const char *start, const char *format, va_list arguments) {
    if (silent_stderr) {
        if (!last_error[0]) vsnprintf(last_error, sizeof last_error, format, arguments);
        return;
    }
    fflush(stdout); /* so that a terminal shows output and messages in order */
    fputs(start, stderr);
    fr_cli_vprint_shown(stderr, format, arguments); /* file names and contents are not to be trusted */
}

int fr_cli_error(int exit_code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_line("forerun: ", format, arguments);
    va_end(arguments);
    return exit_code;
}

void fr_cli_hint(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_line("hint: ", format, arguments);
    va_end(arguments);
}

int fr_cli_failure(const fr_error *error) {
    int code = error->status == FR_ERROR_ARGUMENT ? FR_EXIT_USAGE
               : error->status == FR_INTERRUPTED  ? FR_EXIT_INTERRUPTED
                                                  : FR_EXIT_FAILED;
    fr_cli_error(code, "%s", error->message[0] ? error->message : fr_status_name(error->status));
    if (error->hint[0]) fr_cli_hint("%s", error->hint);
    return code;
}

void fr_cli_note(const char *format, ...) {
    if (quiet_stderr) return;
    va_list arguments;
    va_start(arguments, format);
    print_line("", format, arguments);
    va_end(arguments);
}

int fr_cli_flush(int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
    int reason = errno;
    fr_cli_error(FR_EXIT_FAILED, "standard output: %s", reason ? strerror(reason) : "write error");
    return exit_code == FR_EXIT_DONE ? FR_EXIT_FAILED : exit_code;
}

void fr_cli_hold_output(void) {
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
}

void *fr_cli_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) exit(fr_cli_error(FR_EXIT_FAILED, "memory: %zu x %zu bytes are not to be had", count, size));
    return memory;
}

void *fr_cli_grow(void *memory, size_t count, size_t size) {
    void *grown = count > SIZE_MAX / size ? NULL : realloc(memory, count > 0 ? count * size : size);
    if (!grown) exit(fr_cli_error(FR_EXIT_FAILED, "memory: %zu x %zu bytes are not to be had", count, size));
    return grown;
}

void fr_cli_set_plain(void) {
    plain = true;
}

bool fr_cli_is_terminal(FILE *out) {
    const char *term = getenv("TERM");
    return isatty(fileno(out)) && !(term && strcmp(term, "dumb") == 0) && !plain;
}

bool fr_cli_colour(FILE *out) {
    const char *no_color = getenv("NO_COLOR");
    return fr_cli_is_terminal(out) && !(no_color && no_color[0]);
}

double fr_cli_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
