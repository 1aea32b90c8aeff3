/* The instruction set belongs to a model: models with different ones, open at once, with sessions used in turns, give the bits
 * that each gives alone. */
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
#include "forerun_checkpoint.h"
#include "goldens.h"

enum { STEPS = 12, LENGTH = 70 };
#define MODEL "pico-mtp-s1"

/* What a session gives: tokens and the logits that chose the newest of each step. */
typedef struct record {
    int32_t tokens[STEPS * (FR_MAX_DEPTH + 1)];
    int count;
    float *logits; /* [STEPS, vocab] */
} record;

typedef struct party {
    fr_model *model;
    fr_session *session;
    record record;
    size_t vocab;
} party;

/* Everything but the prompt: a session that plans its memory now, and computes later. */
static party join(fr_isa isa, fr_act act) {
    party p = {.model = driver_open(MODEL, isa, act, 2)};
    fr_model_info info;
    fr_model_get_info(p.model, &info);
    p.vocab = (size_t)info.vocab_size;
    p.record.logits = calloc(STEPS * p.vocab, sizeof(float));
    p.session = driver_session(p.model, &(fr_session_options){.ctx = 256, .drafting = FR_DRAFTING_ON, .depth = 2});
    return p;
}

static void step(party *p, int i) {
    fr_step made;
    assert_int_equal(fr_session_step(p->session, FR_MAX_DEPTH + 1, &made, NULL), FR_OK);
    memcpy(p->record.tokens + p->record.count, made.tokens, (size_t)made.count * sizeof *made.tokens);
    p->record.count += made.count;
    memcpy(p->record.logits + (size_t)i * p->vocab, fr_session_logits(p->session), p->vocab * sizeof(float));
}

static void leave(party *p) {
    fr_session_destroy(p->session);
    fr_model_destroy(p->model);
}

static void assert_same(const party *p, const party *alone, const char *what) {
    if (p->record.count != alone->record.count ||
        memcmp(p->record.tokens, alone->record.tokens, (size_t)p->record.count * sizeof(int32_t)) != 0 ||
        memcmp(p->record.logits, alone->record.logits, STEPS * p->vocab * sizeof(float)) != 0)
        fail_msg("%s: tokens or logits are not those that it gives alone", what);
}

static fr_memory_plan plan(const golden *g, fr_isa isa) {
    fr_inspection *inspection;
    fr_memory_plan out;
    assert_int_equal(fr_inspect(g->dir, &inspection, NULL), FR_OK);
    assert_int_equal(fr_plan_memory(inspection, &(fr_model_options){.isa = isa, .threads = 2}, NULL, &out, NULL), FR_OK);
    fr_inspection_destroy(inspection);
    return out;
}

/* The sessions of two models in turns, and between their steps a plan for yet another instruction set. */
static void check_pair(const golden *g, fr_isa first, fr_isa second, fr_isa planned, fr_act act, const party *alone) {
    char what[96];
    party a = join(first, act), b = join(second, act);
    plan(g, planned);
    driver_prefill(a.session, g->tokens, g->length);
    driver_prefill(b.session, g->tokens, g->length);
    for (int i = 0; i < STEPS; i++) {
        step(&a, i);
        plan(g, planned);
        step(&b, i);
    }
    snprintf(what, sizeof what, "%s beside %s, act %d", fr_isa_name(first), fr_isa_name(second), act);
    assert_same(&a, &alone[first], what);
    snprintf(what, sizeof what, "%s, opened after %s, act %d", fr_isa_name(second), fr_isa_name(first), act);
    assert_same(&b, &alone[second], what);
    leave(&a);
    leave(&b);
    free(a.record.logits);
    free(b.record.logits);
}

static void models_in_turns_give_the_bits_that_each_gives_alone(void **state) {
    (void)state;
    golden g;
    golden_load(MODEL, LENGTH, GOLDEN_F32, &g);
    for (fr_act act = FR_ACT_FP8; act <= FR_ACT_NONE; act++) {
        party alone[FR_ISA_COUNT] = {0};
        for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++) {
            if (!fr_isa_available(isa)) continue;
            alone[isa] = join(isa, act);
            driver_prefill(alone[isa].session, g.tokens, g.length);
            for (int i = 0; i < STEPS; i++) step(&alone[isa], i);
            leave(&alone[isa]);
        }
        for (fr_isa a = FR_ISA_SCALAR; a < FR_ISA_COUNT; a++)
            for (fr_isa b = FR_ISA_SCALAR; b < FR_ISA_COUNT; b++)
                if (a != b && alone[a].vocab && alone[b].vocab)
                    check_pair(&g, a, b, a < b ? FR_ISA_SCALAR : FR_ISA_AUTO, act, alone);
        /* The records differ: with one table for all, whoever computed, nothing above could tell. */
        if (fr_isa_available(FR_ISA_AVX2)) {
            const float *one = alone[FR_ISA_SCALAR].record.logits, *other = alone[FR_ISA_AVX2].record.logits;
            assert_memory_not_equal(one, other, STEPS * alone[FR_ISA_AVX2].vocab * sizeof(float));
        }
        for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++) free(alone[isa].record.logits);
    }
    golden_release(&g);
}

/* A plan is that of the instruction set that was asked for, whatever was asked or opened before. */
static void plans_do_not_depend_on_what_else_is_open(void **state) {
    (void)state;
    golden g;
    golden_load(MODEL, LENGTH, GOLDEN_F32, &g);
    uint64_t automatic = plan(&g, FR_ISA_AUTO).session.workspace_bytes;
    for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++) {
        if (!fr_isa_available(isa)) continue;
        party p = join(isa, FR_ACT_FP8);
        uint64_t bytes = plan(&g, isa).session.workspace_bytes;
        plan(&g, FR_ISA_SCALAR);
        assert_int_equal(plan(&g, isa).session.workspace_bytes, bytes);
        assert_int_equal(plan(&g, FR_ISA_AUTO).session.workspace_bytes, automatic);
        leave(&p);
        free(p.record.logits);
    }
    golden_release(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_in_turns_give_the_bits_that_each_gives_alone),
        cmocka_unit_test(plans_do_not_depend_on_what_else_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
