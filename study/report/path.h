/* Values of a parsed document by where they are: keys with dots between them, and places in arrays ("cost_model.pass_ms.0").
 * Alternatives ("rate|ratio") are tried in their order, up to the first that is of the type asked for. A key that others chose,
 * as an arm's name is, may hold dots and bars: look it up with fr_json_find.
 *
 * Values belong to the document. What is absent, null or of another type is NULL or NaN; `from` may be NULL. Private to study/.
 */
#ifndef FR_STUDY_REPORT_PATH_H
#define FR_STUDY_REPORT_PATH_H

#include <cJSON.h>

const cJSON *fr_path_value(const cJSON *from, const char *path); /* of any type */
double fr_path_number(const cJSON *from, const char *path);
const char *fr_path_text(const cJSON *from, const char *path);
/* These are NULL also when nothing is in them. */
const cJSON *fr_path_object(const cJSON *from, const char *path);
const cJSON *fr_path_array(const cJSON *from, const char *path);
double fr_path_item(const cJSON *array, int i); /* a number */
/* Of an array [low, high]. */
void fr_path_interval(const cJSON *from, const char *path, double *low, double *high);

#endif
