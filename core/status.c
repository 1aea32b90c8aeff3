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

const char *fr_status_name(fr_status status) {
    size_t i = (size_t)status;
    return i < sizeof names / sizeof *names ? names[i] : "unknown status";
}

fr_status fr_fail(fr_error *error, fr_status status, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        error->status = status;
        error->hint[0] = '\0';
    }
    return status;
}

fr_status fr_hint(fr_error *error, fr_status status, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->hint, sizeof error->hint, format, args);
        va_end(args);
    }
    return status;
}

fr_status fr_context(fr_error *error, fr_status status, const char *format, ...) {
    if (error) {
        char rest[sizeof error->message];
        memcpy(rest, error->message, sizeof rest);
        va_list args;
        va_start(args, format);
        int n = vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof error->message)
            snprintf(error->message + n, sizeof error->message - (size_t)n, ": %.700s", rest);
    }
    return status;
}
