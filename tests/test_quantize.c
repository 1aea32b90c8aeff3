#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "core/checkpoint/safetensors_writer.h"
#include "core/json.h"
#include "core/memory.h"
#include "forerun_checkpoint.h"
#include "model/schema.h"
#include "scratch.h"

#define GOLDEN FR_TEST_DIR "/golden/"
#define BLOCK 128

/* Directories in a scratch directory, by name. */
static const char *place(const scratch *s, const char *name) {
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", s->dir, name);
    return path;
}

static void remove_place(const scratch *s, const char *name) {
    char file[2048];
    DIR *dir = opendir(place(s, name));
    if (!dir) return;
    for (struct dirent *item; (item = readdir(dir));) {
        snprintf(file, sizeof file, "%s/%s", place(s, name), item->d_name);
        unlink(file);
    }
    closedir(dir);
    rmdir(place(s, name));
}

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

static fr_written quantize(const char *from, const char *dir, fr_precision to) {
    fr_written written;
    fr_error error;
    if (fr_quantize(from, dir, &(fr_quantize_options){.to = to, .threads = 3}, &written, &error) != FR_OK)
        fail_msg("%s", error.message);
    return written;
}

static fr_error refused(const char *from, const char *dir, const fr_quantize_options *options, fr_status status) {
    fr_error error;
    assert_int_equal(fr_quantize(from, dir, options, NULL, &error), status);
    assert_int_equal(error.status, status);
    return error;
}

static fr_checkpoint *open_checkpoint(const char *dir) {
    fr_checkpoint *checkpoint = NULL;
    fr_error error;
    if (fr_checkpoint_open(dir, &checkpoint, &error) != FR_OK) fail_msg("%s", error.message);
    return checkpoint;
}

static const fr_tensor *tensor_of(const fr_checkpoint *checkpoint, const char *name) {
    const fr_tensor *tensor = fr_checkpoint_find(checkpoint, name);
    if (!tensor) fail_msg("%s is missing", name);
    return tensor;
}

static void report(void *user, const fr_problem *problem) {
    (void)user;
    print_message("%s %s: %s\n", problem->file, problem->tensor, problem->problem);
}

static void assert_sound(const char *dir) {
    uint64_t problems = 1;
    assert_int_equal(fr_check(dir, 0, report, NULL, NULL, NULL, NULL, &problems, NULL), FR_OK);
    assert_int_equal(problems, 0);
}

static float scale_of(const fr_checkpoint *c, const char *weight, int64_t row, int64_t column) {
    char name[256];
    float value;
    snprintf(name, sizeof name, "%s_scale_inv", weight);
    const fr_tensor *scale = tensor_of(c, name);
    memcpy(&value, (const char *)scale->data + 4 * (row / BLOCK * scale->shape[1] + column / BLOCK), 4);
    return value;
}

static float element(const fr_checkpoint *c, const fr_tensor *t, int64_t row, int64_t column) {
    const char *at = (const char *)t->data + (row * t->shape[1] + column) * (int64_t)fr_dtype_size(t->dtype);
    uint16_t half;
    float value;
    if (t->dtype == FR_F8_E4M3) return fr_e4m3_f32(*(const uint8_t *)at) * scale_of(c, t->name, row, column);
    if (t->dtype == FR_F32) {
        memcpy(&value, at, sizeof value);
        return value;
    }
    memcpy(&half, at, sizeof half);
    return fr_bf16_f32(half);
}

/* The distance of neighbours of E4M3 around a value in units of the scale. */
static double step_at(double value) {
    int exponent;
    frexp(value, &exponent);
    return ldexp(1, (exponent < -5 ? -5 : exponent) - 4);
}

/* Every linear of both, as a checkpoint's schema lists them. */
typedef struct pair {
    const fr_checkpoint *a, *b;
    void (*compare)(const fr_checkpoint *a, const fr_tensor *x, const fr_checkpoint *b, const fr_tensor *y, double *worst);
    double worst;
    uint64_t linears, plain;
} pair;

static fr_status compare_tensor(void *user, const fr_schema_tensor *t) {
    pair *p = user;
    const fr_tensor *x = tensor_of(p->a, t->name), *y = tensor_of(p->b, t->name);
    if (t->row->kind == FR_SCHEMA_LINEAR) {
        p->compare(p->a, x, p->b, y, &p->worst);
        p->linears++;
    } else {
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
        p->plain++;
    }
    return FR_OK;
}

static pair compare_checkpoints(const char *x, const char *y,
                                void (*compare)(const fr_checkpoint *, const fr_tensor *, const fr_checkpoint *,
                                                const fr_tensor *, double *)) {
    fr_config config;
    fr_checkpoint *a = open_checkpoint(x), *b = open_checkpoint(y);
    pair p = {.a = a, .b = b, .compare = compare};
    assert_int_equal(fr_config_load(x, &config, NULL, NULL), FR_OK);
    assert_int_equal(fr_schema_each(&config, compare_tensor, &p), FR_OK);
    fr_checkpoint_destroy(a);
    fr_checkpoint_destroy(b);
    p.a = p.b = NULL;
    return p;
}

/* The largest |w - w'| of each block over the largest |w|. */
static void measure(const fr_checkpoint *a, const fr_tensor *x, const fr_checkpoint *b, const fr_tensor *y, double *worst) {
    for (int64_t r = 0; r < x->shape[0]; r += BLOCK) {
        for (int64_t c = 0; c < x->shape[1]; c += BLOCK) {
            double most = 0, error = 0;
            for (int64_t i = r; i < r + BLOCK && i < x->shape[0]; i++) {
                for (int64_t j = c; j < c + BLOCK && j < x->shape[1]; j++) {
                    double was = element(a, x, i, j), is = element(b, y, i, j);
                    if (fabs(was) > most) most = fabs(was);
                    if (fabs(was - is) > error) error = fabs(was - is);
                }
            }
            if (most > 0 && error / most > *worst) *worst = error / most;
        }
    }
}

/* ---- There and back ---- */

static void bf16_is_the_nearest(const fr_checkpoint *a, const fr_tensor *x, const fr_checkpoint *b, const fr_tensor *y,
                                double *worst) {
    (void)worst;
    assert_int_equal(x->dtype, FR_F8_E4M3);
    assert_int_equal(y->dtype, FR_BF16);
    char scale[256];
    snprintf(scale, sizeof scale, "%s_scale_inv", x->name);
    assert_null(fr_checkpoint_find(b, scale));
    for (int64_t i = 0; i < x->shape[0]; i++)
        for (int64_t j = 0; j < x->shape[1]; j++)
            assert_true(element(b, y, i, j) == fr_bf16_f32(fr_f32_bf16(element(a, x, i, j))));
}

/* Where the new scale is the old one but for BF16's rounding, codes are the same; elsewhere values are within half a
 * step of the new grid (and BF16's rounding). `worst` counts the codes that were held to be the same. */
static void codes_come_back(const fr_checkpoint *a, const fr_tensor *x, const fr_checkpoint *b, const fr_tensor *y,
                            double *worst) {
    assert_int_equal(x->dtype, FR_F8_E4M3);
    assert_int_equal(y->dtype, FR_F8_E4M3);
    const uint8_t *was = x->data, *is = y->data;
    for (int64_t i = 0; i < x->shape[0]; i++) {
        for (int64_t j = 0; j < x->shape[1]; j++) {
            size_t at = (size_t)(i * x->shape[1] + j);
            double old = scale_of(a, x->name, i, j), new = scale_of(b, y->name, i, j), value = element(a, x, i, j);
            if (fabs(new / old - 1) < 1.0 / 128) {
                if (was[at] != is[at]) fail_msg("%s [%d, %d]: code %02x became %02x", x->name, (int)i, (int)j, was[at], is[at]);
                ++*worst;
            }
            double error = fabs(value - element(b, y, i, j));
            if (error > new *step_at(value / new) / 2 + fabs(value) / 256)
                fail_msg("%s [%d, %d]: %g became %g", x->name, (int)i, (int)j, value, (double)element(b, y, i, j));
        }
    }
}

static void a_golden_goes_there_and_back(void **state) {
    (void)state;
    scratch s = scratch_create();
    const char *golden = GOLDEN "pico-s1";
    fr_written there = quantize(golden, place(&s, "bf16"), FR_PRECISION_BF16);
    assert_sound(place(&s, "bf16"));
    assert_int_equal(there.tensors_converted, 104);
    assert_int_equal(there.tensors, 239 - 104);
    assert_true(there.max_relative_error > 0 && there.max_relative_error <= 1.0 / 256);
    pair p = compare_checkpoints(golden, place(&s, "bf16"), bf16_is_the_nearest);
    assert_int_equal(p.linears, 104);
    assert_true(p.plain > 20);

    fr_written back = quantize(place(&s, "bf16"), place(&s, "fp8"), FR_PRECISION_AUTO);
    assert_sound(place(&s, "fp8"));
    assert_int_equal(back.tensors_converted, 104);
    assert_int_equal(back.tensors, 239);
    assert_int_equal(back.tensor_bytes, 1674072);
    p = compare_checkpoints(golden, place(&s, "fp8"), codes_come_back);
    assert_true(p.worst > 100000); /* of about a million codes */
    assert_int_equal(p.linears, 104);
    remove_place(&s, "bf16");
    remove_place(&s, "fp8");
    scratch_destroy(&s);
}

static bool config_says_fp8(const char *dir) {
    char path[600];
    cJSON *json = NULL;
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(fr_json_load(path, 1 << 20, &json, NULL), FR_OK);
    bool fp8 = cJSON_GetObjectItemCaseSensitive(json, "quantization_config") != NULL;
    assert_string_equal(cJSON_GetObjectItem(json, "transformers_version")->valuestring, "4.33.1"); /* kept */
    cJSON_Delete(json);
    return fp8;
}

static void other_files_are_copied(void **state) {
    (void)state;
    static const char *const copied[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"};
    scratch s = scratch_create(), from = scratch_create();
    scratch_copy_from(&from, GOLDEN "pico-s1");
    scratch_write_text(&from, "README.md", "about");
    scratch_write_text(&from, ".hidden", "no");
    scratch_write_text(&from, "pytorch_model.bin", "no");
    quantize(from.dir, place(&s, "bf16"), FR_PRECISION_BF16);
    assert_false(config_says_fp8(place(&s, "bf16")));
    for (size_t i = 0; i < 4; i++) {
        char path[600];
        size_t x, y;
        snprintf(path, sizeof path, "%s/%s", place(&s, "bf16"), copied[i]);
        char *a = scratch_read(path, &x), *b = scratch_read(scratch_path(&from, copied[i]), &y);
        assert_int_equal(x, y);
        assert_memory_equal(a, b, x);
        free(a);
        free(b);
    }
    assert_false(exists(place(&s, "bf16/.hidden")));
    assert_false(exists(place(&s, "bf16/pytorch_model.bin")));
    assert_false(exists(place(&s, "bf16/model-00002-of-00002.safetensors"))); /* of the original; here is one file */
    quantize(place(&s, "bf16"), place(&s, "fp8"), FR_PRECISION_FP8);
    assert_true(config_says_fp8(place(&s, "fp8")));
    fr_config config;
    assert_int_equal(fr_config_load(place(&s, "fp8"), &config, NULL, NULL), FR_OK);
    assert_true(config.fp8 && config.act_dynamic && !config.act_ue8m0);
    remove_place(&s, "bf16");
    remove_place(&s, "fp8");
    scratch_destroy(&s);
    scratch_destroy(&from);
}

static void error_is_bounded_and_true(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    fr_synth_options synth = {.dtype = FR_PRECISION_BF16, .seed = 9};
    assert_int_equal(fr_synth(GOLDEN "nano-mtp-s1", place(&s, "bf16"), &synth, NULL, &error), FR_OK);
    fr_written w = quantize(place(&s, "bf16"), place(&s, "fp8"), FR_PRECISION_FP8);
    /* half of the largest step, 32, over the largest code */
    assert_true(w.max_relative_error > 0.02 && w.max_relative_error < 16.0 / 448 + 1e-6);
    pair p = compare_checkpoints(place(&s, "bf16"), place(&s, "fp8"), measure);
    assert_true(fabs(p.worst - w.max_relative_error) < 1e-6);
    assert_int_equal(p.linears, w.tensors_converted);
    remove_place(&s, "bf16");
    remove_place(&s, "fp8");
    scratch_destroy(&s);
}

/* ---- Checkpoints made by hand ---- */

#define CRAFTED                                                                                                                  \
    "model.layers.0.self_attn.q_a_proj.weight" /* [48, 160] in pico: two blocks, the second of 32 columns                        \
                                                */

typedef struct crafting {
    fr_writer *writer;
    bool write; /* announcing, then writing */
    const float *crafted;
} crafting;

static fr_status craft_tensor(void *user, const fr_schema_tensor *t) {
    crafting *c = user;
    fr_error error;
    bool linear = t->row->kind == FR_SCHEMA_LINEAR;
    fr_dtype dtype = linear ? FR_F32 : FR_BF16;
    fr_status status;
    if (!c->write) {
        status = fr_writer_add(c->writer, t->name, dtype, t->rank, t->shape, false, &error);
    } else if (strcmp(t->name, CRAFTED) == 0) {
        status = fr_writer_put(c->writer, c->crafted, &error);
    } else {
        size_t bytes = (size_t)(t->shape[0] * (t->rank == 2 ? t->shape[1] : 1)) * fr_dtype_size(dtype);
        void *zeros = calloc(1, bytes);
        status = fr_writer_put(c->writer, zeros, &error);
        free(zeros);
    }
    if (status != FR_OK) fail_msg("%s", error.message);
    return status;
}

/* pico with F32 linears, all zeros but for CRAFTED, and two tensors that belong to nothing: scales that an FP8 linear
 * left behind, and a table. */
static void craft(const char *dir, const float crafted[48 * 160]) {
    static const int64_t scale_shape[] = {1, 2}, table_shape[] = {5};
    static const float scale[] = {1, 1}, table[] = {1, 2, 3, 4, 5};
    crafting c = {.crafted = crafted};
    fr_config config;
    fr_error error;
    assert_int_equal(fr_config_load(GOLDEN "pico-s1", &config, NULL, NULL), FR_OK);
    assert_int_equal(fr_writer_create(dir, &(fr_writer_options){.shard_bytes = 1000000}, &c.writer, &error), FR_OK);
    fr_schema_each(&config, craft_tensor, &c);
    assert_int_equal(fr_writer_add(c.writer, CRAFTED "_scale_inv", FR_F32, 2, scale_shape, false, &error), FR_OK);
    assert_int_equal(fr_writer_add(c.writer, "some.table", FR_F32, 1, table_shape, false, &error), FR_OK);
    assert_int_equal(fr_writer_start(c.writer, &error), FR_OK);
    assert_int_equal(fr_writer_copy(c.writer, GOLDEN "pico-s1", "config.json", &error), FR_OK);
    c.write = true;
    fr_schema_each(&config, craft_tensor, &c);
    assert_int_equal(fr_writer_put(c.writer, scale, &error), FR_OK);
    assert_int_equal(fr_writer_put(c.writer, table, &error), FR_OK);
    assert_int_equal(fr_writer_finish(c.writer, NULL, &error), FR_OK);
    fr_writer_destroy(c.writer);
}

static void blocks_are_scaled_by_their_own(void **state) {
    (void)state;
    static float crafted[48 * 160];
    scratch s = scratch_create();
    /* The first block: 896 makes the scale 2. The second: tiny values, for which amax / 448 would be subnormal. */
    crafted[0] = 896;
    crafted[1] = -896;
    crafted[2] = 2 * 17; /* between 16 and 18: to the even code */
    crafted[3] = 2 * 19; /* between 18 and 20: to the even code, which is the larger one */
    crafted[160] = -2 * 0x1p-9f;
    crafted[161] = 2 * 0x1p-10f;  /* half of the smallest code: to zero */
    crafted[162] = 2 * 0x1.8p-9f; /* to 2 * 2^-9 */
    crafted[47 * 160 + 128] = 1e-42f;
    craft(place(&s, "f32"), crafted);
    fr_written w = quantize(place(&s, "f32"), place(&s, "fp8"), FR_PRECISION_FP8);
    assert_int_equal(w.tensors_converted, 104);
    assert_int_equal(w.tensors, 239 + 1); /* with the table, and with scales of its own where stale ones were */
    fr_checkpoint *c = open_checkpoint(place(&s, "fp8"));
    const fr_tensor *t = tensor_of(c, CRAFTED);
    const uint8_t *codes = t->data;
    assert_int_equal(t->dtype, FR_F8_E4M3);
    assert_true(scale_of(c, CRAFTED, 0, 0) == 2);
    static const uint8_t expected[] = {0x7e, 0xfe, 0x58, 0x5a, 0x00};
    assert_memory_equal(codes, expected, sizeof expected);
    static const uint8_t subnormal[] = {0x81, 0x00, 0x02};
    assert_memory_equal(codes + 160, subnormal, sizeof subnormal);
    float tiny = scale_of(c, CRAFTED, 0, 128);
    assert_true(isnormal(tiny) && tiny > 0);
    assert_true(scale_of(c, "model.layers.0.self_attn.q_b_proj.weight", 0, 0) == 1); /* all zeros */
    assert_int_equal(tensor_of(c, "some.table")->bytes, 20);
    assert_int_equal(tensor_of(c, "model.embed_tokens.weight")->dtype, FR_BF16);
    fr_checkpoint_destroy(c);
    remove_place(&s, "f32");
    remove_place(&s, "fp8");
    scratch_destroy(&s);
}

static void values_that_are_not_finite_are_refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static float crafted[48 * 160];
    for (size_t i = 0; i < 3; i++) {
        scratch s = scratch_create();
        crafted[20 * 160 + 159] = bad[i];
        crafted[20 * 160 + 158] = 3;
        craft(place(&s, "f32"), crafted);
        fr_error error = refused(place(&s, "f32"), place(&s, "fp8"), NULL, FR_ERROR_FORMAT);
        assert_non_null(strstr(error.message, CRAFTED));
        assert_non_null(strstr(error.message, "not finite in rows 0 to 47"));
        assert_false(exists(place(&s, "fp8")));
        remove_place(&s, "f32");
        scratch_destroy(&s);
    }
}

/* ---- What is refused ---- */

static void nonsense_is_refused(void **state) {
    (void)state;
    scratch s = scratch_create(), full = scratch_create();
    fr_error error = refused(GOLDEN "pico-s1", place(&s, "out"), NULL, FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "FP8 already"));
    assert_false(exists(place(&s, "out")));
    refused(GOLDEN "none", place(&s, "out"), NULL, FR_ERROR_IO);
    fr_quantize_options options = {.to = FR_PRECISION_BF16};
    scratch_write_text(&full, "mine.txt", "mine");
    error = refused(GOLDEN "pico-s1", full.dir, &options, FR_ERROR_IO);
    assert_non_null(strstr(error.message, "not empty"));
    assert_false(exists(scratch_path(&full, "config.json")));
    error = refused(GOLDEN "pico-s1", place(&s, "none/out"), &options, FR_ERROR_IO);
    assert_non_null(strstr(error.message, "none/out"));
    options.force = true;
    error = refused(GOLDEN "pico-s1", "/proc", &options, FR_ERROR_IO); /* a disk without any room */
    assert_non_null(strstr(error.message, "/proc: 2822176 bytes are needed, and the disk has room for 0"));
    /* into itself */
    scratch from = scratch_create();
    scratch_copy_from(&from, GOLDEN "pico-s1");
    error = refused(from.dir, from.dir, &options, FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "is to be read"));
    assert_sound(from.dir);
    /* a tensor that is missing */
    scratch_write_text(&from, "config.json", "{}");
    refused(from.dir, place(&s, "out"), &options, FR_ERROR_FORMAT);
    assert_false(exists(place(&s, "out")));
    scratch_destroy(&from);
    scratch_destroy(&full);
    scratch_destroy(&s);
}

static void failed_writes_leave_nothing(void **state) {
    (void)state;
    static const rlim_t limits[] = {200, 100000, 2800000}; /* in config.json, in the first tensors, in the last ones */
    static const char *const files[] = {"config.json", "model-00001-of-00001.safetensors", "model-00001-of-00001.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        scratch s = scratch_create();
        struct rlimit before, limit;
        fr_error error;
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = limits[i];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        fr_status status =
            fr_quantize(GOLDEN "pico-s1", place(&s, "out"), &(fr_quantize_options){.to = FR_PRECISION_BF16}, NULL, &error);
        setrlimit(RLIMIT_FSIZE, &before);
        signal(SIGXFSZ, handler);
        assert_int_equal(status, FR_ERROR_IO);
        assert_non_null(strstr(error.message, files[i]));
        assert_non_null(strstr(error.message, "cannot write"));
        assert_false(exists(place(&s, "out")));
        scratch_destroy(&s);
    }
}

static bool stop_at_50(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)user;
    (void)what;
    assert_true(done < total);
    return done < 50;
}

static void it_can_be_interrupted(void **state) {
    (void)state;
    scratch s = scratch_create();
    refused(GOLDEN "pico-s1", place(&s, "out"), &(fr_quantize_options){.to = FR_PRECISION_BF16, .progress = stop_at_50},
            FR_INTERRUPTED);
    assert_false(exists(place(&s, "out")));
    scratch_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_golden_goes_there_and_back),
        cmocka_unit_test(other_files_are_copied),
        cmocka_unit_test(error_is_bounded_and_true),
        cmocka_unit_test(blocks_are_scaled_by_their_own),
        cmocka_unit_test(values_that_are_not_finite_are_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(failed_writes_leave_nothing),
        cmocka_unit_test(it_can_be_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
