/* The regular expressions of tokenizer.json. They are written for Oniguruma; PCRE2 means the same by the subset that is
 * accepted here, once what the two read differently has been rewritten. Anything else is FR_ERROR_UNSUPPORTED, so that
 * no text is quietly split in another way. */
#ifndef FR_TEXT_REGEX_H
#define FR_TEXT_REGEX_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/status.h"

/* Compiled for UTF-8 with Unicode properties, by JIT where there is one; release with pcre2_code_free. */
fr_status fr_regex_compile(const char *pattern, pcre2_code **out, fr_error *error);
/* A string that stands for itself; not empty. */
fr_status fr_regex_literal(const char *text, pcre2_code **out, fr_error *error);

#endif
