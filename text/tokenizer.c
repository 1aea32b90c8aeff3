#include "text/tokenizer.h"

#include <string.h>

#include "core/memory.h"
#include "text/tokenizer_private.h"

void fr_tokenizer_destroy(fr_tokenizer *tokenizer) {
    if (!tokenizer) return;
    fr_free(tokenizer->tokens);
    fr_free(tokenizer->text);
    fr_pretokenizer_release(&tokenizer->pretokenizer);
    fr_bpe_release(&tokenizer->bpe);
    fr_strmap_release(&tokenizer->whole);
    for (int pass = 0; pass < 2; pass++) fr_added_release(&tokenizer->added[pass]);
    fr_free(tokenizer->chat.preamble);
    fr_free(tokenizer);
}

/* ---- Encoding ---- */

typedef struct encoder {
    const fr_tokenizer *tokenizer;
    bool special; /* recognise special tokens */
    const char *text;
    const bool *plain; /* of the text: bytes in which control tokens are not recognised; NULL: none */
    int32_t *out;      /* [length of the text + 1]: at most a token a byte, and bos */
    size_t count;
    fr_pretokenize_scratch pretokenize;
    fr_bpe_scratch bpe;
} encoder;

static fr_status encode_piece(void *user, const uint8_t *piece, size_t length, fr_error *error) {
    encoder *e = user;
    if (e->tokenizer->ignore_merges) {
        int32_t id = fr_strmap_get(&e->tokenizer->whole, (const char *)piece, length);
        if (id >= 0) {
            e->out[e->count++] = id;
            return FR_OK;
        }
    }
    size_t n;
    FR_TRY(fr_bpe_encode(&e->tokenizer->bpe, piece, length, &e->bpe, e->out + e->count, &n, error));
    e->count += n;
    return FR_OK;
}

/* Whether an added token that is not special is one all the same (DeepSeek's <｜User｜> is), and no piece of text. */
static bool looks_like_control(const fr_added_token *token) {
    return token->special || (token->content[0] == '<' && token->content[token->length - 1] == '>');
}

/* The added token that the text begins with; NULL: none. It does not reach from one kind of part into the other. */
static const fr_added_token *match_added(const encoder *e, int pass, const char *text, size_t length) {
    const fr_added *added = &e->tokenizer->added[pass];
    if (!added->first[(uint8_t)*text]) return NULL;
    if (!e->plain) return fr_added_match(added, text, length, e->special);
    const bool *plain = e->plain + (text - e->text), kind = *plain;
    size_t same = 1;
    while (same < length && plain[same] == kind) same++;
    const fr_added_token *token = fr_added_match(added, text, same, e->special && !kind);
    return token && kind && looks_like_control(token) ? NULL : token;
}

/* Cuts the added tokens of this pass and the following ones out of the text, and tokenizes the rest. */
static fr_status encode_text(encoder *e, int pass, const char *text, size_t length, fr_error *error) {
    if (pass == 2)
        return fr_pretokenize(&e->tokenizer->pretokenizer, &e->pretokenize, (const uint8_t *)text, length, encode_piece, e,
                              error);
    size_t done = 0, i = 0;
    while (i < length) {
        const fr_added_token *token = match_added(e, pass, text + i, length - i);
        if (!token) {
            i++;
            continue;
        }
        FR_TRY(encode_text(e, pass + 1, text + done, i - done, error));
        e->out[e->count++] = token->id;
        i += token->length;
        done = i;
    }
    return encode_text(e, pass + 1, text + done, length - done, error);
}

static fr_status encode(encoder *e, size_t length, bool bos, int32_t **tokens, size_t *count, fr_error *error) {
    if (length >= INT32_MAX)
        return fr_fail(error, FR_ERROR_ARGUMENT, "a text of %zu bytes is too long to be tokenized at once", length);
    FR_TRY(fr_pretokenize_scratch_create(&e->pretokenize, error));
    fr_status status;
    e->out = fr_alloc((length + 1) * sizeof *e->out);
    if (e->out) {
        if (bos) e->out[e->count++] = e->tokenizer->bos;
        status = encode_text(e, 0, e->text, length, error);
    } else {
        status = fr_fail(error, FR_ERROR_MEMORY, "no memory to tokenize %zu bytes", length);
    }
    fr_pretokenize_scratch_release(&e->pretokenize);
    fr_bpe_scratch_release(&e->bpe);
    if (status != FR_OK) {
        fr_free(e->out);
        return status;
    }
    *tokens = e->out;
    *count = e->count;
    return FR_OK;
}

fr_status fr_tokenizer_encode(const fr_tokenizer *tokenizer, const char *text, size_t length, bool add_special, int32_t **tokens,
                              size_t *count, fr_error *error) {
    encoder e = {.tokenizer = tokenizer, .special = add_special, .text = text ? text : ""};
    return encode(&e, length, add_special && tokenizer->add_bos, tokens, count, error);
}

fr_status fr_tokenizer_encode_parts(const fr_tokenizer *tokenizer, const char *text, size_t length, const bool *plain, bool bos,
                                    int32_t **tokens, size_t *count, fr_error *error) {
    encoder e = {.tokenizer = tokenizer, .special = true, .text = text, .plain = plain};
    return encode(&e, length, bos, tokens, count, error);
}

/* ---- Decoding ---- */

fr_status fr_tokenizer_decode(const fr_tokenizer *tokenizer, const int32_t *tokens, size_t count, bool with_special, char **text,
                              size_t *length, fr_error *error) {
    size_t bytes = 0, n;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0) return fr_fail(error, FR_ERROR_ARGUMENT, "token %zu: %d is not a token id", i, (int)tokens[i]);
        if (fr_tokenizer_token_bytes(tokenizer, tokens[i], &n)) bytes += n;
    }
    char *out = fr_alloc(bytes + 1), *p = out;
    if (!out) return fr_fail(error, FR_ERROR_MEMORY, "no memory for a text of %zu bytes", bytes);
    for (size_t i = 0; i < count; i++) {
        const char *token = fr_tokenizer_token_bytes(tokenizer, tokens[i], &n);
        if (token && (with_special || !fr_tokenizer_is_special(tokenizer, tokens[i]))) p = mempcpy(p, token, n);
    }
    *p = '\0';
    *text = out;
    *length = (size_t)(p - out);
    return FR_OK;
}

/* ---- Queries ---- */

static const fr_token_text *lookup(const fr_tokenizer *tokenizer, int32_t token) {
    if (token < 0 || token >= tokenizer->size || !tokenizer->tokens[token].present) return NULL;
    return &tokenizer->tokens[token];
}

const char *fr_tokenizer_token_bytes(const fr_tokenizer *tokenizer, int32_t token, size_t *length) {
    const fr_token_text *found = lookup(tokenizer, token);
    if (length) *length = found ? found->length : 0;
    return found ? tokenizer->text + found->start : NULL;
}

bool fr_tokenizer_is_special(const fr_tokenizer *tokenizer, int32_t token) {
    const fr_token_text *found = lookup(tokenizer, token);
    return found && found->special;
}

int fr_tokenizer_size(const fr_tokenizer *tokenizer) {
    return tokenizer->size;
}

size_t fr_tokenizer_max_token_bytes(const fr_tokenizer *tokenizer) {
    return tokenizer->max_token_bytes;
}

int32_t fr_tokenizer_bos(const fr_tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t fr_tokenizer_eos(const fr_tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool fr_tokenizer_add_bos(const fr_tokenizer *tokenizer) {
    return tokenizer->add_bos;
}

int32_t fr_tokenizer_find(const fr_tokenizer *tokenizer, const char *content) {
    for (int pass = 0; pass < 2; pass++) {
        const fr_added_token *token = fr_added_find(&tokenizer->added[pass], content, strlen(content));
        if (token) return token->id;
    }
    return -1;
}

const char *fr_tokenizer_chat_format(const fr_tokenizer *tokenizer) {
    return tokenizer->chat.format ? tokenizer->chat.format->name : NULL;
}
