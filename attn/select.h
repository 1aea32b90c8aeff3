/* The k largest of a row's scores, by all threads: each has a part of the positions, counts its scores by their upper bits while
 * it makes them, and then collects what is chosen for certain and what may be, which is little. Who finishes a row goes through
 * that alone. Private to attn/. */
#ifndef FR_ATTN_SELECT_H
#define FR_ATTN_SELECT_H

#include "core/memory.h"

#define FR_SELECT_DIGITS 2048 /* of the upper 11 bits */

/* A thread's part of a row. */
typedef struct fr_select_part {
    int begin, end;   /* positions */
    int above, equal; /* of these, chosen for certain, and those whose upper bits are the last that are chosen from */
} fr_select_part;

typedef struct fr_select {
    int threads, ctx;
    uint32_t *counts;      /* [rows, threads, FR_SELECT_DIGITS] */
    fr_select_part *parts; /* [rows, threads] */
    int32_t *found;        /* [rows, ctx]: in each part those above, ascending, and from its end on the equal ones, descending */
} fr_select;

void fr_select_take(fr_select *s, fr_arena *arena, int rows, int threads, int ctx);
/* ALL THREADS. Nothing is counted of rows [0, rows). */
void fr_select_begin(fr_select *s, int rows);
/* ALL THREADS. Counts scores[begin .. end) of a row, scores [ctx]; ranges of one thread follow each other without a gap. */
void fr_select_count(fr_select *s, int row, const float *scores, int begin, int end);
/* ALL THREADS, behind a barrier. Collects from the thread's own part what may be among the k largest; there are at least k. */
void fr_select_collect(fr_select *s, int row, const float *scores, int k);
/* ONE THREAD, behind a barrier. positions [k]: those of the k largest scores, ascending; of equal scores the smaller position.
 * Destroys the scores. */
void fr_select_finish(fr_select *s, int row, float *scores, int k, int32_t *positions);

#endif
