#include "model/source.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/processors.h"
#include "core/text_size.h"
#include "core/threads.h"
#include "model/schema.h"

/* ---- Opening ---- */

fr_status fr_source_survey(const char *dir, const fr_config *config, fr_problem_fn report, void *user, fr_checkpoint **out,
                           fr_notices *notices, fr_error *error) {
    bool announced = config && config->num_nextn_predict_layers > 0;
    fr_open_options options = {.mtp_layer = announced ? config->num_hidden_layers : -1,
                               .look_beside = config != NULL,
                               .report = report,
                               .user = user,
                               .notices = notices};
    return fr_checkpoint_open_with(dir, &options, out, error);
}

static const fr_tensor *find_in_layer(const fr_checkpoint *checkpoint, int layer, const char *name) {
    char whole[128];
    snprintf(whole, sizeof whole, "model.layers.%d.%s", layer, name);
    return fr_checkpoint_find(checkpoint, whole);
}

/* Which layers have an indexer decides what is computed in those that have none: files and config must agree. */
static fr_status check_indexers(const char *dir, const fr_config *c, const fr_checkpoint *checkpoint, fr_error *error) {
    for (int i = 0; i < c->num_hidden_layers; i++) {
        bool said = fr_config_layer_has_indexer(c, i), there = find_in_layer(checkpoint, i, "self_attn.indexer.wk.weight");
        if (said != there)
            return fr_fail_at(error, FR_ERROR_FORMAT, fr_place_of("%.400s", dir).text,
                              "layer %d has %s indexer in the files, and %s in the config", i, there ? "an" : "no",
                              said ? "one" : "none");
    }
    return FR_OK;
}

bool fr_source_is_another(const fr_config *config, const fr_checkpoint *checkpoint, uint64_t *experts) {
    *experts = 3 * (uint64_t)fr_config_num_moe_layers(config) * (uint64_t)config->n_routed_experts;
    return *experts >= 1000000 && *experts >= 2 * (uint64_t)fr_checkpoint_count(checkpoint);
}

static fr_status check_count(const char *dir, const fr_config *config, const fr_checkpoint *checkpoint, fr_error *error) {
    uint64_t experts;
    if (!fr_source_is_another(config, checkpoint, &experts)) return FR_OK;
    return fr_fail_at(error, FR_ERROR_FORMAT, fr_place_of("%.400s", dir).text,
                      "the config's experts alone have %" PRIu64 " tensors, and the files %zu in all", experts,
                      fr_checkpoint_count(checkpoint));
}

fr_status fr_source_open(const char *dir, const fr_config *config, fr_checkpoint **out, fr_notices *notices, fr_error *error) {
    FR_TRY(fr_source_survey(dir, config, NULL, NULL, out, notices, error));
    fr_status status = check_indexers(dir, config, *out, error);
    if (status == FR_OK) status = check_count(dir, config, *out, error);
    if (status == FR_OK) return FR_OK;
    fr_checkpoint_destroy(*out);
    *out = NULL;
    return status;
}

/* ---- Tensors that may repeat others ---- */

enum { PIECE = 4096, FEW = 64, MANY = 256, CHUNK = 1 << 22, SMALL = 1 << 26 };

/* What is compared: a few places; all of what is small, and many places of the rest; or all. */
typedef enum extent { COMPARE_FEW, COMPARE_MOST, COMPARE_ALL } extent;

/* `pieces` places, evenly over the whole. */
static bool some_equal(const char *a, const char *b, size_t bytes, size_t pieces) {
    for (size_t i = 0; i < pieces; i++) {
        size_t at = bytes / pieces * i, left = bytes - at;
        if (memcmp(a + at, b + at, left < PIECE ? left : PIECE) != 0) return false;
    }
    return true;
}

typedef struct comparison {
    const char *a, *b;
    size_t bytes;
    atomic_bool different;
} comparison;

/* TEAM. */
static void compare(void *argument) {
    comparison *c = argument;
    int chunks = (int)((c->bytes + CHUNK - 1) / CHUNK), begin, end;
    fr_team_split(chunks, 1, &begin, &end);
    for (int i = begin; i < end && !atomic_load_explicit(&c->different, memory_order_relaxed); i++) {
        size_t at = (size_t)i * CHUNK, left = c->bytes - at;
        if (memcmp(c->a + at, c->b + at, left < CHUNK ? left : CHUNK) != 0) atomic_store(&c->different, true);
    }
}

static bool all_equal(const char *a, const char *b, size_t bytes) {
    comparison c = {.a = a, .b = b, .bytes = bytes};
    fr_team_run(bytes > 4 * CHUNK ? fr_default_threads() : 1, compare, &c);
    return !c.different;
}

/* *sampled: grows by the bytes of a tensor of which only places were compared. */
static bool equal(const fr_tensor *a, const fr_tensor *b, extent how, uint64_t *sampled) {
    bool places = how == COMPARE_MOST && a->bytes > SMALL;
    size_t bytes = (size_t)a->bytes;
    if (a->dtype != b->dtype || a->bytes != b->bytes || !some_equal(a->data, b->data, bytes, places ? MANY : FEW)) return false;
    if (how != COMPARE_FEW && !places) return all_equal(a->data, b->data, bytes);
    *sampled += a->bytes;
    return true;
}

/* ---- The MTP module ---- */

typedef struct search {
    const fr_config *config;
    const fr_checkpoint *checkpoint;
    extent how; /* what may repeat another tensor is compared */
    fr_mtp_files *mtp;
    uint64_t sampled; /* bytes of tensors that were taken for others by places alone */
} search;

static bool is_missing(const search *s, const fr_schema_tensor *t, const char **name, char scale[256]) {
    int64_t shape[2];
    const fr_tensor *tensor = fr_checkpoint_find(s->checkpoint, *name = t->name);
    if (!tensor) return !t->optional;
    if (tensor->dtype != FR_F8_E4M3 || !fr_schema_scale(t, scale, 256, shape)) return false;
    return !fr_checkpoint_find(s->checkpoint, *name = scale);
}

/* Finds the first that is missing, and what is the module's own. */
static fr_status look_at(void *user, const fr_schema_tensor *t) {
    search *s = user;
    char scale[256];
    const char *name;
    if (t->layer != s->config->num_hidden_layers) return FR_OK;
    if (!*s->mtp->absent && is_missing(s, t, &name, scale))
        snprintf(s->mtp->absent, sizeof s->mtp->absent, "tensor %.200s is missing", name);
    const fr_tensor *copy = t->optional ? fr_checkpoint_find(s->checkpoint, t->name) : NULL;
    const fr_tensor *original = copy ? fr_checkpoint_find(s->checkpoint, fr_schema_original(s->config, t)) : NULL;
    if (original && !equal(copy, original, s->how, &s->sampled))
        *(t->row->part == FR_PART_EMBEDDING ? &s->mtp->own_embedding : &s->mtp->own_lm_head) = true;
    return FR_OK;
}

/* How many tensors a layer has. */
static size_t count_of_layer(const fr_checkpoint *checkpoint, int layer) {
    size_t count = 0;
    for (size_t i = 0; i < fr_checkpoint_count(checkpoint); i++)
        count += fr_schema_layer_of(fr_checkpoint_at(checkpoint, i)->name) == layer;
    return count;
}

static void find_module(search *s, fr_notices *notices) {
    int layer = s->config->num_hidden_layers, modules = s->config->num_nextn_predict_layers;
    char what[64];
    snprintf(what, sizeof what, "MTP module (layer %d)", layer);
    fr_schema_each(s->config, look_at, s);
    s->mtp->present = !*s->mtp->absent;
    if (!s->mtp->present)
        fr_notices_add(notices, what, "only a part of it is there, of which no use is made: %s", s->mtp->absent);
    else if (modules > 1)
        fr_notices_add(notices, what, "there are %d modules: the first is used", modules);
}

static void settle_mtp(search *s, fr_config *config, fr_notices *notices) {
    int first = config->num_hidden_layers, announced = config->num_nextn_predict_layers, there = 0;
    char what[64];
    snprintf(what, sizeof what, "MTP module (layer %d)", first);
    while (there < announced && count_of_layer(s->checkpoint, first + there)) there++;
    size_t tensors = announced ? 0 : count_of_layer(s->checkpoint, first);
    config->num_nextn_predict_layers = there;
    if (there > 0) {
        if (there < announced)
            fr_notices_add(notices, what, "config.json announces %d modules, but tensors of only %d are there", announced, there);
        if (find_in_layer(s->checkpoint, first, "mlp.gate.weight"))
            config->mtp_dense = false;
        else if (find_in_layer(s->checkpoint, first, "mlp.gate_proj.weight"))
            config->mtp_dense = true;
        if (find_in_layer(s->checkpoint, first, "embed_tokens.weight") ||
            find_in_layer(s->checkpoint, first, "shared_head.head.weight"))
            config->mtp_shares = false;
        find_module(s, notices);
    } else if (announced > 0) {
        snprintf(s->mtp->absent, sizeof s->mtp->absent, "config.json announces it, but no tensor of it is there");
        fr_notices_add(notices, what, "config.json announces it (num_nextn_predict_layers %d), but no tensor of it is there",
                       announced);
    } else {
        snprintf(s->mtp->absent, sizeof s->mtp->absent, "config.json announces none (num_nextn_predict_layers)");
        s->mtp->left_out = find_in_layer(s->checkpoint, first, "eh_proj.weight");
        if (s->mtp->left_out)
            fr_notices_add(notices, what,
                           "%zu tensors of it are there, but config.json announces none (num_nextn_predict_layers): left out",
                           tensors);
    }
}

/* ---- FP8 ---- */

static const fr_tensor *first_e4m3(const fr_checkpoint *checkpoint) {
    for (size_t i = 0; i < fr_checkpoint_count(checkpoint); i++)
        if (fr_checkpoint_at(checkpoint, i)->dtype == FR_F8_E4M3) return fr_checkpoint_at(checkpoint, i);
    return NULL;
}

static void notice_fp8(const fr_config *config, const fr_checkpoint *checkpoint, fr_notices *notices) {
    const fr_tensor *tensor = first_e4m3(checkpoint);
    if (tensor && !config->fp8)
        fr_notices_add(notices, "config.json",
                       "there is no quantization_config, but %.160s and others are E4M3: they are used with their scales, and "
                       "activations are not quantized",
                       tensor->name);
    if (!tensor && config->fp8)
        fr_notices_add(notices, "config.json",
                       "quantization_config says fp8, but no tensor is E4M3: weights are used as they are, and activations are "
                       "not quantized");
}

typedef struct scales {
    const fr_checkpoint *checkpoint;
    uint64_t count, powers; /* of two */
    char other[160];        /* the first tensor with another scale */
} scales;

/* Scales of the first layer alone are looked at: a large checkpoint has 45,000 tensors of them, all over its files. */
static fr_status look_at_scales(void *user, const fr_schema_tensor *t) {
    scales *s = user;
    char name[256];
    int64_t shape[2];
    if (t->layer > 0) return FR_INTERRUPTED;
    const fr_tensor *scale =
        t->layer == 0 && fr_schema_scale(t, name, sizeof name, shape) ? fr_checkpoint_find(s->checkpoint, name) : NULL;
    if (!scale || scale->dtype != FR_F32) return FR_OK;
    for (uint64_t at = 0; at < scale->bytes; at += 4) {
        uint32_t bits;
        memcpy(&bits, (const char *)scale->data + at, 4);
        if (bits << 1 == 0) continue; /* a hole of a sparse file says nothing */
        bool power = (bits & 0x7fffff) == 0;
        s->count++;
        s->powers += power;
        if (!power && !*s->other) snprintf(s->other, sizeof s->other, "%.150s", name);
    }
    return FR_OK;
}

static void notice_scales(const fr_config *config, const fr_checkpoint *checkpoint, fr_notices *notices) {
    scales s = {.checkpoint = checkpoint};
    fr_schema_each(config, look_at_scales, &s);
    if (!config->fp8 || s.count == 0) return;
    if (config->act_ue8m0 && s.powers < s.count)
        fr_notices_add(notices, "config.json",
                       "scale_fmt is ue8m0, but scales of %s and others are no powers of two: weights take theirs as they are, "
                       "activations get powers of two",
                       s.other);
    if (!config->act_ue8m0 && s.powers == s.count && s.count > 1)
        fr_notices_add(notices, "config.json",
                       "scale_fmt is absent, but the first layer's scales are all powers of two: those of activations are not "
                       "made so");
}

/* ---- Tensors that nothing reads ---- */

typedef struct marking {
    const fr_checkpoint *checkpoint;
    bool *known; /* [tensors of the checkpoint] */
} marking;

static void mark(const marking *m, const char *name) {
    const fr_tensor *tensor = fr_checkpoint_find(m->checkpoint, name);
    if (tensor) m->known[tensor - fr_checkpoint_at(m->checkpoint, 0)] = true;
}

static fr_status mark_tensor(void *user, const fr_schema_tensor *t) {
    char scale[256];
    int64_t shape[2];
    mark(user, t->name);
    if (fr_schema_scale(t, scale, sizeof scale, shape)) mark(user, scale);
    return FR_OK;
}

/* MTP modules have notices of their own, and old conversions keep frequency tables. */
static bool is_no_surprise(const fr_config *config, const char *name) {
    return fr_schema_layer_of(name) >= config->num_hidden_layers || strstr(name, ".rotary_emb.");
}

/* A bias, say, that a conversion added: without it the network is another one. */
static void notice_unread(const fr_config *config, const fr_checkpoint *checkpoint, fr_notices *notices) {
    size_t count = fr_checkpoint_count(checkpoint), unread = 0;
    marking m = {checkpoint, fr_alloc_zeroed(count, sizeof *m.known)};
    const char *first = NULL;
    if (!m.known) return;
    fr_schema_each(config, mark_tensor, &m);
    for (size_t i = 0; i < count; i++) {
        const char *name = fr_checkpoint_at(checkpoint, i)->name;
        if (m.known[i] || is_no_surprise(config, name)) continue;
        if (!unread++) first = name;
    }
    fr_free(m.known);
    if (unread == 1) fr_notices_add(notices, "tensors", "%.200s is left out: the config implies no such tensor", first);
    if (unread > 1)
        fr_notices_add(notices, "tensors", "%.200s and %zu more are left out: the config implies no such tensors", first,
                       unread - 1);
}

void fr_source_settle(fr_config *config, const fr_checkpoint *checkpoint, fr_mtp_files *mtp, fr_notices *notices) {
    search s = {.config = config, .checkpoint = checkpoint, .how = COMPARE_FEW, .mtp = mtp};
    *mtp = (fr_mtp_files){.present = false};
    settle_mtp(&s, config, notices);
    notice_fp8(config, checkpoint, notices);
    notice_scales(config, checkpoint, notices);
    notice_unread(config, checkpoint, notices);
}

/* Whether something turned out to be the module's own. */
static bool compare_copies(search *s) {
    bool embedding = s->mtp->own_embedding, lm_head = s->mtp->own_lm_head;
    if (s->mtp->present) fr_schema_each(s->config, look_at, s);
    return s->mtp->own_embedding != embedding || s->mtp->own_lm_head != lm_head;
}

bool fr_source_compare(const fr_config *config, const fr_checkpoint *checkpoint, fr_mtp_files *mtp, fr_notices *notices) {
    search s = {.config = config, .checkpoint = checkpoint, .how = COMPARE_MOST, .mtp = mtp};
    bool changed = compare_copies(&s);
    if (s.sampled > 0)
        fr_notices_add(
            notices, "MTP module",
            "what it repeats of the embedding and LM head, %s, is taken for the same: %d places of each are (check compares "
            "all of it; drafts alone depend on it)",
            FR_TEXT_SIZE(s.sampled), MANY);
    return changed;
}

void fr_source_compare_all(const fr_config *config, const fr_checkpoint *checkpoint, fr_mtp_files *mtp, fr_notices *notices) {
    search most = {.config = config, .checkpoint = checkpoint, .how = COMPARE_MOST, .mtp = mtp}, all = most;
    all.how = COMPARE_ALL;
    compare_copies(&most);
    if (compare_copies(&all))
        fr_notices_add(
            notices, "MTP module",
            "its embedding or LM head is not quite the main model's, which drafts use instead: the places that are compared "
            "when it is opened are the same");
}
