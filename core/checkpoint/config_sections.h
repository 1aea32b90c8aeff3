/* The sections of config.json that have files of their own. Private to core/checkpoint/config*.c. */
#ifndef FR_CORE_CHECKPOINT_CONFIG_SECTIONS_H
#define FR_CORE_CHECKPOINT_CONFIG_SECTIONS_H

#include "core/checkpoint/config.h"
#include "core/checkpoint/config_keys.h"

/* ---- Members of the family ---- */

/* A member is its names and what its config.json may leave out. Tensors that only some members have are rows of
 * model/tensors.c with a condition on the config. */
typedef struct fr_member {
    const char *model_type, *architecture;
    fr_config defaults;
} fr_member;

/* By model_type or, for derived models that have one of their own, by architecture. Without either it is the first. What is known
 * to be of another family is FR_ERROR_UNSUPPORTED with what it is. */
fr_status fr_config_member(const fr_keys *k, const fr_member **out);

/* ---- Sections ---- */

/* Far beyond any real model, and small enough that no product of them overflows. */
enum {
    FR_MAX_WIDTH = 1 << 17,
    FR_MAX_HEADS = 4096,
    FR_MAX_HEAD_DIM = 4096,
    FR_MAX_POSITIONS = 1 << 28,
};

/* rope_theta, rope_scaling, rope_parameters. */
fr_status fr_config_rope(const fr_keys *k, fr_config *c);
/* Which layers have experts. */
fr_status fr_config_mlp_layers(const fr_keys *k, fr_config *c);
/* The sparse attention's indexer, and which layers have one of their own. */
fr_status fr_config_indexer(const fr_keys *k, fr_config *c);
/* quantization_config. */
fr_status fr_config_quantization(const fr_keys *k, fr_config *c);
/* A quantization that is described beside config.json is refused. */
fr_status fr_config_refuse_beside(const char *dir, fr_error *error);

#endif
