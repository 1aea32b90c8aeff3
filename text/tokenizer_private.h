/* What is built from a tokenizer's files and text/tokenizer.c uses. */
#ifndef FR_TEXT_TOKENIZER_PRIVATE_H
#define FR_TEXT_TOKENIZER_PRIVATE_H

#include "core/json.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/chat_format.h"
#include "text/pretokenize.h"
#include "text/strmap.h"
#include "text/tokenizer.h"

typedef struct fr_token_text {
    uint32_t start, length; /* in fr_tokenizer.text */
    bool present, special;
} fr_token_text;

struct fr_tokenizer {
    fr_token_text *tokens; /* [size] */
    int32_t size;
    char *text; /* the bytes of all tokens */
    size_t max_token_bytes;
    fr_pretokenizer pretokenizer;
    fr_bpe bpe;
    bool ignore_merges;
    fr_strmap whole; /* bytes of a piece -> its own token; filled only with ignore_merges */
    /* Added tokens are found in two passes over the text: first those that are matched before normalization, then, in the rest,
     * the others. (There is no normalization here, but the order decides which token wins.) */
    fr_added added[2];
    int32_t bos, eos; /* -1: none */
    bool add_bos;
    fr_chat chat;
};

#define FR_MAX_TOKENIZER_BYTES ((uint64_t)512 << 20) /* of a file: token texts then fit 32-bit offsets */

/* Read the vocabulary into a zeroed tokenizer whose bos and eos are -1, of which they leave what they have allocated when they
 * fail. config: tokenizer_config.json, or NULL. */
fr_status fr_tokenizer_read_json(fr_tokenizer *tokenizer, const char *path, fr_error *error);
fr_status fr_tokenizer_read_tiktoken(fr_tokenizer *tokenizer, const char *path, const cJSON *config, fr_error *error);

#endif
