/* The record of an A/B run: its arms, the texts that each made of each prompt, and their times. What is made of it is in
 * figures.h and cost.h. Private to study/; the face is fr_ab.
 *
 * Times of a text, on one clock:
 *  - prefill_s: evaluating the prompt. ttft_s: from there to the first token, which the prefill's logits give.
 *  - decode_s: all cycles after that. Time per output token (TPOT) is decode_s / (tokens - 1).
 *  - token_s: a cycle gives its tokens together, and each is charged an equal share of the cycle's time (inter-token latency).
 *    The shares sum to decode_s, so their mean is the TPOT. What a reader sees between two pieces of text is cycle_s. */
#ifndef FR_STUDY_AB_RUN_H
#define FR_STUDY_AB_RUN_H

#include <assert.h>

#include "forerun_study.h"
#include "study/energy.h"
#include "study/prompts.h"

enum { FR_AB_MOST_COLUMNS = FR_AB_MOST_ARMS + FR_AB_MOST_SYNTHETIC + 1 };

typedef enum fr_ab_role {
    FR_AB_ARM,
    FR_AB_SYNTHETIC, /* drafts are forced */
    FR_AB_AGAIN,     /* the compared arm once more: what differs is noise */
} fr_ab_role;

typedef struct fr_ab_column {
    fr_ab_role role;
    char name[32];
    fr_drafting drafting;
    int depth;           /* 0 with off */
    bool learned;        /* auto: a text begins with what those before it taught; else each begins anew */
    double target;       /* synthetic: the chance that a draft is right */
    fr_session *session; /* kept from text to text, as in a server */
} fr_ab_column;

/* One text of one column. */
typedef struct fr_ab_text {
    bool whole;
    int count, cycles;
    int32_t *tokens; /* [count] */
    double *token_s; /* [count - 1]: of each token after the first */
    double *cycle_s; /* [cycles] */
    double prefill_s, ttft_s, decode_s;
    double energy_j;                    /* of decoding; NaN: unknown */
    double first_draft_s, next_draft_s; /* summed; of columns that always draft as deep as they can */
    int first_drafts, next_drafts;
    fr_stats stats;
} fr_ab_text;

/* Passes over a text of the compared arm in its middle, where all tokens are known: what rows cost that fit together. */
typedef struct fr_ab_probe {
    int rows; /* 0: not made */
    double pass_s[FR_MAX_DEPTH + 1];
    uint64_t experts[FR_MAX_DEPTH + 1]; /* distinct (layer, expert) pairs */
} fr_ab_probe;

typedef struct fr_ab_run {
    const fr_model *model;
    fr_ab_options options; /* with defaults filled in */
    fr_prompts prompts;    /* max_tokens filled in */
    size_t num_prompts;    /* of them take part */
    fr_ab_column columns[FR_AB_MOST_COLUMNS];
    int num_columns;
    int base;  /* the compared arm */
    int again; /* its second column; -1: none */
    int num_synthetic, probe_rows;
    fr_ab_text *texts;   /* [prompts, repeats, columns] */
    fr_ab_probe *probes; /* [prompts, repeats] */
    fr_ab_text record;   /* what synthetic drafts are taken from, of the prompt at hand; also for warming up */
    fr_energy energy;
    uint64_t done, total; /* tokens, for progress */
    char what[64];        /* what progress says is being made */
    bool interrupted;
} fr_ab_run;

static inline fr_ab_text *fr_ab_text_at(const fr_ab_run *run, size_t prompt, int repeat, int column) {
    assert(prompt < run->num_prompts && repeat >= 0 && repeat < run->options.repeats && column >= 0 && column < run->num_columns);
    return run->texts + (prompt * (size_t)run->options.repeats + (size_t)repeat) * (size_t)run->num_columns + column;
}
/* Whether all columns of this turn are whole: only such turns count. */
bool fr_ab_turn_is_whole(const fr_ab_run *run, size_t prompt, int repeat);
/* Whether the options promise that all arms give the same text. */
bool fr_ab_promises_identity(const fr_ab_options *options);

/* Lays out room for a text of `most` tokens. */
fr_status fr_ab_text_create(fr_ab_text *text, int most, fr_error *error);
void fr_ab_text_release(fr_ab_text *text);

#endif
