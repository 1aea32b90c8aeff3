/* A drafter around another one, whose drafts it may replace: for tests of rollback under any history of acceptance, and for
 * studies of synthetic acceptance. */
#ifndef FR_MTP_DRAFTERS_FORCED_H
#define FR_MTP_DRAFTERS_FORCED_H

#include "mtp/drafters/drafter.h"

/* Called after the inner drafter has made its drafts. Replaces them by starting over: cycle->made = 0, then fr_draft_propose,
 * cycle->planned times at most. */
typedef void (*fr_force_fn)(void *user, const fr_draft_context *context, fr_cycle *cycle);

typedef struct fr_forced_drafter {
    fr_drafter base;
    fr_drafter *inner; /* NULL: none */
    fr_force_fn fn;
    void *user;
} fr_forced_drafter;

/* The caller owns the object, and puts the inner drafter back before the session is saved, loaded or destroyed: nothing is
 * known of the inner one's state while it is wrapped. */
fr_forced_drafter fr_forced_drafter_around(fr_drafter *inner, fr_force_fn fn, void *user);

#endif
