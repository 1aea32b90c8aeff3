#include "mtp/policy.h"

int fr_policy_depth(const fr_session *s, int limit) {
    if (!s->mtp) return 0;
    /* auto drafts one token: of fixed depths the one that rarely costs. Choosing it each cycle by cost comes with the
     * measurements that it needs. */
    int depth = s->options.mtp == FR_MTP_AUTO ? 1 : s->options.depth;
    return depth < limit ? depth : limit;
}
