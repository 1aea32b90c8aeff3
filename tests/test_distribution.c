/* What the whole cycle emits follows the main model's distribution, with real networks: drafts of the MTP module,
 * verified in passes, rolled back. And drafts are accepted as often as theory says, told by the distributions that the
 * networks gave. Each test is shown to fail for a verification that is a little too kind to drafts.
 *
 * All of it is a function of seeds: nothing here fails now and then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "forerun_checkpoint.h"
#include "mtp/drafters/forced.h"
#include "mtp/drafters/mtp.h"
#include "mtp/session.h"
#include "scratch.h"

/* ---- A verification that is too kind ---- */

/* What the verification is told of the drafts' distribution makes them look less likely than they were: more of them pass. An
 * fr_force_fn. */
static void be_kind(void *user, const fr_draft_context *context, fr_cycle *cycle) {
    (void)user;
    for (int j = 0; j < cycle->made; j++) {
        fr_distribution *q = &context->sampler->proposal[j];
        for (int i = 0; i < q->count; i++) q->p[i] *= 0.7;
    }
}

static void softmax(const float *logits, int vocab, double temperature, double *p) {
    double sum = 0.0, highest = -INFINITY;
    for (int i = 0; i < vocab; i++) highest = fmax(highest, (double)logits[i]);
    for (int i = 0; i < vocab; i++) sum += p[i] = exp(((double)logits[i] - highest) / temperature);
    for (int i = 0; i < vocab; i++) p[i] /= sum;
}

/* ---- Acceptance ---- */

enum { VOCAB = 320, PROMPT = 12, CYCLES = 1500 };

typedef struct tally {
    double accepted, expected, variance; /* of single drafts */
    double low, high;                    /* bounds that hold for any coupling of this kind */
} tally;

/* Chance that the two maxima of score + Gumbel noise, shared by both, fall on the same token: over tokens i, that i
 * wins in both is 1 / sum over j of max(p_j / p_i, q_j / q_i). */
static double coupled_chance(const double *p, const double *q, int vocab) {
    double chance = 0.0;
    for (int i = 0; i < vocab; i++) {
        double sum = 0.0;
        if (p[i] < 1e-12 || q[i] < 1e-12) continue;
        for (int j = 0; j < vocab; j++) sum += fmax(p[j] / p[i], q[j] / q[i]);
        chance += 1.0 / sum;
    }
    return chance;
}

/* Given the text so far, acceptance of a cycle's draft has a chance that both rows of logits tell. Sums over a long
 * run, cut back now and then so that the context stays short. */
static tally run_cycles(const fr_model *model, fr_verify verify, double temperature, bool kind) {
    tally t = {0};
    static double p[VOCAB], q[VOCAB];
    int32_t prompt[PROMPT];
    fr_session_options o = {
        .ctx = 128, .drafting = FR_DRAFTING_ON, .depth = 1, .sampling = {.temperature = (float)temperature, .verify = verify}};
    fr_session *s = driver_session(model, &o);
    fr_mtp_drafter *mtp = fr_mtp_drafter_of(s->drafter);
    fr_forced_drafter forced = fr_forced_drafter_around(s->drafter, be_kind, NULL);
    if (kind) fr_session_swap_drafter(s, &forced.base);
    for (int cycle = 0; cycle < CYCLES;) {
        for (int i = 0; i < PROMPT; i++) prompt[i] = (cycle * 7 + i * 31) % VOCAB;
        assert_int_equal(fr_session_truncate(s, 0, NULL), FR_OK);
        s->sampler.filters.sampling.seed = (uint64_t)cycle;
        driver_prefill(s, prompt, PROMPT);
        for (int i = 0; i < 40; i++) {
            fr_step step;
            assert_int_equal(fr_session_step(s, 2, &step, NULL), FR_OK);
            if (step.drafted != 1) continue;
            double overlap = 0.0, chance;
            softmax(s->logits, VOCAB, (double)(float)temperature, p); /* row 0: the draft's place */
            softmax(mtp->logits, VOCAB, (double)(float)temperature, q);
            for (int j = 0; j < VOCAB; j++) overlap += fmin(p[j], q[j]);
            chance = verify == FR_VERIFY_REJECTION ? overlap : coupled_chance(p, q, VOCAB);
            t.accepted += step.accepted;
            t.expected += chance;
            t.variance += chance * (1.0 - chance);
            t.low += overlap / (2.0 - overlap); /* (1 - TV) / (1 + TV) */
            t.high += overlap;
            cycle++;
        }
    }
    fr_session_swap_drafter(s, forced.inner);
    fr_session_destroy(s);
    return t;
}

static void acceptance_is_what_theory_says(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
    static const double temperatures[] = {0.5, 1.0};
    for (int i = 0; i < 2; i++) {
        tally rejection = run_cycles(model, FR_VERIFY_REJECTION, temperatures[i], false);
        tally coupled = run_cycles(model, FR_VERIFY_COUPLED, temperatures[i], false);
        tally kind = run_cycles(model, FR_VERIFY_REJECTION, temperatures[i], true);
        print_message("T %.1f: rejection %.0f of %.1f expected (sigma %.1f), coupled %.0f of %.1f (%.1f), too kind "
                      "%.0f of %.1f\n",
                      temperatures[i], rejection.accepted, rejection.expected, sqrt(rejection.variance), coupled.accepted,
                      coupled.expected, sqrt(coupled.variance), kind.accepted, kind.expected);
        assert_true(rejection.expected > 0.05 * CYCLES && rejection.expected < 0.95 * CYCLES); /* there is something to tell */
        assert_true(fabs(rejection.accepted - rejection.expected) < 4.0 * sqrt(rejection.variance));
        assert_true(fabs(coupled.accepted - coupled.expected) < 4.0 * sqrt(coupled.variance));
        assert_true(coupled.expected >= coupled.low - 1e-6 && coupled.expected <= coupled.high + 1e-6);
        assert_true(fabs(kind.accepted - kind.expected) > 4.0 * sqrt(kind.variance));
    }
    fr_model_destroy(model);
}

/* ---- Distribution ---- */

enum { SMALL = 6, SAMPLES = 6000, CELLS = SMALL * SMALL * SMALL };

/* A network with random weights, a vocabulary of 6 and little else. */
static fr_model *small_model(const scratch *dir) {
    char config[512], path[512];
    const char *const set[] = {"vocab_size=6", "hidden_size=64", "intermediate_size=48", "moe_intermediate_size=32",
                               "num_hidden_layers=2"};
    fr_error error;
    fr_model *model = NULL;
    snprintf(config, sizeof config, "%s/golden/pico-mtp-s1", FR_TEST_DIR);
    snprintf(path, sizeof path, "%s/small", dir->dir);
    if (fr_synth(config, path, &(fr_synth_options){.set = set, .num_set = sizeof set / sizeof *set, .seed = 3, .threads = 1},
                 NULL, &error) != FR_OK ||
        fr_model_open(path, &(fr_model_options){.threads = 1}, &model, &error) != FR_OK)
        fail_msg("%s", error.message);
    return model;
}

static const int32_t small_prompt[] = {1, 0, 2, 4, 1, 3, 5, 1, 5, 0, 1}; /* what comes next may have come before */
enum { SMALL_PROMPT = sizeof small_prompt / sizeof small_prompt[0] };

/* p [SMALL, SMALL, SMALL]: chances of the next three tokens, from logits without drafts. Evaluated in passes of a row,
 * as they will be. */
static void exact(const fr_model *model, double temperature, double *p) {
    fr_session_options o = {.ctx = 32, .drafting = FR_DRAFTING_OFF};
    double first[SMALL], second[SMALL], third[SMALL];
    int32_t text[SMALL_PROMPT + 2];
    memcpy(text, small_prompt, sizeof small_prompt);
    fr_session *s = driver_session(model, &o);
    for (int cell = 0; cell < CELLS; cell++) {
        double *const at[] = {first, second, third};
        text[SMALL_PROMPT] = cell / (SMALL * SMALL);
        text[SMALL_PROMPT + 1] = cell / SMALL % SMALL;
        for (int n = 0; n < 3; n++) {
            fr_step step;
            assert_int_equal(fr_session_truncate(s, 0, NULL), FR_OK);
            driver_prefill(s, text, SMALL_PROMPT + n - (n > 0));
            if (n > 0) driver_prefill(s, text + SMALL_PROMPT + n - 1, 1);
            assert_int_equal(fr_session_step(s, 1, &step, NULL), FR_OK);
            softmax(fr_session_logits(s), SMALL, temperature, at[n]);
        }
        p[cell] = first[text[SMALL_PROMPT]] * second[text[SMALL_PROMPT + 1]] * third[cell % SMALL];
    }
    fr_session_destroy(s);
}

/* The G statistic of three tokens by real cycles against p, over the degrees of freedom. A sample: cut back to the
 * prompt, a cycle that emits one token (after a cut there is nothing to draft from), and one with two drafts. */
static double g_over_freedom(const fr_model *model, fr_verify verify, double temperature, bool kind, const double *p,
                             uint64_t *accepted) {
    static int counts[CELLS];
    fr_session_options o = {
        .ctx = 32, .drafting = FR_DRAFTING_ON, .depth = 2, .sampling = {.temperature = (float)temperature, .verify = verify}};
    fr_session *s = driver_session(model, &o);
    fr_forced_drafter forced = fr_forced_drafter_around(s->drafter, be_kind, NULL);
    if (kind) fr_session_swap_drafter(s, &forced.base);
    memset(counts, 0, sizeof counts);
    driver_prefill(s, small_prompt, SMALL_PROMPT);
    int32_t made[3];
    driver_generate(s, 1, made, NULL, NULL);
    for (int i = 0; i < SAMPLES; i++) {
        assert_int_equal(fr_session_truncate(s, SMALL_PROMPT, NULL), FR_OK);
        s->sampler.filters.sampling.seed = (uint64_t)i;
        driver_generate(s, 3, made, NULL, NULL);
        counts[(made[0] * SMALL + made[1]) * SMALL + made[2]]++;
    }
    fr_stats stats;
    fr_session_get_stats(s, &stats);
    *accepted = stats.num_accepted_tokens;
    fr_session_swap_drafter(s, forced.inner);
    fr_session_destroy(s);
    double g = 0.0;
    for (int i = 0; i < CELLS; i++)
        if (counts[i] > 0) g += 2.0 * counts[i] * log(counts[i] / (p[i] * SAMPLES));
    return g / (CELLS - 1);
}

static void three_tokens_follow_the_main_model(void **state) {
    (void)state;
    const double temperature = (double)2.4f, limit = 1.0 + 4.0 * sqrt(2.0 / (CELLS - 1)); /* chi-square: mean 1, 4 sigma */
    static double p[CELLS], other[CELLS];
    uint64_t accepted;
    scratch dir = scratch_create();
    fr_model *model = small_model(&dir);
    exact(model, temperature, p);
    exact(model, temperature * 1.3, other);
    double rarest = 1.0, sum = 0.0;
    for (int i = 0; i < CELLS; i++) {
        rarest = fmin(rarest, p[i]);
        sum += p[i];
    }
    print_message("the rarest of %d triples is expected %.2f times\n", CELLS, rarest * SAMPLES);
    assert_true(fabs(sum - 1.0) < 1e-9);
    assert_true(rarest * SAMPLES > 1.0); /* no cell is too thin for the statistic */
    for (int verify = FR_VERIFY_COUPLED; verify <= FR_VERIFY_REJECTION; verify++) {
        double g = g_over_freedom(model, (fr_verify)verify, temperature, false, p, &accepted);
        print_message("verify %d: G / freedom %.3f (limit %.3f), %d drafts accepted\n", verify, g, limit, (int)accepted);
        assert_true(g < limit);
        assert_true(accepted > SAMPLES / 10);
        assert_true(g_over_freedom(model, (fr_verify)verify, temperature, false, other, &accepted) > limit);
    }
    double g = g_over_freedom(model, FR_VERIFY_REJECTION, temperature, true, p, &accepted);
    print_message("too kind to drafts: %.3f\n", g);
    assert_true(g > limit);
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

/* ---- The same under a policy that drops drafts ---- */

/* A policy that knows what passes cost: what a further row costs is dear for the drafts of this network. Its drafts were accepted
 * as often as they said. */
static fr_policy seasoned(const fr_policy *fresh) {
    fr_policy p = *fresh;
    for (int i = 0; i < 410; i++) {
        fr_cycle c = {.planned = 2, .made = i % 3, .verified = i % 3, .first_s = 0.02, .rest_s = i % 3 > 1 ? 0.02 : 0.0};
        c.verify_s = 1.0 + 0.27 * c.verified;
        for (int j = 0; j < c.made; j++) c.foreseen[j] = c.confidence[j] = 0.05 + 0.9 * (i / 3 * 7 % 10) / 10.0;
        while (c.accepted < c.verified && (i * 29 + c.accepted * 13) % 100 < 100.0 * c.foreseen[0]) c.accepted++;
        fr_policy_plan(&p, c.planned);
        fr_policy_observe(&p, &c);
    }
    return p;
}

/* The rule that would be wrong, an fr_force_fn: whether a draft is verified is up to its own probability. */
static void go_by_the_draw(void *user, const fr_draft_context *context, fr_cycle *cycle) {
    (void)user, (void)context;
    for (int j = 0; j < cycle->made; j++) cycle->foreseen[j] = cycle->confidence[j];
}

typedef struct auto_run {
    double g; /* over the degrees of freedom */
    int dropped, kept;
} auto_run;

/* As g_over_freedom, with auto: the policy is the same at the beginning of each cycle, so that no clock has a say. */
static auto_run with_policy(const fr_model *model, fr_drafter_kind drafter, double temperature, fr_force_fn mutant,
                            const double *p) {
    static int counts[CELLS];
    auto_run run = {0};
    fr_session_options o = {.ctx = 32,
                            .depth = 2,
                            .drafter = drafter,
                            .sampling = {.temperature = (float)temperature, .verify = FR_VERIFY_REJECTION}};
    fr_session *s = driver_session(model, &o);
    fr_policy policy = seasoned(&s->policy);
    fr_forced_drafter forced = fr_forced_drafter_around(s->drafter, mutant, NULL);
    if (mutant) fr_session_swap_drafter(s, &forced.base);
    memset(counts, 0, sizeof counts);
    driver_prefill(s, small_prompt, SMALL_PROMPT);
    enum { TOKENS = 4 }; /* so that the second cycle has room for two drafts */
    int32_t made[TOKENS];
    driver_generate(s, 1, made, NULL, NULL);
    for (int i = 0; i < SAMPLES; i++) {
        assert_int_equal(fr_session_truncate(s, SMALL_PROMPT, NULL), FR_OK);
        s->sampler.filters.sampling.seed = (uint64_t)i;
        for (int n = 0; n < TOKENS;) {
            fr_step step;
            s->policy = policy;
            assert_int_equal(fr_session_step(s, TOKENS - n, &step, NULL), FR_OK);
            const fr_cycle *cycle = fr_session_last_cycle(s);
            run.dropped += cycle->made - cycle->verified;
            run.kept += cycle->verified;
            for (int j = 0; j < step.count; j++) made[n++] = step.tokens[j];
        }
        counts[(made[0] * SMALL + made[1]) * SMALL + made[2]]++;
    }
    fr_session_swap_drafter(s, forced.inner);
    fr_session_destroy(s);
    for (int i = 0; i < CELLS; i++)
        if (counts[i] > 0) run.g += 2.0 * counts[i] * log(counts[i] / (p[i] * SAMPLES)) / (CELLS - 1);
    return run;
}

static void a_policy_that_drops_drafts_changes_no_distribution(void **state) {
    (void)state;
    const double temperature = (double)2.4f, limit = 1.0 + 4.0 * sqrt(2.0 / (CELLS - 1));
    static double p[CELLS];
    scratch dir = scratch_create();
    fr_model *model = small_model(&dir);
    exact(model, temperature, p);
    for (int drafter = FR_DRAFTER_MTP; drafter <= FR_DRAFTER_NGRAM; drafter++) {
        fr_force_fn mutant = drafter == FR_DRAFTER_MTP ? go_by_the_draw : be_kind; /* a looked up draft has no draw */
        auto_run right = with_policy(model, (fr_drafter_kind)drafter, temperature, NULL, p);
        auto_run wrong = with_policy(model, (fr_drafter_kind)drafter, temperature, mutant, p);
        print_message("drafter %d: G / freedom %.3f (limit %.3f), %d drafts kept, %d dropped; wrong rule %.3f\n", drafter,
                      right.g, limit, right.kept, right.dropped, wrong.g);
        assert_true(right.g < limit);
        assert_true(right.kept > SAMPLES / 10);
        assert_true(drafter == FR_DRAFTER_NGRAM || right.dropped > SAMPLES / 10);
        assert_true(wrong.g > limit);
    }
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acceptance_is_what_theory_says),
        cmocka_unit_test(three_tokens_follow_the_main_model),
        cmocka_unit_test(a_policy_that_drops_drafts_changes_no_distribution),
    };
    return cmocka_run_group_tests_name("distribution", tests, NULL, NULL);
}
