/* The regular expressions of tokenizer.json. They are written for Oniguruma and run by PCRE2. What the two read differently is
 * rewritten; what is outside of the subset known to mean the same is FR_ERROR_UNSUPPORTED, so that no text is silently split in
 * another way. */
#ifndef FR_TEXT_REGEX_H
#define FR_TEXT_REGEX_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/status.h"

/* Compiled for UTF-8 with Unicode properties, by JIT where there is one; release with pcre2_code_free. */
fr_status fr_regex_compile(const char *pattern, pcre2_code **out, fr_error *error);
/* Matches exactly this text, which is not empty. */
fr_status fr_regex_literal(const char *text, pcre2_code **out, fr_error *error);

#endif
