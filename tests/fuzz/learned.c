/* The file of what auto has learned, and a policy that begins with it. */
#include "mtp/learned.h"

#include "fuzz.h"

FUZZ_TARGET(learned) {
    double ratio[FR_MAX_DEPTH + 1];
    fr_policy policy;
    fr_policy_info info;
    fr_learned learned;
    if (!fr_learned_read(fuzz_write("learned.json", data, size), &learned)) return 0;
    for (int i = 0; i <= FR_MAX_DEPTH; i++) ratio[i] = 1 + 0.2 * i;
    fr_policy_init(&policy, true, FR_MAX_DEPTH, ratio, 0.1, 0.1);
    fr_learned_give(&learned, &policy);
    for (int cycle = 0; cycle < 8; cycle++) {
        int drafts = fr_policy_plan(&policy, FR_MAX_DEPTH);
        if (drafts < 0 || drafts > FR_MAX_DEPTH) __builtin_trap();
    }
    fr_policy_describe(&policy, &info);
    fr_learned_take(&policy, &learned);
    return 0;
}
