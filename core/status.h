/* One convention for failure, from the bottom to the command line: a function that can fail returns fr_status and fills
 * the caller's fr_error (which may be NULL) with what failed, where, and a hint. Compute functions cannot fail: everything that
 * could go wrong is checked before they run. */
#ifndef FR_CORE_STATUS_H
#define FR_CORE_STATUS_H

#include "forerun.h"

#if defined(__GNUC__)
#define FR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define FR_PRINTF(fmt, args)
#endif

/* Fills *error (if any) with a message that names no place, and an empty hint. All of these return status, so that
 * `return fr_fail(...)` reads well. */
fr_status fr_fail(fr_error *error, fr_status status, const char *format, ...) FR_PRINTF(3, 4);
/* The same about a place, a file, tensor or key: error->where is the place, the message "WHERE: ...". */
fr_status fr_fail_at(fr_error *error, fr_status status, const char *where, const char *format, ...) FR_PRINTF(4, 5);
/* Adds a hint to the error that was just filled. */
fr_status fr_hint(fr_error *error, fr_status status, const char *format, ...) FR_PRINTF(3, 4);
/* Puts "CONTEXT: " before message and place: what was read when the error was found. */
fr_status fr_context(fr_error *error, fr_status status, const char *format, ...) FR_PRINTF(3, 4);

/* A place of more than one part, for fr_fail_at: fr_place_of("%s: %s", file, key).text. */
typedef struct fr_place {
    char text[sizeof((fr_error *)0)->where];
} fr_place;
fr_place fr_place_of(const char *format, ...) FR_PRINTF(1, 2);

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
