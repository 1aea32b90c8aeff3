/* Writes checkpoints with random weights, for any config, in the format of the original.
 *
 * Weights have a standard deviation of 1/sqrt(in), so that a projection neither grows nor shrinks what is normalized
 * before it, and norms are about 1: a forward pass stays finite through any number of layers. Router gates are drawn
 * like all else, independent and centred, so that no expert is preferred; the correction biases are too small to change
 * that, unless they are asked to.
 *
 * Word i of a tensor's data is made of random word i of the tensor's own stream: bytes depend neither on threads nor on other
 * tensors. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/checkpoint/checksum.h"
#include "forerun_checkpoint.h"
#include "model/convert/config_edit.h"
#include "model/schema.h"
#include "text/tokenizer.h"

#define E4M3_MAX 448.0
#define NORM_SPREAD 0.1   /* of norm weights around 1 */
#define BIAS_SPREAD 0.01  /* of correction biases around 0; scores are sigmoids */
#define SCALE_SPREAD 0.25 /* width of the range of a tensor's block scales, relative to their mean */

/* Standard deviation of the sum of two random bytes: sqrt(2 * (256^2 - 1) / 12). */
#define BYTES_SPREAD 104.5107650

typedef struct synth {
    const fr_synth_options *options;
    fr_config config;
    fr_notices notices;
    bool fp8;
    fr_writer *writer;
    uint64_t done, total; /* tensors */
    fr_error *error;
} synth;

/* ---- Random words ---- */

/* The finalizer of splitmix64, a bijection whose output bits all depend on all input bits. */
static inline uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t word(uint64_t key, uint64_t i) {
    return mix(key + (i + 1) * 0x9e3779b97f4a7c15u);
}

static uint64_t make_key(uint64_t seed, const char *name) {
    return mix(fr_hash64(FR_HASH64_START, name, strlen(name)) ^ mix(seed + 0x9e3779b97f4a7c15u));
}

/* ---- Values ---- */

/* One stream with what turns its words into values. */
typedef struct stream {
    uint64_t key;
    double centre, spread; /* mean, and standard deviation (of scales: width of the range) */
    uint8_t codes[256];    /* E4M3 by random byte */
    uint16_t bells[511];   /* BF16 by sum of two random bytes */
} stream;

/* Codes for random bytes: quantiles of the triangular distribution on [-limit, limit], which needs nothing of libm but
 * a square root, correctly rounded everywhere. Returns the standard deviation of what the codes stand for. */
static double make_codes(uint8_t codes[256], double limit) {
    double squares = 0;
    for (int i = 0; i < 128; i++) {
        double quantile = 1 - sqrt((2 * i + 1) / 256.0);
        uint8_t code = fr_f32_e4m3((float)(limit * quantile));
        codes[128 + (127 - i)] = code;
        codes[i] = code | 0x80;
        squares += 2.0 * fr_e4m3_f32(code) * fr_e4m3_f32(code);
    }
    return sqrt(squares / 256);
}

/* Writes a word, or of the last one what is left of the data. */
static inline void put_word(const uint8_t made[8], size_t at, size_t bytes, void *out) {
    if (bytes - at >= 8)
        memcpy((uint8_t *)out + at, made, 8);
    else
        memcpy((uint8_t *)out + at, made, bytes - at);
}

static void fill_e4m3(void *user, uint64_t offset, size_t bytes, void *out) {
    const stream *s = user;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t random = word(s->key, (offset + at) / 8);
        uint8_t made[8];
        for (int k = 0; k < 8; k++) made[k] = s->codes[random >> (8 * k) & 0xff];
        put_word(made, at, bytes, out);
    }
}

/* A bell: the sum of two random bytes, 0 to 510. */
static inline unsigned bell(uint64_t random) {
    return (unsigned)(random & 0xff) + (unsigned)(random >> 8 & 0xff);
}

static inline float bell_value(const stream *s, unsigned sum) {
    return (float)(s->centre + ((int)sum - 255) * (s->spread / BYTES_SPREAD));
}

static void make_bells(stream *s) {
    for (unsigned sum = 0; sum < 511; sum++) s->bells[sum] = fr_f32_bf16(bell_value(s, sum));
}

static void fill_bf16(void *user, uint64_t offset, size_t bytes, void *out) {
    const stream *s = user;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t random = word(s->key, (offset + at) / 8);
        uint8_t made[8];
        for (int k = 0; k < 4; k++) memcpy(made + 2 * k, &s->bells[bell(random >> (16 * k))], 2);
        put_word(made, at, bytes, out);
    }
}

static void fill_f32(void *user, uint64_t offset, size_t bytes, void *out) {
    const stream *s = user;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t random = word(s->key, (offset + at) / 8);
        float values[2] = {bell_value(s, bell(random)), bell_value(s, bell(random >> 32))};
        uint8_t made[8];
        memcpy(made, values, sizeof made);
        put_word(made, at, bytes, out);
    }
}

/* Evenly distributed in a range around the centre. */
static void fill_scales(void *user, uint64_t offset, size_t bytes, void *out) {
    const stream *s = user;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t random = word(s->key, (offset + at) / 8);
        float values[2];
        uint8_t made[8];
        for (int k = 0; k < 2; k++)
            values[k] = (float)(s->centre * (1 + s->spread * ((double)(uint32_t)(random >> (32 * k)) * 0x1p-32 - 0.5)));
        memcpy(made, values, sizeof made);
        put_word(made, at, bytes, out);
    }
}

/* ---- Tensors ---- */

/* A tied LM head is not stored. The MTP modules' copies are, unless no_mtp_copies is set. */
static bool is_written(const synth *s, const fr_schema_tensor *t) {
    return !t->optional || (t->mtp && !s->options->no_mtp_copies);
}

static fr_status announce(void *user, const fr_schema_tensor *t) {
    synth *s = user;
    char scale[256];
    int64_t shape[2];
    if (!is_written(s, t)) return FR_OK;
    FR_TRY(fr_writer_add(s->writer, t->name, t->dtype, t->rank, t->shape, false, s->error));
    s->total++;
    if (t->dtype != FR_F8_E4M3) return FR_OK;
    if (!fr_schema_scale(t, scale, sizeof scale, shape))
        return fr_fail_at(s->error, FR_ERROR_ARGUMENT, fr_place_of("tensor %.200s", t->name).text, "its name is too long");
    s->total++;
    return fr_writer_add(s->writer, scale, FR_F32, 2, shape, true, s->error);
}

/* Codes and scales of a deviation of 1/sqrt(in). Scales of the ue8m0 kind are powers of two; there the codes' range
 * makes up the difference. */
static fr_status fill_linear(synth *s, const fr_schema_tensor *t, stream *codes) {
    char name[256];
    int64_t shape[2];
    double deviation = 1 / sqrt((double)t->shape[1]);
    stream scales = {.spread = SCALE_SPREAD};
    if (s->config.act_ue8m0) {
        int exponent;
        double fraction = frexp(deviation * sqrt(6.0) / E4M3_MAX, &exponent); /* in [1/2, 1) */
        make_codes(codes->codes, E4M3_MAX * fraction);
        scales.centre = ldexp(1, exponent);
        scales.spread = 0;
    } else {
        scales.centre = deviation / make_codes(codes->codes, E4M3_MAX);
    }
    fr_schema_scale(t, name, sizeof name, shape);
    scales.key = make_key(s->options->seed, name);
    FR_TRY(fr_writer_fill(s->writer, 8, fill_e4m3, codes, s->error));
    return fr_writer_fill(s->writer, 8, fill_scales, &scales, s->error);
}

static fr_status make(void *user, const fr_schema_tensor *t) {
    synth *s = user;
    const fr_synth_options *o = s->options;
    if (!is_written(s, t)) return FR_OK;
    if (o->progress && !o->progress(o->user, "writing tensors", s->done, s->total))
        return fr_fail(s->error, FR_INTERRUPTED, "synth: interrupted");
    stream st = {.key = make_key(o->seed, t->optional ? fr_schema_original(&s->config, t) : t->name)};
    bool linear = t->dtype == FR_F8_E4M3;
    s->done += linear ? 2 : 1;
    if (linear) return fill_linear(s, t, &st);
    st.spread = t->row->part == FR_PART_EMBEDDING ? 1 : 1 / sqrt((double)t->shape[1]);
    if (t->row->kind == FR_SCHEMA_BIAS || t->row->kind == FR_SCHEMA_SHIFT) {
        bool skewed = t->row->kind == FR_SCHEMA_BIAS && o->expert_skew > 0.0;
        st.spread = skewed ? o->expert_skew : BIAS_SPREAD;
    } else if (t->rank == 1) {
        st.centre = 1;
        st.spread = NORM_SPREAD;
    }
    if (t->dtype == FR_F32) return fr_writer_fill(s->writer, 8, fill_f32, &st, s->error);
    make_bells(&st);
    return fr_writer_fill(s->writer, 8, fill_bf16, &st, s->error);
}

/* ---- The config ---- */

/* Fewer layers leave at least one with experts, if there were any. */
static fr_status override_layers(synth *s, cJSON *json) {
    int layers = s->options->layers, dense = 0;
    cJSON *types = cJSON_GetObjectItemCaseSensitive(json, "mlp_layer_types");
    FR_TRY(fr_config_edit_layers(json, layers, s->error));
    while (dense < s->config.num_hidden_layers && !fr_config_layer_is_moe(&s->config, dense)) dense++;
    if (fr_config_num_moe_layers(&s->config) == 0 || dense < layers) return FR_OK;
    if (cJSON_IsArray(types) && !cJSON_ReplaceItemInArray(types, layers - 1, cJSON_CreateString("sparse")))
        return fr_fail_at(s->error, FR_ERROR_MEMORY, "mlp_layer_types", "no memory to change it");
    return fr_config_edit_number(json, "first_k_dense_replace", layers - 1, s->error);
}

/* Fewer experts need fewer groups, of at least two experts, and may offer fewer experts to a token. */
static fr_status override_experts(synth *s, cJSON *json) {
    const fr_config *c = &s->config;
    int experts = s->options->experts, groups = c->n_group;
    while (groups > 1 && (experts % groups || experts / groups < 2)) groups--;
    int kept = c->topk_group < groups ? c->topk_group : groups, offered = kept * (experts / groups);
    FR_TRY(fr_config_edit_number(json, "n_routed_experts", experts, s->error));
    if (groups != c->n_group) FR_TRY(fr_config_edit_number(json, "n_group", groups, s->error));
    if (kept != c->topk_group) FR_TRY(fr_config_edit_number(json, "topk_group", kept, s->error));
    if (c->num_experts_per_tok > offered) FR_TRY(fr_config_edit_number(json, "num_experts_per_tok", offered, s->error));
    return FR_OK;
}

/* Where a config is that was given as a file, or as the directory that it is in. */
static fr_place file_of(const char *config) {
    struct stat info;
    bool directory = stat(config, &info) == 0 && S_ISDIR(info.st_mode);
    return fr_place_of(directory ? "%s/config.json" : "%s", config);
}

static fr_status override(synth *s, const char *path, cJSON *json) {
    const fr_synth_options *o = s->options;
    FR_TRY(fr_config_edit_parse(json, path, &s->config, NULL, s->error));
    s->fp8 = o->dtype == FR_PRECISION_FP8 || (o->dtype == FR_PRECISION_AUTO && s->config.fp8);
    if (o->layers > 0) FR_TRY(override_layers(s, json));
    if (o->experts > 0) FR_TRY(override_experts(s, json));
    FR_TRY(fr_config_edit_fp8(json, s->fp8, s->error));
    for (size_t i = 0; i < o->num_set; i++) FR_TRY(fr_config_edit_assign(json, o->set[i], s->error));
    return fr_config_edit_parse(json, path, &s->config, &s->notices, s->error);
}

static fr_status write_generation(synth *s) {
    static const char key[] = ",\n  \"eos_token_id\": ", key_of_list[] = ",\n  \"eos_token_id\": [";
    const fr_config *c = &s->config;
    bool several = c->num_eos_token_ids > 1;
    char text[512];
    int used = snprintf(text, sizeof text, "{\n  \"_from_model_config\": true");
    if (c->bos_token_id >= 0)
        used += snprintf(text + used, sizeof text - (size_t)used, ",\n  \"bos_token_id\": %d", c->bos_token_id);
    for (int i = 0; i < c->num_eos_token_ids; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%d",
                         i         ? ", "
                         : several ? key_of_list
                                   : key,
                         c->eos_token_ids[i]);
    used += snprintf(text + used, sizeof text - (size_t)used, "%s\n}\n", several ? "]" : "");
    return fr_writer_file(s->writer, "generation_config.json", text, (size_t)used, s->error);
}

/* ---- All of it ---- */

static fr_status write_files(synth *s, const cJSON *json) {
    const char *tokenizer = s->options->tokenizer;
    FR_TRY(fr_config_edit_write(json, s->writer, s->error));
    FR_TRY(write_generation(s));
    if (!tokenizer) return FR_OK;
    if (!fr_tokenizer_present(tokenizer)) return fr_writer_copy(s->writer, tokenizer, "tokenizer.json", s->error);
    const char *name;
    for (int i = 0; (name = fr_tokenizer_file(tokenizer, i)); i++) FR_TRY(fr_writer_copy(s->writer, tokenizer, name, s->error));
    return FR_OK;
}

static fr_status write_checkpoint(synth *s, const char *dir, const cJSON *json, fr_writer_totals *totals) {
    const fr_synth_options *o = s->options;
    fr_writer_options options = {.shard_bytes = o->shard_bytes, .sparse = o->sparse, .force = o->force, .threads = o->threads};
    FR_TRY(fr_writer_create(dir, &options, &s->writer, s->error));
    FR_TRY(fr_schema_each(&s->config, announce, s));
    FR_TRY(fr_writer_start(s->writer, s->error));
    FR_TRY(write_files(s, json));
    if (!o->sparse) FR_TRY(fr_schema_each(&s->config, make, s));
    return fr_writer_finish(s->writer, totals, s->error);
}

fr_status fr_synth(const char *config, const char *dir, const fr_synth_options *options, fr_written *out, fr_error *error) {
    static const fr_synth_options defaults;
    synth s = {.options = options ? options : &defaults, .error = error};
    fr_writer_totals totals;
    cJSON *json = NULL;
    FR_TRY(fr_config_edit_load(config, &json, error));
    fr_status status = override(&s, file_of(config).text, json);
    if (status == FR_OK) fr_notices_tell(&s.notices, s.options->notice, s.options->user);
    if (status == FR_OK) status = write_checkpoint(&s, dir, json, &totals);
    if (status == FR_OK && out)
        *out = (fr_written){.tensors = totals.tensors,
                            .tensor_bytes = totals.tensor_bytes,
                            .files = totals.shards,
                            .apparent_bytes = totals.shard_bytes};
    fr_writer_destroy(s.writer);
    cJSON_Delete(json);
    return status;
}
