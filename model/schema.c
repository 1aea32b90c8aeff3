#include "model/schema.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LAYERS "model.layers."
#define SCALE "_scale_inv" /* what a weight's scales are called, behind its name */

enum { MAX_NAME = 192 }; /* with its NUL; the longest is less than half of it */

static bool is_vector(fr_schema_kind kind) {
    return kind == FR_SCHEMA_VECTOR || kind == FR_SCHEMA_SHIFT || kind == FR_SCHEMA_BIAS;
}

/* ---- The walk ---- */

typedef struct walk {
    const fr_config *config;
    fr_schema_fn fn;
    void *user;
    int layer, expert; /* where the walk is; -1: outside */
    char prefix[32];   /* "model.layers.3.", or "" */
    char number[16];   /* the expert's */
    size_t prefix_length, number_length;
} walk;

static char *put(char *to, const char *text, size_t length) {
    memcpy(to, text, length);
    return to + length;
}

/* Writes prefix + the row's name, with the expert's number in the place of its star. A large network has tens of thousands. */
static void make_name(const walk *w, const fr_schema_row *row, char name[MAX_NAME]) {
    size_t length = strlen(row->name), star = strcspn(row->name, "*");
    assert(w->prefix_length + length + w->number_length < MAX_NAME);
    name = put(name, w->prefix, w->prefix_length);
    name = put(name, row->name, star);
    if (star < length) {
        name = put(name, w->number, w->number_length);
        star++;
    }
    put(name, row->name + star, length - star + 1);
}

static fr_dtype original_dtype(const fr_config *c, fr_schema_kind kind) {
    if (kind == FR_SCHEMA_LINEAR) return c->fp8 ? FR_F8_E4M3 : FR_BF16;
    bool f32 = kind == FR_SCHEMA_BIAS || (is_vector(kind) && c->norms_f32);
    return f32 ? FR_F32 : FR_BF16;
}

static fr_status emit(const walk *w, const fr_schema_row *row) {
    char name[MAX_NAME];
    const fr_config *c = w->config;
    fr_presence presence = row->when(c, w->layer);
    if (presence == FR_ABSENT) return FR_OK;
    make_name(w, row, name);
    return w->fn(w->user, &(fr_schema_tensor){.row = row,
                                              .name = name,
                                              .rank = is_vector(row->kind) ? 1 : 2,
                                              .shape = {row->out(c), row->in(c)},
                                              .dtype = original_dtype(c, row->kind),
                                              .layer = w->layer,
                                              .expert = w->expert,
                                              .mtp = w->layer >= c->num_hidden_layers,
                                              .optional = presence == FR_OPTIONAL,
                                              .heads = c->num_attention_heads});
}

/* All tensors of one expert before those of the next. */
static fr_status emit_experts(walk *w, const fr_schema_row *begin, const fr_schema_row *end) {
    fr_status status = FR_OK;
    for (w->expert = 0; w->expert < w->config->n_routed_experts; w->expert++) {
        w->number_length = (size_t)snprintf(w->number, sizeof w->number, "%d", w->expert);
        for (const fr_schema_row *row = begin; row < end && status == FR_OK; row++) status = emit(w, row);
    }
    w->expert = -1;
    return status;
}

/* The rows [row, end) of these scopes, a mask. */
static fr_status emit_rows(walk *w, const fr_schema_row *row, const fr_schema_row *end, unsigned scopes) {
    while (row < end) {
        const fr_schema_row *first = row++;
        if (!(scopes >> first->scope & 1)) continue;
        if (first->scope != FR_SCOPE_EXPERT) {
            FR_TRY(emit(w, first));
            continue;
        }
        while (row < end && row->scope == FR_SCOPE_EXPERT) row++;
        FR_TRY(emit_experts(w, first, row));
    }
    return FR_OK;
}

static fr_status emit_layer(walk *w, int layer, const fr_schema_row *row, const fr_schema_row *end, unsigned scopes) {
    w->layer = layer;
    w->prefix_length = (size_t)snprintf(w->prefix, sizeof w->prefix, LAYERS "%d.", layer);
    fr_status status = emit_rows(w, row, end, scopes);
    w->layer = -1;
    w->prefix_length = 0;
    return status;
}

fr_status fr_schema_each(const fr_config *config, fr_schema_fn fn, void *user) {
    enum { MODEL = 1u << FR_SCOPE_MODEL, LAYER = 1u << FR_SCOPE_LAYER | 1u << FR_SCOPE_EXPERT, MTP = 1u << FR_SCOPE_MTP };
    const int num_layers = config->num_hidden_layers;
    const fr_schema_row *layers = fr_tensors.rows, *end = fr_tensors.rows + fr_tensors.count;
    walk w = {.config = config, .fn = fn, .user = user, .layer = -1, .expert = -1};
    while (layers < end && layers->scope == FR_SCOPE_MODEL) layers++;
    FR_TRY(emit_rows(&w, fr_tensors.rows, layers, MODEL));
    for (int i = 0; i < num_layers; i++) FR_TRY(emit_layer(&w, i, layers, end, LAYER));
    FR_TRY(emit_rows(&w, layers, end, MODEL));
    for (int j = 0; j < config->num_nextn_predict_layers; j++) FR_TRY(emit_layer(&w, num_layers + j, layers, end, LAYER | MTP));
    return FR_OK;
}

/* ---- Types, bytes, scales ---- */

unsigned fr_schema_dtypes(fr_schema_kind kind) {
    unsigned floats = 1u << FR_BF16 | 1u << FR_F32;
    return is_vector(kind) || kind == FR_SCHEMA_LOOKUP ? floats : floats | 1u << FR_F8_E4M3;
}

bool fr_schema_scale(const fr_schema_tensor *tensor, char *name, size_t size, int64_t shape[2]) {
    if (!(fr_schema_dtypes(tensor->row->kind) >> FR_F8_E4M3 & 1)) return false;
    shape[0] = fr_blocks((int)tensor->shape[0]);
    shape[1] = fr_blocks((int)tensor->shape[1]);
    return (size_t)snprintf(name, size, "%s" SCALE, tensor->name) < size;
}

bool fr_schema_is_scale(const char *name) {
    size_t length = strlen(name), suffix = strlen(SCALE);
    return length > suffix && strcmp(name + length - suffix, SCALE) == 0;
}

uint64_t fr_schema_bytes(const fr_schema_tensor *tensor) {
    fr_dtype dtype = tensor->dtype;
    int out = (int)tensor->shape[0], in = (int)tensor->shape[1];
    uint64_t scales = dtype == FR_F8_E4M3 ? (uint64_t)fr_blocks(out) * (uint64_t)fr_blocks(in) : 0;
    return (uint64_t)out * (uint64_t)in * fr_dtype_size(dtype) + scales * fr_dtype_size(FR_F32);
}

fr_schema_share fr_schema_share_of(const fr_schema_tensor *t, const fr_ranks *ranks) {
    const int out = (int)t->shape[0];
    fr_schema_share s = {0, out, 0, out};
    if (t->row->cut == FR_CUT_NONE || ranks->size == 1) return s;
    int unit = t->row->cut == FR_CUT_HEADS ? out / t->heads : fr_cut_unit(out, ranks->size);
    fr_ranks_part(ranks, ranks->rank, out, unit, &s.begin, &s.end);
    const fr_linear cut = {.out = out, .before = s.begin, .behind = out - s.end};
    s.first = fr_linear_first(&cut);
    s.last = fr_linear_last(&cut);
    return s;
}

/* ---- What is demanded of files ---- */

fr_status fr_schema_alike(const fr_schema_tensor *t, const fr_checkpoint *checkpoint, const fr_tensor *tensor, fr_error *error) {
    char name[MAX_NAME];
    if (t->row->scope != FR_SCOPE_EXPERT || t->row->cut != FR_CUT_OUT || t->expert == 0) return FR_OK;
    int star = (int)strcspn(t->row->name, "*");
    snprintf(name, sizeof name, LAYERS "%d.%.*s0%s", t->layer, star, t->row->name, t->row->name + star + 1);
    const fr_tensor *first = fr_checkpoint_find(checkpoint, name);
    if (!first || first->dtype == tensor->dtype) return FR_OK;
    return fr_fail_at(error, FR_ERROR_UNSUPPORTED, t->name, "%s, but expert 0 of the layer has %s", fr_dtype_name(tensor->dtype),
                      fr_dtype_name(first->dtype));
}

fr_status fr_schema_fit(const fr_schema_tensor *t, const fr_checkpoint *checkpoint, fr_error *error) {
    char scale[MAX_NAME + sizeof SCALE];
    int64_t shape[2];
    const fr_tensor *tensor, *scales;
    FR_TRY(fr_checkpoint_get(checkpoint, t->name, fr_schema_dtypes(t->row->kind), t->rank, t->shape, &tensor, error));
    if (tensor->dtype == FR_F8_E4M3 && fr_schema_scale(t, scale, sizeof scale, shape))
        FR_TRY(fr_checkpoint_get(checkpoint, scale, 1u << FR_F32, 2, shape, &scales, error));
    return fr_schema_alike(t, checkpoint, tensor, error);
}

/* ---- Names of a checkpoint ---- */

const char *fr_schema_original(const fr_config *config, const fr_schema_tensor *copy) {
    fr_schema_part part = config->tie_word_embeddings ? FR_PART_EMBEDDING : copy->row->part;
    for (size_t i = 0; i < fr_tensors.count; i++)
        if (fr_tensors.rows[i].scope == FR_SCOPE_MODEL && fr_tensors.rows[i].part == part) return fr_tensors.rows[i].name;
    return copy->name;
}

int fr_schema_layer_of(const char *name) {
    int layer = -1;
    if (strncmp(name, LAYERS, strlen(LAYERS)) != 0) return -1;
    name += strlen(LAYERS);
    for (; *name >= '0' && *name <= '9' && layer < 100000000; name++) layer = (layer < 0 ? 0 : layer) * 10 + (*name - '0');
    return *name == '.' ? layer : -1;
}

bool fr_schema_head_is_tied(const fr_config *config, const fr_checkpoint *checkpoint, fr_notices *notices) {
    const fr_tensor *head = fr_checkpoint_find(checkpoint, "lm_head.weight");
    const fr_tensor *embedding = fr_checkpoint_find(checkpoint, "model.embed_tokens.weight");
    if (!config->tie_word_embeddings || !head || !embedding) return config->tie_word_embeddings;
    if (head->dtype == embedding->dtype && head->bytes == embedding->bytes &&
        memcmp(head->data, embedding->data, head->bytes) == 0)
        return true;
    fr_notices_add(notices, "lm_head.weight",
                   "tie_word_embeddings is true, but the files have a head that is not the embedding: it is used");
    return false;
}
