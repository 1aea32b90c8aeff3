#include "model/plan.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/available.h"
#include "core/processors.h"
#include "core/text_size.h"
#include "model/cache.h"
#include "model/schema.h"
#include "model/workspace.h"
#include "sampler/sampler.h"

enum { DEFAULT_CTX = 4096, DEFAULT_CHUNK = 512 };
enum { LEAST_HEAD = 256 << 20 }; /* bytes of an LM head of which drafts get a copy */

/* ---- A session ------------------------------------------------------------------------------------------------- */

fr_status fr_session_sizes_check(const fr_model *model, const fr_session_options *o, fr_error *error) {
    if (o->ctx < 0 || o->ctx > model->config.max_position_embeddings)
        return fr_fail(error, FR_ERROR_ARGUMENT, "context: %d tokens, but the model has positions for %d", o->ctx,
                       model->config.max_position_embeddings);
    if (o->prefill_chunk < 0) return fr_fail(error, FR_ERROR_ARGUMENT, "prefill chunk: %d rows", o->prefill_chunk);
    return FR_OK;
}

fr_session_sizes fr_session_sizes_of(const fr_model *model, const fr_session_options *o) {
    int most = model->config.max_position_embeddings, chunk = o->prefill_chunk ? o->prefill_chunk : DEFAULT_CHUNK;
    int ctx = o->ctx ? o->ctx : most < DEFAULT_CTX ? most : DEFAULT_CTX;
    return (fr_session_sizes){.ctx = ctx,
                              .chunk = chunk < ctx ? chunk : ctx,
                              .mtp = o->drafting != FR_DRAFTING_OFF && o->drafter == FR_DRAFTER_MTP && model->mtp.files.present,
                              .kv = o->kv};
}

uint64_t fr_session_buffer_bytes(const fr_model *model, const fr_session_sizes *sizes) {
    uint64_t hidden_size = (uint64_t)model->config.hidden_size, vocab = (uint64_t)model->config.vocab_size;
    return sizeof(int32_t) * (uint64_t)sizes->ctx +
           sizeof(float) * ((uint64_t)(sizes->chunk + FR_DECODE_ROWS + 1) * hidden_size + (FR_DECODE_ROWS + 1) * vocab);
}

static fr_memory session_memory(const fr_model *model, const fr_session_options *o) {
    const fr_config *c = &model->config;
    fr_session_sizes sizes = fr_session_sizes_of(model, o);
    fr_sampler sampler = {0};
    fr_arena arena = {0};
    fr_arena_take(&arena, o->sampling.num_logit_bias, sizeof *o->sampling.logit_bias); /* the session's own copy */
    fr_sampler_take(&sampler, &arena, &o->sampling, c->vocab_size, model->kernels, model->threads);
    return (fr_memory){.kv_bytes = fr_cache_bytes(c, FR_CACHE_MAIN, sizes.ctx, sizes.kv),
                       .mtp_kv_bytes = sizes.mtp ? fr_cache_bytes(c, FR_CACHE_MTP, sizes.ctx, sizes.kv) : 0,
                       .workspace_bytes = fr_workspace_bytes(model, sizes.chunk + FR_DECODE_ROWS, sizes.ctx) +
                                          fr_session_buffer_bytes(model, &sizes) + arena.used};
}

static uint64_t session_bytes(const fr_memory *m) {
    return m->kv_bytes + m->mtp_kv_bytes + m->workspace_bytes;
}

/* ---- Weights --------------------------------------------------------------------------------------------------- */

typedef struct survey {
    const fr_model *model;
    bool *used;     /* NULL: not asked for */
    fr_part *parts; /* likewise */
    bool resident;  /* of both: leave routed experts out */
    uint64_t weight_bytes, table_bytes;
    uint64_t expert_bytes, slot_bytes; /* of all routed experts; the most that one takes in a cache, */
    uint64_t this_slot_bytes;          /* and of the one that is looked at */
    int experts;
    uint64_t lm_head_bytes, module_bytes; /* that a draft reads: the LM head, and of the MTP module what its experts leave */
    bool lm_head_is_e4m3;
} survey;

/* Weights of so many bytes, which lie together. */
static void add_bytes(survey *s, const fr_schema_tensor *t, uint64_t bytes) {
    s->weight_bytes += bytes;
    if (t->expert < 0) return;
    s->expert_bytes += bytes;
    s->this_slot_bytes +=
        (bytes + FR_READ_PAGE - 1) / FR_READ_PAGE * FR_READ_PAGE + FR_READ_PAGE; /* it may begin anywhere in a page */
    if (s->this_slot_bytes > s->slot_bytes) s->slot_bytes = s->this_slot_bytes;
}

/* Adds rows [first, last) of a tensor. Returns whether it is E4M3. */
static bool add_tensor(survey *s, const fr_schema_tensor *t, const char *name, int first, int last) {
    const fr_checkpoint *c = s->model->checkpoint;
    const fr_tensor *tensor = fr_checkpoint_find(c, name);
    if (!tensor) return false; /* binding reports it, if it is required */
    uint64_t row = tensor->shape[0] > 0 ? tensor->bytes / (uint64_t)tensor->shape[0] : 0;
    const fr_part part = {row * (uint64_t)first, row * (uint64_t)last};
    bool marks = !(s->resident && t->expert >= 0);
    add_bytes(s, t, part.end - part.begin);
    if (s->used && marks) s->used[tensor - fr_checkpoint_at(c, 0)] = true;
    if (s->parts && marks) s->parts[tensor - fr_checkpoint_at(c, 0)] = part;
    return tensor->dtype == FR_F8_E4M3;
}

/* The first tensor of an expert. */
static void begin_expert(survey *s, const fr_schema_tensor *t) {
    if (t->expert < 0 || t->row->offset != offsetof(fr_mlp, gate_proj)) return;
    s->this_slot_bytes = 0;
    s->experts++;
}

/* The bytes of a tensor that a rank needs, in the original's type. */
static uint64_t share_bytes(const survey *s, const fr_schema_tensor *t) {
    fr_schema_tensor part = *t;
    const fr_schema_share share = fr_schema_share_of(t, s->model->ranks);
    if (t->rank == 2) part.shape[0] = share.last - share.first;
    return fr_schema_bytes(&part);
}

/* Experts of a layer are alike: the first is counted. */
static void count_draft(survey *s, const fr_schema_tensor *t) {
    if (t->rank == 1 || t->row->part == FR_PART_EMBEDDING || t->expert > 0) return;
    if (t->row->part == FR_PART_LM_HEAD)
        s->lm_head_bytes = share_bytes(s, t); /* the module's own comes last */
    else if (t->mtp)
        s->module_bytes += share_bytes(s, t) * (t->expert == 0 ? (uint64_t)s->model->config.num_experts_per_tok : 1);
}

static fr_status survey_tensor(void *user, const fr_schema_tensor *t) {
    survey *s = user;
    int64_t shape[2];
    char scale[256];
    if (!fr_weights_use(s->model, t)) return FR_OK;
    count_draft(s, t);
    begin_expert(s, t);
    s->table_bytes += sizeof(fr_tensor) + sizeof(fr_linear);
    if (t->rank == 1) {
        s->table_bytes += sizeof(float) * (uint64_t)t->shape[0];
    } else if (!s->model->checkpoint) {
        if (!t->optional) add_bytes(s, t, share_bytes(s, t));
    } else {
        const fr_schema_share share = fr_schema_share_of(t, s->model->ranks);
        bool is_e4m3 = add_tensor(s, t, t->name, share.first, share.last);
        if (fr_schema_scale(t, scale, sizeof scale, shape))
            add_tensor(s, t, scale, share.first / FR_BLOCK, fr_blocks(share.last));
        if (t->row->part == FR_PART_LM_HEAD) s->lm_head_is_e4m3 = is_e4m3;
    }
    return FR_OK;
}

uint64_t fr_plan_tensors(const fr_model *model, bool *out, fr_part *parts) {
    survey s = {.model = model, .used = out, .parts = parts, .resident = model->plan.weights == FR_WEIGHTS_STREAM};
    memset(out, 0, fr_checkpoint_count(model->checkpoint) * sizeof *out);
    fr_schema_each(&model->config, survey_tensor, &s);
    return s.resident ? s.weight_bytes - s.expert_bytes : s.weight_bytes;
}

/* Bytes of the E4M3 copy of an LM head that is not E4M3 itself. */
static uint64_t head_copy_bytes(const survey *s) {
    const fr_config *c = &s->model->config;
    const fr_schema_row e4m3 = {.kind = FR_SCHEMA_LINEAR, .cut = FR_CUT_OUT};
    if (!s->model->mtp.files.present || s->lm_head_is_e4m3) return 0;
    return share_bytes(
        s, &(fr_schema_tensor){.row = &e4m3, .dtype = FR_F8_E4M3, .rank = 2, .shape = {c->vocab_size, c->hidden_size}});
}

/* Whether a copy saves drafts a good part of their time. Making it reads the head once, as a draft does. A head that caches may
 * hold is not what drafts wait for. */
static bool copy_pays(const survey *s, const fr_session_options *session) {
    bool drafts = session && session->drafting != FR_DRAFTING_OFF && session->drafter == FR_DRAFTER_MTP;
    return drafts && s->lm_head_bytes >= LEAST_HEAD && s->lm_head_bytes >= s->module_bytes / 4;
}

/* ---- What there is --------------------------------------------------------------------------------------------- */

/* weight_bytes: of weights that are copied and could be mapped instead, or 0. */
static fr_status refuse(const fr_memory_plan *p, uint64_t weight_bytes, bool f32, fr_error *error) {
    char weights[96] = "", session[128] = "", copy[112] = "", ctx[96] = "";
    if (weight_bytes) snprintf(weights, sizeof weights, "weights %s copied, ", FR_TEXT_SIZE(weight_bytes));
    if (p->ctx)
        snprintf(session, sizeof session, "KV caches %s for %d tokens, workspace %s",
                 FR_TEXT_SIZE(p->session.kv_bytes + p->session.mtp_kv_bytes), p->ctx, FR_TEXT_SIZE(p->session.workspace_bytes));
    fr_status status =
        fr_fail(error, FR_ERROR_MEMORY, "memory: %s are needed (%s%s%stables and draft head %s), but %s are available",
                FR_TEXT_SIZE(p->private_bytes), weights, session, *session ? ", " : "",
                FR_TEXT_SIZE(p->table_bytes + p->draft_head_bytes), FR_TEXT_SIZE(p->available_bytes));
    if (weight_bytes)
        snprintf(copy, sizeof copy, "%s--weights mmap leaves the weights in their files",
                 p->cached_experts > 1 ? "a smaller --expert-cache needs less; " : ""); /* what nobody asked for would fit */
    if (p->ctx) snprintf(ctx, sizeof ctx, "%sa smaller --ctx%s needs less", *copy ? "; " : "", f32 ? ", or --kv bf16," : "");
    return *copy || *ctx ? fr_hint(error, status, "%s%s", copy, ctx) : status;
}

fr_status fr_plan_session(const fr_model *model, const fr_session_options *options, fr_error *error) {
    fr_memory_plan p = {.ctx = fr_session_sizes_of(model, options).ctx, .session = session_memory(model, options)};
    uint64_t before = model->plan.private_bytes - session_bytes(&model->plan.session);
    p.private_bytes = session_bytes(&p.session);
    p.available_bytes = fr_available_memory("");
    if (model->memory_limit) p.available_bytes = model->memory_limit > before ? model->memory_limit - before : 0;
    if ((!p.available_bytes && !model->memory_limit) || p.private_bytes <= p.available_bytes) return FR_OK;
    return refuse(&p, 0, options->kv == FR_KV_F32, error);
}

/* ---- A model --------------------------------------------------------------------------------------------------- */

void fr_plan_prepare(fr_model *model, const fr_model_options *o, const fr_mtp_files *mtp) {
    model->threads = o->threads > 0 ? o->threads : fr_default_threads();
    model->ranks = o->ranks ? o->ranks : &fr_ranks_alone;
    model->pinned = !o->no_pin;
    model->act_fp8 = o->act == FR_ACT_FP8 || (o->act == FR_ACT_AUTO && model->config.fp8 && model->config.act_dynamic);
    model->num_moe_layers = fr_config_num_moe_layers(&model->config);
    model->mtp.files = *mtp;
    model->memory_limit = o->memory_limit;
}

/* A copy that is not asked for takes only memory that nothing else wants. */
static void add_head_copy(fr_memory_plan *p, uint64_t bytes) {
    if (p->available_bytes && p->total_bytes + bytes > p->available_bytes) return;
    p->draft_head_bytes = bytes;
    p->private_bytes += bytes;
    p->total_bytes += bytes;
}

/* ---- Streaming --------------------------------------------------------------------------------------------------- */

#define ASSUMED_DISK 2e9 /* bytes a second: an NVMe disk that is not new */

/* Slots that so many bytes are enough for. */
static int slots_of(const survey *s, uint64_t bytes) {
    uint64_t slots = s->slot_bytes ? bytes / s->slot_bytes : 0;
    if (slots > (uint64_t)s->experts) slots = (uint64_t)s->experts;
    int layers = s->experts / s->model->config.n_routed_experts;
    while (slots > 0 && fr_experts_bytes(layers, s->model->config.n_routed_experts, (int)slots, s->slot_bytes) > bytes) slots--;
    return (int)slots;
}

/* What experts may take: as told, or what all else leaves but for a sixteenth, which is for the page cache and other programs. */
static uint64_t room_for_experts(const fr_memory_plan *p, const survey *s, uint64_t wanted) {
    uint64_t other = p->private_bytes + s->weight_bytes - s->expert_bytes, spare = p->available_bytes / 16;
    if (wanted) return wanted;
    if (!p->available_bytes) return UINT64_MAX;
    return p->available_bytes > other + spare ? p->available_bytes - other - spare : 0;
}

/* Adds to a plan of everything but weights that they are streamed, with so many slots. */
static void stream(fr_memory_plan *p, const survey *s, int slots) {
    const fr_config *c = &s->model->config;
    int layers = s->experts / c->n_routed_experts;
    p->weights = FR_WEIGHTS_STREAM;
    p->resident_bytes = s->weight_bytes - s->expert_bytes;
    p->expert_bytes = s->slot_bytes;
    p->experts = s->experts;
    p->cached_experts = slots;
    p->cache_bytes = fr_experts_bytes(layers, c->n_routed_experts, slots, s->slot_bytes);
    p->private_bytes += p->resident_bytes + p->cache_bytes;
    p->token_bytes = (uint64_t)((double)s->expert_bytes / s->experts * c->num_experts_per_tok * s->model->num_moe_layers *
                                (1.0 - (double)slots / s->experts));
    p->disk_bytes_per_s = ASSUMED_DISK;
}

static fr_status plan_stream(fr_memory_plan *p, const survey *s, const fr_model_options *o, fr_error *error) {
    if (s->model->ranks->size > 1) { /* they would have to wait for each other's reads */
        fr_fail(error, FR_ERROR_UNSUPPORTED, "streamed weights: several ranks cannot stream");
        return fr_hint(error, FR_ERROR_UNSUPPORTED, "--weights mmap leaves the weights in their files");
    }
    if (s->experts == 0) {
        fr_fail(error, FR_ERROR_UNSUPPORTED, "streamed weights: the model has no routed experts");
        return fr_hint(error, FR_ERROR_UNSUPPORTED, "--weights mmap leaves the weights in their files");
    }
    int slots = slots_of(s, room_for_experts(p, s, o->expert_cache));
    if (o->expert_cache && slots == 0)
        return fr_fail(error, FR_ERROR_ARGUMENT, "expert cache: %s hold no expert, which has %s", FR_TEXT_SIZE(o->expert_cache),
                       FR_TEXT_SIZE(s->slot_bytes));
    stream(p, s, slots > 0 ? slots : 1);
    return FR_OK;
}

/* Streaming that nobody asked for wants room for the experts of one token in one layer, at least. */
static bool streaming_helps(const fr_memory_plan *p, const survey *s, uint64_t wanted) {
    bool all_fits = !p->available_bytes || p->total_bytes <= p->available_bytes;
    return !all_fits && s->experts > 0 && s->model->ranks->size == 1 &&
           slots_of(s, room_for_experts(p, s, wanted)) >= s->model->config.num_experts_per_tok;
}

/* ---- The plan ---------------------------------------------------------------------------------------------------- */

static fr_status plan_weights(fr_memory_plan *p, const survey *s, const fr_model_options *o, fr_error *error) {
    if (o->weights == FR_WEIGHTS_STREAM || (o->weights == FR_WEIGHTS_AUTO && streaming_helps(p, s, o->expert_cache)))
        return plan_stream(p, s, o, error);
    p->weights = o->weights == FR_WEIGHTS_AUTO || (o->weights == FR_WEIGHTS_POPULATE && !p->all_fits)
                     ? FR_WEIGHTS_MMAP /* reading the last would drop the first */
                     : o->weights;
    if (p->weights == FR_WEIGHTS_COPY) p->private_bytes = p->total_bytes;
    return FR_OK;
}

fr_status fr_plan_model(const fr_model *model, const fr_model_options *o, fr_memory_plan *p, fr_error *error) {
    survey s = {.model = model};
    if (o->session) FR_TRY(fr_session_sizes_check(model, o->session, error));
    fr_schema_each(&model->config, survey_tensor, &s);
    *p = (fr_memory_plan){.weight_bytes = s.weight_bytes,
                          .table_bytes = s.table_bytes,
                          .draft_head_bytes = o->draft_head == FR_DRAFT_HEAD_FP8 ? head_copy_bytes(&s) : 0,
                          .available_bytes = o->memory_limit ? o->memory_limit : fr_available_memory("")};
    if (o->session) {
        p->ctx = fr_session_sizes_of(model, o->session).ctx;
        p->session = session_memory(model, o->session);
    }
    p->private_bytes = p->table_bytes + p->draft_head_bytes + session_bytes(&p->session);
    p->total_bytes = p->private_bytes + p->weight_bytes;
    if (o->draft_head == FR_DRAFT_HEAD_AUTO && copy_pays(&s, o->session)) add_head_copy(p, head_copy_bytes(&s));
    p->all_fits = !p->available_bytes || p->total_bytes <= p->available_bytes;
    FR_TRY(plan_weights(p, &s, o, error));
    if (!p->available_bytes || p->private_bytes <= p->available_bytes) return FR_OK;
    uint64_t copied = p->weights == FR_WEIGHTS_COPY ? p->weight_bytes : p->resident_bytes + p->cache_bytes;
    return refuse(p, copied, o->session && o->session->kv == FR_KV_F32, error);
}

void fr_plan_agree(fr_model *model, const fr_model_options *o) {
    const fr_ranks *ranks = model->ranks;
    fr_memory_plan *p = &model->plan;
    int begin, end;
    if (ranks->size == 1 || o->draft_head != FR_DRAFT_HEAD_AUTO) return;
    fr_ranks_part(ranks, ranks->rank, model->config.vocab_size, fr_cut_unit(model->config.vocab_size, ranks->size), &begin, &end);
    bool copies = p->draft_head_bytes > 0 || begin == end; /* who has nothing of it has nothing to copy */
    if (fr_ranks_agree(ranks, copies ? FR_OK : FR_ERROR_MEMORY, NULL) == FR_OK) return;
    p->private_bytes -= p->draft_head_bytes;
    p->total_bytes -= p->draft_head_bytes;
    p->draft_head_bytes = 0;
}
