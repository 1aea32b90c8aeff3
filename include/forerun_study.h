/* forerun: measuring. What a machine can do with a model, acceptance studies, A/B latency studies and their reports. Conventions
 * are those of forerun.h. */
#ifndef FORERUN_STUDY_H
#define FORERUN_STUDY_H

#include "forerun.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Measuring ---------------------------------------------------------------------------------------------- */

/* Of repeated measurements: quantiles over `samples` of them. All 0 when there was none. */
typedef struct fr_figure {
    double median, p10, p90;
    int samples;
} fr_figure;

/* What to measure. The machine's own limits always are. */
enum {
    FR_BENCH_LINEAR = 1, /* the model's matrices, by rows */
    FR_BENCH_PREFILL = 2,
    FR_BENCH_PASSES = 4,   /* passes of the main model by rows */
    FR_BENCH_DECODE = 8,   /* without drafts */
    FR_BENCH_DRAFT = 16,   /* one draft of the MTP module */
    FR_BENCH_CONTEXT = 32, /* a pass of one row, and attention alone, by context */
    FR_BENCH_ALL = 63,
};
#define FR_BENCH_MOST_ROWS 4096

typedef struct fr_bench_options {
    unsigned what; /* set of FR_BENCH_*; 0: all */
    /* Linears are measured with each, passes with those up to FR_MAX_DEPTH + 1 (one row is always among them), prefills with
     * the others. NULL: linears 1, 2, 3, 4, 8, 128, 512, passes 1 to 8, prefills 128, 512. */
    const int *rows;
    size_t num_rows;
    int ctx;        /* tokens before a pass; 0: 512, or half of the model's positions if that is less */
    double seconds; /* to spend on each figure; 0: 0.1 */
    fr_kv kv;
    uint64_t seed; /* of tokens and inputs */
    fr_progress_fn progress;
    void *user;
} fr_bench_options;

/* One kind of matrix with a number of rows. Bytes are weights and scales, operations 2 * rows * out * in. */
typedef struct fr_bench_linear {
    char name[48];     /* "experts.up_proj": the tensor's, without what goes without saying */
    const char *dtype; /* static */
    int rows, out, in;
    int matrices; /* of this kind that were read in turn */
    bool cached;  /* all that was read between two uses of a matrix may fit into the cache: not the memory's speed */
    fr_figure bytes_per_s, flops_per_s;
    double of_bandwidth, of_peak;
} fr_bench_linear;

/* A pass of the main model and its LM head after `ctx` tokens. */
typedef struct fr_bench_pass {
    int rows;
    fr_figure ms;
    double over_one_row;
    double unique_experts; /* that the rows touched together, mean of the MoE layers */
    uint64_t bytes;        /* read: weights, and the KV cache once */
    double of_bandwidth;
    int barriers;       /* at which the threads meet */
    double in_barriers; /* of the pass's time, if all come to each at once */
} fr_bench_pass;

typedef struct fr_bench_prefill {
    int tokens;
    fr_figure tokens_per_s;
    double flops_per_token; /* of its linears */
    double of_peak;
} fr_bench_prefill;

typedef struct fr_bench_draft {
    fr_figure ms;
    double over_one_row; /* over a pass of one row; 0: passes were not measured */
    uint64_t bytes;
    double of_bandwidth;
} fr_bench_draft;

/* Parts of the time of all threads together, which is that of a token times their number. */
typedef struct fr_bench_shares {
    double waiting;   /* for each other, at barriers and around passes */
    double attention; /* over the cached positions, without projections; with sparse attention their choice too */
} fr_bench_shares;

typedef struct fr_bench_context {
    int tokens;             /* before the pass */
    fr_figure ms;           /* a pass of one row and its LM head */
    fr_figure attention_ms; /* its attention, projections included */
    fr_figure index_ms;     /* of that, scores and choice of the indexers; no samples without sparse attention */
    fr_bench_shares shares; /* of further passes, whose threads look at the clock at each barrier */
} fr_bench_context;

/* Experts of streamed weights, over tokens decoded one by one after those that warm up. */
typedef struct fr_bench_experts {
    fr_stats stats;         /* of those tokens: num_cycles of them */
    double bytes_per_token; /* read from the disk */
    double stalled;         /* share of a token's time with nothing to compute, since all that was left was being read */
    double reading;         /* share of a token's time in which reads were in flight */
    double of_disk;         /* bytes a second in that time, over fr_bench_result.disk; 0: nothing was read */
} fr_bench_experts;

typedef struct fr_bench_decode {
    fr_figure tokens_per_s;
    uint64_t bytes_per_token; /* weights with the experts that were chosen, and the KV cache */
    double of_bandwidth;
    bool cached;              /* as above */
    double sampling;          /* share of a token's time in which the token is chosen, greedily */
    fr_bench_shares shares;   /* of further tokens, whose threads look at the clock at each barrier */
    fr_bench_experts experts; /* streamed weights */
} fr_bench_decode;

/* Parts that were not measured have no entries, or figures without samples. A share of a limit that is unknown is 0. */
typedef struct fr_bench_result {
    int threads, ctx;
    const char *isa;        /* of the decode kernels */
    char prefill_path[160]; /* what runs prefill, as in fr_build_info */
    bool has_mtp;
    uint64_t cache_bytes;       /* the last level's, 0: unknown */
    uint64_t read_buffer_bytes; /* what reading was measured on */
    int read_streams;           /* places that each thread read from in turn: the best of 1, 4 and 8 */
    fr_figure read_bandwidth;   /* bytes a second, with the model's threads */
    fr_figure peak;             /* floating-point operations a second that prefill could reach at most; none where it is
                                   portable */
    const char *peak_name;      /* what reached it */
    fr_figure barrier;          /* seconds that the model's threads take to meet, when all come at once */
    int ranks;                  /* that compute the model together; 1: one process */
    fr_figure exchange;         /* seconds in which ranks give each other their parts of a row of hidden states; none with one */
    uint64_t exchange_bytes;    /* of such a row */
    fr_figure disk;        /* streamed weights: bytes a second of experts read in the files' order; no samples: not streamed */
    int disk_at_once;      /* experts that were read at once for it */
    uint64_t expert_bytes; /* of one, in whole pages */
    const char *reader;    /* how, as in fr_model_info; NULL: not streamed. The model's */
    fr_bench_linear *linear;
    fr_bench_prefill *prefill;
    fr_bench_pass *passes;
    fr_bench_context *contexts;
    size_t num_linear, num_prefill, num_passes, num_contexts;
    fr_bench_decode decode;
    fr_bench_draft draft;
} fr_bench_result;

/* Measures the machine on the model's shapes. *out is allocated, also when a callback stopped the call (FR_INTERRUPTED): it
 * then has what was measured until then; NULL on other errors. */
FR_API fr_status fr_bench(const fr_model *model, const fr_bench_options *options, fr_bench_result **out, fr_error *error);
FR_API void fr_bench_result_destroy(fr_bench_result *result);

/* ---- Studies: results -------------------------------------------------------------------------------------- */

/* Where a study comes from, for its document's header: how to repeat it. Strings are copied. */
typedef struct fr_study_origin {
    const char *model_path;     /* as it was given; NULL: left out, and so are counts of parameters */
    const char *const *command; /* [num_command] the program and its arguments */
    size_t num_command;
} fr_study_origin;

/* A study's result is a JSON document (docs/REPORTS.md); all else is made from its text, so that a report can be made of a
 * document that was kept. */
typedef struct fr_study_result fr_study_result;
/* The document's text, indented, without a newline at its end; owned by the result. */
FR_API const char *fr_study_json(const fr_study_result *result);
FR_API void fr_study_destroy(fr_study_result *result);
/* One HTML file without anything outside it, from the text of a document; *html is allocated, release with fr_free. Parts
 * of the document that are absent or null are left out; a text that is no such document is FR_ERROR_FORMAT. */
FR_API fr_status fr_study_html(const char *json, char **html, fr_error *error);
/* The same as CSV (RFC 4180): a row for each thing measured. */
FR_API fr_status fr_study_csv(const char *json, char **csv, fr_error *error);

/* ---- Studies: acceptance ------------------------------------------------------------------------------------- */

/* How often drafts are accepted, in a grid of configurations: all that come of what is given, in this order from the
 * outside in, except those that could not differ (verification rules when greedy, recycled states with one draft). */
typedef struct fr_accept_options {
    const char *prompts;   /* file of prompts: lines of JSON, or one text (docs/REPORTS.md); NULL: tokens are given */
    const int32_t *tokens; /* [num_tokens]: one prompt */
    size_t num_tokens;
    size_t most_prompts; /* the first ones of the file; 0: all */
    bool chat;           /* texts are put into the chat template */
    fr_chat_options chat_options;
    /* false: texts are generated. true: the prompts are the texts, and every position of them counts as if a cycle began
     * there: what would be drafted, given the text before it, is compared with what the main model would say. One pass over
     * a text; a draft after the first reads the text's own tokens, as if the drafts before it had been those. Texts longer
     * than the context are cut. */
    bool teacher_forced;
    const float *temperatures; /* [num_temperatures]; NULL: session.sampling.temperature */
    size_t num_temperatures;
    bool both_verify, both_hidden; /* the other rule, or state, too; session's is first */
    const fr_recycle *recycles;    /* [num_recycles]; NULL: session.mtp_recycle */
    size_t num_recycles;
    const int *depths; /* [num_depths], 1..FR_MAX_DEPTH; NULL: session.depth; where that is 0, fr_default_depth of auto */
    size_t num_depths;
    int max_tokens; /* of a generated text, at most, whatever its prompt says; 0: what it says, or 128 */
    bool ignore_eos;
    int most_rejected;          /* tokens to list; 0: 20 */
    fr_session_options session; /* without drafting, ignore_eos, ends, progress, user; ctx 0: what the longest text needs */
    fr_study_origin origin;
    fr_progress_fn progress; /* counts tokens; at most those, texts may end early */
    void *user;
} fr_accept_options;

/* *out is made, also when a callback stopped the call (FR_INTERRUPTED): it then has what was measured until then, and says
 * "complete": false. NULL on other errors. */
FR_API fr_status fr_accept(const fr_model *model, const fr_accept_options *options, fr_study_result **out, fr_error *error);

/* ---- Studies: A/B latency ------------------------------------------------------------------------------------- */

/* A way to make text. The first arm without drafting, or else the first arm, is what the others are compared with. */
typedef struct fr_ab_arm {
    fr_drafting drafting;
    int depth; /* most drafts a cycle; 0: session.depth; where that is 0 too, fr_default_depth */
    /* auto: each text begins with what those before it taught, and the first with session.learned, as a later run of the program
     * does. Else each begins as the first run does, knowing nothing. */
    bool learned;
} fr_ab_arm;
#define FR_AB_MOST_ARMS 16
#define FR_AB_MOST_SYNTHETIC 32

typedef struct fr_ab_options {
    const char *prompts;   /* file of prompts: lines of JSON, or one text (docs/REPORTS.md); NULL: tokens are given */
    const int32_t *tokens; /* [num_tokens]: one prompt */
    size_t num_tokens;
    size_t most_prompts; /* the first ones of the file; 0: all */
    bool chat;           /* texts are put into the chat template */
    fr_chat_options chat_options;
    const fr_ab_arm *arms; /* [num_arms]; NULL: off, on, auto, auto with learned */
    size_t num_arms;
    /* Chances [num_synthetic] that a draft is right. For each, an arm (on, session.depth) whose drafts are replaced by the
     * text that the compared arm made, spoiled at random, while the MTP module runs as ever. Not with verify = rejection at
     * a temperature above 0, where the text would not be known beforehand. */
    const double *synthetic;
    size_t num_synthetic;
    int max_tokens; /* of a text, at most, whatever its prompt says; 0: what it says, or 128 */
    bool ignore_eos;
    int repeats;                /* texts of a prompt in each arm; 0: 2. Turns go forward and backward: A B, B A, ... */
    int warm_up;                /* texts of each arm beforehand, at most 32 tokens each; 0: 1, -1: none */
    double cool_off_s;          /* pause before each text */
    bool no_noise_check;        /* else the compared arm runs twice, as an arm of its own */
    fr_session_options session; /* without drafting, ignore_eos, ends, progress, user; ctx 0: what the longest text needs */
    fr_study_origin origin;
    fr_progress_fn progress; /* counts tokens; at most those, texts may end early */
    void *user;
} fr_ab_options;

/* Measures latency in each arm, in pairs by prompt. *out is made, also when a callback stopped the call (FR_INTERRUPTED): it
 * then has the prompts' turns that were whole until then; NULL on other errors. Output that differs between arms is no
 * error: the document's identical_outputs says so. */
FR_API fr_status fr_ab(const fr_model *model, const fr_ab_options *options, fr_study_result **out, fr_error *error);

/* Whether two documents of fr_ab differ beyond noise: a document (schema "forerun.ab-compare/1") with ratios of `after` over
 * `before`, paired by prompt, and warnings where the two are not comparable. */
FR_API fr_status fr_ab_compare(const char *before, const char *after, fr_study_result **out, fr_error *error);

#ifdef __cplusplus
}
#endif
#endif
