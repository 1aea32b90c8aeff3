/* An acceptance study: how often the drafts of a configuration are accepted. Private to study/; the face is fr_accept.
 *
 * Terms, the same everywhere. A cycle proposes `drafted` drafts. They are verified one after the other until one is rejected, so
 * min(drafted, accepted + 1) of them are reached. Position j is the j-th draft of a cycle.
 *  - Rate of a position: accepted / drafted; it falls with j. Conditional rate: accepted / reached.
 *  - Acceptance rate: all accepted / all drafted. It depends on the depth: deeper drafts are rarely reached. */
#ifndef FR_STUDY_ACCEPT_ACCEPT_H
#define FR_STUDY_ACCEPT_ACCEPT_H

#include "core/json_builder.h"
#include "forerun_study.h"
#include "mtp/session.h"
#include "study/prompts.h"
#include "study/statistics.h"

enum { FR_ACCEPT_CONTEXTS = 24 }; /* buckets of context: [0, 64), then doubling */

typedef struct fr_accept_positions {
    uint64_t drafted[FR_MAX_DEPTH], reached[FR_MAX_DEPTH], accepted[FR_MAX_DEPTH];
} fr_accept_positions;

/* One prompt under one configuration. */
typedef struct fr_accept_text {
    bool whole;
    uint64_t tokens, cycles; /* generated, or verified positions; cycles that drafted */
    fr_accept_positions at;
    uint64_t context_drafted[FR_ACCEPT_CONTEXTS], context_accepted[FR_ACCEPT_CONTEXTS]; /* first drafts */
    fr_calibration calibration;                                                         /* drafts reached */
} fr_accept_text;

typedef struct fr_accept_config {
    char name[96];
    int depth;
    float temperature;
    fr_verify verify;
    fr_hidden_state hidden;
    fr_recycle recycle;

    bool whole;                    /* all texts were */
    fr_stats stats;                /* of all cycles */
    fr_stats along_cycles;         /* teacher-forced: of those alone that decoding this text would have made */
    fr_accept_text *texts;         /* [prompts] */
    uint32_t *proposed, *rejected; /* [vocab]: drafts reached, by token */
} fr_accept_config;

/* Which experts neighbouring tokens share. */
typedef struct fr_accept_experts {
    int layers, chosen, count; /* MoE layers, experts a token, experts */
    uint64_t tokens, pairs;
    bool has_last;
    int32_t *last;    /* [layers, chosen] of the token before */
    uint64_t *shared; /* [layers]: summed over pairs of neighbours */
    uint64_t *chose;  /* [layers, count]: tokens that chose an expert */
} fr_accept_experts;

typedef struct fr_accept_run {
    const fr_model *model;
    fr_accept_options options; /* with defaults filled in */
    fr_prompts prompts;        /* max_tokens filled in */
    size_t num_prompts;        /* of them take part */
    size_t num_cut;            /* texts that were too long for the context */
    fr_accept_config *configs;
    size_t num_configs;
    fr_accept_experts experts; /* of the first configuration */
    fr_accept_config *config;  /* the one that runs, */
    fr_session *session;       /* its session, */
    fr_accept_text *text;      /* and the text */
    size_t total, done;        /* tokens, for progress */
} fr_accept_run;

/* Counts a cycle, or a position as if a cycle began there. Reads length, verified and accepted, and of the drafts reached the
 * tokens and their confidence. */
void fr_accept_count_cycle(fr_accept_run *run, const fr_cycle *cycle);

/* Counts the experts of `rows` neighbouring tokens: ws->experts of a pass of pass_rows rows, from row 0 on. The first is the
 * neighbour of the last one counted. Only of the first configuration; nothing for the others. */
void fr_accept_count_experts(fr_accept_run *run, const int32_t *experts, int pass_rows, int rows);
/* The next token counted has no neighbour. */
void fr_accept_new_text(fr_accept_run *run);

/* Reports progress: `tokens` of the text at hand. FR_INTERRUPTED when it is to stop. */
fr_status fr_accept_report(fr_accept_run *run, size_t tokens, fr_error *error);

/* Each runs one prompt through run->session, which is empty. */
fr_status fr_accept_generate(fr_accept_run *run, const fr_prompt *prompt, fr_error *error);
/* Teacher-forced: verifies the text of `count` tokens. Every position from `first` on is taken for the last one evaluated when a
 * cycle begins, as if tokens [0, first + 1) had been the prompt. */
fr_status fr_accept_verify_text(fr_accept_run *run, const int32_t *tokens, int count, int first, fr_error *error);

/* The document of a run, finished or not. */
fr_status fr_accept_document(const fr_accept_run *run, bool complete, fr_study_result **out, fr_error *error);

#endif
