/* Counters of cycles: adding them up, and the objects `speculative_decoding`, which all documents have, and `experts`. */
#ifndef FR_STUDY_SPECULATION_H
#define FR_STUDY_SPECULATION_H

#include "core/json_builder.h"

/* Adds all counters and times of `from` to `to`. */
void fr_stats_merge(fr_stats *to, const fr_stats *from);

/* Adds the object and returns it. depth: the most drafts of a cycle, and the length of arrays by position (longer if a cycle had
 * more). policy: of the session that was counted; NULL, as for counters of several sessions, leaves its key out. */
cJSON *fr_study_add_speculation(fr_json_builder *b, cJSON *to, const char *key, const fr_stats *stats,
                                const fr_policy_info *policy, int depth);

/* Adds the object `experts` of streamed weights, and returns it. reader: how files are read; NULL, of weights that are not
 * streamed: adds nothing. */
cJSON *fr_study_add_experts(fr_json_builder *b, cJSON *to, const fr_stats *stats, const char *reader);

#endif
