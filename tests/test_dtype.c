#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/dtype.h"
#include "reference_linear.h"

static void names_round_trip(void **state) {
    (void)state;
    for (int i = 0; i < FR_DTYPE_COUNT; i++) {
        fr_dtype dtype;
        assert_true(fr_dtype_parse(fr_dtype_name((fr_dtype)i), &dtype));
        assert_int_equal(dtype, i);
    }
    fr_dtype dtype;
    assert_false(fr_dtype_parse("F8", &dtype));
    assert_false(fr_dtype_parse("", &dtype));
    assert_string_equal(fr_dtype_name(FR_F8_E4M3), "F8_E4M3");
    assert_int_equal(fr_dtype_size(FR_F8_E4M3), 1);
    assert_int_equal(fr_dtype_size(FR_BF16), 2);
    assert_int_equal(fr_dtype_size(FR_F32), 4);
    assert_int_equal(fr_dtype_size(FR_I64), 8);
}

static void every_e4m3_code_is_decoded_and_encoded_again(void **state) {
    (void)state;
    for (int code = 0; code < 256; code++) {
        float value = fr_e4m3_f32((uint8_t)code);
        if ((code & 0x7f) == 0x7f) {
            assert_true(isnan(value));
            continue;
        }
        assert_true((double)value == reference_e4m3((uint8_t)code));
        assert_int_equal(signbit(value) != 0, code >> 7);
        assert_int_equal(fr_f32_e4m3(value), code);
    }
    assert_true(fr_e4m3_f32(0x7e) == 448.0f);
    assert_true(fr_e4m3_f32(0x01) == 0x1p-9f);
}

static void check_rounding(float value) {
    uint8_t expected = reference_to_e4m3((double)value), actual = fr_f32_e4m3(value);
    if (actual != expected) fail_msg("%a: 0x%02x, not 0x%02x", (double)value, actual, expected);
}

/* Every float of 16 significant bits with every way that the rest can round, and every border between two codes. */
static void e4m3_rounds_to_nearest_even(void **state) {
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    (void)state;
    for (uint32_t high = 0; high < 0x10000; high++) {
        /* What is far outside the format's range is tried in steps. */
        uint32_t exponent = high >> 7 & 255;
        if ((exponent < 114 || exponent > 138) && exponent != 0 && exponent != 255 && high % 64) continue;
        for (size_t i = 0; i < sizeof low / sizeof *low; i++) check_rounding(fr_bits_f32(high << 16 | low[i]));
    }
    for (int code = 0; code < 0x7e; code++) {
        float middle = (fr_e4m3_f32((uint8_t)code) + fr_e4m3_f32((uint8_t)(code + 1))) / 2;
        for (int sign = -1; sign <= 1; sign += 2) {
            check_rounding((float)sign * middle);
            check_rounding((float)sign * nextafterf(middle, INFINITY));
            check_rounding((float)sign * nextafterf(middle, 0));
        }
    }
    assert_int_equal(fr_f32_e4m3(INFINITY), 0x7e);
    assert_int_equal(fr_f32_e4m3(-1e30f), 0xfe);
    assert_int_equal(fr_f32_e4m3(NAN) & 0x7f, 0x7f);
}

static void bf16_rounds_to_nearest_even(void **state) {
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    (void)state;
    for (uint32_t high = 0; high < 0x10000; high++) {
        float down = fr_bits_f32(high << 16);
        bool special = (high & 0x7f80) == 0x7f80;
        assert_true(special || fr_bf16_f32((uint16_t)high) == down);
        for (size_t i = 0; i < sizeof low / sizeof *low; i++) {
            float value = fr_bits_f32(high << 16 | low[i]);
            uint16_t actual = fr_f32_bf16(value);
            if (isnan(value)) {
                assert_true(isnan(fr_bf16_f32(actual)));
                continue;
            }
            if (special) continue; /* infinity itself is in the loop as the neighbour of the largest */
            /* One step is 2^16 places of a float, so places say which neighbour is nearer. */
            uint32_t expected = low[i] > 0x8000 || (low[i] == 0x8000 && high % 2) ? high + 1 : high;
            assert_int_equal(actual, expected);
        }
    }
    assert_int_equal(fr_f32_bf16(INFINITY), 0x7f80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(every_e4m3_code_is_decoded_and_encoded_again),
        cmocka_unit_test(e4m3_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
