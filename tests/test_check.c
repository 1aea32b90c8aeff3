#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/checkpoint/safetensors_writer.h"
#include "damage.h"
#include "forerun_checkpoint.h"
#include "model/weights.h"

#define GOLDEN FR_TEST_DIR "/golden/"
#define FIRST "model-00001-of-00002.safetensors"
#define SECOND "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

typedef struct findings {
    int count;
    char text[512][400];
} findings;

static findings found;
static fr_notices noticed;

static void note(void *user, const fr_problem *problem) {
    findings *f = user;
    assert_non_null(problem->tensor);
    assert_non_null(problem->file);
    if (f->count < 512)
        snprintf(f->text[f->count], sizeof f->text[0], "%s|%s|%s", problem->tensor, problem->file, problem->problem);
    f->count++;
}

static void take_notice(void *user, const fr_notice *notice) {
    (void)user;
    fr_notices_add(&noticed, notice->what, "%s", notice->why);
}

static int check(const char *dir) {
    uint64_t count = 1000000;
    fr_error error;
    found.count = 0;
    memset(&noticed, 0, sizeof noticed);
    if (fr_check(dir, 0, note, take_notice, &found, NULL, NULL, &count, &error) != FR_OK) fail_msg("%s", error.message);
    assert_int_equal(count, found.count);
    return found.count;
}

/* How many findings contain all of a text. */
static int findings_with(const char *text) {
    int n = 0;
    for (int i = 0; i < found.count && i < 512; i++) n += strstr(found.text[i], text) != NULL;
    return n;
}

#define assert_found(needle)                                                                                                     \
    do {                                                                                                                         \
        if (findings_with(needle) != 1) {                                                                                        \
            for (int i_ = 0; i_ < found.count && i_ < 8; i_++) print_error("found: %s\n", found.text[i_]);                       \
            fail_msg("%d findings with \"%s\"", findings_with(needle), needle);                                                  \
        }                                                                                                                        \
    } while (0)

static scratch copy_of(const char *golden) {
    scratch s = scratch_create();
    scratch_copy_from(&s, golden);
    return s;
}

/* Replaces the first occurrence of `from` by `to`, of the same length, in a file; false when there is none. */
static bool replace_one(const scratch *s, const char *file, const char *from, const char *to) {
    size_t length;
    char *whole = scratch_read(scratch_path(s, file), &length);
    char *at = memmem(whole, length, from, strlen(from));
    assert_int_equal(strlen(from), strlen(to));
    if (at) {
        memcpy(at, to, strlen(to));
        scratch_write(s, file, whole, length);
    }
    free(whole);
    return at != NULL;
}

static void replace(const scratch *s, const char *file, const char *from, const char *to) {
    assert_true(replace_one(s, file, from, to));
}

static void references_are_sound(void **state) {
    (void)state;
    static const char *const dirs[] = {GOLDEN "pico-s1", GOLDEN "pico-yarn-s1", GOLDEN "pico-noqlora-s1", GOLDEN "pico-mtp-s1",
                                       GOLDEN "nano-mtp-s1"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        if (check(dirs[i]) != 0) fail_msg("%s: %s", dirs[i], found.text[0]);
    }
}

static void bad_values_are_found(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    const float nan = __builtin_nanf(""), negative = -1;
    damage(&s, "model.layers.1.mlp.experts.3.up_proj.weight", 2 * 160 + 7, "\x7f", 1);
    damage(&s, "model.layers.1.mlp.experts.3.up_proj.weight", 5 * 160, "\xff", 1);
    damage(&s, "model.layers.1.mlp.experts.4.up_proj.weight", 0, "\x7e\xfe", 2); /* the largest numbers, not NaN */
    damage(&s, "model.layers.0.mlp.gate_proj.weight_scale_inv", 12, &nan, 4);
    damage(&s, "model.layers.0.mlp.up_proj.weight_scale_inv", 0, "\0\0\0\0", 4);
    damage(&s, "model.layers.0.mlp.up_proj.weight_scale_inv", 4, &negative, 4);
    damage(&s, "model.norm.weight", 2 * 159, "\x80\x7f", 2);                             /* infinity in BF16 */
    damage(&s, "lm_head.weight", 2 * 160, "\x7f\x7f", 2);                                /* the largest BF16 */
    damage(&s, "model.layers.2.mlp.gate.e_score_correction_bias", 8, "\0\0\x80\xff", 4); /* -infinity */
    assert_int_equal(check(s.dir), 5);
    assert_found("model.layers.1.mlp.experts.3.up_proj.weight|" FIRST "|2 NaN codes, the first at [2, 7]");
    assert_found("model.layers.0.mlp.gate_proj.weight_scale_inv|" FIRST
                 "|1 scale that is not positive and finite, the first at [1, 1]");
    assert_found("model.layers.0.mlp.up_proj.weight_scale_inv|" FIRST
                 "|2 scales that are not positive and finite, the first at [0, 0]");
    assert_found("model.norm.weight|");
    assert_found("|1 non-finite value, the first at [159]");
    assert_found("model.layers.2.mlp.gate.e_score_correction_bias|");
    scratch_destroy(&s);
}

static void missing_and_misshapen_tensors_are_found(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    /* in shard and index alike: the tensor has another name now */
    replace(&s, FIRST, "model.layers.0.input_layernorm.weight", "model.layers.0.input_layerNORM.weight");
    replace(&s, INDEX, "model.layers.0.input_layernorm.weight", "model.layers.0.input_layerNORM.weight");
    /* the same bytes as another shape, and as another type */
    replace(&s, FIRST, "\"model.layers.0.mlp.gate_proj.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[200,160]",
            "\"model.layers.0.mlp.gate_proj.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[160,200]");
    replace(&s, FIRST, "\"model.layers.0.self_attn.q_a_proj.weight\":{\"dtype\":\"F8_E4M3\"",
            "\"model.layers.0.self_attn.q_a_proj.weight\":{\"dtype\":\"F8_E5M2\"");
    assert_int_equal(check(s.dir), 4);
    assert_found("model.layers.0.input_layernorm.weight||missing");
    assert_found("model.layers.0.input_layerNORM.weight|" FIRST "|the config implies no such tensor");
    assert_found("model.layers.0.mlp.gate_proj.weight|" FIRST
                 "|expected F32 or BF16 or F8_E4M3 [200, 160], found F8_E4M3 [160, 200]");
    assert_found("model.layers.0.self_attn.q_a_proj.weight|" FIRST
                 "|expected F32 or BF16 or F8_E4M3 [48, 160], found F8_E5M2 [48, 160]");
    scratch_destroy(&s);
}

static void headers_alone_tell_all_but_values(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    const float nan = __builtin_nanf("");
    uint64_t count = 99;
    fr_error error;
    damage(&s, "model.layers.0.mlp.gate_proj.weight_scale_inv", 12, &nan, 4);
    assert_int_equal(fr_check_headers(s.dir, NULL, NULL, NULL, &count, &error), FR_OK);
    assert_int_equal(count, 0);
    replace(&s, FIRST, "model.layers.0.input_layernorm.weight", "model.layers.0.input_layerNORM.weight");
    assert_int_equal(fr_check_headers(s.dir, NULL, NULL, NULL, &count, &error), FR_OK);
    assert_int_equal(count, (uint64_t)check(s.dir) - 1);
    assert_true(count > 0);
    scratch_destroy(&s);
}

static void missing_scales_are_found(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    replace(&s, FIRST, "model.layers.0.mlp.down_proj.weight_scale_inv\"", "model.layers.0.mlp.down_proj.weight_scale_xxx\"");
    replace(&s, INDEX, "model.layers.0.mlp.down_proj.weight_scale_inv\"", "model.layers.0.mlp.down_proj.weight_scale_xxx\"");
    replace(&s, FIRST, "\"model.layers.0.mlp.up_proj.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,2]",
            "\"model.layers.0.mlp.up_proj.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[4,1]");
    assert_int_equal(check(s.dir), 3);
    assert_found("model.layers.0.mlp.down_proj.weight_scale_inv||missing");
    assert_found("model.layers.0.mlp.down_proj.weight_scale_xxx|" FIRST "|the config implies no such tensor");
    assert_found("model.layers.0.mlp.up_proj.weight_scale_inv|" FIRST "|expected F32 [2, 2], found F32 [4, 1]");
    scratch_destroy(&s);
}

static void a_truncated_shard_is_found_and_the_rest_checked(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    damage(&s, "model.layers.0.mlp.up_proj.weight", 0, "\x7f", 1); /* in the other shard */
    size_t length;
    char *whole = scratch_read(scratch_path(&s, SECOND), &length);
    scratch_write(&s, SECOND, whole, length - 100);
    free(whole);
    /* the tensor that is cut is neither listed a second time as missing, nor are its scales a finding */
    assert_int_equal(check(s.dir), 3);
    assert_found("|" SECOND "|data_offsets: [");
    assert_found("|" SECOND "|2972 bytes belong to no sound tensor"); /* what is left of it: 48 * 64 - 100 */
    assert_found("model.layers.0.mlp.up_proj.weight|" FIRST "|1 NaN code, the first at [0, 0]");
    scratch_destroy(&s);
}

/* A download that ended early: however many tensors are lost, it is one problem. */
static void a_file_cut_before_many_tensors_is_one_problem(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    damage(&s, "model.layers.0.mlp.up_proj.weight", 0, "\x7f", 1); /* in the other shard */
    size_t length;
    char *whole = scratch_read(scratch_path(&s, SECOND), &length);
    scratch_write(&s, SECOND, whole, length / 2);
    free(whole);
    check(s.dir);
    assert_found("|" SECOND "|truncated: the data of ");
    assert_found(" tensors reach beyond its end, the first is model.");
    assert_found("model.layers.0.mlp.up_proj.weight|" FIRST "|1 NaN code, the first at [0, 0]");
    assert_int_equal(findings_with("missing"), 0);
    assert_true(found.count <= 3); /* the rest of the tensor that was cut belongs to none */
    scratch_destroy(&s);
}

typedef struct cutter {
    const scratch *s;
    findings *found;
} cutter;

static void note_of_cutter(void *user, const fr_problem *problem) {
    note(((cutter *)user)->found, problem);
}

static void cut_at_notice(void *user, const fr_notice *notice) {
    const cutter *c = user;
    (void)notice;
    assert_int_equal(truncate(scratch_path(c->s, SECOND), 20000), 0);
}

/* Between looking at the headers and reading the data. */
static void a_file_that_is_cut_meanwhile_is_one_problem(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    cutter c = {&s, &found};
    damage(&s, "model.layers.0.mlp.up_proj.weight", 0, "\x7f", 1);
    replace(&s, "config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0"); /* there is a notice */
    for (int threads = 1; threads <= 8; threads *= 2) {
        found.count = 0;
        scratch_copy_file(&s, SECOND, GOLDEN "pico-s1/" SECOND);
        assert_int_equal(fr_check(s.dir, threads, note_of_cutter, cut_at_notice, &c, NULL, NULL, NULL, NULL), FR_OK);
        assert_int_equal(found.count, 2);
        assert_found("|" SECOND "|");
        assert_found(" of its tensors cannot be read, the first is ");
        assert_found(": the file was cut meanwhile");
        assert_found("model.layers.0.mlp.up_proj.weight|" FIRST "|1 NaN code");
    }
    scratch_destroy(&s);
}

static void a_shard_with_a_broken_header_is_found(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    damage(&s, "model.layers.0.mlp.up_proj.weight", 0, "\x7f", 1);
    size_t length;
    char *whole = scratch_read(scratch_path(&s, SECOND), &length);
    whole[8] = 'x';
    scratch_write(&s, SECOND, whole, length);
    free(whole);
    check(s.dir);
    assert_int_equal(found.count, 2); /* nothing of what is lost with it */
    assert_found("|" SECOND "|line 1, column 1: not valid JSON");
    assert_found(" tensors are lost with it");
    assert_found("|1 NaN code, the first at [0, 0]");
    assert_int_equal(noticed.count, 0); /* of the MTP module, which is in that file */
    assert_int_equal(findings_with("missing"), 0);
    assert_int_equal(findings_with("model.layers.0.mlp.up_proj.weight|"), 1);
    scratch_destroy(&s);
}

static void a_missing_shard_and_a_lying_index_are_found(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    replace(&s, INDEX, "\"lm_head.weight\"", "\"lm_HEAD.weight\"");
    assert_int_equal(check(s.dir), 2);
    assert_found("lm_HEAD.weight|" INDEX "|the index puts it in ");
    assert_found("lm_head.weight|model-0000");
    assert_found("|the index does not list it");
    unlink(scratch_path(&s, FIRST));
    check(s.dir);
    assert_found("|" FIRST "|No such file or directory; ");
    assert_found(" tensors are lost with it");
    assert_int_equal(findings_with("input_layernorm"), 0);
    scratch_write_text(&s, INDEX, "{");
    assert_int_equal(check(s.dir), 1);
    assert_found("|" INDEX "|");
    scratch_destroy(&s);
}

static void of_a_module_in_a_broken_file_nothing_is_said(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-joyai");
    scratch_write_text(&s, "mtp-1-of-1.safetensors", "garbage");
    assert_int_equal(check(s.dir), 1);
    for (size_t i = 0; i < noticed.count; i++) assert_null(strstr(noticed.list[i].why, "no tensor of it is there"));
    scratch_destroy(&s);
}

static void values_are_checked_without_a_config(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    damage(&s, "model.layers.0.mlp.up_proj.weight", 0, "\x7f", 1);
    scratch_write_text(&s, "config.json", "{\"hidden_size\": -1}");
    assert_int_equal(check(s.dir), 2);
    assert_found("|config.json|hidden_size: expected a whole number");
    assert_found("1 NaN code,");
    scratch_write_text(&s, "hf_quant_config.json", "{\"quantization\": {\"quant_algo\": \"NVFP4\"}}");
    check(s.dir);
    assert_found("|hf_quant_config.json|weights are quantized as NVFP4");
    scratch_destroy(&s);
}

/* A tensor of several megabytes, of which each thread counts a part. */
static void any_number_of_threads_finds_the_same(void **state) {
    (void)state;
    enum { ROWS = 3000, COLUMNS = 1500, BYTES = ROWS * COLUMNS * 2 };
    static const char header[] = "{\"w\":{\"dtype\":\"BF16\",\"shape\":[3000,1500],\"data_offsets\":[0,9000000]}}   ";
    const uint64_t length = sizeof header - 1;
    scratch s = scratch_create();
    char *file = calloc(1, sizeof length + length + BYTES);
    uint16_t *data = (uint16_t *)(void *)(file + sizeof length + length);
    memcpy(file, &length, sizeof length);
    memcpy(file + sizeof length, header, length);
    int bad = 0;
    for (int i = 77; i < BYTES / 2; i += 65521, bad++) data[i] = 0x7f80;
    data[BYTES / 2 - 1] = 0xffff;
    scratch_write(&s, "model.safetensors", file, sizeof length + length + BYTES);
    free(file);
    char expected[128];
    snprintf(expected, sizeof expected, "w|model.safetensors|%d non-finite values, the first at [0, 77]", bad + 1);
    for (int threads = 1; threads <= 5; threads++) {
        found.count = 0;
        assert_int_equal(fr_check(s.dir, threads, note, NULL, &found, NULL, NULL, NULL, NULL), FR_OK);
        assert_found(expected);
    }
    scratch_destroy(&s);
}

/* A conversion may drop the MTP module, or keep it and announce none: that is noticed, and nothing is wrong. Tensors of other
 * layers beyond the last are one finding. */
static void mtp_may_be_absent(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    replace(&s, "config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0");
    assert_int_equal(check(s.dir), 0);
    assert_int_equal(noticed.count, 1);
    assert_non_null(strstr(noticed.list[0].why, "tensors of it are there, but config.json announces none"));
    replace(&s, "config.json", "\"num_nextn_predict_layers\": 0", "\"num_nextn_predict_layers\": 1");
    static const char *const files[] = {FIRST, SECOND, INDEX};
    for (int f = 0; f < 3; f++)
        while (replace_one(&s, files[f], "\"model.layers.3.", "\"model.layers.9.")) {
        }
    assert_int_equal(check(s.dir), 1); /* none of layer 3 is missed */
    assert_found("tensors are of layers beyond num_hidden_layers 3 + num_nextn_predict_layers 0");
    assert_int_equal(noticed.count, 1);
    assert_non_null(strstr(noticed.list[0].why, "but no tensor of it is there"));
    scratch_destroy(&s);
}

typedef struct pace {
    uint64_t calls, last, total, stop_at;
} pace;

static bool pace_it(void *user, const char *what, uint64_t done, uint64_t total) {
    pace *p = user;
    assert_string_equal(what, "tensors");
    assert_true(done >= p->last && done <= total);
    p->calls++;
    p->last = done;
    p->total = total;
    return p->calls != p->stop_at;
}

static void it_tells_progress_and_can_be_stopped(void **state) {
    (void)state;
    pace p = {0};
    fr_error error;
    assert_int_equal(fr_check(GOLDEN "pico-s1", 0, NULL, NULL, NULL, pace_it, &p, NULL, &error), FR_OK);
    assert_int_equal(p.total, 239);
    assert_int_equal(p.last, 239);
    p = (pace){.stop_at = 10};
    assert_int_equal(fr_check(GOLDEN "pico-s1", 0, NULL, NULL, NULL, pace_it, &p, NULL, &error), FR_INTERRUPTED);
    assert_int_equal(error.status, FR_INTERRUPTED);
    assert_int_equal(p.calls, 10);
}

static void no_checkpoint_is_an_error(void **state) {
    (void)state;
    uint64_t count = 7;
    fr_error error;
    assert_int_equal(fr_check("/no/such/place", 0, note, NULL, &found, NULL, NULL, &count, &error), FR_ERROR_IO);
    assert_string_equal(error.message, "/no/such/place: No such file or directory");
    assert_int_equal(count, 0);
}

/* ---- Loading agrees ---- */

/* A copy of a checkpoint in which one tensor has another dtype: zeros, and scales of 1 where it may have some. */
typedef struct variant {
    const fr_checkpoint *from;
    const char *name; /* the tensor */
    char scale[256];  /* its scales, "" when it never has any */
    fr_dtype dtype, scale_dtype;
    int64_t scale_shape[2];
    fr_writer *writer;
    void *zeros;
} variant;

static bool is_changed(const variant *v, const fr_tensor *t) {
    return strcmp(t->name, v->name) == 0 || strcmp(t->name, v->scale) == 0;
}

static void put_variant(const variant *v, const char *dir) {
    fr_writer_options options = {.force = true};
    fr_writer *w;
    const fr_tensor *changed = fr_checkpoint_find(v->from, v->name);
    size_t count = fr_checkpoint_count(v->from);
    bool scaled = v->dtype == FR_F8_E4M3 && *v->scale;
    static float ones[4096];
    for (size_t i = 0; i < 4096; i++) ones[i] = v->scale_dtype == FR_F32 ? 1 : fr_bits_f32(0x3f803f80); /* two BF16 ones */
    assert_int_equal(fr_writer_create(dir, &options, &w, NULL), FR_OK);
    for (size_t i = 0; i < count; i++) {
        const fr_tensor *t = fr_checkpoint_at(v->from, i);
        if (!is_changed(v, t)) assert_int_equal(fr_writer_add(w, t->name, t->dtype, t->rank, t->shape, false, NULL), FR_OK);
    }
    assert_int_equal(fr_writer_add(w, v->name, v->dtype, changed->rank, changed->shape, false, NULL), FR_OK);
    if (scaled) assert_int_equal(fr_writer_add(w, v->scale, v->scale_dtype, 2, v->scale_shape, true, NULL), FR_OK);
    assert_int_equal(fr_writer_start(w, NULL), FR_OK);
    for (size_t i = 0; i < count; i++) {
        const fr_tensor *t = fr_checkpoint_at(v->from, i);
        if (!is_changed(v, t)) assert_int_equal(fr_writer_put(w, t->data, NULL), FR_OK);
    }
    assert_int_equal(fr_writer_put(w, v->zeros, NULL), FR_OK);
    if (scaled) assert_int_equal(fr_writer_put(w, ones, NULL), FR_OK);
    assert_int_equal(fr_writer_finish(w, NULL, NULL), FR_OK);
    fr_writer_destroy(w);
}

/* Whether a model opens and makes a token with a draft. */
static bool loads(const char *dir) {
    fr_model_options options = {.threads = 1};
    fr_session_options on = {.ctx = 16, .drafting = FR_DRAFTING_ON, .depth = 2};
    fr_model *model = NULL;
    fr_session *session;
    fr_step step;
    if (fr_model_open(dir, &options, &model, NULL) != FR_OK) return false;
    assert_int_equal(fr_session_create(model, &on, &session, NULL), FR_OK);
    assert_int_equal(fr_session_prefill(session, (const int32_t[]){5, 6, 7}, 3, NULL), FR_OK);
    assert_int_equal(fr_session_step(session, 4, &step, NULL), FR_OK);
    fr_session_destroy(session);
    fr_model_destroy(model);
    return true;
}

typedef struct rows {
    const fr_checkpoint *from;
    scratch s;
    const fr_schema_row *done[64];
    size_t num_done;
    int good, bad;
    void *zeros;
} rows;

static void compare(rows *r, const variant *v) {
    put_variant(v, r->s.dir);
    bool sound = check(r->s.dir) == 0, opens = loads(r->s.dir);
    if (sound != opens)
        fail_msg("%s as %s, scales %s: check says %s, and it %s", v->name, fr_dtype_name(v->dtype), fr_dtype_name(v->scale_dtype),
                 sound ? "ok" : found.text[0], opens ? "loads" : "does not load");
    r->good += sound;
    r->bad += !sound;
}

/* An fr_schema_fn: tries each row once with every dtype; of experts not the first, which the others are compared with. */
static fr_status try_row(void *user, const fr_schema_tensor *t) {
    rows *r = user;
    if (t->expert == 0 || !fr_checkpoint_find(r->from, t->name)) return FR_OK;
    for (size_t i = 0; i < r->num_done; i++)
        if (r->done[i] == t->row) return FR_OK;
    r->done[r->num_done++] = t->row;
    variant v = {.from = r->from, .name = t->name, .scale_dtype = FR_F32, .zeros = r->zeros};
    if (!fr_schema_scale(t, v.scale, sizeof v.scale, v.scale_shape)) *v.scale = '\0';
    for (int d = 0; d < FR_DTYPE_COUNT; d++) {
        v.dtype = (fr_dtype)d;
        compare(r, &v);
    }
    v.dtype = FR_F8_E4M3;
    v.scale_dtype = FR_BF16;
    if (*v.scale) compare(r, &v);
    return FR_OK;
}

static void what_is_sound_loads_and_nothing_else_does(void **state) {
    (void)state;
    fr_checkpoint *from;
    fr_config config;
    assert_int_equal(fr_config_load(GOLDEN "pico-mtp-s1", &config, NULL, NULL), FR_OK);
    assert_int_equal(fr_checkpoint_open(GOLDEN "pico-mtp-s1", &from, NULL), FR_OK);
    rows r = {.from = from, .s = scratch_create(), .zeros = calloc(1, 1 << 22)};
    size_t length;
    char *json = scratch_read(GOLDEN "pico-mtp-s1/config.json", &length);
    scratch_write(&r.s, "config.json", json, length);
    free(json);
    fr_schema_each(&config, try_row, &r);
    assert_in_range(r.num_done, 24, 64);
    assert_in_range(r.good, 60, 120); /* two or three dtypes of each */
    assert_true(r.bad > r.good);
    free(r.zeros);
    fr_checkpoint_destroy(from);
    scratch_destroy(&r.s);
}

/* check calls them problems; whoever opens the checkpoint is told, too. */
static void tensors_that_nothing_reads_are_noticed(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    for (int f = 0; f < 2; f++)
        replace_one(&s, f ? SECOND : FIRST, "layers.1.mlp.experts.3.up_proj.weight\"", "layers.1.mlp.experts.9.up_proj.weight\"");
    replace(&s, INDEX, "layers.1.mlp.experts.3.up_proj.weight\"", "layers.1.mlp.experts.9.up_proj.weight\"");
    check(s.dir);
    assert_found("|the config implies no such tensor");
    assert_int_equal(noticed.count, 1);
    assert_string_equal(noticed.list[0].why,
                        "model.layers.1.mlp.experts.9.up_proj.weight is left out: the config implies no such tensor");
    scratch_destroy(&s);
}

/* A tied model's head is the embedding, unless the files have another. */
static void a_tied_head_that_differs_is_noticed_and_used(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    fr_model_options options = {.threads = 1};
    fr_model *model;
    fr_checkpoint *checkpoint;
    size_t count;
    replace(&s, "config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true ");
    assert_int_equal(fr_model_open(s.dir, &options, &model, NULL), FR_OK);
    const fr_notice *notices = fr_model_notices(model, &count);
    assert_int_equal(count, 1);
    assert_string_equal(notices[0].what, "lm_head.weight");
    assert_ptr_not_equal(model->lm_head.w, model->embed_tokens.w);
    fr_model_destroy(model);
    assert_int_equal(fr_checkpoint_open(s.dir, &checkpoint, NULL), FR_OK);
    const fr_tensor *embedding = fr_checkpoint_find(checkpoint, "model.embed_tokens.weight");
    damage(&s, "lm_head.weight", 0, embedding->data, embedding->bytes);
    fr_checkpoint_destroy(checkpoint);
    assert_int_equal(fr_model_open(s.dir, &options, &model, NULL), FR_OK);
    fr_model_notices(model, &count);
    assert_int_equal(count, 0);
    assert_ptr_equal(model->lm_head.w, model->embed_tokens.w);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_sound),
        cmocka_unit_test(bad_values_are_found),
        cmocka_unit_test(missing_and_misshapen_tensors_are_found),
        cmocka_unit_test(headers_alone_tell_all_but_values),
        cmocka_unit_test(missing_scales_are_found),
        cmocka_unit_test(a_truncated_shard_is_found_and_the_rest_checked),
        cmocka_unit_test(a_file_cut_before_many_tensors_is_one_problem),
        cmocka_unit_test(a_file_that_is_cut_meanwhile_is_one_problem),
        cmocka_unit_test(a_shard_with_a_broken_header_is_found),
        cmocka_unit_test(a_missing_shard_and_a_lying_index_are_found),
        cmocka_unit_test(what_is_sound_loads_and_nothing_else_does),
        cmocka_unit_test(a_tied_head_that_differs_is_noticed_and_used),
        cmocka_unit_test(tensors_that_nothing_reads_are_noticed),
        cmocka_unit_test(of_a_module_in_a_broken_file_nothing_is_said),
        cmocka_unit_test(values_are_checked_without_a_config),
        cmocka_unit_test(any_number_of_threads_finds_the_same),
        cmocka_unit_test(mtp_may_be_absent),
        cmocka_unit_test(it_tells_progress_and_can_be_stopped),
        cmocka_unit_test(no_checkpoint_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
