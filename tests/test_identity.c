/* Token identity under coupled verification: over random prompts, seeds, depths, filters and penalties, the text does
 * not depend on whether drafts are made, how many, by whom, or when the policy feels like it.
 *
 * Run with the argument `full` for many more of them and on every model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "goldens.h"

static bool full;

enum { MOST_PROMPT = 24, MADE = 28, CTX = MOST_PROMPT + MADE };

static uint64_t state;

static uint32_t below(uint32_t n) { /* splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ (z >> 31)) >> 32) % n;
}

/* A way of sampling: greedy now and then, each filter and penalty in one of three, all combinations. */
static fr_sampling draw_sampling(fr_logit_bias *biases, int vocab) {
    static const float temperatures[] = {0.0f, 0.2f, 0.7f, 1.0f, 1.6f};
    fr_sampling s = {.temperature = temperatures[below(5)], .seed = ((uint64_t)below(1000) << 32) + below(1000)};
    if (below(3) == 0) s.top_k = 1 + (int)below(40);
    if (below(3) == 0) s.top_p = 0.3f + 0.1f * (float)below(7);
    if (below(3) == 0) s.min_p = 0.02f * (float)(1 + below(10));
    if (below(3) == 0) s.repetition_penalty = 1.0f + 0.1f * (float)below(8);
    if (below(3) == 0) s.presence_penalty = 0.3f * (float)below(5) - 0.3f;
    if (below(3) == 0) s.frequency_penalty = 0.2f * (float)below(5);
    if (below(3) == 0) {
        s.num_logit_bias = 1 + below(4);
        s.logit_bias = biases;
        for (size_t i = 0; i < s.num_logit_bias; i++)
            biases[i] = (fr_logit_bias){(int32_t)below((uint32_t)vocab), below(4) ? (float)below(60) / 10.0f - 3.0f : -1e9f};
    }
    return s;
}

static void generate(const fr_model *model, const fr_session_options *o, const int32_t *prompt, int length, int32_t *made,
                     fr_stats *stats) {
    fr_session *s = driver_session(model, o);
    driver_prefill(s, prompt, length);
    driver_generate(s, MADE, made, NULL, NULL);
    fr_session_get_stats(s, stats);
    fr_session_destroy(s);
}

/* Speculation of any kind that there is. */
static void draw_speculation(fr_session_options *o) {
    o->drafting = below(4) == 0 ? FR_DRAFTING_AUTO : FR_DRAFTING_ON;
    o->depth = 1 + (int)below(FR_MAX_DEPTH);
    o->drafter = below(4) == 0 ? FR_DRAFTER_NGRAM : FR_DRAFTER_MTP;
    o->mtp_hidden = below(6) == 0 ? FR_HIDDEN_PRE_NORM : FR_HIDDEN_POST_NORM;
    o->mtp_recycle = below(6) == 0 ? FR_RECYCLE_PRE_NORM : below(6) == 0 ? FR_RECYCLE_PINNED : FR_RECYCLE_POST_NORM;
}

static void check_model(const char *name, int trials, uint64_t *drafted, uint64_t *accepted, int *differ) {
    fr_model *model = driver_open(name, FR_ISA_AUTO, below(2) ? FR_ACT_FP8 : FR_ACT_NONE, 1);
    fr_model_info info;
    fr_model_get_info(model, &info);
    int32_t last[MADE] = {0};
    for (int trial = 0; trial < trials; trial++) {
        int32_t prompt[MOST_PROMPT], expected[MADE], made[MADE];
        fr_logit_bias biases[4];
        fr_stats stats;
        int length = 1 + (int)below(MOST_PROMPT);
        for (int i = 0; i < length; i++) prompt[i] = (int32_t)below(below(2) ? (uint32_t)info.vocab_size : 12); /* or repeating */
        fr_session_options o = {.ctx = CTX,
                                .kv = below(2) ? FR_KV_F32 : FR_KV_BF16,
                                .drafting = FR_DRAFTING_OFF,
                                .sampling = draw_sampling(biases, info.vocab_size)};
        generate(model, &o, prompt, length, expected, &stats);
        assert_int_equal(stats.num_draft_tokens, 0);
        for (int way = 0; way < 2; way++) {
            draw_speculation(&o);
            generate(model, &o, prompt, length, made, &stats);
            for (int i = 0; i < MADE; i++)
                if (made[i] != expected[i])
                    fail_msg("%s, trial %d: token %d is %d with mtp %d depth %d drafter %d, %d without; temperature %g", name,
                             trial, i, made[i], o.drafting, o.depth, o.drafter, expected[i], (double)o.sampling.temperature);
            *drafted += stats.num_draft_tokens;
            *accepted += stats.num_accepted_tokens;
        }
        *differ += memcmp(last, expected, sizeof last) != 0;
        memcpy(last, expected, sizeof last);
    }
    fr_model_destroy(model);
}

static void tokens_do_not_depend_on_drafting(void **unused) {
    (void)unused;
    uint64_t drafted = 0, accepted = 0;
    int differ = 0, trials = 0;
    state = 1;
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        int count = strcmp(golden_cases[i].model, "pico-mtp-s1") == 0 ? (full ? 4000 : 250) : full ? 400 : 12;
        check_model(golden_cases[i].model, count, &drafted, &accepted, &differ);
        trials += count;
    }
    for (int i = GOLDEN_SPARSE; i < GOLDEN_ALL; i++) { /* texts become longer than the positions that they may attend to */
        int count = full ? 400 : 8;
        check_model(golden_cases[i].model, count, &drafted, &accepted, &differ);
        trials += count;
    }
    print_message("%d texts, twice each: %d drafts, %d accepted\n", trials, (int)drafted, (int)accepted);
    /* It says something where drafts of both kinds were made and the texts are not all the same. */
    assert_true(accepted > (uint64_t)trials && drafted > 2 * accepted);
    assert_true(differ > trials * 9 / 10);
}

int main(int argc, char **argv) {
    full = argc > 1 && strcmp(argv[1], "full") == 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_do_not_depend_on_drafting)};
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
