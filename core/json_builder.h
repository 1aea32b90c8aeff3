/* Building a JSON document: a cJSON tree, and a flag that is set when memory runs out. Each function adds to the object or
 * array `to`, which may be NULL when an earlier one failed, so that only the end has to look. key is NULL when `to` is an array.
 * What cJSON cannot hold (whole numbers above 2^53, strings with NUL) goes into the tree as text. */
#ifndef FR_CORE_JSON_BUILDER_H
#define FR_CORE_JSON_BUILDER_H

#include <cJSON.h>

#include "core/status.h"

typedef struct fr_json_builder {
    cJSON *root;      /* an object */
    bool failed;      /* out of memory */
    bool keeps_bytes; /* see fr_json_add_bytes */
} fr_json_builder;

/* An empty document. fr_json_discard releases it, and may be called twice. */
void fr_json_begin(fr_json_builder *b);
void fr_json_discard(fr_json_builder *b);
/* The document as indented text; NULL when memory ran out, now or before. Release with cJSON_free. */
char *fr_json_print(const fr_json_builder *b);

/* An empty object or array, owned by `to`; NULL when there is no memory. */
cJSON *fr_json_add_object(fr_json_builder *b, cJSON *to, const char *key);
cJSON *fr_json_add_array(fr_json_builder *b, cJSON *to, const char *key);
/* Hands `item` over (it is released if that fails). */
void fr_json_add(fr_json_builder *b, cJSON *to, const char *key, cJSON *item);
/* A copy of a part of a document. */
void fr_json_add_copy(fr_json_builder *b, cJSON *to, const char *key, const cJSON *item);

/* Ten significant digits, for what is measured; null when it is not finite. */
void fr_json_add_real(fr_json_builder *b, cJSON *to, const char *key, double value);
/* As many digits as reading the same value back takes; null when it is not finite. */
void fr_json_add_number(fr_json_builder *b, cJSON *to, const char *key, double value);
/* numerator / denominator, ten digits; null when the denominator is 0. */
void fr_json_add_ratio(fr_json_builder *b, cJSON *to, const char *key, double numerator, double denominator);
/* Exact. */
void fr_json_add_count(fr_json_builder *b, cJSON *to, const char *key, uint64_t value);
void fr_json_add_bool(fr_json_builder *b, cJSON *to, const char *key, bool value);
void fr_json_add_null(fr_json_builder *b, cJSON *to, const char *key);
/* As fr_json_add_bytes, up to its NUL; NULL gives null. */
void fr_json_add_text(fr_json_builder *b, cJSON *to, const char *key, const char *text);
/* Any bytes. A document that we read again (core/json.h takes no NUL in strings) gets U+FFFD for a NUL, and one for each
 * longest run that is not UTF-8, as Unicode recommends. With b->keeps_bytes NUL is written as \u0000, and every byte that is
 * not UTF-8 becomes a U+FFFD. */
void fr_json_add_bytes(fr_json_builder *b, cJSON *to, const char *key, const char *bytes, size_t length);

/* Arrays of `count` of these. Ids, of which there may be a million, are one item of the tree. */
void fr_json_add_reals(fr_json_builder *b, cJSON *to, const char *key, const double *values, size_t count);
void fr_json_add_counts(fr_json_builder *b, cJSON *to, const char *key, const uint64_t *values, size_t count);
void fr_json_add_ids(fr_json_builder *b, cJSON *to, const char *key, const int32_t *ids, size_t count);
void fr_json_add_texts(fr_json_builder *b, cJSON *to, const char *key, const char *const *texts, size_t count);
/* The array `notices` [{what, why}], which every document of a command has. */
void fr_json_add_notices(fr_json_builder *b, cJSON *to, const fr_notice *notices, size_t count);
/* [lo, hi]; null when either is not finite. */
void fr_json_add_interval(fr_json_builder *b, cJSON *to, const char *key, double lo, double hi);

#endif
