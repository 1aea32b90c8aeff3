/* An A/B study: texts made of the same prompts in several arms, in turns, and what is made of their times. Private to
 * study/; the face is fr_ab.
 *
 * Times of a text, on one clock:
 *  - prefill_s: evaluating the prompt. ttft_s: from there to the first token, which the prefill's logits give.
 *  - decode_s: all cycles after that. Time per output token (TPOT) is decode_s / (tokens - 1).
 *  - A cycle gives its tokens together. Each is charged an equal share of the cycle's time (inter-token latency):
 * shares sum to decode_s, so their mean is the TPOT. What a reader sees between two pieces of text is the cycle's time
 * itself (cycle_s). */
#ifndef FR_STUDY_AB_AB_H
#define FR_STUDY_AB_AB_H

#include "forerun_study.h"
#include "study/cost_model.h"
#include "study/document.h"
#include "study/energy.h"
#include "study/prompts.h"
#include "study/statistics.h"

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
    double target;       /* synthetic: the chance that a draft is right */
    fr_session *session; /* kept from text to text, as in a server: what a policy has learned stays */
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

/* Passes over a text of the compared arm in its middle, where all tokens are known: what rows cost that fit together.
 */
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
    return run->texts + (prompt * (size_t)run->options.repeats + (size_t)repeat) * (size_t)run->num_columns + column;
}
/* Whether all columns of this turn are whole: only such turns count. */
bool fr_ab_turn_is_whole(const fr_ab_run *run, size_t prompt, int repeat);

/* The column of turn `turn` of a prompt's repeat: forward and backward in alternation, so that what drifts slowly meets
 * all alike; the next prompt begins the other way round. */
int fr_ab_order(int columns, size_t prompt, int repeat, int turn);

/* ---- Making texts: study/ab/text.c ---- */

/* Lays out room for the texts. */
fr_status fr_ab_text_create(fr_ab_text *text, int most, fr_error *error);
void fr_ab_text_release(fr_ab_text *text);
/* Makes a text of the prompt in a column, `most` tokens at most. draw: which of a synthetic column's random numbers. */
fr_status fr_ab_make_text(fr_ab_run *run, int column, size_t prompt, int most, int draw, fr_ab_text *out, fr_error *error);
/* Measures passes in the middle of the text that the compared arm's session holds. */
fr_status fr_ab_probe_passes(fr_ab_run *run, size_t prompt, fr_ab_probe *out, fr_error *error);
/* A draft that is `right` with the chance `target`, else any other token: a function of the arguments alone. */
int32_t fr_ab_spoil(uint64_t seed, int position, int draw, double target, int32_t right, int32_t vocab_size);

/* ---- What is made of them: study/ab/figures.c ---- */

typedef struct fr_ab_quantiles {
    size_t samples;
    double p05, p50, p90, p95, p99; /* NaN without samples */
} fr_ab_quantiles;

typedef struct fr_ab_figures {
    fr_ab_quantiles decode_rate, prefill_rate; /* tokens a second, by text */
    fr_ab_quantiles tpot_ms, ttft_ms;          /* by text */
    fr_ab_quantiles token_ms, cycle_ms;        /* by token, by cycle */
    uint64_t tokens;
    double energy_j_per_token; /* NaN: unknown */
    fr_stats stats;
} fr_ab_figures;

/* Tokens a second that a column decoded of a prompt, over its whole turns; of one turn alone if repeat >= 0. NaN: none.
 */
double fr_ab_rate(const fr_ab_run *run, size_t prompt, int repeat, int column);
fr_status fr_ab_figures_of(const fr_ab_run *run, int column, fr_ab_figures *out, fr_error *error);

typedef struct fr_ab_comparison {
    size_t units; /* prompts; pairs if there was one prompt */
    bool by_pair;
    size_t prompts, pairs;
    size_t slower, slower_beyond_noise; /* units */
    double spread;                      /* p95 - p05 of the units */
    fr_bootstrap median, mean;          /* of rate / the compared arm's rate; NaN without units */
} fr_ab_comparison;

enum { FR_AB_LEAST_UNITS = 5 }; /* for a verdict: fewer have no interval of 95 % for their median */

/* unit_noise: how far from 1 the ratio of equals may be for a single unit; only for slower_beyond_noise. */
fr_status fr_ab_compare_columns(const fr_ab_run *run, int column, double unit_noise, fr_ab_comparison *out, fr_error *error);

/* How far from 1 the ratio of equals may be with this machine at this time: the farther end of its interval. */
double fr_ab_resolution(const fr_ab_comparison *noise);
/* "faster" or "slower" if there are units enough, the interval leaves out 1 and the median is farther from 1 than equals
 * are, else "undecided". */
const char *fr_ab_verdict(size_t units, double median, fr_interval interval, double resolution);

typedef struct fr_ab_difference {
    bool any;
    size_t texts, prompt; /* how many differ from the compared arm's first text of the prompt; where first */
    int repeat, column, position;
} fr_ab_difference;
/* Compares the whole texts of all columns. */
fr_ab_difference fr_ab_find_difference(const fr_ab_run *run);
/* Whether the options promise that texts are the same. */
bool fr_ab_promises_identity(const fr_ab_options *options);

/* ---- The document: study/ab/document.c ---- */

fr_status fr_ab_write(fr_ab_run *run, fr_study_result **out, fr_error *error);

#endif
