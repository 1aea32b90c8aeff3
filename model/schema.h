/* The network's tensors. `fr_tensors` (model/tensors.c) has one row for each tensor of a layer, and is the one place that knows a
 * tensor's name, shape, dtypes, condition, where it is bound and how it is cut. Everything else walks the rows: binding and
 * release, planning, inspection, the check, quantizing, synthesis, traffic and bench. A member of the family that has other
 * tensors is a few more rows with their condition. */
#ifndef FR_MODEL_SCHEMA_H
#define FR_MODEL_SCHEMA_H

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/config.h"
#include "core/linear/linear.h"

/* ---- Rows ---- */

typedef enum fr_schema_kind {
    FR_SCHEMA_LINEAR, /* [out, in]: E4M3 with NAME_scale_inv as published; what fr_quantize converts */
    FR_SCHEMA_MATRIX, /* [out, in]: BF16 as published */
    FR_SCHEMA_LOOKUP, /* [rows, width]: BF16 as published, never E4M3: its rows are looked up, not multiplied */
    FR_SCHEMA_VECTOR, /* [width]: BF16 as published, bound as float32 */
    FR_SCHEMA_SHIFT,  /* [width]: as a vector, but 0 is neutral where 1 is for a vector: LayerNorm's bias */
    FR_SCHEMA_BIAS,   /* [width]: F32 as published, bound as float32 */
} fr_schema_kind;

typedef enum fr_schema_part {
    FR_PART_EMBEDDING, /* embed_tokens */
    FR_PART_LM_HEAD,   /* lm_head, shared_head.head */
    FR_PART_NORM,      /* norms of the hidden state */
    FR_PART_ATTENTION, /* projections, and the norms of the two latents */
    FR_PART_INDEXER,   /* of sparse attention */
    FR_PART_DENSE_MLP,
    FR_PART_ROUTER, /* mlp.gate.weight and its bias */
    FR_PART_EXPERT, /* routed */
    FR_PART_SHARED_EXPERT,
    FR_PART_MTP_INPUT, /* eh_proj */
} fr_schema_part;

/* What a row's name begins with, how often it occurs, and the struct that it is bound in. */
typedef enum fr_schema_scope {
    FR_SCOPE_MODEL,  /* once: fr_model */
    FR_SCOPE_LAYER,  /* "model.layers.N.", each layer of the main model and of MTP modules: fr_layer */
    FR_SCOPE_EXPERT, /* likewise, and for each routed expert, whose number replaces the * of the name: fr_mlp */
    FR_SCOPE_MTP,    /* "model.layers.N." of MTP modules alone: fr_mtp_module */
} fr_schema_scope;

typedef enum fr_presence {
    FR_ABSENT,   /* the config implies no such tensor */
    FR_OPTIONAL, /* repeats another tensor, which is used when it is not there */
    FR_REQUIRED,
} fr_presence;

/* How ranks share a matrix: every one has it whole, or its part of the outputs: whole heads, whose outputs it keeps for itself;
 * units of an MLP's inner width, which go to the others when gate_proj and up_proj have become one; or units that they get at
 * once. Never a part of the inputs: sums would be split. */
typedef enum fr_cut { FR_CUT_NONE, FR_CUT_HEADS, FR_CUT_INNER, FR_CUT_OUT } fr_cut;

typedef struct fr_schema_row {
    const char *name;
    fr_schema_kind kind;
    int (*out)(const fr_config *config); /* the shape */
    int (*in)(const fr_config *config);  /* 1 for vectors */
    fr_schema_part part;
    fr_cut cut;
    fr_schema_scope scope;
    size_t offset; /* of the fr_linear, or float * of a vector, in the scope's struct */
    fr_presence (*when)(const fr_config *config, int layer);
} fr_schema_row;

/* Rows in the order of computation, which is that of written files: those of the model before its layers, a layer's with those
 * of MTP modules around them, those of the model after its layers. */
typedef struct fr_schema {
    const fr_schema_row *rows;
    size_t count;
} fr_schema;

extern const fr_schema fr_tensors;

/* ---- Tensors ---- */

/* A row at its place in a network. */
typedef struct fr_schema_tensor {
    const fr_schema_row *row;
    const char *name; /* valid during the call */
    int rank;         /* 1 or 2 */
    int64_t shape[2];
    fr_dtype dtype; /* in the original; BF16 instead of E4M3 where the config does not say fp8 */
    int layer;      /* -1: outside the layers; num_hidden_layers + j: MTP module j */
    int expert;     /* of FR_SCOPE_EXPERT; -1 otherwise */
    bool mtp;
    bool optional; /* FR_OPTIONAL */
    int heads;     /* of FR_CUT_HEADS: its outputs are those of so many */
} fr_schema_tensor;

/* Returning anything but FR_OK ends the walk with that status. */
typedef fr_status (*fr_schema_fn)(void *user, const fr_schema_tensor *tensor);

/* Calls fn for each tensor: embedding, layers, final norm, LM head, MTP modules. Scales of linears are not listed by themselves:
 * see fr_schema_scale. */
fr_status fr_schema_each(const fr_config *config, fr_schema_fn fn, void *user);

/* The types that a tensor may have, as a mask for fr_checkpoint_get. One that may be E4M3 has scales if it is. */
unsigned fr_schema_dtypes(fr_schema_kind kind);
/* Bytes in the original's type, scales included. */
uint64_t fr_schema_bytes(const fr_schema_tensor *tensor);

/* Name, "NAME_scale_inv", and shape, [ceil(out/128), ceil(in/128)], of the scales that a tensor has if it is E4M3; false when it
 * never is, or the name does not fit. */
bool fr_schema_scale(const fr_schema_tensor *tensor, char *name, size_t size, int64_t shape[2]);
bool fr_schema_is_scale(const char *name);

/* The outputs [begin, end) that a rank computes of a tensor, and the rows [first, last) that it needs for that: rounded outwards
 * to whole 128-blocks. Of what is not cut, all. */
typedef struct fr_schema_share {
    int begin, end, first, last;
} fr_schema_share;
fr_schema_share fr_schema_share_of(const fr_schema_tensor *tensor, const fr_ranks *ranks);

/* What a copy repeats: the main model's tensor of the same part. */
const char *fr_schema_original(const fr_config *config, const fr_schema_tensor *copy);

/* The layer of a tensor's name, -1 for a tensor outside the layers. */
int fr_schema_layer_of(const char *name);
/* The down_proj of a layer's experts must have one dtype, since the rows that they read are packed once for all:
 * FR_ERROR_UNSUPPORTED for a tensor of another than expert 0's. Any other tensor is fine. */
fr_status fr_schema_alike(const fr_schema_tensor *t, const fr_checkpoint *checkpoint, const fr_tensor *tensor, fr_error *error);
/* All that is demanded of a tensor that the files have: its dtype and shape, its scales, and that. */
fr_status fr_schema_fit(const fr_schema_tensor *t, const fr_checkpoint *checkpoint, fr_error *error);

/* Whether the LM head is the embedding: tie_word_embeddings says so, and the files have no head or the same bytes once more. One
 * that differs is no copy but the head, as for transformers 5, and is noticed. */
bool fr_schema_head_is_tied(const fr_config *config, const fr_checkpoint *checkpoint, fr_notices *notices);

#endif
