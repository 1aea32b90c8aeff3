#include "core/json_path.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

/* The value at the first of the alternatives. */
static const cJSON *follow(const cJSON *at, const char *path) {
    char key[64];
    while (at && *path && *path != '|') {
        size_t length = strcspn(path, ".|");
        bool place = cJSON_IsArray(at) && isdigit((unsigned char)*path);
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        at = place ? cJSON_GetArrayItem(at, atoi(key)) : fr_json_find(at, key);
        path += length + (path[length] == '.');
    }
    return cJSON_IsNull(at) ? NULL : at;
}

/* Moves to the next alternative; false: there is none. */
static bool next(const char **path) {
    *path += strcspn(*path, "|");
    return **path && *++*path;
}

static const cJSON *first_that(const cJSON *from, const char *path, cJSON_bool (*is)(const cJSON *)) {
    do {
        const cJSON *value = follow(from, path);
        if (is(value)) return value;
    } while (next(&path));
    return NULL;
}

static cJSON_bool is_there(const cJSON *value) {
    return value != NULL;
}

static cJSON_bool is_filled_object(const cJSON *value) {
    return cJSON_IsObject(value) && value->child;
}

static cJSON_bool is_filled_array(const cJSON *value) {
    return cJSON_IsArray(value) && value->child;
}

const cJSON *fr_path_value(const cJSON *from, const char *path) {
    return first_that(from, path, is_there);
}

double fr_path_number(const cJSON *from, const char *path) {
    const cJSON *value = first_that(from, path, cJSON_IsNumber);
    return value ? value->valuedouble : NAN;
}

const char *fr_path_text(const cJSON *from, const char *path) {
    const cJSON *value = first_that(from, path, cJSON_IsString);
    return value ? value->valuestring : NULL;
}

const cJSON *fr_path_object(const cJSON *from, const char *path) {
    return first_that(from, path, is_filled_object);
}

const cJSON *fr_path_array(const cJSON *from, const char *path) {
    return first_that(from, path, is_filled_array);
}

void fr_path_interval(const cJSON *from, const char *path, double *low, double *high) {
    do {
        const cJSON *ends = follow(from, path);
        *low = fr_json_number_at(ends, 0);
        *high = fr_json_number_at(ends, 1);
    } while (!isfinite(*low) && next(&path));
}
