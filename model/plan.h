/* Counts the memory that a model and a session will take, before any is taken. */
#ifndef FR_MODEL_PLAN_H
#define FR_MODEL_PLAN_H

#include "model/weights.h"

/* A session's sizes: its options with their defaults filled in. */
typedef struct fr_session_sizes {
    int ctx;
    int chunk; /* rows of a prefill pass */
    bool mtp;  /* it has the MTP module's KV cache */
    fr_kv kv;
} fr_session_sizes;
/* FR_ERROR_ARGUMENT when the sizes that the options ask for make no sense for the model. */
fr_status fr_session_sizes_check(const fr_model *model, const fr_session_options *options, fr_error *error);
fr_session_sizes fr_session_sizes_of(const fr_model *model, const fr_session_options *options);

/* Bytes of what a session allocates beside caches, workspace and sampler: tokens, hidden states, logits. */
uint64_t fr_session_buffer_bytes(const fr_model *model, const fr_session_sizes *sizes);
/* FR_ERROR_MEMORY, with the figures, when a session does not fit beside the opened model. */
fr_status fr_plan_session(const fr_model *model, const fr_session_options *options, fr_error *error);

/* Sets the fields that planning reads in a model that has its config (and checkpoint, if there is one) and nothing else yet. */
void fr_plan_prepare(fr_model *model, const fr_model_options *options, const fr_mtp_files *mtp);
/* Marks the tensors that are used in place, in out [fr_checkpoint_count], says in `parts` (likewise; of those that are marked)
 * what of them the model's rank uses, and returns the bytes of that. Not among them are vectors, which become float32, copies of
 * tensors, MTP modules that are not run, and routed experts that the model's plan streams. */
uint64_t fr_plan_tensors(const fr_model *model, bool *out, fr_part *parts);
/* Plans a prepared model and, unless options->session is NULL, a session. FR_ERROR_MEMORY when they cannot fit, with the plan
 * filled in. */
fr_status fr_plan_model(const fr_model *model, const fr_model_options *options, fr_memory_plan *out, fr_error *error);

/* Settles between ranks what all of them must do alike: a copy of the LM head for drafts that nobody asked for is made where it
 * fits on every rank. Called by all. */
void fr_plan_agree(fr_model *model, const fr_model_options *options);

#endif
