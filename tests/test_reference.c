/* The tests' own truth must itself be true: hand-made cases for its kernels, and the goldens, which another
 * implementation made, for the network. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "reference/reference.h"

/* ---- Kernels ---- */

static void test_e4m3(void **state) {
    (void)state;
    assert_true(ref_e4m3_decode(0x00) == 0 && ref_e4m3_decode(0x01) == 0x1p-9f && ref_e4m3_decode(0x07) == 7 * 0x1p-9f);
    assert_true(ref_e4m3_decode(0x08) == 0x1p-6f && ref_e4m3_decode(0x38) == 1 && ref_e4m3_decode(0xb9) == -1.125f);
    assert_true(ref_e4m3_decode(0x7e) == 448 && ref_e4m3_decode(0xfe) == -448);
    assert_true(isnan(ref_e4m3_decode(0x7f)) && isnan(ref_e4m3_decode(0xff)));
    for (int code = 0; code < 256; code++) {
        if ((code & 0x7f) != 0x7f) assert_int_equal(ref_e4m3_encode(ref_e4m3_decode((uint8_t)code)), code);
    }
    for (uint8_t code = 0; code < 0x7e; code++) {
        /* The middle is a tie and goes to the even code; a little to either side does not. */
        float middle = (ref_e4m3_decode(code) + ref_e4m3_decode((uint8_t)(code + 1))) / 2;
        assert_int_equal(ref_e4m3_encode(middle), code + code % 2);
        assert_int_equal(ref_e4m3_encode(nextafterf(middle, 0)), code);
        assert_int_equal(ref_e4m3_encode(-nextafterf(middle, 1000)), 0x80 | (code + 1));
    }
    assert_int_equal(ref_e4m3_encode(1e30f), 0x7e);
    assert_int_equal(ref_e4m3_encode(-449), 0xfe);
}

static void test_bf16(void **state) {
    (void)state;
    assert_true(ref_bf16_decode(0x3f80) == 1 && ref_bf16_decode(0xc040) == -3);
    assert_true(ref_bf16_round(1 + 0x1p-8f) == 1);               /* a tie goes to even */
    assert_true(ref_bf16_round(1 + 3 * 0x1p-8f) == 1 + 0x1p-6f); /* this one upwards */
    assert_true(ref_bf16_round(-1.01f) == -1.0078125f);
}

static void test_quantize_row(void **state) {
    (void)state;
    float x[130] = {0}, q[130], scale[2];
    x[0] = -896, x[1] = 3, x[128] = 1e-6f, x[129] = -1e-5f;
    ref_quantize_row(x, 130, false, q, scale);
    assert_true(scale[0] == 2 && scale[1] == 1e-4f / 448);
    assert_true(q[0] == -448 && q[1] == 1.5f && q[2] == 0);
    assert_true(q[128] == 4.5f && q[129] == -44);
    x[0] = -900;
    ref_quantize_row(x, 130, true, q, scale);
    assert_true(scale[0] == 4 && q[0] == -224 && q[1] == 0.75f); /* 225 lies between 224 and 240 */
    assert_true(scale[1] == 0x1p-22f);                           /* 1e-4 / 448 = 2.23e-7, and 2^-22 = 2.38e-7 */
    x[0] = 448;
    ref_quantize_row(x, 130, true, q, scale);
    assert_true(scale[0] == 1); /* a power of two stays what it is */
}

static void test_linear_blocks(void **state) {
    (void)state;
    /* 130 x 130 of ones, so each 128-block contributes its size times its scale. */
    static float w[130 * 130], x[130], y[130];
    float scale[] = {1, 10, 100, 1000};
    ref_linear linear = {.out = 130, .in = 130, .w = w, .scale = scale};
    for (int i = 0; i < 130 * 130; i++) w[i] = 1;
    for (int i = 0; i < 130; i++) x[i] = i < 128 ? 1 : 2;
    for (int act = REF_ACT_F32; act <= REF_ACT_FP8_UE8M0; act++) {
        ref_linear_forward(&linear, x, 1, (ref_act)act, y);
        assert_true(fabsf(y[0] - (128 + 2 * 2 * 10)) < 1e-4f);
        assert_true(fabsf(y[127] - (128 + 2 * 2 * 10)) < 1e-4f);
        assert_true(fabsf(y[128] - (12800 + 2 * 2 * 1000)) < 1e-2f);
    }
    /* With a largest value of 2, 1.03 is 230.7 of 448: between 224 and 240, so quantization must show. */
    x[5] = 1.03f;
    x[6] = 2;
    ref_linear_forward(&linear, x, 1, REF_ACT_F32, y);
    float exact = y[0];
    ref_linear_forward(&linear, x, 1, REF_ACT_FP8, y);
    assert_true(fabsf(y[0] - exact) > 1e-3f);
    linear.scale = NULL; /* not FP8: never quantized */
    ref_linear_forward(&linear, x, 1, REF_ACT_FP8, y);
    assert_true(fabsf(y[0] - (127 + 1.03f - 1 + 2 + 4)) < 1e-4f);
}

static void test_rmsnorm(void **state) {
    (void)state;
    const float x[] = {3, -4, 0, 0}, w[] = {1, 2, 3, 4};
    float y[4];
    ref_rmsnorm(x, w, 4, 0, y); /* the mean square is 25/4 */
    assert_true(fabsf(y[0] - 1.2f) < 1e-6f && fabsf(y[1] + 3.2f) < 1e-6f && y[2] == 0);
    ref_rmsnorm(x, w, 4, 3.75, y); /* 25/4 + 15/4 = 10 */
    assert_true(fabs(y[0] - 3 / sqrt(10)) < 1e-6);
}

static void test_rope(void **state) {
    (void)state;
    float freq[] = {1, 0.5f};
    ref_rope rope = {.dim = 4, .freq = freq, .mscale = 1};
    float x[] = {1, 0, 0, 2};
    ref_rope_apply(&rope, x, 2);
    assert_true(fabs(x[0] - cos(2)) < 1e-6 && fabs(x[1] - sin(2)) < 1e-6);
    assert_true(fabs(x[2] + 2 * sin(1)) < 1e-6 && fabs(x[3] - 2 * cos(1)) < 1e-6);
    rope.mscale = 3;
    float z[] = {1, 2, 3, 4};
    ref_rope_apply(&rope, z, 0);
    assert_true(z[0] == 3 && z[3] == 12);
}

static void test_yarn(void **state) {
    (void)state;
    char dir[512], error[512];
    golden_model_dir("pico-yarn-s1", dir, sizeof dir);
    ref_model *m = ref_model_open(dir, error, sizeof error);
    if (!m) fail_msg("%s", error);
    /* 8 dims, base 10000, original length 64: 64/(32 * 2 pi) < 1 turns low to 0; 64/(2 pi) = 10.2 turns is
     * dimension 1.008, so high is 2. Of the frequencies 1, 0.1, 0.01, 0.001 the first stays, the second is half way,
     * the others are / 40. */
    const double expected[] = {1, 0.1 * (0.5 + 0.5 / 40), 0.01 / 40, 0.001 / 40};
    for (int i = 0; i < 4; i++) assert_true(fabs(m->rotary.freq[i] / expected[i] - 1) < 1e-6);
    double scale = 0.1 * log(40) + 1;
    assert_true(fabs(m->config.softmax_scale - scale * scale / sqrt(32)) < 1e-9);
    assert_true(m->rotary.mscale == 1);
    ref_model_destroy(m);
}

static float logit(double p) {
    return (float)log(p / (1 - p));
}

static void test_router(void **state) {
    (void)state;
    ref_router_shape shape = {.experts = 6, .groups = 3, .kept_groups = 1, .top_k = 2, .normalize = true, .scaling = 2.5};
    float logits[] = {logit(0.9), logit(0.1), logit(0.6), logit(0.7), logit(0.8), logit(0.3)};
    float bias[6] = {0};
    int idx[3];
    float w[3];
    /* Group sums 1.0, 1.3, 1.1: the best expert of all is in a group that loses. */
    double margin = ref_route(&shape, logits, bias, idx, w);
    assert_true(idx[0] == 2 && idx[1] == 3);
    assert_true(fabs(w[0] - 2.5 * 0.6 / 1.3) < 1e-6 && fabs(w[1] - 2.5 * 0.7 / 1.3) < 1e-6);
    assert_true(fabs(margin - 0.2) < 1e-6);
    /* The bias chooses and does not weigh. */
    bias[0] = 1;
    ref_route(&shape, logits, bias, idx, w);
    assert_true(idx[0] == 0 && idx[1] == 1 && fabs(w[0] - 2.5 * 0.9) < 1e-6 && fabs(w[1] - 2.5 * 0.1) < 1e-6);
    /* All biased scores negative: experts of dropped groups stay out, although 0 would beat what is left. */
    for (int i = 0; i < 6; i++) bias[i] = -2;
    ref_route(&shape, logits, bias, idx, w);
    assert_true(idx[0] == 2 && idx[1] == 3);
    shape.kept_groups = 2; /* groups 1 and 2; without normalization */
    shape.top_k = 3;
    shape.normalize = false;
    shape.scaling = 1;
    margin = ref_route(&shape, logits, bias, idx, w);
    assert_true(idx[0] == 2 && idx[1] == 3 && idx[2] == 4 && fabs(w[2] - 0.8) < 1e-6);
    assert_true(fabs(margin - 0.1) < 1e-6); /* the third group loses by 1.1 - 1.0, expert 5 by 0.3 */
}

/* ---- Network against the goldens ---- */

static ref_model *open_model(const char *name) {
    char dir[512], error[512];
    golden_model_dir(name, dir, sizeof dir);
    ref_model *m = ref_model_open(dir, error, sizeof error);
    if (!m) fail_msg("%s: %s", name, error);
    return m;
}

/* Runs a check on every length of every model in one mode. */
static void for_each_golden(golden_mode mode, void (*check)(const ref_model *, const golden *, void *), void *user) {
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        ref_model *m = open_model(golden_cases[i].model);
        for (int j = 0; j < GOLDEN_LENGTHS; j++) {
            golden g;
            if (!golden_exists(golden_cases[i].lengths[j], mode)) continue;
            golden_load(golden_cases[i].model, golden_cases[i].lengths[j], mode, &g);
            check(m, &g, user);
            golden_release(&g);
        }
        ref_model_destroy(m);
    }
}

static void near(const golden *g, const char *what, double diff, double tolerance) {
    if (!(diff <= tolerance)) fail_msg("%s: %s differs by %g, more than %g", g->label, what, diff, tolerance);
}

/* Two float32 implementations of these networks are 1e-5 apart in the logits (of about 12): tolerances are three times
 * what was measured. */
static void check_f32(const ref_model *m, const golden *g, void *user) {
    (void)user;
    size_t rows = (size_t)g->length, width = (size_t)g->hidden_size, routed = (size_t)(g->moe_layers * g->length);
    ref_output o;
    ref_forward(m, g->tokens, g->length, REF_ACT_F32, &o);
    near(g, "layer_out", max_abs_diff(o.layer_out, g->layer_out, (size_t)g->layers * rows * width), 1.2e-5);
    near(g, "hidden_prenorm", max_abs_diff(o.layer_out + (size_t)(g->layers - 1) * rows * width, g->hidden_prenorm, rows * width),
         1.2e-5);
    near(g, "hidden", max_abs_diff(o.hidden, g->hidden, rows * width), 1e-5);
    near(g, "logits", max_abs_diff(o.logits, g->logits, rows * (size_t)g->vocab), 3e-5);
    for (size_t i = 0; i < routed; i++) {
        near(g, "router margin", fabs(o.router_margin[i] - g->router_margin[i]), 5e-6);
        if (g->router_margin[i] < GOLDEN_MARGIN) continue;
        for (int k = 0; k < g->top_k; k++) {
            size_t at = i * (size_t)g->top_k + (size_t)k;
            assert_int_equal(o.router_idx[at], g->router_idx[at]);
            near(g, "router weight", fabs((double)o.router_w[at] - g->router_w[at]), 3e-6);
        }
    }
    ref_output_release(&o);
}

static void test_f32(void **state) {
    (void)state;
    for_each_golden(GOLDEN_F32, check_f32, NULL);
}

static void check_mtp_f32(const ref_model *m, const golden *g, void *user) {
    (void)user;
    int32_t *text = golden_text(g);
    int *idx = ref_alloc((size_t)(g->length * g->top_k), sizeof *idx);
    float *w = ref_alloc((size_t)(g->length * g->top_k), sizeof *w);
    ref_routing routing = {.idx = idx, .w = w};
    ref_mtp_output o;
    ref_mtp_forward(m, g->hidden, text + 1, g->length, REF_ACT_F32, &routing, &o);
    near(g, "mtp_hidden", max_abs_diff(o.hidden, g->mtp_hidden, (size_t)(g->length * g->hidden_size)), 1.5e-5);
    near(g, "mtp_logits", max_abs_diff(o.logits, g->mtp_logits, (size_t)(g->length * g->vocab)), 3e-5);
    for (int i = 0; i < g->length * g->top_k; i++) {
        if (g->mtp_router_margin[i / g->top_k] < GOLDEN_MARGIN) continue;
        assert_int_equal(idx[i], g->mtp_router_idx[i]);
        near(g, "MTP router weight", fabs((double)w[i] - g->mtp_router_w[i]), 3e-6);
    }
    ref_mtp_output_release(&o);
    free(idx);
    free(w);
    free(text);
}

static void test_mtp_f32(void **state) {
    (void)state;
    for_each_golden(GOLDEN_F32, check_mtp_f32, NULL);
}

/* By causality the continuation is the argmax of each row of one pass over prompt and continuation. */
static void check_greedy_teacher_forced(const ref_model *m, const golden *g, void *user) {
    (void)user;
    int32_t *text = golden_text(g);
    ref_output o;
    ref_forward(m, text, g->length + GOLDEN_GREEDY - 1, REF_ACT_F32, &o);
    for (int i = 0; i < GOLDEN_GREEDY; i++) {
        double margin;
        int best = ref_argmax(o.logits + (size_t)(g->length - 1 + i) * (size_t)g->vocab, g->vocab, &margin);
        near(g, "greedy margin", fabs(margin - g->greedy_margin[i]), 4e-5);
        if (g->greedy_margin[i] >= GOLDEN_MARGIN) assert_int_equal(best, g->greedy[i]);
    }
    ref_output_release(&o);
    free(text);
}

static void test_greedy_teacher_forced(void **state) {
    (void)state;
    for_each_golden(GOLDEN_F32, check_greedy_teacher_forced, NULL);
}

static void check_greedy_loop(const ref_model *m, const golden *g, void *user) {
    (void)user;
    enum { COUNT = 16 };
    int32_t tokens[COUNT];
    double margin[COUNT];
    if (g->length > 7) return;
    ref_greedy(m, g->tokens, g->length, COUNT, REF_ACT_F32, tokens, margin);
    for (int i = 0; i < COUNT && g->greedy_margin[i] >= GOLDEN_MARGIN; i++) {
        assert_int_equal(tokens[i], g->greedy[i]);
        near(g, "greedy margin", fabs(margin[i] - g->greedy_margin[i]), 4e-5);
    }
}

static void test_greedy_loop(void **state) {
    (void)state;
    for_each_golden(GOLDEN_F32, check_greedy_loop, NULL);
}

static void check_drafting(const ref_model *m, const golden *g, void *user) {
    (void)user;
    if (g->length > 7) return;
    int32_t *text = golden_text(g);
    int length = g->length + GOLDEN_GREEDY;
    ref_output o;
    ref_forward(m, text, length, REF_ACT_F32, &o);
    ref_drafting d;
    ref_draft(m, text, length, g->length, o.hidden, 1, REF_RECYCLE_OUT_NORMED, REF_ACT_F32, &d);
    if (d.margin >= GOLDEN_MARGIN) {
        assert_int_equal(d.drafted, g->spec_drafted);
        assert_int_equal(d.accepted, g->spec_accepted);
    }
    free(d.logits);
    ref_output_release(&o);
    free(text);
}

static void test_drafting(void **state) {
    (void)state;
    for_each_golden(GOLDEN_F32, check_drafting, NULL);
}

static void check_absorbed(const ref_model *m, const golden *g, void *user) {
    (void)user;
    if (g->length != 70) return;
    size_t count = (size_t)(g->length * g->hidden_size);
    float *expanded = ref_alloc(count, sizeof *expanded), *absorbed = ref_alloc(count, sizeof *absorbed);
    for (int act = REF_ACT_F32; act <= REF_ACT_FP8; act++) {
        ref_attention(m, &m->layers[1], g->layer_out, g->length, (ref_act)act, REF_EXPANDED, expanded);
        ref_attention(m, &m->layers[1], g->layer_out, g->length, (ref_act)act, REF_ABSORBED, absorbed);
        near(g, "absorbed attention", max_abs_diff(expanded, absorbed, count), 2e-6 * max_abs(expanded, count));
        assert_true(max_abs(expanded, count) > 0.01);
    }
    free(expanded);
    free(absorbed);
}

static void test_absorbed_equals_expanded(void **state) {
    (void)state;
    for_each_golden(GOLDEN_F32, check_absorbed, NULL);
}

/* ---- FP8 activations, layer by layer ----
 *
 * With the same input a layer's rows agree to 1e-6 of what the layer adds, unless a value lay so close to the middle of
 * two E4M3 values that the last bit of float32 decided: then a whole quantum is between them, in this row and through
 * the cache in later ones. So rows are either clean (1e-4) or were hit by a flip, and flips are rare. Were activations
 * not quantized, or in other blocks, no row would be clean. */
typedef struct flips {
    int rows, dirty;               /* layers 1 and up */
    int first_layers, first_dirty; /* layer 0: how many passes, and how many of them with a dirty row */
    double worst_rms;
} flips;

static int count_dirty(const float *x, const float *y, const float *want, int rows, int width, double *worst_rms) {
    double rms_sum = 0;
    int dirty = 0;
    for (int r = 0; r < rows; r++) {
        size_t at = (size_t)r * (size_t)width;
        double scale = rms_diff(want + at, x + at, (size_t)width);
        dirty += !(max_abs_diff(y + at, want + at, (size_t)width) <= 1e-4 * scale);
        rms_sum += pow(rms_diff(y + at, want + at, (size_t)width) / scale, 2);
    }
    *worst_rms = fmax(*worst_rms, sqrt(rms_sum / rows));
    return dirty;
}

static void check_w8a8_layers(const ref_model *m, const golden *g, void *user) {
    flips *f = user;
    size_t count = (size_t)(g->length * g->hidden_size);
    float *embed = ref_alloc(count, sizeof *embed), *y = ref_alloc(count, sizeof *y);
    for (int r = 0; r < g->length; r++) {
        memcpy(embed + (size_t)(r * g->hidden_size), m->embed.w + (size_t)(g->tokens[r] * g->hidden_size),
               (size_t)g->hidden_size * sizeof *embed);
    }
    for (int i = 0; i < g->layers; i++) {
        const float *x = i ? g->layer_out + (size_t)(i - 1) * count : embed, *want = g->layer_out + (size_t)i * count;
        ref_layer_forward(m, i, x, g->length, REF_ACT_FP8, NULL, y);
        int dirty = count_dirty(x, y, want, g->length, g->hidden_size, &f->worst_rms);
        if (i == 0) {
            f->first_layers++;
            f->first_dirty += dirty > 0;
        } else {
            f->rows += g->length;
            f->dirty += dirty;
        }
    }
    /* The MTP module from true hidden states, against what comes out of it. */
    int32_t *text = golden_text(g);
    ref_mtp_output o;
    ref_mtp_forward(m, g->hidden, text + 1, g->length, REF_ACT_FP8, NULL, &o);
    memset(embed, 0, count * sizeof *embed);
    f->rows += g->length;
    f->dirty += count_dirty(embed, o.hidden, g->mtp_hidden, g->length, g->hidden_size, &f->worst_rms);
    ref_mtp_output_release(&o);
    free(text);
    free(embed);
    free(y);
}

static void test_w8a8_layers(void **state) {
    (void)state;
    flips f = {0};
    for_each_golden(GOLDEN_W8A8, check_w8a8_layers, &f);
    print_message("w8a8: %d of %d rows hit by a flip, %d of %d passes of layer 0, worst rms %.4f of what a layer adds\n", f.dirty,
                  f.rows, f.first_dirty, f.first_layers, f.worst_rms);
    assert_true(f.dirty <= f.rows / 60);
    assert_true(f.first_dirty <= 3);
    assert_true(f.worst_rms < 0.015);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e4m3),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_quantize_row),
        cmocka_unit_test(test_linear_blocks),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_router),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_mtp_f32),
        cmocka_unit_test(test_greedy_teacher_forced),
        cmocka_unit_test(test_greedy_loop),
        cmocka_unit_test(test_drafting),
        cmocka_unit_test(test_absorbed_equals_expanded),
        cmocka_unit_test(test_w8a8_layers),
    };
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
