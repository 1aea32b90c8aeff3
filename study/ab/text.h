/* Making a text of a prompt and taking its times. Private to study/. */
#ifndef FR_STUDY_AB_TEXT_H
#define FR_STUDY_AB_TEXT_H

#include "study/ab/run.h"

/* Makes a text of the prompt in a column, `most` tokens at most. draw: which of a synthetic column's random numbers. */
fr_status fr_ab_make_text(fr_ab_run *run, int column, size_t prompt, int most, int draw, fr_ab_text *out, fr_error *error);
/* Measures passes in the middle of the text that the compared arm's session holds. */
fr_status fr_ab_probe_passes(fr_ab_run *run, size_t prompt, fr_ab_probe *out, fr_error *error);
/* A draft that is `right` with the chance `target`, else any other token: a function of the arguments alone. */
int32_t fr_ab_spoil(uint64_t seed, int position, int draw, double target, int32_t right, int32_t vocab_size);

#endif
