#include "study/document.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/utf8.h"

void fr_study_start(fr_study_document *d) {
    d->root = cJSON_CreateObject();
    d->failed = !d->root;
}

void fr_study_discard(fr_study_document *d) {
    cJSON_Delete(d->root);
    d->root = NULL;
}

void fr_study_add(fr_study_document *d, cJSON *to, const char *key, cJSON *item) {
    bool added = to && item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (added) return;
    cJSON_Delete(item);
    d->failed = true;
}

cJSON *fr_study_object(fr_study_document *d, cJSON *to, const char *key) {
    cJSON *object = cJSON_CreateObject();
    fr_study_add(d, to, key, object);
    return d->failed ? NULL : object;
}

cJSON *fr_study_array(fr_study_document *d, cJSON *to, const char *key) {
    cJSON *array = cJSON_CreateArray();
    fr_study_add(d, to, key, array);
    return d->failed ? NULL : array;
}

void fr_study_copy(fr_study_document *d, cJSON *to, const char *key, const cJSON *item) {
    fr_study_add(d, to, key, cJSON_Duplicate(item, true));
}

/* Digits beyond the tenth are never measured, and make a document hard to read. */
static cJSON *number(double value) {
    char digits[40];
    if (!isfinite(value)) return cJSON_CreateNull();
    snprintf(digits, sizeof digits, "%.10g", value);
    return cJSON_CreateNumber(strtod(digits, NULL));
}

void fr_study_real(fr_study_document *d, cJSON *to, const char *key, double value) {
    fr_study_add(d, to, key, number(value));
}

void fr_study_ratio(fr_study_document *d, cJSON *to, const char *key, double numerator, double denominator) {
    fr_study_real(d, to, key, denominator == 0 ? NAN : numerator / denominator);
}

void fr_study_count(fr_study_document *d, cJSON *to, const char *key, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    /* cJSON's numbers are doubles, and it prints large ones with an exponent */
    fr_study_add(d, to, key, value < 1000000000 ? cJSON_CreateNumber((double)value) : cJSON_CreateRaw(digits));
}

void fr_study_bool(fr_study_document *d, cJSON *to, const char *key, bool value) {
    fr_study_add(d, to, key, cJSON_CreateBool(value));
}

void fr_study_null(fr_study_document *d, cJSON *to, const char *key) {
    fr_study_add(d, to, key, cJSON_CreateNull());
}

void fr_study_text(fr_study_document *d, cJSON *to, const char *key, const char *text) {
    if (text)
        fr_study_bytes(d, to, key, text, strlen(text));
    else
        fr_study_null(d, to, key);
}

void fr_study_bytes(fr_study_document *d, cJSON *to, const char *key, const char *bytes, size_t length) {
    char *clean = fr_alloc(3 * length + 1); /* a replacement character has three bytes */
    size_t at = 0;
    if (!clean) {
        d->failed = true;
        return;
    }
    for (size_t i = 0; i < length;) {
        int whole = fr_utf8_next((const uint8_t *)bytes + i, length - i);
        if (whole > 0 && bytes[i]) {
            memcpy(clean + at, bytes + i, (size_t)whole);
            at += (size_t)whole;
        } else {
            memcpy(clean + at, "\xEF\xBF\xBD", 3);
            at += 3;
        }
        i += whole > 0 ? (size_t)whole : whole < 0 ? (size_t)-whole : length - i;
    }
    clean[at] = '\0';
    fr_study_add(d, to, key, cJSON_CreateString(clean));
    fr_free(clean);
}

void fr_study_reals(fr_study_document *d, cJSON *to, const char *key, const double *values, size_t count) {
    cJSON *array = fr_study_array(d, to, key);
    for (size_t i = 0; i < count; i++) fr_study_real(d, array, NULL, values[i]);
}

void fr_study_counts(fr_study_document *d, cJSON *to, const char *key, const uint64_t *values, size_t count) {
    cJSON *array = fr_study_array(d, to, key);
    for (size_t i = 0; i < count; i++) fr_study_count(d, array, NULL, values[i]);
}

void fr_study_interval(fr_study_document *d, cJSON *to, const char *key, double lo, double hi) {
    if (isfinite(lo) && isfinite(hi))
        fr_study_reals(d, to, key, (double[]){lo, hi}, 2);
    else
        fr_study_null(d, to, key);
}
