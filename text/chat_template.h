/* The chat template of DeepSeek-V3 (the text one: no tools):
 *
 *   BOS system <｜User｜> question <｜Assistant｜> answer <｜end▁of▁sentence｜> <｜User｜> question <｜Assistant｜>
 *
 * without the spaces. */
#ifndef FR_TEXT_CHAT_TEMPLATE_H
#define FR_TEXT_CHAT_TEMPLATE_H

#include "text/tokenizer.h"

/* Writes the text of a conversation, NUL-terminated, released with fr_free. It is for fr_tokenizer_encode with add_special, and
 * has bos exactly once after that: it is written only if encoding does not add it (and the tokenizer has one).
 *
 * System turns are moved to the front, joined by a blank line; the others keep their order. With `reply` the text ends where the
 * assistant is to answer. A tokenizer without the template's tokens, as a base model's may be, is FR_ERROR_UNSUPPORTED. */
fr_status fr_chat_render(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, bool reply, char **text,
                         fr_error *error);

#endif
