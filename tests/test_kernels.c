#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/dtype.h"
#include "core/kernels/isa.h"
#include "core/linear/norm.h"
#include "core/threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MOST = 700 };
static const int sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 128, 512, 576, MOST};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* As a program does that was linked with fast-math. */
static void flush_subnormals(bool flush) {
#if defined(__x86_64__)
    _mm_setcsr(flush ? _mm_getcsr() | 0x8040u : _mm_getcsr() & ~0x8040u);
#else
    (void)flush;
#endif
}

/* Inputs, in each format. */
static float a[MOST], b[MOST];
static uint16_t half[MOST];
static uint8_t codes[MOST];

static int set_up(void **state) {
    (void)state;
    uint64_t bits = 9;
    for (int i = 0; i < MOST; i++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        a[i] = (float)(int32_t)(bits >> 32) * 0x1p-30f;
        b[i] = (float)(int32_t)(bits >> 16) * 0x1p-29f;
        half[i] = fr_f32_bf16(b[i]);
        codes[i] = (uint8_t)((bits >> 40 & 0x7f) == 0x7f ? 0 : bits >> 40);
    }
    return 0;
}

/* Calls a test with each table of kernels that this machine has, those among them for which it has better. */
static void for_each_isa(void (*test)(const fr_kernels *k, int n)) {
    const fr_kernels *k;
    for (int table = 0; (k = fr_isa_table(table)); table++)
        for (int i = 0; i < SIZES; i++) test(k, sizes[i]);
}

static void assert_close(double actual, double expected, double tolerance) {
    if (!(fabs(actual - expected) <= tolerance)) fail_msg("%.9g, not %.9g", actual, expected);
}

static void check_sums(const fr_kernels *k, int n) {
    double dot = 0, dot_half = 0, size = 0, squares = 0;
    float max = -INFINITY;
    for (int i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        dot_half += (double)a[i] * (double)fr_bf16_f32(half[i]);
        size += fabs((double)a[i] * (double)b[i]);
        squares += (double)a[i] * (double)a[i];
        max = fmaxf(max, a[i]);
    }
    assert_close((double)k->dot_f32(a, b, n), dot, 1e-6 * size);
    assert_close((double)k->dot_bf16(a, half, n), dot_half, 1e-6 * size);
    assert_close((double)k->sum_squares(a, n), squares, 1e-6 * squares);
    assert_true(k->max(a, n) == max);
}

static void sums_are_near_the_exact_ones(void **state) {
    (void)state;
    for_each_isa(check_sums);
}

/* Elements from n on are sentinels: a kernel may not touch them. */
static void check_axpy(const fr_kernels *k, int n) {
    float f32[MOST + 1], bf16[MOST + 1], e4m3[MOST + 1];
    for (int i = 0; i <= n; i++) f32[i] = bf16[i] = e4m3[i] = (float)i * 0.5f;
    k->axpy_f32(f32, 1.25f, b, n);
    k->axpy_bf16(bf16, 1.25f, half, n);
    k->axpy_e4m3(e4m3, 1.25f, codes, n);
    for (int i = 0; i < n; i++) {
        double y = i * 0.5,
               terms[] = {1.25 * (double)b[i], 1.25 * (double)fr_bf16_f32(half[i]), 1.25 * (double)fr_e4m3_f32(codes[i])};
        assert_close((double)f32[i], y + terms[0], 1.2e-7 * (fabs(terms[0]) + y));
        assert_close((double)bf16[i], y + terms[1], 1.2e-7 * (fabs(terms[1]) + y));
        assert_close((double)e4m3[i], y + terms[2], 1.2e-7 * (fabs(terms[2]) + y));
    }
    assert_true(f32[n] == (float)n * 0.5f && bf16[n] == (float)n * 0.5f && e4m3[n] == (float)n * 0.5f);
}

static void axpy_adds_and_leaves_the_rest_alone(void **state) {
    (void)state;
    for_each_isa(check_axpy);
}

/* y += sum of rows, whether their codes include rare ones (zeros, subnormals) or not; nothing behind is touched. */
static void check_add_rows(const fr_kernels *k, int n) {
    enum { ROWS = 5 };
    if (!k->add_rows_e4m3 || n > 128) return;
    for (int plain = 0; plain < 2; plain++) {
        uint8_t rows[ROWS * MOST];
        float y[129];
        for (int i = 0; i < ROWS * MOST; i++)
            rows[i] = plain ? (uint8_t)((codes[i % MOST] & 0x80) | (8 + (codes[i % MOST] + i / MOST) % 0x77))
                            : codes[(i + i / MOST) % MOST];
        for (int i = 0; i <= n; i++) y[i] = (float)i * 0.5f;
        k->add_rows_e4m3(y, a, rows + 1, MOST - 1, ROWS, n);
        for (int i = 0; i < n; i++) {
            double sum = i * 0.5, magnitude = sum;
            for (int r = 0; r < ROWS; r++) {
                double term = (double)a[r] * (double)fr_e4m3_f32(rows[1 + r * (MOST - 1) + i]);
                sum += term;
                magnitude += fabs(term);
            }
            assert_close((double)y[i], sum, 3e-7 * magnitude);
        }
        assert_true(y[n] == (float)n * 0.5f);
    }
}

static void sums_of_rows_are_right(void **state) {
    (void)state;
    for_each_isa(check_add_rows);
}

static void check_conversions(const fr_kernels *k, int n) {
    float wide[MOST + 1], special[MOST];
    uint16_t narrow[MOST + 1];
    wide[n] = 7.0f;
    k->bf16_to_f32(wide, half, n);
    for (int i = 0; i < n; i++) assert_true(wide[i] == fr_bf16_f32(half[i]));
    assert_true(wide[n] == 7.0f);

    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00001, 0xff800001, 0x7f7fffff, 0x00000001,
                                    0x80000000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff};
    for (int i = 0; i < n; i++) special[i] = i % 3 ? a[i] : fr_bits_f32(bits[i / 3 % 11]);
    narrow[n] = 7;
    k->f32_to_bf16(narrow, special, n);
    for (int i = 0; i < n; i++) {
        if (isnan(special[i]))
            assert_true(isnan(fr_bf16_f32(narrow[i])));
        else
            assert_int_equal(narrow[i], fr_f32_bf16(special[i]));
    }
    assert_int_equal(narrow[n], 7);

    k->e4m3_to_bf16(narrow, codes, n);
    for (int i = 0; i < n; i++) {
        assert_true(fr_bf16_f32(narrow[i]) == fr_e4m3_f32(codes[i]));
        assert_int_equal(narrow[i] >> 15, codes[i] >> 7);
    }
    assert_int_equal(narrow[n], 7);
}

static void conversions_are_exact(void **state) {
    (void)state;
    for_each_isa(check_conversions);
}

/* Relative to 3e-7, the precision of float and a little; what is below the least normal number may become zero. */
static void check_exponentials(const fr_kernels *k, int n) {
    float x[MOST + 1], y[MOST + 1], gate[MOST];
    double sum = 0;
    for (int i = 0; i < n; i++) x[i] = i % 19 == 18 ? -INFINITY : i % 23 == 22 ? -95.0f : a[i] * (i % 2 ? 40.0f : 1.0f);
    x[n] = 7.0f;
    float input[MOST], max = k->max(x, n);
    for (int i = 0; i < n; i++) input[i] = x[i];
    float total = k->exp_sub(x, max, n);
    for (int i = 0; i < n; i++) {
        double expected = exp((double)(input[i] - max));
        assert_close((double)x[i], expected, 3e-7 * expected + 2e-38);
        sum += expected;
    }
    assert_true(x[n] == 7.0f);
    assert_close((double)total, sum, 1e-6 * sum);

    for (int i = 0; i < n; i++) gate[i] = i % 19 == 18 ? -120.0f : i % 23 == 22 ? 120.0f : 8 * a[i];
    y[n] = 7.0f;
    k->silu_mul(y, gate, b, n);
    for (int i = 0; i < n; i++) {
        double g = (double)gate[i], expected = g / (1 + exp(-g)) * (double)b[i];
        assert_close((double)y[i], expected, 5e-7 * fabs(expected) + 2e-36);
    }
    assert_true(y[n] == 7.0f);
}

static void exponentials_are_near_the_exact_ones(void **state) {
    (void)state;
    for_each_isa(check_exponentials);
}

typedef struct norm_job {
    const fr_kernels *k;
    float *x, *y;
    int n;
} norm_job;

static void run_norm(void *argument) {
    const norm_job *j = argument;
    fr_rmsnorm(j->k, j->y, j->x, b, 1e-6f, 3, j->n);
}

static void check_norm(const fr_kernels *k, int n) {
    float x[3 * MOST], y[3 * MOST], row[MOST];
    /* Three rows; one thread and three give the same. */
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < n; i++) x[r * n + i] = a[i] * (float)(r + 1) * (r == 2 ? 1e-4f : 1.0f);
    fr_team_run(3, run_norm, &(norm_job){k, x, y, n});
    for (int r = 0; r < 3; r++) {
        double squares = 0;
        for (int i = 0; i < n; i++) squares += (double)x[r * n + i] * (double)x[r * n + i];
        fr_rmsnorm_row(k, row, x + r * n, b, 1e-6f, n);
        for (int i = 0; i < n; i++) {
            double expected = (double)x[r * n + i] / sqrt(squares / n + 1e-6) * (double)b[i];
            assert_close((double)y[r * n + i], expected, 1e-6 * fabs(expected));
            assert_true(row[i] == y[r * n + i]);
        }
    }
    fr_rmsnorm_row(k, x, x, b, 1e-6f, n); /* in place */
    for (int i = 0; i < n; i++) assert_true(x[i] == y[i]);
}

static void the_norm_does_not_depend_on_threads(void **state) {
    (void)state;
    for_each_isa(check_norm);
}

static void splits_cover_everything_once(void **state) {
    (void)state;
    for (int count = 0; count < 300; count += 7) {
        for (int parts = 1; parts < 9; parts++) {
            int at = 0, begin, end;
            for (int i = 0; i < parts; i++) {
                fr_split(count, 16, parts, i, &begin, &end);
                assert_int_equal(begin, at);
                assert_true(begin % 16 == 0 || begin == count);
                assert_true(end >= begin);
                at = end;
            }
            assert_int_equal(at, count);
        }
    }
}

/* Every code, subnormals among them, for every number of rows: a row's bits are those that it has alone, and they do not change
 * where the calling program flushes subnormal floats to zero. */
static void check_decode_of(int in) {
    enum { WIDEST = 2000, OUT = 45, BLOCKS = WIDEST / FR_BLOCK + 1 };
    static uint8_t w[OUT * WIDEST];
    static float x[FR_DECODE_ROWS][WIDEST], scale[BLOCKS], alone[FR_DECODE_ROWS][OUT], y[FR_DECODE_ROWS][OUT];
    const void *rows[FR_DECODE_ROWS];
    for (int i = 0; i < OUT * in; i++) w[i] = (i * 7 + i / in) % 128 == 127 ? 0 : (uint8_t)(i * 7 + i / in);
    for (int i = 0; i < BLOCKS; i++) scale[i] = 0.001f * (float)(i + 1);
    for (int r = 0; r < FR_DECODE_ROWS; r++)
        for (int i = 0; i < in; i++) x[r][i] = a[(r * 31 + i) % MOST] * (r == 3 ? 1e-20f : r == 4 ? 1e12f : 1.0f);
    const fr_kernels *k;
    for (int table = 0; (k = fr_isa_table(table)); table++) {
        fr_decode_job job = {
            .w = w, .stride = in, .scale = scale, .scale_stride = 0, .in = in, .end = OUT, .x = rows, .y_stride = OUT};
        for (int r = 0; r < FR_DECODE_ROWS; r++) {
            rows[0] = x[r];
            job.rows = 1;
            job.y = alone[r];
            k->decode_linear_e4m3(&job);
            for (int o = 0; o < OUT; o++) {
                double sum = 0, magnitude = 0;
                for (int i = 0; i < in; i++) {
                    double term = (double)scale[i / 128] * (double)fr_e4m3_f32(w[o * in + i]) * (double)x[r][i];
                    sum += term;
                    magnitude += fabs(term);
                }
                assert_close((double)alone[r][o], sum, 1e-6 * magnitude);
            }
        }
        for (int n = 1; n <= FR_DECODE_ROWS; n++) {
            for (int r = 0; r < n; r++) rows[r] = x[FR_DECODE_ROWS - n + r];
            job.rows = n;
            job.y = y[0];
            flush_subnormals(n % 2 == 0);
            k->decode_linear_e4m3(&job);
            flush_subnormals(false);
            for (int r = 0; r < n; r++) assert_memory_equal(y[r], alone[FR_DECODE_ROWS - n + r], sizeof y[r]);
        }
    }
}

static void decode_takes_every_code_in_any_company(void **state) {
    (void)state;
    check_decode_of(300);
    check_decode_of(2000); /* more than what is kept of narrow rows */
}

/* However large or small scales are, a sum times them is what it is. */
static void decode_takes_scales_of_any_size(void **state) {
    (void)state;
    enum { IN = FR_BLOCK + 40, OUT = 5, BLOCKS = 2 };
    static const float magnitudes[] = {1e-18f, 1.0f, 3e4f, 1e12f};
    static uint8_t w[OUT * IN];
    static uint16_t q[IN + FR_BLOCK]; /* with zeros behind them */
    float y[OUT], scale[BLOCKS], sx[BLOCKS];
    const void *rows[] = {q};
    const float *scales[] = {sx};
    for (int i = 0; i < OUT * IN; i++) w[i] = codes[i % MOST];
    for (int i = 0; i < IN; i++) q[i] = fr_f32_bf16(fr_e4m3_f32(codes[(i * 3 + 1) % MOST]));
    const fr_kernels *k;
    for (int table = 0; (k = fr_isa_table(table)); table++)
        for (size_t m = 0; m < sizeof magnitudes / sizeof *magnitudes; m++) {
            double sum[OUT] = {0}, magnitude = 0;
            for (int i = 0; i < BLOCKS; i++) scale[i] = magnitudes[m], sx[i] = magnitudes[m] * (float)(i + 1);
            fr_decode_job job = {.w = w, .stride = IN, .scale = scale, .in = IN, .end = OUT, .x = rows, .sx = scales};
            job.rows = 1;
            job.y = y;
            k->decode_linear_e4m3_q(&job);
            for (int i = 0; i < OUT * IN; i++) {
                double term = (double)scale[0] * (double)sx[i % IN / FR_BLOCK] * (double)fr_e4m3_f32(w[i]);
                sum[i / IN] += term * (double)fr_bf16_f32(q[i % IN]);
                magnitude += fabs(term * (double)fr_bf16_f32(q[i % IN]));
            }
            for (int o = 0; o < OUT; o++) assert_close((double)y[o], sum[o], 1e-6 * magnitude);
        }
}

static void each_instruction_set_has_its_word_and_its_tables(void **state) {
    (void)state;
    const fr_kernels *k;
    int tables = 0, sets = 0;
    fr_isa last = FR_ISA_AUTO;
    for (; (k = fr_isa_table(tables)); tables++) {
        assert_true(k->isa >= last && k->isa < FR_ISA_COUNT);
        assert_int_equal(strncmp(k->name, fr_isa_name(k->isa), strlen(fr_isa_name(k->isa))), 0);
        last = k->isa;
    }
    for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++) {
        assert_int_equal(fr_isa_available(isa), fr_isa_kernels(isa) != NULL);
        if (!fr_isa_available(isa)) continue;
        assert_int_equal(fr_isa_kernels(isa)->isa, isa);
        sets++;
    }
    assert_true(sets >= 1 && sets <= tables);
    assert_ptr_equal(fr_isa_table(0), fr_isa_kernels(FR_ISA_SCALAR));
    assert_ptr_equal(fr_isa_table(tables - 1), fr_isa_kernels(FR_ISA_AUTO));
    assert_null(fr_isa_name(FR_ISA_COUNT));
}

static void unknown_instruction_sets_are_errors(void **state) {
    (void)state;
    fr_error error;
    const fr_kernels *k;
    for (fr_isa isa = FR_ISA_SCALAR; isa <= FR_ISA_COUNT; isa++) {
        if (fr_isa_available(isa)) continue;
        assert_int_equal(fr_isa_find(isa, &k, &error), FR_ERROR_UNSUPPORTED);
        assert_true(error.message[0] && error.hint[0]);
    }
    assert_int_equal(fr_isa_find(FR_ISA_AUTO, &k, &error), FR_OK);
    assert_true(k->isa != FR_ISA_AUTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_near_the_exact_ones),
        cmocka_unit_test(axpy_adds_and_leaves_the_rest_alone),
        cmocka_unit_test(sums_of_rows_are_right),
        cmocka_unit_test(conversions_are_exact),
        cmocka_unit_test(exponentials_are_near_the_exact_ones),
        cmocka_unit_test(the_norm_does_not_depend_on_threads),
        cmocka_unit_test(splits_cover_everything_once),
        cmocka_unit_test(decode_takes_every_code_in_any_company),
        cmocka_unit_test(decode_takes_scales_of_any_size),
        cmocka_unit_test(each_instruction_set_has_its_word_and_its_tables),
        cmocka_unit_test(unknown_instruction_sets_are_errors),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
