/* The one JSON document of a command, built with cJSON. What cJSON cannot hold is written as raw JSON: whole numbers
 * above 2^53, arrays of many numbers, texts with NUL bytes or broken UTF-8. A number that is not finite is null.
 * Running out of memory ends the program with a message. */
#ifndef FR_CLI_OUTPUT_H
#define FR_CLI_OUTPUT_H

#include <cJSON.h>

#include "forerun.h"

cJSON *fr_doc_object(void);
/* Adds and returns an empty object or array. */
cJSON *fr_doc_add_object(cJSON *to, const char *key);
cJSON *fr_doc_add_array(cJSON *to, const char *key);
/* Hands `item` over to `to`; key is NULL when `to` is an array. */
void fr_doc_add(cJSON *to, const char *key, cJSON *item);
void fr_doc_real(cJSON *to, const char *key, double value);
/* numerator / denominator; null when the denominator is 0. */
void fr_doc_ratio(cJSON *to, const char *key, double numerator, double denominator);
void fr_doc_count(cJSON *to, const char *key, uint64_t value);
void fr_doc_bool(cJSON *to, const char *key, bool value);
void fr_doc_null(cJSON *to, const char *key);
/* Any bytes: what is not UTF-8 becomes U+FFFD. */
void fr_doc_bytes(cJSON *to, const char *key, const char *text, size_t length);
void fr_doc_text(cJSON *to, const char *key, const char *text); /* NULL gives null */
void fr_doc_ids(cJSON *to, const char *key, const int32_t *ids, size_t count);
void fr_doc_reals(cJSON *to, const char *key, const double *values, size_t count);
void fr_doc_counts(cJSON *to, const char *key, const uint64_t *values, size_t count);

/* Prints the document and its newline on stdout and releases it. */
void fr_doc_print(cJSON *document);

void fr_doc_texts(cJSON *to, const char *key, const char *const *texts, size_t count);
/* {"token": bias}; JSON has no infinity, so that is "-inf", as --logit-bias takes it. */
cJSON *fr_doc_biases(const fr_logit_bias *biases, size_t count);

/* Adds the object `speculative_decoding` (fr_speculation_json) to a document's outermost object. */
void fr_doc_speculation(cJSON *to, const fr_stats *stats, const fr_policy_info *policy, int depth);
/* The `memory` object. session may be NULL. */
cJSON *fr_doc_memory(const fr_model_info *info, const fr_session *session);
/* Its part that is known beforehand; fits: whether there is enough for what is not mapped. */
cJSON *fr_doc_plan(const fr_memory_plan *plan, bool fits);
/* A plan in a line: "weights 15.5 MiB mapped, KV 2.25 MiB for 4,096 tokens, ...". */
void fr_cli_plan_text(const fr_memory_plan *plan, char *text, size_t size);

/* "1,234,567" and "1.23 GiB", in turns of four static buffers. */
const char *fr_cli_grouped(uint64_t value);
const char *fr_cli_size(uint64_t bytes);
/* "671.03 B" for counts. */
const char *fr_cli_short(uint64_t value);

#endif
