/* The central promise: drafting changes nothing but speed. With MTP on, at any depth, with any hidden-state variant, by
 * n-gram lookup, greedy or sampled, the tokens, the logits they were chosen from and the KV cache are bit for bit those
 * of a session that never drafts. Checked against drafts as they come and against forced histories of acceptance and
 * rejection.
 *
 * Run with the argument `full` for the whole product of settings instead of a cover of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "goldens.h"
#include "mtp/drafters/forced.h"
#include "mtp/drafters/mtp.h"
#include "mtp/session.h"

static bool full; /* every combination, more tokens */

/* Around the rows of a decode pass (8), a tile of packed rows (64) and a block of scales or cache (128). */
static const int prompt_lengths[] = {1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 200};
enum { PROMPTS = sizeof prompt_lengths / sizeof prompt_lengths[0], MAX_PROMPT = 200, MAX_NEW = 160 };

/* ---- Settings ---- */

/* Ways to draft. The cover takes a way in some of six turns, which go round with prompts, models and instruction sets. */
#define ON FR_DRAFTING_ON
#define AUTO FR_DRAFTING_AUTO
#define MTP FR_DRAFTER_MTP
#define NGRAM FR_DRAFTER_NGRAM
#define POST FR_HIDDEN_POST_NORM
#define PRE FR_HIDDEN_PRE_NORM
#define OUT_POST FR_RECYCLE_POST_NORM
#define OUT_PRE FR_RECYCLE_PRE_NORM
#define PINNED FR_RECYCLE_PINNED
static const struct way {
    const char *name;
    fr_drafting drafting;
    fr_drafter_kind drafter;
    int depth;
    fr_hidden_state hidden;
    fr_recycle recycle;
    const char *turns;
} ways[] = {
    {"mtp", ON, MTP, 1, POST, OUT_POST, "012345"}, /* first: its MTP cache is what the others' is held to */
    {"mtp", ON, MTP, 2, POST, OUT_POST, "4"},
    {"mtp", ON, MTP, 3, POST, OUT_POST, "3"},
    {"mtp", ON, MTP, 4, POST, OUT_POST, "2"},
    {"mtp", ON, MTP, 5, POST, OUT_POST, "1"},
    {"mtp", ON, MTP, 6, POST, OUT_POST, "0"},
    {"mtp", ON, MTP, 7, POST, OUT_POST, "5"},
    {"mtp, hidden state before the norm", ON, MTP, 3, PRE, OUT_POST, "03"},
    {"mtp, recycled before the norm", ON, MTP, 3, POST, OUT_PRE, "14"},
    {"mtp, both before the norm", ON, MTP, 3, PRE, OUT_PRE, "25"},
    {"mtp, pinned", ON, MTP, 4, POST, PINNED, "14"},
    {"mtp, pinned before the norm", ON, MTP, 7, PRE, PINNED, "2"},
    {"n-gram", ON, NGRAM, 4, POST, OUT_POST, "03"},
    {"auto", AUTO, MTP, 4, POST, OUT_POST, "03"},
};
enum { WAYS = sizeof ways / sizeof *ways };
_Static_assert(FR_MAX_DEPTH == 7, "the ways above go through all depths");

/* Numbers that a model and its caches compute with. The cover takes the second and the third on the best instruction set, the
 * second or the third with every prompt, and one of the four on each other instruction set. */
static const struct setting {
    fr_act act;
    fr_kv kv;
} settings[] = {
    {FR_ACT_NONE, FR_KV_BF16},
    {FR_ACT_FP8, FR_KV_BF16},
    {FR_ACT_NONE, FR_KV_F32},
    {FR_ACT_FP8, FR_KV_F32},
};

/* What forced histories run with; the cover takes one for each model. */
static const struct forced_setting {
    int prompt;
    fr_act act;
    fr_kv kv;
    int threads;
    float temperature;
} forced_settings[] = {
    {1, FR_ACT_FP8, FR_KV_BF16, 1, 0.0f},
    {9, FR_ACT_NONE, FR_KV_BF16, 2, 0.0f},
    {64, FR_ACT_FP8, FR_KV_F32, 1, 0.0f},
    {120, FR_ACT_NONE, FR_KV_F32, 2, 0.8f},
};

/* Which drafts of a forced cycle are right. */
typedef enum pattern { ANY, ALL, NONE, ALL_THEN_NONE, PATTERNS } pattern;
static const char *const pattern_names[] = {"any", "all", "none", "all, then none"};

/* ---- What a run is held to ---- */

/* What a session without drafts makes of a prompt, and that session. */
typedef struct baseline {
    char label[128];
    const fr_model *model;
    int prompt, count, vocab;
    int32_t text[MAX_PROMPT + MAX_NEW];
    float *logits; /* [count, vocab]: what chose each token */
    fr_session *plain;
    fr_session *followed; /* one that drafted by one: its MTP cache is the standard for others; NULL until it was made */
} baseline;

/* Any text will do as a prompt. */
static void make_prompt(int32_t *tokens, int length, int vocab, uint32_t seed) {
    for (int i = 0; i < length; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % (uint32_t)vocab);
    }
}

typedef struct watcher {
    const baseline *base;
    const char *what;
    int made, largest_step;
    float *logits; /* where to keep them, or NULL: compare with base */
} watcher;

static void watch(void *user, fr_session *session, const fr_step *step) {
    watcher *w = user;
    size_t size = (size_t)w->base->vocab * sizeof(float);
    w->made += step->count;
    if (step->count > w->largest_step) w->largest_step = step->count;
    const float *got = fr_session_logits(session);
    assert_non_null(got);
    if (w->logits) {
        memcpy(w->logits + (size_t)(w->made - 1) * (size_t)w->base->vocab, got, size);
        return;
    }
    const int32_t *expected = w->base->text + w->base->prompt;
    for (int i = w->made - step->count; i < w->made; i++) {
        if (step->tokens[i - (w->made - step->count)] != expected[i])
            fail_msg("%s, %s: token %d differs", w->base->label, w->what, i);
    }
    if (memcmp(got, w->base->logits + (size_t)(w->made - 1) * (size_t)w->base->vocab, size) != 0)
        fail_msg("%s, %s: logits of token %d differ", w->base->label, w->what, w->made - 1);
}

static void same_cache(const baseline *b, const char *what, const fr_kv_cache *got, const fr_kv_cache *want, int length) {
    size_t size = want->type == FR_KV_F32 ? 4 : 2, bytes = (size_t)(want->rank + want->rope) * size;
    for (int layer = 0; layer < want->index_layers; layer++)
        for (int pos = 0; pos < length; pos++)
            if (memcmp(fr_kv_cache_key(got, layer, pos), fr_kv_cache_key(want, layer, pos), (size_t)want->index_dim * size) != 0)
                fail_msg("%s, %s: index key %d differs at position %d", b->label, what, layer, pos);
    for (int layer = 0; layer < want->layers; layer++) {
        for (int pos = 0; pos < length; pos++) {
            if (memcmp(fr_kv_cache_row(got, layer, pos), fr_kv_cache_row(want, layer, pos), bytes) != 0)
                fail_msg("%s, %s: cache of layer %d differs at position %d", b->label, what, layer, pos);
        }
    }
}

static void same_caches(const baseline *b, const char *what, const fr_session *s) {
    assert_int_equal(s->kv.length, b->plain->kv.length);
    same_cache(b, what, &s->kv, &b->plain->kv, s->kv.length);
    if (!fr_mtp_drafter_of(s->drafter) || !b->followed || s->options.mtp_hidden != FR_HIDDEN_POST_NORM) return;
    const fr_kv_cache *got = &fr_mtp_drafter_of(s->drafter)->kv, *want = &fr_mtp_drafter_of(b->followed->drafter)->kv;
    int shorter = got->length < want->length ? got->length : want->length;
    assert_true(shorter >= b->prompt - 1);
    same_cache(b, what, got, want, shorter);
}

static void make_baseline(baseline *b, const char *label, const fr_model *model, fr_session_options o, int prompt, int count) {
    fr_model_info info;
    fr_model_get_info(model, &info);
    *b = (baseline){.model = model, .prompt = prompt, .count = count, .vocab = info.vocab_size};
    snprintf(b->label, sizeof b->label, "%s, prompt of %d", label, prompt);
    b->logits = calloc((size_t)(count * b->vocab), sizeof *b->logits);
    assert_non_null(b->logits);
    make_prompt(b->text, prompt, b->vocab, (uint32_t)prompt);
    o.drafting = FR_DRAFTING_OFF;
    o.ctx = prompt + count;
    b->plain = driver_session(model, &o);
    driver_prefill(b->plain, b->text, prompt);
    watcher w = {.base = b, .logits = b->logits};
    driver_generate(b->plain, count, b->text + prompt, watch, &w);
    assert_int_equal(w.largest_step, 1);
}

static void release_baseline(baseline *b) {
    fr_session_destroy(b->plain);
    fr_session_destroy(b->followed);
    free(b->logits);
}

/* One run that drafts, held to the baseline. Returns how many drafts were accepted. */
static int check_run(baseline *b, fr_session_options o, fr_force_fn force, void *user, const char *variant) {
    int32_t tokens[MAX_NEW];
    char what[96];
    snprintf(what, sizeof what, "%s depth %d", variant, o.depth);
    o.ctx = b->prompt + b->count;
    fr_session *s = driver_session(b->model, &o);
    fr_forced_drafter forced = fr_forced_drafter_around(s->drafter, force, user);
    if (force) fr_session_swap_drafter(s, &forced.base);
    driver_prefill(s, b->text, b->prompt);
    watcher w = {.base = b, .what = what};
    driver_generate(s, b->count, tokens, watch, &w);
    fr_session_swap_drafter(s, forced.inner);
    same_caches(b, what, s);
    fr_stats stats;
    fr_session_get_stats(s, &stats);
    if (o.drafting == FR_DRAFTING_ON && o.drafter == FR_DRAFTER_MTP && b->count > 2) assert_true(stats.num_drafts > 0);
    if (o.drafting == FR_DRAFTING_ON && o.depth == 1 && o.mtp_hidden == FR_HIDDEN_POST_NORM && !force && !b->followed)
        b->followed = s;
    else
        fr_session_destroy(s);
    return (int)stats.num_accepted_tokens;
}

/* ---- Every depth, prompt length and variant ---- */

/* The ways on one prompt: all of them, or those whose turn it is. Returns the accepted drafts of plain MTP drafting. */
static int check_prompt(const char *label, const fr_model *model, fr_kv kv, fr_sampling sampling, int prompt, bool all,
                        int turn) {
    baseline b;
    int accepted = 0;
    make_baseline(&b, label, model, (fr_session_options){.kv = kv, .sampling = sampling}, prompt, full ? 48 : 20);
    for (int i = 0; i < WAYS; i++) {
        const struct way *w = &ways[i];
        if (!all && !strchr(w->turns, '0' + turn % 6)) continue;
        if (fr_drafter_type_of((int)w->drafter)->needs_mtp && !model->mtp.files.present) continue;
        fr_session_options o = {.kv = kv,
                                .sampling = sampling,
                                .drafting = w->drafting,
                                .drafter = w->drafter,
                                .depth = w->depth,
                                .mtp_hidden = w->hidden,
                                .mtp_recycle = w->recycle};
        int found = check_run(&b, o, NULL, NULL, w->name);
        if (strcmp(w->name, "mtp") == 0) accepted += found;
    }
    for (int kind = 0; all && kind < FR_DRAFTER_COUNT; kind++) { /* those too that have no way of their own in the table */
        if (fr_drafter_type_of(kind)->needs_mtp && !model->mtp.files.present) continue;
        fr_session_options o = {
            .kv = kv, .sampling = sampling, .drafting = FR_DRAFTING_ON, .drafter = (fr_drafter_kind)kind, .depth = 3};
        check_run(&b, o, NULL, NULL, fr_drafter_type_of(kind)->name);
    }
    release_baseline(&b);
    return accepted;
}

static void check_setting(const char *name, fr_isa isa, const struct setting *s, int threads, bool every_prompt, int turn) {
    fr_model *model = driver_open(name, isa, s->act, threads);
    if (!model) return;
    char label[96];
    fr_model_info info;
    fr_model_get_info(model, &info);
    int accepted = 0;
    snprintf(label, sizeof label, "%s, %s, act %s, kv %s, %d threads", name, info.isa, info.act_fp8 ? "fp8" : "none",
             s->kv == FR_KV_F32 ? "f32" : "bf16", threads);
    for (int i = 0; i < PROMPTS; i++) {
        if (!every_prompt && (i % 4 != turn % 4 || prompt_lengths[i] > 65)) continue;
        bool sampled = full ? i % 2 == 1 : (i + turn) % 5 == 0;
        fr_sampling sampling = {.temperature = sampled ? 0.7f : 0.0f, .top_k = sampled ? 40 : 0, .seed = (uint64_t)turn};
        accepted += check_prompt(label, model, s->kv, sampling, prompt_lengths[i], full || prompt_lengths[i] == 9, turn + i);
    }
    /* Agreement means something only where drafts were accepted. */
    if (strstr(name, "-mtp-")) assert_true(accepted > 0);
    fr_model_destroy(model);
}

static void every_way_of_drafting_gives_the_same_bits(void **state) {
    (void)state;
    fr_isa best = driver_best_isa();
    for (int i = 0; i < GOLDEN_MODELS; i++)
        for (int j = 0; j < DRIVER_ISAS; j++)
            for (int k = 0; k < 4; k++) {
                bool on_best = driver_isa(j) == best, every_prompt = full || (on_best && k == 1 + i % 2);
                if (full || (on_best ? k == 1 || k == 2 : k == (i + j) % 4))
                    check_setting(golden_cases[i].model, driver_isa(j), &settings[k], 1 + (i + k) % 4, every_prompt, i + j + k);
            }
}

/* Neighbours: MTP modules that are dense or have an embedding and head of their own, networks without experts or without a
 * module. */
static void every_way_of_drafting_gives_the_same_bits_with_neighbours(void **state) {
    (void)state;
    for (int i = GOLDEN_MODELS; i < GOLDEN_ALL; i++)
        check_setting(golden_cases[i].model, driver_best_isa(), &settings[i % 4], 1 + i % 3, full, i);
}

/* ---- Threads ---- */

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    enum { LENGTH = 150, COUNT = 24 };
    for (int i = 0; i < 2 * GOLDEN_ALL; i++) {
        const char *name = golden_cases[i / 2].model;
        fr_act act = i % 2 ? FR_ACT_FP8 : FR_ACT_NONE;
        if (i >= 2 * GOLDEN_MODELS && i < 2 * GOLDEN_SPARSE) continue;
        if (!full && i % 4 != 3 && i % 4 != 0) continue;
        fr_model *one = driver_open(name, FR_ISA_AUTO, act, 1);
        baseline b;
        char label[96];
        fr_session_options o = {.kv = i & 2 ? FR_KV_F32 : FR_KV_BF16};
        snprintf(label, sizeof label, "%s, act %d, one thread", name, act);
        make_baseline(&b, label, one, o, LENGTH, COUNT);
        for (int threads = 2; threads <= 5; threads++) {
            fr_model *more = driver_open(name, FR_ISA_AUTO, act, threads);
            char what[32];
            snprintf(what, sizeof what, "%d threads", threads);
            b.model = more;
            o.drafting = threads % 2 ? FR_DRAFTING_ON : FR_DRAFTING_OFF;
            o.depth = 3;
            check_run(&b, o, NULL, NULL, what);
            fr_model_destroy(more);
        }
        release_baseline(&b);
        fr_model_destroy(one);
    }
}

/* ---- Forced histories ---- */

typedef struct forced {
    const baseline *base;
    uint32_t random;
    pattern pattern;
    int expected; /* accepted drafts of this cycle */
    int cycle, total_accepted, total_rejected;
} forced;

static uint32_t draw(forced *f, uint32_t below) {
    f->random = f->random * 1664525u + 1013904223u;
    return (f->random >> 8) % below;
}

/* Drafts of which the first `expected` are what the main model will say and the next one is not. */
static void force(void *user, const fr_draft_context *context, fr_cycle *cycle) {
    forced *f = user;
    const baseline *b = f->base;
    int n = context->length, count = cycle->planned;
    if (f->pattern == ANY) count = (int)draw(f, (uint32_t)count + 1);
    switch (f->pattern) {
    case ANY:
        f->expected = (int)draw(f, (uint32_t)count + 1);
        break;
    case ALL_THEN_NONE:
        f->expected = f->cycle % 2 ? count : 0;
        break;
    default:
        f->expected = f->pattern == ALL ? count : 0;
    }
    cycle->made = 0;
    for (int j = 0; j < count; j++) {
        int32_t right = b->text[n + j], wrong = (right + 1 + (int32_t)draw(f, (uint32_t)b->vocab - 1)) % b->vocab;
        fr_draft_propose(context, cycle,
                         j < f->expected    ? right
                         : j == f->expected ? wrong
                                            : (int32_t)draw(f, (uint32_t)b->vocab));
    }
    f->cycle++;
    f->total_accepted += f->expected;
    f->total_rejected += count - f->expected;
}

/* The patterns on one model. */
static void check_forced(const char *name, fr_isa isa, const struct forced_setting *s, int seed) {
    fr_model *model = driver_open(name, isa, s->act, s->threads);
    if (!model) return;
    baseline b;
    fr_session_options o = {.kv = s->kv, .sampling = {.temperature = s->temperature, .seed = 5}};
    char label[96];
    snprintf(label, sizeof label, "%s, forced", name);
    make_baseline(&b, label, model, o, s->prompt, full ? MAX_NEW : 64);
    o.drafting = FR_DRAFTING_ON;
    o.depth = 1;
    check_run(&b, o, NULL, NULL, "mtp");
    o.depth = FR_MAX_DEPTH;
    for (int p = 0; p < PATTERNS; p++) {
        forced f = {.base = &b, .random = (uint32_t)(17 * seed + p), .pattern = (pattern)p};
        int accepted = check_run(&b, o, force, &f, pattern_names[p]);
        assert_int_equal(accepted, f.total_accepted);
        if (p != ALL) assert_true(f.total_rejected > 10);
        if (p != NONE) assert_true(f.total_accepted > 10);
    }
    release_baseline(&b);
    fr_model_destroy(model);
}

static void any_history_of_acceptance_gives_the_same_bits(void **state) {
    (void)state;
    fr_isa best = driver_best_isa();
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        if (!full) check_forced(golden_cases[i].model, best, &forced_settings[i % 4], i);
        for (int j = 0; full && j < 4; j++) check_forced(golden_cases[i].model, driver_isa((i + j) % 3), &forced_settings[j], i);
    }
    for (int i = GOLDEN_SPARSE; i < GOLDEN_ALL; i++) /* across the border from which on positions are chosen, 16, and beyond it */
        for (int j = i % 2; j < 4; j += full ? 1 : 2) check_forced(golden_cases[i].model, best, &forced_settings[j], i);
}

/* ---- A conversation: turns, and cuts back into what was said ---- */

/* The same calls with and without drafting; returns the session at the end. */
static fr_session *converse(const fr_model *model, fr_session_options o, const int32_t *user_tokens, int32_t *made) {
    static const int turns[][3] = {{20, 12, 32}, {5, 20, 40}, {3, 9, 25}, {1, 15, 41}}; /* prefill, generate, cut to */
    fr_session *s = driver_session(model, &o);
    int at = 0, length = 0;
    for (int i = 0; i < 4; i++) {
        driver_prefill(s, user_tokens + i * 7, turns[i][0]);
        driver_generate(s, turns[i][1], made + at, NULL, NULL);
        at += turns[i][1];
        length += turns[i][0] + turns[i][1];
        assert_int_equal(fr_session_length(s), length);
        assert_int_equal(fr_session_truncate(s, (size_t)turns[i][2], NULL), FR_OK);
        length = turns[i][2];
        driver_generate(s, 10, made + at, NULL, NULL); /* right after a cut, without a prefill */
        at += 10;
        length += 10;
    }
    return s;
}

static void a_conversation_with_cuts_goes_on_with_the_same_bits(void **state) {
    (void)state;
    for (int i = 0; i < GOLDEN_ALL; i++) {
        if (i >= GOLDEN_MODELS && i < GOLDEN_SPARSE) continue;
        fr_model *model = driver_open(golden_cases[i].model, FR_ISA_AUTO, i % 2 ? FR_ACT_FP8 : FR_ACT_NONE, 1);
        fr_model_info info;
        fr_model_get_info(model, &info);
        int32_t prompt[64], expected[128] = {0}, made[128] = {0};
        make_prompt(prompt, 64, info.vocab_size, 3);
        baseline b = {.vocab = info.vocab_size, .prompt = 1};
        snprintf(b.label, sizeof b.label, "%s, conversation", golden_cases[i].model);
        fr_session_options o = {.drafting = FR_DRAFTING_OFF, .ctx = 128};
        b.plain = converse(model, o, prompt, expected);
        for (int depth = 1; depth <= FR_MAX_DEPTH; depth += 2) {
            o.drafting = FR_DRAFTING_ON;
            o.depth = depth;
            fr_session *s = converse(model, o, prompt, made);
            assert_memory_equal(made, expected, sizeof made);
            assert_memory_equal(fr_session_logits(s), fr_session_logits(b.plain), (size_t)b.vocab * sizeof(float));
            same_caches(&b, "conversation", s);
            fr_session_destroy(s);
        }
        fr_session_destroy(b.plain);
        fr_model_destroy(model);
    }
}

/* The end of the context: a cycle drafts no more than still fits, and the last tokens are the same. */
static void a_full_context_ends_with_the_same_tokens(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    int32_t prompt[16], expected[24], made[24];
    make_prompt(prompt, 16, 320, 9);
    for (int depth = 0; depth <= FR_MAX_DEPTH; depth++) {
        fr_session_options o = {.drafting = depth ? FR_DRAFTING_ON : FR_DRAFTING_OFF, .depth = depth, .ctx = 40};
        fr_session *s = driver_session(model, &o);
        int32_t *tokens = depth ? made : expected;
        driver_prefill(s, prompt, 16);
        for (int at = 0; at < 24;) { /* asks for more than there is room for */
            fr_step step;
            assert_int_equal(fr_session_step(s, 100, &step, NULL), FR_OK);
            assert_true(at + step.count <= 24);
            memcpy(tokens + at, step.tokens, (size_t)step.count * sizeof *tokens);
            at += step.count;
        }
        fr_step step;
        assert_int_equal(fr_session_step(s, 100, &step, NULL), FR_ERROR_CONTEXT);
        if (depth) assert_memory_equal(made, expected, sizeof made);
        fr_session_destroy(s);
    }
    fr_model_destroy(model);
}

int main(int argc, char **argv) {
    full = argc > 1 && strcmp(argv[1], "full") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_drafting_gives_the_same_bits),
        cmocka_unit_test(every_way_of_drafting_gives_the_same_bits_with_neighbours),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(any_history_of_acceptance_gives_the_same_bits),
        cmocka_unit_test(a_conversation_with_cuts_goes_on_with_the_same_bits),
        cmocka_unit_test(a_full_context_ends_with_the_same_tokens),
    };
    return cmocka_run_group_tests_name("lossless", tests, NULL, NULL);
}
