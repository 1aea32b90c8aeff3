/* Which tensors a config implies: the one place that knows the checkpoint's names and shapes. Binding, inspection, the
 * check, and the writers of checkpoints all walk this list. */
#ifndef FR_MODEL_SCHEMA_H
#define FR_MODEL_SCHEMA_H

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/config.h"

typedef enum fr_schema_kind {
    FR_SCHEMA_LINEAR, /* [out, in]: E4M3 with NAME_scale_inv (F32), or BF16, or F32 */
    FR_SCHEMA_PLAIN,  /* BF16 or F32, never quantized */
    FR_SCHEMA_BIAS,   /* e_score_correction_bias: F32 as published; BF16 is accepted */
} fr_schema_kind;

typedef enum fr_schema_part {
    FR_PART_EMBEDDING, /* embed_tokens */
    FR_PART_HEAD,      /* lm_head, shared_head.head */
    FR_PART_NORM,      /* norms of the hidden state */
    FR_PART_ATTENTION, /* projections, and the norms of the two latents */
    FR_PART_DENSE_MLP,
    FR_PART_ROUTER, /* mlp.gate.weight and its bias */
    FR_PART_EXPERT, /* routed */
    FR_PART_SHARED_EXPERT,
    FR_PART_MTP_INPUT, /* eh_proj */
} fr_schema_part;

typedef struct fr_schema_tensor {
    const char *name; /* valid during the call */
    fr_schema_kind kind;
    fr_schema_part part;
    int rank; /* 1 or 2 */
    int64_t shape[2];
    int layer;  /* -1: outside the layers; num_hidden_layers + j: MTP module j */
    int expert; /* of FR_PART_EXPERT; -1 otherwise */
    bool mtp;
    bool optional; /* may be absent: a copy of a tensor of the main model, which is used either way */
} fr_schema_tensor;

/* Returning anything but FR_OK ends the walk with that status. */
typedef fr_status (*fr_schema_fn)(void *user, const fr_schema_tensor *tensor);

/* Calls fn for each tensor, in the order of computation: embedding, layers, final norm, head, MTP modules. Scales of
 * linears are not listed by themselves: see fr_schema_scale. */
fr_status fr_schema_each(const fr_config *config, fr_schema_fn fn, void *user);

/* Name ("NAME_scale_inv", false if it does not fit) and shape [ceil(out/128), ceil(in/128)] of a linear's scales. */
bool fr_schema_scale(const fr_schema_tensor *tensor, char *name, size_t size, int64_t shape[2]);
/* Bytes in the layout of the original: one a weight and four a scale for linears, four an element for the router's bias, two
 * for all else. */
uint64_t fr_schema_bytes(const fr_schema_tensor *tensor);
/* The types that a tensor may have, as a mask for fr_checkpoint_get. */
unsigned fr_schema_dtypes(fr_schema_kind kind);

/* The layer of a tensor's name, -1 for a tensor outside the layers. */
int fr_schema_layer_of(const char *name);
/* Whether the files have an MTP module. A config may announce one (num_nextn_predict_layers) that a conversion dropped.
 */
bool fr_schema_has_mtp(const fr_config *config, const fr_checkpoint *checkpoint);

#endif
