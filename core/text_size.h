/* Sizes and counts for people. Each function writes into `text`, FR_TEXT_SIZE_BYTES of it, and returns it; the macros have an
 * array of their own, which lasts to the end of the enclosing block. */
#ifndef FR_CORE_TEXT_SIZE_H
#define FR_CORE_TEXT_SIZE_H

#include <stdint.h>

enum { FR_TEXT_SIZE_BYTES = 28 }; /* 2^64 grouped has 26 */

/* "512 B", "1.23 GiB". */
const char *fr_text_size(uint64_t bytes, char *text);
#define FR_TEXT_SIZE(bytes) fr_text_size((bytes), (char[FR_TEXT_SIZE_BYTES]){0})
/* "671.03 B": billions. */
const char *fr_text_count(uint64_t value, char *text);
#define FR_TEXT_COUNT(value) fr_text_count((value), (char[FR_TEXT_SIZE_BYTES]){0})
/* "1,234,567". */
const char *fr_text_grouped(uint64_t value, char *text);
#define FR_TEXT_GROUPED(value) fr_text_grouped((value), (char[FR_TEXT_SIZE_BYTES]){0})

#endif
