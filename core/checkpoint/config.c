#include "core/checkpoint/config.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/checksum.h"
#include "core/checkpoint/config_sections.h"
#include "core/dtype.h"
#include "core/file.h"
#include "core/json.h"

#define MAX_CONFIG (16u << 20)

/* Far beyond any real model, and small enough that no product of them overflows. */
enum {
    MAX_VOCAB = 1 << 24,
    MAX_EXPERTS = 8192,
    MAX_SHARED = 64,
    MAX_MTP = 16,
};

/* Shapes fit into int, the elements of a tensor into 2^43 and those of a model into 2^60. */
#define MAX_SIDE ((int64_t)2 * FR_MAX_HEADS * FR_MAX_HEAD_DIM)
_Static_assert(MAX_SIDE <= INT_MAX && MAX_VOCAB <= MAX_SIDE && (int64_t)MAX_SHARED * FR_MAX_WIDTH <= MAX_SIDE,
               "sides of tensors");
_Static_assert(MAX_SIDE *FR_MAX_WIDTH <= INT64_C(1) << 43, "elements of a tensor");
_Static_assert((FR_MAX_LAYERS + MAX_MTP) *
                       (3 * (int64_t)MAX_EXPERTS * FR_MAX_WIDTH * FR_MAX_WIDTH + 16 * MAX_SIDE * FR_MAX_WIDTH) <=
                   INT64_C(1) << 60,
               "elements of a model");

/* ---- Sections ---- */

/* What all members have in common. */
static fr_status check_common(const fr_keys *k) {
    float one = 1;
    FR_TRY(fr_keys_only_string(k, "hidden_act", "silu"));
    FR_TRY(fr_keys_only_string(k, "scoring_func", "sigmoid"));
    FR_TRY(fr_keys_only_string(k, "topk_method", "noaux_tc"));
    FR_TRY(fr_keys_only_bool(k, "attention_bias", false));
    FR_TRY(fr_keys_only_bool(k, "mlp_bias", false));
    FR_TRY(fr_keys_only_bool(k, "rope_interleave", true));
    FR_TRY(fr_keys_may_float(k, "partial_rotary_factor", 0, 1, &one));
    return one == 1 ? FR_OK : fr_keys_unsupported(k, "partial_rotary_factor", "1");
}

static fr_status parse_sizes(const fr_keys *k, fr_config *c) {
    FR_TRY(fr_keys_need_int(k, "hidden_size", 1, FR_MAX_WIDTH, &c->hidden_size));
    FR_TRY(fr_keys_need_int(k, "vocab_size", 1, MAX_VOCAB, &c->vocab_size));
    FR_TRY(fr_keys_need_int(k, "num_hidden_layers", 1, FR_MAX_LAYERS, &c->num_hidden_layers));
    FR_TRY(fr_keys_need_int(k, "max_position_embeddings", 1, FR_MAX_POSITIONS, &c->max_position_embeddings));
    FR_TRY(fr_keys_need_int(k, "intermediate_size", 1, FR_MAX_WIDTH, &c->intermediate_size));
    FR_TRY(fr_keys_may_int(k, "num_nextn_predict_layers", 0, MAX_MTP, &c->num_nextn_predict_layers));
    FR_TRY(fr_keys_say_float(k, "rms_norm_eps", 0, 1, &c->rms_norm_eps));
    return fr_keys_may_bool(k, "tie_word_embeddings", &c->tie_word_embeddings);
}

/* A size that may be left out, but not be null. */
static fr_status size_or_default(const fr_keys *k, const char *key, int min, int max, int *out) {
    bool there = cJSON_GetObjectItemCaseSensitive(k->object, key);
    return there ? fr_keys_need_int(k, key, min, max, out) : fr_keys_say_int(k, key, min, max, out);
}

/* num_key_value_heads and head_dim are not read: the network has neither, and files say what they like. */
static fr_status parse_attention(const fr_keys *k, fr_config *c) {
    FR_TRY(fr_keys_need_int(k, "num_attention_heads", 1, FR_MAX_HEADS, &c->num_attention_heads));
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(k->object, "q_lora_rank")))
        c->q_lora_rank = 0; /* no low rank */
    else
        FR_TRY(size_or_default(k, "q_lora_rank", 1, FR_MAX_WIDTH, &c->q_lora_rank));
    FR_TRY(size_or_default(k, "kv_lora_rank", 1, FR_MAX_WIDTH, &c->kv_lora_rank));
    FR_TRY(size_or_default(k, "qk_nope_head_dim", 1, FR_MAX_HEAD_DIM, &c->qk_nope_head_dim));
    FR_TRY(size_or_default(k, "qk_rope_head_dim", 2, FR_MAX_HEAD_DIM, &c->qk_rope_head_dim));
    FR_TRY(size_or_default(k, "v_head_dim", 1, FR_MAX_HEAD_DIM, &c->v_head_dim));
    if (c->qk_rope_head_dim % 2)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "qk_rope_head_dim").text,
                          "expected an even number (RoPE turns pairs), found %d", c->qk_rope_head_dim);
    int sum = c->qk_nope_head_dim + c->qk_rope_head_dim, said = sum;
    FR_TRY(fr_keys_may_int(k, "qk_head_dim", 1, 2 * FR_MAX_HEAD_DIM, &said));
    if (said == sum) return FR_OK;
    return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "qk_head_dim").text,
                      "expected qk_nope_head_dim + qk_rope_head_dim, which is %d, found %d", sum, said);
}

/* Groups must divide the experts, and the chosen ones must have enough of them. */
static fr_status check_experts(const fr_keys *k, const fr_config *c) {
    int group = c->n_routed_experts / c->n_group;
    if (c->n_routed_experts % c->n_group)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "n_group").text,
                          "%d groups do not divide n_routed_experts %d", c->n_group, c->n_routed_experts);
    if (c->n_group > 1 && group < 2)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "n_group").text,
                          "%d groups of one expert; a group's score is the sum of its two best", c->n_group);
    if (c->topk_group > c->n_group)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "topk_group").text, "expected at most n_group %d, found %d",
                          c->n_group, c->topk_group);
    if (c->num_experts_per_tok > c->topk_group * group)
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "num_experts_per_tok").text,
                          "expected at most the %d experts of %d groups, found %d", c->topk_group * group, c->topk_group,
                          c->num_experts_per_tok);
    return FR_OK;
}

/* Where no layer has experts, not in an MTP module either, what the file says of them means nothing. */
static void forget_experts(fr_config *c) {
    c->moe_intermediate_size = c->n_routed_experts = c->n_shared_experts = c->num_experts_per_tok = 0;
    c->n_group = c->topk_group = 1;
    c->mtp_dense = true;
}

static fr_status parse_experts(const fr_keys *k, fr_config *c) {
    FR_TRY(fr_config_mlp_layers(k, c));
    bool in_layers = fr_config_num_moe_layers(c) > 0;
    FR_TRY((in_layers ? fr_keys_need_int : fr_keys_may_int)(k, "n_routed_experts", in_layers, MAX_EXPERTS, &c->n_routed_experts));
    if (!in_layers && (c->n_routed_experts == 0 || c->num_nextn_predict_layers == 0)) {
        forget_experts(c);
        return FR_OK;
    }
    FR_TRY(fr_keys_need_int(k, "moe_intermediate_size", 1, FR_MAX_WIDTH, &c->moe_intermediate_size));
    FR_TRY(fr_keys_say_int(k, "num_experts_per_tok", 1, MAX_EXPERTS, &c->num_experts_per_tok));
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(k->object, "n_shared_experts")))
        c->n_shared_experts = 0;
    else
        FR_TRY(fr_keys_say_int(k, "n_shared_experts", 0, MAX_SHARED, &c->n_shared_experts));
    FR_TRY(fr_keys_say_int(k, "n_group", 1, MAX_EXPERTS, &c->n_group));
    FR_TRY(fr_keys_say_int(k, "topk_group", 1, MAX_EXPERTS, &c->topk_group));
    FR_TRY(fr_keys_say_bool(k, "norm_topk_prob", &c->norm_topk_prob));
    FR_TRY(fr_keys_say_float(k, "routed_scaling_factor", 1e-6, 1e6, &c->routed_scaling_factor));
    return check_experts(k, c);
}

/* ---- Tokens ---- */

/* Ids that are left out of a file's list. */
typedef struct left_out {
    uint64_t first; /* of those beyond the vocabulary */
    int beyond, behind;
} left_out;

static fr_status add_eos(const fr_keys *k, const cJSON *item, fr_config *c, left_out *out) {
    uint64_t id;
    char found[80];
    if (!fr_json_to_u64(item, &id))
        return fr_fail_at(k->error, FR_ERROR_FORMAT, fr_keys_place(k, "eos_token_id").text, "expected ids of tokens, found %s",
                          fr_json_describe(item, found, sizeof found));
    for (int i = 0; i < c->num_eos_token_ids; i++)
        if ((uint64_t)c->eos_token_ids[i] == id) return FR_OK;
    if (id >= (uint64_t)c->vocab_size) {
        if (!out->beyond++) out->first = id;
    } else if (c->num_eos_token_ids == FR_MAX_EOS) {
        out->behind++;
    } else {
        c->eos_token_ids[c->num_eos_token_ids++] = (int)id;
    }
    return FR_OK;
}

static void notice_left_out(const fr_keys *k, const fr_config *c, const left_out *out) {
    if (out->beyond == 1)
        fr_notices_add(k->notices, k->file, "eos_token_id %" PRIu64 " is beyond vocab_size %d, and no token: left out",
                       out->first, c->vocab_size);
    if (out->beyond > 1)
        fr_notices_add(k->notices, k->file,
                       "eos_token_id %" PRIu64 " and %d more are beyond vocab_size %d, and no tokens: left out", out->first,
                       out->beyond - 1, c->vocab_size);
    if (out->behind) fr_notices_add(k->notices, k->file, "eos_token_id: ids behind the first %d are left out", FR_MAX_EOS);
}

/* eos_token_id: one id, several, or null. */
static fr_status parse_eos(const fr_keys *k, fr_config *c) {
    const cJSON *eos = fr_json_find(k->object, "eos_token_id"), *list = cJSON_IsArray(eos) ? eos : NULL, *item;
    left_out out = {.beyond = 0};
    if (eos && !list) FR_TRY(add_eos(k, eos, c, &out));
    cJSON_ArrayForEach(item, list) {
        FR_TRY(add_eos(k, item, c, &out));
    }
    notice_left_out(k, c, &out);
    return FR_OK;
}

/* The ids of config.json and generation_config.json together end a text; the member's, where neither has the key. */
static fr_status parse_tokens(const fr_keys *k, const fr_keys *generation, fr_config *c) {
    const cJSON *bos = cJSON_GetObjectItemCaseSensitive(k->object, "bos_token_id");
    bool said = cJSON_GetObjectItemCaseSensitive(k->object, "eos_token_id") || fr_json_find(generation->object, "eos_token_id");
    if (cJSON_IsNull(bos))
        c->bos_token_id = -1;
    else if (bos)
        FR_TRY(fr_keys_need_int(k, "bos_token_id", 0, c->vocab_size - 1, &c->bos_token_id));
    if (!said && c->num_eos_token_ids > 0 && c->eos_token_ids[0] < c->vocab_size) {
        fr_keys_assume(k, "eos_token_id", "%d", c->eos_token_ids[0]);
        return FR_OK;
    }
    c->num_eos_token_ids = 0;
    FR_TRY(parse_eos(k, c));
    return parse_eos(generation, c);
}

/* ---- Whole files ---- */

static fr_status parse_sections(const fr_keys *k, const fr_keys *generation, fr_config *c) {
    FR_TRY(check_common(k));
    FR_TRY(parse_sizes(k, c));
    FR_TRY(parse_attention(k, c));
    FR_TRY(fr_config_rope(k, c));
    FR_TRY(parse_experts(k, c));
    FR_TRY(fr_config_indexer(k, c));
    FR_TRY(fr_config_quantization(k, c));
    return parse_tokens(k, generation, c);
}

/* What was assumed is noticed where the config is refused, too: it may be why. */
static fr_status parse_object(const fr_keys *k, const fr_keys *generation, fr_config *c) {
    const fr_member *member;
    FR_TRY(fr_json_unique(k->object, k->where, k->error));
    FR_TRY(fr_config_member(k, &member));
    *c = member->defaults;
    c->model_type = member->model_type;
    assert(c->n_group > 0 && c->moe_layer_freq > 0); /* divisors, which a file may leave out */
    fr_status status = parse_sections(k, generation, c);
    if (k->assumed->length > 0)
        fr_notices_add(k->notices, k->file, "keys that are absent are taken as %s has them: %s", member->model_type,
                       k->assumed->text);
    return status;
}

/* generation: of generation_config.json, whose object may be NULL. */
static fr_status parse_text(const char *json, size_t length, const char *where, const fr_keys *generation, fr_config *out,
                            fr_notices *notices, fr_error *error) {
    cJSON *object = NULL;
    char found[80];
    fr_config config;
    fr_assumed assumed = {.length = 0};
    memset(&config, 0, sizeof config);
    FR_TRY(fr_json_parse(json, length, where, &object, error));
    fr_keys k = {object, where, fr_keys_file(where), &assumed, notices, error};
    fr_status status = cJSON_IsObject(object) ? parse_object(&k, generation, &config)
                                              : fr_fail_at(error, FR_ERROR_FORMAT, where, "expected a JSON object, found %s",
                                                           fr_json_describe(object, found, sizeof found));
    cJSON_Delete(object);
    if (status == FR_OK) *out = config;
    return status;
}

fr_status fr_config_parse(const char *json, size_t length, const char *where, fr_config *out, fr_notices *notices,
                          fr_error *error) {
    fr_keys none = {.where = ""};
    return parse_text(json, length, where, &none, out, notices, error);
}

/* generation_config.json is optional. Only its eos_token_id is read. */
static fr_status load_generation(const char *path, cJSON **out, fr_error *error) {
    return fr_is_there(path) ? fr_json_load(path, MAX_CONFIG, out, error) : FR_OK;
}

fr_status fr_config_load(const char *dir, fr_config *out, fr_notices *notices, fr_error *error) {
    char *path = fr_keys_path(dir, "config.json", error), *beside = fr_keys_path(dir, "generation_config.json", error);
    char *text = NULL;
    cJSON *generation = NULL;
    size_t length;
    fr_status status = path && beside ? FR_OK : FR_ERROR_MEMORY;
    if (status == FR_OK) status = fr_read_file(path, MAX_CONFIG, &text, &length, error);
    if (status == FR_OK) status = fr_config_refuse_beside(dir, error);
    if (status == FR_OK) status = load_generation(beside, &generation, error);
    if (status == FR_OK) {
        fr_keys k = {generation, beside, fr_keys_file(beside), NULL, notices, error};
        status = parse_text(text, length, path, &k, out, notices, error);
    }
    cJSON_Delete(generation);
    fr_free(text);
    fr_free(beside);
    fr_free(path);
    return status;
}

/* ---- A hash ---- */

_Static_assert(sizeof(fr_config) == 1456, "a new field that changes results has to be hashed below");

uint64_t fr_config_hash(uint64_t hash, const fr_config *c) {
    const int numbers[] = {
        c->hidden_size,
        c->vocab_size,
        c->num_hidden_layers,
        c->num_nextn_predict_layers,
        c->tie_word_embeddings,
        c->num_attention_heads,
        c->q_lora_rank,
        c->kv_lora_rank,
        c->qk_nope_head_dim,
        c->qk_rope_head_dim,
        c->v_head_dim,
        c->yarn.present,
        c->yarn.original_max_position_embeddings,
        c->intermediate_size,
        c->moe_intermediate_size,
        c->n_routed_experts,
        c->n_shared_experts,
        c->num_experts_per_tok,
        c->n_group,
        c->topk_group,
        c->mtp_dense,
        c->index_n_heads,
        c->index_head_dim,
        c->index_topk,
        c->indexer_rope_interleave,
        c->index_share_for_mtp_iteration,
        c->norm_topk_prob,
        c->fp8,
        c->act_dynamic,
        c->act_ue8m0,
    };
    const float reals[] = {
        c->rms_norm_eps, c->rope_theta,          c->yarn.factor,           c->yarn.beta_fast,        c->yarn.beta_slow,
        c->yarn.mscale,  c->yarn.mscale_all_dim, c->yarn.attention_factor, c->routed_scaling_factor,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) hash = fr_hash64_number(hash, (uint64_t)numbers[i]);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) hash = fr_hash64_number(hash, fr_f32_bits(reals[i]));
    for (int layer = 0; layer < c->num_hidden_layers; layer++)
        hash = fr_hash64_number(hash, (uint64_t)(fr_config_layer_is_moe(c, layer) + 2 * fr_config_layer_has_indexer(c, layer)));
    return hash;
}
