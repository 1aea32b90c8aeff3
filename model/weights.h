/* The weights of a checkpoint bound to the network's structure, and the model object of forerun.h that owns them. */
#ifndef FR_MODEL_WEIGHTS_H
#define FR_MODEL_WEIGHTS_H

#include "attn/mla.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/config.h"
#include "moe/moe.h"
#include "text/tokenizer.h"

/* A decoder layer of the main model or of an MTP module. */
typedef struct fr_layer {
    float *input_layernorm, *post_attention_layernorm; /* [hidden] */
    fr_mla mla;
    bool is_moe;
    fr_mlp mlp; /* dense layers */
    fr_moe moe; /* the others */
} fr_layer;

/* The MTP module (DeepSeek-V3 report, section 2.2): x = eh_proj [enorm(e); hnorm(h)], a decoder layer, shared_head.norm,
 * and the main model's head. */
typedef struct fr_mtp_module {
    bool present;
    float *enorm, *hnorm, *shared_head_norm; /* [hidden] */
    fr_linear eh_proj;                       /* [hidden, 2 * hidden] */
    fr_layer layer;
} fr_mtp_module;

struct fr_model {
    fr_config config;
    fr_checkpoint *checkpoint;
    fr_tokenizer *tokenizer; /* NULL: the directory has none */
    int threads;
    bool act_fp8;
    int num_moe_layers;
    fr_linear embed_tokens; /* [vocab, hidden]: rows are looked up, never multiplied */
    fr_layer *layers;       /* [num_hidden_layers] */
    float *norm;            /* [hidden] */
    fr_linear lm_head;      /* [vocab, hidden] */
    fr_linear draft_head;   /* an E4M3 copy of it for drafts, or without own memory lm_head itself */
    fr_mtp_module mtp;
    fr_memory_plan plan;
    uint64_t memory_limit; /* 0: what the machine has */
};

/* Binds every tensor that the config implies; dtype and shape of each are checked. shard {0, 1} is the whole model. On an
 * error what was bound is released by fr_weights_release, as always. */
fr_status fr_weights_bind(fr_model *model, fr_shard shard, fr_error *error);
/* The model can be bound again then. */
void fr_weights_release(fr_model *model);
/* The sizes of a layer's attention and experts as bound ones have them, without weights: enough to plan working memory. Of
 * the model it needs the config alone. */
void fr_layer_shape(const fr_model *model, fr_layer *layer);

/* Binds PREFIX.weight (and PREFIX.weight_scale_inv), of shape [out, in], from a checkpoint, without reading them: a large
 * checkpoint has 45,000 scale tensors scattered over its files. (Scales that are not aligned in their file are copied.)
 * Missing or different tensors are errors; what the values are is fr_check's business. */
fr_status fr_linear_bind(fr_linear *linear, const fr_checkpoint *checkpoint, const char *prefix, int out, int in, fr_cut cut,
                         fr_shard shard, fr_error *error);

#endif
