#include "goldens.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

const golden_case golden_cases[GOLDEN_ALL] = {
    {"pico-s1", {1, 7, 70}},        {"pico-yarn-s1", {1, 7, 70}},  {"pico-noqlora-s1", {1, 7, 70}},   {"pico-mtp-s1", {1, 7, 70}},
    {"nano-mtp-s1", {7, 70, 200}},  {"pico-gigachat", {1, 7, 70}}, {"pico-gigachat-fp8", {1, 7, 70}}, {"pico-joyai", {1, 7, 70}},
    {"pico-glm-flash", {1, 7, 70}}, {"pico-alldense", {1, 7, 70}}, {"pico-noexperts", {1, 7, 70}},    {"pico-kimi", {1, 7, 70}},
    {"pico-v32", {7, 70, 200}},     {"pico-glm5", {1, 7, 70}},     {"pico-glm52", {7, 70, 200}},
};

bool golden_exists(int length, golden_mode mode) {
    return mode == GOLDEN_F32 || length <= 70;
}

void golden_model_dir(const char *model, char *out, size_t size) {
    snprintf(out, size, "%s/golden/%s", FR_TEST_DIR, model);
}

static const float *get_f32(const golden *g, const char *name, int rank, const long *shape) {
    const float *data = npy_f32(npz_find(&g->archive, name), rank, shape);
    if (!data) fail_msg("%s: no float32 array %s of the expected shape", g->label, name);
    return data;
}

static const int32_t *get_i32(const golden *g, const char *name, int rank, const long *shape) {
    const int32_t *data = npy_i32(npz_find(&g->archive, name), rank, shape);
    if (!data) fail_msg("%s: no int32 array %s of the expected shape", g->label, name);
    return data;
}

static void bind_index(golden *g) {
    const npy_array *idx = npz_find(&g->archive, "index_idx");
    if (!idx) return;
    long layers = g->index_layers = (int)idx->shape[0], n = g->length, topk = g->index_topk = (int)idx->shape[2];
    g->index_layer = get_i32(g, "index_layers", 1, (long[]){layers});
    g->index_idx = get_i32(g, "index_idx", 3, (long[]){layers, n, topk});
    g->index_margin = get_f32(g, "index_margin", 2, (long[]){layers, n});
    g->mtp_index_idx = get_i32(g, "mtp_index_idx", 2, (long[]){n, topk});
    g->mtp_index_margin = get_f32(g, "mtp_index_margin", 1, (long[]){n});
}

static void bind_arrays(golden *g) {
    const npy_array *logits = npz_find(&g->archive, "logits"), *layers = npz_find(&g->archive, "layer_out");
    const npy_array *idx = npz_find(&g->archive, "router_idx"), *hidden = npz_find(&g->archive, "hidden");
    if (!logits || logits->rank != 2 || !hidden || hidden->rank != 2 || !idx || idx->rank != 3)
        fail_msg("%s: arrays are missing", g->label);
    g->vocab = (int)logits->shape[1];
    g->layers = layers && layers->rank == 3 ? (int)layers->shape[0] : 0;
    g->hidden_size = (int)hidden->shape[1];
    g->moe_layers = (int)idx->shape[0];
    g->top_k = (int)idx->shape[2];
    long n = g->length, v = g->vocab, h = g->hidden_size, k = g->top_k, m = g->moe_layers;
    g->tokens = get_i32(g, "tokens", 1, (long[]){n});
    g->logits = get_f32(g, "logits", 2, (long[]){n, v});
    g->hidden = get_f32(g, "hidden", 2, (long[]){n, h});
    if (layers) g->hidden_prenorm = get_f32(g, "hidden_prenorm", 2, (long[]){n, h});
    if (layers) g->layer_out = get_f32(g, "layer_out", 3, (long[]){g->layers, n, h});
    g->router_idx = get_i32(g, "router_idx", 3, (long[]){m, n, k});
    g->router_w = get_f32(g, "router_w", 3, (long[]){m, n, k});
    g->router_margin = get_f32(g, "router_margin", 2, (long[]){m, n});
    bind_index(g);
    g->has_mtp = npz_find(&g->archive, "mtp_logits");
    if (!g->has_mtp) return;
    g->mtp_logits = get_f32(g, "mtp_logits", 2, (long[]){n, v});
    g->mtp_hidden = get_f32(g, "mtp_hidden", 2, (long[]){n, h});
    if (!npz_find(&g->archive, "mtp_router_idx")) return;
    g->mtp_router_idx = get_i32(g, "mtp_router_idx", 2, (long[]){n, k});
    g->mtp_router_w = get_f32(g, "mtp_router_w", 2, (long[]){n, k});
}

static double *get_numbers(const golden *g, const cJSON *json, const char *key, int count) {
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(json, key), *item;
    double *values = calloc((size_t)count, sizeof *values);
    int i = 0;
    if (!values || cJSON_GetArraySize(array) != count) fail_msg("%s: no %d numbers %s", g->label, count, key);
    cJSON_ArrayForEach(item, array) values[i++] = cJSON_GetNumberValue(item);
    return values;
}

/* False when there is none. */
static bool read_chain(const golden *g, const cJSON *json, const char *key, golden_chain *out) {
    const cJSON *chain = cJSON_GetObjectItemCaseSensitive(json, key);
    if (!chain) return false;
    double *drafts = get_numbers(g, chain, "drafts", GOLDEN_CHAIN), *margin = get_numbers(g, chain, "margin", GOLDEN_CHAIN);
    for (int i = 0; i < GOLDEN_CHAIN; i++) {
        out->drafts[i] = (int32_t)drafts[i];
        out->margin[i] = margin[i];
    }
    free(drafts);
    free(margin);
    return true;
}

static void read_json(golden *g, const char *path) {
    char error[640];
    size_t size;
    uint8_t *text = read_whole_file(path, &size, error, sizeof error);
    cJSON *json = text ? cJSON_ParseWithLength((const char *)text, size) : NULL;
    if (!json) fail_msg("%s: no JSON in %s", g->label, path);
    double *greedy = get_numbers(g, json, "greedy", GOLDEN_GREEDY);
    double *margin = get_numbers(g, json, "greedy_margin", GOLDEN_GREEDY);
    for (int i = 0; i < GOLDEN_GREEDY; i++) {
        g->greedy[i] = (int32_t)greedy[i];
        g->greedy_margin[i] = margin[i];
    }
    if (g->mtp_router_idx) g->mtp_router_margin = get_numbers(g, json, "mtp_router_margin", g->length);
    g->has_chain = read_chain(g, json, "mtp_chain", &g->chain);
    if (g->index_idx && !read_chain(g, json, "mtp_chain_shared", &g->chain_shared)) fail_msg("%s: no shared chain", g->label);
    const cJSON *spec = cJSON_GetObjectItemCaseSensitive(json, "spec1");
    g->spec_drafted = (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(spec, "drafted"));
    g->spec_accepted = (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(spec, "accepted"));
    const cJSON *noise = cJSON_GetObjectItemCaseSensitive(json, "noise_1e6");
    g->noise = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(noise, "max_abs_logit"));
    if (!isfinite(g->noise)) fail_msg("%s: no noise_1e6", g->label);
    free(greedy);
    free(margin);
    free(text);
    cJSON_Delete(json);
}

void golden_load(const char *model, int length, golden_mode mode, golden *out) {
    const char *name = mode == GOLDEN_F32 ? "f32" : "w8a8-absorb";
    char path[640], error[800];
    memset(out, 0, sizeof *out);
    out->length = length;
    golden_model_dir(model, out->dir, sizeof out->dir);
    snprintf(out->label, sizeof out->label, "%s L%d %s", model, length, name);
    snprintf(path, sizeof path, "%s/golden/L%d-%s.npz", out->dir, length, name);
    if (!npz_load(path, &out->archive, error, sizeof error)) fail_msg("%s: %s", path, error);
    bind_arrays(out);
    snprintf(path, sizeof path, "%s/golden/L%d-%s.json", out->dir, length, name);
    read_json(out, path);
}

void golden_release(golden *g) {
    npz_release(&g->archive);
    free(g->mtp_router_margin);
    memset(g, 0, sizeof *g);
}

int32_t *golden_text(const golden *g) {
    int32_t *text = calloc((size_t)(g->length + GOLDEN_GREEDY), sizeof *text);
    assert_non_null(text);
    memcpy(text, g->tokens, (size_t)g->length * sizeof *text);
    memcpy(text + g->length, g->greedy, sizeof g->greedy);
    return text;
}

double max_abs(const float *x, size_t n) {
    double max = 0;
    for (size_t i = 0; i < n; i++) max = fmax(max, fabs((double)x[i]));
    return max;
}

double max_abs_diff(const float *a, const float *b, size_t n) {
    double max = 0;
    for (size_t i = 0; i < n; i++) {
        double diff = fabs((double)a[i] - b[i]);
        if (isnan(diff)) return INFINITY;
        max = fmax(max, diff);
    }
    return max;
}

double rms_diff(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return n ? sqrt(sum / (double)n) : 0;
}
