/* The document of an A/B study (schema forerun.ab/1, docs/REPORTS.md). Private to study/. */
#ifndef FR_STUDY_AB_DOCUMENT_H
#define FR_STUDY_AB_DOCUMENT_H

#include "study/ab/run.h"

/* Of a run, finished or not. */
fr_status fr_ab_document(const fr_ab_run *run, fr_study_result **out, fr_error *error);

#endif
