/* Lenient getters, for documents of any origin: values of parsed JSON by their path, keys with dots between them and places in
 * arrays ("cost_model.pass_ms.0"). Alternatives ("rate|ratio") are tried in their order, up to the first that is of the type
 * asked for. What is absent, null or of another type is NULL or NaN; `from` may be NULL, and is what the path "" leads to. Values
 * belong to the document.
 *
 * A key that a path cannot write, since it may hold dots and bars, as an arm's name may, is for fr_json_find. */
#ifndef FR_CORE_JSON_PATH_H
#define FR_CORE_JSON_PATH_H

#include <cJSON.h>

const cJSON *fr_path_value(const cJSON *from, const char *path); /* of any type */
double fr_path_number(const cJSON *from, const char *path);
const char *fr_path_text(const cJSON *from, const char *path);
/* These are NULL also when nothing is in them. */
const cJSON *fr_path_object(const cJSON *from, const char *path);
const cJSON *fr_path_array(const cJSON *from, const char *path);
/* Of an array [low, high]. */
void fr_path_interval(const cJSON *from, const char *path, double *low, double *high);

#endif
