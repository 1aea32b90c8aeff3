/* How many drafts a cycle should make. */
#ifndef FR_MTP_POLICY_H
#define FR_MTP_POLICY_H

#include "mtp/session.h"

/* Drafts of the next cycle, at most `limit` (what the token budget and the context still allow). */
int fr_policy_depth(const fr_session *session, int limit);

#endif
