/* Holds a JSON document to expectations, for the tests of the program.
 *
 *   json_check FILE EXPECTATION...
 *   json_check -p FILE PATH          prints a value, on one line
 *
 * The file must be one JSON document and nothing else. A path is keys and indices with dots between ("timing.load_s",
 * "results.0.tokens"); "." is the document. Expectations: PATH (is there), !PATH (is not there), PATH:TYPE (null, bool,
 * number, string, array, object), PATH=VALUE (as compact JSON; a string without its quotes), PATH#N (items of an
 * array), PATH<N and PATH>N (a number). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

static const cJSON *find(const cJSON *from, const char *path) {
    char key[128];
    if (strcmp(path, ".") == 0) return from;
    while (from && *path) {
        size_t length = strcspn(path, ".");
        if (length >= sizeof key) return NULL;
        memcpy(key, path, length);
        key[length] = 0;
        from = cJSON_IsArray(from) ? cJSON_GetArrayItem(from, atoi(key)) : cJSON_GetObjectItemCaseSensitive(from, key);
        path += length + (path[length] == '.');
    }
    return from;
}

static const char *type_name(const cJSON *item) {
    if (cJSON_IsNull(item)) return "null";
    if (cJSON_IsBool(item)) return "bool";
    if (cJSON_IsNumber(item)) return "number";
    if (cJSON_IsString(item)) return "string";
    return cJSON_IsArray(item) ? "array" : "object";
}

static char *compact(const cJSON *item) {
    if (!cJSON_IsString(item)) return cJSON_PrintUnformatted(item);
    char *copy = malloc(strlen(item->valuestring) + 1);
    return copy ? strcpy(copy, item->valuestring) : NULL;
}

static int holds(const cJSON *document, const char *expectation) {
    char path[128];
    int absent = *expectation == '!';
    expectation += absent;
    size_t length = strcspn(expectation, ":=#<>");
    if (length >= sizeof path) return 0;
    memcpy(path, expectation, length);
    path[length] = 0;
    const cJSON *item = find(document, path);
    const char *value = expectation + length + 1;
    if (absent) return !item;
    if (!item) return 0;
    switch (expectation[length]) {
    case 0:
        return 1;
    case ':':
        return strcmp(type_name(item), value) == 0;
    case '#':
        return cJSON_IsArray(item) && cJSON_GetArraySize(item) == atoi(value);
    case '<':
        return cJSON_IsNumber(item) && item->valuedouble < atof(value);
    case '>':
        return cJSON_IsNumber(item) && item->valuedouble > atof(value);
    }
    char *text = compact(item);
    int equal = text && strcmp(text, value) == 0;
    free(text);
    return equal;
}

static cJSON *load(const char *path) {
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t used = 0, room = 0, got = 1;
    while (file && got > 0) {
        if (room - used < 4096 && !(text = realloc(text, room = 2 * room + 8192))) break;
        got = fread(text + used, 1, room - used - 1, file);
        used += got;
    }
    if (file) fclose(file);
    cJSON *document = NULL;
    if (text) {
        text[used] = 0;
        if (strlen(text) == used) document = cJSON_ParseWithOpts(text, NULL, 1);
    }
    if (!document) fprintf(stderr, "%s: not one JSON document: %.200s\n", path, text ? text : "");
    free(text);
    return document;
}

int main(int count, char **arguments) {
    int print = count == 4 && strcmp(arguments[1], "-p") == 0;
    if (count < 2) return 2;
    const char *path = arguments[1 + print];
    cJSON *document = load(path);
    if (!document) return 1;
    int failed = 0;
    if (print) {
        const cJSON *item = find(document, arguments[3]);
        char *text = item ? compact(item) : NULL;
        failed = !text;
        if (text) puts(text);
        free(text);
    }
    for (int i = 2; !print && i < count; i++) {
        if (holds(document, arguments[i])) continue;
        char *text = cJSON_PrintUnformatted(document);
        fprintf(stderr, "%s: expected %s in %.1500s\n", path, arguments[i], text ? text : "");
        free(text);
        failed = 1;
    }
    cJSON_Delete(document);
    return failed;
}
