/* The header of a study's document: what ran, on what, and how to run it again. */
#ifndef FR_STUDY_ENVIRONMENT_H
#define FR_STUDY_ENVIRONMENT_H

#include "core/json_builder.h"
#include "forerun_study.h"
#include "study/prompts.h"

/* Adds "schema", "created", "command" and "environment" to an empty document. Returns the object environment.options, to
 * which the study adds each of its options with the value that it had (NULL without memory; see core/json_builder.h). */
cJSON *fr_study_header(fr_json_builder *d, const char *schema, const fr_model *model, const fr_study_origin *origin,
                       uint64_t seed);
/* Adds the object "prompts" at the top, of the first `count` prompts; returns it. */
cJSON *fr_study_add_prompts(fr_json_builder *d, const fr_prompts *prompts, size_t count);
/* How a figure, or several, is made of its prompts, in a sentence. */
typedef struct fr_pooling {
    const char *figure, *pooled;
} fr_pooling;
/* Adds the object "statistics" at the top. says: which intervals are not given, and why; NULL: all are. */
void fr_study_add_statistics(fr_json_builder *d, const fr_pooling *figures, size_t count, const char *says);
/* The sampling options that have a value of their own in every study, into `to`. */
void fr_study_add_sampling(fr_json_builder *d, cJSON *to, const fr_sampling *sampling);

#endif
