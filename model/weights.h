/* The weights of a checkpoint bound to the network's structure, and the model object of forerun.h that owns them. */
#ifndef FR_MODEL_WEIGHTS_H
#define FR_MODEL_WEIGHTS_H

#include "attn/mla.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/config.h"
#include "model/schema.h"
#include "model/source.h"
#include "moe/moe.h"
#include "text/tokenizer.h"

/* A decoder layer of the main model or of an MTP module. Which tensors are bound where: model/tensors.c. */
typedef struct fr_layer {
    float *input_layernorm, *post_attention_layernorm; /* [hidden_size] */
    fr_mla mla;
    bool is_moe;
    fr_mlp mlp; /* dense layers */
    fr_moe moe; /* the others */
} fr_layer;

/* The MTP module (DeepSeek-V3 report, section 2.2): x = eh_proj [enorm(e); hnorm(h)], a decoder layer, shared_head.norm,
 * and an LM head. Embedding and LM head are the main model's, unless the files have others for the module. */
typedef struct fr_mtp_module {
    fr_mtp_files files;
    fr_linear embed_tokens, lm_head;         /* [vocab_size, hidden_size] */
    float *enorm, *hnorm, *shared_head_norm; /* [hidden_size] */
    fr_linear eh_proj;                       /* [hidden_size, 2 * hidden_size] */
    fr_layer layer;
} fr_mtp_module;

struct fr_model {
    fr_config config;
    fr_checkpoint *checkpoint; /* NULL: opened for its tokenizer alone */
    fr_tokenizer *tokenizer;   /* NULL: the directory has none, or none that can be used */
    fr_error no_text;          /* why there is no tokenizer */
    const fr_kernels *kernels; /* of its instruction set; its sessions compute with them */
    int threads;
    const fr_ranks *ranks; /* that compute it together; never NULL */
    bool pinned;           /* see fr_team_pin */
    bool act_fp8;
    int num_moe_layers;
    fr_linear embed_tokens; /* [vocab_size, hidden_size]: rows are looked up, never multiplied */
    fr_layer *layers;       /* [num_hidden_layers] */
    float *norm;            /* [hidden_size] */
    fr_linear lm_head;      /* [vocab_size, hidden_size] */
    fr_linear draft_head;   /* of drafts: an E4M3 copy of mtp.lm_head, or without own memory that itself */
    fr_mtp_module mtp;
    fr_experts *experts;   /* streamed; NULL: all weights are where they are bound */
    fr_reader_kind reader; /* streamed: as it was asked for */
    fr_memory_plan plan;
    uint64_t fingerprint; /* taken when it is opened, while its files are sound (model/fingerprint.h) */
    fr_notices notices;
    uint64_t memory_limit; /* 0: what the machine has */
};

/* FR_ERROR_ARGUMENT for a model that was opened for its tokenizer alone. */
fr_status fr_model_need_weights(const fr_model *model, fr_error *error);

/* FR_ERROR_IO when mapped weights could not be read: what passes gave since is not to be used (fr_catch_read_faults). */
fr_status fr_model_still_whole(const fr_model *model, fr_error *error);

/* Binds every tensor that the config implies, those of the MTP module if model->mtp.files has it, and of each the part of
 * model->ranks; dtype and shape of each are checked. On an error what was bound is released by fr_weights_release, as always. */
fr_status fr_weights_bind(fr_model *model, fr_error *error);
/* The model can then be bound again. */
void fr_weights_release(fr_model *model);

/* Whether a model binds a tensor, if its files have it: not what only repeats another, nor tensors of MTP modules that are not
 * run. */
bool fr_weights_use(const fr_model *model, const fr_schema_tensor *tensor);
/* Calls fn for each matrix that is bound, in the order of the schema. */
typedef void (*fr_linear_fn)(void *user, const fr_schema_tensor *tensor, const fr_linear *linear);
void fr_weights_each_linear(const fr_model *model, fr_linear_fn fn, void *user);

/* Sets the sizes of a layer's attention and experts, without weights, which is enough to plan working memory. Of the model it
 * reads the config alone. */
void fr_layer_sizes(const fr_model *model, fr_layer *layer);

/* Binds one matrix (and its scales, if it is E4M3) without reading it: a large checkpoint has 45,000 scale tensors scattered
 * over its files. (Scales that are not aligned in their file are copied.) A rank takes its part, as the row is cut: of
 * FR_CUT_HEADS a linear of these rows alone. A missing or different tensor is an error; values are not checked: see fr_check. */
fr_status fr_linear_bind(fr_linear *linear, const fr_checkpoint *checkpoint, const fr_schema_tensor *tensor,
                         const fr_ranks *ranks, fr_error *error);

#endif
