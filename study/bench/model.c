/* The whole model: prefill, passes by rows, decoding without drafts, one draft, and what a long context costs. Tokens
 * are random ones: experts are then chosen nearly independently, which is the dearest case. */
#include "core/available.h"
#include "core/threads.h"
#include "forerun_study.h"
#include "model/cache.h"
#include "model/forward.h"
#include "mtp/session.h"
#include "study/bench/bench.h"

enum { MARGIN = 256 }; /* tokens that decoding makes before it goes back to the context's end */

/* What threads do in a token's time. */
typedef struct account {
    int threads;
    double wall_s;       /* times threads is what they had */
    double waited_s;     /* of it */
    double *attention_s; /* [threads]: likewise, while it is open; owned */
    double began_s, waited_before_s;
} account;

typedef struct passes {
    const fr_bench_run *b;
    fr_session *session;
    int32_t *tokens; /* [length]: the prompt */
    int length, ctx;
    int rows[FR_DECODE_ROWS], num_rows; /* of passes */
    int barriers[FR_DECODE_ROWS];       /* by figure: of a pass */
    uint64_t unique[FR_DECODE_ROWS];    /* by figure: (layer, expert) pairs over all passes */
    int counted[FR_DECODE_ROWS];
    const int *prompts; /* tokens of prefills */
    int num_prompts;
    account account; /* of decoded tokens */
} passes;

/* A token that seems random: a function of seed and index. */
static int32_t token_at(const fr_bench_run *b, uint64_t index) {
    uint64_t z = (b->options.seed + 1) * 0x9e3779b97f4a7c15u + index * 0xd1b54a32d192ed03u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (int32_t)((z ^ (z >> 31)) % (uint64_t)b->model->config.vocab_size);
}

/* Bytes of the cache that a pass reads at this length. */
static uint64_t kv_bytes(const fr_bench_run *b, double tokens) {
    return fr_cache_read_bytes(&b->model->config, FR_CACHE_MAIN, (int)tokens, b->options.kv);
}

static double a_layer(const fr_model *model, double experts) {
    return fr_bench_share(experts, model->num_moe_layers);
}

/* ---- Shares ---- */

static fr_status create_account(account *a, int threads, fr_error *error) {
    *a = (account){.threads = threads, .attention_s = fr_alloc_zeroed((size_t)threads, sizeof *a->attention_s)};
    return a->attention_s ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
}

static void open_account(account *a, fr_workspace *ws) {
    fr_team_time_waits(true);
    ws->mla.attention_s = a->attention_s;
    a->waited_before_s = fr_team_waited();
    a->began_s = fr_now();
}

static void close_account(account *a, fr_workspace *ws) {
    a->wall_s += fr_now() - a->began_s;
    a->waited_s += fr_team_waited() - a->waited_before_s;
    ws->mla.attention_s = NULL;
    fr_team_time_waits(false);
}

static fr_bench_shares shares_of(const account *a) {
    double attention = 0.0, all = a->wall_s * a->threads;
    for (int i = 0; i < a->threads; i++) attention += a->attention_s[i];
    return (fr_bench_shares){.waiting = fr_bench_share(a->waited_s, all), .attention = fr_bench_share(attention, all)};
}

/* ---- Session ---- */

static fr_status open_session(passes *p, fr_drafting drafting, int length, fr_error *error) {
    const fr_bench_run *b = p->b;
    int most = b->model->config.max_position_embeddings;
    p->ctx = b->options.ctx;
    p->length = length < most ? length : most;
    p->tokens = fr_alloc((size_t)p->length * sizeof *p->tokens);
    if (!p->tokens) return fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
    for (int i = 0; i < p->length; i++) p->tokens[i] = token_at(b, (uint64_t)i);
    fr_session_options options = {.ctx = p->length, .kv = b->options.kv, .drafting = drafting, .depth = 1, .ignore_eos = true};
    return fr_session_create(b->model, &options, &p->session, error);
}

static void close_session(passes *p) {
    fr_session_destroy(p->session);
    fr_free(p->tokens);
}

static fr_status prefill(const passes *p, int count, fr_error *error) {
    FR_TRY(fr_session_truncate(p->session, 0, error));
    return fr_session_prefill(p->session, p->tokens, (size_t)count, error);
}

/* One cycle that runs a pass (the first after a prefill does not), with its statistics. When the session is full the
 * text goes back to the context's end. */
static fr_status step(const passes *p, fr_stats *before, fr_stats *after, fr_error *error) {
    fr_session *s = p->session;
    fr_step made;
    do {
        if (s->length + 2 > s->ctx) FR_TRY(fr_session_truncate(s, (size_t)p->ctx, error));
        fr_session_get_stats(s, before);
        FR_TRY(fr_session_step(s, 2, &made, error));
        fr_session_get_stats(s, after);
    } while (after->num_cycles == before->num_cycles);
    return FR_OK;
}

/* ---- Figures (fr_bench_fn) ---- */

static fr_status run_prefill(void *user, int figure, int round, double *seconds, fr_error *error) {
    passes *p = user;
    (void)round;
    double start = fr_now();
    FR_TRY(prefill(p, p->prompts[figure], error));
    *seconds = fr_now() - start;
    return FR_OK;
}

/* Passes at the context's end, never committed. Those of a round begin with the same tokens. */
static fr_status run_pass(void *user, int figure, int round, double *seconds, fr_error *error) {
    passes *p = user;
    fr_session *s = p->session;
    int32_t tokens[FR_DECODE_ROWS];
    int rows = p->rows[figure];
    for (int i = 0; i < rows; i++) tokens[i] = token_at(p->b, (uint64_t)(round + 2) * 1000003u + (uint64_t)i);
    uint64_t barriers = fr_team_barriers();
    double start = fr_now();
    fr_forward(s->model, &s->ws, &s->kv, tokens, rows);
    fr_lm_head(s->model, &s->ws, &s->model->lm_head, s->ws.hidden, rows, s->logits);
    *seconds = fr_now() - start;
    p->barriers[figure] = (int)(fr_team_barriers() - barriers);
    p->unique[figure] += fr_unique_experts(s->model, &s->ws, rows);
    p->counted[figure]++;
    return fr_session_trusts_pass(s, error);
}

enum { PLAIN, ACCOUNTED, DECODES }; /* tokens decoded, and the same with an account of what threads do */

static fr_status run_decode(void *user, int figure, int round, double *seconds, fr_error *error) {
    passes *p = user;
    fr_stats before, after;
    bool accounted = figure == ACCOUNTED && round >= 0;
    if (figure == PLAIN && round == 0) fr_session_reset_stats(p->session); /* what warmed up does not count */
    if (accounted) open_account(&p->account, &p->session->ws);
    double start = fr_now();
    fr_status status = step(p, &before, &after, error);
    *seconds = fr_now() - start;
    if (accounted) close_account(&p->account, &p->session->ws);
    return status;
}

static fr_status run_draft(void *user, int figure, int round, double *seconds, fr_error *error) {
    fr_stats before, after;
    (void)figure, (void)round;
    do { /* a cycle after the text was cut does not draft */
        FR_TRY(step(user, &before, &after, error));
    } while (after.num_draft_tokens == before.num_draft_tokens);
    *seconds = after.draft_s - before.draft_s;
    return FR_OK;
}

/* ---- Prefill, passes, decode ---- */

static fr_status measure_prefill(fr_bench_run *b, passes *p, fr_error *error) {
    fr_bench_result *r = b->result;
    double flops = 2.0 * (double)p->session->traffic.token_weights;
    fr_figure *seconds = fr_alloc((size_t)p->num_prompts * sizeof *seconds);
    r->prefill = fr_alloc_zeroed((size_t)p->num_prompts, sizeof *r->prefill);
    if (!seconds || !r->prefill) {
        fr_free(seconds);
        return fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
    }
    fr_status status = fr_bench_rounds(b, "prefill", p->num_prompts, run_prefill, p, seconds, error);
    for (int i = 0; i < p->num_prompts; i++)
        if (seconds[i].samples > 0)
            r->prefill[r->num_prefill++] =
                (fr_bench_prefill){p->prompts[i], fr_figure_rate(seconds[i], p->prompts[i]), flops, 0.0};
    fr_free(seconds);
    return status;
}

static fr_status measure_passes(fr_bench_run *b, passes *p, fr_error *error) {
    fr_bench_result *r = b->result;
    fr_figure seconds[FR_DECODE_ROWS];
    r->passes = fr_alloc_zeroed((size_t)p->num_rows, sizeof *r->passes);
    if (!r->passes) return fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
    fr_status status = fr_bench_rounds(b, "passes", p->num_rows, run_pass, p, seconds, error);
    for (int i = 0; i < p->num_rows; i++) {
        if (seconds[i].samples == 0) continue;
        double unique = a_layer(b->model, fr_bench_share((double)p->unique[i], p->counted[i]));
        uint64_t bytes = (uint64_t)fr_traffic_pass(&p->session->traffic, unique) + kv_bytes(b, p->ctx);
        r->passes[r->num_passes++] = (fr_bench_pass){.rows = p->rows[i],
                                                     .ms = fr_figure_scale(seconds[i], 1e3),
                                                     .unique_experts = unique,
                                                     .bytes = bytes,
                                                     .barriers = p->barriers[i]};
    }
    return status;
}

static fr_status measure_decode(fr_bench_run *b, passes *p, fr_error *error) {
    fr_bench_result *r = b->result;
    fr_figure seconds[DECODES] = {{0}};
    fr_stats stats;
    FR_TRY(create_account(&p->account, b->model->threads, error));
    fr_status status = fr_bench_rounds(b, "decode", DECODES, run_decode, p, seconds, error);
    r->decode.shares = shares_of(&p->account);
    fr_free(p->account.attention_s);
    if (seconds[PLAIN].samples == 0) return status;
    fr_session_get_stats(p->session, &stats);
    r->decode.experts.stats = stats;
    double unique = a_layer(b->model, fr_bench_share((double)stats.unique_experts, (double)stats.num_cycles));
    double tokens = p->ctx + (stats.num_cycles < MARGIN ? (double)stats.num_cycles : MARGIN) / 2.0;
    r->decode.tokens_per_s = fr_figure_rate(seconds[PLAIN], 1.0);
    r->decode.bytes_per_token = (uint64_t)fr_traffic_pass(&p->session->traffic, unique) + kv_bytes(b, tokens);
    r->decode.sampling = fr_bench_share(stats.sample_s, stats.draft_s + stats.verify_s + stats.sample_s + stats.rollback_s);
    r->decode.cached = r->decode.bytes_per_token < 2 * r->cache_bytes;
    return status;
}

/* What of options.rows passes and prefills are measured with. */
static void choose_rows(passes *p, int *prompts) {
    static const int defaults[] = {1, 2, 3, 4, 5, 6, 7, 8, 128, 512};
    const fr_bench_options *o = &p->b->options;
    const int *rows = o->rows ? o->rows : defaults;
    size_t count = o->rows ? o->num_rows : sizeof defaults / sizeof *defaults;
    p->rows[p->num_rows++] = 1; /* what the others are compared with */
    for (int r = 2; r <= FR_DECODE_ROWS; r++) {
        bool asked = false;
        for (size_t i = 0; i < count; i++) asked |= rows[i] == r;
        if (asked) p->rows[p->num_rows++] = r;
    }
    for (size_t i = 0; i < count; i++)
        if (rows[i] > FR_DECODE_ROWS && rows[i] <= p->b->model->config.max_position_embeddings)
            prompts[p->num_prompts++] = rows[i];
    p->prompts = prompts;
}

static fr_status measure_session(fr_bench_run *b, passes *p, fr_error *error) {
    unsigned what = b->options.what;
    if ((what & FR_BENCH_PREFILL) && p->num_prompts > 0) FR_TRY(measure_prefill(b, p, error));
    if (!(what & (FR_BENCH_PASSES | FR_BENCH_DECODE))) return FR_OK;
    FR_TRY(prefill(p, p->ctx, error));
    if (what & FR_BENCH_PASSES) FR_TRY(measure_passes(b, p, error));
    if (what & FR_BENCH_DECODE) FR_TRY(measure_decode(b, p, error));
    return FR_OK;
}

fr_status fr_bench_measure_passes(fr_bench_run *b, fr_error *error) {
    passes p = {.b = b};
    int length = b->options.ctx + MARGIN, *prompts = fr_alloc((b->options.num_rows + 2) * sizeof *prompts);
    if (!prompts) return fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
    choose_rows(&p, prompts);
    for (int i = 0; i < p.num_prompts; i++)
        if (prompts[i] > length) length = prompts[i];
    fr_status status = open_session(&p, FR_DRAFTING_OFF, length, error);
    if (status == FR_OK) status = measure_session(b, &p, error);
    close_session(&p);
    fr_free(prompts);
    if (status == FR_OK) fr_bench_measure_machine(b);
    if (status == FR_OK) status = fr_bench_measure_disk(b, error);
    return status;
}

/* ---- Draft ---- */

fr_status fr_bench_measure_draft(fr_bench_run *b, fr_error *error) {
    passes p = {.b = b};
    fr_figure seconds = {0};
    fr_status status;
    FR_CHECK(open_session(&p, FR_DRAFTING_ON, b->options.ctx + MARGIN, error));
    FR_CHECK(prefill(&p, p.ctx, error));
    status = fr_bench_rounds(b, "draft", 1, run_draft, &p, &seconds, error);
    if (seconds.samples > 0) {
        b->result->draft.ms = fr_figure_scale(seconds, 1e3);
        b->result->draft.bytes = p.session->traffic.draft;
    }
done:
    close_session(&p);
    return status;
}

/* ---- Contexts ---- */

typedef struct contexts {
    const fr_bench_run *b;
    fr_workspace ws;
    fr_kv_cache kv;
    float *logits;
    int lengths[8], count;
    account accounts[8]; /* by length */
} contexts;

/* Attention of one row in all layers; TEAM. */
static void attend(void *argument) {
    contexts *c = argument;
    const fr_config *config = &c->b->model->config;
    for (int i = 0; i < config->num_hidden_layers; i++) {
        const fr_mla *mla = &c->b->model->layers[i].mla;
        fr_rows_set(&c->ws.rows, c->ws.normed, 1, config->hidden_size, fr_mla_inputs(mla), config->act_ue8m0);
        fr_mla_forward(mla, &c->ws.rope, &c->kv, i, c->kv.length, &c->ws.rows, c->ws.x, c->ws.delta, &c->ws.mla);
    }
}

/* What its indexers look for, in all layers that have one; TEAM. */
static void choose(void *argument) {
    contexts *c = argument;
    fr_index_scratch *s = &c->ws.mla.index;
    for (int i = 0; i < c->b->model->config.num_hidden_layers; i++) {
        const fr_indexer *ix = &c->b->model->layers[i].mla.indexer;
        if (!fr_indexer_scores(ix, c->kv.length)) continue;
        if (fr_team_rank() == 0) fr_indexer_see_all(c->kv.length, 1, s);
        fr_team_barrier();
        fr_indexer_choose(ix, &c->kv, c->kv.length, 1, s);
    }
}

enum { PASS, ACCOUNTED_PASS, ATTENTION, CHOICE, FIGURES }; /* the last with sparse attention alone */

static int figures_of(const fr_model *model) {
    return model->config.index_topk > 0 ? FIGURES : CHOICE;
}

/* An fr_bench_fn: for each length a whole pass, attention alone, and the choice of positions alone. */
static fr_status run_context(void *user, int figure, int round, double *seconds, fr_error *error) {
    contexts *c = user;
    const fr_model *model = c->b->model;
    int kind = figure % figures_of(model);
    account *counted = kind == ACCOUNTED_PASS && round >= 0 ? &c->accounts[figure / figures_of(model)] : NULL;
    c->kv.length = c->lengths[figure / figures_of(model)];
    int32_t token = token_at(c->b, (uint64_t)(round + 2));
    if (counted) open_account(counted, &c->ws);
    double start = fr_now();
    if (kind == PASS || kind == ACCOUNTED_PASS) {
        fr_forward(model, &c->ws, &c->kv, &token, 1);
        fr_lm_head(model, &c->ws, &model->lm_head, c->ws.hidden, 1, c->logits);
    } else {
        fr_team_run(model->threads, kind == ATTENTION ? attend : choose, c);
    }
    *seconds = fr_now() - start;
    if (counted) close_account(counted, &c->ws);
    return fr_workspace_check(&c->ws, error);
}

/* Lengths that positions and half of the free memory allow; the model's longest, if it is shorter than one of them. */
static void choose_lengths(contexts *c) {
    static const int dense[] = {1024, 4096, 16384, 32768}, sparse[] = {2048, 4096, 16384, 32768, 65536};
    const fr_config *config = &c->b->model->config;
    const int *wanted = config->index_topk > 0 ? sparse : dense;
    int count = config->index_topk > 0 ? 5 : 4;
    int most = config->max_position_embeddings - 1;
    uint64_t available = fr_available_memory("");
    for (int i = 0; i < count; i++) {
        int length = wanted[i] < most ? wanted[i] : most;
        if (c->count > 0 && (length == c->lengths[c->count - 1] ||
                             (available && fr_cache_bytes(config, FR_CACHE_MAIN, length, c->b->options.kv) > available / 2)))
            break;
        c->lengths[c->count++] = length;
    }
}

/* Rows [rows, width] of a cache, `ctx` a layer, as if it held text up to `length`: time does not depend on the values, as long as
 * they are ordinary. */
static void fill_rows(void *to, fr_kv type, int64_t rows, int width, int ctx, int length, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        if (row % ctx >= length) continue;
        for (int64_t i = 0; i < width; i++) {
            float x = (float)((row * 7919 + i * 104729) % 2003 - 1001) * 1e-3f;
            if (type == FR_KV_F32)
                ((float *)to)[row * width + i] = x;
            else
                ((uint16_t *)to)[row * width + i] = fr_f32_bf16(x);
        }
    }
}

static void fill(fr_kv_cache *kv, int length, int threads) {
    fill_rows(kv->rows, kv->type, (int64_t)kv->layers * kv->ctx, kv->rank + kv->rope, kv->ctx, length, threads);
    fill_rows(kv->index_rows, kv->type, (int64_t)kv->index_layers * kv->ctx, kv->index_dim, kv->ctx, length, threads);
}

fr_status fr_bench_measure_contexts(fr_bench_run *b, fr_error *error) {
    const fr_config *config = &b->model->config;
    contexts c = {.b = b};
    fr_figure seconds[8 * FIGURES];
    fr_status status;
    int figures = figures_of(b->model);
    choose_lengths(&c);
    int longest = c.lengths[c.count - 1];
    c.logits = fr_alloc((size_t)config->vocab_size * sizeof *c.logits);
    b->result->contexts = fr_alloc_zeroed((size_t)c.count, sizeof *b->result->contexts);
    FR_CHECK(c.logits && b->result->contexts ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory"));
    FR_CHECK(fr_cache_create(&c.kv, config, FR_CACHE_MAIN, longest + 1, b->options.kv, error));
    FR_CHECK(fr_workspace_create(&c.ws, b->model, FR_DECODE_ROWS, longest + 1, error));
    for (int i = 0; i < c.count; i++) FR_CHECK(create_account(&c.accounts[i], b->model->threads, error));
    fill(&c.kv, longest, b->model->threads);
    status = fr_bench_rounds(b, "context", figures * c.count, run_context, &c, seconds, error);
    if (status != FR_OK && status != FR_INTERRUPTED) goto done;
    for (int i = 0; i < c.count; i++) {
        const fr_figure *of = seconds + i * figures;
        fr_bench_context *to = &b->result->contexts[b->result->num_contexts];
        if (of[PASS].samples == 0) continue;
        to->tokens = c.lengths[i];
        to->ms = fr_figure_scale(of[PASS], 1e3);
        to->attention_ms = fr_figure_scale(of[ATTENTION], 1e3);
        to->shares = shares_of(&c.accounts[i]);
        if (figures > CHOICE) to->index_ms = fr_figure_scale(of[CHOICE], 1e3);
        b->result->num_contexts++;
    }
done:
    for (int i = 0; i < c.count; i++) fr_free(c.accounts[i].attention_s);
    fr_workspace_release(&c.ws);
    fr_kv_cache_release(&c.kv);
    fr_free(c.logits);
    return status;
}
