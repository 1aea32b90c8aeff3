#include "mtp/session.h"

#include <assert.h>
#include <math.h>
#include <time.h>

#include "model/forward.h"
#include "model/plan.h"
#include "mtp/drafters/drafter.h"
#include "mtp/drafters/mtp_module.h"

double fr_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
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
    for (size_t i = 0; i < s->num_logit_bias; i++) {
        if (s->logit_bias[i].token < 0 || s->logit_bias[i].token >= model->config.vocab_size)
            return fr_fail(error, FR_ERROR_ARGUMENT, "logit bias: id %d is not in the vocabulary of %d", s->logit_bias[i].token,
                           model->config.vocab_size);
        if (isnan(s->logit_bias[i].bias))
            return fr_fail(error, FR_ERROR_ARGUMENT, "logit bias of %d: not a number", s->logit_bias[i].token);
    }
    return FR_OK;
}

static fr_status check_options(const fr_model *model, const fr_session_options *o, fr_error *error) {
    FR_TRY(fr_session_shape_check(model, o, error));
    if (o->depth < 0 || o->depth > FR_MAX_DEPTH)
        return fr_fail(error, FR_ERROR_ARGUMENT, "depth: %d, expected 1 to %d", o->depth, FR_MAX_DEPTH);
    if (o->drafting == FR_DRAFTING_ON && o->drafter == FR_DRAFTER_MTP && !model->mtp.present) {
        fr_fail(error, FR_ERROR_UNSUPPORTED, "MTP: this checkpoint has no MTP module (layer %d)",
                model->config.num_hidden_layers);
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
        fr_sampler_take(&s->sampler, &arena, sampling, s->model->config.vocab_size);
        if (pass == 1) break;
        s->sampler_bytes = arena.used;
        arena = (fr_arena){.size = arena.used, .base = s->sampler_memory = fr_alloc(arena.used)};
        if (!arena.base) return fr_fail(error, FR_ERROR_MEMORY, "sampler: out of memory");
    }
    return FR_OK;
}

static fr_status allocate(fr_session *s, fr_error *error) {
    const fr_config *c = &s->model->config;
    size_t hidden = (size_t)c->hidden_size, vocab = (size_t)c->vocab_size;
    FR_TRY(fr_kv_cache_create(&s->kv, c->num_hidden_layers, s->ctx, c->kv_lora_rank, c->qk_rope_head_dim, s->options.kv, error));
    if (s->mtp) FR_TRY(fr_kv_cache_create(&s->mtp_kv, 1, s->ctx, c->kv_lora_rank, c->qk_rope_head_dim, s->options.kv, error));
    FR_TRY(allocate_sampler(s, error));
    FR_TRY(fr_workspace_create(&s->ws, s->model, s->chunk + FR_DECODE_ROWS, s->ctx, error));
    s->tokens = fr_alloc((size_t)s->ctx * sizeof(int32_t));
    s->hidden = fr_alloc((size_t)(s->chunk + FR_DECODE_ROWS) * hidden * sizeof(float));
    s->recycled = fr_alloc(hidden * sizeof(float));
    s->logits = fr_alloc(FR_DECODE_ROWS * vocab * sizeof(float));
    s->draft_logits = fr_alloc(vocab * sizeof(float));
    if (!s->tokens || !s->hidden || !s->recycled || !s->logits || !s->draft_logits)
        return fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
    return FR_OK;
}

/* The policy's first guess of costs is what passes and drafts read. */
static void start_policy(fr_session *s) {
    double shape[FR_MAX_DEPTH + 1], one;
    fr_traffic_of(s->model, &s->traffic);
    one = fr_traffic_pass(&s->traffic, fr_traffic_independent(&s->traffic, 1));
    for (int r = 0; r <= FR_MAX_DEPTH; r++)
        shape[r] = fr_traffic_pass(&s->traffic, fr_traffic_independent(&s->traffic, r + 1)) / one;
    double draft = s->mtp ? (double)s->traffic.draft / one : 0.0;
    fr_policy_init(&s->policy, s->options.drafting == FR_DRAFTING_AUTO, s->options.depth, shape, draft, draft);
}

fr_status fr_session_create(const fr_model *model, const fr_session_options *options, fr_session **out, fr_error *error) {
    fr_session_options o = options ? *options : (fr_session_options){0};
    FR_TRY(check_options(model, &o, error));
    FR_TRY(fr_plan_session(model, &o, error));
    fr_session_shape shape = fr_session_shape_of(model, &o);
    fr_session *s = fr_alloc_zeroed(1, sizeof *s);
    if (!s) return fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
    if (o.depth == 0) o.depth = o.drafting == FR_DRAFTING_ON ? 1 : 3;
    s->model = model;
    s->ctx = shape.ctx;
    s->chunk = shape.chunk;
    s->mtp = shape.mtp;
    s->options = o;
    s->drafter = s->mtp                                                           ? &fr_mtp_drafter
                 : o.drafter == FR_DRAFTER_NGRAM && o.drafting != FR_DRAFTING_OFF ? &fr_ngram_drafter
                                                                                  : NULL;
    s->logits_row = -1;
    start_policy(s);
    fr_status status = allocate(s, error);
    if (status != FR_OK) {
        fr_session_destroy(s);
        return status;
    }
    *out = s;
    return FR_OK;
}

void fr_session_destroy(fr_session *s) {
    if (!s) return;
    fr_kv_cache_release(&s->kv);
    fr_kv_cache_release(&s->mtp_kv);
    fr_workspace_release(&s->ws);
    fr_free(s->sampler_memory);
    fr_free(s->tokens);
    fr_free(s->hidden);
    fr_free(s->recycled);
    fr_free(s->logits);
    fr_free(s->draft_logits);
    fr_free(s);
}

void fr_session_check(const fr_session *s) {
    assert(s->length >= 0 && s->length <= s->ctx && s->generated >= 0 && s->generated <= s->length);
    assert(s->kv.length == s->length || s->kv.length == s->length - 1);
    assert(s->mtp_kv.length <= s->kv.length && (s->mtp_kv.length < s->length || s->length == 0));
    assert(!s->mtp || s->force || s->kv.length - s->mtp_kv.length <= FR_DECODE_ROWS);
    assert(s->kv.length < s->length || s->length == 0 || s->logits_row >= 0);
    (void)s;
}

void fr_session_commit(fr_session *s, int rows) {
    if (s->mtp) {
        size_t hidden = (size_t)s->model->config.hidden_size;
        const float *from = s->options.mtp_hidden == FR_HIDDEN_PRE_NORM ? s->ws.x : s->ws.hidden;
        memcpy(s->hidden + (size_t)(s->kv.length - s->mtp_kv.length) * hidden, from, (size_t)rows * hidden * sizeof(float));
    }
    fr_kv_cache_commit(&s->kv, rows);
}

int fr_session_pending(const fr_session *s) {
    if (!s->mtp) return 0;
    int known = s->kv.length < s->length ? s->kv.length : s->length - 1; /* position i needs token i + 1 */
    return known > s->mtp_kv.length ? known - s->mtp_kv.length : 0;
}

void fr_session_follow(fr_session *s, int rows, int outputs) {
    size_t hidden = (size_t)s->model->config.hidden_size;
    int pos = s->mtp_kv.length, left = s->kv.length - pos - rows;
    fr_mtp_follow(s->model, &s->ws, &s->mtp_kv, s->hidden, s->tokens + pos + 1, rows, outputs, pos);
    fr_kv_cache_commit(&s->mtp_kv, rows);
    memmove(s->hidden, s->hidden + (size_t)rows * hidden, (size_t)left * hidden * sizeof(float));
}

/* Cuts the timeline to `length` tokens and both caches to what still stands for them. The last token is evaluated again
 * unless its logits are still at hand. */
static void cut(fr_session *s, int length, bool keep_logits) {
    int evaluated = keep_logits ? length : length > 0 ? length - 1 : 0;
    s->length = length;
    if (s->generated > length) s->generated = length;
    if (s->kv.length > evaluated) fr_kv_cache_truncate(&s->kv, evaluated);
    if (s->mtp_kv.length > s->kv.length) fr_kv_cache_truncate(&s->mtp_kv, s->kv.length);
    if (!keep_logits) s->logits_row = -1;
}

fr_status fr_session_evaluate(fr_session *s, fr_rows_fn main_fn, fr_rows_fn mtp_fn, void *user, fr_error *error) {
    size_t hidden = (size_t)s->model->config.hidden_size;
    fr_status status = FR_OK;
    int start = s->kv.length, total = s->length - start;
    while (status == FR_OK && s->kv.length < s->length) {
        int first = s->kv.length, rows = s->length - first < s->chunk ? s->length - first : s->chunk;
        fr_forward(s->model, &s->ws, &s->kv, s->tokens + first, rows);
        if (first + rows == s->length) {
            fr_head(s->model, &s->ws, &s->model->lm_head, s->ws.hidden + (size_t)(rows - 1) * hidden, 1, s->logits);
            s->logits_row = 0;
        }
        if (main_fn) status = main_fn(user, s, first, rows, error);
        fr_session_commit(s, rows);
        int pending = fr_session_pending(s), pos = s->mtp_kv.length;
        if (status == FR_OK && pending > 0) {
            fr_session_follow(s, pending, mtp_fn ? pending : 0);
            if (mtp_fn) status = mtp_fn(user, s, pos, pending, error);
        }
        if (status == FR_OK && s->options.progress &&
            !s->options.progress(s->options.user, "prefill", (uint64_t)(s->kv.length - start), (uint64_t)total))
            status = fr_fail(error, FR_INTERRUPTED, "prefill: interrupted after %d of %d tokens", s->kv.length - start, total);
    }
    if (status != FR_OK && s->kv.length < s->length) cut(s, s->kv.length, false);
    return status;
}

/* Whether tokens can stand at position `at`. */
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

/* Evaluates what was appended; the completion begins behind it. */
static fr_status prefill(fr_session *s, fr_error *error) {
    double start = fr_now();
    int evaluated = s->kv.length;
    fr_status status = fr_session_evaluate(s, NULL, NULL, NULL, error);
    s->generated = s->length;
    s->stats.prefill_s += fr_now() - start;
    s->stats.prefill_tokens += (uint64_t)(s->kv.length > evaluated ? s->kv.length - evaluated : 0);
    fr_session_check(s);
    return status;
}

fr_status fr_session_prefill(fr_session *s, const int32_t *tokens, size_t count, fr_error *error) {
    FR_TRY(fr_session_append(s, tokens, count, error));
    return prefill(s, error);
}

fr_status fr_session_prefill_from(fr_session *s, const int32_t *tokens, size_t count, size_t *reused, fr_error *error) {
    FR_TRY(check_tokens(s, 0, tokens, count, error));
    int same = 0, most = count < (size_t)s->length ? (int)count : s->length;
    while (same < most && s->tokens[same] == tokens[same]) same++;
    FR_TRY(fr_session_truncate(s, (size_t)same, error));
    if (reused) *reused = (size_t)s->kv.length;
    memcpy(s->tokens + same, tokens + same, (count - (size_t)same) * sizeof(int32_t));
    s->length = (int)count;
    return prefill(s, error);
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

void fr_session_get_stats(const fr_session *s, fr_stats *out) {
    *out = s->stats;
}

void fr_session_reset_stats(fr_session *s) {
    s->stats = (fr_stats){0};
}

void fr_session_get_policy(const fr_session *s, fr_policy_info *out) {
    *out = (fr_policy_info){0};
    if (s->drafter) fr_policy_describe(&s->policy, out);
}

void fr_session_get_memory(const fr_session *s, fr_memory *out) {
    fr_session_shape shape = {.ctx = s->ctx, .chunk = s->chunk};
    *out = (fr_memory){
        .kv_bytes = fr_kv_cache_bytes(s->kv.layers, s->ctx, s->kv.rank, s->kv.rope, s->kv.type),
        .mtp_kv_bytes = fr_kv_cache_bytes(s->mtp_kv.layers, s->ctx, s->mtp_kv.rank, s->mtp_kv.rope, s->mtp_kv.type),
        .workspace_bytes = s->ws.bytes + s->sampler_bytes + fr_session_buffer_bytes(s->model, &shape),
    };
}

fr_history fr_session_history(const fr_session *s, int drafts) {
    return (fr_history){s->tokens, s->length + drafts, s->generated};
}

void fr_session_force_drafts(fr_session *s, fr_force_drafts_fn fn, void *user) {
    s->force = fn;
    s->force_user = user;
}
