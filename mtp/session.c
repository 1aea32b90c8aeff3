#include "mtp/session.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/cache.h"
#include "model/forward.h"
#include "model/plan.h"
#include "mtp/drafters/mtp.h"

/* One token at least must be left to draw. */
static fr_status check_forbidden(int vocab, const fr_sampling *s, fr_error *error) {
    if (s->num_logit_bias < (size_t)vocab) return FR_OK;
    bool *forbidden = fr_alloc_zeroed((size_t)vocab, sizeof *forbidden);
    if (!forbidden) return fr_fail(error, FR_ERROR_MEMORY, "logit bias: out of memory");
    int left = vocab;
    for (size_t i = 0; i < s->num_logit_bias; i++) {
        bool *it = &forbidden[s->logit_bias[i].token], was = *it;
        *it |= s->logit_bias[i].bias == -INFINITY;
        left -= *it && !was;
    }
    fr_free(forbidden);
    return left > 0 ? FR_OK : fr_fail(error, FR_ERROR_ARGUMENT, "logit bias: all %d tokens are forbidden", vocab);
}

static fr_status check_biases(const fr_model *model, const fr_sampling *s, fr_error *error) {
    int vocab = model->config.vocab_size;
    for (size_t i = 0; i < s->num_logit_bias; i++) {
        fr_logit_bias b = s->logit_bias[i];
        if (b.token < 0 || b.token >= vocab)
            return fr_fail(error, FR_ERROR_ARGUMENT, "logit bias: id %d is not in the vocabulary of %d", b.token, vocab);
        if (!(b.bias <= FR_MOST_LOGIT_BIAS))
            return fr_fail(error, FR_ERROR_ARGUMENT, "logit bias of %d: %g, expected at most %g, or -inf", b.token,
                           (double)b.bias, (double)FR_MOST_LOGIT_BIAS);
    }
    return check_forbidden(vocab, s, error);
}

static fr_status check_sampling(const fr_model *model, const fr_sampling *s, fr_error *error) {
    if (!(s->temperature >= 0.0f && s->temperature <= 100.0f))
        return fr_fail(error, FR_ERROR_ARGUMENT, "temperature: %g, expected 0 to 100", (double)s->temperature);
    if (s->top_k < 0) return fr_fail(error, FR_ERROR_ARGUMENT, "top-k: %d", s->top_k);
    if (!(s->top_p >= 0.0f && s->top_p <= 1.0f))
        return fr_fail(error, FR_ERROR_ARGUMENT, "top-p: %g, expected 0 to 1", (double)s->top_p);
    if (!(s->min_p >= 0.0f && s->min_p <= 1.0f))
        return fr_fail(error, FR_ERROR_ARGUMENT, "min-p: %g, expected 0 to 1", (double)s->min_p);
    if (!(s->repetition_penalty >= 0.0f && s->repetition_penalty <= 100.0f))
        return fr_fail(error, FR_ERROR_ARGUMENT, "repetition penalty: %g, expected above 0", (double)s->repetition_penalty);
    if (!isfinite(s->presence_penalty) || !isfinite(s->frequency_penalty))
        return fr_fail(error, FR_ERROR_ARGUMENT, "presence and frequency penalties must be finite");
    return check_biases(model, s, error);
}

static fr_status check_options(const fr_model *model, const fr_session_options *o, fr_error *error) {
    FR_TRY(fr_session_sizes_check(model, o, error));
    if (o->depth < 0 || o->depth > FR_MAX_DEPTH)
        return fr_fail(error, FR_ERROR_ARGUMENT, "depth: %d, expected 1 to %d", o->depth, FR_MAX_DEPTH);
    if ((unsigned)o->mtp_recycle >= FR_RECYCLE_COUNT)
        return fr_fail(error, FR_ERROR_ARGUMENT, "recycled hidden state: there is no %d", (int)o->mtp_recycle);
    const fr_drafter_type *drafter = fr_drafter_type_of((int)o->drafter);
    if (!drafter) return fr_fail(error, FR_ERROR_ARGUMENT, "drafter: there is no %d", (int)o->drafter);
    if (o->drafting == FR_DRAFTING_ON && drafter->needs_mtp && !model->mtp.files.present) {
        fr_fail(error, FR_ERROR_UNSUPPORTED, "MTP: this checkpoint has no MTP module (layer %d): %s",
                model->config.num_hidden_layers, model->mtp.files.absent);
        return fr_hint(error, FR_ERROR_UNSUPPORTED, "--mtp auto runs without one");
    }
    return check_sampling(model, &o->sampling, error);
}

/* The sampler with its own copy of the biases. */
static fr_status allocate_sampler(fr_session *s, fr_error *error) {
    fr_sampling *sampling = &s->options.sampling;
    size_t biases = sampling->num_logit_bias * sizeof *sampling->logit_bias;
    fr_arena arena = {0};
    for (int pass = 0; pass < 2; pass++) {
        fr_logit_bias *copy = fr_arena_take(&arena, 1, biases);
        if (copy && biases) {
            memcpy(copy, sampling->logit_bias, biases);
            sampling->logit_bias = copy;
        }
        fr_sampler_take(&s->sampler, &arena, sampling, s->model->config.vocab_size, s->model->kernels, s->model->threads);
        if (pass == 1) break;
        s->sampler_bytes = arena.used;
        arena = (fr_arena){.size = arena.used, .base = s->sampler_memory = fr_alloc(arena.used)};
        if (!arena.base) return fr_fail(error, FR_ERROR_MEMORY, "sampler: out of memory");
    }
    return FR_OK;
}

static fr_status allocate(fr_session *s, fr_error *error) {
    const fr_config *c = &s->model->config;
    FR_TRY(fr_cache_create(&s->kv, c, FR_CACHE_MAIN, s->ctx, s->options.kv, error));
    FR_TRY(allocate_sampler(s, error));
    FR_TRY(fr_workspace_create(&s->ws, s->model, s->chunk + FR_DECODE_ROWS, s->ctx, error));
    s->tokens = fr_alloc((size_t)s->ctx * sizeof(int32_t));
    s->logits = fr_alloc(FR_DECODE_ROWS * (size_t)c->vocab_size * sizeof(float));
    return s->tokens && s->logits ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
}

/* None when drafting is off, or automatic and there is nothing to draft with. */
static fr_status create_drafter(fr_session *s, fr_error *error) {
    const fr_drafter_type *type = fr_drafter_type_of((int)s->options.drafter);
    if (s->options.drafting == FR_DRAFTING_OFF || (type->needs_mtp && !s->model->mtp.files.present)) return FR_OK;
    return fr_drafter_create(type, s->model, &s->options, &s->drafter, error);
}

/* The policy's first guess of costs is what passes and drafts read, from memory and from the disk. */
void fr_session_begin_policy(fr_session *s, const fr_learned *learned) {
    double ratio[FR_MAX_DEPTH + 1], one = fr_traffic_pass_cost(&s->traffic, fr_traffic_independent(&s->traffic, 1));
    for (int r = 0; r <= FR_MAX_DEPTH; r++)
        ratio[r] = fr_traffic_pass_cost(&s->traffic, fr_traffic_independent(&s->traffic, r + 1)) / one;
    double draft = s->drafter && s->drafter->type->needs_mtp ? fr_traffic_draft_cost(&s->traffic) / one : 0.0;
    fr_policy_init(&s->policy, s->options.drafting == FR_DRAFTING_AUTO, s->options.depth, ratio, draft, draft);
    s->policy.blind = s->options.sampling.verify == FR_VERIFY_REJECTION && s->options.sampling.temperature > 0.0f;
    if (learned && s->policy.adaptive) fr_learned_give(learned, &s->policy);
}

/* What was learned before, to *out: rank 0's, for all. */
static bool read_learned(const fr_session *s, fr_learned *out) {
    const fr_ranks *ranks = s->model->ranks;
    bool is_there = ranks->rank == 0 && s->learned && fr_learned_read(s->learned, out);
    fr_ranks_share(ranks, &is_there, sizeof is_there);
    if (is_there) fr_ranks_share(ranks, out, sizeof *out);
    return is_there;
}

static fr_status find_learned(fr_session *s, fr_error *error) {
    const fr_session_options *o = &s->options;
    char path[FR_LEARNED_PATH];
    bool keeps = o->learned && o->drafting == FR_DRAFTING_AUTO && s->drafter;
    if (keeps && fr_learned_path(s->model, o, o->learned, path)) {
        s->learned = fr_alloc(strlen(path) + 1);
        if (!s->learned) return fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
        memcpy(s->learned, path, strlen(path) + 1);
    }
    return FR_OK;
}

/* All ranks decide alike, so they go by one of them's bytes, too. */
static void start_policy(fr_session *s) {
    fr_learned learned;
    fr_traffic_of(s->model, &s->traffic);
    fr_ranks_share(s->model->ranks, &s->traffic, sizeof s->traffic);
    fr_session_begin_policy(s, read_learned(s, &learned) ? &learned : NULL);
}

fr_status fr_session_keep_learned(const fr_session *s, fr_error *error) {
    const fr_ranks *ranks = s->model->ranks;
    fr_learned learned;
    fr_status status = FR_OK;
    if (ranks->rank == 0 && s->learned && fr_learned_take(&s->policy, &learned))
        status = fr_learned_write(s->learned, &learned, error);
    return fr_ranks_agree(ranks, status, error);
}

int fr_default_depth(fr_drafting drafting) {
    return drafting == FR_DRAFTING_OFF ? 0 : drafting == FR_DRAFTING_ON ? 1 : 3;
}

/* What is local to a rank. *out is to be destroyed on a failure, too. */
static fr_status create(const fr_model *model, const fr_session_options *o, fr_session **out, fr_error *error) {
    FR_TRY(fr_plan_session(model, o, error));
    fr_session_sizes sizes = fr_session_sizes_of(model, o);
    fr_session *s = *out = fr_alloc_zeroed(1, sizeof *s);
    if (!s) return fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
    s->model = model;
    s->ctx = sizes.ctx;
    s->chunk = sizes.chunk;
    s->options = *o;
    s->logits_row = -1;
    FR_TRY(allocate(s, error));
    s->ws.finite.on = o->check_finite;
    FR_TRY(create_drafter(s, error));
    return find_learned(s, error);
}

fr_status fr_session_create(const fr_model *model, const fr_session_options *options, fr_session **out, fr_error *error) {
    fr_session_options o = options ? *options : (fr_session_options){0};
    FR_TRY(fr_model_need_weights(model, error));
    FR_TRY(check_options(model, &o, error));
    if (o.depth == 0) o.depth = fr_default_depth(o.drafting);
    fr_session *s = NULL;
    fr_status status = fr_ranks_agree(model->ranks, create(model, &o, &s, error), error);
    if (status != FR_OK) {
        fr_session_destroy(s);
        return status;
    }
    start_policy(s);
    fr_session_reset_stats(s);
    *out = s;
    return FR_OK;
}

void fr_session_destroy(fr_session *s) {
    if (!s) return;
    fr_kv_cache_release(&s->kv);
    fr_drafter_destroy(s->drafter);
    fr_workspace_release(&s->ws);
    fr_free(s->learned);
    fr_free(s->sampler_memory);
    fr_free(s->tokens);
    fr_free(s->logits);
    fr_free(s);
}

void fr_session_check(const fr_session *s) {
    assert(s->length >= 0 && s->length <= s->ctx && s->generated >= 0 && s->generated <= s->length);
    assert(s->kv.length == s->length || s->kv.length == s->length - 1);
    assert(s->kv.length < s->length || s->length == 0 || s->logits_row >= 0);
    (void)s;
}

static bool go_on(const void *policy, const fr_cycle *cycle) {
    return fr_policy_go_on(policy, cycle);
}

fr_draft_context fr_session_draft_context(fr_session *s) {
    return (fr_draft_context){.model = s->model,
                              .ws = &s->ws,
                              .traffic = &s->traffic,
                              .sampler = &s->sampler,
                              .tokens = s->tokens,
                              .length = s->length,
                              .generated = s->generated,
                              .evaluated = s->kv.length,
                              .go_on = go_on,
                              .policy = &s->policy};
}

fr_drafter *fr_session_swap_drafter(fr_session *s, fr_drafter *drafter) {
    fr_drafter *before = s->drafter;
    s->drafter = drafter;
    return before;
}

void fr_session_commit(fr_session *s, int rows) {
    assert(rows >= 1 && s->kv.length + rows <= s->length);
    fr_kv_cache_commit(&s->kv, rows);
    fr_draft_context context = fr_session_draft_context(s);
    fr_drafter_committed(s->drafter, &context, rows);
}

/* Cuts the timeline to `length` tokens and the caches to what is evaluated of them. The last token is evaluated again unless its
 * logits are still at hand. */
static void cut(fr_session *s, int length, bool keep_logits) {
    int evaluated = keep_logits ? length : length > 0 ? length - 1 : 0;
    s->length = length;
    if (s->generated > length) s->generated = length;
    if (s->kv.length > evaluated) fr_kv_cache_truncate(&s->kv, evaluated);
    fr_draft_context context = fr_session_draft_context(s);
    fr_drafter_truncate(s->drafter, &context);
    if (!keep_logits) s->logits_row = -1;
}

fr_status fr_session_trusts_pass(fr_session *s, fr_error *error) {
    fr_status status = fr_workspace_check(&s->ws, error);
    if (status == FR_OK) status = fr_model_still_whole(s->model, error);
    if (status == FR_OK) status = fr_finite_tell(&s->ws.finite, error);
    return fr_ranks_agree(s->model->ranks, status, error); /* what one rank has lost is in the results of all */
}

fr_status fr_session_check_logits(const fr_session *s, const float *logits, int position, fr_error *error) {
    int vocab = s->model->config.vocab_size, bad = fr_count_nonfinite(logits, vocab), first = 0;
    if (bad == 0) return FR_OK;
    while (isfinite(logits[first])) first++;
    fr_status status = fr_fail_at(error, FR_ERROR_FORMAT, fr_place_of("position %d", position).text,
                                  "%d of %d logits are not finite, the first is of token %d: weights%s are damaged", bad, vocab,
                                  first, bad < vocab ? " of the LM head" : ", or a session file,");
    return fr_hint(error, status, "--check-finite names the layer; forerun check lists what is wrong with a checkpoint");
}

/* One pass of `rows` rows, which become text. */
static fr_status evaluate_rows(fr_session *s, int rows, fr_rows_fn before_fn, fr_rows_fn after_fn, void *user, fr_error *error) {
    size_t hidden = (size_t)s->model->config.hidden_size;
    fr_status status = FR_OK;
    int first = s->kv.length;
    fr_forward(s->model, &s->ws, &s->kv, s->tokens + first, rows);
    if (first + rows == s->length) {
        fr_lm_head(s->model, &s->ws, &s->model->lm_head, s->ws.hidden + (size_t)(rows - 1) * hidden, 1, s->logits);
        s->logits_row = 0;
    }
    status = fr_session_trusts_pass(s, error);
    if (status != FR_OK) return status;
    if (before_fn) status = before_fn(user, s, first, rows, error);
    fr_session_commit(s, rows);
    if (after_fn && status == FR_OK) status = after_fn(user, s, first, rows, error);
    fr_draft_context context = fr_session_draft_context(s);
    fr_drafter_catch_up(s->drafter, &context);
    return status;
}

/* The first `known` tokens are text whatever happens: the last of them may not be evaluated yet. */
static fr_status evaluate(fr_session *s, int known, fr_rows_fn before_fn, fr_rows_fn after_fn, void *user, fr_error *error) {
    const fr_session_options *o = &s->options;
    fr_status status = FR_OK;
    int start = s->kv.length, total = s->length - start;
    while (status == FR_OK && s->kv.length < s->length) {
        int left = s->length - s->kv.length;
        status = evaluate_rows(s, left < s->chunk ? left : s->chunk, before_fn, after_fn, user, error);
        if (status == FR_OK && o->progress && !o->progress(o->user, "prefill", (uint64_t)(s->kv.length - start), (uint64_t)total))
            status = fr_fail(error, FR_INTERRUPTED, "prefill: interrupted after %d of %d tokens", s->kv.length - start, total);
        status = fr_ranks_agree(s->model->ranks, status, error);
    }
    if (status != FR_OK && s->kv.length < s->length) cut(s, s->kv.length > known ? s->kv.length : known, false);
    return status;
}

fr_status fr_session_evaluate(fr_session *s, fr_rows_fn before_fn, fr_rows_fn after_fn, void *user, fr_error *error) {
    return evaluate(s, s->kv.length, before_fn, after_fn, user, error);
}

/* Whether tokens can come at position `at`. */
static fr_status check_tokens(const fr_session *s, int at, const int32_t *tokens, size_t count, fr_error *error) {
    int vocab = s->model->config.vocab_size;
    if (count == 0) return fr_fail(error, FR_ERROR_ARGUMENT, "the prompt is empty: no tokens");
    if (count > (size_t)(s->ctx - at)) {
        fr_fail(error, FR_ERROR_CONTEXT, "context: %zu tokens after %d do not fit in %d", count, at, s->ctx);
        return fr_hint(error, FR_ERROR_CONTEXT, "ask for a longer context (--ctx, at most %d)",
                       s->model->config.max_position_embeddings);
    }
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return fr_fail(error, FR_ERROR_ARGUMENT, "token %zu: id %d is not in the vocabulary of %d", i, tokens[i], vocab);
    return FR_OK;
}

fr_status fr_session_append(fr_session *s, const int32_t *tokens, size_t count, fr_error *error) {
    FR_TRY(check_tokens(s, s->length, tokens, count, error));
    memcpy(s->tokens + s->length, tokens, count * sizeof(int32_t));
    s->length += (int)count;
    return FR_OK;
}

/* Evaluates what was appended to a text of `known` tokens; the completion begins behind it. */
static fr_status prefill(fr_session *s, int known, fr_error *error) {
    double start = fr_now();
    int evaluated = s->kv.length;
    fr_status status = evaluate(s, known, NULL, NULL, NULL, error);
    s->generated = s->length;
    s->stats.prefill_s += fr_now() - start;
    s->stats.prefill_tokens += (uint64_t)(s->kv.length > evaluated ? s->kv.length - evaluated : 0);
    fr_session_check(s);
    return status;
}

fr_status fr_session_prefill(fr_session *s, const int32_t *tokens, size_t count, fr_error *error) {
    int known = s->length;
    FR_TRY(fr_session_append(s, tokens, count, error));
    return prefill(s, known, error);
}

fr_status fr_session_prefill_from(fr_session *s, const int32_t *tokens, size_t count, size_t *reused, fr_error *error) {
    FR_TRY(check_tokens(s, 0, tokens, count, error));
    int same = 0, most = count < (size_t)s->length ? (int)count : s->length;
    while (same < most && s->tokens[same] == tokens[same]) same++;
    FR_TRY(fr_session_truncate(s, (size_t)same, error));
    if (reused) *reused = (size_t)s->kv.length;
    memcpy(s->tokens + same, tokens + same, (count - (size_t)same) * sizeof(int32_t));
    int known = s->length;
    s->length = (int)count;
    return prefill(s, known, error);
}

fr_status fr_session_truncate(fr_session *s, size_t count, fr_error *error) {
    if (count > (size_t)s->length)
        return fr_fail(error, FR_ERROR_ARGUMENT, "truncate: %zu tokens, but the session has %d", count, s->length);
    bool nothing_cut = (int)count == s->length;
    cut(s, (int)count, nothing_cut && s->kv.length == s->length);
    fr_session_check(s);
    return FR_OK;
}

size_t fr_session_length(const fr_session *s) {
    return (size_t)s->length;
}

const int32_t *fr_session_tokens(const fr_session *s) {
    return s->tokens;
}

int fr_session_ctx(const fr_session *s) {
    return s->ctx;
}

const float *fr_session_logits(const fr_session *s) {
    return s->logits_row < 0 ? NULL : s->logits + (size_t)s->logits_row * (size_t)s->model->config.vocab_size;
}

/* What was counted of streamed experts since the session was created, and of the disk since the model was opened. */
static fr_stats count_streamed(const fr_session *s) {
    const fr_expert_pass *p = &s->ws.moe.experts;
    fr_stats now = {.expert_hits = p->hits,
                    .expert_misses = p->misses,
                    .experts_prefetched = p->prefetched,
                    .experts_prefetched_used = p->prefetched_used,
                    .stall_s = p->stall_s};
    if (s->model->experts) fr_experts_count(s->model->experts, &now.disk_bytes, &now.disk_busy_s);
    return now;
}

void fr_session_get_stats(const fr_session *s, fr_stats *out) {
    fr_stats now = count_streamed(s);
    const fr_stats *before = &s->streamed_before;
    *out = s->stats;
    out->expert_hits = now.expert_hits - before->expert_hits;
    out->expert_misses = now.expert_misses - before->expert_misses;
    out->experts_prefetched = now.experts_prefetched - before->experts_prefetched;
    out->experts_prefetched_used = now.experts_prefetched_used - before->experts_prefetched_used;
    out->disk_bytes = now.disk_bytes - before->disk_bytes;
    out->stall_s = now.stall_s - before->stall_s;
    out->disk_busy_s = now.disk_busy_s - before->disk_busy_s;
}

void fr_session_reset_stats(fr_session *s) {
    s->stats = (fr_stats){0};
    s->streamed_before = count_streamed(s);
}

void fr_session_get_policy(const fr_session *s, fr_policy_info *out) {
    *out = (fr_policy_info){0};
    if (s->drafter) fr_policy_describe(&s->policy, out);
}

void fr_session_get_memory(const fr_session *s, fr_memory *out) {
    const fr_config *c = &s->model->config;
    fr_session_sizes sizes = fr_session_sizes_of(s->model, &s->options);
    *out = (fr_memory){
        .kv_bytes = fr_cache_bytes(c, FR_CACHE_MAIN, s->ctx, s->kv.type),
        .mtp_kv_bytes = fr_mtp_drafter_of(s->drafter) ? fr_cache_bytes(c, FR_CACHE_MTP, s->ctx, s->kv.type) : 0,
        .workspace_bytes = s->ws.bytes + s->sampler_bytes + fr_session_buffer_bytes(s->model, &sizes),
    };
}
