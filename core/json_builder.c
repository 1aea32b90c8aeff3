#include "core/json_builder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/utf8.h"

void fr_json_begin(fr_json_builder *b) {
    *b = (fr_json_builder){.root = cJSON_CreateObject()};
    b->failed = !b->root;
}

void fr_json_discard(fr_json_builder *b) {
    cJSON_Delete(b->root);
    b->root = NULL;
}

char *fr_json_print(const fr_json_builder *b) {
    return b->failed ? NULL : cJSON_Print(b->root);
}

void fr_json_add(fr_json_builder *b, cJSON *to, const char *key, cJSON *item) {
    bool added = to && item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (added) return;
    cJSON_Delete(item);
    b->failed = true;
}

cJSON *fr_json_add_object(fr_json_builder *b, cJSON *to, const char *key) {
    cJSON *object = cJSON_CreateObject();
    fr_json_add(b, to, key, object);
    return b->failed ? NULL : object;
}

cJSON *fr_json_add_array(fr_json_builder *b, cJSON *to, const char *key) {
    cJSON *array = cJSON_CreateArray();
    fr_json_add(b, to, key, array);
    return b->failed ? NULL : array;
}

void fr_json_add_copy(fr_json_builder *b, cJSON *to, const char *key, const cJSON *item) {
    fr_json_add(b, to, key, cJSON_Duplicate(item, true));
}

void fr_json_add_number(fr_json_builder *b, cJSON *to, const char *key, double value) {
    fr_json_add(b, to, key, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

/* Digits beyond the tenth are never measured, and make a document hard to read. */
void fr_json_add_real(fr_json_builder *b, cJSON *to, const char *key, double value) {
    char digits[40];
    snprintf(digits, sizeof digits, "%.10g", value);
    fr_json_add_number(b, to, key, strtod(digits, NULL));
}

void fr_json_add_ratio(fr_json_builder *b, cJSON *to, const char *key, double numerator, double denominator) {
    fr_json_add_real(b, to, key, denominator == 0 ? NAN : numerator / denominator);
}

void fr_json_add_count(fr_json_builder *b, cJSON *to, const char *key, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    /* cJSON's numbers are doubles, and it prints large ones with an exponent */
    fr_json_add(b, to, key, value < 1000000000 ? cJSON_CreateNumber((double)value) : cJSON_CreateRaw(digits));
}

void fr_json_add_bool(fr_json_builder *b, cJSON *to, const char *key, bool value) {
    fr_json_add(b, to, key, cJSON_CreateBool(value));
}

void fr_json_add_null(fr_json_builder *b, cJSON *to, const char *key) {
    fr_json_add(b, to, key, cJSON_CreateNull());
}

void fr_json_add_text(fr_json_builder *b, cJSON *to, const char *key, const char *text) {
    if (text)
        fr_json_add_bytes(b, to, key, text, strlen(text));
    else
        fr_json_add_null(b, to, key);
}

/* Adds JSON that is text already, and releases it. */
static void add_raw(fr_json_builder *b, cJSON *to, const char *key, char *json) {
    fr_json_add(b, to, key, cJSON_CreateRaw(json));
    fr_free(json);
}

/* Writes the escape of a character that JSON does not take as it is; returns its length, or 0 for one that it takes. */
static size_t escape(char *to, unsigned char c) {
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter after the backslash */
    for (size_t i = 0; i + 1 < sizeof named; i += 2)
        if ((unsigned char)named[i] == c) {
            to[0] = '\\', to[1] = named[i + 1];
            return 2;
        }
    return c < 0x20 ? (size_t)snprintf(to, 7, "\\u%04x", c) : 0;
}

void fr_json_add_bytes(fr_json_builder *b, cJSON *to, const char *key, const char *bytes, size_t length) {
    char *json = fr_alloc(6 * length + 3), *at = json; /* "\u0000" is the longest */
    if (!json) {
        b->failed = true;
        return;
    }
    *at++ = '"';
    for (size_t i = 0, taken; i < length; i += taken) {
        int whole = fr_utf8_next((const uint8_t *)bytes + i, length - i);
        taken = whole > 0 ? (size_t)whole : b->keeps_bytes ? 1 : whole < 0 ? (size_t)-whole : length - i;
        if (whole <= 0 || (bytes[i] == '\0' && !b->keeps_bytes)) {
            memcpy(at, FR_UTF8_REPLACEMENT, 3);
            at += 3;
            continue;
        }
        size_t escaped = escape(at, (unsigned char)bytes[i]);
        if (!escaped) memcpy(at, bytes + i, taken);
        at += escaped ? escaped : taken;
    }
    memcpy(at, "\"", 2);
    add_raw(b, to, key, json);
}

void fr_json_add_reals(fr_json_builder *b, cJSON *to, const char *key, const double *values, size_t count) {
    cJSON *array = fr_json_add_array(b, to, key);
    for (size_t i = 0; i < count; i++) fr_json_add_real(b, array, NULL, values[i]);
}

void fr_json_add_counts(fr_json_builder *b, cJSON *to, const char *key, const uint64_t *values, size_t count) {
    cJSON *array = fr_json_add_array(b, to, key);
    for (size_t i = 0; i < count; i++) fr_json_add_count(b, array, NULL, values[i]);
}

void fr_json_add_ids(fr_json_builder *b, cJSON *to, const char *key, const int32_t *ids, size_t count) {
    char *json = fr_alloc(13 * count + 3), *at = json; /* "-2147483648, " is the longest */
    if (!json) {
        b->failed = true;
        return;
    }
    *at++ = '[';
    for (size_t i = 0; i < count; i++) at += sprintf(at, "%s%" PRId32, i ? ", " : "", ids[i]);
    memcpy(at, "]", 2);
    add_raw(b, to, key, json);
}

void fr_json_add_texts(fr_json_builder *b, cJSON *to, const char *key, const char *const *texts, size_t count) {
    cJSON *array = fr_json_add_array(b, to, key);
    for (size_t i = 0; i < count; i++) fr_json_add_text(b, array, NULL, texts[i]);
}

void fr_json_add_interval(fr_json_builder *b, cJSON *to, const char *key, double lo, double hi) {
    if (isfinite(lo) && isfinite(hi))
        fr_json_add_reals(b, to, key, (double[]){lo, hi}, 2);
    else
        fr_json_add_null(b, to, key);
}

void fr_json_add_notices(fr_json_builder *b, cJSON *to, const fr_notice *notices, size_t count) {
    cJSON *array = fr_json_add_array(b, to, "notices");
    for (size_t i = 0; i < count; i++) {
        cJSON *item = fr_json_add_object(b, array, NULL);
        fr_json_add_text(b, item, "what", notices[i].what);
        fr_json_add_text(b, item, "why", notices[i].why);
    }
}
