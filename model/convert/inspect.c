/* What a checkpoint has, or would have by its config: parameters and bytes, without opening it as a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/kernels/isa.h"
#include "core/memory.h"
#include "forerun_checkpoint.h"
#include "model/plan.h"
#include "model/schema.h"
#include "text/tokenizer.h"

#define MAX_CONFIG (16u << 20)

_Static_assert(sizeof((fr_tensor_info *)0)->shape == sizeof((fr_tensor *)0)->shape, "shapes are copied whole");

struct fr_inspection {
    char *text; /* of config.json */
    fr_config config;
    fr_parameters parameters;
    fr_notices notices;
    fr_checkpoint *checkpoint; /* NULL: from a config.json alone */
    fr_mtp_files mtp;
};

typedef struct count {
    const fr_config *config;
    const fr_mtp_files *mtp;
    fr_parameters *p;
} count;

/* Whether one token uses a tensor. Of the routed experts it uses as many as it chooses; its embedding row is not counted. */
static bool is_activated(const count *c, const fr_schema_tensor *t) {
    fr_schema_part part = t->row->part;
    return part != FR_PART_EMBEDDING && (part != FR_PART_EXPERT || t->expert < c->config->num_experts_per_tok);
}

/* Whether a tensor that may repeat the main model's is another one. */
static bool is_own(const fr_mtp_files *mtp, const fr_schema_tensor *t) {
    return t->row->part == FR_PART_EMBEDDING ? mtp->own_embedding : mtp->own_lm_head;
}

static fr_status count_tensor(void *user, const fr_schema_tensor *t) {
    const count *c = user;
    fr_parameters *p = c->p;
    uint64_t elements = (uint64_t)t->shape[0] * (uint64_t)t->shape[1];
    if (t->mtp && !c->mtp->present) return FR_OK;
    /* a tied LM head is the embedding, which is used twice but stored and counted once */
    bool tied = !t->mtp && t->row->part == FR_PART_LM_HEAD && t->optional;
    if (!tied) p->fp8_bytes += fr_schema_bytes(t);
    if (t->mtp) {
        p->mtp_total += elements;
        if (!t->optional || is_own(c->mtp, t)) p->mtp_unique += elements;
        /* a draft uses one module */
        if (t->layer == c->config->num_hidden_layers && is_activated(c, t)) p->mtp_activated += elements;
        return FR_OK;
    }
    if (!tied) p->main_total += elements;
    if (is_activated(c, t)) p->main_activated += elements;
    switch (t->row->part) {
    case FR_PART_EMBEDDING:
        p->embedding += elements;
        break;
    case FR_PART_LM_HEAD:
        p->head += elements;
        break;
    case FR_PART_INDEXER:
        p->indexer += elements;
        break;
    case FR_PART_ATTENTION:
        p->attention += elements;
        break;
    case FR_PART_DENSE_MLP:
        p->dense_mlp += elements;
        break;
    case FR_PART_ROUTER:
    case FR_PART_EXPERT:
    case FR_PART_SHARED_EXPERT:
        p->moe_mlp += elements;
        break;
    case FR_PART_NORM:
    case FR_PART_MTP_INPUT:
        break;
    }
    return FR_OK;
}

/* For DeepSeek-V3 this gives 671,026,419,200 in the main model; 688,574,839,360 bytes as the original stores it, MTP
 * module with its copies of embedding and head included; and 11.61 billion of the MTP module's own, eh_proj included
 * (11.51 without it, which is perhaps what the published 11.5 counts). */
static void count_parameters(const fr_config *config, const fr_mtp_files *mtp, fr_parameters *p) {
    memset(p, 0, sizeof *p);
    count c = {.config = config, .mtp = mtp, .p = p};
    fr_schema_each(config, count_tensor, &c);
    uint64_t row = (uint64_t)(config->kv_lora_rank + config->qk_rope_head_dim);
    p->kv_bytes_per_token_f32 = 4 * row * (uint64_t)config->num_hidden_layers;
    p->kv_bytes_per_token_bf16 = p->kv_bytes_per_token_f32 / 2;
    p->mtp_kv_bytes_per_token_bf16 = mtp->present ? 2 * row : 0;
    if (config->index_topk > 0) {
        uint64_t key = (uint64_t)config->index_head_dim;
        p->index_bytes_per_token_bf16 = 2 * key * (uint64_t)fr_config_num_indexers(config);
        p->mtp_index_bytes_per_token_bf16 = mtp->present ? 2 * key : 0;
    }
    if (mtp->present && config->mtp_shares) p->mtp_activated += p->head; /* of which the module has no row */
    p->moe_layers = fr_config_num_moe_layers(config);
    p->dense_layers = config->num_hidden_layers - p->moe_layers;
    p->mtp_modules = mtp->present ? config->num_nextn_predict_layers : 0;
    p->indexers = fr_config_num_indexers(config);
}

static fr_status inspect_directory(fr_inspection *in, const char *dir, fr_error *error) {
    char *path = NULL;
    size_t length;
    FR_TRY(fr_config_load(dir, &in->config, &in->notices, error));
    FR_TRY(fr_tokenizer_notices(dir, &in->notices, error));
    if (asprintf(&path, "%s/config.json", dir) < 0) return fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
    fr_status status = fr_read_file(path, MAX_CONFIG, &in->text, &length, error);
    free(path);
    if (status == FR_OK) status = fr_source_open(dir, &in->config, &in->checkpoint, &in->notices, error);
    if (status != FR_OK) return status;
    fr_schema_head_is_tied(&in->config, in->checkpoint, &in->notices);
    fr_source_settle(&in->config, in->checkpoint, &in->mtp, &in->notices);
    count_parameters(&in->config, &in->mtp, &in->parameters);
    return fr_checkpoint_still_whole(in->checkpoint, error);
}

static fr_status inspect_config(fr_inspection *in, const char *path, fr_error *error) {
    size_t length;
    FR_TRY(fr_read_file(path, MAX_CONFIG, &in->text, &length, error));
    FR_TRY(fr_config_parse(in->text, length, path, &in->config, &in->notices, error));
    in->mtp.present = in->config.num_nextn_predict_layers > 0;
    count_parameters(&in->config, &in->mtp, &in->parameters);
    return FR_OK;
}

/* An inspection that fails has no notices to show, and what was assumed may be why it failed. */
static void tell_last(const fr_inspection *in, fr_error *error) {
    const fr_notice *last = in->notices.count ? &in->notices.list[in->notices.count - 1] : NULL;
    if (last && error && !*error->hint) fr_hint(error, error->status, "%s: %s", last->what, last->why);
}

fr_status fr_inspect(const char *path, fr_inspection **out, fr_error *error) {
    struct stat info;
    fr_inspection *in = fr_alloc_zeroed(1, sizeof *in);
    if (!in) return fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory");
    bool directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    fr_status status = directory ? inspect_directory(in, path, error) : inspect_config(in, path, error);
    if (status != FR_OK) {
        tell_last(in, error);
        fr_inspection_destroy(in);
        return status;
    }
    *out = in;
    return FR_OK;
}

void fr_inspection_destroy(fr_inspection *inspection) {
    if (!inspection) return;
    fr_checkpoint_destroy(inspection->checkpoint);
    fr_free(inspection->text);
    fr_free(inspection);
}

fr_status fr_plan_memory(const fr_inspection *inspection, const fr_model_options *options, const fr_session_options *session,
                         fr_memory_plan *out, fr_error *error) {
    fr_model_options o = options ? *options : (fr_model_options){0};
    fr_session_options defaults = {0};
    fr_model model = {.config = inspection->config, .checkpoint = inspection->checkpoint};
    FR_TRY(fr_isa_find(o.isa, &model.kernels, error)); /* working memory depends on them */
    o.session = session ? session : &defaults;
    fr_plan_prepare(&model, &o, &inspection->mtp);
    return fr_plan_model(&model, &o, out, error);
}

fr_status fr_plan_rank(const fr_inspection *inspection, const fr_model_options *options, const fr_session_options *session,
                       int rank, int ranks, fr_memory_plan *out, fr_error *error) {
    const fr_ranks one = {.rank = rank, .size = ranks};
    fr_model_options o = options ? *options : (fr_model_options){0};
    if (ranks < 1 || ranks > FR_MAX_RANKS || rank < 0 || rank >= ranks)
        return fr_fail(error, FR_ERROR_ARGUMENT, "ranks: %d of %d, expected 0 to %d of at most %d", rank, ranks, ranks - 1,
                       FR_MAX_RANKS);
    o.ranks = &one;
    return fr_plan_memory(inspection, &o, session, out, error);
}

const fr_parameters *fr_inspection_parameters(const fr_inspection *inspection) {
    return &inspection->parameters;
}

const char *fr_inspection_config_json(const fr_inspection *inspection) {
    return inspection->text;
}

const fr_notice *fr_inspection_notices(const fr_inspection *inspection, size_t *num_notices) {
    *num_notices = inspection->notices.count;
    return inspection->notices.list;
}

size_t fr_inspection_num_tensors(const fr_inspection *inspection) {
    return inspection->checkpoint ? fr_checkpoint_count(inspection->checkpoint) : 0;
}

void fr_inspection_tensor(const fr_inspection *inspection, size_t i, fr_tensor_info *out) {
    const fr_tensor *t = fr_checkpoint_at(inspection->checkpoint, i);
    *out = (fr_tensor_info){.name = t->name,
                            .dtype = fr_dtype_name(t->dtype),
                            .file = fr_checkpoint_file(inspection->checkpoint, t->file),
                            .rank = t->rank,
                            .bytes = t->bytes};
    memcpy(out->shape, t->shape, sizeof out->shape);
}
