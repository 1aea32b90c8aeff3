/* An A/B study: texts made of the same prompts in several arms, in turns. Private to study/; the face is fr_ab. */
#ifndef FR_STUDY_AB_AB_H
#define FR_STUDY_AB_AB_H

#include <stddef.h>

/* The column of turn `turn` of a prompt's repeat: forward and backward in alternation, so that what drifts slowly meets all
 * alike; the next prompt begins the other way round. */
int fr_ab_order(int columns, size_t prompt, int repeat, int turn);

#endif
