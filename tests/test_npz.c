/* The reader of NumPy files: what it must read, and that no damage to a file makes it read outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "npz.h"

/* A version 1.0 .npy file of the header dict and data; returns its size. */
static size_t make_npy(uint8_t *out, const char *dict, const void *data, size_t data_size) {
    size_t length = strlen(dict);
    memcpy(out, "\x93NUMPY\1\0", 8);
    out[8] = (uint8_t)length;
    out[9] = (uint8_t)(length >> 8);
    memcpy(out + 10, dict, length);
    memcpy(out + 10 + length, data, data_size);
    return 10 + length + data_size;
}

static void arrays_have_a_type_and_dimensions(void **state) {
    (void)state;
    uint8_t file[256];
    char error[256];
    npy_array a;
    const float f[] = {1, 2, 3, 4, 5, 6};
    size_t size = make_npy(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", f, sizeof f);
    assert_true(npy_parse(file, size, &a, error, sizeof error));
    assert_int_equal(a.rank, 2);
    assert_int_equal(a.count, 6);
    assert_non_null(npy_f32(&a, 2, (long[]){2, 3}));
    assert_non_null(npy_f32(&a, 2, (long[]){-1, 3}));
    assert_null(npy_f32(&a, 2, (long[]){3, 2}));
    assert_null(npy_i32(&a, 2, (long[]){2, 3}));
    assert_memory_equal(a.data, f, sizeof f);
    npy_release(&a);

    const int64_t i[] = {-1, INT64_MAX};
    size = make_npy(file, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", i, sizeof i);
    assert_true(npy_parse(file, size, &a, error, sizeof error));
    assert_int_equal(a.dtype, NPY_I64);
    assert_memory_equal(a.data, i, sizeof i);
    npy_release(&a);

    const double d = 0.5;
    size = make_npy(file, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", &d, sizeof d);
    assert_true(npy_parse(file, size, &a, error, sizeof error));
    assert_int_equal(a.rank, 0);
    assert_int_equal(a.count, 1);
    assert_true(*(const double *)a.data == d);
    npy_release(&a);
}

static void wrong_headers_are_refused(void **state) {
    (void)state;
    static const char *const dicts[] = {
        "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }",
        "{'descr': '<f4', 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824, 1073741824, 1073741824, 1073741824), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,",
    };
    uint8_t file[256];
    char error[256];
    const float f = 1;
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        npy_array a;
        size_t size = make_npy(file, dicts[i], &f, sizeof f);
        error[0] = 0;
        if (npy_parse(file, size, &a, error, sizeof error)) fail_msg("accepted %s", dicts[i]);
        assert_true(error[0] != 0);
        assert_null(a.data);
    }
}

/* An exact-sized copy, so that a sanitizer sees a read past the end. */
static bool parse_copy(const uint8_t *bytes, size_t size) {
    char error[256];
    npz_archive archive;
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    bool ok = npz_parse(copy, size, &archive, error, sizeof error);
    npz_release(&archive);
    free(copy);
    return ok;
}

static void damaged_archives_do_no_harm(void **state) {
    (void)state;
    char path[640], error[800];
    golden_model_dir("pico-s1", path, sizeof path - 32);
    strcat(path, "/golden/L1-f32.npz");
    size_t size = 0;
    uint8_t *bytes = read_whole_file(path, &size, error, sizeof error);
    assert_non_null(bytes);
    assert_true(parse_copy(bytes, size));
    for (size_t cut = 0; cut < size; cut += cut + 64 < size ? 13 : 1) assert_false(parse_copy(bytes, cut));

    /* Any byte may be anything: no claim on the answer, only that it stays inside. Headers and the directory matter. */
    uint32_t random = 1;
    for (int round = 0; round < 4000; round++) {
        random = random * 1664525u + 1013904223u;
        size_t span = round % 2 ? size : (size < 1400 ? size : 1400);
        size_t at = size - 1 - (random >> 8) % span;
        uint8_t was = bytes[at];
        bytes[at] = (uint8_t)(round % 3 == 0 ? 0xff : random >> 3);
        parse_copy(bytes, size);
        bytes[at] = was;
    }
    free(bytes);
}

static void missing_files_are_errors(void **state) {
    (void)state;
    char error[800];
    npz_archive archive;
    npy_array array;
    assert_false(npz_load(FR_TEST_DIR "/golden/none.npz", &archive, error, sizeof error));
    assert_non_null(strstr(error, "none.npz"));
    assert_false(npy_load(FR_TEST_DIR "/golden/none.npy", &array, error, sizeof error));
    assert_null(npz_find(&archive, "logits"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_have_a_type_and_dimensions),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(damaged_archives_do_no_harm),
        cmocka_unit_test(missing_files_are_errors),
    };
    return cmocka_run_group_tests_name("npz", tests, NULL, NULL);
}
