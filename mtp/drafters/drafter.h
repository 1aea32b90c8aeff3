/* A source of drafts. To add one: a file with a function like these two, and its name in drafter.c. */
#ifndef FR_MTP_DRAFTERS_DRAFTER_H
#define FR_MTP_DRAFTERS_DRAFTER_H

#include "mtp/session.h"

typedef struct fr_drafter {
    const char *name;
    /* Writes up to `depth` drafts to s->tokens[s->length ..], draft j by fr_sampler_draft or fr_sampler_propose, and its
     * confidence to s->confidence[j]; returns how many. Called once a cycle, also with depth 0: a drafter that follows the
     * main model's passes can then keep up. There is room in tokens and caches for `depth`. */
    int (*draft)(fr_session *s, int depth);
} fr_drafter;

/* The MTP module, chained on its own output from the second draft on. */
extern const fr_drafter fr_mtp_drafter;
/* Lookup in the text so far: what followed the last time that its last few tokens stood there. */
extern const fr_drafter fr_ngram_drafter;

#endif
