#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/checkpoint/safetensors.h"
#include "forerun_checkpoint.h"
#include "scratch.h"

static scratch dir;

/* A file of this header and `data` bytes of data, whose header length says `claimed` (0: the truth). */
static void put(const char *header, size_t length, size_t data, uint64_t claimed) {
    char *bytes = calloc(1, 8 + length + data);
    uint64_t says = claimed ? claimed : length;
    for (int i = 0; i < 8; i++) bytes[i] = (char)(says >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++) bytes[8 + length + i] = (char)i;
    scratch_write(&dir, "t.safetensors", bytes, 8 + length + data);
    free(bytes);
}

static fr_status open_it(fr_safetensors *st, fr_error *error) {
    return fr_safetensors_open(dir.dir, "t.safetensors", 5, NULL, NULL, st, error);
}

static void tensors_are_read_in_any_order(void **state) {
    (void)state;
    const char *header = "{\"b\":{\"shape\":[2,3],\"data_offsets\":[4,16],\"dtype\":\"BF16\"},"
                         "\"__metadata__\":{\"format\":\"pt\"},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                         "\"none\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,7],\"data_offsets\":[16,16]}}   ";
    fr_safetensors st;
    fr_error error;
    put(header, strlen(header), 16, 0);
    if (open_it(&st, &error) != FR_OK) fail_msg("%s", error.message);
    assert_int_equal(st.count, 3);
    assert_string_equal(st.name, "t.safetensors");
    assert_string_equal(st.tensors[0].name, "a");
    assert_int_equal(st.tensors[0].rank, 0);
    assert_int_equal(st.tensors[0].bytes, 4);
    assert_int_equal(((const char *)st.tensors[0].data)[3], 3);
    assert_string_equal(st.tensors[1].name, "b");
    assert_int_equal(st.tensors[1].dtype, FR_BF16);
    assert_int_equal(st.tensors[1].shape[0], 2);
    assert_int_equal(st.tensors[1].shape[1], 3);
    assert_int_equal(st.tensors[1].file, 5);
    assert_int_equal(((const char *)st.tensors[1].data)[0], 4); /* the descriptor is closed, the mapping is there */
    assert_string_equal(st.tensors[2].name, "none");
    assert_int_equal(st.tensors[2].bytes, 0);
    assert_int_equal(st.data_bytes, 16);
    fr_safetensors_release(&st);
    fr_safetensors_release(&st); /* harmless */
}

static void a_file_may_have_no_tensors(void **state) {
    (void)state;
    fr_safetensors st;
    put("{}", 2, 0, 0);
    assert_int_equal(open_it(&st, NULL), FR_OK);
    assert_int_equal(st.count, 0);
    fr_safetensors_release(&st);
}

#define ONE(dtype, shape, offsets) "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

/* Each must be refused with a message that says what and where, whatever `data` bytes follow. */
static const struct {
    const char *header;
    size_t data;
    const char *message;
} hostile[] = {
    {"", 0, "no JSON at all"},
    {"[]", 0, "t.safetensors: the header: expected an object, found an array of 0"},
    {"{\"w\":", 0, "t.safetensors: line 1"},
    {"{} {}", 0, "not valid JSON"},
    {"{\"w\":3}", 0, "tensor w: expected an object, found 3"},
    {"{\"w\":{}}", 0, "tensor w: dtype: expected a known type, found nothing"},
    {"{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a name that is empty or has control"},
    {"{\"a\\u001b[2Jb\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a name that is empty or has control"},
    {ONE("\"F31\"", "[1]", "[0,4]"), 4, "tensor w: dtype: expected a known type, found the string \"F31\""},
    {ONE("7", "[1]", "[0,4]"), 4, "tensor w: dtype: expected a known type, found 7"},
    {ONE("\"F32\"", "4", "[0,4]"), 4, "tensor w: shape: expected an array, found 4"},
    {ONE("\"F32\"", "[-1]", "[0,4]"), 4, "tensor w: shape: expected whole numbers, found -1"},
    {ONE("\"F32\"", "[1.5]", "[0,6]"), 6, "tensor w: shape: expected whole numbers, found 1.5"},
    {ONE("\"F32\"", "[\"1\"]", "[0,4]"), 4, "tensor w: shape: expected whole numbers, found the string \"1\""},
    {ONE("\"F32\"", "[1e300]", "[0,4]"), 4, "tensor w: shape: expected whole numbers"},
    {ONE("\"F32\"", "[1,1,1,1,1]", "[0,4]"), 4, "tensor w: shape: 5 dimensions, at most 4"},
    {ONE("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 4, "tensor w: shape: the byte count overflows"},
    {ONE("\"F32\"", "[2147483648,2147483649]", "[0,4]"), 4, "tensor w: shape: the byte count overflows"},
    {ONE("\"F32\"", "[1]", "[0]"), 4, "tensor w: data_offsets: expected two whole numbers [begin, end], found [0]"},
    {ONE("\"F32\"", "[1]", "[0,4,8]"), 8, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "{\"a\":0,\"b\":4}"), 8, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "[-4,0]"), 4, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "[0.5,4.5]"), 8, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "[4,0]"), 4, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "[18446744073709551612,18446744073709551616]"), 4, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "null"), 4, "tensor w: data_offsets: expected two"},
    {ONE("\"F32\"", "[1]", "[0,8]"), 8, "tensor w: data_offsets: 8 bytes, but F32 [1] takes 4"},
    {ONE("\"BF16\"", "[2,3]", "[0,11]"), 12, "tensor w: data_offsets: 11 bytes, but BF16 [2, 3] takes 12"},
    {ONE("\"F32\"", "[1]", "[0,4]"), 3, "tensor w: data_offsets: [0, 4] reach beyond the 3 bytes of data"},
    {ONE("\"F32\"", "[1]", "[9007199254740988,9007199254740992]"), 4, "reach beyond the 4 bytes of data"},
    {"{\"w\":{\"dtype\":\"F32\",\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "tensor w: the key \"dtype\" is there twice"},
    {"{\"w\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},\"w\":{\"dtype\":\"I8\",\"shape\":[1],\"data_"
     "offsets\":[1,2]}}",
     2, "tensor w: is there twice"},
    {"{\"v\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},\"w\":{\"dtype\":\"I8\",\"shape\":[4],\"data_"
     "offsets\":[3,7]}}",
     7, "tensor w: its data overlaps with that of v"},
    {"{\"v\":{\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]},\"x\":{\"dtype\":\"I8\",\"shape\":[1],\"data_"
     "offsets\":[1,2]},"
     "\"w\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[7,8]}}",
     8, "tensor x: its data overlaps with that of v"},
    {"{\"v\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},\"w\":{\"dtype\":\"I8\",\"shape\":[4],\"data_"
     "offsets\":[0,4]}}",
     4, "tensor w: its data overlaps with that of v"},
};

static void hostile_headers_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        fr_safetensors st;
        fr_error error = {0};
        put(hostile[i].header, strlen(hostile[i].header), hostile[i].data, 0);
        fr_status status = open_it(&st, &error);
        if (status != FR_ERROR_FORMAT) fail_msg("accepted: %s", hostile[i].header);
        assert_int_equal(error.status, status);
        if (!strstr(error.message, hostile[i].message) || !strstr(error.message, "t.safetensors"))
            fail_msg("\"%s\" lacks \"%s\"", error.message, hostile[i].message);
        assert_null(st.map); /* nothing is left behind */
    }
}

static void what_is_no_regular_file_is_refused(void **state) {
    (void)state;
    fr_safetensors st;
    fr_error error;
    scratch_write(&dir, "t.safetensors", "", 0);
    assert_int_equal(open_it(&st, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "t.safetensors: the file is empty"));
    scratch_write(&dir, "t.safetensors", "\2\0\0\0", 4);
    assert_int_equal(open_it(&st, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "truncated: shorter than the 8 bytes"));
    put("{}", 2, 0, 3);
    assert_int_equal(open_it(&st, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "truncated: a header of 3 bytes in a file of 10"));
    put("{}", 2, 0, UINT64_MAX);
    assert_int_equal(open_it(&st, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "header length 18446744073709551615, at most 100000000"));
    assert_true(error.hint[0] != '\0');
    assert_int_equal(fr_safetensors_open(dir.dir, "none", 0, NULL, NULL, &st, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "/none: No such file"));
    assert_int_equal(fr_safetensors_open("/", "tmp", 0, NULL, NULL, &st, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "not a regular file"));
}

static void a_nesting_bomb_is_refused(void **state) {
    (void)state;
    enum { BOMB = 200000 };
    fr_safetensors st;
    fr_error error;
    char *header = malloc(BOMB);
    for (size_t i = 0; i + 5 <= BOMB; i += 5) memcpy(header + i, "{\"a\":", 5);
    put(header, BOMB, 0, 0);
    free(header);
    assert_int_equal(open_it(&st, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "nested too deeply"));
}

typedef struct findings {
    int count;
    char text[8][400];
} findings;

static void note(void *user, const fr_problem *problem) {
    findings *f = user;
    if (!problem->problem) return; /* of a tensor that is lost with others */
    if (f->count < 8)
        snprintf(f->text[f->count], sizeof f->text[0], "%s|%s|%s", problem->tensor, problem->file, problem->problem);
    f->count++;
}

static void broken_entries_are_reported_and_left_out(void **state) {
    (void)state;
    const char *header = "{\"good\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                         "\"type\":{\"dtype\":\"X\",\"shape\":[4],\"data_offsets\":[4,8]},"
                         "\"far\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[16,20]},"
                         "\"late\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[8,12]}}";
    findings f = {0};
    fr_safetensors st;
    fr_error error;
    put(header, strlen(header), 14, 0);
    assert_int_equal(fr_safetensors_open(dir.dir, "t.safetensors", 0, note, &f, &st, &error), FR_OK);
    assert_int_equal(f.count, 3);
    assert_non_null(strstr(f.text[0], "type|t.safetensors|dtype"));
    assert_non_null(strstr(f.text[1], "far|t.safetensors|data_offsets: [16, 20] reach beyond the 14 bytes"));
    assert_non_null(strstr(f.text[2], "|t.safetensors|6 bytes belong to no sound tensor")); /* 4..8 and 12..14 */
    assert_int_equal(st.count, 2);
    assert_int_equal(st.broken, 2);
    assert_string_equal(st.tensors[0].name, "good");
    assert_string_equal(st.tensors[1].name, "late");
    fr_safetensors_release(&st);
    /* gaps alone are no reason not to open */
    const char *gap = "{\"w\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[2,3]}}";
    put(gap, strlen(gap), 4, 0);
    assert_int_equal(open_it(&st, &error), FR_OK);
    assert_int_equal(*(const char *)st.tensors[0].data, 2);
    fr_safetensors_release(&st);
}

/* Whatever a small header is turned into, opening ends with a status, and what it gives lies inside the file. */
static void mutated_files_do_no_harm(void **state) {
    (void)state;
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]}}";
    size_t length = strlen(header), size = 8 + length + 22;
    char *bytes = malloc(size);
    uint64_t random = 1;
    int opened = 0, refused = 0;
    for (int round = 0; round < 4000; round++) {
        memset(bytes, 0, size);
        bytes[0] = (char)length;
        memcpy(bytes + 8, header, length);
        size_t cut = size;
        for (int flips = round % 4; flips >= 0; flips--) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t at = (size_t)(random >> 33) % (8 + length);
            if (flips % 2)
                bytes[at] = (char)(random >> 24);
            else
                bytes[at] ^= (char)(1 << (random >> 21) % 8);
            if ((random >> 40) % 16 == 0) cut = (size_t)(random >> 44) % size;
        }
        scratch_write(&dir, "t.safetensors", bytes, cut);
        for (int survey = 0; survey < 2; survey++) {
            findings f = {0};
            fr_safetensors st;
            fr_error error = {0};
            fr_status status = fr_safetensors_open(dir.dir, "t.safetensors", 0, survey ? note : NULL, &f, &st, &error);
            if (status != FR_OK) {
                assert_true(error.message[0] != '\0');
                refused += !survey;
                continue;
            }
            opened += !survey;
            for (size_t i = 0; i < st.count; i++) {
                const char *data = st.tensors[i].data, *begin = (const char *)st.map + st.data_begin;
                assert_true(data >= begin && data + st.tensors[i].bytes <= (const char *)st.map + st.size);
            }
            fr_safetensors_release(&st);
        }
    }
    free(bytes);
    assert_true(opened > 50 && refused > 1000); /* the mutations reach both outcomes */
}

static int set_up(void **state) {
    (void)state;
    dir = scratch_create();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scratch_destroy(&dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_read_in_any_order), cmocka_unit_test(a_file_may_have_no_tensors),
        cmocka_unit_test(hostile_headers_are_refused),   cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(a_nesting_bomb_is_refused),     cmocka_unit_test(broken_entries_are_reported_and_left_out),
        cmocka_unit_test(mutated_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
