/* A study's result: its document, whole. Private to study/; the face is fr_study_json and what is made of it. */
#ifndef FR_STUDY_RESULT_H
#define FR_STUDY_RESULT_H

#include "forerun_study.h"
#include "study/document.h"

struct fr_study_result {
    cJSON *document;
    char *text; /* of the document */
};

/* Makes a result of the document, which is empty afterwards, whatever happens. */
fr_status fr_study_finish(fr_study_document *d, fr_study_result **out, fr_error *error);

#endif
