/* What a layer has: experts or a dense MLP, an indexer of its own or another layer's choice. */
#include <stdio.h>
#include <string.h>

#include "core/checkpoint/config_sections.h"

static void put(fr_layer_set *set, int layer) {
    set->bits[layer / 64] |= UINT64_C(1) << layer % 64;
}

static bool has(const fr_layer_set *set, int layer) {
    return set->bits[layer / 64] >> layer % 64 & 1;
}

static bool same(const fr_layer_set *a, const fr_layer_set *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* A list with a word for each main layer: those that say `in` are the set, the others must say `out`. */
static fr_status read_list(const fr_keys *k, const char *key, int layers, const char *in, const char *out, fr_layer_set *set) {
    const cJSON *list, *item;
    int layer = 0;
    char found[80];
    memset(set, 0, sizeof *set);
    FR_TRY(fr_json_array(k->object, k->where, key, &list, k->error));
    if (cJSON_GetArraySize(list) != layers)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, key).text,
                          "expected a word for each of num_hidden_layers %d, found %d", layers, cJSON_GetArraySize(list));
    cJSON_ArrayForEach(item, list) {
        const char *word = cJSON_IsString(item) ? item->valuestring : "";
        bool is_in = strcmp(word, in) == 0;
        if (!is_in && strcmp(word, out) != 0)
            return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, key).text,
                              "layer %d: expected \"%s\" or \"%s\", found %s", layer, in, out,
                              fr_json_describe(item, found, sizeof found));
        if (is_in) put(set, layer);
        layer++;
    }
    return FR_OK;
}

/* ---- Experts ---- */

fr_status fr_config_mlp_layers(const fr_keys *k, fr_config *c) {
    fr_layer_set listed;
    bool list = fr_json_find(k->object, "mlp_layer_types"), first = fr_json_find(k->object, "first_k_dense_replace");
    if (list)
        FR_TRY(fr_keys_may_int(k, "first_k_dense_replace", 0, FR_MAX_LAYERS, &c->first_k_dense_replace));
    else
        FR_TRY(fr_keys_say_int(k, "first_k_dense_replace", 0, FR_MAX_LAYERS, &c->first_k_dense_replace));
    FR_TRY(fr_keys_may_int(k, "moe_layer_freq", 1, FR_MAX_LAYERS, &c->moe_layer_freq));
    memset(&c->moe_layers, 0, sizeof c->moe_layers);
    for (int i = c->first_k_dense_replace; i < c->num_hidden_layers; i++)
        if (i % c->moe_layer_freq == 0) put(&c->moe_layers, i);
    if (!list) return FR_OK;
    FR_TRY(read_list(k, "mlp_layer_types", c->num_hidden_layers, "sparse", "dense", &listed));
    if (first && !same(&listed, &c->moe_layers))
        fr_notices_add(k->notices, k->file, "mlp_layer_types and first_k_dense_replace %d disagree: mlp_layer_types counts",
                       c->first_k_dense_replace);
    c->moe_layers = listed;
    return FR_OK;
}

bool fr_config_layer_is_moe(const fr_config *c, int layer) {
    if (layer >= c->num_hidden_layers) return c->n_routed_experts > 0 && !c->mtp_dense;
    return has(&c->moe_layers, layer);
}

int fr_config_num_moe_layers(const fr_config *config) {
    int count = 0;
    for (int layer = 0; layer < config->num_hidden_layers; layer++) count += fr_config_layer_is_moe(config, layer);
    return count;
}

/* ---- Indexers ---- */

/* A string of F and S, one for each main layer. */
static fr_status read_letters(const fr_keys *k, const char *key, const char *letters, int layers, fr_layer_set *set) {
    memset(set, 0, sizeof *set);
    if (strspn(letters, "FS") != strlen(letters) || strlen(letters) != (size_t)layers)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, key).text,
                          "expected a letter, F or S, for each of num_hidden_layers %d, found \"%.80s\"", layers, letters);
    for (int i = 0; i < layers; i++)
        if (letters[i] == 'F') put(set, i);
    return FR_OK;
}

static fr_status read_pattern(const fr_keys *k, int layers, fr_layer_set *set) {
    static const char key[] = "index_topk_pattern";
    const cJSON *value = fr_json_find(k->object, key);
    if (cJSON_IsString(value)) return read_letters(k, key, value->valuestring, layers, set);
    return read_list(k, key, layers, "full", "shared", set);
}

/* Every f-th layer, from the o-th on; f is 1 unless the file says otherwise, which is every layer. */
static fr_status read_frequency(const fr_keys *k, int layers, fr_layer_set *set) {
    int every = 1, offset = 2;
    memset(set, 0, sizeof *set);
    FR_TRY(fr_keys_may_int(k, "index_topk_freq", 1, FR_MAX_LAYERS, &every));
    FR_TRY(fr_keys_may_int(k, "index_skip_topk_offset", 0, FR_MAX_LAYERS, &offset));
    for (int i = 0; i < layers; i++)
        if (i < offset || (i - offset + 1) % every == 0) put(set, i);
    return FR_OK;
}

/* Three spellings; the first that is there counts. */
static fr_status read_full_layers(const fr_keys *k, fr_config *c) {
    int layers = c->num_hidden_layers;
    fr_layer_set sets[3];
    const char *keys[] = {"indexer_types", "index_topk_pattern", "index_topk_freq"}, *counts = NULL;
    if (fr_json_find(k->object, keys[0])) FR_TRY(read_list(k, keys[0], layers, "full", "shared", &sets[0]));
    if (fr_json_find(k->object, keys[1])) FR_TRY(read_pattern(k, layers, &sets[1]));
    FR_TRY(read_frequency(k, layers, &sets[2]));
    c->full_indexers = sets[2];
    for (int i = 0; i < 3; i++) {
        if (!fr_json_find(k->object, keys[i])) continue;
        if (!counts) {
            counts = keys[i];
            c->full_indexers = sets[i];
        } else if (!same(&sets[i], &c->full_indexers)) {
            fr_notices_add(k->notices, k->file, "%s and %s disagree: %s counts", counts, keys[i], counts);
        }
    }
    if (has(&c->full_indexers, 0)) return FR_OK;
    return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, counts).text,
                      "layer 0 has no indexer, and no layer before it whose choice it could share");
}

fr_status fr_config_indexer(const fr_keys *k, fr_config *c) {
    if (!c->index_topk) return FR_OK; /* not a member with sparse attention */
    FR_TRY(fr_keys_say_int(k, "index_n_heads", 1, FR_MAX_HEADS, &c->index_n_heads));
    FR_TRY(fr_keys_say_int(k, "index_head_dim", 2, FR_MAX_HEAD_DIM, &c->index_head_dim));
    FR_TRY(fr_keys_say_int(k, "index_topk", 1, FR_MAX_POSITIONS, &c->index_topk));
    /* half-split rotation is what deepseek_v32 means, whose files never say it */
    FR_TRY(c->indexer_rope_interleave ? fr_keys_say_bool(k, "indexer_rope_interleave", &c->indexer_rope_interleave)
                                      : fr_keys_may_bool(k, "indexer_rope_interleave", &c->indexer_rope_interleave));
    FR_TRY(fr_keys_may_bool(k, "index_share_for_mtp_iteration", &c->index_share_for_mtp_iteration));
    if (!c->q_lora_rank)
        return fr_fail_at(k->error, FR_ERROR_UNSUPPORTED, fr_keys_place(k, "q_lora_rank").text,
                          "null, but the indexer reads the low-rank query");
    if (c->index_head_dim < c->qk_rope_head_dim)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "index_head_dim").text,
                          "expected at least qk_rope_head_dim %d, found %d", c->qk_rope_head_dim, c->index_head_dim);
    return read_full_layers(k, c);
}

bool fr_config_layer_has_indexer(const fr_config *c, int layer) {
    return c->index_topk > 0 && (layer >= c->num_hidden_layers || has(&c->full_indexers, layer));
}

int fr_config_num_indexers(const fr_config *config) {
    int count = 0;
    for (int layer = 0; layer < config->num_hidden_layers; layer++) count += fr_config_layer_has_indexer(config, layer);
    return count;
}
