#include "core/checkpoint/config_keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

const char *fr_keys_file(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *fr_keys_path(const char *dir, const char *name, fr_error *error) {
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = fr_alloc(size);
    if (path)
        snprintf(path, size, "%s/%s", dir, name);
    else
        fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
    return path;
}

fr_status fr_keys_inside(const fr_keys *k, const char *key, fr_place *where, fr_keys *out) {
    *out = *k;
    out->object = NULL;
    if (!fr_json_find(k->object, key)) return FR_OK;
    *where = fr_keys_place(k, key);
    out->where = where->text;
    FR_TRY(fr_json_object(k->object, k->where, key, &out->object, k->error));
    return fr_json_unique(out->object, out->where, k->error);
}

fr_place fr_keys_place(const fr_keys *k, const char *key) {
    return fr_place_of("%s: %s", k->where, key);
}

fr_status fr_keys_unsupported(const fr_keys *k, const char *key, const char *only) {
    char found[80];
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(k->object, key);
    return fr_fail_at(k->error, FR_ERROR_UNSUPPORTED, fr_keys_place(k, key).text, "only %s is supported, found %s", only,
                      fr_json_describe(value, found, sizeof found));
}

fr_status fr_keys_only_string(const fr_keys *k, const char *key, const char *value) {
    const cJSON *is = fr_json_find(k->object, key);
    if (!is || (cJSON_IsString(is) && strcmp(is->valuestring, value) == 0)) return FR_OK;
    return fr_keys_unsupported(k, key, value);
}

fr_status fr_keys_only_bool(const fr_keys *k, const char *key, bool value) {
    const cJSON *is = fr_json_find(k->object, key);
    if (!is || (cJSON_IsBool(is) && (bool)cJSON_IsTrue(is) == value)) return FR_OK;
    return fr_keys_unsupported(k, key, value ? "true" : "false");
}

fr_status fr_keys_need_int(const fr_keys *k, const char *key, int min, int max, int *out) {
    return fr_json_int(k->object, k->where, key, min, max, out, k->error);
}

fr_status fr_keys_may_int(const fr_keys *k, const char *key, int min, int max, int *out) {
    return fr_json_int_or(k->object, k->where, key, min, max, *out, out, k->error);
}

fr_status fr_keys_may_float(const fr_keys *k, const char *key, double min, double max, float *out) {
    return fr_json_float_or(k->object, k->where, key, min, max, *out, out, k->error);
}

fr_status fr_keys_may_bool(const fr_keys *k, const char *key, bool *out) {
    return fr_json_bool_or(k->object, k->where, key, *out, out, k->error);
}

void fr_keys_assume(const fr_keys *k, const char *key, const char *format, ...) {
    fr_assumed *a = k->assumed;
    if (!a || a->length + strlen(key) + 40 > sizeof a->text) return;
    a->length += (size_t)snprintf(a->text + a->length, sizeof a->text - a->length, "%s%s ", a->length ? ", " : "", key);
    va_list args;
    va_start(args, format);
    a->length += (size_t)vsnprintf(a->text + a->length, sizeof a->text - a->length, format, args);
    va_end(args);
}

fr_status fr_keys_say_int(const fr_keys *k, const char *key, int min, int max, int *out) {
    if (!fr_json_find(k->object, key)) fr_keys_assume(k, key, "%d", *out);
    return fr_keys_may_int(k, key, min, max, out);
}

fr_status fr_keys_say_float(const fr_keys *k, const char *key, double min, double max, float *out) {
    if (!fr_json_find(k->object, key)) fr_keys_assume(k, key, "%g", (double)*out);
    return fr_keys_may_float(k, key, min, max, out);
}

fr_status fr_keys_say_bool(const fr_keys *k, const char *key, bool *out) {
    if (!fr_json_find(k->object, key)) fr_keys_assume(k, key, "%s", *out ? "true" : "false");
    return fr_keys_may_bool(k, key, out);
}
