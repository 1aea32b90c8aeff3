/* One convention for failure, from the bottom to the command line: a function that can fail returns fr_status and fills
 * the caller's fr_error (which may be NULL) with what failed, where, and a hint. Compute functions cannot fail: all that
 * could go wrong is checked before they run. */
#ifndef FR_CORE_STATUS_H
#define FR_CORE_STATUS_H

#include "forerun.h"

#if defined(__GNUC__)
#define FR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define FR_PRINTF(fmt, args)
#endif

/* Fills *error (if any) with a formatted message and an empty hint; returns status, so that `return fr_fail(...)` reads well. */
fr_status fr_fail(fr_error *error, fr_status status, const char *format, ...) FR_PRINTF(3, 4);
/* Adds a hint to the error that was just filled. Returns its status. */
fr_status fr_hint(fr_error *error, fr_status status, const char *format, ...) FR_PRINTF(3, 4);
/* Puts "CONTEXT: " before the message. Returns its status. */
fr_status fr_context(fr_error *error, fr_status status, const char *format, ...) FR_PRINTF(3, 4);

#define FR_TRY(expr)                                                                                                             \
    do {                                                                                                                         \
        fr_status fr_try_status_ = (expr);                                                                                       \
        if (fr_try_status_ != FR_OK) return fr_try_status_;                                                                      \
    } while (0)

/* For functions with one exit: sets `status` and goes to `done`. */
#define FR_CHECK(expr)                                                                                                           \
    do {                                                                                                                         \
        status = (expr);                                                                                                         \
        if (status != FR_OK) goto done;                                                                                          \
    } while (0)

#endif
