/* The sampler: published values of its generator, filters against naive ones, and that what is emitted follows the target's
 * distribution, with drafts and without, by a test that is shown to fail on samplers that are slightly wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include <stdlib.h>
#include <string.h>

#include "core/kernels/isa.h"
#include "sampler/sampler.h"

enum { VOCAB = 12, DRAWS = 30000 };

/* Logits of a target and of a draft that resembles it. */
static const float target_logits[VOCAB] = {2.0f, 1.7f, 1.1f, 0.9f, 0.4f, 0.0f, -0.2f, -0.9f, -1.0f, -2.5f, 0.8f, -0.4f};
static const float draft_logits[VOCAB] = {1.2f, 2.1f, 0.3f, 1.0f, 0.9f, -0.6f, 0.2f, -0.7f, -1.9f, -1.5f, 0.1f, 0.0f};

static fr_sampler *create(const fr_sampling *sampling, int vocab) {
    fr_sampler *s = fr_alloc_zeroed(1, sizeof *s);
    fr_arena arena = {0};
    fr_sampler_take(s, &arena, sampling, vocab, fr_isa_kernels(FR_ISA_AUTO), 1);
    arena = (fr_arena){.base = fr_alloc(arena.used + 64), .size = arena.used};
    fr_sampler_take(s, &arena, sampling, vocab, fr_isa_kernels(FR_ISA_AUTO), 1);
    return s;
}

static void destroy(fr_sampler *s) {
    fr_free(s->filters.adjusted); /* the arena's first piece, so its base */
    fr_free(s);
}

/* Random123's known answers for philox4x32 with 10 rounds. */
static void philox_known_answers(void **in) {
    (void)in;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        fr_philox(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].expected, sizeof out);
    }
}

static void noise_stays_in_its_bounds(void **in) {
    (void)in;
    assert_true(-log(-log(0.5 * 0x1p-32)) > FR_GUMBEL_MIN);
    assert_true(-log(-log(1.0 - 0.5 * 0x1p-32)) < FR_GUMBEL_MAX);
    double sum = 0.0;
    for (int i = 0; i < 100000; i++) sum += fr_gumbel(7, FR_STREAM_TOKEN, i / 100, i % 100);
    assert_true(fabs(sum / 100000 - 0.57721566) < 0.02); /* Euler's constant is its mean */
}

static int by_descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Filters: a token stays if its probability reaches the threshold that sorting everything gives. */
static void filters_match_sorting(void **in) {
    (void)in;
    enum { N = 500 };
    float logits[N];
    for (int trial = 0; trial < 60; trial++) {
        fr_sampling sampling = {.temperature = 0.3f + 0.1f * (float)(trial % 9),
                                .top_k = trial % 3 ? 1 + trial * 7 : 0,
                                .top_p = trial % 4 ? 0.05f * (float)(trial % 19 + 1) : 0.0f,
                                .min_p = trial % 5 ? 0.0f : 0.02f};
        for (int i = 0; i < N; i++) logits[i] = (float)(6.0 * fr_uniform(1, FR_STREAM_TOKEN, trial, i) - 3.0);
        fr_sampler *s = create(&sampling, N);
        fr_filters_apply(&s->filters, logits, &s->target);

        double p[N], sorted[N], sum = 0.0;
        for (int i = 0; i < N; i++) sum += p[i] = exp((double)logits[i] / (double)sampling.temperature);
        memcpy(sorted, p, sizeof p);
        qsort(sorted, N, sizeof *sorted, by_descending);
        int kept = sampling.top_k && sampling.top_k < N ? sampling.top_k : N;
        if (sampling.top_p > 0.0f) {
            double total = 0.0, reached = 0.0;
            for (int i = 0; i < kept; i++) total += sorted[i];
            int n = 0;
            while (n < kept && reached < (double)sampling.top_p * total * (1.0 - 1e-12)) reached += sorted[n++];
            kept = n;
        }
        while (kept > 1 && sorted[kept - 1] < (double)sampling.min_p * sorted[0]) kept--;
        assert_int_equal(s->target.count, kept);
        sum = 0.0;
        for (int i = 0; i < kept; i++) sum += sorted[i];
        for (int i = 0; i < kept; i++) {
            assert_true(p[s->target.ids[i]] >= sorted[kept - 1]);
            assert_true(fabs(s->target.p[i] - p[s->target.ids[i]] / sum) < 1e-9);
        }
        destroy(s);
    }
}

static void penalties_follow_their_definitions(void **in) {
    (void)in;
    const fr_logit_bias bias[] = {{3, 5.0f}, {4, -INFINITY}};
    fr_sampling sampling = {.temperature = 1.0f,
                            .repetition_penalty = 2.0f,
                            .presence_penalty = 0.5f,
                            .frequency_penalty = 0.25f,
                            .logit_bias = bias,
                            .num_logit_bias = 2};
    fr_sampler *s = create(&sampling, VOCAB);
    const int32_t text[] = {0, 0, 7, 1, 1, 7}; /* the completion begins at index 3 */
    for (int again = 0; again < 2; again++) {  /* nothing is left over from the first time */
        const float *x = fr_filters_penalize(&s->filters, target_logits, text, 6, 3);
        assert_true(fabsf(x[0] - 1.0f) < 1e-6f);                  /* prompt only: repetition alone */
        assert_true(fabsf(x[1] - (0.85f - 0.5f - 0.5f)) < 1e-6f); /* twice in the completion */
        assert_true(fabsf(x[7] - (-1.8f - 0.5f - 0.25f)) < 1e-6f);
        assert_true(fabsf(x[3] - 5.9f) < 1e-6f);
        assert_true(x[4] == -INFINITY);
        assert_true(x[2] == target_logits[2]);
    }
    destroy(s);
}

/* ---- Distributions ---- */

static void softmax(const float *logits, double temperature, double *p) {
    double sum = 0.0;
    for (int i = 0; i < VOCAB; i++) sum += p[i] = exp((double)logits[i] / temperature);
    for (int i = 0; i < VOCAB; i++) p[i] /= sum;
}

/* Whether counts could be DRAWS samples of p: the G statistic against the 0.9999 quantile of chi-square with 11 degrees of
 * freedom. */
static bool could_be(const int *counts, const double *p) {
    double g = 0.0;
    for (int i = 0; i < VOCAB; i++)
        if (counts[i]) g += 2.0 * counts[i] * log(counts[i] / (p[i] * DRAWS));
    return g < 37.37;
}

/* What a cycle of one draft emits at the drafted position; *accepted counts. wrong: a verification that is a little off. */
typedef enum { RIGHT, LENIENT, NO_RESIDUAL } mistake;
static void run_cycles(fr_verify verify, mistake wrong, int *counts, int *accepted) {
    fr_sampling sampling = {.temperature = 0.8f, .seed = 42, .verify = verify};
    fr_sampler *s = create(&sampling, VOCAB);
    memset(counts, 0, VOCAB * sizeof *counts);
    *accepted = 0;
    for (int i = 0; i < DRAWS; i++) {
        double confidence;
        fr_history at = {NULL, i, 0};
        int32_t draft = fr_sampler_draft(s, draft_logits, at, 0, &confidence);
        int32_t token = fr_sampler_verify(s, target_logits, at, 0, draft);
        if (wrong == LENIENT && i % 10 == 0) token = draft;
        if (wrong == NO_RESIDUAL && token != draft) token = fr_sampler_choose(s, target_logits, at);
        counts[token]++;
        *accepted += token == draft;
    }
    destroy(s);
}

static void emitted_tokens_follow_the_target(void **in) {
    (void)in;
    double p[VOCAB], wrong_temperature[VOCAB];
    int counts[VOCAB], accepted;
    softmax(target_logits, (double)0.8f, p);
    softmax(target_logits, 0.85, wrong_temperature);
    for (int verify = FR_VERIFY_COUPLED; verify <= FR_VERIFY_REJECTION; verify++) {
        run_cycles((fr_verify)verify, RIGHT, counts, &accepted);
        assert_true(could_be(counts, p));
        assert_false(could_be(counts, wrong_temperature)); /* the test can tell */
    }
    run_cycles(FR_VERIFY_REJECTION, LENIENT, counts, &accepted);
    assert_false(could_be(counts, p));
    run_cycles(FR_VERIFY_REJECTION, NO_RESIDUAL, counts, &accepted);
    assert_false(could_be(counts, p));
}

static void acceptance_matches_theory(void **in) {
    (void)in;
    double p[VOCAB], q[VOCAB], overlap = 0.0;
    int counts[VOCAB], accepted;
    softmax(target_logits, (double)0.8f, p);
    softmax(draft_logits, (double)0.8f, q);
    for (int i = 0; i < VOCAB; i++) overlap += fmin(p[i], q[i]);
    double sigma = sqrt(overlap * (1.0 - overlap) / DRAWS), tv = 1.0 - overlap;
    run_cycles(FR_VERIFY_REJECTION, RIGHT, counts, &accepted);
    /* A rejected draft's place is never taken by the same token, so "same token" is "accepted". */
    assert_true(fabs((double)accepted / DRAWS - overlap) < 4.0 * sigma);
    run_cycles(FR_VERIFY_COUPLED, RIGHT, counts, &accepted);
    assert_true((double)accepted / DRAWS > (1.0 - tv) / (1.0 + tv) - 4.0 * sigma);
    assert_true((double)accepted / DRAWS < overlap + 4.0 * sigma);
}

/* What may drop a draft is the same whichever token was drawn. */
static void what_is_foreseen_does_not_know_the_draw(void **in) {
    (void)in;
    fr_sampling sampling = {.temperature = 0.8f, .seed = 3, .verify = FR_VERIFY_REJECTION};
    double q[VOCAB], highest = 0.0, confidence, seen = -1.0;
    fr_sampler *s = create(&sampling, VOCAB);
    softmax(draft_logits, (double)0.8f, q);
    for (int i = 0; i < VOCAB; i++) highest = fmax(highest, q[i]);
    bool differ = false;
    for (int i = 0; i < 100; i++) {
        fr_sampler_draft(s, draft_logits, (fr_history){NULL, i, 0}, 0, &confidence);
        differ |= seen >= 0.0 && seen != confidence;
        seen = confidence;
        assert_true(fabs(fr_sampler_foreseen(s, 0, confidence) - highest) < 1e-12);
    }
    assert_true(differ);
    destroy(s);
    sampling.verify = FR_VERIFY_COUPLED; /* text does not depend on drafts there, so the draw may decide */
    s = create(&sampling, VOCAB);
    assert_true(fr_sampler_foreseen(s, 0, 0.25) == 0.25);
    destroy(s);
}

static void choice_is_a_function_of_seed_and_position(void **in) {
    (void)in;
    fr_sampling sampling = {.temperature = 1.0f, .seed = 1};
    fr_sampler *a = create(&sampling, VOCAB);
    sampling.seed = 2;
    fr_sampler *b = create(&sampling, VOCAB);
    int differ = 0;
    for (int i = 0; i < 200; i++) {
        fr_history at = {NULL, i, 0};
        int32_t token = fr_sampler_choose(a, target_logits, at);
        double confidence;
        fr_sampler_draft(a, draft_logits, at, 3, &confidence); /* drafting leaves no trace */
        assert_int_equal(fr_sampler_choose(a, target_logits, at), token);
        differ += fr_sampler_choose(b, target_logits, at) != token;
    }
    assert_true(differ > 50);
    destroy(a);
    destroy(b);
}

/* Logits as they should never be, and as biases can make them. */
static void confidence_is_a_number_whatever_the_logits_are(void **in) {
    (void)in;
    const float inf = INFINITY, big = 3e38f, nan = NAN;
    const float cases[][4] = {
        {0, 0, 0, 0},         {-inf, -inf, -inf, -inf}, {inf, inf, inf, inf},   {nan, nan, nan, nan},
        {1, -inf, 2, -inf},   {-inf, -inf, 5, -inf},    {inf, 1, -inf, 0},      {inf, -inf, inf, 1},
        {big, -big, 1, -inf}, {big, big, -big, -big},   {-big, -big, -big, 0},  {nan, 1, 2, 3},
        {1, nan, -inf, nan},  {nan, inf, -inf, 1},      {nan, -inf, -inf, nan}, {1e-45f, -1e-45f, 0, 0},
    };
    const fr_sampling ways[] = {
        {.temperature = 0},
        {.temperature = 1},
        {.temperature = 1e-38f},
        {.temperature = 100, .top_k = 2},
        {.temperature = 1, .top_p = 0.9f},
        {.temperature = 1, .min_p = 0.1f},
        {.temperature = 1, .top_k = 3, .top_p = 0.5f, .min_p = 0.5f, .verify = FR_VERIFY_REJECTION},
    };
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        for (int vocab = 1; vocab <= 4; vocab++) {
            fr_sampler *s = create(&ways[w], vocab);
            for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
                double confidence = -1.0, sum = 0.0;
                fr_history at = {NULL, (int)c, 0};
                int32_t draft = fr_sampler_draft(s, cases[c], at, 0, &confidence);
                int32_t token = fr_sampler_verify(s, cases[c], at, 0, draft);
                assert_true(draft >= 0 && draft < vocab && token == draft); /* p is q */
                assert_true(confidence >= 0.0 && confidence <= 1.0);
                if (w == 0) continue;
                for (int i = 0; i < s->target.count; i++) sum += s->target.p[i];
                assert_true(fabs(sum - 1.0) < 1e-12);
            }
            destroy(s);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(noise_stays_in_its_bounds),
        cmocka_unit_test(filters_match_sorting),
        cmocka_unit_test(penalties_follow_their_definitions),
        cmocka_unit_test(confidence_is_a_number_whatever_the_logits_are),
        cmocka_unit_test(emitted_tokens_follow_the_target),
        cmocka_unit_test(acceptance_matches_theory),
        cmocka_unit_test(what_is_foreseen_does_not_know_the_draw),
        cmocka_unit_test(choice_is_a_function_of_seed_and_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
