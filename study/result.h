/* A study's result: its document. Private to study/; the public functions are fr_study_json and what takes its text. */
#ifndef FR_STUDY_RESULT_H
#define FR_STUDY_RESULT_H

#include "core/json_builder.h"
#include "forerun_study.h"

struct fr_study_result {
    char *json; /* of cJSON's memory */
};

/* Makes a result of the document, which is discarded in any case. */
fr_status fr_study_finish(fr_json_builder *b, fr_study_result **out, fr_error *error);

#endif
