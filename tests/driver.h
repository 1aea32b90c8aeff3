/* The library under test, driven through forerun.h: what several tests do with it. Failures fail the running test. */
#ifndef FR_TESTS_DRIVER_H
#define FR_TESTS_DRIVER_H

#include "forerun.h"

enum { DRIVER_ISAS = 4 };
extern const fr_isa driver_isas[DRIVER_ISAS];
extern const char *const driver_isa_names[DRIVER_ISAS];

/* A golden checkpoint. NULL when this machine lacks the instruction set; any other failure fails the test. The choice
 * of instruction set holds for the process: one model at a time. */
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

#endif
