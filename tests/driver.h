/* The library under test, driven through forerun.h: what several tests do with it. Failures fail the running test. */
#ifndef FR_TESTS_DRIVER_H
#define FR_TESTS_DRIVER_H

#include "forerun.h"
#include "model/workspace.h"

/* The instruction sets that there are, on this machine or others. */
enum { DRIVER_ISAS = FR_ISA_COUNT - 1 };
static inline fr_isa driver_isa(int i) {
    return (fr_isa)(FR_ISA_SCALAR + i);
}
/* Whether this machine has kernels of it that prefill on packed rows, in BF16 products. */
bool driver_packs(fr_isa isa);
/* Whether prefill may call oneDNN with it, in BF16 or in float32. */
bool driver_multiplies_by_onednn(fr_isa isa);

/* A golden checkpoint. NULL when this machine lacks the instruction set; any other failure fails the test. */
fr_model *driver_open(const char *model, fr_isa isa, fr_act act, int threads);
/* The best instruction set of this machine. */
fr_isa driver_best_isa(void);

fr_session *driver_session(const fr_model *model, const fr_session_options *options);

/* Everything that fr_session_score gives, put together again; owned arrays. */
typedef struct driver_scores {
    int rows, mtp_rows;
    float *logits, *hidden, *mtp_logits; /* [rows, vocab], [rows, hidden], [mtp_rows, vocab] (NULL without MTP) */
    int32_t *experts;                    /* [moe layers, rows, top_k] */
} driver_scores;
/* ctx is the number of tokens; options->ctx is not read. */
void driver_score(const fr_model *model, const fr_session_options *options, const int32_t *tokens, int count, driver_scores *out);
void driver_scores_release(driver_scores *scores);

/* Called after each step. */
typedef void (*driver_step_fn)(void *user, fr_session *session, const fr_step *step);
/* Steps until `count` tokens were made; tokens [count]. */
void driver_generate(fr_session *session, int count, int32_t *tokens, driver_step_fn fn, void *user);
void driver_prefill(fr_session *session, const int32_t *tokens, int count);

/* TEAM of `threads`. Layer `layer` over the rows in ws->x, at positions from pos on. */
void driver_layer(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, int layer, int pos, int rows, int threads);

#endif
