/* forerun: checkpoints as files. What is in one, whether it is whole, and writing new ones; without opening it as a model.
 * Conventions are those of forerun.h. */
#ifndef FORERUN_CHECKPOINT_H
#define FORERUN_CHECKPOINT_H

#include "forerun.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Checkpoints, without opening them as a model ------------------------------------------------------------ */

/* Finds the directory of the checkpoint that a user names: `path` itself, or the one snapshot of a folder of the Hugging Face
 * cache (models--OWNER--NAME). Anything else is an error that says what it is (a GGUF file, one shard, an index, a PyTorch
 * checkpoint, a cache of several models, an empty directory, ...) and hints at what to do. weights: whether the directory must
 * have weights. *dir is released with fr_free, and NULL after an error. */
FR_API fr_status fr_find_checkpoint(const char *path, bool weights, char **dir, fr_error *error);

/* Parameters are counted without scales. Activated: what one token touches, embedding row not counted as a matrix. */
typedef struct fr_parameters {
    uint64_t main_total, main_activated, embedding, head;
    uint64_t attention, dense_mlp, moe_mlp; /* over all main layers; moe_mlp includes gates, biases and shared experts */
    uint64_t indexer;                       /* of sparse attention, over all main layers */
    uint64_t mtp_total;                     /* as stored by the original: with its copies of embedding and LM head */
    uint64_t mtp_unique, mtp_activated;     /* without them; what one draft touches, LM head included */
    uint64_t fp8_bytes;                     /* weights as the original stores them: FP8 + scales where the config says fp8,
                                               BF16 and F32 elsewhere */
    uint64_t kv_bytes_per_token_bf16, kv_bytes_per_token_f32; /* main model */
    uint64_t mtp_kv_bytes_per_token_bf16;
    uint64_t index_bytes_per_token_bf16, mtp_index_bytes_per_token_bf16; /* index keys; as many again in f32 */
    int dense_layers, moe_layers, indexers;                              /* of the main model */
    int mtp_modules;
} fr_parameters;

typedef struct fr_tensor_info {
    const char *name, *dtype, *file;
    int rank;
    int64_t shape[4];
    uint64_t bytes;
} fr_tensor_info;

typedef struct fr_inspection fr_inspection; /* what is in a checkpoint directory, or in a config.json alone */
/* path: a checkpoint directory, or a config.json (then there are no tensors). */
FR_API fr_status fr_inspect(const char *path, fr_inspection **out, fr_error *error);
FR_API void fr_inspection_destroy(fr_inspection *inspection);
FR_API const fr_parameters *fr_inspection_parameters(const fr_inspection *inspection);
FR_API const char *fr_inspection_config_json(const fr_inspection *inspection); /* the text of config.json */
/* [*num_notices], owned by the inspection: what opening it as a model would notice, too. */
FR_API const fr_notice *fr_inspection_notices(const fr_inspection *inspection, size_t *num_notices);
FR_API size_t fr_inspection_num_tensors(const fr_inspection *inspection);
FR_API void fr_inspection_tensor(const fr_inspection *inspection, size_t i,
                                 fr_tensor_info *out); /* sorted by name, numbers by value */

/* What opening it as a model with these options, and one session, would take on this machine; both may be NULL. A config
 * alone is planned as the original stores weights. That it does not fit is FR_ERROR_MEMORY, with *out filled in. */
FR_API fr_status fr_plan_memory(const fr_inspection *inspection, const fr_model_options *options,
                                const fr_session_options *session, fr_memory_plan *out, fr_error *error);
/* The same of one of `ranks` processes that share the model (fr_ranks in forerun.h); options->ranks is not read. */
FR_API fr_status fr_plan_rank(const fr_inspection *inspection, const fr_model_options *options, const fr_session_options *session,
                              int rank, int ranks, fr_memory_plan *out, fr_error *error);

typedef struct fr_problem {
    const char *tensor, *file, *problem; /* tensor or file may be "" */
} fr_problem;
typedef void (*fr_problem_fn)(void *user, const fr_problem *problem);
/* Reads a whole checkpoint and reports all that is wrong with it. FR_OK when the check itself could be made, problems or not.
 * threads: as in fr_model_options. notice: told what opening it as a model would notice; such a thing is no problem. Callbacks
 * may be NULL. */
FR_API fr_status fr_check(const char *dir, int threads, fr_problem_fn report, fr_notice_fn notice, void *user,
                          fr_progress_fn progress, void *progress_user, uint64_t *num_problems, fr_error *error);

/* The same without the values of tensors: files, headers, config and what each tensor must be. It takes as long as opening. */
FR_API fr_status fr_check_headers(const char *dir, fr_problem_fn report, fr_notice_fn notice, void *user, uint64_t *num_problems,
                                  fr_error *error);

/* ---- Writing checkpoints ------------------------------------------------------------------------------------ */

/* Both write a directory that must be empty or absent (its parent must exist) unless `force` is set; files of other names
 * then stay. Files get their names when all are whole; a call that fails leaves none behind. */

typedef enum fr_precision { FR_PRECISION_AUTO = 0, FR_PRECISION_FP8, FR_PRECISION_BF16 } fr_precision; /* of linears */

typedef struct fr_written {
    uint64_t tensors, tensor_bytes;
    uint64_t files, apparent_bytes; /* safetensors files and their sizes, holes included */
    uint64_t tensors_converted;     /* fr_quantize: linears */
    /* fr_quantize: the largest, over the 128x128 blocks of converted tensors, of max |w - w'| / max |w| */
    double max_relative_error;
} fr_written;

typedef struct fr_synth_options {
    int layers;             /* num_hidden_layers; 0: the config's. A config with MoE layers keeps at least one of them */
    int experts;            /* n_routed_experts; 0: the config's. Groups and experts a token are lowered to what is possible */
    const char *const *set; /* [num_set] "key=value" for config.json, the value in JSON; "a.b=1" sets b in a */
    size_t num_set;
    uint64_t seed;
    uint64_t shard_bytes; /* most data in a file; 0: 4.25 GB */
    fr_precision dtype;   /* auto: as the config's quantization_config says */
    bool sparse;          /* the data are holes: a full-sized checkpoint that takes no room and computes nothing */
    bool no_mtp_copies;   /* leave out the MTP modules' copies of embedding and head */
    double expert_skew;   /* standard deviation of correction biases: some experts are chosen more often, as trained ones are.
                             Scores   have one of about 0.2. 0: all are chosen alike */
    bool force;
    const char *tokenizer;   /* directory to copy tokenizer.json and tokenizer_config.json from; NULL: none */
    int threads;             /* 0: physical cores that affinity and cgroup quota allow */
    fr_progress_fn progress; /* counts tensors */
    fr_notice_fn notice;     /* told what was assumed about the config */
    void *user;              /* of both */
} fr_synth_options;

/* Writes a checkpoint in the original's format with random weights. `config`: a config.json, or a directory that has one;
 * keys that forerun does not know are kept. The bytes of a tensor depend on the seed, its name, type and shape alone.
 * *out may be NULL. */
FR_API fr_status fr_synth(const char *config, const char *dir, const fr_synth_options *options, fr_written *out, fr_error *error);

typedef struct fr_quantize_options {
    fr_precision to; /* auto: FP8 */
    uint64_t shard_bytes;
    bool force;
    int threads;
    fr_progress_fn progress; /* counts tensors */
    fr_notice_fn notice;     /* told what was assumed about the checkpoint `from` */
    void *user;              /* of both */
} fr_quantize_options;

/* Copies the checkpoint `from` to `dir` with its linears (MTP modules' too) as FP8 with a scale per 128x128 block, or its
 * FP8 linears as BF16. All else keeps its type. config.json's quantization_config follows; tokenizer and other files beside
 * the weights are copied. *out may be NULL. */
FR_API fr_status fr_quantize(const char *from, const char *dir, const fr_quantize_options *options, fr_written *out,
                             fr_error *error);

#ifdef __cplusplus
}
#endif
#endif
