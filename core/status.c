#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    [FR_OK] = "ok",
    [FR_ERROR_ARGUMENT] = "invalid argument",
    [FR_ERROR_IO] = "input/output error",
    [FR_ERROR_FORMAT] = "malformed file",
    [FR_ERROR_UNSUPPORTED] = "unsupported",
    [FR_ERROR_MEMORY] = "out of memory",
    [FR_ERROR_CONTEXT] = "context full",
    [FR_INTERRUPTED] = "interrupted",
};

_Static_assert(sizeof names / sizeof *names == FR_INTERRUPTED + 1, "a name for each status");

const char *fr_status_name(fr_status status) {
    size_t i = (size_t)status;
    return i < sizeof names / sizeof *names ? names[i] : "unknown status";
}

/* However long a place is, a message says what went wrong there. */
_Static_assert(sizeof((fr_error *)0)->where + 128 <= sizeof((fr_error *)0)->message, "a place fills the message");

/* A message is one line, whatever is quoted in it from a file. */
static void keep_to_one_line(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

/* Messages begin with their place: fr_error_what relies on it. */
static void fill(fr_error *error, fr_status status, const char *where, const char *format, va_list args) {
    size_t used = (size_t)snprintf(error->where, sizeof error->where, "%s", where);
    if (used >= sizeof error->where) used = sizeof error->where - 1;
    if (used > 0) used = (size_t)snprintf(error->message, sizeof error->message, "%s: ", error->where);
    vsnprintf(error->message + used, sizeof error->message - used, format, args);
    keep_to_one_line(error->where);
    keep_to_one_line(error->message);
    error->status = status;
    error->hint[0] = '\0';
}

fr_status fr_fail(fr_error *error, fr_status status, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        fill(error, status, "", format, args);
        va_end(args);
    }
    return status;
}

fr_status fr_fail_at(fr_error *error, fr_status status, const char *where, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        fill(error, status, where, format, args);
        va_end(args);
    }
    return status;
}

fr_place fr_place_of(const char *format, ...) {
    fr_place place;
    va_list args;
    va_start(args, format);
    vsnprintf(place.text, sizeof place.text, format, args);
    va_end(args);
    return place;
}

const char *fr_error_what(const fr_error *error) {
    size_t where = strlen(error->where);
    return where > 0 ? error->message + where + 2 : error->message;
}

fr_status fr_hint(fr_error *error, fr_status status, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->hint, sizeof error->hint, format, args);
        keep_to_one_line(error->hint);
        va_end(args);
    }
    return status;
}

fr_status fr_context(fr_error *error, fr_status status, const char *format, ...) {
    if (error) {
        fr_error inner = *error;
        fr_place place;
        va_list args;
        va_start(args, format);
        vsnprintf(place.text, sizeof place.text, format, args);
        va_end(args);
        if (*inner.where) place = fr_place_of("%s: %s", place.text, inner.where);
        fr_fail_at(error, inner.status, place.text, "%s", fr_error_what(&inner));
        memcpy(error->hint, inner.hint, sizeof error->hint);
    }
    return status;
}
