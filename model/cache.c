#include "model/cache.h"

static int layers_of(const fr_config *c, fr_cache_of of) {
    return of == FR_CACHE_MTP ? 1 : c->num_hidden_layers;
}

static int indexers_of(const fr_config *c, fr_cache_of of) {
    return of == FR_CACHE_MTP ? fr_config_layer_has_indexer(c, c->num_hidden_layers) : fr_config_num_indexers(c);
}

static uint64_t latent_bytes(const fr_config *c, fr_cache_of of, int positions, fr_kv type) {
    return fr_kv_cache_bytes(layers_of(c, of), positions, c->kv_lora_rank, c->qk_rope_head_dim, type);
}

static uint64_t index_bytes(const fr_config *c, fr_cache_of of, int positions, fr_kv type) {
    return fr_kv_cache_bytes(indexers_of(c, of), positions, c->index_head_dim, 0, type);
}

fr_status fr_cache_create(fr_kv_cache *kv, const fr_config *c, fr_cache_of of, int ctx, fr_kv type, fr_error *error) {
    FR_TRY(fr_kv_cache_create(kv, layers_of(c, of), ctx, c->kv_lora_rank, c->qk_rope_head_dim, type, error));
    int indexers = indexers_of(c, of);
    return indexers > 0 ? fr_kv_cache_add_index(kv, indexers, c->index_head_dim, error) : FR_OK;
}

uint64_t fr_cache_bytes(const fr_config *c, fr_cache_of of, int positions, fr_kv type) {
    return latent_bytes(c, of, positions, type) + index_bytes(c, of, positions, type);
}

uint64_t fr_cache_read_bytes(const fr_config *c, fr_cache_of of, int positions, fr_kv type) {
    if (c->index_topk == 0 || positions <= c->index_topk) return latent_bytes(c, of, positions, type);
    return latent_bytes(c, of, c->index_topk, type) + index_bytes(c, of, positions, type);
}
