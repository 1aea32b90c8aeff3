/* Options of a session that are refused, and those at the edge of what is taken. The command line's rules are these
 * (test_cli.sh). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "driver.h"
#include "mtp/session.h"

enum { VOCAB = 320 };

static fr_model *open_model(void) {
    return driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
}

static fr_status try(const fr_model *model, const fr_logit_bias *biases, size_t count, fr_error *error) {
    fr_session *s = NULL;
    fr_session_options o = {.ctx = 32, .sampling = {.logit_bias = biases, .num_logit_bias = count}};
    fr_status status = fr_session_create(model, &o, &s, error);
    fr_session_destroy(s);
    return status;
}

static void a_logit_bias_is_a_number_or_minus_infinity(void **state) {
    (void)state;
    const float refused[] = {INFINITY, NAN, -NAN, 2e30f, 3e38f}, taken[] = {-INFINITY, 1e30f, -1e30f, -3e38f, 0.0f};
    fr_model *model = open_model();
    fr_error error;
    for (int i = 0; i < 5; i++) {
        fr_logit_bias biases[] = {{7, 1.0f}, {5, refused[i]}};
        assert_int_equal(try(model, biases, 2, &error), FR_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, "logit bias of 5: "));
        biases[1].bias = taken[i];
        assert_int_equal(try(model, biases, 2, &error), FR_OK);
    }
    fr_model_destroy(model);
}

/* Forbids every token but those in [from, from + left), some of them twice. */
static size_t forbid(fr_logit_bias *biases, int from, int left) {
    size_t count = 0;
    for (int32_t token = 0; token < VOCAB; token++)
        if (token < from || token >= from + left) biases[count++] = (fr_logit_bias){token, -INFINITY};
    for (int i = 0; i < 10; i++) biases[count++] = (fr_logit_bias){i, i % 2 ? -1.0f : 2.0f};
    return count;
}

static void a_token_must_be_left(void **state) {
    (void)state;
    fr_model *model = open_model();
    fr_logit_bias biases[VOCAB + 10];
    fr_error error;
    assert_int_equal(try(model, biases, forbid(biases, 3, 0), &error), FR_ERROR_ARGUMENT);
    assert_string_equal(error.message, "logit bias: all 320 tokens are forbidden");
    assert_int_equal(try(model, biases, forbid(biases, 3, 1), &error), FR_OK);
    fr_model_destroy(model);
}

static void the_only_token_left_is_drawn_with_certainty(void **state) {
    (void)state;
    fr_model *model = open_model();
    fr_logit_bias biases[VOCAB + 10];
    for (int way = 0; way < 4; way++) {
        fr_session_options o = {
            .ctx = 64,
            .drafting = FR_DRAFTING_ON,
            .depth = FR_MAX_DEPTH,
            .sampling = {.temperature = way % 2 ? 0.8f : 0.0f, .verify = way / 2 ? FR_VERIFY_REJECTION : FR_VERIFY_COUPLED}};
        o.sampling.logit_bias = biases;
        o.sampling.num_logit_bias = forbid(biases, 50, 1);
        fr_session *s = driver_session(model, &o);
        fr_step step;
        driver_prefill(s, (const int32_t[]){1, 2, 3}, 3);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(fr_session_step(s, 100, &step, NULL), FR_OK);
            assert_int_equal(step.accepted, i > 0 ? FR_MAX_DEPTH : 0);
            for (int j = 0; j < step.count; j++) assert_int_equal(step.tokens[j], 50);
            for (int j = 0; j < step.drafted; j++) assert_true(fr_session_last_cycle(s)->confidence[j] == 1.0);
        }
        fr_session_destroy(s);
    }
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logit_bias_is_a_number_or_minus_infinity),
        cmocka_unit_test(a_token_must_be_left),
        cmocka_unit_test(the_only_token_left_is_drawn_with_certainty),
    };
    return cmocka_run_group_tests_name("session options", tests, NULL, NULL);
}
