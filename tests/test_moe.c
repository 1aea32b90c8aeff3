/* The router against a brute-force one, and experts: decode against prefill, one row against eight, any thread count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "core/kernels/isa.h"
#include "core/kernels/prefill_layout.h"
#include "core/threads.h"
#include "moe/moe.h"
#include "random_linear.h"

enum { HIDDEN = 40, WIDTH = 24, EXPERTS = 12, GROUPS = 4, ROWS = 330, TEAM = 64 };

/* How many of c[0..n) beat c[i]: greater, or equal with a lower index. */
static int rank_of(const float *c, int n, int i) {
    int rank = 0;
    for (int j = 0; j < n; j++) rank += c[j] > c[i] || (c[j] == c[i] && j < i);
    return rank;
}

/* Chosen experts by counting ranks, marked in chosen[]. */
static void choose_naively(const fr_router *r, const float *s, bool *chosen) {
    float c[EXPERTS], group[GROUPS], kept[EXPERTS];
    int size = r->experts / r->groups;
    for (int i = 0; i < r->experts; i++) c[i] = s[i] + r->bias[i];
    for (int g = 0; g < r->groups; g++) {
        group[g] = 0;
        for (int i = 0; i < size; i++)
            if (rank_of(c + g * size, size, i) < 2) group[g] += c[g * size + i];
    }
    for (int i = 0; i < r->experts; i++) kept[i] = rank_of(group, r->groups, i / size) < r->topk_group ? c[i] : -INFINITY;
    for (int i = 0; i < r->experts; i++) chosen[i] = kept[i] != -INFINITY && rank_of(kept, r->experts, i) < r->topk;
}

static void the_router_matches_brute_force(void **in) {
    (void)in;
    for (int trial = 0; trial < 3000; trial++) {
        float bias[EXPERTS], logits[EXPERTS], scores[EXPERTS], work[EXPERTS + GROUPS], weights[6];
        int32_t ids[6];
        bool chosen[EXPERTS];
        fr_router r = {.experts = EXPERTS,
                       .groups = GROUPS,
                       .topk_group = 1 + trial % GROUPS,
                       .norm_topk_prob = trial % 2,
                       .scaling = 2.5f,
                       .bias = bias};
        r.topk = 1 + trial % (r.topk_group * 3 < 6 ? r.topk_group * 3 : 6);
        for (int i = 0; i < EXPERTS; i++) {
            bias[i] = trial % 3 == 0 ? -2.0f + random_value() : random_value() * 0.1f; /* all biased scores negative, too */
            logits[i] = trial % 5 == 0 ? (float)((int)(random_value() * 2.0f)) : random_value() * 3.0f; /* ties, too */
            scores[i] = 1.0f / (1.0f + expf(-logits[i]));
        }
        choose_naively(&r, scores, chosen);
        fr_route(&r, logits, work, ids, weights);
        double sum = 0;
        for (int k = 0; k < r.topk; k++) {
            assert_true(chosen[ids[k]]);
            assert_true(k == 0 || ids[k] > ids[k - 1]);
            sum += scores[ids[k]];
        }
        for (int k = 0; k < r.topk; k++) {
            double expected = scores[ids[k]] * 2.5 / (r.norm_topk_prob ? sum : 1.0);
            assert_true(fabs(weights[k] - expected) < 1e-5); /* unbiased scores weigh */
        }
    }
}

static fr_mlp random_mlp(int width) {
    return (fr_mlp){random_linear(width, HIDDEN), random_linear(width, HIDDEN), random_linear(HIDDEN, width)};
}

static void release_mlp(fr_mlp *mlp) {
    fr_free((void *)mlp->gate_proj.w);
    fr_free((void *)mlp->up_proj.w);
    fr_free((void *)mlp->down_proj.w);
}

typedef struct {
    fr_moe moe;
    fr_rows rows;
    fr_compute compute;
    fr_moe_scratch scratch;
    void *memory;
    float *delta; /* [ROWS, HIDDEN] */
} fixture;

static void take(fixture *f, fr_arena *arena) {
    const fr_kernels *kernels = fr_isa_kernels(FR_ISA_AUTO);
    fr_rows_take(&f->rows, arena, kernels, ROWS, HIDDEN, FR_INPUT_ANY);
    fr_compute_take(&f->compute, arena, kernels, ROWS, TEAM);
    fr_moe_scratch_take(&f->scratch, arena, &f->moe, ROWS, &f->compute);
    f->delta = FR_TAKE(arena, float, ROWS *HIDDEN);
}

static int setup(void **out) {
    fixture *f = fr_alloc_zeroed(1, sizeof *f);
    f->moe = (fr_moe){.hidden = HIDDEN,
                      .intermediate = WIDTH,
                      .router = {.experts = EXPERTS,
                                 .groups = GROUPS,
                                 .topk_group = 2,
                                 .topk = 3,
                                 .norm_topk_prob = true,
                                 .scaling = 1.5f,
                                 .gate = random_linear(EXPERTS, HIDDEN),
                                 .bias = random_floats(EXPERTS, 0.1f)},
                      .has_shared = true,
                      .shared = random_mlp(WIDTH)};
    f->moe.experts = fr_alloc(EXPERTS * sizeof(fr_mlp));
    for (int e = 0; e < EXPERTS; e++) f->moe.experts[e] = random_mlp(WIDTH);
    f->moe.inputs = fr_moe_inputs(&f->moe);
    fr_arena arena = {0};
    take(f, &arena);
    arena = (fr_arena){.base = f->memory = fr_alloc(arena.used), .size = arena.used};
    take(f, &arena);
    assert_int_equal(fr_compute_prepare(&f->compute, &f->moe.shared.up_proj, NULL), FR_OK);
    *out = f;
    return 0;
}

static int teardown(void **in) {
    fixture *f = *in;
    for (int e = 0; e < EXPERTS; e++) release_mlp(&f->moe.experts[e]);
    release_mlp(&f->moe.shared);
    fr_free(f->moe.experts);
    fr_free((void *)f->moe.router.gate.w);
    fr_free(f->moe.router.bias);
    fr_compute_release(&f->compute);
    fr_free(f->memory);
    fr_free(f);
    return 0;
}

typedef struct moe_job {
    fixture *f;
    const float *x;
    float *y;
    int n;
} moe_job;

static void run_moe(void *argument) {
    const moe_job *j = argument;
    fixture *f = j->f;
    fr_rows_set(&f->rows, j->x, j->n, HIDDEN, f->moe.inputs, false);
    fr_moe_forward(&f->moe, &f->rows, j->y, f->delta, &f->scratch);
}

static void run(fixture *f, const float *x, int rows, int step, int threads, float *y) {
    for (int pos = 0; pos < rows; pos += step) {
        int n = step < rows - pos ? step : rows - pos;
        memset(y + pos * HIDDEN, 0, (size_t)n * HIDDEN * sizeof *y);
        fr_team_run(threads, run_moe, &(moe_job){f, x + pos * HIDDEN, y + pos * HIDDEN, n});
    }
}

static void rows_do_not_matter(void **in) {
    fixture *f = *in;
    float *x = random_floats(ROWS * HIDDEN, 1.0f), *one = random_floats(ROWS * HIDDEN, 0.0f),
          *some = random_floats(ROWS * HIDDEN, 0.0f);
    run(f, x, ROWS, 1, 1, one);
    for (int step = 2; step <= FR_DECODE_ROWS; step++) {
        run(f, x, ROWS, step, 1 + step % 3, some);
        assert_memory_equal(one, some, ROWS * HIDDEN * sizeof(float));
    }
    run(f, x, ROWS, ROWS, 2, some); /* the prefill regime: close, not equal */
    for (int i = 0; i < ROWS * HIDDEN; i++) assert_true(fabsf(one[i] - some[i]) < 5e-4f);
    float *again = random_floats(ROWS * HIDDEN, 0.0f);
    run(f, x, ROWS, ROWS, 3, again); /* but threads do not matter there either */
    assert_memory_equal(some, again, ROWS * HIDDEN * sizeof(float));
    fr_free(x);
    fr_free(one);
    fr_free(some);
    fr_free(again);
}

/* Rows of the last pass that chose expert e. */
static int rows_of(const fixture *f, int e) {
    return f->scratch.first_slot[e + 1] - f->scratch.first_slot[e];
}

/* An expert's rows go through it in lots (moe/lots.h), which other rows of the pass decide: a row's bits are the same in passes
 * of any length, as long as its experts have more rows than decode takes. */
static void lots_of_an_experts_rows_do_not_matter(void **in) {
    fixture *f = *in;
    float *x = random_floats(ROWS * HIDDEN, 1.0f), *whole = random_floats(ROWS * HIDDEN, 0.0f),
          *some = random_floats(ROWS * HIDDEN, 0.0f);
    int most = 0, compared = 0;
    run(f, x, ROWS, ROWS, 3, whole);
    for (int e = 0; e < EXPERTS; e++) most = rows_of(f, e) > most ? rows_of(f, e) : most;
    assert_true(most > 2 * FR_TILE_TOKENS);
    for (int rows = ROWS - 1; rows > 60; rows -= 9) {
        run(f, x, rows, rows, 1 + rows % 3, some);
        for (int i = 0; i < rows; i++) {
            bool enough = true;
            for (int k = 0; k < f->moe.router.topk; k++)
                enough &= rows_of(f, f->scratch.ids[i * f->moe.router.topk + k]) > FR_DECODE_ROWS;
            if (!enough) continue;
            assert_memory_equal(whole + i * HIDDEN, some + i * HIDDEN, HIDDEN * sizeof(float));
            compared++;
        }
    }
    assert_true(compared > 3000);
    fr_free(x);
    fr_free(whole);
    fr_free(some);
}

/* Rows that are spread over the experts, and rows that all choose the same three. */
static void any_number_of_threads_gives_the_same_bits(void **in) {
    static const int teams[] = {2, 5, 16, TEAM};
    fixture *f = *in;
    float *x = random_floats(ROWS * HIDDEN, 1.0f), *one = random_floats(ROWS * HIDDEN, 0.0f),
          *more = random_floats(ROWS * HIDDEN, 0.0f);
    for (int skewed = 0; skewed < 2; skewed++) {
        for (int e = 0; e < 3; e++) f->moe.router.bias[e] += skewed ? 100.0f : 0.0f;
        run(f, x, ROWS, ROWS, 1, one);
        if (skewed) assert_int_equal(rows_of(f, 0) + rows_of(f, 1) + rows_of(f, 2), 3 * ROWS);
        for (int t = 0; t < 4; t++) {
            run(f, x, ROWS, ROWS, teams[t], more);
            assert_memory_equal(one, more, ROWS * HIDDEN * sizeof(float));
        }
    }
    for (int e = 0; e < 3; e++) f->moe.router.bias[e] -= 100.0f;
    fr_free(x);
    fr_free(one);
    fr_free(more);
}

/* Units, not clocks, say that no thread need be idle: DeepSeek-V3's widths, 512 rows. */
static void an_expert_that_all_rows_chose_is_work_for_all_threads(void **in) {
    (void)in;
    const int lots = 512 / FR_TILE_TOKENS, one_expert_each = 256;
    assert_true(lots * fr_lot_slices(lots, 2048, 192) >= 192);
    assert_true(lots * fr_lot_slices(lots, 7168, 192) >= 4 * 192);
    assert_true(one_expert_each * fr_lot_slices(one_expert_each, 2048, 192) >= 3 * 192);
    assert_int_equal(fr_lot_slices(lots, 2048, 1), 1);
    assert_int_equal(fr_lot_slices(one_expert_each, 2048, 16), 1); /* no more than needed */
}

int main(void) {
    random_state = 99;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_router_matches_brute_force),
        cmocka_unit_test(rows_do_not_matter),
        cmocka_unit_test(lots_of_an_experts_rows_do_not_matter),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(an_expert_that_all_rows_chose_is_work_for_all_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
