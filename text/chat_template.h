/* A conversation as text and as tokens, in a chat format. */
#ifndef FR_TEXT_CHAT_TEMPLATE_H
#define FR_TEXT_CHAT_TEMPLATE_H

#include "text/tokenizer.h"

/* As fr_render_chat: the text of a conversation, NUL-terminated, released with fr_free. It is for fr_tokenizer_encode with
 * add_special, and has bos exactly once after that: it is written only if encoding does not add it (and the tokenizer has one).
 * FR_ERROR_UNSUPPORTED: there is no chat format, the tokenizer lacks a token of it, or it thinks otherwise than asked for. */
fr_status fr_chat_render(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                         char **text, fr_error *error);
/* As fr_tokenize_chat: its tokens. */
fr_status fr_chat_encode(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                         int32_t **tokens, size_t *num_tokens, fr_error *error);

/* Whether a token ends an answer in the chat format. */
bool fr_chat_ends(const fr_tokenizer *tokenizer, int32_t token);
/* The token that ends an answer in the text of a conversation; -1: none, the next turn does. */
int32_t fr_chat_end_token(const fr_tokenizer *tokenizer);
/* Whether the reasoning of earlier answers is left out. */
bool fr_chat_drops_reasoning(const fr_tokenizer *tokenizer);

#endif
