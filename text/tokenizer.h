/* Byte-level BPE tokenizers as DeepSeek-V3-family checkpoints ship them: tokenizer.json or tiktoken.model, and what
 * tokenizer_config.json says about the beginning and the end of a text.
 *
 * A text is any bytes. Added tokens are cut out of it first; the rest is split into pieces (text/pretokenize.h) and
 * each piece into tokens (text/bpe.h). Decoding gives back exactly the bytes that were encoded. */
#ifndef FR_TEXT_TOKENIZER_H
#define FR_TEXT_TOKENIZER_H

#include "core/notices.h"

/* Immutable: may be shared by threads. */
typedef struct fr_tokenizer fr_tokenizer;

/* Whether the directory has a tokenizer.json or a tiktoken.model. */
bool fr_tokenizer_present(const char *dir);
/* The i-th of a tokenizer's files that the directory has, chat template included; NULL: there are no more. */
const char *fr_tokenizer_file(const char *dir, int i);

/* Reads dir/tokenizer.json, or else dir/tiktoken.model, and dir/tokenizer_config.json if there is one. FR_ERROR_UNSUPPORTED: the
 * message names the part that is of an unsupported kind; FR_ERROR_FORMAT: what is malformed or contradictory. */
fr_status fr_tokenizer_load(const char *dir, fr_tokenizer **out, fr_error *error);
void fr_tokenizer_destroy(fr_tokenizer *tokenizer);
/* Reads its chat format: dir/chat_template.jinja, or else chat_template of tokenizer_config.json, with the model_type of
 * config.json; or the one of this name (NULL: none is asked for). A file that cannot be read is no template, with a notice.
 * notices may be NULL. */
fr_status fr_tokenizer_load_chat(fr_tokenizer *tokenizer, const char *dir, const char *name, fr_notices *notices,
                                 fr_error *error);
/* Both. A tokenizer that is not there or cannot be used is no error but *out NULL, and *why says what is wrong with text then:
 * a model works on token ids. */
fr_status fr_tokenizer_open(const char *dir, const char *chat_format, fr_tokenizer **out, fr_error *why, fr_notices *notices,
                            fr_error *error);
/* The notices alone. */
fr_status fr_tokenizer_notices(const char *dir, fr_notices *notices, fr_error *error);
/* The name of the chat format; NULL: there is none, or none that is known. */
const char *fr_tokenizer_chat_format(const fr_tokenizer *tokenizer);

/* As fr_tokenize. Without add_special, special tokens written in the text are plain text; added tokens that are not
 * special are recognised all the same. text may be NULL when length is 0. */
fr_status fr_tokenizer_encode(const fr_tokenizer *tokenizer, const char *text, size_t length, bool add_special, int32_t **tokens,
                              size_t *count, fr_error *error);
/* The same for a text of parts: where plain[i] is set, added tokens that look like control tokens (special ones, and <...>) are
 * plain text; elsewhere, or with plain NULL, all are recognised. bos: begin with it. */
fr_status fr_tokenizer_encode_parts(const fr_tokenizer *tokenizer, const char *text, size_t length, const bool *plain, bool bos,
                                    int32_t **tokens, size_t *count, fr_error *error);
/* As fr_detokenize. Ids without text (a model's vocabulary is often padded) add nothing; negative ones are an error. */
fr_status fr_tokenizer_decode(const fr_tokenizer *tokenizer, const int32_t *tokens, size_t count, bool with_special, char **text,
                              size_t *length, fr_error *error);
/* As fr_token_bytes. */
const char *fr_tokenizer_token_bytes(const fr_tokenizer *tokenizer, int32_t token, size_t *length);
bool fr_tokenizer_is_special(const fr_tokenizer *tokenizer, int32_t token);

/* Ids lie in [0, this). */
int fr_tokenizer_size(const fr_tokenizer *tokenizer);
/* The most bytes of one token. */
size_t fr_tokenizer_max_token_bytes(const fr_tokenizer *tokenizer);
/* -1 when tokenizer_config.json (or, for bos, the post_processor) names none. */
int32_t fr_tokenizer_bos(const fr_tokenizer *tokenizer);
int32_t fr_tokenizer_eos(const fr_tokenizer *tokenizer);
/* Whether add_special prepends bos. */
bool fr_tokenizer_add_bos(const fr_tokenizer *tokenizer);
/* The id of the added token with this text, or -1. */
int32_t fr_tokenizer_find(const fr_tokenizer *tokenizer, const char *content);

#endif
