/* From texts to figures, with their intervals. A figure is a sum over texts of parts over a sum of wholes, as accepted of
 * drafted, so that a prompt weighs by its drafts; its interval is over prompts. Private to study/. */
#ifndef FR_STUDY_ACCEPT_FIGURES_H
#define FR_STUDY_ACCEPT_FIGURES_H

#include "study/accept/accept.h"

typedef enum fr_accept_kind {
    FR_ACCEPT_RATE,        /* accepted of drafted, all positions */
    FR_ACCEPT_LENGTH,      /* accepted drafts a cycle that drafted, and the bonus token */
    FR_ACCEPT_POSITION,    /* accepted of drafted at a position */
    FR_ACCEPT_CONDITIONAL, /* accepted of reached at a position */
    FR_ACCEPT_CONTEXT,     /* accepted of first drafts in a bucket of context */
    FR_ACCEPT_BIN,         /* accepted of reached in a bin of confidence */
} fr_accept_kind;

typedef struct fr_accept_figure {
    fr_accept_kind kind;
    int at; /* position (from 0), bucket or bin */
} fr_accept_figure;

/* Scratch for what prompts add to a figure under one configuration, or under two. */
typedef struct fr_accept_units {
    double *values;             /* [4 * most] */
    size_t most, count;         /* prompts */
    double *part[2], *whole[2]; /* [count] */
} fr_accept_units;

fr_status fr_accept_units_create(fr_accept_units *units, size_t most, fr_error *error);
void fr_accept_units_release(fr_accept_units *units);

/* A figure of one configuration, over the prompts of a domain (NULL: all) that have such drafts; units->count says how many. */
fr_estimated fr_accept_estimate(const fr_accept_run *run, const fr_accept_config *config, const char *domain,
                                fr_accept_figure figure, fr_accept_units *units);
/* By how much a figure of b is above that of a, over the prompts that have such drafts in both. */
fr_estimated fr_accept_difference(const fr_accept_run *run, const fr_accept_config *a, const fr_accept_config *b,
                                  fr_accept_figure figure, fr_accept_units *units);

#endif
