/* The library against the goldens, through forerun.h, with weights-only FP8 (activations in float32): on every
 * instruction set of this machine, in the regimes of decode and of prefill, drafting or not.
 *
 * No router or greedy choice in these goldens is closer than 1e-4 (the first test holds them to that) and float32
 * implementations differ by about 1e-5, so every expert and every token must be the golden's own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernels/isa.h"
#include "driver.h"
#include "goldens.h"
#include "mtp/drafters/forced.h"
#include "mtp/drafters/mtp.h"
#include "mtp/session.h"
#include "reference/reference.h"

/* Largest difference over the spread of the values compared. */
static double relative(const float *a, const float *b, size_t n) {
    double low = b[0], high = b[0];
    for (size_t i = 1; i < n; i++) {
        low = fmin(low, b[i]);
        high = fmax(high, b[i]);
    }
    return max_abs_diff(a, b, n) / (high - low);
}

static void hold(double *worst, double value, double limit, const golden *g, const char *isa, const char *what) {
    *worst = fmax(*worst, value);
    if (!(value <= limit)) fail_msg("%s on %s: %s is off by %.3g of its range, limit %.3g", g->label, isa, what, value, limit);
}

static void same_experts(const golden *g, const int32_t *experts, const char *isa) {
    for (int i = 0; i < g->moe_layers * g->length * g->top_k; i++) {
        if (experts[i] == g->router_idx[i]) continue;
        int row = i / g->top_k;
        fail_msg("%s on %s: MoE layer %d row %d chose expert %d, not %d (margin %g)", g->label, isa, row / g->length,
                 row % g->length, experts[i], g->router_idx[i], g->router_margin[row]);
    }
}

static void no_golden_choice_is_close(void **state) {
    (void)state;
    for (int i = 0; i < GOLDEN_ALL * GOLDEN_LENGTHS; i++) {
        const golden_case *c = &golden_cases[i / GOLDEN_LENGTHS];
        golden g;
        golden_load(c->model, c->lengths[i % GOLDEN_LENGTHS], GOLDEN_F32, &g);
        for (int j = 0; j < g.moe_layers * g.length; j++) assert_true(g.router_margin[j] > GOLDEN_MARGIN);
        for (int j = 0; g.mtp_router_idx && j < g.length; j++) assert_true(g.mtp_router_margin[j] > GOLDEN_MARGIN);
        for (int j = 0; g.has_chain && j < GOLDEN_CHAIN; j++) assert_true(g.chain.margin[j] > GOLDEN_MARGIN);
        for (int j = 0; g.index_topk && j < GOLDEN_CHAIN; j++) assert_true(g.chain_shared.margin[j] > GOLDEN_MARGIN);
        for (int j = 0; j < g.index_layers * g.length; j++) assert_true(g.index_margin[j] > GOLDEN_MARGIN);
        for (int j = 0; g.index_topk && j < g.length; j++) assert_true(g.mtp_index_margin[j] > GOLDEN_MARGIN);
        for (int j = 0; j < GOLDEN_GREEDY; j++) assert_true(g.greedy_margin[j] > 100 * GOLDEN_MARGIN);
        golden_release(&g);
    }
}

/* ---- Scores ---- */

/* Limits are fractions of the range of what is compared, about twice what was measured. */
typedef struct limits {
    double logits, hidden, mtp_logits;
} limits;

static void check_scores(const golden *g, const fr_model *model, int chunk, const char *isa, const limits *limit, limits *worst) {
    driver_scores s;
    fr_drafting drafting = g->has_mtp ? FR_DRAFTING_ON : FR_DRAFTING_OFF;
    fr_session_options o = {.kv = FR_KV_F32, .drafting = drafting, .prefill_chunk = chunk};
    size_t rows = (size_t)g->length;
    driver_score(model, &o, g->tokens, g->length, &s);
    same_experts(g, s.experts, isa);
    hold(&worst->logits, relative(s.logits, g->logits, rows * (size_t)g->vocab), limit->logits, g, isa, "logits");
    hold(&worst->hidden, relative(s.hidden, g->hidden, rows * (size_t)g->hidden_size), limit->hidden, g, isa, "hidden");
    if (g->has_mtp && rows > 1)
        hold(&worst->mtp_logits, relative(s.mtp_logits, g->mtp_logits, (rows - 1) * (size_t)g->vocab), limit->mtp_logits, g, isa,
             "mtp_logits");
    driver_scores_release(&s);
}

/* The decode kernels and the portable prefill path compute in float32 throughout; the packed prefill path carries
 * activations as two BF16 parts, 16 bits of mantissa. */
static const limits float32_limits = {1e-6, 1e-6, 1e-6}, packed_limits = {1e-5, 1e-5, 1e-5};

static void scores_agree_with_the_golden_network(void **state) {
    (void)state;
    for (int isa = 0; isa < DRIVER_ISAS; isa++) {
        limits decode = {0}, prefill = {0};
        bool packed = driver_packs(driver_isa(isa));
        for (int i = 0; i < GOLDEN_ALL; i++) {
            fr_model *model = driver_open(golden_cases[i].model, driver_isa(isa), FR_ACT_NONE, 1);
            if (!model) continue;
            for (int j = 0; j < GOLDEN_LENGTHS; j++) {
                golden g;
                golden_load(golden_cases[i].model, golden_cases[i].lengths[j], GOLDEN_F32, &g);
                if (g.length <= 70) check_scores(&g, model, 5, fr_isa_name(driver_isa(isa)), &float32_limits, &decode);
                check_scores(&g, model, 0, fr_isa_name(driver_isa(isa)), packed ? &packed_limits : &float32_limits, &prefill);
                golden_release(&g);
            }
            fr_model_destroy(model);
        }
        print_message("%s: of their ranges, decode: logits %.2g hidden %.2g mtp_logits %.2g; prefill: %.2g %.2g %.2g\n",
                      fr_isa_name(driver_isa(isa)), decode.logits, decode.hidden, decode.mtp_logits, prefill.logits,
                      prefill.hidden, prefill.mtp_logits);
    }
}

/* ---- Greedy continuations ---- */

static void check_greedy(const golden *g, const fr_model *model, const fr_session_options *options, const char *isa) {
    int32_t tokens[GOLDEN_GREEDY];
    fr_session_options o = *options;
    o.ctx = g->length + GOLDEN_GREEDY;
    fr_session *session = driver_session(model, &o);
    driver_prefill(session, g->tokens, g->length);
    driver_generate(session, GOLDEN_GREEDY, tokens, NULL, NULL);
    for (int i = 0; i < GOLDEN_GREEDY; i++) {
        if (tokens[i] != g->greedy[i])
            fail_msg("%s on %s, mtp %d depth %d: token %d is %d, not %d (margin %g)", g->label, isa, o.drafting, o.depth, i,
                     tokens[i], g->greedy[i], g->greedy_margin[i]);
    }
    fr_session_destroy(session);
}

static void greedy_text_is_the_golden_one(void **state) {
    (void)state;
    const fr_session_options plans[] = {
        {.kv = FR_KV_F32, .drafting = FR_DRAFTING_OFF},
        {.kv = FR_KV_F32, .drafting = FR_DRAFTING_ON, .depth = 1},
        {.kv = FR_KV_F32, .drafting = FR_DRAFTING_ON, .depth = 4},
        {.kv = FR_KV_F32, .drafting = FR_DRAFTING_AUTO},
    };
    fr_isa best = driver_best_isa();
    for (int isa = 0; isa < DRIVER_ISAS; isa++) {
        for (int i = 0; i < GOLDEN_ALL; i++) {
            fr_model *model = driver_open(golden_cases[i].model, driver_isa(isa), FR_ACT_NONE, 1);
            if (!model) continue;
            for (int j = 0; j < GOLDEN_LENGTHS; j++) {
                golden g;
                golden_load(golden_cases[i].model, golden_cases[i].lengths[j], GOLDEN_F32, &g);
                for (int k = 0; k < (g.has_mtp ? 4 : 1); k++) {
                    /* All plans for the middle length on the best instruction set, a cover of the rest. */
                    bool cover = driver_isa(isa) == best ? j == 1 || k == 2 : j == 1 && k == 1;
                    if (cover || !g.has_mtp) check_greedy(&g, model, &plans[k], fr_isa_name(driver_isa(isa)));
                }
                golden_release(&g);
            }
            fr_model_destroy(model);
        }
    }
}

/* The first cycle after a prompt drafts from its last position. */
typedef struct first_drafts {
    int32_t drafts[GOLDEN_CHAIN];
    int cycles;
} first_drafts;

static void keep_first(void *user, const fr_draft_context *context, fr_cycle *cycle) {
    first_drafts *f = user;
    (void)context;
    if (f->cycles++ == 0 && cycle->made == GOLDEN_CHAIN) memcpy(f->drafts, cycle->drafts, sizeof f->drafts);
}

static void check_chain(const golden *g, const fr_model *model, const golden_chain *chain, const char *isa) {
    fr_session_options o = {
        .kv = FR_KV_F32, .drafting = FR_DRAFTING_ON, .depth = GOLDEN_CHAIN, .ctx = g->length + GOLDEN_CHAIN + 2};
    fr_session *session = driver_session(model, &o);
    first_drafts first = {.cycles = 0};
    fr_forced_drafter watched = fr_forced_drafter_around(session->drafter, keep_first, &first);
    int32_t tokens[2];
    fr_session_swap_drafter(session, &watched.base);
    driver_prefill(session, g->tokens, g->length);
    driver_generate(session, 1, tokens, NULL, NULL);
    fr_step step;
    assert_int_equal(fr_session_step(session, GOLDEN_CHAIN + 1, &step, NULL), FR_OK);
    for (int i = 0; i < GOLDEN_CHAIN; i++)
        if (first.drafts[i] != chain->drafts[i])
            fail_msg("%s on %s: draft %d is %d, not %d (margin %g)", g->label, isa, i, first.drafts[i], chain->drafts[i],
                     chain->margin[i]);
    fr_session_swap_drafter(session, watched.inner);
    fr_session_destroy(session);
}

static void chained_drafts_are_the_golden_ones(void **state) {
    int chains = 0;
    (void)state;
    for (int isa = 0; isa < DRIVER_ISAS; isa++) {
        for (int i = GOLDEN_MODELS; i < GOLDEN_ALL; i++) {
            fr_model *model = driver_open(golden_cases[i].model, driver_isa(isa), FR_ACT_NONE, 1);
            for (int j = 0; model && j < GOLDEN_LENGTHS; j++) {
                golden g;
                golden_load(golden_cases[i].model, golden_cases[i].lengths[j], GOLDEN_F32, &g);
                for (int shared = 0; shared <= (g.index_topk > 0); shared++) { /* whatever the config says */
                    model->config.index_share_for_mtp_iteration = shared;
                    if (g.has_chain) check_chain(&g, model, shared ? &g.chain_shared : &g.chain, fr_isa_name(driver_isa(isa)));
                    chains += g.has_chain;
                }
                golden_release(&g);
            }
            fr_model_destroy(model);
        }
    }
    assert_true(chains >= 10 * GOLDEN_LENGTHS);
}

/* ---- Drafting ----
 *
 * A wrong hidden state would lose nothing but acceptance, silently. So the counts are held to the reference, and so are
 * the logits of each cycle's last draft, which show what the chain before it was fed even where the drafts come out
 * alike. */

typedef struct observed {
    const ref_drafting *expected;
    const fr_mtp_drafter *mtp;
    int vocab, drafts;
    double worst;
} observed;

/* Looks at the drafts and leaves them as they are. */
static void observe(void *user, const fr_draft_context *context, fr_cycle *cycle) {
    observed *o = user;
    (void)context;
    if (cycle->made == 0) return;
    assert_true(o->drafts < o->expected->drafts);
    const float *want = o->expected->logits + (size_t)o->drafts * (size_t)o->vocab;
    o->worst = fmax(o->worst, relative(o->mtp->logits, want, (size_t)o->vocab));
    o->drafts++;
}

static void check_drafting(const golden *g, const fr_model *model, const ref_model *ref, fr_session_options o) {
    int32_t tokens[GOLDEN_GREEDY], *text = golden_text(g);
    int length = g->length + GOLDEN_GREEDY;
    ref_output main_pass;
    ref_drafting expected;
    static const ref_recycle recycles[] = {REF_RECYCLE_OUT_NORMED, REF_RECYCLE_OUT, REF_RECYCLE_PINNED};
    ref_forward(ref, text, length, REF_ACT_F32, &main_pass);
    size_t last_layer = (size_t)(g->layers - 1) * (size_t)(length * g->hidden_size);
    const float *hidden = o.mtp_hidden == FR_HIDDEN_PRE_NORM ? main_pass.layer_out + last_layer : main_pass.hidden;
    ref_draft(ref, text, length, g->length, hidden, o.depth, recycles[o.mtp_recycle], REF_ACT_F32, &expected);

    o.ctx = length;
    fr_session *session = driver_session(model, &o);
    observed seen = {.expected = &expected, .mtp = fr_mtp_drafter_of(session->drafter), .vocab = g->vocab};
    fr_forced_drafter watched = fr_forced_drafter_around(session->drafter, observe, &seen);
    fr_session_swap_drafter(session, &watched.base);
    driver_prefill(session, g->tokens, g->length);
    driver_generate(session, GOLDEN_GREEDY, tokens, NULL, NULL);
    assert_memory_equal(tokens, g->greedy, sizeof tokens);
    fr_stats stats;
    fr_session_get_stats(session, &stats);
    /* A draft that was a toss-up may differ, and then all later counts do. None is in these texts. */
    if (!(expected.margin > GOLDEN_MARGIN)) fail_msg("%s: a draft has margin %g", g->label, expected.margin);
    assert_int_equal(stats.num_cycles, expected.cycles);
    assert_int_equal(seen.drafts, expected.drafts);
    if (!(seen.worst < 2e-6))
        fail_msg("%s, depth %d, hidden %d, recycled %d: logits of a draft are off by %.3g of their range", g->label, o.depth,
                 o.mtp_hidden, o.mtp_recycle, seen.worst);
    assert_int_equal(stats.num_drafts, expected.drafts);
    assert_int_equal(stats.num_draft_tokens, expected.drafted);
    assert_int_equal(stats.num_accepted_tokens, expected.accepted);
    for (int j = 0; j < FR_MAX_DEPTH; j++) {
        assert_int_equal(stats.drafted_at[j], expected.drafted_at[j]);
        assert_int_equal(stats.accepted_at[j], expected.accepted_at[j]);
    }
    if (o.depth == 1 && o.mtp_hidden == FR_HIDDEN_POST_NORM) {
        assert_int_equal(expected.drafted, g->spec_drafted);
        assert_int_equal(expected.accepted, g->spec_accepted);
    }
    fr_session_swap_drafter(session, watched.inner);
    fr_session_destroy(session);
    ref_output_release(&main_pass);
    free(expected.logits);
    free(text);
}

static ref_model *open_reference(const char *name) {
    char dir[512], error[512];
    golden_model_dir(name, dir, sizeof dir);
    ref_model *m = ref_model_open(dir, error, sizeof error);
    if (!m) fail_msg("%s: %s", name, error);
    return m;
}

static void drafts_are_those_of_the_reference(void **state) {
    (void)state;
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        const char *name = golden_cases[i].model;
        fr_model *model = driver_open(name, FR_ISA_AUTO, FR_ACT_NONE, 1);
        ref_model *ref = open_reference(name);
        golden g;
        golden_load(name, 7, GOLDEN_F32, &g);
        fr_session_options o = {.kv = FR_KV_F32, .drafting = FR_DRAFTING_ON, .depth = 1};
        check_drafting(&g, model, ref, o);
        for (int variant = 0; variant < 6 && strcmp(name, "pico-mtp-s1") == 0; variant++) {
            o.mtp_hidden = variant & 1 ? FR_HIDDEN_PRE_NORM : FR_HIDDEN_POST_NORM;
            o.mtp_recycle = (fr_recycle)(variant / 2);
            o.depth = variant == 0 || variant == 4 ? 5 : 2;
            check_drafting(&g, model, ref, o);
        }
        golden_release(&g);
        ref_model_destroy(ref);
        fr_model_destroy(model);
    }
}

/* ---- One row at a time, several at a time, many at a time ---- */

static void same_bits(const driver_scores *a, const driver_scores *b, const golden *g, const char *what) {
    size_t rows = (size_t)g->length, logits = rows * (size_t)g->vocab * sizeof(float);
    size_t mtp_logits = (rows - 1) * (size_t)g->vocab * sizeof(float);
    if (memcmp(a->logits, b->logits, logits) != 0 || memcmp(a->mtp_logits, b->mtp_logits, mtp_logits) != 0 ||
        memcmp(a->hidden, b->hidden, rows * (size_t)g->hidden_size * sizeof(float)) != 0 ||
        memcmp(a->experts, b->experts, rows * (size_t)(g->moe_layers * g->top_k) * sizeof(int32_t)) != 0)
        fail_msg("%s: %s changes bits", g->label, what);
}

/* Up to 8 rows a pass: a row's bits do not depend on how many rows are with it, nor on the threads. */
static void up_to_eight_rows_have_the_bits_of_one(void **state) {
    (void)state;
    enum { ROWS = 44 }; /* so that the last pass has fewer rows than the others */
    static const char *const names[] = {"pico-yarn-s1", "nano-mtp-s1", "pico-glm52", "pico-v32"};
    for (int round = 0; round < DRIVER_ISAS * 4; round++) {
        fr_isa isa = driver_isa(round / 4);
        const char *name = names[round % 4];
        fr_act act = round % 2 ? FR_ACT_FP8 : FR_ACT_NONE;
        fr_session_options o = {.kv = round % 2 ? FR_KV_BF16 : FR_KV_F32, .drafting = FR_DRAFTING_ON, .prefill_chunk = 1};
        fr_model *model = driver_open(name, isa, act, 1);
        if (!model) continue;
        golden g;
        golden_load(name, 70, GOLDEN_F32, &g);
        g.length = ROWS;
        driver_scores one, other;
        driver_score(model, &o, g.tokens, ROWS, &one);
        fr_model_destroy(model);
        for (int plan = 0; plan < 4; plan++) {
            static const int rows[] = {2, 3, 5, 8}, threads[] = {3, 1, 4, 2};
            char what[64];
            snprintf(what, sizeof what, "%s, %d rows a pass, %d threads", fr_isa_name(isa), rows[plan], threads[plan]);
            model = driver_open(name, isa, act, threads[plan]);
            o.prefill_chunk = rows[plan];
            driver_score(model, &o, g.tokens, ROWS, &other);
            same_bits(&one, &other, &g, what);
            driver_scores_release(&other);
            fr_model_destroy(model);
        }
        driver_scores_release(&one);
        golden_release(&g);
    }
}

/* The logits that a step chooses from, after every prefix: the text comes one token at a time, is continued by one
 * token, and cut back. They are the bits that score gives in passes of one row. */
static void steps_and_cuts_have_the_bits_of_scoring(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    golden g;
    golden_load("pico-s1", 70, GOLDEN_F32, &g);
    fr_session_options o = {.kv = FR_KV_F32, .prefill_chunk = 1};
    driver_scores scores;
    driver_score(model, &o, g.tokens, g.length, &scores);
    o.ctx = g.length + 1;
    fr_session *session = driver_session(model, &o);
    for (int i = 0; i < g.length; i++) {
        int32_t next;
        driver_prefill(session, g.tokens + i, 1);
        driver_generate(session, 1, &next, NULL, NULL);
        const float *expected = scores.logits + (size_t)i * (size_t)g.vocab;
        assert_memory_equal(fr_session_logits(session), expected, (size_t)g.vocab * sizeof(float));
        assert_int_equal(next, ref_argmax(expected, g.vocab, NULL));
        assert_int_equal(fr_session_truncate(session, (size_t)i + 1, NULL), FR_OK);
    }
    fr_session_destroy(session);
    driver_scores_release(&scores);
    golden_release(&g);
    fr_model_destroy(model);
}

/* ---- KV cache in BF16 ----
 *
 * The goldens keep it in float32, so here the reference does the rounding. Where a cached value lies close to the
 * middle of two BF16 numbers the last bit of float32 decides, and the two sides differ by 2^-8 of that one value, of which
 * a text has a few: hence the wider limit. A cache that does not round, or rounds otherwise, is off by what rounding is
 * worth, or more. */
static void a_bf16_cache_is_off_by_its_rounding_alone(void **state) {
    (void)state;
    double worst = 0;
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        const char *name = golden_cases[i].model;
        fr_model *model = driver_open(name, FR_ISA_AUTO, FR_ACT_NONE, 1);
        ref_model *ref = open_reference(name);
        ref->config.kv_bf16 = true;
        golden g;
        golden_load(name, 70, GOLDEN_F32, &g);
        ref_output expected;
        ref_forward(ref, g.tokens, g.length, REF_ACT_F32, &expected);
        /* Rounding must matter, or this test would not see a cache that ignores its type. */
        size_t count = (size_t)(g.length * g.vocab);
        double rounding = relative(expected.logits, g.logits, count);
        for (int chunk = 0; chunk < 2; chunk++) {
            driver_scores s;
            fr_session_options o = {.kv = FR_KV_BF16, .prefill_chunk = chunk};
            driver_score(model, &o, g.tokens, g.length, &s);
            double off = relative(s.logits, expected.logits, count);
            if (!(off < 5e-4 && rounding > 2 * off))
                fail_msg("%s: BF16 cache is %.3g off, rounding is worth %.3g", g.label, off, rounding);
            worst = fmax(worst, off);
            for (int j = 0; j < g.moe_layers * g.length * g.top_k; j++) {
                if (expected.router_margin[j / g.top_k] > 1e-3) assert_int_equal(s.experts[j], expected.router_idx[j]);
            }
            driver_scores_release(&s);
        }
        ref_output_release(&expected);
        golden_release(&g);
        ref_model_destroy(ref);
        fr_model_destroy(model);
    }
    print_message("BF16 cache: logits %.2g of their range\n", worst);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_golden_choice_is_close),
        cmocka_unit_test(scores_agree_with_the_golden_network),
        cmocka_unit_test(greedy_text_is_the_golden_one),
        cmocka_unit_test(chained_drafts_are_the_golden_ones),
        cmocka_unit_test(drafts_are_those_of_the_reference),
        cmocka_unit_test(up_to_eight_rows_have_the_bits_of_one),
        cmocka_unit_test(steps_and_cuts_have_the_bits_of_scoring),
        cmocka_unit_test(a_bf16_cache_is_off_by_its_rounding_alone),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
