/* Small byte-level tokenizers for tests, as JSON to be changed at will: one token for each byte (id = byte), no splits. */
#ifndef FR_TESTS_TOY_TOKENIZER_H
#define FR_TESTS_TOY_TOKENIZER_H

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "text/tokenizer.h"

#define TOY_BOS "<｜begin▁of▁sentence｜>"
#define TOY_EOS "<｜end▁of▁sentence｜>"
#define TOY_USER "<｜User｜>"
#define TOY_ASSISTANT "<｜Assistant｜>"
#define TOY_BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"

/* How the byte-level alphabet writes a byte. */
static inline const char *toy_byte(int byte) {
    static char names[256][3];
    int c = byte;
    if (byte <= 0x20 || byte == 0xad || (byte >= 0x7f && byte <= 0xa0)) {
        c = 0x100;
        for (int b = 0; b < byte; b++) c += b <= 0x20 || b == 0xad || (b >= 0x7f && b <= 0xa0);
    }
    if (c < 0x80)
        snprintf(names[byte], sizeof names[byte], "%c", c);
    else
        snprintf(names[byte], sizeof names[byte], "%c%c", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
    return names[byte];
}

static inline cJSON *toy_parse(const char *json) {
    cJSON *value = cJSON_Parse(json);
    if (!value) abort();
    return value;
}

static inline cJSON *toy_create(void) {
    cJSON *toy = toy_parse("{\"added_tokens\": [], \"normalizer\": null, \"pre_tokenizer\": " TOY_BYTE_LEVEL
                           ", \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": "
                           "\"BPE\", \"unk_token\": null, \"byte_fallback\": false, \"vocab\": {}, \"merges\": []}}");
    cJSON *vocab = cJSON_GetObjectItem(cJSON_GetObjectItem(toy, "model"), "vocab");
    for (int b = 0; b < 256; b++) cJSON_AddNumberToObject(vocab, toy_byte(b), b);
    return toy;
}

static inline cJSON *toy_model(cJSON *toy) {
    return cJSON_GetObjectItem(toy, "model");
}

static inline cJSON *toy_vocab(cJSON *toy) {
    return cJSON_GetObjectItem(toy_model(toy), "vocab");
}

static inline cJSON *toy_merges(cJSON *toy) {
    return cJSON_GetObjectItem(toy_model(toy), "merges");
}

/* The next free id. */
static inline int toy_next_id(cJSON *toy) {
    int id = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, toy_vocab(toy)) if (item->valueint >= id) id = item->valueint + 1;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(toy, "added_tokens")) {
        int used = cJSON_GetObjectItem(item, "id")->valueint;
        if (used >= id) id = used + 1;
    }
    return id;
}

/* Adds a merge of two tokens that are there (written in the alphabet), in either notation, and its token. */
static inline int toy_merge(cJSON *toy, const char *left, const char *right, bool as_pair) {
    char text[256];
    snprintf(text, sizeof text, "%s%s", left, right);
    cJSON *known = cJSON_GetObjectItemCaseSensitive(toy_vocab(toy), text);
    int id = known ? known->valueint : toy_next_id(toy);
    if (!known) cJSON_AddNumberToObject(toy_vocab(toy), text, id);
    if (as_pair) {
        const char *pair[] = {left, right};
        cJSON_AddItemToArray(toy_merges(toy), cJSON_CreateStringArray(pair, 2));
    } else {
        snprintf(text, sizeof text, "%s %s", left, right);
        cJSON_AddItemToArray(toy_merges(toy), cJSON_CreateString(text));
    }
    return id;
}

static inline int toy_add(cJSON *toy, const char *content, bool special, bool normalized) {
    int id = toy_next_id(toy);
    cJSON *token = cJSON_CreateObject();
    cJSON_AddNumberToObject(token, "id", id);
    cJSON_AddStringToObject(token, "content", content);
    cJSON_AddBoolToObject(token, "special", special);
    cJSON_AddBoolToObject(token, "normalized", normalized);
    cJSON_AddItemToArray(cJSON_GetObjectItem(toy, "added_tokens"), token);
    return id;
}

/* Replaces (or adds) a key. */
static inline void toy_set(cJSON *object, const char *key, const char *json) {
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddItemToObject(object, key, toy_parse(json));
}

/* Loads files with these texts; config may be NULL: there is none. */
static inline fr_status toy_load_text(const char *json, const char *config, fr_tokenizer **out, fr_error *error) {
    scratch s = scratch_create();
    scratch_write_text(&s, "tokenizer.json", json);
    if (config) scratch_write_text(&s, "tokenizer_config.json", config);
    fr_status status = fr_tokenizer_load(s.dir, out, error);
    scratch_destroy(&s);
    return status;
}

static inline fr_status toy_load(const cJSON *toy, const char *config, fr_tokenizer **out, fr_error *error) {
    char *json = cJSON_PrintUnformatted(toy);
    fr_status status = toy_load_text(json, config, out, error);
    free(json);
    return status;
}

/* Loads and deletes it; a failure fails the test. */
static inline fr_tokenizer *toy_finish(cJSON *toy, const char *config) {
    fr_tokenizer *tokenizer = NULL;
    fr_error error = {0};
    if (toy_load(toy, config, &tokenizer, &error) != FR_OK) fail_msg("%s", error.message);
    cJSON_Delete(toy);
    return tokenizer;
}

/* ---- A small random generator ---- */

static inline uint32_t toy_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

#endif
