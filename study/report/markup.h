/* Text that grows, and the escaping of what others wrote. Out of memory sets `failed`, which whoever takes the text checks.
 * Private to study/. */
#ifndef FR_STUDY_REPORT_MARKUP_H
#define FR_STUDY_REPORT_MARKUP_H

#include "core/status.h"

typedef struct fr_markup {
    char *bytes; /* NUL-terminated once anything was written; fr_alloc'd */
    size_t length, room;
    bool failed;
} fr_markup;

/* As they are: our own text only. */
void fr_markup_raw(fr_markup *m, const char *text);
void fr_markup_format(fr_markup *m, const char *format, ...) FR_PRINTF(2, 3);
/* Anybody's text, for HTML between tags and in quoted attributes: & < > " ' become references, control characters other than
 * white space, and what is not UTF-8, U+FFFD. NULL writes nothing. */
void fr_markup_text(fr_markup *m, const char *text);
/* The same for a token's text, in which white space matters: it is made visible. */
void fr_markup_token(fr_markup *m, const char *text);
/* One field of CSV (RFC 4180), quoted where it has to be. */
void fr_markup_csv(fr_markup *m, const char *text);
/* A word for the shell, quoted where it has to be; not escaped for HTML. */
void fr_markup_shell(fr_markup *m, const char *word);

void fr_markup_release(fr_markup *m);

#endif
