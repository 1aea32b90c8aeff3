/* core/checkpoint/checksum.h against published values, whole and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/checkpoint/checksum.h"

static void crc32c_gives_the_published_values(void **state) {
    (void)state;
    /* RFC 3720 (iSCSI), B.4, and the catalogue's check value. */
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0,
    };
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    for (int i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(fr_crc32c(0, "", 0), 0);
    assert_int_equal(fr_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(fr_crc32c(0, zeros, 32), 0x8a9136aau);
    assert_int_equal(fr_crc32c(0, ones, 32), 0x62a8ab43u);
    assert_int_equal(fr_crc32c(0, up, 32), 0x46dd794eu);
    assert_int_equal(fr_crc32c(0, down, 32), 0x113fdb5cu);
    assert_int_equal(fr_crc32c(0, read_command, 48), 0xd9963a56u);
    for (size_t cut = 0; cut <= 48; cut++)
        assert_int_equal(fr_crc32c(fr_crc32c(0, read_command, cut), read_command + cut, 48 - cut), 0xd9963a56u);
}

static void hash64_gives_the_published_values(void **state) {
    (void)state;
    assert_true(fr_hash64(FR_HASH64_START, "", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(fr_hash64(FR_HASH64_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(fr_hash64(FR_HASH64_START, "foobar", 6) == UINT64_C(0x85944171f73967e8));
    assert_true(fr_hash64(fr_hash64(FR_HASH64_START, "foo", 3), "bar", 3) == UINT64_C(0x85944171f73967e8));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(crc32c_gives_the_published_values),
                                       cmocka_unit_test(hash64_gives_the_published_values)};
    return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
