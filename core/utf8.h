/* UTF-8, as Unicode defines it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef FR_CORE_UTF8_H
#define FR_CORE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define FR_UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

#define FR_UTF8_MARK "\xEF\xBB\xBF" /* U+FEFF, which some editors put before a text: the byte order mark */

/* The bytes of the mark that a text begins with: 3 or 0. */
size_t fr_utf8_mark(const char *text, size_t length);

/* Looks at the beginning of p [n], n >= 1. Returns
 *   1..4  a character of that many bytes
 *   0     the beginning of a character that needs more than n bytes
 *  -1..-3 that many bytes that are not the beginning of any character (the run that Unicode replaces by one U+FFFD) */
int fr_utf8_next(const uint8_t *p, size_t n);

#endif
