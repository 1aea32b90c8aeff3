#include "core/checkpoint/config.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/checkpoint/checksum.h"
#include "core/dtype.h"
#include "core/file.h"
#include "core/json.h"

#define MAX_CONFIG (16u << 20)

/* Far beyond any real model, and small enough that no product of them overflows. */
enum {
    MAX_WIDTH = 1 << 17,
    MAX_VOCAB = 1 << 24,
    MAX_LAYERS = 1024,
    MAX_EXPERTS = 8192,
    MAX_HEADS = 4096,
    MAX_HEAD_DIM = 4096,
    MAX_SHARED = 64,
    MAX_POSITIONS = 1 << 28,
    MAX_MTP = 16,
};

/* Shapes fit into int, the elements of a tensor into 2^43 and those of a model into 2^60. */
#define MAX_SIDE ((int64_t)2 * MAX_HEADS * MAX_HEAD_DIM)
_Static_assert(MAX_SIDE <= INT_MAX && MAX_VOCAB <= MAX_SIDE && (int64_t)MAX_SHARED * MAX_WIDTH <= MAX_SIDE, "sides of tensors");
_Static_assert(MAX_SIDE *MAX_WIDTH <= INT64_C(1) << 43, "elements of a tensor");
_Static_assert((MAX_LAYERS + MAX_MTP) * (3 * (int64_t)MAX_EXPERTS * MAX_WIDTH * MAX_WIDTH + 16 * MAX_SIDE * MAX_WIDTH) <=
                   INT64_C(1) << 60,
               "elements of a model");

/* Keys that were absent, with the values that were taken: "n_group 8, topk_group 4". */
typedef struct assumed {
    char text[400];
    size_t length;
} assumed;

/* An object of the file that is being read. */
typedef struct source {
    const cJSON *object;
    const char *where;
    assumed *assumed;
    fr_notices *notices; /* NULL: nobody wants to know */
    fr_error *error;
} source;

static fr_place key_of(const source *s, const char *key) {
    return fr_place_of("%s: %s", s->where, key);
}

static fr_status unsupported(const source *s, const char *key, const char *only) {
    char found[80];
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(s->object, key);
    return fr_fail_at(s->error, FR_ERROR_UNSUPPORTED, key_of(s, key).text, "only %s is supported, found %s", only,
                      fr_json_describe(value, found, sizeof found));
}

/* For a key that may be absent, and otherwise must have the one value that forerun computes. */
static fr_status only_string(const source *s, const char *key, const char *value) {
    const cJSON *is = fr_json_find(s->object, key);
    if (!is || (cJSON_IsString(is) && strcmp(is->valuestring, value) == 0)) return FR_OK;
    return unsupported(s, key, value);
}

static fr_status only_bool(const source *s, const char *key, bool value) {
    const cJSON *is = fr_json_find(s->object, key);
    if (!is || (cJSON_IsBool(is) && (bool)cJSON_IsTrue(is) == value)) return FR_OK;
    return unsupported(s, key, value ? "true" : "false");
}

static fr_status need(const source *s, const char *key, int min, int max, int *out) {
    return fr_json_int(s->object, s->where, key, min, max, out, s->error);
}

/* Keys that may be absent: *out keeps its value then, the member's default. */
static fr_status may_int(const source *s, const char *key, int min, int max, int *out) {
    return fr_json_int_or(s->object, s->where, key, min, max, *out, out, s->error);
}

static fr_status may_float(const source *s, const char *key, double min, double max, float *out) {
    return fr_json_float_or(s->object, s->where, key, min, max, *out, out, s->error);
}

static fr_status may_bool(const source *s, const char *key, bool *out) {
    return fr_json_bool_or(s->object, s->where, key, *out, out, s->error);
}

/* The file's own name, without its folders: what a notice is about. */
static const char *file_of(const source *s) {
    const char *slash = strrchr(s->where, '/');
    return slash ? slash + 1 : s->where;
}

static void assume(const source *s, const char *key, const char *format, ...) FR_PRINTF(3, 4);

static void assume(const source *s, const char *key, const char *format, ...) {
    assumed *a = s->assumed;
    if (a->length + strlen(key) + 40 > sizeof a->text) return;
    a->length += (size_t)snprintf(a->text + a->length, sizeof a->text - a->length, "%s%s ", a->length ? ", " : "", key);
    va_list args;
    va_start(args, format);
    a->length += (size_t)vsnprintf(a->text + a->length, sizeof a->text - a->length, format, args);
    va_end(args);
}

/* Keys that change what is computed: the member's default is taken for one that is absent, and noticed. */
static fr_status say_int(const source *s, const char *key, int min, int max, int *out) {
    if (!fr_json_find(s->object, key)) assume(s, key, "%d", *out);
    return may_int(s, key, min, max, out);
}

static fr_status say_float(const source *s, const char *key, double min, double max, float *out) {
    if (!fr_json_find(s->object, key)) assume(s, key, "%g", (double)*out);
    return may_float(s, key, min, max, out);
}

static fr_status say_bool(const source *s, const char *key, bool *out) {
    if (!fr_json_find(s->object, key)) assume(s, key, "%s", *out ? "true" : "false");
    return may_bool(s, key, out);
}

/* ---- Members of the family ---- */

/* A member is its names and what its config.json may leave out. Tensors that only some members have are rows of
 * model/tensors.c with a condition on the config. */
typedef struct member {
    const char *model_type, *architecture;
    fr_config defaults;
} member;

static const member members[] = {
    {.model_type = "deepseek_v3",
     .architecture = "DeepseekV3ForCausalLM",
     .defaults = {.rms_norm_eps = 1e-6f,
                  .rope_theta = 1e4f,
                  .n_shared_experts = 1,
                  .n_group = 8,
                  .topk_group = 4,
                  .first_k_dense_replace = 3,
                  .moe_layer_freq = 1,
                  .norm_topk_prob = true,
                  .routed_scaling_factor = 2.5f}},
};
enum { NUM_MEMBERS = sizeof members / sizeof *members };

static bool is_string(const cJSON *value, const char *text) {
    return cJSON_IsString(value) && strcmp(value->valuestring, text) == 0;
}

/* By model_type or, for derived models that have one of their own, by architecture. Without either it is the first. */
static fr_status find_member(const source *s, const member **out) {
    const cJSON *type = fr_json_find(s->object, "model_type"), *list = fr_json_find(s->object, "architectures"), *item;
    *out = !type && !list ? members : NULL;
    for (int i = 0; i < NUM_MEMBERS && !*out; i++)
        if (is_string(type, members[i].model_type)) *out = &members[i];
    cJSON_ArrayForEach(item, list) {
        for (int i = 0; i < NUM_MEMBERS && !*out; i++)
            if (is_string(item, members[i].architecture)) *out = &members[i];
    }
    if (*out) return FR_OK;
    char only[256] = "the DeepSeek-V3 family (";
    for (int i = 0; i < NUM_MEMBERS; i++)
        snprintf(only + strlen(only), sizeof only - strlen(only), "%s%s", members[i].model_type,
                 i + 1 < NUM_MEMBERS ? ", " : ")");
    return unsupported(s, type ? "model_type" : "architectures", only);
}

/* ---- Sections ---- */

/* What all members have in common. */
static fr_status check_common(const source *s) {
    FR_TRY(only_string(s, "hidden_act", "silu"));
    FR_TRY(only_string(s, "scoring_func", "sigmoid"));
    FR_TRY(only_string(s, "topk_method", "noaux_tc"));
    FR_TRY(only_bool(s, "attention_bias", false));
    FR_TRY(only_bool(s, "mlp_bias", false));
    return only_bool(s, "rope_interleave", true);
}

static fr_status parse_sizes(const source *s, fr_config *c) {
    FR_TRY(need(s, "hidden_size", 1, MAX_WIDTH, &c->hidden_size));
    FR_TRY(need(s, "vocab_size", 1, MAX_VOCAB, &c->vocab_size));
    FR_TRY(need(s, "num_hidden_layers", 1, MAX_LAYERS, &c->num_hidden_layers));
    FR_TRY(need(s, "max_position_embeddings", 1, MAX_POSITIONS, &c->max_position_embeddings));
    FR_TRY(may_int(s, "num_nextn_predict_layers", 0, MAX_MTP, &c->num_nextn_predict_layers));
    FR_TRY(say_float(s, "rms_norm_eps", 0, 1, &c->rms_norm_eps));
    return may_bool(s, "tie_word_embeddings", &c->tie_word_embeddings);
}

/* num_key_value_heads is not read: the network has none, and small files say another number than num_attention_heads. */
static fr_status parse_attention(const source *s, fr_config *c) {
    FR_TRY(need(s, "num_attention_heads", 1, MAX_HEADS, &c->num_attention_heads));
    c->q_lora_rank = 0;
    /* null means no low rank; absent is an error */
    if (!cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(s->object, "q_lora_rank")))
        FR_TRY(need(s, "q_lora_rank", 1, MAX_WIDTH, &c->q_lora_rank));
    FR_TRY(need(s, "kv_lora_rank", 1, MAX_WIDTH, &c->kv_lora_rank));
    FR_TRY(need(s, "qk_nope_head_dim", 1, MAX_HEAD_DIM, &c->qk_nope_head_dim));
    FR_TRY(need(s, "qk_rope_head_dim", 2, MAX_HEAD_DIM, &c->qk_rope_head_dim));
    FR_TRY(need(s, "v_head_dim", 1, MAX_HEAD_DIM, &c->v_head_dim));
    if (c->qk_rope_head_dim % 2)
        return fr_fail_at(s->error, FR_ERROR_FORMAT, key_of(s, "qk_rope_head_dim").text,
                          "expected an even number (RoPE turns pairs), found %d", c->qk_rope_head_dim);
    return FR_OK;
}

static fr_status parse_yarn(const source *s, fr_config *c) {
    const char *type;
    FR_TRY(fr_json_unique(s->object, s->where, s->error));
    FR_TRY(fr_json_string_or(s->object, s->where, "type", "default", &type, s->error));
    FR_TRY(fr_json_string_or(s->object, s->where, "rope_type", type, &type, s->error));
    if (strcmp(type, "default") == 0) return FR_OK;
    if (strcmp(type, "yarn") != 0)
        return unsupported(s, fr_json_find(s->object, "rope_type") ? "rope_type" : "type", "\"yarn\" (or \"default\": none)");
    if (fr_json_find(s->object, "attention_factor")) return unsupported(s, "attention_factor", "its absence");
    FR_TRY(only_bool(s, "truncate", true));
    c->yarn.present = true;
    c->yarn.beta_fast = 32;
    c->yarn.beta_slow = 1;
    c->yarn.mscale = 1;
    FR_TRY(fr_json_float(s->object, s->where, "factor", 1, 1e6, &c->yarn.factor, s->error));
    FR_TRY(may_float(s, "beta_fast", 1e-3, 1e6, &c->yarn.beta_fast));
    FR_TRY(may_float(s, "beta_slow", 1e-3, 1e6, &c->yarn.beta_slow));
    FR_TRY(may_float(s, "mscale", 0, 100, &c->yarn.mscale));
    FR_TRY(may_float(s, "mscale_all_dim", 0, 100, &c->yarn.mscale_all_dim));
    return need(s, "original_max_position_embeddings", 1, MAX_POSITIONS, &c->yarn.original_max_position_embeddings);
}

/* rope_theta and rope_scaling, or both in one object: rope_parameters, as newer conversions write it. */
static fr_status parse_rope(const source *s, fr_config *c) {
    const char *key = fr_json_find(s->object, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const cJSON *object = fr_json_find(s->object, key);
    if (!fr_json_find(s->object, "rope_theta") && !fr_json_find(object, "rope_theta"))
        assume(s, "rope_theta", "%g", (double)c->rope_theta);
    FR_TRY(may_float(s, "rope_theta", 1, 1e12, &c->rope_theta));
    if (!object) return FR_OK;
    char where[512];
    snprintf(where, sizeof where, "%s: %s", s->where, key);
    source in = *s;
    in.where = where;
    FR_TRY(fr_json_object(s->object, s->where, key, &in.object, s->error));
    FR_TRY(may_float(&in, "rope_theta", 1, 1e12, &c->rope_theta));
    return parse_yarn(&in, c);
}

/* Groups must divide the experts, and the chosen ones must have enough of them. */
static fr_status check_experts(const source *s, const fr_config *c) {
    int group = c->n_routed_experts / c->n_group;
    if (c->n_routed_experts % c->n_group)
        return fr_fail_at(s->error, FR_ERROR_FORMAT, key_of(s, "n_group").text, "%d groups do not divide n_routed_experts %d",
                          c->n_group, c->n_routed_experts);
    if (c->n_group > 1 && group < 2)
        return fr_fail_at(s->error, FR_ERROR_FORMAT, key_of(s, "n_group").text,
                          "%d groups of one expert; a group's score is the sum of its two best", c->n_group);
    if (c->topk_group > c->n_group)
        return fr_fail_at(s->error, FR_ERROR_FORMAT, key_of(s, "topk_group").text, "expected at most n_group %d, found %d",
                          c->n_group, c->topk_group);
    if (c->num_experts_per_tok > c->topk_group * group)
        return fr_fail_at(s->error, FR_ERROR_FORMAT, key_of(s, "num_experts_per_tok").text,
                          "expected at most the %d experts of %d groups, found %d", c->topk_group * group, c->topk_group,
                          c->num_experts_per_tok);
    return FR_OK;
}

static fr_status parse_experts(const source *s, fr_config *c) {
    FR_TRY(need(s, "intermediate_size", 1, MAX_WIDTH, &c->intermediate_size));
    FR_TRY(need(s, "moe_intermediate_size", 1, MAX_WIDTH, &c->moe_intermediate_size));
    FR_TRY(need(s, "n_routed_experts", 1, MAX_EXPERTS, &c->n_routed_experts));
    FR_TRY(need(s, "num_experts_per_tok", 1, MAX_EXPERTS, &c->num_experts_per_tok));
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(s->object, "n_shared_experts")))
        c->n_shared_experts = 0;
    else
        FR_TRY(say_int(s, "n_shared_experts", 0, MAX_SHARED, &c->n_shared_experts));
    FR_TRY(say_int(s, "n_group", 1, MAX_EXPERTS, &c->n_group));
    FR_TRY(say_int(s, "topk_group", 1, MAX_EXPERTS, &c->topk_group));
    FR_TRY(say_int(s, "first_k_dense_replace", 0, MAX_LAYERS, &c->first_k_dense_replace));
    FR_TRY(may_int(s, "moe_layer_freq", 1, MAX_LAYERS, &c->moe_layer_freq));
    FR_TRY(say_bool(s, "norm_topk_prob", &c->norm_topk_prob));
    FR_TRY(say_float(s, "routed_scaling_factor", 1e-6, 1e6, &c->routed_scaling_factor));
    return check_experts(s, c);
}

static fr_status parse_quantization(const source *s, fr_config *c) {
    char where[512];
    if (!fr_json_find(s->object, "quantization_config")) return FR_OK;
    snprintf(where, sizeof where, "%s: quantization_config", s->where);
    source q = {.where = where, .error = s->error};
    FR_TRY(fr_json_object(s->object, s->where, "quantization_config", &q.object, s->error));
    FR_TRY(fr_json_unique(q.object, where, s->error));
    const cJSON *method = fr_json_find(q.object, "quant_method"), *block = fr_json_find(q.object, "weight_block_size"), *item;
    if (!cJSON_IsString(method) || strcmp(method->valuestring, "fp8") != 0) return unsupported(&q, "quant_method", "\"fp8\"");
    FR_TRY(only_string(&q, "fmt", "e4m3"));
    bool blocks = cJSON_IsArray(block) && cJSON_GetArraySize(block) == 2;
    cJSON_ArrayForEach(item, block) {
        blocks = blocks && cJSON_IsNumber(item) && item->valuedouble == 128;
    }
    if (!blocks) return unsupported(&q, "weight_block_size", "[128, 128]");
    FR_TRY(only_string(&q, "activation_scheme", "dynamic"));
    FR_TRY(only_string(&q, "scale_fmt", "ue8m0"));
    c->fp8 = c->act_dynamic = true;
    c->act_ue8m0 = fr_json_find(q.object, "scale_fmt") != NULL;
    return FR_OK;
}

/* eos_token_id: one id, several, or null. */
static fr_status parse_eos(const source *s, fr_config *c) {
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(s->object, "eos_token_id");
    const cJSON *item = cJSON_IsArray(eos) ? eos->child : eos;
    int count = 0, ids[FR_MAX_EOS];
    if (cJSON_IsNull(eos)) item = NULL;
    for (; item; item = cJSON_IsArray(eos) ? item->next : NULL) {
        uint64_t id;
        char found[80];
        if (!fr_json_to_u64(item, &id))
            return fr_fail_at(s->error, FR_ERROR_FORMAT, key_of(s, "eos_token_id").text, "expected ids of tokens, found %s",
                              fr_json_describe(item, found, sizeof found));
        if (id >= (uint64_t)c->vocab_size) {
            fr_notices_add(s->notices, file_of(s), "eos_token_id %" PRIu64 " is beyond vocab_size %d, and no token: left out", id,
                           c->vocab_size);
            continue;
        }
        if (count == FR_MAX_EOS)
            return fr_fail_at(s->error, FR_ERROR_UNSUPPORTED, key_of(s, "eos_token_id").text, "%d ids, at most %d are supported",
                              cJSON_GetArraySize(eos), FR_MAX_EOS);
        ids[count++] = (int)id;
    }
    memcpy(c->eos_token_ids, ids, (size_t)count * sizeof *ids);
    c->num_eos_token_ids = count;
    return FR_OK;
}

static fr_status parse_tokens(const source *s, fr_config *c) {
    const cJSON *bos = cJSON_GetObjectItemCaseSensitive(s->object, "bos_token_id");
    c->bos_token_id = bos ? -1 : 0;
    if (bos && !cJSON_IsNull(bos)) FR_TRY(need(s, "bos_token_id", 0, c->vocab_size - 1, &c->bos_token_id));
    if (cJSON_GetObjectItemCaseSensitive(s->object, "eos_token_id")) return parse_eos(s, c);
    if (c->vocab_size > 1) c->eos_token_ids[c->num_eos_token_ids++] = 1;
    return FR_OK;
}

/* ---- Whole files ---- */

static fr_status parse_object(const source *s, fr_config *c) {
    const member *found;
    FR_TRY(fr_json_unique(s->object, s->where, s->error));
    FR_TRY(find_member(s, &found));
    *c = found->defaults;
    assert(c->n_group > 0 && c->moe_layer_freq > 0); /* divisors, which a file may leave out */
    FR_TRY(check_common(s));
    FR_TRY(parse_sizes(s, c));
    FR_TRY(parse_attention(s, c));
    FR_TRY(parse_rope(s, c));
    FR_TRY(parse_experts(s, c));
    FR_TRY(parse_quantization(s, c));
    FR_TRY(parse_tokens(s, c));
    if (s->assumed->length > 0)
        fr_notices_add(s->notices, file_of(s), "keys that are absent are taken as %s has them: %s", found->model_type,
                       s->assumed->text);
    return FR_OK;
}

fr_status fr_config_parse(const char *json, size_t length, const char *where, fr_config *out, fr_notices *notices,
                          fr_error *error) {
    cJSON *object = NULL;
    char found[80];
    fr_config config;
    memset(&config, 0, sizeof config);
    FR_TRY(fr_json_parse(json, length, where, &object, error));
    source s = {.object = object, .where = where, .assumed = &(assumed){.length = 0}, .notices = notices, .error = error};
    fr_status status = cJSON_IsObject(object) ? parse_object(&s, &config)
                                              : fr_fail_at(error, FR_ERROR_FORMAT, where, "expected a JSON object, found %s",
                                                           fr_json_describe(object, found, sizeof found));
    cJSON_Delete(object);
    if (status == FR_OK) *out = config;
    return status;
}

/* generation_config.json is optional. Only its eos_token_id is read. */
static fr_status load_generation(const char *dir, fr_config *config, fr_notices *notices, fr_error *error) {
    char *path = NULL;
    cJSON *object = NULL;
    if (asprintf(&path, "%s/generation_config.json", dir) < 0) return fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
    fr_status status = FR_OK;
    if (access(path, F_OK) == 0) {
        status = fr_json_load(path, MAX_CONFIG, &object, error);
        source s = {.object = object, .where = path, .notices = notices, .error = error};
        if (status == FR_OK && fr_json_find(object, "eos_token_id")) status = parse_eos(&s, config);
    }
    cJSON_Delete(object);
    free(path);
    return status;
}

fr_status fr_config_load(const char *dir, fr_config *out, fr_notices *notices, fr_error *error) {
    char *path = NULL, *text = NULL;
    size_t length;
    fr_config config;
    if (asprintf(&path, "%s/config.json", dir) < 0) return fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
    fr_status status = fr_read_file(path, MAX_CONFIG, &text, &length, error);
    if (status == FR_OK) status = fr_config_parse(text, length, path, &config, notices, error);
    if (status == FR_OK) status = load_generation(dir, &config, notices, error);
    if (status == FR_OK) *out = config;
    fr_free(text);
    free(path);
    return status;
}

bool fr_config_layer_is_moe(const fr_config *config, int layer) {
    return layer >= config->first_k_dense_replace && layer % config->moe_layer_freq == 0;
}

int fr_config_num_moe_layers(const fr_config *config) {
    int count = 0;
    for (int layer = 0; layer < config->num_hidden_layers; layer++) count += fr_config_layer_is_moe(config, layer);
    return count;
}

/* ---- A hash ---- */

_Static_assert(sizeof(fr_config) == 172, "a new field that changes results has to be hashed below");

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
        c->first_k_dense_replace,
        c->moe_layer_freq,
        c->norm_topk_prob,
        c->fp8,
        c->act_dynamic,
        c->act_ue8m0,
    };
    const float reals[] = {
        c->rms_norm_eps,   c->rope_theta,  c->yarn.factor,         c->yarn.beta_fast,
        c->yarn.beta_slow, c->yarn.mscale, c->yarn.mscale_all_dim, c->routed_scaling_factor,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) hash = fr_hash64_number(hash, (uint64_t)numbers[i]);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) hash = fr_hash64_number(hash, fr_f32_bits(reals[i]));
    return hash;
}
