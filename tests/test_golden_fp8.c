/* The library against the goldens with FP8 activations.
 *
 * Quantization is a staircase: where a value lies so close to an edge that the last bit of float32 decides, two correct
 * implementations differ by a whole step, which may move an expert and then anything. A perturbation of 1e-6 moves the
 * golden implementation's own logits by whole units. So the proof is made layer by layer, where both start from the
 * same input and nearly all rows come out alike to 1e-6; whole passes are compared by statistics. */
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
#include "core/threads.h"
#include "driver.h"
#include "goldens.h"
#include "model/forward.h"
#include "model/layer.h"
#include "mtp/drafters/mtp_module.h"

/* ---- Layer by layer ---- */

typedef struct flips {
    int rows, dirty;               /* rows that differ by more than rounding, of layers 1 and up and the MTP module */
    int first_layers, first_dirty; /* layer 0: passes, and how many of them have such a row */
    int choices, other_choices;    /* experts of clean inputs with a margin, and how many were others */
    double worst_rms;              /* of a pass through one layer, as a share of what the layer adds */
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

/* Runs layer `i` over rows x in passes of `chunk` rows and leaves the result in y; ids [rows, top_k] of a MoE layer. */
static void run_layer(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, int i, const float *x, int rows, int chunk,
                      float *y, int32_t *ids) {
    size_t hidden = (size_t)model->config.hidden_size, k = (size_t)model->config.num_experts_per_tok;
    fr_kv_cache_truncate(kv, 0);
    for (int first = 0; first < rows; first += chunk) {
        int n = rows - first < chunk ? rows - first : chunk;
        memcpy(ws->x, x + (size_t)first * hidden, (size_t)n * hidden * sizeof *x);
        driver_layer(model, ws, kv, i, first, n, model->threads);
        fr_kv_cache_commit(kv, n);
        memcpy(y + (size_t)first * hidden, ws->x, (size_t)n * hidden * sizeof *y);
        if (model->layers[i].is_moe) memcpy(ids + (size_t)first * k, ws->moe.ids, (size_t)n * k * sizeof *ids);
    }
}

static void count_choices(const golden *g, int moe_layer, const int32_t *ids, flips *f) {
    for (int r = 0; r < g->length; r++) {
        size_t row = (size_t)(moe_layer * g->length + r);
        if (g->router_margin[row] < 0.01f) continue;
        f->choices++;
        f->other_choices +=
            memcmp(ids + r * g->top_k, g->router_idx + row * (size_t)g->top_k, (size_t)g->top_k * sizeof *ids) != 0;
    }
}

static void check_layers(const golden *g, const fr_model *model, int chunk, flips *f) {
    size_t count = (size_t)(g->length * g->hidden_size);
    fr_workspace ws = {0};
    fr_kv_cache kv = {0};
    const fr_config *c = &model->config;
    float *embed = calloc(count, sizeof *embed), *y = calloc(count, sizeof *y);
    int32_t *ids = calloc((size_t)(g->length * g->top_k), sizeof *ids);
    assert_true(embed && y && ids);
    assert_int_equal(fr_workspace_create(&ws, model, g->length > chunk ? chunk : g->length, g->length, NULL), FR_OK);
    assert_int_equal(
        fr_kv_cache_create(&kv, c->num_hidden_layers, g->length, c->kv_lora_rank, c->qk_rope_head_dim, FR_KV_F32, NULL), FR_OK);
    for (int r = 0; r < g->length; r++)
        fr_embed(model->kernels, &model->embed_tokens, g->tokens[r], embed + (size_t)(r * g->hidden_size));
    for (int i = 0; i < g->layers; i++) {
        const float *x = i ? g->layer_out + (size_t)(i - 1) * count : embed;
        run_layer(model, &ws, &kv, i, x, g->length, chunk, y, ids);
        int dirty = count_dirty(x, y, g->layer_out + (size_t)i * count, g->length, g->hidden_size, &f->worst_rms);
        if (i == 0) {
            f->first_layers++;
            f->first_dirty += dirty > 0;
        } else {
            f->rows += g->length;
            f->dirty += dirty;
        }
        if (model->layers[i].is_moe) count_choices(g, i - (g->layers - g->moe_layers), ids, f);
    }
    fr_kv_cache_release(&kv);
    fr_workspace_release(&ws);
    free(embed);
    free(y);
    free(ids);
}

/* The MTP module from the golden's own hidden states. */
static void check_mtp(const golden *g, const fr_model *model, int chunk, flips *f) {
    size_t hidden = (size_t)g->hidden_size, count = (size_t)g->length * hidden;
    fr_workspace ws = {0};
    fr_kv_cache kv = {0};
    float *y = calloc(count, sizeof *y), *zero = calloc(count, sizeof *zero);
    int32_t *text = golden_text(g);
    assert_true(y && zero);
    assert_int_equal(fr_workspace_create(&ws, model, g->length > chunk ? chunk : g->length, g->length, NULL), FR_OK);
    assert_int_equal(
        fr_kv_cache_create(&kv, 1, g->length, model->config.kv_lora_rank, model->config.qk_rope_head_dim, FR_KV_F32, NULL),
        FR_OK);
    for (int first = 0; first < g->length; first += chunk) {
        int n = g->length - first < chunk ? g->length - first : chunk;
        fr_mtp_forward(model, &ws, &kv, g->hidden + (size_t)first * hidden, text + 1 + first, n, n, first);
        fr_kv_cache_commit(&kv, n);
        memcpy(y + (size_t)first * hidden, ws.hidden, (size_t)n * hidden * sizeof *y);
    }
    f->rows += g->length;
    f->dirty += count_dirty(zero, y, g->mtp_hidden, g->length, g->hidden_size, &f->worst_rms);
    fr_kv_cache_release(&kv);
    fr_workspace_release(&ws);
    free(y);
    free(zero);
    free(text);
}

/* The float64 reference of these tests has 14 of 2321 rows hit by a flip, and 2 of 15 passes of layer 0. Were
 * activations not quantized, or in other blocks, or rounded otherwise, hardly a row would be clean. */
static void layers_agree_but_for_rounding_flips(void **state) {
    (void)state;
    for (int round = 0; round < 2 * DRIVER_ISAS; round++) {
        int isa = round / 2, chunk = round % 2 ? 4 : 256;
        flips f = {0};
        for (int i = 0; i < GOLDEN_MODELS; i++) {
            fr_model *model = driver_open(golden_cases[i].model, driver_isa(isa), FR_ACT_FP8, 1);
            if (!model) continue;
            for (int j = 0; j < GOLDEN_LENGTHS; j++) {
                golden g;
                if (!golden_exists(golden_cases[i].lengths[j], GOLDEN_W8A8)) continue;
                golden_load(golden_cases[i].model, golden_cases[i].lengths[j], GOLDEN_W8A8, &g);
                check_layers(&g, model, chunk, &f);
                check_mtp(&g, model, chunk, &f);
                golden_release(&g);
            }
            fr_model_destroy(model);
        }
        if (f.rows == 0) continue;
        print_message("%s, %d rows a pass: %d of %d rows hit by a flip, %d of %d passes of layer 0, %d of %d choices, rms %.4f\n",
                      fr_isa_name(driver_isa(isa)), chunk, f.dirty, f.rows, f.first_dirty, f.first_layers, f.other_choices,
                      f.choices, f.worst_rms);
        assert_true(f.dirty <= (chunk > FR_DECODE_ROWS && driver_packs(driver_isa(isa)) ? f.rows / 17 : f.rows / 60));
        assert_true(f.first_dirty <= 4);
        assert_true(f.worst_rms < 0.02);
        assert_true(f.choices > 500 && f.other_choices <= f.choices / 200);
    }
}

/* ---- Whole passes ---- */

typedef struct statistics {
    int texts, rows, same_argmax, sure_rows, same_sure_argmax; /* sure: the golden's margin is at least 0.5 */
    int choices, same_choices;                                 /* of experts, with a margin of at least 0.05 */
    double kl, kl_worst;                                       /* KL(golden || library), nats: sum over rows, largest */
} statistics;

static double divergence(const float *p_logits, const float *q_logits, int n) {
    double p_max = p_logits[0], q_max = q_logits[0], p_sum = 0, q_sum = 0, kl = 0;
    for (int i = 1; i < n; i++) {
        p_max = fmax(p_max, p_logits[i]);
        q_max = fmax(q_max, q_logits[i]);
    }
    for (int i = 0; i < n; i++) {
        p_sum += exp(p_logits[i] - p_max);
        q_sum += exp(q_logits[i] - q_max);
    }
    for (int i = 0; i < n; i++) {
        double log_p = p_logits[i] - p_max - log(p_sum), log_q = q_logits[i] - q_max - log(q_sum);
        kl += exp(log_p) * (log_p - log_q);
    }
    return kl;
}

static int argmax(const float *x, int n, double *margin) {
    int best = 0;
    double next = -INFINITY;
    for (int i = 1; i < n; i++) {
        if (x[i] > x[best]) {
            next = x[best];
            best = i;
        } else {
            next = fmax(next, x[i]);
        }
    }
    *margin = x[best] - next;
    return best;
}

static void add_rows(const golden *g, const driver_scores *s, statistics *t) {
    for (int r = 0; r < g->length; r++) {
        const float *want = g->logits + (size_t)(r * g->vocab), *got = s->logits + (size_t)(r * g->vocab);
        double margin, unused, kl = divergence(want, got, g->vocab);
        bool same = argmax(want, g->vocab, &margin) == argmax(got, g->vocab, &unused);
        t->rows++;
        t->same_argmax += same;
        t->sure_rows += margin >= 0.5;
        t->same_sure_argmax += margin >= 0.5 && same;
        t->kl += kl;
        t->kl_worst = fmax(t->kl_worst, kl);
    }
    for (int i = 0; i < g->moe_layers * g->length; i++) {
        if (g->router_margin[i] < 0.05f) continue;
        size_t at = (size_t)(i * g->top_k);
        t->choices++;
        t->same_choices += memcmp(s->experts + at, g->router_idx + at, (size_t)g->top_k * sizeof(int32_t)) == 0;
    }
}

/* How often a greedy continuation stays with the golden's: up to the first toss-up all tokens must be the same. */
static int same_prefix(const golden *g, const fr_model *model) {
    int32_t tokens[GOLDEN_GREEDY];
    fr_session_options o = {.kv = FR_KV_F32, .drafting = FR_DRAFTING_ON, .depth = 2, .ctx = g->length + GOLDEN_GREEDY};
    fr_session *session = driver_session(model, &o);
    driver_prefill(session, g->tokens, g->length);
    driver_generate(session, GOLDEN_GREEDY, tokens, NULL, NULL);
    fr_session_destroy(session);
    int same = 0;
    while (same < GOLDEN_GREEDY && tokens[same] == g->greedy[same]) same++;
    return same;
}

static statistics score_all(fr_isa isa, fr_act act, int *greedy) {
    statistics t = {0};
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        fr_model *model = driver_open(golden_cases[i].model, isa, act, 1);
        if (!model) continue;
        for (int j = 0; j < GOLDEN_LENGTHS; j++) {
            golden g;
            driver_scores s;
            fr_session_options o = {.kv = FR_KV_F32};
            if (!golden_exists(golden_cases[i].lengths[j], GOLDEN_W8A8)) continue;
            golden_load(golden_cases[i].model, golden_cases[i].lengths[j], GOLDEN_W8A8, &g);
            driver_score(model, &o, g.tokens, g.length, &s);
            add_rows(&g, &s, &t);
            t.texts++;
            if (greedy) *greedy += same_prefix(&g, model);
            driver_scores_release(&s);
            golden_release(&g);
        }
        fr_model_destroy(model);
    }
    return t;
}

static void report(const char *what, const statistics *t) {
    print_message("%s: argmax of %d of %d rows, %d of %d sure ones; experts %d of %d; KL mean %.2g worst %.2g\n", what,
                  t->same_argmax, t->rows, t->same_sure_argmax, t->sure_rows, t->same_choices, t->choices, t->kl / t->rows,
                  t->kl_worst);
}

/* Measured: a mean KL of 1e-5, no other expert, no other greedy token. One flip that moves an expert of one of the 389
 * rows can cost a KL of about 0.5 there, 0.0013 of the mean; so that much is allowed. Activations that are not
 * quantized are told apart all the same: they are at 0.0097. */
static void whole_passes_stay_close_to_the_golden_network(void **state) {
    (void)state;
    for (int isa = 0; isa < DRIVER_ISAS; isa++) {
        int greedy = 0;
        statistics t = score_all(driver_isa(isa), FR_ACT_FP8, &greedy);
        if (t.rows == 0) continue;
        report(fr_isa_name(driver_isa(isa)), &t);
        assert_true(t.kl / t.rows < 0.002);
        assert_true(t.same_sure_argmax >= t.sure_rows - t.sure_rows / 100);
        assert_true(t.same_argmax >= t.rows - t.rows / 50);
        assert_true(t.same_choices >= t.choices - t.choices / 200);
        assert_true(greedy >= t.texts * GOLDEN_GREEDY * 9 / 10);
    }
    statistics exact = score_all(FR_ISA_AUTO, FR_ACT_NONE, NULL);
    report("not quantized", &exact);
    assert_true(exact.kl / exact.rows > 0.004);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_agree_but_for_rounding_flips),
        cmocka_unit_test(whole_passes_stay_close_to_the_golden_network),
    };
    return cmocka_run_group_tests_name("golden_fp8", tests, NULL, NULL);
}
