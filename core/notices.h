/* What was assumed about files or left out of them, for people to know. Whoever reads a checkpoint keeps one list, and adds to it
 * while reading; forerun.h shows it. Adding cannot fail: a list is short, and the last place of a full one says so. */
#ifndef FR_CORE_NOTICES_H
#define FR_CORE_NOTICES_H

#include "core/status.h"

enum { FR_MAX_NOTICES = 24 };

/* Not to be moved or copied: `list` points into `texts`. Valid when zeroed. */
typedef struct fr_notices {
    size_t count;
    fr_notice list[FR_MAX_NOTICES]; /* in the order of finding */
    struct {
        char what[96], why[480];
    } texts[FR_MAX_NOTICES];
} fr_notices;

/* Adds a notice unless the list has it. notices may be NULL: nobody wants to know. */
void fr_notices_add(fr_notices *notices, const char *what, const char *format, ...) FR_PRINTF(3, 4);
/* Calls fn, if there is one, with each. */
void fr_notices_tell(const fr_notices *notices, fr_notice_fn fn, void *user);

#endif
