/* Writing the document of an acceptance study. Private to study/. */
#ifndef FR_STUDY_ACCEPT_DOCUMENT_H
#define FR_STUDY_ACCEPT_DOCUMENT_H

#include "study/accept/figures.h"

typedef struct fr_accept_writer {
    fr_json_builder d;
    const fr_accept_run *run;
    fr_accept_units units;
    bool lacking; /* some figure has no interval, of too few prompts */
} fr_accept_writer;

/* Adds "comparisons" at the top: configurations that differ in one thing, paired by prompt. study/accept/pairs.c. */
void fr_accept_add_comparisons(fr_accept_writer *writer);

#endif
