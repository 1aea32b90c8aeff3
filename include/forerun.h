/* forerun: speculative decoding for DeepSeek-V3-family checkpoints, on CPUs.
 *
 *     #include <forerun.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     int main(int argc, char **argv) { // arguments: a checkpoint's directory, a prompt
 *         fr_error error = {.message = "two arguments are needed"};
 *         fr_model *model; fr_session *session; fr_step step = {0};
 *         int32_t *prompt; size_t count, length; char *text;
 *         bool ok = argc == 3 && fr_model_open(argv[1], NULL, &model, &error) == FR_OK &&
 *                   fr_session_create(model, NULL, &session, &error) == FR_OK &&
 *                   fr_tokenize(model, argv[2], strlen(argv[2]), true, &prompt, &count, &error) == FR_OK &&
 *                   fr_session_prefill(session, prompt, count, &error) == FR_OK;
 *         for (int left = 57; ok && left > 0; left -= step.count) ok = fr_session_step(session, left, &step, &error) == FR_OK;
 *         ok = ok && fr_detokenize(model, fr_session_tokens(session) + count, 57, false, &text, &length, &error) == FR_OK;
 *         return puts(ok ? text : error.message) < 0 || !ok;
 *     }
 *
 * (examples/complete.c prints the text as it comes, stops at its end, and releases what it made.)
 *
 * A model is a checkpoint opened for reading: weights and tokenizer, immutable, shared by any number of sessions.
 * A session is one timeline of tokens with its KV caches. A session is used by one thread at a time; the work of a
 * call is spread over the model's threads. Every thread that calls has others of its own for that, which sleep between calls and
 * end with it. A forked child may go on with its parent's models and sessions: it starts threads of its own. (Not with a model
 * whose weights are streamed: FR_ERROR_UNSUPPORTED.)
 *
 * Functions that can fail return a status and take an fr_error last (NULL is allowed). Objects are made by open or
 * create and released by destroy, which takes NULL. Options structs are valid when zeroed: zero is the default.
 * A token is an int32_t id in [0, vocab_size). Counts are in tokens, times in seconds, sizes in bytes. Strings are UTF-8 and
 * end with NUL. */
#ifndef FORERUN_H
#define FORERUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(FR_STATIC)
#define FR_API __attribute__((visibility("default")))
#else
#define FR_API
#endif

/* ---- Status ------------------------------------------------------------------------------------------------ */

typedef enum fr_status {
    FR_OK = 0,
    FR_ERROR_ARGUMENT,    /* the caller asked for something that makes no sense */
    FR_ERROR_IO,          /* a file could not be opened, read or written */
    FR_ERROR_FORMAT,      /* a file is malformed or contradicts itself or its config */
    FR_ERROR_UNSUPPORTED, /* well-formed, but of a kind that forerun does not handle */
    FR_ERROR_MEMORY,      /* not enough memory */
    FR_ERROR_CONTEXT,     /* the session's context is full */
    FR_INTERRUPTED,       /* a callback asked to stop */
} fr_status;

/* What went wrong (one line, no newline), and what to do about it ("" when there is nothing to say). A message about a place
 * begins with it: "config.json: hidden_size: expected ..., found ...". */
typedef struct fr_error {
    fr_status status;
    char message[768];
    char hint[256];
    char where[512]; /* the place alone, a file, a tensor, a key: "config.json: hidden_size"; "" when there is none */
} fr_error;

/* The message without its place: "expected ..., found ...". */
FR_API const char *fr_error_what(const fr_error *error);
FR_API const char *fr_status_name(fr_status status);
FR_API const char *fr_version(void);
/* "forerun 0.1.0, oneDNN 3.7.2, ..." details, one fact a line; static storage. */
FR_API const char *fr_build_info(void);

/* What was assumed about a file, or left out of it. what: a file, key, tensor or module; why: what was taken for what. One line
 * each. */
typedef struct fr_notice {
    const char *what, *why;
} fr_notice;
typedef void (*fr_notice_fn)(void *user, const fr_notice *notice);

/* Called with done <= total (tokens in prefill, tensors in check). Returning false stops the call with FR_INTERRUPTED. */
typedef bool (*fr_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

/* ---- Memory ------------------------------------------------------------------------------------------------ */

/* Where weights are. Mapped: in the files, read when they are touched; opening takes a moment whatever the size, and what
 * does not fit is dropped and read again. Copied: in memory of the model's own, in huge pages where the system has them;
 * they must fit. Populated: mapped, but read as a whole when the model is opened. Streamed: routed experts are read when they are
 * chosen, while others are computed, into a cache; all else is copied. */
typedef enum fr_weights {
    FR_WEIGHTS_AUTO = 0,
    FR_WEIGHTS_MMAP,
    FR_WEIGHTS_COPY,
    FR_WEIGHTS_POPULATE,
    FR_WEIGHTS_STREAM
} fr_weights;
/* How streamed weights are read: best: io_uring, or by threads where the system does not allow it. */
typedef enum fr_reader_kind { FR_READER_BEST = 0, FR_READER_URING, FR_READER_THREADS } fr_reader_kind;

typedef struct fr_memory {
    uint64_t kv_bytes, mtp_kv_bytes, workspace_bytes;
} fr_memory;

/* What a model and one session of it take, known before anything large is allocated. */
typedef struct fr_memory_plan {
    fr_weights weights;        /* as it will be: never auto; mapped where populating cannot fit */
    uint64_t weight_bytes;     /* the tensors that are used, with their scales */
    uint64_t table_bytes;      /* norms and biases as float32, lists of tensors and experts */
    uint64_t draft_head_bytes; /* the copy for drafts */
    int ctx;                   /* tokens of the session; 0: none was planned */
    fr_memory session;
    uint64_t private_bytes;   /* that must be had: all of the above, but of weights what is copied or cached */
    uint64_t total_bytes;     /* all of the above */
    uint64_t available_bytes; /* that the system and its control groups leave, droppable page cache included; 0: unknown */
    bool all_fits;            /* false with mapped weights: decoding will go at the speed of the disk */
    /* Streamed weights; else 0. */
    uint64_t resident_bytes; /* weights that are copied: all but the routed experts */
    uint64_t expert_bytes;   /* a slot of the cache */
    int experts;             /* that there are, of all layers */
    int cached_experts;      /* slots */
    uint64_t cache_bytes;    /* slots, and lists of what is in them and where experts lie */
    uint64_t token_bytes;    /* read from the disk for a token, were each expert chosen as often */
    double disk_bytes_per_s; /* measured when a model is opened; assumed in a plan without one */
    bool disk_measured;
} fr_memory_plan;
/* Told of the plan when a model is opened, before weights are loaded. */
typedef void (*fr_plan_fn)(void *user, const fr_memory_plan *plan);

/* ---- Ranks ------------------------------------------------------------------------------------------------- */

/* Several processes, started by mpirun, that compute one model together, each with its part of the weights; results are those of
 * one process, bit for bit. All ranks make the same calls with the same arguments: the library sees to it that what depends on a
 * clock, on memory or on files is what rank 0 finds. What a program reads by itself (a prompt, a key) rank 0 broadcasts. */
typedef struct fr_ranks fr_ranks;
/* Joins the others. Once in a process, from its first thread, before any other. A program that was not started by mpirun need not
 * call it. FR_ERROR_UNSUPPORTED without MPI (CMake's FORERUN_MPI), or if it cannot be called by several threads. */
FR_API fr_status fr_ranks_join(fr_ranks **out, fr_error *error);
/* Every rank's last call; nothing can be joined again. NULL is allowed. */
FR_API void fr_ranks_leave(fr_ranks *ranks);
/* Whether every other rank comes here too within that time; one that does not is in a call that this one will never make.
 * (NULL: true.) */
FR_API bool fr_ranks_meet(fr_ranks *ranks, double seconds);
/* Ends all ranks at once, with that exit code. It does not return, but for NULL. */
FR_API void fr_ranks_end_all(fr_ranks *ranks, int code);
FR_API int fr_ranks_rank(const fr_ranks *ranks); /* 0 for NULL */
FR_API int fr_ranks_size(const fr_ranks *ranks); /* 1 for NULL */
/* The bytes of rank 0, for all. (NULL: nothing.) */
FR_API void fr_ranks_share(const fr_ranks *ranks, void *bytes, size_t size);
/* Every rank comes with a status and, if that is a failure, its error; all leave with those of the first that has failed, or
 * FR_OK. (NULL: as they are.) */
FR_API fr_status fr_ranks_agree(const fr_ranks *ranks, fr_status status, fr_error *error);

/* ---- Model ------------------------------------------------------------------------------------------------- */

typedef struct fr_model fr_model;
struct fr_session_options;

typedef enum fr_act { FR_ACT_AUTO = 0, FR_ACT_FP8, FR_ACT_NONE } fr_act; /* activations of FP8 linears */
/* Instruction set to use. The choice belongs to a model: others, and their sessions, keep theirs. */
typedef enum fr_isa { FR_ISA_AUTO = 0, FR_ISA_SCALAR, FR_ISA_AVX2, FR_ISA_AVX512, FR_ISA_AMX, FR_ISA_NEON, FR_ISA_COUNT } fr_isa;

/* The LM head that drafts use: the checkpoint's own, or an FP8 copy made when the model is opened, which halves the head's part
 * of what a draft reads. Auto: a copy if the planned session drafts with the MTP module, the head is in BF16 or F32, of 256 MiB
 * or more and a good part of a draft, and all weights and the copy fit into memory. Verification always uses the checkpoint's
 * own. */
typedef enum fr_draft_head { FR_DRAFT_HEAD_AUTO = 0, FR_DRAFT_HEAD_EXACT, FR_DRAFT_HEAD_FP8 } fr_draft_head;

typedef struct fr_model_options {
    int threads; /* 0: physical cores that affinity and cgroup quota allow. A thread that computes, the caller's among them, takes
                    up to 512 KiB of stack */
    fr_act act;  /* auto: as the checkpoint's quantization_config says */
    fr_isa isa;  /* auto: the best that the CPU has; one that it lacks is FR_ERROR_UNSUPPORTED */
    fr_draft_head draft_head;
    /* auto: mapped if all fits into memory; else streamed, if there are experts, and all else and some of them fit */
    fr_weights weights;
    uint64_t expert_cache;   /* streamed: bytes for experts; 0: what is left. A cache for less than one is FR_ERROR_ARGUMENT */
    fr_reader_kind reader;   /* streamed; io_uring where it is not allowed is FR_ERROR_UNSUPPORTED */
    const char *chat_format; /* by name, as fr_chat_format_name has them; NULL: as the checkpoint's template is */
    const struct fr_session_options *session; /* the session that will be created: planned with the model; NULL: none */
    bool no_pin;             /* threads go where the system puts them; else all but the caller's are bound to cores,
                                with hwloc, unless there are more of them */
    const fr_ranks *ranks;   /* that compute the model together, of which this process is one; NULL: it is alone */
    uint64_t memory_limit;   /* what there is for all of it; 0: what the machine has */
    fr_plan_fn planned;      /* NULL: nobody is told */
    fr_progress_fn progress; /* counts MiB of weights that are copied or populated */
    fr_notice_fn notice;     /* told what was noticed until opening failed; of an opened model, fr_model_notices tells */
    void *user;              /* of all three */
} fr_model_options;

typedef struct fr_model_info {
    int vocab_size, hidden_size, num_hidden_layers, num_moe_layers, num_experts_per_tok;
    int max_position_embeddings;
    bool has_mtp, has_tokenizer;
    bool act_fp8;     /* activations of FP8 linears are quantized */
    int bos_token_id; /* -1: none */
    bool add_bos_token;
    int num_eos_token_ids;
    const int *eos_token_ids;  /* [num_eos_token_ids], owned by the model */
    const char *chat_format;   /* NULL: none, or none that is known */
    int chat_end_token_id;     /* ends an answer in the text of a conversation; -1: none, the next turn does */
    bool chat_drops_reasoning; /* of earlier answers */
    int threads;
    const char *isa;       /* "scalar", "avx2", "avx512", "amx", "neon" */
    uint64_t weight_bytes; /* of all tensors in the checkpoint */
    uint64_t
        private_bytes;   /* allocated for weights: the draft head, all of them if they are copied, those copied and the cache */
    const char *reader;  /* of streamed weights: "io_uring, O_DIRECT"; NULL: they are not streamed */
    fr_memory_plan plan; /* made when it was opened */
} fr_model_info;

/* Opens a checkpoint directory, checks every tensor's dtype and shape against config.json, loads the tokenizer if there is
 * one. (One that cannot be used fails only what needs text, with the reason.) What cannot fit into memory (with
 * options->session) is FR_ERROR_MEMORY, before anything is loaded. */
FR_API fr_status fr_model_open(const char *dir, const fr_model_options *options, fr_model **out, fr_error *error);
/* Opens a directory for its tokenizer alone: tokenizer.json, and tokenizer_config.json and config.json if they are there; weights
 * need not be. chat_format as in fr_model_options. The text functions take such a model; what computes refuses it
 * (FR_ERROR_ARGUMENT). */
FR_API fr_status fr_model_open_tokenizer(const char *dir, const char *chat_format, fr_model **out, fr_error *error);
FR_API void fr_model_destroy(fr_model *model);
/* When a file that is mapped can no longer be read (another program cuts it, a disk fails), the system raises SIGBUS, which ends
 * the process. After this call it is FR_ERROR_IO of the call that needed the weights instead, with tensor, file and offset: a
 * session then has the text that it had before, and can be saved; the model is of no more use. It installs a handler of SIGBUS,
 * for the whole process and for good; what is not about a checkpoint goes to the handler that was there before. The library does
 * so in no other way: a program that has handlers of its own decides. Threads that call must not block SIGBUS. */
FR_API fr_status fr_catch_read_faults(fr_error *error);
FR_API void fr_model_get_info(const fr_model *model, fr_model_info *out);
/* [*count], owned by the model: all that was assumed about the checkpoint when it was opened. */
FR_API const fr_notice *fr_model_notices(const fr_model *model, size_t *count);

/* ---- Text -------------------------------------------------------------------------------------------------- */

/* Tokenizes UTF-8 text. add_special: prepend what tokenizer_config.json asks for (bos), and recognise special tokens
 * written in the text. *tokens is allocated; release with fr_free. */
FR_API fr_status fr_tokenize(const fr_model *model, const char *text, size_t length, bool add_special, int32_t **tokens,
                             size_t *count, fr_error *error);
/* Text of tokens, NUL-terminated, allocated; *length does not count the NUL. Special tokens are left out unless asked for. */
FR_API fr_status fr_detokenize(const fr_model *model, const int32_t *tokens, size_t count, bool with_special, char **text,
                               size_t *length, fr_error *error);
/* The bytes that one token stands for, not NUL-terminated, owned by the model; NULL for an id without text. */
FR_API const char *fr_token_bytes(const fr_model *model, int32_t token, size_t *length);
FR_API bool fr_token_is_special(const fr_model *model, int32_t token);
/* Whether a text ends with this token: one of the eos ids that the checkpoint names, or of those that end an answer in its chat
 * format. */
FR_API bool fr_token_ends_text(const fr_model *model, int32_t token);
typedef enum fr_chat_role { FR_CHAT_SYSTEM = 0, FR_CHAT_USER, FR_CHAT_ASSISTANT } fr_chat_role;
typedef struct fr_chat_turn {
    fr_chat_role role;
    const char *content; /* UTF-8, NUL-terminated */
} fr_chat_turn;
/* Whether the model is to reason before it answers, where the format has both; auto: as its template does. */
typedef enum fr_think { FR_THINK_AUTO = 0, FR_THINK_OFF, FR_THINK_ON } fr_think;
typedef struct fr_chat_options {
    bool reply;       /* the text ends where the assistant is to answer */
    bool goes_on;     /* the turns go on with a conversation: bos and what else begins one are left out */
    bool raw_special; /* of fr_tokenize_chat: control tokens written in a turn are recognised; otherwise they are plain text */
    fr_think think;
} fr_chat_options;

/* The name of the i-th chat format that is known; NULL after the last. */
FR_API const char *fr_chat_format_name(int i);
/* A conversation in the model's chat format: its text, for fr_tokenize with add_special; its tokens. Both are allocated; release
 * with fr_free. System turns are where the format has them; where that is the front, they are joined there by a blank line. The
 * reasoning of an assistant's turn (up to </think>) is left out where the model's template does so. Without a known format, or
 * with thinking that it does not have: FR_ERROR_UNSUPPORTED. options may be NULL. */
FR_API fr_status fr_render_chat(const fr_model *model, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                                char **text, fr_error *error);
FR_API fr_status fr_tokenize_chat(const fr_model *model, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                                  int32_t **tokens, size_t *num_tokens, fr_error *error);
FR_API void fr_free(void *memory);

/* A stream of tokens to text that never splits a UTF-8 character: bytes are held back until they are whole. */
typedef struct fr_text_stream fr_text_stream;
FR_API fr_status fr_text_stream_create(const fr_model *model, fr_text_stream **out, fr_error *error);
/* Text that became whole with this token (possibly ""), valid until the next call. */
FR_API const char *fr_text_stream_push(fr_text_stream *stream, int32_t token, size_t *length);
/* Ends the text before the first occurrence of any of these strings, also across tokens: text that may be the beginning of one
 * is held back, and once one is complete push returns "" only. To be called before the first push; the strings are copied. */
FR_API fr_status fr_text_stream_stop_at(fr_text_stream *stream, const char *const *strings, size_t count, fr_error *error);
FR_API bool fr_text_stream_stopped(const fr_text_stream *stream);
/* What is still held back, with U+FFFD for what will never be whole. The stream can then take another text. */
FR_API const char *fr_text_stream_finish(fr_text_stream *stream, size_t *length);
FR_API void fr_text_stream_destroy(fr_text_stream *stream);

/* ---- Session ----------------------------------------------------------------------------------------------- */

#define FR_MAX_DEPTH 7 /* most drafts in a cycle */

typedef struct fr_session fr_session;

typedef enum fr_drafting { FR_DRAFTING_AUTO = 0, FR_DRAFTING_OFF, FR_DRAFTING_ON } fr_drafting;
typedef enum fr_kv { FR_KV_BF16 = 0, FR_KV_F32 } fr_kv;
/* Which hidden state: after the norm that follows it (the field's choice), or before. */
typedef enum fr_hidden_state { FR_HIDDEN_POST_NORM = 0, FR_HIDDEN_PRE_NORM } fr_hidden_state;
/* What a chained draft, one after a cycle's first, reads beside the draft before it: the MTP module's own output for that one,
 * after its norm (the field's choice) or before; or pinned, the main model's hidden state that the first draft read. */
typedef enum fr_recycle { FR_RECYCLE_POST_NORM = 0, FR_RECYCLE_PRE_NORM, FR_RECYCLE_PINNED, FR_RECYCLE_COUNT } fr_recycle;

/* How drafts are verified. Coupled: the text is the same with drafting on and off, at any temperature (drafts and main
 * model draw with the same noise, a function of seed, position and token). Rejection: standard speculative sampling; more
 * drafts are accepted, and the distribution is the same, but the text is not. */
typedef enum fr_verify { FR_VERIFY_COUPLED = 0, FR_VERIFY_REJECTION } fr_verify;

/* Added to the token's logit; -INFINITY forbids the token. NaN, what is above FR_MOST_LOGIT_BIAS (+INFINITY among it), and biases
 * that forbid every token are FR_ERROR_ARGUMENT. */
typedef struct fr_logit_bias {
    int32_t token;
    float bias;
} fr_logit_bias;
#define FR_MOST_LOGIT_BIAS 1e30f

/* Applied in this order: penalties and biases, temperature, top_k, top_p, min_p. Zero turns each off. */
typedef struct fr_sampling {
    float temperature;        /* 0: greedy */
    int top_k;                /* keep the k most likely tokens */
    float top_p;              /* keep the smallest set of most likely tokens that reaches this probability */
    float min_p;              /* keep tokens at least this times as likely as the most likely one */
    float repetition_penalty; /* of tokens in prompt or completion: positive logits divided by it, negative ones multiplied */
    float presence_penalty;   /* subtracted from logits of tokens in the completion */
    float frequency_penalty;  /* the same, once for each time */
    const fr_logit_bias *logit_bias; /* the session keeps a copy */
    size_t num_logit_bias;
    uint64_t seed;
    fr_verify verify;
} fr_sampling;

/* Where drafts come from: the MTP module, or n-gram lookup, which copies what followed the text's last tokens when they last
 * occurred in it (and needs no MTP module). */
typedef enum fr_drafter_kind { FR_DRAFTER_MTP = 0, FR_DRAFTER_NGRAM, FR_DRAFTER_COUNT } fr_drafter_kind;

/* Told of each token of the text as it is chosen, in order, in the middle of a step. Returns whether the text ends with it, as at
 * a stop string. It may not call the session. */
typedef bool (*fr_end_fn)(void *user, int32_t token);

typedef struct fr_session_options {
    int ctx; /* most tokens; 0: min(max_position_embeddings, 4096) */
    fr_kv kv;
    fr_drafting drafting; /* on without an MTP module is FR_ERROR_UNSUPPORTED; auto then runs without */
    fr_drafter_kind drafter;
    int depth;                  /* most drafts a cycle, 1..FR_MAX_DEPTH; 0: fr_default_depth */
    fr_hidden_state mtp_hidden; /* the main model's hidden state that the MTP module reads */
    fr_recycle mtp_recycle;
    int prefill_chunk; /* rows of a prefill pass; 0: 512 */
    fr_sampling sampling;
    /* auto: a folder of what was learned before, by model and machine, for fr_session_keep_learned; a session begins with what
     * fits. NULL: it begins with the bytes that passes read. Text does not depend on it (with coupled verification). */
    const char *learned;
    bool check_finite; /* looks for values that are not finite behind every part of every layer, so that an error names the first
                          of them; costs some percent */
    bool ignore_eos;   /* the eos tokens that the checkpoint names do not end a text */
    fr_end_fn ends;    /* NULL: nothing else does */
    void *ends_user;
    fr_progress_fn progress;
    void *user;
} fr_session_options;

/* 1 with on, 3 with auto, which drafts as deep as it pays; 0 with off. */
FR_API int fr_default_depth(fr_drafting drafting);

/* A session whose caches and workspace cannot fit is FR_ERROR_MEMORY. */
FR_API fr_status fr_session_create(const fr_model *model, const fr_session_options *options, fr_session **out, fr_error *error);
FR_API void fr_session_destroy(fr_session *session);

/* Appends tokens and evaluates all of them. No tokens, or ids outside the vocabulary, are FR_ERROR_ARGUMENT, more than fit are
 * FR_ERROR_CONTEXT; the session is then unchanged. */
FR_API fr_status fr_session_prefill(fr_session *session, const int32_t *tokens, size_t count, fr_error *error);

/* Makes `tokens` the session's whole text: keeps the longest prefix that the two share, cuts off the rest and evaluates what
 * is missing, and the last token in any case unless its logits are still there. *reused (may be NULL): how many tokens were
 * not evaluated again. Errors as for prefill.
 * The reused part was computed in passes of other sizes than a new session's prefill would make, and float sums depend on
 * that in their last bits (unless prefill_chunk is 8 or less). So logits are not a new session's to the bit, and the text that
 * follows can differ at a near tie. */
FR_API fr_status fr_session_prefill_from(fr_session *session, const int32_t *tokens, size_t count, size_t *reused,
                                         fr_error *error);

/* What one cycle gave: tokens are owned by the session and valid until its next call. */
typedef struct fr_step {
    const int32_t *tokens;
    int count;    /* accepted + 1 */
    int drafted;  /* 0 .. depth; without drafts for the text's last token and behind it */
    int accepted; /* drafts that the main model agreed with */
    bool ended;   /* the text ends with the last one of the tokens: an eos token, or because `ends` said so */
} fr_step;

/* Runs one draft-then-verify cycle and appends its tokens, at most max_tokens of them (>= 1). The first step after a
 * prefill takes the next token from the prefill's own logits and costs no pass. Same tokens with MTP on and off.
 * A cycle stops at a token that ends the text: what was drafted behind it is no part of the session and of no count. Another
 * step goes on with the text, as if it had not ended. Logits that are not finite, as damaged weights give, are FR_ERROR_FORMAT;
 * the text is then what it was. So it is with weights that could not be read (fr_catch_read_faults). */
FR_API fr_status fr_session_step(fr_session *session, int max_tokens, fr_step *out, fr_error *error);

/* Cuts the timeline to its first `count` tokens (count <= length). */
FR_API fr_status fr_session_truncate(fr_session *session, size_t count, fr_error *error);
FR_API size_t fr_session_length(const fr_session *session);
/* [length], prompt included; owned by the session, valid until its next call. */
FR_API const int32_t *fr_session_tokens(const fr_session *session);
FR_API int fr_session_ctx(const fr_session *session);

/* Session files: the text, both KV caches and whatever else later tokens depend on, so that a session that loads one continues
 * as the saved one would have, bit for bit, with the same options and instruction set. Options, statistics and what drafting
 * has learned are not in the file; the seed is, and replaces the loading session's.
 * Save replaces the file as a whole or, on an error, leaves it as it was. */
FR_API fr_status fr_session_save(const fr_session *session, const char *path, fr_error *error);
/* Replaces what the session holds. The file must be of the same model with the same kv, mtp_hidden and kind of activations, and
 * fit into ctx. A session without MTP loads a file that was saved with it, but not the other way round. On any error, as with
 * a damaged file, the session is unchanged; so a second set of caches is allocated while it loads. */
FR_API fr_status fr_session_load(fr_session *session, const char *path, fr_error *error);

/* Logits [vocab_size], valid until the next call. After a prefill: those of its last token, from which the next step takes
 * its own. After a step: those that its last token was chosen from. NULL in an empty session, and after a truncate or a load
 * until the next prefill or step, unless the session is (or was saved) right after a prefill and nothing was cut. */
FR_API const float *fr_session_logits(const fr_session *session);

/* Counters since create (or reset). Names are vLLM's where it has one. Tokens made = num_first_tokens + num_cycles +
 * num_accepted_tokens, always: a cycle that ends the text counts as if it had been planned to end there. Bytes, experts and
 * times are those of passes as they were made. */
typedef struct fr_stats {
    uint64_t num_first_tokens; /* taken from a prefill's logits: they cost no pass */
    uint64_t num_cycles;       /* verify passes */
    uint64_t num_drafts;       /* cycles that drafted */
    uint64_t num_draft_tokens, num_accepted_tokens;
    /* By position in the draft. reached: drafts whose predecessors were all accepted, so that they were verified in turn. */
    uint64_t drafted_at[FR_MAX_DEPTH], reached_at[FR_MAX_DEPTH], accepted_at[FR_MAX_DEPTH];
    uint64_t depth_histogram[FR_MAX_DEPTH + 1]; /* cycles by number of drafts */
    uint64_t unique_experts, chosen_experts;    /* over verify passes: distinct (layer, expert), and summed over rows */
    /* Read by verify passes, and by all that drafting does: weights with the experts that were chosen, and the KV cache. */
    uint64_t verify_bytes, draft_bytes;
    /* Where the time of cycles goes: drafts; passes of the main model; the choice of tokens; bookkeeping after it. */
    double prefill_s, draft_s, verify_s, sample_s, rollback_s;
    /* Streamed experts. Of those that passes chose, one a row and layer where it is shared: there already, or not. stall_s:
     * passes had nothing to compute. prefetched: read because the layer before foresaw them, and used: chosen then. disk_bytes
     * and disk_busy_s, in which reads were in flight: of the model, meanwhile. */
    uint64_t expert_hits, expert_misses, experts_prefetched, experts_prefetched_used, disk_bytes;
    double stall_s, disk_busy_s;
    double catch_up_s;      /* part of draft_s: the MTP module reads positions that it skipped while drafting did not pay */
    uint64_t catch_up_rows; /* positions that it read that way */
    uint64_t prefill_tokens;
} fr_stats;
FR_API void fr_session_get_stats(const fr_session *session, fr_stats *out);
FR_API void fr_session_reset_stats(fr_session *session);

/* What the depth policy goes by: its present estimates, and counts since create. Times are 0 before the first cycle, and stay
 * 0 in a session that does not draft. */
typedef struct fr_policy_info {
    bool adaptive; /* with auto; else every cycle drafts to max_depth */
    bool on;       /* drafting pays, as far as is known */
    int max_depth;
    double acceptance[FR_MAX_DEPTH];    /* chance that a draft at this position is accepted if those before it are */
    double pass_s[FR_MAX_DEPTH + 1];    /* a pass of the main model of 1, 2, ... rows, choice of tokens included */
    double draft_first_s, draft_next_s; /* a cycle's first draft; each one that is chained to it */
    /* Of cycles that drafted, lately: tokens, and cost in passes of one row. */
    double tokens_per_cycle, cost_per_cycle;
    /* The acceptance from which a single draft a cycle pays: by the bytes that passes read, and by the times above. */
    double break_even_predicted, break_even_measured;
    uint64_t switches, probes, cycles_off; /* probes: single drafts to see whether it pays again */
} fr_policy_info;
FR_API void fr_session_get_policy(const fr_session *session, fr_policy_info *out);
/* Keeps in options.learned what auto has learned, for sessions to come. Does nothing without that folder, or when the session
 * drafted in fewer than 3 cycles. */
FR_API fr_status fr_session_keep_learned(const fr_session *session, fr_error *error);

FR_API void fr_session_get_memory(const fr_session *session, fr_memory *out);

/* Evaluates a whole text from the start of an empty session, without sampling. Rows are handed out in order, a chunk at
 * a time: `first` is the chunk's first position. Any pointer of the batch may be NULL when it was not asked for. */
typedef struct fr_score_batch {
    size_t first, rows;
    const float *logits;     /* [rows, vocab_size] */
    const float *hidden;     /* [rows, hidden_size] after model.norm */
    const int32_t *experts;  /* [num_moe_layers, rows, num_experts_per_tok], ids ascending in each row */
    size_t mtp_rows;         /* rows, but one fewer in the last chunk: a row needs the token after it */
    const float *mtp_logits; /* [mtp_rows, vocab_size]; row i reads hidden i and token i+1, predicts token i+2 */
} fr_score_batch;
enum { FR_SCORE_LOGITS = 1, FR_SCORE_HIDDEN = 2, FR_SCORE_EXPERTS = 4, FR_SCORE_MTP_LOGITS = 8 };
typedef bool (*fr_score_fn)(void *user, const fr_score_batch *batch); /* false stops with FR_INTERRUPTED */
FR_API fr_status fr_session_score(fr_session *session, const int32_t *tokens, size_t count, unsigned what, fr_score_fn fn,
                                  void *user, fr_error *error);

#ifdef __cplusplus
}
#endif
#endif
