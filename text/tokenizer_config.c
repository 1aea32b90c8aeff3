/* A tokenizer's files: which there are, and what tokenizer_config.json says about the beginning and the end of a text. */
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "text/chat_recognize.h"
#include "text/tokenizer_private.h"

/* "bos_token": "..." or {"content": "..."}; *id keeps its value when the key is absent or null. */
static fr_status config_token(const fr_tokenizer *t, const cJSON *config, const char *key, int32_t *id, fr_error *error) {
    const cJSON *value = fr_json_find(config, key);
    const char *content;
    if (!value) return FR_OK;
    if (cJSON_IsObject(value))
        FR_TRY(fr_json_string(value, key, "content", &content, error));
    else
        FR_TRY(fr_json_string(config, "tokenizer", key, &content, error));
    *id = fr_tokenizer_find(t, content);
    size_t length = strlen(content), n;
    for (int32_t i = 0; *id < 0 && i < t->size; i++) {
        const char *text = fr_tokenizer_token_bytes(t, i, &n);
        if (text && n == length && memcmp(text, content, n) == 0) *id = i;
    }
    return *id >= 0 ? FR_OK : fr_fail_at(error, FR_ERROR_FORMAT, key, "\"%.60s\" is not in the vocabulary", content);
}

static fr_status apply_config(fr_tokenizer *t, const cJSON *config, fr_error *error) {
    bool add_eos;
    FR_TRY(config_token(t, config, "bos_token", &t->bos, error));
    FR_TRY(config_token(t, config, "eos_token", &t->eos, error));
    FR_TRY(fr_json_bool_or(config, "tokenizer", "add_bos_token", t->add_bos, &t->add_bos, error));
    FR_TRY(fr_json_bool_or(config, "tokenizer", "add_eos_token", false, &add_eos, error));
    if (add_eos) return fr_fail(error, FR_ERROR_UNSUPPORTED, "add_eos_token true: a prompt would end with eos");
    if (t->add_bos && t->bos < 0) return fr_fail(error, FR_ERROR_FORMAT, "add_bos_token is true, but there is no bos_token");
    return FR_OK;
}

/* ---- Files ---- */

enum { JSON, TIKTOKEN, CONFIG, CHAT_TEMPLATE, NUM_OWN, MODEL = NUM_OWN, NUM_FILES };

static const char *const file_names[NUM_FILES] = {
    [JSON] = "tokenizer.json",
    [TIKTOKEN] = "tiktoken.model",
    [CONFIG] = "tokenizer_config.json",
    [CHAT_TEMPLATE] = "chat_template.jinja",
    [MODEL] = "config.json", /* for its model_type */
};

typedef struct paths {
    char *of[NUM_FILES];
} paths;

static void free_paths(paths *p) {
    for (int i = 0; i < NUM_FILES; i++) fr_free(p->of[i]);
}

/* False when there is no memory; to be freed in any case. */
static bool make_paths(const char *dir, paths *p) {
    bool whole = true;
    for (int i = 0; i < NUM_FILES; i++) {
        p->of[i] = fr_alloc(strlen(dir) + strlen(file_names[i]) + 2);
        if (p->of[i]) stpcpy(stpcpy(stpcpy(p->of[i], dir), "/"), file_names[i]);
        whole &= p->of[i] != NULL;
    }
    return whole;
}

bool fr_tokenizer_present(const char *dir) {
    paths p;
    bool present =
        !make_paths(dir, &p) || fr_is_there(p.of[JSON]) || fr_is_there(p.of[TIKTOKEN]); /* no memory: who reads it says so */
    free_paths(&p);
    return present;
}

const char *fr_tokenizer_file(const char *dir, int i) {
    paths p;
    const char *found = NULL;
    if (make_paths(dir, &p))
        for (int file = 0; file < NUM_OWN && !found; file++)
            if (fr_is_there(p.of[file]) && i-- == 0) found = file_names[file];
    free_paths(&p);
    return found;
}

static fr_status load_files(fr_tokenizer *t, char *const *path, fr_error *error) {
    cJSON *config = NULL;
    fr_status status = FR_OK;
    if (fr_is_there(path[CONFIG])) status = fr_json_load(path[CONFIG], FR_MAX_TOKENIZER_BYTES, &config, error);
    if (status == FR_OK)
        status = fr_is_there(path[JSON]) || !fr_is_there(path[TIKTOKEN])
                     ? fr_tokenizer_read_json(t, path[JSON], error)
                     : fr_tokenizer_read_tiktoken(t, path[TIKTOKEN], config, error);
    if (status == FR_OK && config) {
        status = apply_config(t, config, error);
        if (status != FR_OK) fr_context(error, status, "%s", path[CONFIG]);
    }
    cJSON_Delete(config);
    return status;
}

fr_status fr_tokenizer_load(const char *dir, fr_tokenizer **out, fr_error *error) {
    fr_tokenizer *t = fr_alloc_zeroed(1, sizeof *t);
    paths p;
    fr_status status;
    if (make_paths(dir, &p) && t) {
        t->bos = t->eos = -1;
        status = load_files(t, p.of, error);
    } else {
        status = fr_fail(error, FR_ERROR_MEMORY, "no memory for a tokenizer");
    }
    free_paths(&p);
    if (status == FR_OK)
        *out = t;
    else
        fr_tokenizer_destroy(t);
    return status;
}

/* ---- The chat format ---- */

/* chat_template: a text, or a list of {"name": ..., "template": ...}, of which one is the default. NULL: none. */
static const char *template_of(const cJSON *config) {
    const cJSON *value = fr_json_find(config, "chat_template"), *item, *found = NULL;
    if (!cJSON_IsArray(value)) return cJSON_IsString(value) ? value->valuestring : NULL;
    cJSON_ArrayForEach(item, value) {
        const cJSON *name = fr_json_find(item, "name");
        if (!found || (cJSON_IsString(name) && strcmp(name->valuestring, "default") == 0)) found = fr_json_find(item, "template");
    }
    return cJSON_IsString(found) ? found->valuestring : NULL;
}

fr_status fr_tokenizer_load_chat(fr_tokenizer *tokenizer, const char *dir, const char *name, fr_notices *notices,
                                 fr_error *error) {
    paths p;
    cJSON *config = NULL, *model = NULL;
    char *text = NULL;
    size_t length;
    fr_status status = FR_OK;
    fr_error why;
    bool whole = make_paths(dir, &p);
    if (whole) { /* what is wrong with them was said when the tokenizer was loaded */
        whole &= fr_json_load(p.of[CONFIG], FR_MAX_TOKENIZER_BYTES, &config, NULL) != FR_ERROR_MEMORY;
        whole &= fr_json_load(p.of[MODEL], FR_MAX_TOKENIZER_BYTES, &model, NULL) != FR_ERROR_MEMORY;
    }
    if (whole) {
        if (fr_is_there(p.of[CHAT_TEMPLATE]) && fr_read_file(p.of[CHAT_TEMPLATE], FR_MAX_TOKENIZER_BYTES, &text, &length, &why))
            fr_notices_add(notices, "chat template", "%s: left out", why.message);
        const cJSON *type = fr_json_find(model, "model_type");
        status = fr_chat_recognize(&tokenizer->chat, tokenizer, text ? text : template_of(config),
                                   cJSON_IsString(type) ? type->valuestring : NULL, name, notices, error);
    } else {
        status = fr_fail(error, FR_ERROR_MEMORY, "no memory for a chat template");
    }
    cJSON_Delete(config);
    cJSON_Delete(model);
    fr_free(text);
    free_paths(&p);
    return status;
}

/* ---- Both ---- */

fr_status fr_tokenizer_open(const char *dir, const char *chat_format, fr_tokenizer **out, fr_error *why, fr_notices *notices,
                            fr_error *error) {
    *out = NULL;
    if (!fr_tokenizer_present(dir)) {
        fr_fail(why, FR_ERROR_UNSUPPORTED, "text: the checkpoint has no tokenizer.json, nor a tiktoken.model");
    } else if (fr_tokenizer_load(dir, out, why) == FR_ERROR_MEMORY) {
        if (error) *error = *why;
        return FR_ERROR_MEMORY;
    } else if (!*out) {
        fr_notices_add(notices, "tokenizer", "it cannot be used, so that text has to be given as ids: %s", why->message);
    }
    if (*out) return fr_tokenizer_load_chat(*out, dir, chat_format, notices, error);
    if (!*why->hint) fr_hint(why, why->status, "generate, score, accept and ab take token ids (--prompt-tokens)");
    return FR_OK;
}

fr_status fr_tokenizer_notices(const char *dir, fr_notices *notices, fr_error *error) {
    fr_tokenizer *tokenizer;
    fr_error why;
    fr_status status = fr_tokenizer_open(dir, NULL, &tokenizer, &why, notices, error);
    fr_tokenizer_destroy(tokenizer);
    return status;
}
