/* The model object of forerun.h: an opened checkpoint, with its weights bound and loaded. */
#include <dnnl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/kernels/cpu.h"
#include "core/kernels/isa.h"
#include "core/processors.h"
#include "core/text_size.h"
#include "core/topology.h"
#include "model/fingerprint.h"
#include "model/plan.h"
#include "model/schema.h"
#include "model/stream.h"
#include "text/chat_template.h"

/* Loads weights as the plan says. If they are copied they are bound again; binding them before has checked the files. */
static fr_status load_weights(fr_model *model, const fr_model_options *o, fr_error *error) {
    const fr_memory_plan *p = &model->plan;
    bool copies = p->weights == FR_WEIGHTS_COPY || p->weights == FR_WEIGHTS_STREAM;
    if (!copies) fr_checkpoint_want_huge_pages(model->checkpoint);
    if (p->weights == FR_WEIGHTS_MMAP) return FR_OK;
    size_t count = fr_checkpoint_count(model->checkpoint);
    bool *used = fr_alloc(count * sizeof *used);
    fr_part *parts = fr_alloc(count * sizeof *parts);
    if (!used || !parts) {
        fr_free(used);
        fr_free(parts);
        return fr_fail(error, FR_ERROR_MEMORY, "model: out of memory");
    }
    fr_plan_tensors(model, used, parts);
    int nodes = 1;
    fr_topology *topology = copies ? fr_topology_open() : NULL;
    fr_load_options load = {.wanted = used,
                            .parts = parts,
                            .threads = model->threads,
                            .topology = topology,
                            .nodes = &nodes,
                            .keep_cache = p->available_bytes >= p->total_bytes + p->weight_bytes,
                            .progress = o->progress,
                            .user = o->user};
    fr_status status = FR_OK;
    if (p->weights == FR_WEIGHTS_POPULATE) {
        status = fr_checkpoint_populate(model->checkpoint, &load, error);
    } else {
        status = fr_checkpoint_copy(model->checkpoint, &load, error);
        fr_weights_release(model);
        if (status == FR_OK) status = fr_weights_bind(model, error);
        if (status == FR_OK && p->weights == FR_WEIGHTS_STREAM) status = fr_stream_open(model, o->reader, error);
    }
    if (nodes > 1)
        fr_notices_add(&model->notices, "memory nodes", "the copied weights are spread over %d of them, page by page", nodes);
    fr_topology_close(topology);
    fr_free(used);
    fr_free(parts);
    return status;
}

static fr_status make_draft_head(fr_model *model, const fr_model_options *o, fr_error *error) {
    FR_TRY(fr_linear_to_e4m3(&model->mtp.lm_head, model->threads, &model->draft_head, error));
    if (o->draft_head == FR_DRAFT_HEAD_AUTO)
        fr_notices_add(&model->notices, "draft head",
                       "drafts use an FP8 copy of the LM head, %s instead of %s; verification does not",
                       FR_TEXT_SIZE(fr_linear_bytes(&model->draft_head)), FR_TEXT_SIZE(fr_linear_bytes(&model->mtp.lm_head)));
    return FR_OK;
}

/* So that the plan can say what a token will take. Nothing is read where all experts stay in the cache. */
static fr_status measure_disk(fr_model *model, const fr_model_options *o, fr_error *error) {
    const double seconds = 0.25;
    fr_memory_plan *p = &model->plan;
    if (p->cached_experts == p->experts) return FR_OK;
    double measured;
    FR_TRY(fr_stream_measure(model, o->reader, FR_STREAM_SCATTERED, seconds, &measured, error));
    p->disk_measured = measured > 0.0;
    if (p->disk_measured) p->disk_bytes_per_s = measured;
    return FR_OK;
}

/* Reads what the files are, and plans. */
static fr_status open_files(fr_model *model, const char *dir, const fr_model_options *o, fr_error *error) {
    FR_TRY(fr_isa_find(o->isa, &model->kernels, error));
    fr_mtp_files mtp;
    FR_TRY(fr_config_load(dir, &model->config, &model->notices, error));
    FR_TRY(fr_source_open(dir, &model->config, &model->checkpoint, &model->notices, error));
    fr_checkpoint_read_ahead(model->checkpoint, false);
    fr_source_settle(&model->config, model->checkpoint, &mtp, &model->notices);
    fr_plan_prepare(model, o, &mtp);
    FR_TRY(fr_plan_model(model, o, &model->plan, error));
    bool drafts = !o->session || o->session->drafting != FR_DRAFTING_OFF;
    if (drafts && fr_source_compare(&model->config, model->checkpoint, &model->mtp.files, &model->notices))
        FR_TRY(fr_plan_model(model, o, &model->plan, error));
    model->fingerprint = fr_model_fingerprint(model); /* a few bytes here and there: before anything is read ahead */
    return FR_OK;
}

static fr_status load(fr_model *model, const char *dir, const fr_model_options *o, fr_error *error) {
    FR_TRY(fr_weights_bind(model, error));
    fr_checkpoint_read_ahead(model->checkpoint, true);
    if (model->plan.weights == FR_WEIGHTS_STREAM)
        FR_TRY(measure_disk(model, o, error));
    else if (o->expert_cache)
        fr_notices_add(&model->notices, "expert cache", "not used, since weights are not streamed");
    if (o->planned) o->planned(o->user, &model->plan);
    FR_TRY(load_weights(model, o, error));
    model->draft_head = model->mtp.lm_head;
    if (model->plan.draft_head_bytes) FR_TRY(make_draft_head(model, o, error));
    return fr_tokenizer_open(dir, o->chat_format, &model->tokenizer, &model->no_text, &model->notices, error);
}

/* What must be alike on all ranks, which would compute different bits else and never say so. */
typedef struct identity {
    uint64_t checkpoint;
    char isa[32], prefill[160];
} identity;

static fr_status compare_ranks(const fr_model *model, const fr_ranks *ranks, fr_error *error) {
    identity own = {.checkpoint = model->fingerprint};
    snprintf(own.isa, sizeof own.isa, "%s", model->kernels->name);
    fr_linear_prefill_path(model->kernels, own.prefill, sizeof own.prefill);
    identity first = own;
    fr_ranks_share(ranks, &first, sizeof first);
    fr_status status = FR_OK;
    if (first.checkpoint != own.checkpoint) {
        fr_fail(error, FR_ERROR_ARGUMENT, "another checkpoint than rank 0 has: fingerprint %016" PRIx64 ", expected %016" PRIx64,
                own.checkpoint, first.checkpoint);
        status = fr_hint(error, FR_ERROR_ARGUMENT, "all ranks need the same files");
    } else if (strcmp(first.isa, own.isa) != 0 || strcmp(first.prefill, own.prefill) != 0) {
        fr_fail(error, FR_ERROR_ARGUMENT, "kernels that round differently: %s, %s; rank 0 has %s, %s", own.isa, own.prefill,
                first.isa, first.prefill);
        status = fr_hint(error, FR_ERROR_ARGUMENT, "--isa names an instruction set that all of them have");
    }
    return fr_ranks_agree(ranks, status, error);
}

/* What fails on one rank fails on all, before any of them waits for another. Where a file is lost, whatever else is wrong is no
 * wonder. */
static fr_status agree(const fr_model *model, const fr_model_options *o, fr_status status, fr_error *error) {
    fr_status whole = fr_model_still_whole(model, error);
    return fr_ranks_agree(o->ranks, whole == FR_OK ? status : whole, error);
}

static fr_status open_into(fr_model *model, const char *dir, const fr_model_options *o, fr_error *error) {
    FR_TRY(agree(model, o, open_files(model, dir, o, error), error));
    if (fr_ranks_size(o->ranks) > 1) FR_TRY(compare_ranks(model, o->ranks, error));
    fr_plan_agree(model, o);
    return agree(model, o, load(model, dir, o, error), error);
}

fr_status fr_model_open(const char *dir, const fr_model_options *options, fr_model **out, fr_error *error) {
    fr_model_options o = options ? *options : (fr_model_options){0};
    fr_model *model = fr_alloc_zeroed(1, sizeof *model);
    if (!model) return fr_fail(error, FR_ERROR_MEMORY, "model: out of memory");
    fr_status status = open_into(model, dir, &o, error);
    if (status != FR_OK) {
        fr_notices_tell(&model->notices, o.notice, o.user);
        fr_model_destroy(model);
        return status;
    }
    *out = model;
    return FR_OK;
}

/* config.json only adds ids that have no text, and tokens that end one: without it, or where it is not of the family, the
 * tokenizer says all there is to know. */
static fr_status take_text_config(fr_model *model, const char *dir, fr_error *error) {
    fr_config *c = &model->config;
    int size = fr_tokenizer_size(model->tokenizer);
    int32_t eos = fr_tokenizer_eos(model->tokenizer);
    fr_status status = fr_config_load(dir, c, &model->notices, error);
    if (status == FR_ERROR_MEMORY) return status;
    if (status != FR_OK) {
        model->notices.count = 0;
        *c = (fr_config){.bos_token_id = fr_tokenizer_bos(model->tokenizer)};
        if (eos >= 0) c->eos_token_ids[c->num_eos_token_ids++] = eos;
    }
    if (c->vocab_size < size) c->vocab_size = size;
    return FR_OK;
}

fr_status fr_model_open_tokenizer(const char *dir, const char *chat_format, fr_model **out, fr_error *error) {
    fr_model *model = fr_alloc_zeroed(1, sizeof *model);
    if (!model) return fr_fail(error, FR_ERROR_MEMORY, "model: out of memory");
    fr_status status = fr_isa_find(FR_ISA_AUTO, &model->kernels, error);
    if (status == FR_OK) status = fr_tokenizer_load(dir, &model->tokenizer, error);
    if (status == FR_OK) status = fr_tokenizer_load_chat(model->tokenizer, dir, chat_format, &model->notices, error);
    if (status == FR_OK) status = take_text_config(model, dir, error);
    if (status != FR_OK) {
        fr_model_destroy(model);
        return status;
    }
    *out = model;
    return FR_OK;
}

fr_status fr_model_need_weights(const fr_model *model, fr_error *error) {
    return model->checkpoint ? FR_OK : fr_fail(error, FR_ERROR_ARGUMENT, "model: it was opened for its tokenizer alone");
}

fr_status fr_model_still_whole(const fr_model *model, fr_error *error) {
    return model->checkpoint ? fr_checkpoint_still_whole(model->checkpoint, error) : FR_OK;
}

fr_status fr_catch_read_faults(fr_error *error) {
    if (fr_mapping_guard()) return FR_OK;
    return fr_fail(error, FR_ERROR_UNSUPPORTED, "read faults cannot be caught: %s", strerror(errno));
}

void fr_model_destroy(fr_model *model) {
    if (!model) return;
    fr_stream_close(model);
    fr_weights_release(model);
    fr_tokenizer_destroy(model->tokenizer);
    fr_checkpoint_destroy(model->checkpoint);
    fr_free(model);
}

void fr_model_get_info(const fr_model *model, fr_model_info *out) {
    const fr_config *c = &model->config;
    *out = (fr_model_info){
        .vocab_size = c->vocab_size,
        .hidden_size = c->hidden_size,
        .num_hidden_layers = c->num_hidden_layers,
        .num_moe_layers = model->num_moe_layers,
        .num_experts_per_tok = c->num_experts_per_tok,
        .max_position_embeddings = c->max_position_embeddings,
        .has_mtp = model->mtp.files.present,
        .has_tokenizer = model->tokenizer != NULL,
        .act_fp8 = model->act_fp8,
        .bos_token_id = c->bos_token_id,
        .add_bos_token = model->tokenizer && fr_tokenizer_add_bos(model->tokenizer),
        .num_eos_token_ids = c->num_eos_token_ids,
        .eos_token_ids = c->eos_token_ids,
        .chat_format = model->tokenizer ? fr_tokenizer_chat_format(model->tokenizer) : NULL,
        .chat_end_token_id = model->tokenizer ? fr_chat_end_token(model->tokenizer) : -1,
        .chat_drops_reasoning = model->tokenizer && fr_chat_drops_reasoning(model->tokenizer),
        .threads = model->threads,
        .isa = fr_isa_name(model->kernels->isa),
        .weight_bytes = model->checkpoint ? fr_checkpoint_bytes(model->checkpoint) : 0,
        .private_bytes = (model->draft_head.owned_w ? fr_linear_bytes(&model->draft_head) : 0) +
                         (model->plan.weights == FR_WEIGHTS_COPY ? model->plan.weight_bytes : 0) + model->plan.resident_bytes +
                         model->plan.cache_bytes,
        .reader = model->experts ? fr_experts_reader(model->experts) : NULL,
        .plan = model->plan,
    };
}

const fr_notice *fr_model_notices(const fr_model *model, size_t *count) {
    *count = model->notices.count;
    return model->notices.list;
}

const char *fr_version(void) {
    return FR_VERSION;
}

const char *fr_build_info(void) {
    static char text[512];
    char prefill[160];
    const dnnl_version_t *onednn = dnnl_version();
    const fr_kernels *best = fr_isa_kernels(FR_ISA_AUTO), *k;
    size_t n = 0;
    n += (size_t)snprintf(text + n, sizeof text - n, "oneDNN %d.%d.%d\nCPU: %s\ninstruction sets found:", onednn->major,
                          onednn->minor, onednn->patch, fr_cpu_get()->name);
    for (int i = 0; (k = fr_isa_table(i)); i++)
        if (k->isa != FR_ISA_SCALAR) n += (size_t)snprintf(text + n, sizeof text - n, " %s", k->name);
    fr_linear_prefill_path(best, prefill, sizeof prefill);
    snprintf(text + n, sizeof text - n, "\nfew rows (decode, verify): %s\nmany rows (prefill): %s\nthreads: %d",
             fr_isa_name(best->isa), prefill, fr_default_threads());
    return text;
}
