/* The cache of a network's layers: latents and, with sparse attention, the index keys of the layers that have an indexer. */
#ifndef FR_MODEL_CACHE_H
#define FR_MODEL_CACHE_H

#include "attn/kv_cache.h"
#include "core/checkpoint/config.h"

typedef enum fr_cache_of { FR_CACHE_MAIN, FR_CACHE_MTP } fr_cache_of; /* the main model; an MTP module, of one layer */

fr_status fr_cache_create(fr_kv_cache *kv, const fr_config *config, fr_cache_of of, int ctx, fr_kv type, fr_error *error);
/* Bytes that `positions` positions take. */
uint64_t fr_cache_bytes(const fr_config *config, fr_cache_of of, int positions, fr_kv type);
/* Bytes that a decode pass reads whose last row sees `positions`: all index keys where there are more than index_topk, and as
 * many latents as a row attends to. (The rows of a pass choose mostly the same ones.) */
uint64_t fr_cache_read_bytes(const fr_config *config, fr_cache_of of, int positions, fr_kv type);

#endif
