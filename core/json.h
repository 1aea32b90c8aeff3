/* JSON files: read with a size limit, parsed by cJSON behind stricter checks, and taken apart by getters whose errors
 * say which file and key, what was expected and what was found.
 *
 * `where` names what is being read in messages: a file, or a file and a key ("config.json: rope_scaling"). */
#ifndef FR_CORE_JSON_H
#define FR_CORE_JSON_H

#include <cJSON.h>

#include "core/status.h"

#define FR_JSON_MAX_DEPTH 64
#define FR_JSON_MAX_VALUES (8u << 20) /* a tree of them takes some 700 MB; a million tensors have 8 million */

/* Parses one JSON value with nothing but white space around it. Nesting beyond FR_JSON_MAX_DEPTH, more than FR_JSON_MAX_VALUES,
 * bare control characters in strings, and NUL even when escaped (cJSON's strings end there) are errors. *out belongs to the
 * caller: cJSON_Delete. */
fr_status fr_json_parse(const char *text, size_t length, const char *where, cJSON **out, fr_error *error);
/* The same, but strings may hold \u0000. cJSON's strings end at a NUL, so it becomes FR_JSON_NUL, which is in no UTF-8 text (and
 * is refused where a file has it): fr_json_bytes brings it back. */
#define FR_JSON_NUL "\xC0\x80"
fr_status fr_json_parse_nul(const char *text, size_t length, const char *where, cJSON **out, fr_error *error);
/* The bytes of a string from there, NUL among them; *length of them, changed in their place: to be called once. */
const char *fr_json_bytes(cJSON *string, size_t *length);

/* Reads and parses a file whose value must be an object. */
fr_status fr_json_load(const char *path, uint64_t limit, cJSON **out, fr_error *error);

/* Describes a value for messages: `the string "abc"`, `4.5`, `an array of 3`, `nothing` for NULL. Returns `text`. */
const char *fr_json_describe(const cJSON *value, char *text, size_t size);
/* Fails when an object has a key twice (cJSON keeps both, and finds the first). */
fr_status fr_json_unique(const cJSON *object, const char *where, fr_error *error);

/* The value of a key, exact in case; NULL when it is absent or null, or `object` is none. Linear in the number of keys. */
const cJSON *fr_json_find(const cJSON *object, const char *key);

/* Getters of required keys. Numbers must lie in [min, max]; integers may be written as 3.0. Strings and containers
 * belong to `object`. */
fr_status fr_json_int(const cJSON *object, const char *where, const char *key, int min, int max, int *out, fr_error *error);
fr_status fr_json_float(const cJSON *object, const char *where, const char *key, double min, double max, float *out,
                        fr_error *error);
fr_status fr_json_bool(const cJSON *object, const char *where, const char *key, bool *out, fr_error *error);
fr_status fr_json_string(const cJSON *object, const char *where, const char *key, const char **out, fr_error *error);
fr_status fr_json_object(const cJSON *object, const char *where, const char *key, const cJSON **out, fr_error *error);
fr_status fr_json_array(const cJSON *object, const char *where, const char *key, const cJSON **out, fr_error *error);

/* The same with a value for a key that is absent or null. */
fr_status fr_json_int_or(const cJSON *object, const char *where, const char *key, int min, int max, int fallback, int *out,
                         fr_error *error);
fr_status fr_json_float_or(const cJSON *object, const char *where, const char *key, double min, double max, float fallback,
                           float *out, fr_error *error);
fr_status fr_json_bool_or(const cJSON *object, const char *where, const char *key, bool fallback, bool *out, fr_error *error);
fr_status fr_json_string_or(const cJSON *object, const char *where, const char *key, const char *fallback, const char **out,
                            fr_error *error);

/* The number at a place of an array; NaN when there is none. */
double fr_json_number_at(const cJSON *array, int i);
/* A number that is a whole, non-negative and exactly represented one (at most 2^53); false otherwise. */
bool fr_json_to_u64(const cJSON *value, uint64_t *out);

#endif
