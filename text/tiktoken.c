/* Reading tiktoken.model, the vocabulary of Kimi-K2 and Moonlight: a line for each token, "BASE64 RANK". A token's rank is its
 * id, and the order in which pieces merge into it. The special tokens behind them are named in tokenizer_config.json; the split
 * pattern only in the Python class that the checkpoint names, so it is known by that class. (That class also cuts runs of more
 * than 25,000 characters without a blank, for the sake of its library. This is not done here.) */
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "text/tokenizer_private.h"

#define NUM_SPECIAL 258 /* ids behind the vocabulary that are special tokens: 256 reserved ones, and two */
#define RESERVED_NAME_BYTES 32

static const char tokenizer_class[] = "TikTokenTokenizer";
static const char split_pattern[] = "[\\p{Han}]+"
                                    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
                                    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                                    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+"
                                    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                                    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

typedef struct reader {
    fr_tokenizer *t;
    const char *at, *end; /* what is left of the file */
    int32_t count;        /* of lines */
    size_t text_used;
    fr_error *error;
} reader;

/* ---- Lines ---- */

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Decodes up to `end`, padding included. False when that is no base64. */
static bool decode_base64(const char *in, const char *end, char *out, size_t *length) {
    size_t n = 0;
    if (in == end || (end - in) % 4) return false;
    size_t padding = (size_t)(end[-1] == '=') + (end[-1] == '=' && end[-2] == '=');
    for (end -= padding; in < end; in += 4) {
        unsigned bits = 0, digits = 0;
        for (; digits < 4 && in + digits < end; digits++) {
            int digit = base64_digit(in[digits]);
            if (digit < 0) return false;
            bits |= (unsigned)digit << (18 - 6 * digits);
        }
        for (unsigned i = 0; i + 1 < digits; i++) out[n++] = (char)(bits >> (16 - 8 * i) & 0xff);
    }
    *length = n;
    return true;
}

static void finish_text(reader *r, int32_t id, size_t length, bool special) {
    r->t->tokens[id] = (fr_token_text){(uint32_t)r->text_used, (uint32_t)length, true, special};
    r->text_used += length;
    if (length > r->t->max_token_bytes) r->t->max_token_bytes = length;
}

/* Takes the next line, and what ends it. */
static fr_status read_line(reader *r) {
    fr_tokenizer *t = r->t;
    const char *end = memchr(r->at, '\n', (size_t)(r->end - r->at)), *line = r->at;
    if (!end) end = r->end;
    const char *blank = memchr(line, ' ', (size_t)(end - line));
    char *text = t->text + r->text_used;
    size_t length;
    if (!blank || !decode_base64(line, blank, text, &length))
        return fr_fail(r->error, FR_ERROR_FORMAT, "expected \"BASE64 RANK\", found \"%.*s\"",
                       end - line < 60 ? (int)(end - line) : 60, line);
    int64_t rank = 0;
    const char *digit = blank + 1;
    for (; digit < end && *digit >= '0' && *digit <= '9' && rank < r->count; digit++) rank = 10 * rank + (*digit - '0');
    if (digit < end && *digit == '\r') digit++;
    if (digit == blank + 1 || digit < end || rank >= r->count)
        return fr_fail(r->error, FR_ERROR_FORMAT, "expected a rank below %d, the number of lines", (int)r->count);
    if (t->tokens[rank].present || fr_strmap_put(&t->whole, text, length, (int32_t)rank) >= 0)
        return fr_fail(r->error, FR_ERROR_FORMAT, "rank %d or its token is there twice", (int)rank);
    if (length == 1) t->bpe.byte_id[(uint8_t)*text] = (int32_t)rank;
    finish_text(r, (int32_t)rank, length, false);
    r->at = end < r->end ? end + 1 : end;
    return FR_OK;
}

static fr_status read_lines(reader *r) {
    for (int b = 0; b < 256; b++) r->t->bpe.byte_id[b] = -1;
    for (int line = 1; r->at < r->end; line++) {
        fr_status status = read_line(r);
        if (status != FR_OK) return fr_context(r->error, status, "line %d", line);
    }
    for (int b = 0; b < 256; b++)
        if (r->t->bpe.byte_id[b] < 0)
            return fr_fail(r->error, FR_ERROR_UNSUPPORTED, "no token for the byte 0x%02X, so not every text can be encoded",
                           (unsigned)b);
    return FR_OK;
}

/* ---- Merges: every two tokens that make a third, which has the rank ---- */

/* Adds them, or only counts them. */
static size_t each_merge(fr_tokenizer *t, int32_t count, bool add) {
    size_t merges = 0;
    for (int32_t id = 0; id < count; id++) {
        const char *text = t->text + t->tokens[id].start;
        size_t length = t->tokens[id].length;
        for (size_t cut = 1; cut < length; cut++) {
            int32_t left = fr_strmap_get(&t->whole, text, cut), right;
            if (left < 0 || (right = fr_strmap_get(&t->whole, text + cut, length - cut)) < 0) continue;
            if (add) fr_bpe_add(&t->bpe, left, right, (uint32_t)id, id);
            merges++;
        }
    }
    return merges;
}

/* ---- Special tokens ---- */

/* The entry of an id in tokenizer_config.json's added_tokens_decoder; NULL: none. */
static const cJSON *named_token(const cJSON *config, int32_t id) {
    char key[16];
    snprintf(key, sizeof key, "%d", (int)id);
    return fr_json_find(fr_json_find(config, "added_tokens_decoder"), key);
}

static fr_status add_special(reader *r, const cJSON *config, int32_t id) {
    char *text = r->t->text + r->text_used, reserved[RESERVED_NAME_BYTES];
    const cJSON *named = named_token(config, id);
    const char *name = reserved;
    bool special = true;
    snprintf(reserved, sizeof reserved, "<|reserved_token_%d|>", (int)id);
    if (named) {
        FR_TRY(fr_json_string(named, "added_tokens_decoder", "content", &name, r->error));
        FR_TRY(fr_json_bool_or(named, "added_tokens_decoder", "special", true, &special, r->error));
        if (!*name) return fr_fail_at(r->error, FR_ERROR_FORMAT, "added_tokens_decoder", "token %d is empty", (int)id);
    }
    size_t length = strlen(name);
    memcpy(text, name, length);
    finish_text(r, id, length, special);
    fr_added_put(&r->t->added[0], (fr_added_token){text, (uint32_t)length, id, special});
    return FR_OK;
}

static fr_status add_specials(reader *r, const cJSON *config) {
    FR_TRY(fr_added_create(&r->t->added[0], NUM_SPECIAL, r->error));
    for (int32_t id = r->count; id < r->t->size; id++) FR_TRY(add_special(r, config, id));
    fr_added_sort(&r->t->added[0]);
    const fr_added *added = &r->t->added[0];
    for (size_t i = 1; i < added->count; i++)
        if (added->tokens[i].length == added->tokens[i - 1].length &&
            memcmp(added->tokens[i].content, added->tokens[i - 1].content, added->tokens[i].length) == 0)
            return fr_fail_at(r->error, FR_ERROR_FORMAT, "added_tokens_decoder", "\"%.*s\" is there twice",
                              (int)added->tokens[i].length, added->tokens[i].content);
    return FR_OK;
}

/* ---- The file ---- */

/* Memory for a text of so many bytes, and for the names of the special tokens. */
static fr_status allocate(reader *r, const cJSON *config, size_t bytes) {
    for (int32_t id = r->count; id < r->count + NUM_SPECIAL; id++) {
        const cJSON *content = fr_json_find(named_token(config, id), "content");
        bytes += cJSON_IsString(content) ? strlen(content->valuestring) : RESERVED_NAME_BYTES;
    }
    r->t->size = r->count + NUM_SPECIAL;
    r->t->tokens = fr_alloc_zeroed((size_t)r->t->size, sizeof *r->t->tokens);
    r->t->text = fr_alloc(bytes);
    if (!r->t->tokens || !r->t->text) return fr_fail(r->error, FR_ERROR_MEMORY, "no memory for %d tokens", (int)r->t->size);
    return fr_strmap_create(&r->t->whole, (size_t)r->count, r->error);
}

static fr_status read_all(reader *r, const cJSON *config) {
    fr_tokenizer *t = r->t;
    for (const char *p = r->at; p < r->end; p++) r->count += *p == '\n';
    r->count += r->end > r->at && r->end[-1] != '\n';
    FR_TRY(allocate(r, config, (size_t)(r->end - r->at)));
    t->ignore_merges = true; /* a piece that is a token is that token */
    FR_TRY(read_lines(r));
    FR_TRY(fr_bpe_create(&t->bpe, each_merge(t, r->count, false), r->error));
    each_merge(t, r->count, true);
    FR_TRY(add_specials(r, config));
    return fr_pretokenizer_split(&t->pretokenizer, split_pattern, r->error);
}

fr_status fr_tokenizer_read_tiktoken(fr_tokenizer *tokenizer, const char *path, const cJSON *config, fr_error *error) {
    const char *class;
    FR_TRY(fr_json_string_or(config, "tokenizer", "tokenizer_class", "none", &class, error));
    if (strcmp(class, tokenizer_class) != 0)
        return fr_fail_at(error, FR_ERROR_UNSUPPORTED, path, "tokenizer_class \"%.40s\": the split pattern is known for %s only",
                          class, tokenizer_class);
    char *bytes;
    size_t length;
    FR_TRY(fr_read_file(path, FR_MAX_TOKENIZER_BYTES, &bytes, &length, error));
    reader r = {.t = tokenizer, .at = bytes, .end = bytes + length, .error = error};
    fr_status status = read_all(&r, config);
    fr_free(bytes);
    return status == FR_OK ? FR_OK : fr_context(error, status, "%s", path);
}
