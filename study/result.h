/* A study's result: its document, whole. Private to study/; the face is fr_study_json and what is made of it. */
#ifndef FR_STUDY_RESULT_H
#define FR_STUDY_RESULT_H

#include "core/json_builder.h"
#include "forerun_study.h"

struct fr_study_result {
    cJSON *document;
    char *text; /* of the document */
};

/* Makes a result of the document, which is empty afterwards, whatever happens. */
fr_status fr_study_finish(fr_json_builder *d, fr_study_result **out, fr_error *error);

/* Whether a document's schema is "forerun.NAME/1". */
bool fr_study_is(const cJSON *document, const char *name);

#endif
