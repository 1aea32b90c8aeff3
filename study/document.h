/* Building a study's document: a cJSON tree and a flag. Each function adds to `to`, which may be NULL when an earlier one
 * failed; running out of memory is remembered in the document and reported once, by fr_study_finish. key is NULL when `to`
 * is an array. Private to study/. */
#ifndef FR_STUDY_DOCUMENT_H
#define FR_STUDY_DOCUMENT_H

#include <cJSON.h>

#include "core/status.h"

typedef struct fr_study_document {
    cJSON *root; /* an object */
    bool failed; /* out of memory */
} fr_study_document;

/* An empty document; always followed by fr_study_finish or fr_study_discard. */
void fr_study_start(fr_study_document *d);
void fr_study_discard(fr_study_document *d);

/* An empty object or array, owned by `to`; NULL when there is no memory. */
cJSON *fr_study_object(fr_study_document *d, cJSON *to, const char *key);
cJSON *fr_study_array(fr_study_document *d, cJSON *to, const char *key);
/* Hands `item` over (it is released if that fails). */
void fr_study_add(fr_study_document *d, cJSON *to, const char *key, cJSON *item);
/* A copy of a part of a document. */
void fr_study_copy(fr_study_document *d, cJSON *to, const char *key, const cJSON *item);

/* Ten significant digits; null when it is not finite. */
void fr_study_real(fr_study_document *d, cJSON *to, const char *key, double value);
/* numerator / denominator; null when the denominator is 0. */
void fr_study_ratio(fr_study_document *d, cJSON *to, const char *key, double numerator, double denominator);
/* Exact. */
void fr_study_count(fr_study_document *d, cJSON *to, const char *key, uint64_t value);
void fr_study_bool(fr_study_document *d, cJSON *to, const char *key, bool value);
void fr_study_null(fr_study_document *d, cJSON *to, const char *key);
/* NULL gives null. */
void fr_study_text(fr_study_document *d, cJSON *to, const char *key, const char *text);
/* Any bytes (a token's, a prompt's): what is not UTF-8, and NUL, becomes U+FFFD. */
void fr_study_bytes(fr_study_document *d, cJSON *to, const char *key, const char *bytes, size_t length);
void fr_study_reals(fr_study_document *d, cJSON *to, const char *key, const double *values, size_t count);
void fr_study_counts(fr_study_document *d, cJSON *to, const char *key, const uint64_t *values, size_t count);
/* [lo, hi]; null when either is not finite. */
void fr_study_interval(fr_study_document *d, cJSON *to, const char *key, double lo, double hi);

#endif
