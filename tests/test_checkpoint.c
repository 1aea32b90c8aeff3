#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/checkpoint/checkpoint.h"
#include "scratch.h"

#define GOLDEN FR_TEST_DIR "/golden/"

static void references_open(void **state) {
    (void)state;
    static const struct {
        const char *dir;
        size_t count;
        uint64_t bytes;
    } cases[] = {{GOLDEN "pico-s1", 239, 1674072},
                 {GOLDEN "pico-yarn-s1", 239, 1674072},
                 {GOLDEN "pico-mtp-s1", 239, 1674072},
                 {GOLDEN "pico-noqlora-s1", 227, 1671624},
                 {GOLDEN "nano-mtp-s1", 619, 8552944}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_checkpoint *checkpoint = NULL;
        fr_error error;
        if (fr_checkpoint_open(cases[i].dir, &checkpoint, &error) != FR_OK) fail_msg("%s", error.message);
        assert_int_equal(fr_checkpoint_count(checkpoint), cases[i].count);
        assert_int_equal(fr_checkpoint_bytes(checkpoint), cases[i].bytes);
        for (size_t t = 0; t < cases[i].count; t++) {
            const fr_tensor *tensor = fr_checkpoint_at(checkpoint, t);
            assert_ptr_equal(fr_checkpoint_find(checkpoint, tensor->name), tensor);
        }
        assert_null(fr_checkpoint_find(checkpoint, "model.layers.0.mlp.gate_proj"));
        assert_null(fr_checkpoint_find(checkpoint, ""));
        fr_checkpoint_destroy(checkpoint);
    }
    fr_checkpoint_destroy(NULL);
}

static void numbers_in_names_are_ordered_by_value(void **state) {
    (void)state;
    fr_checkpoint *checkpoint = NULL;
    assert_int_equal(fr_checkpoint_open(GOLDEN "nano-mtp-s1", &checkpoint, NULL), FR_OK);
    const fr_tensor *nine = fr_checkpoint_find(checkpoint, "model.layers.1.mlp.experts.9.down_proj.weight");
    const fr_tensor *ten = fr_checkpoint_find(checkpoint, "model.layers.1.mlp.experts.10.down_proj.weight");
    assert_non_null(nine);
    assert_ptr_equal(ten, nine + 6); /* three weights with scales between them */
    fr_checkpoint_destroy(checkpoint);
}

static void errors_name_expected_and_found(void **state) {
    (void)state;
    fr_checkpoint *checkpoint = NULL;
    const fr_tensor *tensor = NULL;
    fr_error error;
    assert_int_equal(fr_checkpoint_open(GOLDEN "pico-s1", &checkpoint, NULL), FR_OK);
    const char *name = "model.embed_tokens.weight";
    const unsigned bf16 = 1u << FR_BF16, f32 = 1u << FR_F32;
    assert_int_equal(fr_checkpoint_get(checkpoint, name, bf16, 2, (const int64_t[]){320, 160}, &tensor, &error), FR_OK);
    assert_string_equal(tensor->name, name);
    assert_int_equal(fr_checkpoint_get(checkpoint, name, bf16 | f32, 2, (const int64_t[]){321, 160}, &tensor, &error),
                     FR_ERROR_FORMAT);
    assert_string_equal(error.message, "model-00001-of-00002.safetensors: tensor model.embed_tokens.weight: expected F32 or BF16 "
                                       "[321, 160], found BF16 [320, 160]");
    assert_string_equal(error.where, "model-00001-of-00002.safetensors: tensor model.embed_tokens.weight");
    assert_string_equal(fr_error_what(&error), "expected F32 or BF16 [321, 160], found BF16 [320, 160]");
    assert_int_equal(fr_checkpoint_get(checkpoint, name, f32, 2, (const int64_t[]){320, 160}, &tensor, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "expected F32 [320, 160], found BF16 [320, 160]"));
    assert_int_equal(fr_checkpoint_get(checkpoint, name, bf16, 1, (const int64_t[]){320}, &tensor, &error), FR_ERROR_FORMAT);
    assert_int_equal(fr_checkpoint_get(checkpoint, "model.none", bf16, 1, (const int64_t[]){1}, &tensor, &error),
                     FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "tensor model.none is missing"));
    fr_checkpoint_destroy(checkpoint);
}

/* A file with one byte in each of the named tensors. */
static void put_shard(const scratch *s, const char *file, const char *const *names, int count) {
    char bytes[1024];
    int n = 8;
    n += snprintf(bytes + n, sizeof bytes - (size_t)n, "{");
    for (int i = 0; i < count; i++)
        n += snprintf(bytes + n, sizeof bytes - (size_t)n, "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                      i ? "," : "", names[i], i, i + 1);
    n += snprintf(bytes + n, sizeof bytes - (size_t)n, "}");
    for (int i = 0; i < 8; i++) bytes[i] = (char)((uint64_t)(n - 8) >> (8 * i));
    for (int i = 0; i < count; i++) bytes[n++] = file[0];
    scratch_write(s, file, bytes, (size_t)n);
}

#define INDEX "model.safetensors.index.json"

static fr_status reopen(const scratch *s, const char *index, fr_error *error) {
    fr_checkpoint *checkpoint = NULL;
    scratch_write_text(s, INDEX, index);
    fr_status status = fr_checkpoint_open(s->dir, &checkpoint, error);
    fr_checkpoint_destroy(checkpoint);
    return status;
}

static void a_single_file_opens(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_checkpoint *checkpoint = NULL;
    fr_error error;
    assert_int_equal(fr_checkpoint_open(s.dir, &checkpoint, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "neither model.safetensors.index.json nor model.safetensors is there"));
    assert_true(error.hint[0] != '\0');
    put_shard(&s, "model.safetensors", (const char *const[]){"x", "y"}, 2);
    assert_int_equal(fr_checkpoint_open(s.dir, &checkpoint, &error), FR_OK);
    assert_int_equal(fr_checkpoint_count(checkpoint), 2);
    assert_string_equal(fr_checkpoint_file(checkpoint, fr_checkpoint_find(checkpoint, "y")->file), "model.safetensors");
    fr_checkpoint_destroy(checkpoint);
    assert_int_equal(fr_checkpoint_open("/no/such/place", &checkpoint, &error), FR_ERROR_IO);
    assert_string_equal(error.message, "/no/such/place: No such file or directory");
    assert_int_equal(fr_checkpoint_open(scratch_path(&s, "model.safetensors"), &checkpoint, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "not a directory"));
    scratch_destroy(&s);
}

static void index_and_shards_must_agree(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    fr_checkpoint *checkpoint = NULL;
    put_shard(&s, "a.safetensors", (const char *const[]){"x", "y"}, 2);
    put_shard(&s, "b.safetensors", (const char *const[]){"z"}, 1);
    scratch_write_text(&s, INDEX, "{\"weight_map\":{\"z\":\"b.safetensors\",\"x\":\"a.safetensors\"}}");
    assert_int_equal(fr_checkpoint_open(s.dir, &checkpoint, &error), FR_OK);
    assert_int_equal(fr_checkpoint_count(checkpoint), 3); /* y is not listed: allowed */
    assert_string_equal(fr_checkpoint_file(checkpoint, fr_checkpoint_find(checkpoint, "z")->file), "b.safetensors");
    assert_int_equal(*(const char *)fr_checkpoint_find(checkpoint, "z")->data, 'b');
    fr_checkpoint_destroy(checkpoint);

    static const struct {
        const char *index, *message;
        fr_status status;
    } cases[] = {
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"c.safetensors\"}}", "/c.safetensors: No such file", FR_ERROR_IO},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"w\":\"a.safetensors\"}}",
         "tensor w: the index puts it in a.safetensors, which has no such tensor", FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":\"b.safetensors\",\"z\":\"a.safetensors\"}}",
         "tensor x: the index puts it in b.safetensors, but it is in a.safetensors", FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"a.safetensors\"}}", "tensor x: the index lists it twice",
         FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", "tensor x: weight_map: expected the name of a file in the directory",
         FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", "found the string \"/etc/passwd\"", FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":\"..\"}}", "expected the name of a file", FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":\"\"}}", "expected the name of a file", FR_ERROR_FORMAT},
        {"{\"weight_map\":{\"x\":3}}", "expected the name of a file in the directory, found 3", FR_ERROR_FORMAT},
        {"{\"weight_map\":{}}", "weight_map: is empty", FR_ERROR_FORMAT},
        {"{\"weight_map\":[]}", "weight_map: expected an object, found an array of 0", FR_ERROR_FORMAT},
        {"{}", INDEX ": weight_map: expected an object, found nothing", FR_ERROR_FORMAT},
        {"", INDEX ": line 1, column 1: no JSON", FR_ERROR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(reopen(&s, cases[i].index, &error), cases[i].status);
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
    }
    put_shard(&s, "b.safetensors", (const char *const[]){"z", "y"}, 2);
    assert_int_equal(reopen(&s, "{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"b.safetensors\"}}", &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "b.safetensors: tensor y: is in a.safetensors too");
    assert_string_equal(error.where, "b.safetensors: tensor y");
    scratch_destroy(&s);
}

static void an_index_without_its_shards_gives_a_hint(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    assert_int_equal(reopen(&s, "{\"weight_map\":{\"x\":\"a.safetensors\"}}", &error), FR_ERROR_IO);
    assert_non_null(strstr(error.hint, "incomplete"));
    scratch_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_open),
        cmocka_unit_test(numbers_in_names_are_ordered_by_value),
        cmocka_unit_test(errors_name_expected_and_found),
        cmocka_unit_test(a_single_file_opens),
        cmocka_unit_test(index_and_shards_must_agree),
        cmocka_unit_test(an_index_without_its_shards_gives_a_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
