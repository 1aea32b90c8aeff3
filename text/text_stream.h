/* Tokens to text, one by one: fr_text_stream of forerun.h, over a tokenizer. */
#ifndef FR_TEXT_TEXT_STREAM_H
#define FR_TEXT_TEXT_STREAM_H

#include "text/tokenizer.h"

/* The tokenizer must outlive the stream. Special tokens add no text. The output is always UTF-8: bytes that are not part of a
 * character become U+FFFD as soon as that is known. Pushing allocates nothing. */
fr_status fr_text_stream_open(const fr_tokenizer *tokenizer, fr_text_stream **out, fr_error *error);

#endif
