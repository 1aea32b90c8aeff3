#include "model/convert/config_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/json.h"
#include "core/memory.h"

#define MAX_CONFIG (16u << 20)
#define FP8_CONFIG "{\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\",\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}"

static fr_status no_memory(fr_error *error) {
    return fr_fail(error, FR_ERROR_MEMORY, "config.json: no memory to change it");
}

/* ---- Reading ---- */

fr_status fr_config_edit_load(const char *path, cJSON **out, fr_error *error) {
    struct stat info;
    char *inside = NULL;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode) && asprintf(&inside, "%s/config.json", path) < 0) return no_memory(error);
    const char *file = inside ? inside : path;
    cJSON *json = NULL;
    fr_config config;
    fr_status status = fr_json_load(file, MAX_CONFIG, &json, error);
    if (status == FR_OK) status = fr_config_edit_parse(json, file, &config, NULL, error);
    if (status == FR_OK)
        *out = json;
    else
        cJSON_Delete(json);
    free(inside);
    return status;
}

fr_status fr_config_edit_parse(const cJSON *json, const char *where, fr_config *out, fr_notices *notices, fr_error *error) {
    char *text = cJSON_PrintUnformatted(json);
    if (!text) return no_memory(error);
    fr_status status = fr_config_parse(text, strlen(text), where, out, notices, error);
    cJSON_free(text);
    return status;
}

/* ---- Changing ---- */

/* Replaces a key's value, or adds the key. Takes ownership of `value`. */
static fr_status put(cJSON *object, const char *key, cJSON *value, fr_error *error) {
    bool there = cJSON_GetObjectItemCaseSensitive(object, key) != NULL;
    if (value && (there ? cJSON_ReplaceItemInObjectCaseSensitive(object, key, value) : cJSON_AddItemToObject(object, key, value)))
        return FR_OK;
    cJSON_Delete(value);
    return no_memory(error);
}

fr_status fr_config_edit_number(cJSON *json, const char *key, double value, fr_error *error) {
    return put(json, key, cJSON_CreateNumber(value), error);
}

static fr_status edit_list(cJSON *list, int layers, fr_error *error) {
    int count = cJSON_GetArraySize(list);
    for (; count > layers; count--) cJSON_DeleteItemFromArray(list, count - 1);
    for (; count > 0 && count < layers; count++)
        if (!cJSON_AddItemToArray(list, cJSON_Duplicate(cJSON_GetArrayItem(list, count - 1), true))) return no_memory(error);
    return FR_OK;
}

fr_status fr_config_edit_layers(cJSON *json, int layers, fr_error *error) {
    static const char *const lists[] = {"mlp_layer_types", "indexer_types", "index_topk_pattern"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        cJSON *list = cJSON_GetObjectItemCaseSensitive(json, lists[i]);
        if (cJSON_IsArray(list)) FR_TRY(edit_list(list, layers, error));
        if (cJSON_IsString(list) && strlen(list->valuestring) > (size_t)layers) list->valuestring[layers] = '\0';
    }
    return fr_config_edit_number(json, "num_hidden_layers", layers, error);
}

/* Whether forerun reads a key: if so, parsing fails with [[]] for its value, which no key may have. */
static bool is_read(cJSON *json, cJSON *object, const char *key) {
    fr_config config;
    cJSON *nonsense = cJSON_Parse("[[]]");
    if (!nonsense || !cJSON_AddItemToObject(object, key, nonsense)) {
        cJSON_Delete(nonsense);
        return false;
    }
    bool read = fr_config_edit_parse(json, "", &config, NULL, NULL) != FR_OK;
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    return read;
}

static fr_status assign(cJSON *json, const char *assignment, char *path, const char *text, fr_error *error) {
    cJSON *object = json, *value = NULL;
    char *key = path, *dot;
    for (; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = '\0';
        object = cJSON_GetObjectItemCaseSensitive(object, key);
        if (!cJSON_IsObject(object))
            return fr_fail_at(error, FR_ERROR_ARGUMENT, fr_place_of("%.200s", assignment).text, "config.json has no object %s",
                              key);
    }
    if (fr_json_parse(text, strlen(text), "value", &value, NULL) != FR_OK)
        return fr_hint(error,
                       fr_fail_at(error, FR_ERROR_ARGUMENT, fr_place_of("%.200s", assignment).text,
                                  "what follows the = is not a JSON value"),
                       "a number, true, false, null, or a text in quotes");
    if (!cJSON_GetObjectItemCaseSensitive(object, key) && !is_read(json, object, key)) {
        cJSON_Delete(value);
        return fr_fail_at(error, FR_ERROR_ARGUMENT, fr_place_of("%.200s", assignment).text,
                          "config.json has no key %s, and none of that name is read", key);
    }
    return put(object, key, value, error);
}

fr_status fr_config_edit_assign(cJSON *json, const char *assignment, fr_error *error) {
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return fr_fail_at(error, FR_ERROR_ARGUMENT, fr_place_of("%.200s", assignment).text, "expected key=value");
    char *path = fr_strndup(assignment, (size_t)(equals - assignment));
    if (!path) return no_memory(error);
    fr_status status = assign(json, assignment, path, equals + 1, error);
    fr_free(path);
    return status;
}

fr_status fr_config_edit_fp8(cJSON *json, bool fp8, fr_error *error) {
    static const char key[] = "quantization_config";
    if (fp8 && fr_json_find(json, key)) return FR_OK;
    if (fp8) return put(json, key, cJSON_Parse(FP8_CONFIG), error);
    cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    return FR_OK;
}

/* ---- Writing ---- */

/* cJSON prints tabs, before lines and behind keys. Here they become two blanks and one. Tabs in strings are escaped, so that
 * every tab in the text is one of these. */
static char *indent(const char *text) {
    size_t tabs = 0;
    for (const char *c = text; *c; c++) tabs += *c == '\t';
    char *out = fr_alloc(strlen(text) + tabs + 2), *to = out;
    if (!out) return NULL;
    for (const char *c = text; *c; c++) {
        *to++ = *c == '\t' ? ' ' : *c;
        if (*c == '\t' && c > text && c[-1] != ':') *to++ = ' ';
    }
    *to++ = '\n';
    *to = '\0';
    return out;
}

fr_status fr_config_edit_write(const cJSON *json, fr_writer *writer, fr_error *error) {
    char *text = cJSON_Print(json), *nice = text ? indent(text) : NULL;
    fr_status status = nice ? fr_writer_file(writer, "config.json", nice, strlen(nice), error) : no_memory(error);
    fr_free(nice);
    cJSON_free(text);
    return status;
}
