#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/kernels/isa.h"
#include "core/linear/linear.h"
#include "core/linear/onednn_fp8.h"
#include "core/linear/prefill.h"
#include "core/threads.h"
#include "model/weights.h"
#include "reference_linear.h"
#include "scratch.h"

static const fr_dtype dtypes[] = {FR_F8_E4M3, FR_BF16, FR_F32};

static const fr_kernels *kernels; /* that are tested */

/* Calls a test for each table of kernels that this machine has, those among them for which it has better. */
static void for_each_isa(void (*test)(void)) {
    assert_non_null(fr_isa_table(0));
    for (int i = 0; (kernels = fr_isa_table(i)); i++) test();
    kernels = fr_isa_kernels(FR_ISA_AUTO);
}

static uint64_t random_state;

static uint32_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

/* Roughly normal. */
static float random_float(void) {
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)random_bits() * 0x1p-30f - 1.0f;
    return sum;
}

/* A linear with weights one byte off any alignment, as in a mapping. Of the E4M3 codes a fifth are subnormals or zeros in even
 * rows, and none in odd ones: kernels may take them another way. */
typedef struct layer {
    fr_linear linear;
    char *weights;
} layer;

static layer make_layer(fr_dtype dtype, int out, int in) {
    size_t size = fr_dtype_size(dtype), count = (size_t)out * (size_t)in;
    layer l = {.weights = malloc(count * size + 1)};
    int rows = (out + 127) / 128, columns = (in + 127) / 128;
    float *scale = fr_alloc(sizeof *scale * (size_t)(rows * columns));
    for (int i = 0; i < rows * columns; i++) scale[i] = 0.001f * (float)(1 + random_bits() % 1000);
    for (size_t i = 0; i < count; i++) {
        float value = random_float();
        uint16_t half = fr_f32_bf16(value);
        uint8_t code = (uint8_t)(random_bits() % 5 ? random_bits() : random_bits() & 0x87);
        if (i / (size_t)in % 2) code = (uint8_t)((code & 0x80) | (8 + random_bits() % 0x77));
        if ((code & 0x7f) == 0x7f) code = 0;
        const void *from = dtype == FR_F32 ? (void *)&value : dtype == FR_BF16 ? (void *)&half : (void *)&code;
        memcpy(l.weights + 1 + i * size, from, size);
    }
    if (dtype != FR_F8_E4M3) {
        fr_free(scale);
        scale = NULL;
    }
    l.linear = (fr_linear){.out = out,
                           .in = in,
                           .dtype = dtype,
                           .w = l.weights + 1,
                           .stride = in,
                           .scale = scale,
                           .scale_stride = columns,
                           .owned_scale = scale};
    return l;
}

static void release_layer(layer *l) {
    fr_linear_release(&l->linear);
    free(l->weights);
}

static float *make_x(int rows, int in) {
    float *x = malloc(sizeof *x * (size_t)(rows * in));
    for (int i = 0; i < rows * in; i++) x[i] = random_float() * (i % 17 == 0 ? 20.0f : 1.0f);
    return x;
}

/* Rows with buffers of their own. */
typedef struct own_rows {
    fr_rows r;
    char *memory;
} own_rows;

static own_rows take_rows(int max_rows, int max_width) {
    own_rows r;
    fr_arena arena = {0};
    fr_rows_take(&r.r, &arena, kernels, max_rows, max_width, FR_INPUT_ANY);
    arena = (fr_arena){fr_alloc(arena.used), 0, arena.used};
    r.memory = arena.base;
    memset(r.memory, 0xff, arena.size); /* NaNs: nothing may be read that was not written */
    fr_rows_take(&r.r, &arena, kernels, max_rows, max_width, FR_INPUT_ANY);
    return r;
}

/* Scratch for products, likewise. */
static fr_compute take_compute(const fr_linear *w, int max_rows, int threads) {
    fr_compute c;
    fr_arena arena = {0};
    fr_compute_take(&c, &arena, kernels, max_rows, threads);
    arena = (fr_arena){fr_alloc(arena.used), 0, arena.used};
    fr_compute_take(&c, &arena, kernels, max_rows, threads);
    assert_int_equal(fr_compute_prepare(&c, w, NULL), FR_OK);
    return c;
}

static void release_compute(fr_compute *c) {
    fr_compute_release(c);
    fr_free(c->scratch);
}

static unsigned forms_of(bool quantized) {
    return quantized ? FR_INPUT_QUANTIZED | FR_INPUT_EXACT : FR_INPUT_EXACT;
}

typedef struct forward_job {
    const fr_linear *w;
    const float *x;
    int n;
    bool quantized, ue8m0;
    fr_rows *rows;
    fr_compute *compute;
    float *y;
} forward_job;

static void run_forward(void *argument) {
    const forward_job *j = argument;
    fr_rows_set(j->rows, j->x, j->n, j->w->in, forms_of(j->quantized), j->ue8m0);
    fr_linear_forward(j->w, j->rows, j->y, j->w->out, j->compute);
}

/* y [rows, out] by `threads` threads. */
static void forward(const fr_linear *w, const float *x, int n, bool quantized, bool ue8m0, int threads, float *y) {
    own_rows r = take_rows(n, w->in);
    fr_compute c = take_compute(w, n, threads);
    for (int i = 0; i < n * w->out; i++) y[i] = NAN;
    forward_job job = {w, x, n, quantized, ue8m0, &r.r, &c, y};
    fr_team_run(threads, run_forward, &job);
    release_compute(&c);
    fr_free(r.memory);
}

static void assert_near(const fr_linear *w, const float *x, int n, bool quantized, bool ue8m0, const float *y, double tolerance) {
    double *expected = malloc(sizeof *expected * (size_t)(n * w->out)),
           *magnitude = malloc(sizeof *magnitude * (size_t)(n * w->out));
    reference_linear(w, x, n, quantized, ue8m0, expected, magnitude);
    for (int i = 0; i < n * w->out; i++) {
        if (!(fabs((double)y[i] - expected[i]) <= tolerance * magnitude[i]))
            fail_msg("%s %s %dx%d, %d rows, quantized %d: row %d output %d is %.9g, not %.9g (terms add up to %g)", kernels->name,
                     fr_dtype_name(w->dtype), w->out, w->in, n, quantized, i / w->out, i % w->out, (double)y[i], expected[i],
                     magnitude[i]);
    }
    free(expected);
    free(magnitude);
}

/* Decode: right, and each row bit for bit the same whatever the number of rows. */
static void check_decode(fr_dtype dtype, int out, int in, bool quantized) {
    layer l = make_layer(dtype, out, in);
    float *x = make_x(FR_DECODE_ROWS, in), *all = malloc(sizeof *all * (size_t)(FR_DECODE_ROWS * out)),
          *some = malloc(sizeof *some * (size_t)(FR_DECODE_ROWS * out));
    bool ue8m0 = in % 2;
    forward(&l.linear, x, FR_DECODE_ROWS, quantized, ue8m0, 1, all);
    assert_near(&l.linear, x, FR_DECODE_ROWS, quantized, ue8m0, all, 1e-6);
    for (int n = 1; n < FR_DECODE_ROWS; n++) {
        int first = (n * 3) % (FR_DECODE_ROWS - n + 1);
        forward(&l.linear, x + first * in, n, quantized, ue8m0, 1, some);
        assert_memory_equal(some, all + first * out, sizeof *all * (size_t)(n * out));
    }
    free(x);
    free(all);
    free(some);
    release_layer(&l);
}

/* The widest is too wide for eight rows in one run of the tile kernel; the highest leaves some of its regions short. */
static void decode_sizes(void) {
    static const int ins[] = {1, 8, 40, 127, 128, 129, 160, 576, 7168}, outs[] = {1, 3, 64, 65, 72, 200, 545};
    for (int kind = 0; kind < 4; kind++) {
        fr_dtype dtype = kind == 3 ? FR_F8_E4M3 : dtypes[kind];
        for (int i = 0; i < 9; i++) check_decode(dtype, ins[i] > 1000 ? 6 : 72, ins[i], kind == 3);
        for (int i = 0; i < 7; i++) check_decode(dtype, outs[i], 160, kind == 3);
    }
    check_decode(FR_F8_E4M3, 72, 20100, true);
}

static void decode_rows_are_right_and_row_invariant(void **state) {
    (void)state;
    random_state = 1;
    for_each_isa(decode_sizes);
}

/* Prefill: right (x as two BF16 parts is off by up to 2^-17, and so are F32 weights), and a row does not depend on
 * how many there are, nor on its place. */
static void check_prefill(fr_dtype dtype, int out, int in, bool quantized) {
    enum { ALL = 150 };
    static const int counts[] = {9, 15, 16, 17, 31, 32, 33, 40, 64, 65, 120};
    layer l = make_layer(dtype, out, in);
    float *x = make_x(ALL, in), *all = malloc(sizeof *all * (size_t)(ALL * out)),
          *some = malloc(sizeof *some * (size_t)(ALL * out));
    float *turned = malloc(sizeof *turned * (size_t)(ALL * in));
    forward(&l.linear, x, ALL, quantized, false, 1, all);
    assert_near(&l.linear, x, ALL, quantized, false, all, quantized ? 2e-6 : dtype == FR_F32 ? 2 * 0x1.1p-17 : 0x1.1p-17);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int n = counts[i], first = (int)(random_bits() % (unsigned)(ALL - n));
        forward(&l.linear, x + first * in, n, quantized, false, 1, some);
        assert_memory_equal(some, all + first * out, sizeof *all * (size_t)(n * out));
    }
    for (int r = 0; r < ALL; r++) memcpy(turned + r * in, x + (ALL - 1 - r) * in, sizeof *x * (size_t)in);
    forward(&l.linear, turned, ALL, quantized, false, 1, some);
    for (int r = 0; r < ALL; r++) assert_memory_equal(some + r * out, all + (ALL - 1 - r) * out, sizeof *all * (size_t)out);
    free(x);
    free(all);
    free(some);
    free(turned);
    release_layer(&l);
}

/* The widest takes two panels of blocks. */
static void prefill_sizes(void) {
    static const int ins[] = {1, 40, 127, 128, 129, 160, 576, 1160}, outs[] = {1, 3, 64, 65, 72, 200};
    for (int kind = 0; kind < 4; kind++) {
        fr_dtype dtype = kind == 3 ? FR_F8_E4M3 : dtypes[kind];
        for (int i = 0; i < 8; i++) check_prefill(dtype, 72, ins[i], kind == 3);
        for (int i = 0; i < 6; i++) check_prefill(dtype, outs[i], 160, kind == 3);
    }
}

static void prefill_rows_are_right_and_row_invariant(void **state) {
    (void)state;
    random_state = 2;
    for_each_isa(prefill_sizes);
}

/* Block by block, the last first. */
static void gather(fr_rows *r, const fr_rows *from, const int *index, int n, unsigned inputs) {
    fr_rows_begin_gathered(r, n, from->width, inputs, from->ue8m0);
    for (int block = fr_blocks(from->width); block > 0; block--) fr_rows_gather(r, from, index, inputs, block - 1, block);
}

/* Rows chosen by index, through oneDNN's FP8 product. */
static void check_gathered_fp8(void) {
    enum { OUT = 200, IN = 256, ROWS = 70, CHOSEN = 13 };
    static const int index[CHOSEN] = {39, 0, 7, 7, 69, 3, 38, 11, 12, 13, 30, 2, 1};
    layer l = make_layer(FR_F8_E4M3, OUT, IN);
    float *x = make_x(ROWS, IN), *whole = malloc(sizeof *whole * ROWS * OUT), *part = malloc(sizeof *part * ROWS * OUT);
    own_rows all = take_rows(ROWS, IN), chosen = take_rows(CHOSEN, IN);
    fr_compute c = take_compute(&l.linear, ROWS, 1);
    forward(&l.linear, x, ROWS, true, true, 3, whole);
    fr_rows_set_alone(&all.r, x, ROWS, IN, forms_of(true), true);
    gather(&chosen.r, &all.r, index, CHOSEN, FR_INPUT_QUANTIZED);
    fr_linear_range(&l.linear, &chosen.r, 64, OUT, part, OUT, &c);
    for (int i = 0; i < CHOSEN; i++)
        assert_memory_equal(part + i * OUT + 64, whole + index[i] * OUT + 64, sizeof *part * (OUT - 64));
    release_compute(&c);
    fr_free(all.memory);
    fr_free(chosen.memory);
    free(x);
    free(whole);
    free(part);
    release_layer(&l);
}

/* oneDNN's own FP8 matmul, for CPUs that have one: never its reference. By force, scales, packing and products must come out as
 * in any other way. */
static void fp8_matmul_of_onednn_is_right(void **state) {
    (void)state;
    random_state = 9;
    kernels = fr_isa_kernels(FR_ISA_AUTO);
    char path[160], forced[160];
    const fr_prefill_backend *exact = fr_prefill_backend_of(kernels, false, 256);
    fr_linear_prefill_path(kernels, path, sizeof path);
    assert_null(strstr(path, "(ref"));
    assert_int_equal(strstr(path, "FP8 x FP8") != NULL, fr_prefill_backend_of(kernels, true, 256) == &fr_backend_onednn_fp8);
    if (exact == &fr_backend_portable) skip();
    fr_fp8_force(true);
    assert_ptr_equal(fr_prefill_backend_of(kernels, true, 256), &fr_backend_onednn_fp8);
    assert_ptr_equal(fr_prefill_backend_of(kernels, true, 160), exact); /* not whole blocks */
    assert_ptr_equal(fr_prefill_backend_of(kernels, false, 256), exact);
    fr_linear_prefill_path(kernels, forced, sizeof forced);
    assert_non_null(strstr(forced, "; FP8 x FP8 by oneDNN matmul ("));
    check_prefill(FR_F8_E4M3, 200, 128, true);
    check_prefill(FR_F8_E4M3, 72, 384, true);
    check_prefill(FR_F8_E4M3, 72, 160, true);
    check_gathered_fp8();
    fr_fp8_force(false);
    fr_linear_prefill_path(kernels, forced, sizeof forced);
    assert_string_equal(forced, path);
}

static void thread_counts(void) {
    static const int counts[] = {1, 8, 9, 200}, teams[] = {2, 5, 16, 64};
    for (int kind = 0; kind < 4; kind++) {
        layer l = make_layer(kind == 3 ? FR_F8_E4M3 : dtypes[kind], 200, 300);
        for (int i = 0; i < 4; i++) {
            int n = counts[i];
            float *x = make_x(n, 300), *one = malloc(sizeof *one * (size_t)(n * 200)),
                  *more = malloc(sizeof *more * (size_t)(n * 200));
            forward(&l.linear, x, n, kind == 3, false, 1, one);
            for (int t = 0; t < 4; t++) {
                forward(&l.linear, x, n, kind == 3, false, teams[t], more);
                assert_memory_equal(one, more, sizeof *one * (size_t)(n * 200));
            }
            free(x);
            free(one);
            free(more);
        }
        release_layer(&l);
    }
}

static void threads_do_not_change_results(void **state) {
    (void)state;
    random_state = 3;
    for_each_isa(thread_counts);
}

/* Every rectangle of tiles of outputs and tokens, through each backend that takes these rows, on its own: the bits of the whole.
 */
static void cuts_of_a_product(void) {
    enum { OUT = 200, IN = 300, ROWS = 150, TILES = 3, OUTPUT_TILES = 4 };
    for (int kind = 0; kind < 4; kind++) {
        layer l = make_layer(kind == 3 ? FR_F8_E4M3 : dtypes[kind], OUT, IN);
        float *x = make_x(ROWS, IN), *whole = malloc(sizeof *whole * ROWS * OUT), *cut = malloc(sizeof *cut * ROWS * OUT);
        own_rows rows = take_rows(ROWS, IN);
        fr_compute c = take_compute(&l.linear, ROWS, 1);
        const fr_prefill_backend *backend = fr_prefill_backend_of(kernels, kind == 3, IN);
        fr_rows_set_alone(&rows.r, x, ROWS, IN, forms_of(kind == 3), false);
        fr_linear_range(&l.linear, &rows.r, 0, OUT, whole, OUT, &c);
        for (int i = 0; i < OUTPUT_TILES * TILES; i++)
            for (int outputs = 1; outputs <= OUTPUT_TILES - i / TILES; outputs++)
                for (int tokens = 1; tokens <= TILES - i % TILES; tokens++) {
                    int end = (i / TILES + outputs) * FR_TILE_OUTPUTS, last = (i % TILES + tokens) * FR_TILE_TOKENS;
                    fr_linear_part part = {i / TILES * FR_TILE_OUTPUTS, end < OUT ? end : OUT, i % TILES * FR_TILE_TOKENS, 0};
                    part.rows = (last < ROWS ? last : ROWS) - part.first;
                    for (int j = 0; j < ROWS * OUT; j++) cut[j] = NAN;
                    backend->multiply(&l.linear, &rows.r, &part, cut, OUT, &c);
                    for (int r = 0; r < ROWS; r++)
                        for (int o = 0; o < OUT; o++) {
                            bool inside = r >= part.first && r < part.first + part.rows && o >= part.begin && o < part.end;
                            assert_true(inside ? cut[r * OUT + o] == whole[r * OUT + o] : isnan(cut[r * OUT + o]));
                        }
                }
        release_compute(&c);
        fr_free(rows.memory);
        free(x);
        free(whole);
        free(cut);
        release_layer(&l);
    }
}

static void a_cut_does_not_change_results(void **state) {
    (void)state;
    random_state = 6;
    for_each_isa(cuts_of_a_product);
    kernels = fr_isa_kernels(FR_ISA_AUTO);
    fr_fp8_force(true);
    cuts_of_a_product();
    fr_fp8_force(false);
}

/* Tiles of tokens are cut where outputs leave threads idle, and nowhere else: a tile of weights is then converted twice. */
static void tokens_are_cut_where_outputs_do_not_occupy_the_threads(void **state) {
    (void)state;
    const int gate = 256 / FR_TILE_OUTPUTS, kv_a = 576 / FR_TILE_OUTPUTS, o = 7168 / FR_TILE_OUTPUTS,
              tokens = 512 / FR_TILE_TOKENS;
    assert_int_equal(fr_token_parts(gate, tokens, 192), tokens); /* 32 units */
    assert_int_equal(fr_token_parts(kv_a, tokens, 192), tokens); /* 72 */
    assert_true(fr_token_parts(kv_a, tokens, 16) > 1);
    assert_int_equal(fr_token_parts(o, tokens, 16), 1);
    for (int tiles = 1; tiles < 300; tiles += 7) {
        assert_int_equal(fr_token_parts(tiles, tokens, 1), 1);
        assert_int_equal(fr_token_parts(tiles, 1, 192), 1);
        for (int threads = 1; threads <= 192; threads *= 2)
            if (tiles % threads == 0) assert_int_equal(fr_token_parts(tiles, tokens, threads), 1);
    }
}

/* Rows chosen by index, in decode and in prefill, ranges of outputs, and rows of a linear: all are the same numbers as the whole.
 */
static void parts_of_a_product(void) {
    enum { OUT = 300, IN = 200, ROWS = 40, CHOSEN = 13 };
    static const int index[CHOSEN] = {39, 0, 7, 7, 21, 3, 38, 11, 12, 13, 30, 2, 1};
    for (int kind = 0; kind < 4; kind++) {
        layer l = make_layer(kind == 3 ? FR_F8_E4M3 : dtypes[kind], OUT, IN);
        const fr_linear *w = &l.linear;
        float *x = make_x(ROWS, IN), *whole = malloc(sizeof *whole * ROWS * OUT), *part = malloc(sizeof *part * ROWS * OUT);
        own_rows all = take_rows(ROWS, IN), chosen = take_rows(CHOSEN, IN);
        fr_compute c = take_compute(w, ROWS, 1);
        fr_rows_set_alone(&all.r, x, ROWS, IN, forms_of(kind == 3), true);

        forward(w, x, ROWS, kind == 3, true, 1, whole);
        gather(&chosen.r, &all.r, index, CHOSEN, forms_of(kind == 3));
        fr_linear_range(w, &chosen.r, 64, OUT, part, OUT, &c);
        for (int i = 0; i < CHOSEN; i++)
            assert_memory_equal(part + i * OUT + 64, whole + index[i] * OUT + 64, sizeof *part * (OUT - 64));
        fr_linear sliced = fr_linear_rows(w, 128, 290);
        assert_int_equal(sliced.out, 162);
        fr_linear_range(&sliced, &all.r, 0, sliced.out, part, OUT, &c);
        for (int i = 0; i < ROWS; i++) assert_memory_equal(part + i * OUT, whole + i * OUT + 128, sizeof *part * 162);

        fr_rows_set_alone(&all.r, x, FR_DECODE_ROWS, IN, forms_of(kind == 3), true);
        forward(w, x, FR_DECODE_ROWS, kind == 3, true, 1, whole);
        fr_linear_decode(w, &all.r, (int[]){6, 1, 6}, 3, 5, 131, part, OUT);
        for (int i = 0; i < 3; i++)
            assert_memory_equal(part + i * OUT + 5, whole + (i == 1 ? 1 : 6) * OUT + 5, sizeof *part * 126);
        release_compute(&c);
        fr_free(all.memory);
        fr_free(chosen.memory);
        free(x);
        free(whole);
        free(part);
        release_layer(&l);
    }
}

static void parts_equal_the_whole(void **state) {
    (void)state;
    random_state = 4;
    for_each_isa(parts_of_a_product);
}

static void transposed(void) {
    enum { OUT = 150, IN = 200 };
    for (int kind = 0; kind < 3; kind++) {
        layer l = make_layer(dtypes[kind], OUT, IN);
        float *v = make_x(1, OUT), y[IN];
        fr_linear_transposed(&l.linear, 13, OUT, v + 13, y, kernels);
        for (int i = 0; i < IN; i++) {
            double sum = 0, magnitude = 0;
            for (int o = 13; o < OUT; o++) {
                double term = reference_weight(&l.linear, o, i) * (double)v[o];
                sum += term;
                magnitude += fabs(term);
            }
            assert_true(fabs((double)y[i] - sum) <= 1e-6 * magnitude);
        }
        free(v);
        release_layer(&l);
    }
}

static void transposed_is_right(void **state) {
    (void)state;
    random_state = 5;
    for_each_isa(transposed);
}

static void check_quantization(const float *x, int n) {
    for (int ue8m0 = 0; ue8m0 < 2; ue8m0++) {
        uint16_t q[128];
        double expected[128];
        for (int i = 0; i < n; i++) expected[i] = (double)x[i];
        reference_quantize(expected, n, ue8m0);
        float s = kernels->quantize_block(q, x, n, ue8m0), max = 0;
        int exponent;
        for (int i = 0; i < n; i++) {
            max = fmaxf(max, fabsf(x[i]));
            assert_true((double)fr_bf16_f32(q[i]) * (double)s == expected[i]);
            assert_int_equal(q[i] >> 15, signbit(x[i]) != 0);
        }
        if (!ue8m0) assert_true(s == fmaxf(max, 1e-4f) / 448.0f);
        if (ue8m0) assert_true(frexpf(s, &exponent) == 0.5f && s >= fmaxf(max, 1e-4f) / 448.0f);
        if (ue8m0) assert_true(s / 2 < fmaxf(max, 1e-4f) / 448.0f);
    }
}

static void quantization(void) {
    static const int sizes[] = {1, 7, 8, 15, 16, 31, 100, 127, 128};
    float x[128];
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 128; i++) x[i] = ldexpf(random_float(), (int)(random_bits() % 24) - 12);
        for (int i = 0; i < 9; i++) check_quantization(x, sizes[i]);
    }
    /* Every code and every border between two, exactly: with 448 in the block the scale is one. */
    for (int code = 0; code < 0x7e; code++) {
        for (int i = 0; i < 128; i++) {
            float value = (float)reference_e4m3((uint8_t)code), next = (float)reference_e4m3((uint8_t)(code + 1));
            float middle = (value + next) / 2, all[] = {value, middle, nextafterf(middle, 0), nextafterf(middle, 1e3f)};
            x[i] = i == 0 ? 448.0f : i % 2 ? all[i / 2 % 4] : -all[i / 2 % 4];
        }
        check_quantization(x, 128);
    }
    for (int i = 0; i < 128; i++) x[i] = i % 2 ? 0.0f : -0.0f;
    check_quantization(x, 128);
    for (int i = 0; i < 128; i++) x[i] = 1e-6f * (float)i; /* below the least maximum */
    check_quantization(x, 128);
    x[5] = 448.0f * 8; /* the scale is a power of two already */
    check_quantization(x, 128);
}

static void quantization_is_exact(void **state) {
    (void)state;
    random_state = 6;
    for_each_isa(quantization);
}

/* DIR/model.safetensors with the weights of a layer, at an odd offset, and its scales. */
static void save(const scratch *dir, const layer *l, const float *scale) {
    const fr_linear *w = &l->linear;
    size_t bytes = (size_t)w->out * (size_t)w->in * fr_dtype_size(w->dtype);
    int rows = (w->out + 127) / 128, columns = (w->in + 127) / 128;
    size_t scale_bytes = scale ? sizeof *scale * (size_t)(rows * columns) : 0;
    char header[512], *file = calloc(1, 8 + sizeof header + 1 + bytes + scale_bytes);
    int n = snprintf(header, sizeof header,
                     "{\"pad\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                     "\"a.weight\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[1,%zu]}",
                     fr_dtype_name(w->dtype), w->out, w->in, 1 + bytes);
    if (scale)
        n += snprintf(header + n, sizeof header - (size_t)n,
                      ",\"a.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}", rows, columns,
                      1 + bytes, 1 + bytes + scale_bytes);
    n += snprintf(header + n, sizeof header - (size_t)n, "}");
    file[0] = (char)n;
    file[1] = (char)(n >> 8);
    memcpy(file + 8, header, (size_t)n);
    memcpy(file + 8 + n + 1, w->w, bytes);
    if (scale) memcpy(file + 8 + n + 1 + bytes, scale, scale_bytes);
    scratch_write(dir, "model.safetensors", file, 8 + (size_t)n + 1 + bytes + scale_bytes);
    free(file);
}

static const fr_ranks alone = {0, 1, NULL, NULL};

static fr_status bind(fr_linear *linear, const fr_checkpoint *checkpoint, const char *name, int out, int in, fr_cut cut,
                      const fr_ranks *ranks, fr_error *error) {
    const fr_schema_row row = {.name = name, .kind = FR_SCHEMA_LINEAR, .cut = cut};
    const fr_schema_tensor t = {.row = &row, .name = name, .rank = 2, .shape = {out, in}, .heads = 8};
    return fr_linear_bind(linear, checkpoint, &t, ranks, error);
}

enum { OUT = 400, IN = 520 };

/* The part of outputs that is the rank's has the bits of the whole. Returns where the part ends. */
static int check_part(const fr_checkpoint *checkpoint, fr_cut cut, const fr_ranks *ranks, const float *x, int rows,
                      const float *y, int begin) {
    fr_linear part;
    fr_error error;
    float *got = malloc(sizeof *got * (size_t)rows * OUT);
    if (bind(&part, checkpoint, "a.weight", OUT, IN, cut, ranks, &error) != FR_OK) fail_msg("%s", error.message);
    int end = begin + fr_linear_own(&part), first = 0;
    if (cut == FR_CUT_HEADS) { /* the linear has these rows alone, and what they are rounded to */
        int heads_begin, heads_end;
        fr_ranks_part(ranks, ranks->rank, 8, 1, &heads_begin, &heads_end);
        end = heads_end * OUT / 8;
        first = begin < end ? begin / FR_BLOCK * FR_BLOCK : 0;
    } else {
        assert_int_equal(part.before, begin);
    }
    forward(&part, x, rows, false, false, 1, got);
    for (int r = 0; r < rows && begin < end; r++)
        assert_memory_equal(got + r * part.out + begin - first, y + r * OUT + begin, sizeof *y * (size_t)(end - begin));
    assert_true(fr_linear_bytes(&part) <= (uint64_t)(end - begin + 2 * FR_BLOCK) * (IN * fr_dtype_size(part.dtype) + 1));
    fr_linear_release(&part);
    free(got);
    return end;
}

static void parts_of_ranks_make_up_the_whole(void **state) {
    (void)state;
    random_state = 7;
    for (int kind = 0; kind < 3; kind++)
        for (int rows = 3; rows <= 20; rows += 17) {
            scratch dir = scratch_create();
            layer l = make_layer(dtypes[kind], OUT, IN);
            fr_checkpoint *checkpoint;
            fr_linear whole;
            fr_error error;
            float *x = make_x(rows, IN), *y = malloc(sizeof *y * (size_t)rows * OUT);
            save(&dir, &l, l.linear.scale);
            if (fr_checkpoint_open(dir.dir, &checkpoint, &error) != FR_OK) fail_msg("%s", error.message);
            assert_int_equal(bind(&whole, checkpoint, "a.weight", OUT, IN, FR_CUT_NONE, &alone, &error), FR_OK);
            assert_int_equal(whole.dtype, dtypes[kind]);
            assert_int_equal(fr_linear_bytes(&whole), OUT * IN * fr_dtype_size(dtypes[kind]) + (kind ? 0 : 4 * 5 * 4));
            forward(&whole, x, rows, false, false, 1, y);
            if (rows == 3) assert_near(&l.linear, x, rows, false, false, y, 1e-6);
            for (fr_cut cut = FR_CUT_HEADS; cut <= FR_CUT_OUT; cut++)
                for (int count = 2; count <= 11; count += 3) {
                    int end = 0;
                    for (int i = 0; i < count; i++)
                        end = check_part(checkpoint, cut, &(fr_ranks){.rank = i, .size = count}, x, rows, y, end);
                    assert_int_equal(end, OUT);
                }
            fr_linear_release(&whole);
            assert_int_not_equal(bind(&whole, checkpoint, "b.weight", OUT, IN, FR_CUT_NONE, &alone, &error), FR_OK);
            assert_non_null(strstr(error.message, "b.weight"));
            assert_int_not_equal(bind(&whole, checkpoint, "a.weight", IN, OUT, FR_CUT_NONE, &alone, &error), FR_OK);
            fr_checkpoint_destroy(checkpoint);
            scratch_destroy(&dir);
            release_layer(&l);
            free(x);
            free(y);
        }
}

static void missing_scales_are_an_error(void **state) {
    (void)state;
    random_state = 8;
    scratch dir = scratch_create();
    layer l = make_layer(FR_F8_E4M3, 130, 260);
    fr_checkpoint *checkpoint;
    fr_linear linear;
    fr_error error;
    save(&dir, &l, NULL);
    assert_int_equal(fr_checkpoint_open(dir.dir, &checkpoint, &error), FR_OK);
    assert_int_equal(bind(&linear, checkpoint, "a.weight", 130, 260, FR_CUT_NONE, &alone, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "a.weight_scale_inv"));
    assert_null(linear.scale);
    fr_checkpoint_destroy(checkpoint);
    scratch_destroy(&dir);
    release_layer(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_rows_are_right_and_row_invariant),
        cmocka_unit_test(prefill_rows_are_right_and_row_invariant),
        cmocka_unit_test(fp8_matmul_of_onednn_is_right),
        cmocka_unit_test(threads_do_not_change_results),
        cmocka_unit_test(a_cut_does_not_change_results),
        cmocka_unit_test(tokens_are_cut_where_outputs_do_not_occupy_the_threads),
        cmocka_unit_test(parts_equal_the_whole),
        cmocka_unit_test(transposed_is_right),
        cmocka_unit_test(quantization_is_exact),
        cmocka_unit_test(parts_of_ranks_make_up_the_whole),
        cmocka_unit_test(missing_scales_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
