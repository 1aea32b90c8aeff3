/* Reading tokenizer.json. Messages name the part: "FILE: model: merges[3]: ...". */
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "text/tokenizer_private.h"

#define MAX_IDS (1 << 22) /* a bound for the arrays that are indexed by id */

/* What was read about an id so far. */
typedef struct known_id {
    const char *name; /* as written in the file; NULL: none yet */
    bool added;
} known_id;

typedef struct loader {
    fr_tokenizer *t;
    const cJSON *root; /* of tokenizer.json; owns the names */
    fr_strmap names;
    known_id *ids; /* [t->size] */
    size_t text_used;
    fr_error *error;
} loader;

/* ---- The byte-level alphabet: each byte is written as one printable character ---- */

#define ALPHABET_END 324

static bool shows(int byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* byte_of[c]: the byte that the character c encodes; -1: none. */
static void fill_alphabet(int16_t byte_of[ALPHABET_END]) {
    int next = 0x100;
    for (int c = 0; c < ALPHABET_END; c++) byte_of[c] = -1;
    for (int b = 0; b < 256; b++) byte_of[shows(b) ? b : next++] = (int16_t)b;
}

/* Writes the bytes that a name encodes, never more than its length. False when a character is not of the alphabet. */
static bool decode_name(const int16_t byte_of[ALPHABET_END], const char *name, char *out, size_t *length) {
    const uint8_t *p = (const uint8_t *)name;
    size_t n = 0;
    while (*p) {
        int c = *p++;
        if (c >= 0xc2 && c <= 0xc5 && *p >= 0x80 && *p <= 0xbf)
            c = (c & 0x1f) << 6 | (*p++ & 0x3f);
        else if (c >= 0x80)
            return false;
        if (c >= ALPHABET_END || byte_of[c] < 0) return false;
        out[n++] = (char)byte_of[c];
    }
    *length = n;
    return true;
}

/* ---- Vocabulary and added tokens ---- */

static fr_status check_id(loader *l, const cJSON *json, const char *name, int32_t *out) {
    uint64_t id;
    char found[80];
    if (!fr_json_to_u64(json, &id) || id >= MAX_IDS)
        return fr_fail(l->error, FR_ERROR_FORMAT, "the id of \"%.60s\": expected an integer in [0, %d), found %s", name, MAX_IDS,
                       fr_json_describe(json, found, sizeof found));
    *out = (int32_t)id;
    return FR_OK;
}

static fr_status check_added(loader *l, const cJSON *json, fr_added_token *out, bool *normalized) {
    static const char *const refused[] = {"lstrip", "rstrip", "single_word"};
    const char *content;
    if (!cJSON_IsObject(json)) return fr_fail(l->error, FR_ERROR_FORMAT, "an added token is not an object");
    FR_TRY(fr_json_string(json, "an added token", "content", &content, l->error));
    if (!*content) return fr_fail(l->error, FR_ERROR_FORMAT, "an added token is empty");
    FR_TRY(check_id(l, fr_json_find(json, "id"), content, &out->id));
    FR_TRY(fr_json_bool_or(json, content, "special", false, &out->special, l->error));
    FR_TRY(fr_json_bool_or(json, content, "normalized", false, normalized, l->error));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        bool set;
        FR_TRY(fr_json_bool_or(json, content, refused[i], false, &set, l->error));
        if (set) return fr_fail(l->error, FR_ERROR_UNSUPPORTED, "\"%.60s\" has %s true", content, refused[i]);
    }
    out->content = content;
    out->length = (uint32_t)strlen(content);
    return FR_OK;
}

/* Counts tokens and their bytes, and allocates memory for them. */
static fr_status measure(loader *l, const cJSON *vocab, const cJSON *added) {
    const cJSON *item;
    size_t count = 0, num_added = 0, bytes = 1;
    int32_t size = 0, id = 0;
    cJSON_ArrayForEach(item, vocab) {
        FR_TRY(check_id(l, item, item->string, &id));
        bytes += strlen(item->string);
        if (id >= size) size = id + 1;
        count++;
    }
    cJSON_ArrayForEach(item, added) {
        fr_added_token token;
        bool normalized;
        FR_TRY(check_added(l, item, &token, &normalized));
        bytes += token.length;
        if (token.id >= size) size = token.id + 1;
        num_added++;
    }
    l->t->size = size;
    l->t->tokens = fr_alloc_zeroed((size_t)size, sizeof *l->t->tokens);
    l->t->text = fr_alloc(bytes);
    l->ids = fr_alloc_zeroed((size_t)size, sizeof *l->ids);
    if (!l->t->tokens || !l->t->text || !l->ids) return fr_fail(l->error, FR_ERROR_MEMORY, "no memory for %d tokens", (int)size);
    FR_TRY(fr_strmap_create(&l->names, count + num_added, l->error));
    if (l->t->ignore_merges) FR_TRY(fr_strmap_create(&l->t->whole, count, l->error));
    for (int pass = 0; pass < 2; pass++) FR_TRY(fr_added_create(&l->t->added[pass], num_added, l->error));
    return FR_OK;
}

/* Records the text of a token, which was written at the end of t->text. */
static void finish_text(loader *l, int32_t id, size_t length) {
    l->t->tokens[id] = (fr_token_text){(uint32_t)l->text_used, (uint32_t)length, true, false};
    l->text_used += length;
    if (length > l->t->max_token_bytes) l->t->max_token_bytes = length;
}

static fr_status take_id(loader *l, int32_t id, const char *name) {
    if (l->ids[id].name)
        return fr_fail(l->error, FR_ERROR_FORMAT, "id %d belongs to \"%.60s\" and to \"%.60s\"", (int)id, l->ids[id].name, name);
    l->ids[id].name = name;
    return FR_OK;
}

static fr_status load_vocab(loader *l, const cJSON *vocab) {
    int16_t byte_of[ALPHABET_END];
    fill_alphabet(byte_of);
    fr_tokenizer *t = l->t;
    const cJSON *item;
    for (int b = 0; b < 256; b++) t->bpe.byte_id[b] = -1;
    cJSON_ArrayForEach(item, vocab) {
        const char *name = item->string;
        int32_t id = 0;
        size_t length = strlen(name);
        FR_TRY(check_id(l, item, name, &id));
        FR_TRY(take_id(l, id, name));
        if (fr_strmap_put(&l->names, name, length, id) >= 0)
            return fr_fail(l->error, FR_ERROR_FORMAT, "\"%.60s\" is there twice", name);
        char *text = t->text + l->text_used;
        if (decode_name(byte_of, name, text, &length)) {
            if (length == 1) t->bpe.byte_id[(uint8_t)*text] = id;
            if (t->ignore_merges && length) fr_strmap_put(&t->whole, text, length, id);
        } else { /* not made of bytes (an added token, say): merges never lead to it */
            length = strlen(name);
            memcpy(text, name, length);
        }
        finish_text(l, id, length);
    }
    for (int b = 0; b < 256; b++)
        if (t->bpe.byte_id[b] < 0)
            return fr_fail(l->error, FR_ERROR_UNSUPPORTED,
                           "no token for the byte 0x%02X, so not every text "
                           "can be encoded (is it a byte-level vocabulary?)",
                           (unsigned)b);
    return FR_OK;
}

static fr_status load_added(loader *l, const cJSON *added) {
    const cJSON *item;
    cJSON_ArrayForEach(item, added) {
        fr_added_token token;
        bool normalized;
        FR_TRY(check_added(l, item, &token, &normalized));
        int32_t id = token.id, before = fr_strmap_put(&l->names, token.content, token.length, id);
        if (before < 0) {
            FR_TRY(take_id(l, id, token.content));
            memcpy(l->t->text + l->text_used, token.content, token.length);
            finish_text(l, id, token.length);
        } else if (before != id) {
            return fr_fail(l->error, FR_ERROR_FORMAT, "\"%.60s\" has the ids %d and %d", token.content, (int)before, (int)id);
        } else if (l->ids[id].added) {
            return fr_fail(l->error, FR_ERROR_FORMAT, "\"%.60s\" is there twice", token.content);
        }
        fr_token_text *text = &l->t->tokens[id];
        if (text->length != token.length || memcmp(l->t->text + text->start, token.content, token.length) != 0)
            return fr_fail(l->error, FR_ERROR_UNSUPPORTED, "\"%.60s\" stands for other bytes in the vocabulary", token.content);
        text->special = token.special;
        l->ids[id].added = true;
        token.content = l->t->text + text->start;
        fr_added_put(&l->t->added[normalized], token);
    }
    for (int pass = 0; pass < 2; pass++) fr_added_sort(&l->t->added[pass]);
    return FR_OK;
}

/* ---- Merges ---- */

/* The two sides of a merge, "a b" or ["a", "b"]. */
static fr_status split_merge(loader *l, const cJSON *json, const char **left, size_t *left_length, const char **right) {
    if (cJSON_IsString(json)) {
        const char *space = strchr(json->valuestring, ' ');
        if (space && !strchr(space + 1, ' ')) {
            *left = json->valuestring, *left_length = (size_t)(space - json->valuestring), *right = space + 1;
            return FR_OK;
        }
    } else if (cJSON_IsArray(json) && cJSON_GetArraySize(json) == 2 && cJSON_IsString(json->child) &&
               cJSON_IsString(json->child->next)) {
        *left = json->child->valuestring, *left_length = strlen(*left), *right = json->child->next->valuestring;
        return FR_OK;
    }
    char found[80];
    return fr_fail(l->error, FR_ERROR_FORMAT, "expected two tokens, found %s", fr_json_describe(json, found, sizeof found));
}

static fr_status find_token(loader *l, const char *name, size_t length, int32_t *id) {
    *id = fr_strmap_get(&l->names, name, length);
    if (*id >= 0) return FR_OK;
    return fr_fail(l->error, FR_ERROR_FORMAT, "\"%.*s\" is not in the vocabulary", length < 60 ? (int)length : 60, name);
}

static fr_status load_merge(loader *l, const cJSON *json, uint32_t rank, char *joined) {
    const char *left = NULL, *right = NULL;
    size_t left_length = 0;
    int32_t left_id, right_id, id;
    FR_TRY(split_merge(l, json, &left, &left_length, &right));
    size_t right_length = strlen(right);
    FR_TRY(find_token(l, left, left_length, &left_id));
    FR_TRY(find_token(l, right, right_length, &right_id));
    memcpy(joined, left, left_length); /* two names: `joined` has room for twice the longest */
    memcpy(joined + left_length, right, right_length);
    FR_TRY(find_token(l, joined, left_length + right_length, &id));
    fr_bpe_add(&l->t->bpe, left_id, right_id, rank, id);
    return FR_OK;
}

static fr_status load_merges(loader *l, const cJSON *merges) {
    size_t longest = 0;
    for (int32_t id = 0; id < l->t->size; id++)
        if (l->ids[id].name && strlen(l->ids[id].name) > longest) longest = strlen(l->ids[id].name);
    char *joined = fr_alloc(2 * longest + 1);
    if (!joined) return fr_fail(l->error, FR_ERROR_MEMORY, "no memory for the merges");
    fr_status status = fr_bpe_create(&l->t->bpe, (size_t)cJSON_GetArraySize(merges), l->error);
    const cJSON *item = merges->child;
    for (uint32_t rank = 0; item && status == FR_OK; item = item->next, rank++) {
        status = load_merge(l, item, rank, joined);
        if (status != FR_OK) fr_context(l->error, status, "merges[%u]", (unsigned)rank);
    }
    fr_free(joined);
    return status;
}

/* ---- The parts of tokenizer.json ---- */

/* Refuses options of BPE that are not implemented: each must be null, false, 0 or "". */
static fr_status check_plain(loader *l, const cJSON *model) {
    static const char *const keys[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"};
    char found[80];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *value = fr_json_find(model, keys[i]);
        bool plain = !value || cJSON_IsFalse(value) || (cJSON_IsNumber(value) && value->valuedouble == 0) ||
                     (cJSON_IsString(value) && !*value->valuestring);
        if (!plain)
            return fr_fail_at(l->error, FR_ERROR_UNSUPPORTED, keys[i], "%s", fr_json_describe(value, found, sizeof found));
    }
    return FR_OK;
}

static fr_status load_model(loader *l, const cJSON *model, const cJSON *added) {
    const cJSON *vocab, *merges;
    const char *type;
    FR_TRY(fr_json_string(model, "model", "type", &type, l->error));
    if (strcmp(type, "BPE") != 0)
        return fr_fail_at(l->error, FR_ERROR_UNSUPPORTED, "model", "type \"%.40s\" (BPE is supported)", type);
    fr_status status = check_plain(l, model);
    if (status != FR_OK) return fr_context(l->error, status, "model");
    FR_TRY(fr_json_bool_or(model, "model", "ignore_merges", false, &l->t->ignore_merges, l->error));
    FR_TRY(fr_json_object(model, "model", "vocab", &vocab, l->error));
    FR_TRY(fr_json_array(model, "model", "merges", &merges, l->error));
    FR_TRY(measure(l, vocab, added));
    status = load_vocab(l, vocab);
    if (status != FR_OK) return fr_context(l->error, status, "model: vocab");
    status = load_merges(l, merges);
    if (status != FR_OK) return fr_context(l->error, status, "model");
    status = load_added(l, added);
    return status == FR_OK ? FR_OK : fr_context(l->error, status, "added_tokens");
}

static fr_status check_normalizer(loader *l, const cJSON *json) {
    const char *type;
    const cJSON *list, *item;
    if (!json) return FR_OK;
    if (!cJSON_IsObject(json)) return fr_fail_at(l->error, FR_ERROR_FORMAT, "normalizer", "not an object");
    FR_TRY(fr_json_string(json, "normalizer", "type", &type, l->error));
    if (strcmp(type, "Sequence") != 0)
        return fr_fail_at(l->error, FR_ERROR_UNSUPPORTED, "normalizer", "type \"%.40s\" (none is supported)", type);
    FR_TRY(fr_json_array(json, "normalizer", "normalizers", &list, l->error));
    cJSON_ArrayForEach(item, list) FR_TRY(check_normalizer(l, item));
    return FR_OK;
}

static fr_status check_decoder(loader *l, const cJSON *json) {
    const char *type = "null";
    if (json && !cJSON_IsObject(json)) return fr_fail_at(l->error, FR_ERROR_FORMAT, "decoder", "not an object");
    if (json) FR_TRY(fr_json_string(json, "decoder", "type", &type, l->error));
    if (strcmp(type, "ByteLevel") == 0) return FR_OK;
    return fr_fail_at(l->error, FR_ERROR_UNSUPPORTED, "decoder", "type \"%.40s\" (ByteLevel is supported)", type);
}

/* "single": the text alone, or one special token before it, which is bos. */
static fr_status load_template(loader *l, const cJSON *json) {
    const cJSON *single, *special_tokens, *ids;
    const char *name;
    FR_TRY(fr_json_array(json, "TemplateProcessing", "single", &single, l->error));
    int n = cJSON_GetArraySize(single);
    const cJSON *first = n == 2 ? fr_json_find(single->child, "SpecialToken") : NULL;
    const cJSON *last = n ? fr_json_find(cJSON_GetArrayItem(single, n - 1), "Sequence") : NULL;
    if (n == 1 && last) return FR_OK;
    if (n != 2 || !cJSON_IsObject(first) || !last)
        return fr_fail_at(l->error, FR_ERROR_UNSUPPORTED, "TemplateProcessing: single",
                          "other than a text, or a special token and a text");
    FR_TRY(fr_json_string(first, "TemplateProcessing: SpecialToken", "id", &name, l->error));
    FR_TRY(fr_json_object(json, "TemplateProcessing", "special_tokens", &special_tokens, l->error));
    const cJSON *entry = fr_json_find(special_tokens, name);
    if (!cJSON_IsObject(entry))
        return fr_fail_at(l->error, FR_ERROR_FORMAT, "TemplateProcessing: special_tokens", "no \"%.60s\"", name);
    FR_TRY(fr_json_array(entry, name, "ids", &ids, l->error));
    if (cJSON_GetArraySize(ids) != 1)
        return fr_fail_at(l->error, FR_ERROR_UNSUPPORTED, "TemplateProcessing", "\"%.60s\" is not one token", name);
    FR_TRY(check_id(l, ids->child, name, &l->t->bos));
    if (!fr_tokenizer_token_bytes(l->t, l->t->bos, NULL))
        return fr_fail_at(l->error, FR_ERROR_FORMAT, "TemplateProcessing", "no token has id %d", (int)l->t->bos);
    l->t->add_bos = true;
    return FR_OK;
}

static fr_status load_post_processor(loader *l, const cJSON *json) {
    const char *type;
    const cJSON *list, *item;
    if (!json) return FR_OK;
    if (!cJSON_IsObject(json)) return fr_fail(l->error, FR_ERROR_FORMAT, "not an object");
    FR_TRY(fr_json_string(json, "a post-processor", "type", &type, l->error));
    if (strcmp(type, "ByteLevel") == 0) return FR_OK; /* changes offsets only, which are not used */
    if (strcmp(type, "TemplateProcessing") == 0) return load_template(l, json);
    if (strcmp(type, "Sequence") != 0)
        return fr_fail(l->error, FR_ERROR_UNSUPPORTED, "type \"%.40s\" (ByteLevel and TemplateProcessing are supported)", type);
    FR_TRY(fr_json_array(json, "Sequence", "processors", &list, l->error));
    cJSON_ArrayForEach(item, list) FR_TRY(load_post_processor(l, item));
    return FR_OK;
}

static fr_status load_parts(loader *l) {
    const cJSON *model, *added = fr_json_find(l->root, "added_tokens");
    if (added && !cJSON_IsArray(added)) return fr_fail_at(l->error, FR_ERROR_FORMAT, "added_tokens", "expected an array");
    FR_TRY(check_normalizer(l, fr_json_find(l->root, "normalizer")));
    FR_TRY(fr_pretokenizer_parse(&l->t->pretokenizer, fr_json_find(l->root, "pre_tokenizer"), l->error));
    FR_TRY(check_decoder(l, fr_json_find(l->root, "decoder")));
    FR_TRY(fr_json_object(l->root, "tokenizer", "model", &model, l->error));
    FR_TRY(load_model(l, model, added));
    fr_status status = load_post_processor(l, fr_json_find(l->root, "post_processor"));
    return status == FR_OK ? FR_OK : fr_context(l->error, status, "post_processor");
}

/* ---- The file ---- */

fr_status fr_tokenizer_read_json(fr_tokenizer *tokenizer, const char *path, fr_error *error) {
    loader l = {.t = tokenizer, .error = error};
    cJSON *root = NULL;
    FR_TRY(fr_json_load(path, FR_MAX_TOKENIZER_BYTES, &root, error));
    l.root = root;
    fr_status status = load_parts(&l);
    fr_strmap_release(&l.names);
    fr_free(l.ids);
    cJSON_Delete(root);
    return status == FR_OK ? FR_OK : fr_context(error, status, "%s", path);
}
