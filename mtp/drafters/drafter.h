/* A source of drafts. To add one: a file with a function like these two, and its name in drafter.c. */
#ifndef FR_MTP_DRAFTERS_DRAFTER_H
#define FR_MTP_DRAFTERS_DRAFTER_H

#include "mtp/session.h"

typedef struct fr_drafter {
    const char *name;
    /* Makes up to cycle->planned drafts: draft j by fr_sampler_draft or fr_sampler_propose, to s->tokens[s->length + j] with its
     * confidence to cycle->confidence[j]. Called once a cycle, also when none is planned: a drafter that follows the main
     * model's passes can then keep up. There is room in tokens and caches for all that are planned. */
    void (*draft)(fr_session *s, fr_cycle *cycle);
} fr_drafter;

/* The MTP module, chained on its own output from the second draft on. */
extern const fr_drafter fr_mtp_drafter;
/* Lookup in the text so far: what followed the last time that its last few tokens stood there. */
extern const fr_drafter fr_ngram_drafter;

#endif
