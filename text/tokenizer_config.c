/* A tokenizer's files: which there are, and what tokenizer_config.json says about the beginning and the end of a text. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/memory.h"
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

enum { JSON, TIKTOKEN, CONFIG, CHAT_TEMPLATE, NUM_FILES };

static const char *const file_names[NUM_FILES] = {
    [JSON] = "tokenizer.json",
    [TIKTOKEN] = "tiktoken.model",
    [CONFIG] = "tokenizer_config.json",
    [CHAT_TEMPLATE] = "chat_template.jinja",
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

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool fr_tokenizer_present(const char *dir) {
    paths p;
    bool present = make_paths(dir, &p) && (exists(p.of[JSON]) || exists(p.of[TIKTOKEN]));
    free_paths(&p);
    return present;
}

const char *fr_tokenizer_file(const char *dir, int i) {
    paths p;
    const char *found = NULL;
    if (make_paths(dir, &p))
        for (int file = 0; file < NUM_FILES && !found; file++)
            if (exists(p.of[file]) && i-- == 0) found = file_names[file];
    free_paths(&p);
    return found;
}

static fr_status load_files(fr_tokenizer *t, char *const *path, fr_error *error) {
    cJSON *config = NULL;
    fr_status status = FR_OK;
    if (exists(path[CONFIG]) || errno != ENOENT) status = fr_json_load(path[CONFIG], FR_MAX_TOKENIZER_BYTES, &config, error);
    if (status == FR_OK)
        status = exists(path[JSON]) || !exists(path[TIKTOKEN]) ? fr_tokenizer_read_json(t, path[JSON], error)
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
