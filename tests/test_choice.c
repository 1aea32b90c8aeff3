/* The sampler against a plain reference: the same tokens, whatever the row, the options and the number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/kernels/isa.h"
#include "reference_sampler.h"

enum { LARGEST = 12000, TEXT = 24, GENERATED = 9 };

typedef enum row_kind { NORMAL, FLAT, TIED, EQUAL, MASKED, SPIKED, HUGE_ROW, HALVES, NUM_ROWS } row_kind;

static double uniform(int row, int i, int what) {
    return fr_uniform(99, FR_STREAM_SPOIL, row * 8 + what, i);
}

/* Logits of a row: ordinary ones, and those that bring ties, infinities and sums at the very edge. */
static void fill(float *x, int vocab, row_kind kind, int row) {
    for (int i = 0; i < vocab; i++) {
        double normal = sqrt(-2.0 * log(uniform(row, i, 0))) * cos(6.283185307179586 * uniform(row, i, 1));
        x[i] = (float)(2.5 * normal);
        if (kind == FLAT) x[i] = (float)(0.3 * normal);
        if (kind == TIED) x[i] = (float)floor(2.0 * normal);
        if (kind == EQUAL) x[i] = 1.25f;
        if (kind == MASKED && i % 7) x[i] = -INFINITY;
        if (kind == SPIKED && i % 997 == row % 997) x[i] = (float)(9.0 + 5.0 * uniform(row, i, 2));
        if (kind == HUGE_ROW) x[i] *= 1e30f;
        if (kind == HALVES) x[i] = i % 2 ? -3.0f : 3.0f;
    }
}

typedef struct setting {
    const char *name;
    fr_sampling sampling;
} setting;

static const fr_logit_bias biases[] = {{3, 6.0f}, {4, -INFINITY}, {5, -2.0f}, {3, 1.0f}};

static const setting settings[] = {
    {"greedy", {.temperature = 0.0f}},
    {"greedy, penalties", {.repetition_penalty = 1.3f, .presence_penalty = 0.5f, .frequency_penalty = 0.2f}},
    {"T 1", {.temperature = 1.0f}},
    {"T 0.7, top-p 0.95", {.temperature = 0.7f, .top_p = 0.95f}},
    {"T 0.7, top-p 0.5", {.temperature = 0.7f, .top_p = 0.5f}},
    {"T 1, top-p 0.25", {.temperature = 1.0f, .top_p = 0.25f}},
    {"T 1, top-p almost 1", {.temperature = 1.0f, .top_p = 0.99999994f}},
    {"T 1, top-p tiny", {.temperature = 1.0f, .top_p = 1e-9f}},
    {"T 1, top-k 1", {.temperature = 1.0f, .top_k = 1}},
    {"T 1, top-k 40, top-p 0.9", {.temperature = 1.0f, .top_k = 40, .top_p = 0.9f}},
    {"T 1, top-k 3000, min-p", {.temperature = 1.0f, .top_k = 3000, .min_p = 0.01f}},
    {"T 1, min-p 0.05", {.temperature = 1.0f, .min_p = 0.05f}},
    {"T 1, min-p 1", {.temperature = 1.0f, .min_p = 1.0f}},
    {"T 1.5, all", {.temperature = 1.5f, .top_k = 500, .top_p = 0.9f, .min_p = 0.02f}},
    {"T tiny", {.temperature = 1e-30f, .top_p = 0.9f}},
    {"T small, top-k 50", {.temperature = 0.01f, .top_k = 50}},
    {"T 100", {.temperature = 100.0f, .top_p = 0.7f}},
    {"penalties and biases",
     {.temperature = 0.8f,
      .top_p = 0.9f,
      .repetition_penalty = 1.2f,
      .presence_penalty = 0.4f,
      .frequency_penalty = 0.1f,
      .logit_bias = biases,
      .num_logit_bias = 4}},
};
enum { NUM_SETTINGS = sizeof settings / sizeof *settings };

static fr_sampler *create(const fr_sampling *sampling, int vocab, int threads) {
    fr_sampler *s = fr_alloc_zeroed(1, sizeof *s);
    fr_arena arena = {0};
    fr_sampler_take(s, &arena, sampling, vocab, fr_isa_kernels(FR_ISA_AUTO), threads);
    arena = (fr_arena){.base = fr_alloc(arena.used + 64), .size = arena.used};
    fr_sampler_take(s, &arena, sampling, vocab, fr_isa_kernels(FR_ISA_AUTO), threads);
    return s;
}

static void destroy(fr_sampler *s) {
    fr_free(s->filters.adjusted); /* the arena's first piece, so its base */
    fr_free(s);
}

static float draft_row[LARGEST], main_row[LARGEST];

/* A draft, its verification and a token of the main model's own, by both samplers. */
static void compare_cycle(fr_sampler *s, reference_sampler *r, fr_history h, const char *name, int kind) {
    double confidence, expected;
    int32_t draft = fr_sampler_draft(s, draft_row, h, 0, &confidence);
    if (draft != reference_draft(r, draft_row, h, &expected)) fail_msg("%s, row %d: another draft", name, kind);
    if (!(fabs(confidence - expected) < 1e-6))
        fail_msg("%s, row %d: confidence %.17g, not %.17g", name, kind, confidence, expected);
    if (fr_sampler_verify(s, main_row, h, 0, draft) != reference_verify(r, main_row, h, draft))
        fail_msg("%s, row %d: another token verified", name, kind);
    if (fr_sampler_choose(s, main_row, h) != reference_choose(r, main_row, h)) fail_msg("%s, row %d: another token", name, kind);
    if (s->filters.sampling.temperature > 0.0f) assert_int_equal(s->target.count, r->count);
}

static void compare(int vocab, int rows, int threads, fr_verify verify) {
    int32_t text[TEXT + 1];
    for (int i = 0; i <= TEXT; i++) text[i] = (i * i) % 11;
    for (int k = 0; k < NUM_SETTINGS; k++) {
        fr_sampling sampling = settings[k].sampling;
        sampling.verify = verify;
        sampling.seed = (uint64_t)k;
        fr_sampler *s = create(&sampling, vocab, threads);
        reference_sampler *r = reference_create(&sampling, vocab);
        for (int row = 0; row < rows; row++) {
            row_kind kind = (row_kind)(row % NUM_ROWS);
            fill(draft_row, vocab, kind, 2 * row);
            fill(main_row, vocab, kind, row % 3 ? 2 * row + 1 : 2 * row); /* now and then they agree */
            compare_cycle(s, r, (fr_history){text, TEXT - row % 3, GENERATED}, settings[k].name, (int)kind);
        }
        reference_destroy(r);
        destroy(s);
    }
}

static void tokens_are_those_of_the_reference(void **in) {
    (void)in;
    compare(12, 8, 1, FR_VERIFY_COUPLED);
    compare(300, 160, 1, FR_VERIFY_COUPLED);
    compare(5000, 8, 3, FR_VERIFY_COUPLED);
    compare(LARGEST, 8, 2, FR_VERIFY_COUPLED);
}

static void so_they_are_with_rejection(void **in) {
    (void)in;
    compare(12, 8, 1, FR_VERIFY_REJECTION);
    compare(300, 160, 1, FR_VERIFY_REJECTION);
    compare(5000, 8, 3, FR_VERIFY_REJECTION);
    compare(LARGEST, 8, 2, FR_VERIFY_REJECTION);
}

enum { EDGE = 3001, HIGH = 60 };

/* A row whose HIGH likeliest tokens have half of all mass, but for the last places: tokens at the end make up for what is
 * missing, each for what a float logit of the one before could not. */
static void fill_edge(float *x, int row) {
    double high = 0.0, low = 0.0;
    for (int i = 0; i < EDGE - 6; i++) {
        float logit = (float)(i < HIGH ? 1.0 + 2.0 * uniform(row, i, 0) : -1.0 - uniform(row, i, 0));
        x[i * 7 % EDGE] = logit;
        *(i < HIGH ? &high : &low) += exp((double)logit);
        if (low > high - 0.5) x[i * 7 % EDGE] = -INFINITY, low -= exp((double)logit);
    }
    for (int i = EDGE - 6; i < EDGE; i++) {
        float logit = high - low > 1e-30 ? nextafterf((float)log(high - low), -INFINITY) : -INFINITY;
        x[i * 7 % EDGE] = logit;
        low += exp((double)logit);
    }
}

static void a_nucleus_ends_where_the_rule_says_when_its_sum_is_at_the_edge(void **in) {
    (void)in;
    fr_sampling sampling = {.temperature = 1.0f, .top_p = 0.5f};
    fr_sampler *s = create(&sampling, EDGE, 1);
    reference_sampler *r = reference_create(&sampling, EDGE);
    int32_t text[60] = {0};
    int counts[2] = {0};
    for (int row = 0; row < 60; row++) {
        fr_history h = {text, row, row};
        fill_edge(main_row, row);
        assert_int_equal(fr_sampler_choose(s, main_row, h), reference_choose(r, main_row, h));
        assert_int_equal(s->target.count, r->count);
        assert_true(r->count == HIGH || r->count == HIGH + 1);
        counts[r->count - HIGH]++;
    }
    assert_true(counts[0] > 5 && counts[1] > 5); /* it is the last places that decide */
    reference_destroy(r);
    destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_of_the_reference),
        cmocka_unit_test(so_they_are_with_rejection),
        cmocka_unit_test(a_nucleus_ends_where_the_rule_says_when_its_sum_is_at_the_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
