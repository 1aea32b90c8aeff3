#include "reference/reference.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "npz.h"

void *ref_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fprintf(stderr, "reference: out of memory\n");
        abort();
    }
    return memory;
}

/* ---- Safetensors ---- */

typedef struct shard {
    char name[256];
    uint8_t *bytes;
    size_t size, data; /* data: where the header ends */
    cJSON *header;
} shard;

typedef struct loader {
    const char *dir;
    cJSON *map; /* name -> file; NULL: everything is in model.safetensors */
    shard *shards;
    int count;
    char *error;
    size_t error_size;
    bool failed; /* the first failure stays in error */
} loader;

static void fail(loader *l, const char *what, const char *detail) {
    if (!l->failed) snprintf(l->error, l->error_size, "%s: %s", what, detail);
    l->failed = true;
}

static cJSON *load_json(loader *l, const char *name, bool required) {
    char path[1024];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/%s", l->dir, name);
    char why[1100];
    uint8_t *text = read_whole_file(path, &size, why, sizeof why);
    cJSON *json = text ? cJSON_ParseWithLength((const char *)text, size) : NULL;
    if (!json && (required || text)) fail(l, "no JSON", path);
    free(text);
    return json;
}

static shard *open_shard(loader *l, const char *name) {
    for (int i = 0; i < l->count; i++) {
        if (strcmp(l->shards[i].name, name) == 0) return &l->shards[i];
    }
    shard s = {0};
    char path[1024], why[1100];
    snprintf(s.name, sizeof s.name, "%s", name);
    snprintf(path, sizeof path, "%s/%s", l->dir, name);
    s.bytes = read_whole_file(path, &s.size, why, sizeof why);
    if (s.bytes && s.size >= 8) {
        uint64_t length = 0;
        for (int i = 7; i >= 0; i--) length = length << 8 | s.bytes[i];
        if (length <= s.size - 8) s.header = cJSON_ParseWithLength((const char *)s.bytes + 8, (size_t)length);
        s.data = 8 + (size_t)length;
    }
    shard *grown = s.header ? realloc(l->shards, (size_t)(l->count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(s.bytes);
        cJSON_Delete(s.header);
        fail(l, "no safetensors file", path);
        return NULL;
    }
    l->shards = grown;
    l->shards[l->count] = s;
    return &l->shards[l->count++];
}

static void close_shards(loader *l) {
    for (int i = 0; i < l->count; i++) {
        free(l->shards[i].bytes);
        cJSON_Delete(l->shards[i].header);
    }
    free(l->shards);
    cJSON_Delete(l->map);
}

/* A tensor of `count` elements of `dtype` read as float (E4M3 decoded, not scaled); NULL when there is none of that
 * name. dtype_out (or NULL): what the file says. Any other disagreement is a failure. */
static float *load_tensor(loader *l, const char *name, size_t count, char dtype_out[16]) {
    const char *file = "model.safetensors";
    if (l->map) {
        const cJSON *entry = cJSON_GetObjectItemCaseSensitive(l->map, name);
        if (!cJSON_IsString(entry)) return NULL;
        file = entry->valuestring;
    }
    shard *s = open_shard(l, file);
    const cJSON *entry = s ? cJSON_GetObjectItemCaseSensitive(s->header, name) : NULL;
    if (!entry) return NULL;
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    const char *dtype = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "dtype"));
    double begin = cJSON_GetNumberValue(cJSON_GetArrayItem(offsets, 0));
    double end = cJSON_GetNumberValue(cJSON_GetArrayItem(offsets, 1));
    size_t width = !dtype ? 0 : !strcmp(dtype, "F32") ? 4 : !strcmp(dtype, "BF16") ? 2 : !strcmp(dtype, "F8_E4M3");
    if (width == 0 || !(begin >= 0 && begin <= end && end <= (double)(s->size - s->data)) ||
        end - begin != (double)(count * width)) {
        fail(l, "unexpected tensor", name);
        return NULL;
    }
    const uint8_t *at = s->bytes + s->data + (size_t)begin;
    float *values = ref_alloc(count, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        if (width == 4) memcpy(&values[i], at + 4 * i, 4);
        if (width == 2) {
            memcpy(&half, at + 2 * i, 2);
            values[i] = ref_bf16_decode(half);
        }
        if (width == 1) values[i] = ref_e4m3_decode(at[i]);
    }
    if (dtype_out) snprintf(dtype_out, 16, "%s", dtype);
    return values;
}

static float *load_vector(loader *l, const char *prefix, const char *name, int n) {
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    float *values = load_tensor(l, full, (size_t)n, NULL);
    if (!values) fail(l, "no tensor", full);
    return values;
}

static ref_linear load_linear(loader *l, const char *prefix, const char *name, int out, int in) {
    ref_linear linear = {.out = out, .in = in};
    char full[256], dtype[16] = "";
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    linear.w = load_tensor(l, full, (size_t)out * in, dtype);
    if (!linear.w) fail(l, "no tensor", full);
    if (strcmp(dtype, "F8_E4M3") == 0) {
        size_t blocks = (size_t)((out + REF_BLOCK - 1) / REF_BLOCK) * ((in + REF_BLOCK - 1) / REF_BLOCK);
        snprintf(full, sizeof full, "%s%s.weight_scale_inv", prefix, name);
        linear.scale = load_tensor(l, full, blocks, NULL);
        if (!linear.scale) fail(l, "no tensor", full);
    }
    return linear;
}

/* ---- Config ---- */

static double number(loader *l, const cJSON *json, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    if (!cJSON_IsNumber(item)) fail(l, "no number in config", key);
    return cJSON_IsNumber(item) ? item->valuedouble : 1;
}

static double yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* The dimension whose wavelength turns `rotations` times within the original length. */
static double yarn_dimension(double rotations, int dim, double base, double original) {
    return dim * log(original / (rotations * 2 * M_PI)) / (2 * log(base));
}

static void init_rope(loader *l, const cJSON *json, ref_model *m) {
    ref_rope *rope = &m->rotary;
    double base = number(l, json, "rope_theta");
    rope->dim = m->config.rope;
    rope->mscale = 1;
    rope->freq = ref_alloc((size_t)rope->dim / 2, sizeof *rope->freq);
    for (int i = 0; i < rope->dim / 2; i++) rope->freq[i] = (float)(1 / pow(base, 2.0 * i / rope->dim));
    m->config.softmax_scale = 1 / sqrt(m->config.nope + m->config.rope);

    const cJSON *yarn = cJSON_GetObjectItemCaseSensitive(json, "rope_scaling");
    if (!cJSON_IsObject(yarn)) return;
    double factor = number(l, yarn, "factor"), original = number(l, yarn, "original_max_position_embeddings");
    double low = floor(yarn_dimension(number(l, yarn, "beta_fast"), rope->dim, base, original));
    double high = ceil(yarn_dimension(number(l, yarn, "beta_slow"), rope->dim, base, original));
    low = fmax(low, 0);
    high = fmin(high, rope->dim - 1);
    if (low == high) high += 0.001;
    for (int i = 0; i < rope->dim / 2; i++) {
        /* 0: fast, kept as it is; 1: slow, stretched by the factor. */
        double ramp = fmin(1, fmax(0, (i - low) / (high - low)));
        rope->freq[i] = (float)(rope->freq[i] / factor * ramp + rope->freq[i] * (1 - ramp));
    }
    double all = yarn_mscale(factor, number(l, yarn, "mscale_all_dim"));
    rope->mscale = yarn_mscale(factor, number(l, yarn, "mscale")) / all;
    m->config.softmax_scale *= all * all;
}

static void load_config(loader *l, ref_model *m) {
    cJSON *json = load_json(l, "config.json", true);
    if (!json) return;
    ref_config *c = &m->config;
    const struct {
        int *to;
        const char *key;
    } ints[] = {
        {&c->hidden, "hidden_size"},
        {&c->vocab, "vocab_size"},
        {&c->layers, "num_hidden_layers"},
        {&c->mtp_layers, "num_nextn_predict_layers"},
        {&c->heads, "num_attention_heads"},
        {&c->kv_lora, "kv_lora_rank"},
        {&c->nope, "qk_nope_head_dim"},
        {&c->rope, "qk_rope_head_dim"},
        {&c->v_head, "v_head_dim"},
        {&c->dense_width, "intermediate_size"},
        {&c->moe_width, "moe_intermediate_size"},
        {&c->shared_experts, "n_shared_experts"},
        {&c->first_dense, "first_k_dense_replace"},
        {&c->router.experts, "n_routed_experts"},
        {&c->router.groups, "n_group"},
        {&c->router.kept_groups, "topk_group"},
        {&c->router.top_k, "num_experts_per_tok"},
    };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) *ints[i].to = (int)number(l, json, ints[i].key);
    const cJSON *q_lora = cJSON_GetObjectItemCaseSensitive(json, "q_lora_rank");
    c->q_lora = cJSON_IsNumber(q_lora) ? q_lora->valueint : 0;
    c->eps = number(l, json, "rms_norm_eps");
    c->router.scaling = number(l, json, "routed_scaling_factor");
    c->router.normalize = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "norm_topk_prob"));
    const cJSON *quantization = cJSON_GetObjectItemCaseSensitive(json, "quantization_config");
    const char *format = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(quantization, "scale_fmt"));
    c->ue8m0 = format && strcmp(format, "ue8m0") == 0;
    init_rope(l, json, m);
    cJSON_Delete(json);
}

/* ---- Model ---- */

static ref_mlp load_mlp(loader *l, const char *prefix, int width, int hidden) {
    return (ref_mlp){.gate = load_linear(l, prefix, "gate_proj", width, hidden),
                     .up = load_linear(l, prefix, "up_proj", width, hidden),
                     .down = load_linear(l, prefix, "down_proj", hidden, width)};
}

static void load_layer(loader *l, const ref_config *c, int id, ref_layer *layer) {
    char at[128], deep[192];
    snprintf(at, sizeof at, "model.layers.%d.", id);
    layer->input_norm = load_vector(l, at, "input_layernorm.weight", c->hidden);
    layer->post_norm = load_vector(l, at, "post_attention_layernorm.weight", c->hidden);
    snprintf(deep, sizeof deep, "%sself_attn.", at);
    int q_out = c->heads * (c->nope + c->rope);
    if (c->q_lora > 0) {
        layer->q_a = load_linear(l, deep, "q_a_proj", c->q_lora, c->hidden);
        layer->q_a_norm = load_vector(l, deep, "q_a_layernorm.weight", c->q_lora);
        layer->q_b = load_linear(l, deep, "q_b_proj", q_out, c->q_lora);
    } else {
        layer->q_b = load_linear(l, deep, "q_proj", q_out, c->hidden);
    }
    layer->kv_a = load_linear(l, deep, "kv_a_proj_with_mqa", c->kv_lora + c->rope, c->hidden);
    layer->kv_a_norm = load_vector(l, deep, "kv_a_layernorm.weight", c->kv_lora);
    layer->kv_b = load_linear(l, deep, "kv_b_proj", c->heads * (c->nope + c->v_head), c->kv_lora);
    layer->o = load_linear(l, deep, "o_proj", c->hidden, c->heads * c->v_head);
    snprintf(deep, sizeof deep, "%smlp.", at);
    layer->moe = id >= c->first_dense;
    if (!layer->moe) {
        layer->dense = load_mlp(l, deep, c->dense_width, c->hidden);
        return;
    }
    layer->router = load_linear(l, deep, "gate", c->router.experts, c->hidden);
    layer->router_bias = load_vector(l, deep, "gate.e_score_correction_bias", c->router.experts);
    layer->experts = ref_alloc((size_t)c->router.experts, sizeof *layer->experts);
    for (int e = 0; e < c->router.experts; e++) {
        snprintf(deep, sizeof deep, "%smlp.experts.%d.", at, e);
        layer->experts[e] = load_mlp(l, deep, c->moe_width, c->hidden);
    }
    snprintf(deep, sizeof deep, "%smlp.shared_experts.", at);
    if (c->shared_experts > 0) layer->shared = load_mlp(l, deep, c->moe_width * c->shared_experts, c->hidden);
}

ref_model *ref_model_open(const char *dir, char *error, size_t error_size) {
    loader l = {.dir = dir, .error = error, .error_size = error_size};
    ref_model *m = ref_alloc(1, sizeof *m);
    load_config(&l, m);
    cJSON *index = load_json(&l, "model.safetensors.index.json", false);
    l.map = cJSON_DetachItemFromObjectCaseSensitive(index, "weight_map");
    cJSON_Delete(index);
    const ref_config *c = &m->config;
    if (!l.failed) {
        m->embed = load_linear(&l, "model.", "embed_tokens", c->vocab, c->hidden);
        m->head = load_linear(&l, "", "lm_head", c->vocab, c->hidden);
        m->norm = load_vector(&l, "model.", "norm.weight", c->hidden);
        m->layers = ref_alloc((size_t)(c->layers + c->mtp_layers), sizeof *m->layers);
    }
    for (int i = 0; !l.failed && i < c->layers + c->mtp_layers; i++) load_layer(&l, c, i, &m->layers[i]);
    if (!l.failed && c->mtp_layers > 0) {
        char at[64];
        snprintf(at, sizeof at, "model.layers.%d.", c->layers);
        m->mtp.enorm = load_vector(&l, at, "enorm.weight", c->hidden);
        m->mtp.hnorm = load_vector(&l, at, "hnorm.weight", c->hidden);
        m->mtp.norm = load_vector(&l, at, "shared_head.norm.weight", c->hidden);
        m->mtp.eh = load_linear(&l, at, "eh_proj", c->hidden, 2 * c->hidden);
    }
    close_shards(&l);
    if (!l.failed) return m;
    ref_model_destroy(m);
    return NULL;
}

static void release_linear(ref_linear *linear) {
    free(linear->w);
    free(linear->scale);
}

static void release_mlp(ref_mlp *mlp) {
    release_linear(&mlp->gate);
    release_linear(&mlp->up);
    release_linear(&mlp->down);
}

static void release_layer(const ref_config *c, ref_layer *layer) {
    float *vectors[] = {layer->input_norm, layer->post_norm, layer->q_a_norm, layer->kv_a_norm, layer->router_bias};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) free(vectors[i]);
    ref_linear *linears[] = {&layer->q_a, &layer->q_b, &layer->kv_a, &layer->kv_b, &layer->o, &layer->router};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) release_linear(linears[i]);
    release_mlp(&layer->dense);
    release_mlp(&layer->shared);
    for (int e = 0; layer->experts && e < c->router.experts; e++) release_mlp(&layer->experts[e]);
    free(layer->experts);
}

void ref_model_destroy(ref_model *m) {
    if (!m) return;
    for (int i = 0; m->layers && i < m->config.layers + m->config.mtp_layers; i++) {
        release_layer(&m->config, &m->layers[i]);
    }
    free(m->layers);
    release_linear(&m->embed);
    release_linear(&m->head);
    release_linear(&m->mtp.eh);
    free(m->norm);
    free(m->mtp.enorm);
    free(m->mtp.hnorm);
    free(m->mtp.norm);
    free(m->rotary.freq);
    free(m);
}
