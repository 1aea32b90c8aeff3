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
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"c.safetensors\"}}",
         "1 of the 2 files that the index names is missing, the first is c.safetensors", FR_ERROR_IO},
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
    put_shard(&s, "b.safetensors", (const char *const[]){"y"}, 1);
    assert_int_equal(
        reopen(&s, "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\",\"z\":\"c.safetensors\"}}", &error),
        FR_ERROR_IO);
    assert_string_equal(fr_error_what(&error), "2 of the 3 files that the index names are missing, the first is a.safetensors");
    scratch_destroy(&s);
}

#define LFS                                                                                                                      \
    "version https://git-lfs.github.com/spec/v1\noid "                                                                           \
    "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4302\n"

static void pointers_of_git_lfs_are_called_that(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    scratch_write_text(&s, "a.safetensors", LFS);
    assert_int_equal(reopen(&s, "{\"weight_map\":{\"x\":\"a.safetensors\"}}", &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "a.safetensors: a git-lfs pointer to 4302 bytes, not the file itself");
    assert_non_null(strstr(error.hint, "git lfs pull"));
    assert_int_equal(reopen(&s, LFS, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, INDEX ": a git-lfs pointer"));
    scratch_destroy(&s);
}

/* What fr_find_checkpoint says of a name in the scratch directory; what it finds there is returned, or NULL. */
static const char *find(const scratch *s, const char *name, fr_error *error) {
    static char found[512];
    char *dir;
    if (fr_find_checkpoint(scratch_path(s, name), true, &dir, error) != FR_OK) {
        assert_null(dir);
        return NULL;
    }
    snprintf(found, sizeof found, "%s", dir + strlen(s->dir) + 1);
    fr_free(dir);
    return found;
}

static void make(const scratch *s, const char *folder) {
    if (mkdir(scratch_path(s, folder), 0755) != 0) abort();
}

static void what_is_no_checkpoint_is_recognized(void **state) {
    (void)state;
    static const struct {
        const char *file, *named, *message, *hint;
    } cases[] = {
        {NULL, "none", "No such file", ""},
        {NULL, "d", "an empty directory", "config.json and the weights"},
        {"d/tokenizer.json", "d", "neither model.safetensors.index.json nor", "forerun tokenize"},
        {"d/config.json", "d", "no weights", "inspect --config"},
        {"d/config.json", "d/config.json", "a file beside the weights", "inspect --config"},
        {"d/model.gguf", "d", "GGUF files", "that they were made from"},
        {"d/model.gguf", "d/model.gguf", "a GGUF file", "checkpoint that it was made from"},
        {"d/pytorch_model-00001-of-00002.bin", "d", "a PyTorch checkpoint", "save_pretrained"},
        {"d/model-00001-of-00002.safetensors", "d", "1 file of weights, but no model.safetensors.index.json",
         "download the index"},
        {"d/model-00001-of-00002.safetensors", "d/model-00001-of-00002.safetensors", "one file of weights", "/d"},
        {"d/model.safetensors.index.json", "d/model.safetensors.index.json", "the index of a checkpoint", "/d"},
        {"README", "README", "a file, not a checkpoint's directory", "in: -m"},
    };
    scratch s = scratch_create();
    make(&s, "d");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_error error = {0};
        if (cases[i].file) scratch_write_text(&s, cases[i].file, "{}");
        assert_null(find(&s, cases[i].named, &error));
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
        if (!strstr(error.hint, cases[i].hint)) fail_msg("\"%s\": its hint \"%s\"", error.message, error.hint);
    }
    fr_error error = {0};
    assert_string_equal(find(&s, "d", &error), "d"); /* now it has an index */
    char *dir;
    assert_null(find(&s, ".", &error));
    assert_non_null(strstr(error.hint, "d in it has some"));
    assert_int_equal(fr_find_checkpoint("deepseek-ai/DeepSeek-V3", true, &dir, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.hint, "forerun downloads nothing"));
    assert_int_equal(fr_find_checkpoint(s.dir, false, &dir, &error), FR_OK); /* what needs no weights takes any directory */
    assert_string_equal(dir, s.dir);
    fr_free(dir);
    scratch_write_text(&s, "weights", "GGUF\3\0\0");
    assert_null(find(&s, "weights", &error));
    assert_non_null(strstr(error.message, "a GGUF file"));
    scratch_destroy(&s);
}

static void a_cache_folder_leads_to_its_one_snapshot(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error = {0};
    make(&s, "models--o--n");
    make(&s, "models--o--n/snapshots");
    assert_null(find(&s, "models--o--n", &error));
    assert_non_null(strstr(error.message, "a Hugging Face cache folder without a snapshot"));
    make(&s, "models--o--n/snapshots/abc");
    assert_null(find(&s, "models--o--n", &error)); /* a download that ended early */
    assert_non_null(strstr(error.message, "abc: an empty directory"));
    scratch_write_text(&s, "models--o--n/snapshots/abc/model.safetensors", "");
    assert_string_equal(find(&s, "models--o--n", &error), "models--o--n/snapshots/abc");
    assert_string_equal(find(&s, "models--o--n/", &error), "models--o--n/snapshots/abc");
    assert_string_equal(find(&s, "models--o--n/snapshots", &error), "models--o--n/snapshots/abc");
    assert_string_equal(find(&s, "models--o--n/snapshots/abc", &error), "models--o--n/snapshots/abc");
    assert_null(find(&s, ".", &error));
    assert_non_null(strstr(error.message, "a Hugging Face cache with 1 model"));
    assert_non_null(strstr(error.hint, "/models--o--n"));
    make(&s, "models--o--n/snapshots/def");
    assert_null(find(&s, "models--o--n", &error));
    assert_non_null(strstr(error.message, "with 2 snapshots: abc, def"));
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
        cmocka_unit_test(pointers_of_git_lfs_are_called_that),
        cmocka_unit_test(what_is_no_checkpoint_is_recognized),
        cmocka_unit_test(a_cache_folder_leads_to_its_one_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
