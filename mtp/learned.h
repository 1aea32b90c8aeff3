/* What auto has learned, for a session to come: costs of passes and drafts, how often drafts are accepted. It outlives a session
 * in a small file, one for each model and machine, that is never needed: what does not fit, or makes no sense, is left alone. */
#ifndef FR_MTP_LEARNED_H
#define FR_MTP_LEARNED_H

#include "model/weights.h"
#include "mtp/policy.h"

enum { FR_LEARNED_PATH = 4096 };

/* Counts are doubles too: all of it is a list of numbers. */
typedef struct fr_learned {
    double level_s;                                      /* a pass of one row */
    double pass[FR_MAX_DEPTH], pass_doubt[FR_MAX_DEPTH]; /* of 2, 3, .. rows, over one row; standard deviation of the logarithm */
    double draft[2], draft_doubt[2];                     /* a cycle's first draft, each further one, likewise; 0: not measured */
    double acceptance[FR_MAX_DEPTH], reached[FR_MAX_DEPTH];     /* by position; from how many drafts */
    double correction[FR_POLICY_BINS], judged[FR_POLICY_BINS];  /* of confidence, by bin */
    double tokens, verified[FR_MAX_DEPTH + 1], chained, cycles; /* of cycles that drafted, lately */
    double off;                                                 /* 1: drafting did not pay */
} fr_learned;

/* False when the policy has seen too little to be worth keeping. */
bool fr_learned_take(const fr_policy *policy, fr_learned *out);
/* Into a policy that has just begun. What was learned of costs counts as measured, of acceptance as a few drafts. */
void fr_learned_give(const fr_learned *learned, fr_policy *policy);
/* Whether these can be the numbers of a policy. */
bool fr_learned_makes_sense(const fr_learned *learned);

/* The file of a model on this machine in a folder; false when the name is too long. */
bool fr_learned_path(const fr_model *model, const fr_session_options *options, const char *folder, char path[FR_LEARNED_PATH]);
/* False when there is none that fits. */
bool fr_learned_read(const char *path, fr_learned *out);
/* Replaces the file as a whole; makes its folder. */
fr_status fr_learned_write(const char *path, const fr_learned *learned, fr_error *error);

#endif
