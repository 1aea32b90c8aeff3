#include "core/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"

/* ---- Parsing ---- */

static fr_status fail_at(fr_error *error, const char *where, const char *text, size_t at, const char *what) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column++;
        if (text[i] == '\n') line++, column = 1;
    }
    return fr_fail_at(error, FR_ERROR_FORMAT, where, "line %zu, column %zu: %s", line, column, what);
}

/* Whether an escaped NUL begins at `at`, where a backslash is. */
static bool is_nul(const char *text, size_t length, size_t at) {
    return length - at > 5 && memcmp(text + at, "\\u0000", 6) == 0;
}

/* Writes FR_JSON_NUL over each escaped NUL; the text becomes shorter. Returns its length. */
static size_t hide_nuls(char *text, size_t length) {
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\\' && is_nul(text, length, i)) {
            memcpy(text + used, FR_JSON_NUL, 2);
            used += 2;
            i += 5;
            continue;
        }
        text[used++] = text[i];
        if (text[i] == '\\' && i + 1 < length) text[used++] = text[++i];
    }
    text[used] = '\0';
    return used;
}

/* What cJSON would accept, or recurse into, and we do not want. */
_Static_assert(FR_JSON_MAX_DEPTH < CJSON_NESTING_LIMIT, "what is nested too deeply is said here, not by cJSON");
static fr_status scan(const char *text, size_t length, bool nul, const char *where, fr_error *error) {
    bool in_string = false;
    int depth = 0;
    unsigned values = 0; /* about as many: one in each container, and one behind each comma */
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '\0') return fail_at(error, where, text, i, "a NUL byte");
        if (in_string) {
            if (c == '\\') {
                if (!nul && is_nul(text, length, i)) return fail_at(error, where, text, i, "a NUL character in a string");
                i++;
            } else if (c == '"') {
                in_string = false;
            } else if (nul && length - i > 1 && memcmp(text + i, FR_JSON_NUL, 2) == 0) {
                return fail_at(error, where, text, i, "bytes that are not UTF-8");
            } else if ((unsigned char)c < 0x20) {
                return fail_at(error, where, text, i, "a control character in a string");
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > FR_JSON_MAX_DEPTH) return fail_at(error, where, text, i, "nested too deeply");
        } else if (c == '}' || c == ']') {
            depth--;
        }
        if (!in_string && (c == ',' || c == '{' || c == '[') && ++values > FR_JSON_MAX_VALUES)
            return fail_at(error, where, text, i, "more values than such a file can have");
    }
    return FR_OK;
}

static fr_status parse(const char *text, size_t length, bool nul, const char *where, cJSON **out, fr_error *error) {
    uint64_t target;
    if (fr_is_lfs_pointer(text, length, &target)) return fr_fail_lfs(error, where, target);
    FR_TRY(scan(text, length, nul, where, error));
    /* cJSON before 1.7.18 may look one byte beyond a text that is not NUL-terminated, so it gets a copy that is. */
    char *copy = fr_strndup(text, length);
    if (!copy) return fr_fail_at(error, FR_ERROR_MEMORY, where, "no memory for %zu bytes", length);
    const char *end = copy;
    size_t used = nul ? hide_nuls(copy, length) : length;
    errno = 0;
    cJSON *json = cJSON_ParseWithLengthOpts(copy, used + 1, &end, 1);
    bool no_memory = !json && errno == ENOMEM; /* cJSON does not tell */
    size_t at = end ? (size_t)(end - copy) : 0;
    fr_free(copy);
    if (no_memory) return fr_fail_at(error, FR_ERROR_MEMORY, where, "no memory for its values");
    if (!json)
        return fail_at(error, where, text, at < length ? at : length,
                       at < length ? "not valid JSON"
                       : length    ? "not valid JSON, or cut off"
                                   : "no JSON at all");
    *out = json;
    return FR_OK;
}

fr_status fr_json_parse(const char *text, size_t length, const char *where, cJSON **out, fr_error *error) {
    return parse(text, length, false, where, out, error);
}

fr_status fr_json_parse_nul(const char *text, size_t length, const char *where, cJSON **out, fr_error *error) {
    return parse(text, length, true, where, out, error);
}

const char *fr_json_bytes(cJSON *string, size_t *length) {
    char *bytes = string->valuestring, *to = bytes;
    for (const char *from = bytes; *from; from++) {
        bool nul = strncmp(from, FR_JSON_NUL, 2) == 0;
        *to++ = nul ? '\0' : *from;
        from += nul;
    }
    *length = (size_t)(to - bytes);
    *to = '\0';
    return bytes;
}

fr_status fr_json_load(const char *path, uint64_t limit, cJSON **out, fr_error *error) {
    char *text, found[80];
    size_t length;
    FR_TRY(fr_read_file(path, limit, &text, &length, error));
    cJSON *json = NULL;
    fr_status status = fr_json_parse(text, length, path, &json, error);
    fr_free(text);
    if (status != FR_OK) return status;
    if (!cJSON_IsObject(json)) {
        fr_fail_at(error, FR_ERROR_FORMAT, path, "expected a JSON object, found %s", fr_json_describe(json, found, sizeof found));
        cJSON_Delete(json);
        return FR_ERROR_FORMAT;
    }
    *out = json;
    return FR_OK;
}

/* ---- Values ---- */

const char *fr_json_describe(const cJSON *value, char *text, size_t size) {
    if (!value)
        snprintf(text, size, "nothing");
    else if (cJSON_IsString(value))
        snprintf(text, size, "the string \"%.48s\"", value->valuestring);
    else if (cJSON_IsNumber(value))
        snprintf(text, size, "%.17g", value->valuedouble);
    else if (cJSON_IsArray(value))
        snprintf(text, size, "an array of %d", cJSON_GetArraySize(value));
    else
        snprintf(text, size, "%s",
                 cJSON_IsObject(value)  ? "an object"
                 : cJSON_IsTrue(value)  ? "true"
                 : cJSON_IsFalse(value) ? "false"
                                        : "null");
    return text;
}

static int compare_keys(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

fr_status fr_json_unique(const cJSON *object, const char *where, fr_error *error) {
    size_t count = (size_t)cJSON_GetArraySize(object), n = 0;
    const char **keys = fr_alloc(count * sizeof *keys);
    if (!keys) return fr_fail_at(error, FR_ERROR_MEMORY, where, "no memory for %zu keys", count);
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        if (item->string) keys[n++] = item->string;
    }
    qsort(keys, n, sizeof *keys, compare_keys);
    fr_status status = FR_OK;
    for (size_t i = 1; i < n && status == FR_OK; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            status = fr_fail_at(error, FR_ERROR_FORMAT, where, "the key \"%.200s\" is there twice", keys[i]);
    fr_free(keys);
    return status;
}

const cJSON *fr_json_find(const cJSON *object, const char *key) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(value) ? NULL : value;
}

bool fr_json_to_u64(const cJSON *value, uint64_t *out) {
    if (!cJSON_IsNumber(value)) return false;
    double v = value->valuedouble;
    if (!(v >= 0 && v <= 0x1p53) || v != floor(v)) return false;
    *out = (uint64_t)v;
    return true;
}

/* ---- Getters ---- */

static fr_status mismatch(const cJSON *object, const char *where, const char *key, const char *expected, fr_error *error) {
    char found[80];
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return fr_fail_at(error, FR_ERROR_FORMAT, fr_place_of("%s: %s", where, key).text, "expected %s, found %s", expected,
                      fr_json_describe(value, found, sizeof found));
}

fr_status fr_json_int(const cJSON *object, const char *where, const char *key, int min, int max, int *out, fr_error *error) {
    char expected[96];
    const cJSON *value = fr_json_find(object, key);
    double v = cJSON_IsNumber(value) ? value->valuedouble : NAN;
    if (!(v >= min && v <= max) || v != floor(v)) {
        snprintf(expected, sizeof expected, "a whole number from %d to %d", min, max);
        return mismatch(object, where, key, expected, error);
    }
    *out = (int)v;
    return FR_OK;
}

fr_status fr_json_float(const cJSON *object, const char *where, const char *key, double min, double max, float *out,
                        fr_error *error) {
    char expected[96];
    const cJSON *value = fr_json_find(object, key);
    double v = cJSON_IsNumber(value) ? value->valuedouble : NAN;
    if (!(v >= min && v <= max)) {
        snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        return mismatch(object, where, key, expected, error);
    }
    *out = (float)v;
    return FR_OK;
}

fr_status fr_json_bool(const cJSON *object, const char *where, const char *key, bool *out, fr_error *error) {
    const cJSON *value = fr_json_find(object, key);
    if (!cJSON_IsBool(value)) return mismatch(object, where, key, "true or false", error);
    *out = cJSON_IsTrue(value);
    return FR_OK;
}

fr_status fr_json_string(const cJSON *object, const char *where, const char *key, const char **out, fr_error *error) {
    const cJSON *value = fr_json_find(object, key);
    if (!cJSON_IsString(value)) return mismatch(object, where, key, "a string", error);
    *out = value->valuestring;
    return FR_OK;
}

fr_status fr_json_object(const cJSON *object, const char *where, const char *key, const cJSON **out, fr_error *error) {
    const cJSON *value = fr_json_find(object, key);
    if (!cJSON_IsObject(value)) return mismatch(object, where, key, "an object", error);
    *out = value;
    return FR_OK;
}

fr_status fr_json_array(const cJSON *object, const char *where, const char *key, const cJSON **out, fr_error *error) {
    const cJSON *value = fr_json_find(object, key);
    if (!cJSON_IsArray(value)) return mismatch(object, where, key, "an array", error);
    *out = value;
    return FR_OK;
}

fr_status fr_json_int_or(const cJSON *object, const char *where, const char *key, int min, int max, int fallback, int *out,
                         fr_error *error) {
    *out = fallback;
    return fr_json_find(object, key) ? fr_json_int(object, where, key, min, max, out, error) : FR_OK;
}

fr_status fr_json_float_or(const cJSON *object, const char *where, const char *key, double min, double max, float fallback,
                           float *out, fr_error *error) {
    *out = fallback;
    return fr_json_find(object, key) ? fr_json_float(object, where, key, min, max, out, error) : FR_OK;
}

fr_status fr_json_bool_or(const cJSON *object, const char *where, const char *key, bool fallback, bool *out, fr_error *error) {
    *out = fallback;
    return fr_json_find(object, key) ? fr_json_bool(object, where, key, out, error) : FR_OK;
}

fr_status fr_json_string_or(const cJSON *object, const char *where, const char *key, const char *fallback, const char **out,
                            fr_error *error) {
    *out = fallback;
    return fr_json_find(object, key) ? fr_json_string(object, where, key, out, error) : FR_OK;
}

double fr_json_number_at(const cJSON *array, int i) {
    const cJSON *value = cJSON_IsArray(array) ? cJSON_GetArrayItem(array, i) : NULL;
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}
