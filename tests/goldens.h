/* The committed reference checkpoints (tests/golden/MODEL) and what an independent implementation computes from them
 * (tests/golden/MODEL/golden/L{length}-{mode}.npz and .json). See tests/golden/README.md. */
#ifndef FR_TESTS_GOLDENS_H
#define FR_TESTS_GOLDENS_H

#include <stdbool.h>
#include <stdint.h>

#include "npz.h"

/* The first GOLDEN_MODELS are DeepSeek-V3's own, with FP8 weights, an MTP module and both modes; their neighbours behind them
 * have float32 activations alone, and not all of them experts or an MTP module. Those from GOLDEN_SPARSE on have sparse
 * attention. */
enum { GOLDEN_MODELS = 5, GOLDEN_ALL = 15, GOLDEN_SPARSE = 12, GOLDEN_LENGTHS = 3, GOLDEN_GREEDY = 64, GOLDEN_CHAIN = 3 };

/* A router or greedy choice whose margin is smaller may legitimately come out differently in float32. */
#define GOLDEN_MARGIN 1e-4

typedef struct golden_case {
    const char *model;
    int lengths[GOLDEN_LENGTHS]; /* of the prompts */
} golden_case;
extern const golden_case golden_cases[GOLDEN_ALL];

typedef enum golden_mode { GOLDEN_F32, GOLDEN_W8A8 } golden_mode; /* activations in float32; quantized */
bool golden_exists(int length, golden_mode mode);                 /* the longest text is kept in float32 only */

typedef struct golden_chain {
    int32_t drafts[GOLDEN_CHAIN];
    double margin[GOLDEN_CHAIN];
} golden_chain;

typedef struct golden {
    char dir[512];  /* the checkpoint */
    char label[96]; /* "pico-s1 L70 f32", for messages */
    int length, hidden_size, vocab, layers, moe_layers, top_k;
    const int32_t *tokens;                         /* [L] */
    const float *logits, *hidden, *hidden_prenorm; /* [L, vocab], [L, hidden], [L, hidden] */
    const float *layer_out;                /* [layers, L, hidden]; NULL, as hidden_prenorm, in long texts of sparse ones */
    const int32_t *router_idx;             /* [moe layers, L, top_k], ascending */
    const float *router_w, *router_margin; /* [moe layers, L, top_k], [moe layers, L] */
    bool has_mtp;
    const float *mtp_logits, *mtp_hidden; /* [L, vocab], [L, hidden]; the last row reads greedy[0] */
    const int32_t *mtp_router_idx;        /* [L, top_k]; NULL where the module is dense */
    const float *mtp_router_w;            /* [L, top_k] */
    double *mtp_router_margin;            /* [L] */
    int32_t greedy[GOLDEN_GREEDY];        /* continuation of the prompt */
    double greedy_margin[GOLDEN_GREEDY];
    int index_layers, index_topk;                 /* sparse attention: main layers that have an indexer */
    const int32_t *index_layer;                   /* [index layers]: which they are */
    const int32_t *index_idx, *mtp_index_idx;     /* [index layers, L, topk], [L, topk]: chosen positions, ascending, then -1 */
    const float *index_margin, *mtp_index_margin; /* [index layers, L], [L] */
    bool has_chain;                               /* neighbours with an MTP module */
    golden_chain chain, chain_shared; /* drafts chained from the last prompt position; the second only with sparse attention: with
                                         the first one's choice of positions for all */
    int spec_drafted, spec_accepted;  /* drafting one token a cycle over that continuation */
    double noise;                     /* effect of a 1e-6 relative perturbation on the logits, max abs */
    npz_archive archive;
} golden;

/* Fails the running test when something is missing or not of the expected shape. */
void golden_load(const char *model, int length, golden_mode mode, golden *out);
void golden_release(golden *g);
/* FR_TEST_DIR/golden/MODEL */
void golden_model_dir(const char *model, char *out, size_t size);

/* The prompt and its greedy continuation in one: [length + GOLDEN_GREEDY], released with free(). */
int32_t *golden_text(const golden *g);

double max_abs(const float *x, size_t n);
double max_abs_diff(const float *a, const float *b, size_t n); /* infinite when either has a NaN */
double rms_diff(const float *a, const float *b, size_t n);

#endif
