/* Stop strings in a stream of text: which bytes can be printed, and whether the text is over. */
#ifndef FR_TEXT_STOP_STRINGS_H
#define FR_TEXT_STOP_STRINGS_H

#include "core/status.h"

typedef struct fr_stop_strings fr_stop_strings;

/* Strings [count] are copied; one that is empty is FR_ERROR_ARGUMENT. */
fr_status fr_stop_strings_create(const char *const *strings, size_t count, fr_stop_strings **out, fr_error *error);
void fr_stop_strings_destroy(fr_stop_strings *stop);
/* The most bytes that are held back, and that one of the calls below writes. */
size_t fr_stop_strings_longest(const fr_stop_strings *stop);

/* Takes the text's next byte. Writes the bytes that cannot be part of a stop string any more and returns how many. When a stop
 * string is complete (the first one; of several that end together the longest), it is dropped, and nothing comes out after. */
size_t fr_stop_strings_push(fr_stop_strings *stop, char byte, char *out);
bool fr_stop_strings_found(const fr_stop_strings *stop);
/* The text is over: writes the bytes that are held back. The next push begins another text. */
size_t fr_stop_strings_finish(fr_stop_strings *stop, char *out);

#endif
