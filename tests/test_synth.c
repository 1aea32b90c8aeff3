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
#define V3 GOLDEN "deepseek-v3-config.json"

/* SCRATCH/out is what is written; removed with what is in it. */
static void remove_out(const scratch *s, const char *name) {
    char path[1024], file[2048];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *item; (item = readdir(dir));) {
        snprintf(file, sizeof file, "%s/%s", path, item->d_name);
        unlink(file);
    }
    closedir(dir);
    rmdir(path);
}

static fr_written synth(const char *config, const char *dir, const fr_synth_options *options) {
    fr_written written;
    fr_error error;
    if (fr_synth(config, dir, options, &written, &error) != FR_OK) fail_msg("%s", error.message);
    return written;
}

static fr_error refused(const char *config, const char *dir, const fr_synth_options *options, fr_status status) {
    fr_error error;
    assert_int_equal(fr_synth(config, dir, options, NULL, &error), status);
    assert_int_equal(error.status, status);
    return error;
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

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
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

static bool same_data(const fr_tensor *a, const fr_tensor *b) {
    return a->dtype == b->dtype && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

/* ---- Bytes ---- */

/* Whether two checkpoints have the same tensors with the same bytes. */
static bool same_checkpoints(const char *x, const char *y) {
    fr_checkpoint *a = open_checkpoint(x), *b = open_checkpoint(y);
    bool same = fr_checkpoint_count(a) == fr_checkpoint_count(b);
    for (size_t i = 0; same && i < fr_checkpoint_count(a); i++)
        same = strcmp(fr_checkpoint_at(a, i)->name, fr_checkpoint_at(b, i)->name) == 0 &&
               same_data(fr_checkpoint_at(a, i), fr_checkpoint_at(b, i));
    fr_checkpoint_destroy(a);
    fr_checkpoint_destroy(b);
    return same;
}

static void bytes_depend_on_the_seed_alone(void **state) {
    (void)state;
    static const char *const set[] = {"vocab_size=8191"}; /* an embedding of several pieces, the last one partial */
    scratch s = scratch_create();
    char one[512], three[512], other[512];
    snprintf(one, sizeof one, "%s/one", s.dir);
    snprintf(three, sizeof three, "%s/three", s.dir);
    snprintf(other, sizeof other, "%s/other", s.dir);
    fr_synth_options options = {.seed = 5, .threads = 1, .set = set, .num_set = 1};
    synth(GOLDEN "pico-s1", one, &options);
    options.threads = 3;
    options.shard_bytes = 300000;
    synth(GOLDEN "pico-s1", three, &options);
    options.seed = 6;
    synth(GOLDEN "pico-s1", other, &options);
    assert_true(same_checkpoints(one, three));
    assert_false(same_checkpoints(one, other));
    remove_out(&s, "one");
    remove_out(&s, "three");
    remove_out(&s, "other");
    scratch_destroy(&s);
}

static void tensors_do_not_depend_on_each_other(void **state) {
    (void)state;
    scratch s = scratch_create();
    char two[512], three[512];
    snprintf(two, sizeof two, "%s/two", s.dir);
    snprintf(three, sizeof three, "%s/three", s.dir);
    synth(GOLDEN "pico-s1", two, &(fr_synth_options){.layers = 2, .experts = 4});
    synth(GOLDEN "pico-s1", three, NULL);
    fr_checkpoint *a = open_checkpoint(two), *b = open_checkpoint(three);
    static const char *const names[] = {"model.embed_tokens.weight", "model.layers.1.mlp.experts.3.up_proj.weight",
                                        "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"};
    for (size_t i = 0; i < 3; i++) assert_true(same_data(tensor_of(a, names[i]), tensor_of(b, names[i])));
    /* but no two are the same */
    assert_false(same_data(tensor_of(b, names[1]), tensor_of(b, "model.layers.1.mlp.experts.2.up_proj.weight")));
    assert_false(same_data(tensor_of(b, names[1]), tensor_of(b, "model.layers.2.mlp.experts.3.up_proj.weight")));
    /* copies are */
    assert_true(same_data(tensor_of(b, names[0]), tensor_of(b, "model.layers.3.embed_tokens.weight")));
    assert_true(same_data(tensor_of(b, "lm_head.weight"), tensor_of(b, "model.layers.3.shared_head.head.weight")));
    assert_false(same_data(tensor_of(b, names[0]), tensor_of(b, "lm_head.weight")));
    fr_checkpoint_destroy(a);
    fr_checkpoint_destroy(b);
    remove_out(&s, "two");
    remove_out(&s, "three");
    scratch_destroy(&s);
}

/* ---- Values ---- */

static void assert_distribution(const fr_checkpoint *checkpoint, const char *name, double mean, double deviation);

/* Biases are as wide as asked for, and nothing else changes. */
static void experts_can_be_preferred(void **state) {
    (void)state;
    scratch s = scratch_create();
    char even[512], skewed[512];
    snprintf(even, sizeof even, "%s/even", s.dir);
    snprintf(skewed, sizeof skewed, "%s/skewed", s.dir);
    fr_synth_options o = {.experts = 512, .set = (const char *const[]){"moe_intermediate_size=8"}, .num_set = 1};
    synth(GOLDEN "pico-s1", even, &o);
    o.expert_skew = 0.3;
    synth(GOLDEN "pico-s1", skewed, &o);
    fr_checkpoint *a = open_checkpoint(even), *b = open_checkpoint(skewed);
    assert_distribution(a, "model.layers.1.mlp.gate.e_score_correction_bias", 0, 0.01);
    assert_distribution(b, "model.layers.1.mlp.gate.e_score_correction_bias", 0, 0.3);
    for (size_t i = 0; i < fr_checkpoint_count(a); i++) {
        const fr_tensor *t = fr_checkpoint_at(a, i);
        assert_int_equal(same_data(t, tensor_of(b, t->name)), strstr(t->name, "correction_bias") == NULL);
    }
    fr_checkpoint_destroy(a);
    fr_checkpoint_destroy(b);
    remove_out(&s, "even");
    remove_out(&s, "skewed");
    scratch_destroy(&s);
}

static float value_of(const fr_checkpoint *checkpoint, const fr_tensor *t, size_t i) {
    const uint8_t *data = t->data;
    uint16_t half;
    float value;
    if (t->dtype == FR_F32) {
        memcpy(&value, data + 4 * i, 4);
        return value;
    }
    if (t->dtype == FR_BF16) {
        memcpy(&half, data + 2 * i, 2);
        return fr_bf16_f32(half);
    }
    char name[256];
    snprintf(name, sizeof name, "%s_scale_inv", t->name);
    const fr_tensor *scale = tensor_of(checkpoint, name);
    size_t row = i / (size_t)t->shape[1] / 128, column = i % (size_t)t->shape[1] / 128;
    memcpy(&value, (const char *)scale->data + 4 * (row * (size_t)scale->shape[1] + column), 4);
    return fr_e4m3_f32(data[i]) * value;
}

static void assert_distribution(const fr_checkpoint *checkpoint, const char *name, double mean, double deviation) {
    const fr_tensor *t = tensor_of(checkpoint, name);
    size_t count = (size_t)t->shape[0] * (t->rank == 2 ? (size_t)t->shape[1] : 1);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        double value = value_of(checkpoint, t, i);
        sum += value;
        squares += value * value;
    }
    double is_mean = sum / (double)count, is = sqrt(squares / (double)count - is_mean * is_mean);
    double noise = 4 / sqrt((double)count); /* four standard errors, of the mean and of the deviation alike */
    if (fabs(is_mean - mean) > noise * deviation || fabs(is / deviation - 1) > noise + 0.03)
        fail_msg("%s: mean %g, deviation %g; expected %g, %g", name, is_mean, is, mean, deviation);
}

/* Of wide MLPs: tensors of 64 blocks, so that their scales even out. */
static void distribution_is_as_planned(fr_precision dtype, const char *format, uint64_t seed) {
    const char *const set[] = {"intermediate_size=4096", format};
    scratch s = scratch_create();
    char dir[512];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    synth(GOLDEN "nano-mtp-s1", dir, &(fr_synth_options){.seed = seed, .dtype = dtype, .set = set, .num_set = format ? 2 : 1});
    assert_sound(dir);
    fr_checkpoint *c = open_checkpoint(dir);
    assert_distribution(c, "model.layers.0.mlp.up_proj.weight", 0, 1.0 / 16);   /* [4096, 256] */
    assert_distribution(c, "model.layers.0.mlp.down_proj.weight", 0, 1.0 / 64); /* [256, 4096] */
    const fr_tensor *t = tensor_of(c, "model.layers.0.mlp.down_proj.weight");
    assert_int_equal(t->dtype, dtype == FR_PRECISION_BF16 ? FR_BF16 : FR_F8_E4M3);
    t = tensor_of(c, "model.layers.2.mlp.gate.weight");
    assert_int_equal(t->dtype, FR_BF16);
    assert_distribution(c, t->name, 0, 1.0 / 16);
    assert_distribution(c, "model.embed_tokens.weight", 0, 1);
    assert_distribution(c, "model.norm.weight", 1, 0.1);
    t = tensor_of(c, "model.layers.2.mlp.gate.e_score_correction_bias");
    assert_int_equal(t->dtype, FR_F32);
    for (int64_t i = 0; i < t->shape[0]; i++) assert_true(fabsf(value_of(c, t, (size_t)i)) < 0.05f);
    fr_checkpoint_destroy(c);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

static void values_are_as_planned(void **state) {
    (void)state;
    distribution_is_as_planned(FR_PRECISION_AUTO, NULL, 1);
    distribution_is_as_planned(FR_PRECISION_BF16, NULL, 2);
}

static void scales_of_the_ue8m0_kind_are_powers_of_two(void **state) {
    (void)state;
    static const char *const set[] = {"quantization_config.scale_fmt=\"ue8m0\""};
    fr_synth_options options = {.set = set, .num_set = 1};
    scratch s = scratch_create();
    char dir[512];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    distribution_is_as_planned(FR_PRECISION_FP8, set[0], 3);
    synth(GOLDEN "pico-s1", dir, &options);
    fr_checkpoint *c = open_checkpoint(dir);
    for (size_t i = 0; i < fr_checkpoint_count(c); i++) {
        const fr_tensor *t = fr_checkpoint_at(c, i);
        float scale;
        int exponent;
        if (!strstr(t->name, "scale_inv")) continue;
        memcpy(&scale, t->data, sizeof scale);
        assert_true(frexpf(scale, &exponent) == 0.5f);
    }
    fr_checkpoint_destroy(c);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

/* ---- What is written ---- */

static void it_writes_what_the_schema_says(void **state) {
    (void)state;
    static const char *const tied[] = {"tie_word_embeddings=true", "n_shared_experts=2"};
    static const char *const small[] = {"hidden_size=64", "vocab_size=300", "intermediate_size=100"};
    static const struct {
        const char *config;
        fr_synth_options options;
        uint64_t tensors; /* 0: not counted here */
    } cases[] = {
        {GOLDEN "pico-s1", {.seed = 0}, 239},
        {GOLDEN "pico-noqlora-s1/config.json", {.seed = 1}, 227},
        {GOLDEN "pico-yarn-s1", {.dtype = FR_PRECISION_BF16}, 239 - 104},
        {GOLDEN "nano-mtp-s1", {.no_mtp_copies = true}, 617},
        {GOLDEN "pico-s1", {.set = tied, .num_set = 2}, 238},
        {V3, {.layers = 2, .experts = 2, .sparse = false, .set = small, .num_set = 3}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch s = scratch_create();
        char dir[512];
        snprintf(dir, sizeof dir, "%s/out", s.dir);
        fr_written w = synth(cases[i].config, dir, &cases[i].options);
        assert_sound(dir);
        if (cases[i].tensors) assert_int_equal(w.tensors, cases[i].tensors);
        fr_checkpoint *c = open_checkpoint(dir);
        assert_int_equal(fr_checkpoint_count(c), w.tensors);
        assert_int_equal(fr_checkpoint_bytes(c), w.tensor_bytes);
        fr_checkpoint_destroy(c);
        fr_config config;
        assert_int_equal(fr_config_load(dir, &config, NULL, NULL), FR_OK);
        assert_int_equal(config.fp8, cases[i].options.dtype != FR_PRECISION_BF16);
        remove_out(&s, "out");
        scratch_destroy(&s);
    }
}

/* The number `key` of an index's metadata, from its text: the reader under test does not look at it. */
static uint64_t total_size(const char *dir) {
    char path[600];
    size_t length;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    char *text = scratch_read(path, &length);
    const char *at = strstr(text, "\"total_size\": ");
    assert_non_null(at);
    uint64_t value = strtoull(at + strlen("\"total_size\": "), NULL, 10);
    free(text);
    return value;
}

static void shards_are_whole_and_aligned(void **state) {
    (void)state;
    enum { LIMIT = 150000 };
    scratch s = scratch_create();
    char dir[512];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    fr_written w = synth(GOLDEN "pico-s1", dir, &(fr_synth_options){.shard_bytes = LIMIT});
    assert_true(w.files > 1674072 / LIMIT && w.files < 40);
    assert_int_equal(total_size(dir), w.tensor_bytes);
    fr_checkpoint *c = open_checkpoint(dir);
    uint64_t in_shard[40] = {0}, files = 0;
    for (size_t i = 0; i < fr_checkpoint_count(c); i++) {
        const fr_tensor *t = fr_checkpoint_at(c, i);
        uint64_t alignment = 64; /* mappings begin on pages, so that addresses show where data begins in the file */
        while (t->bytes % alignment) alignment /= 2;
        assert_int_equal((uintptr_t)t->data % alignment, 0);
        in_shard[t->file] += t->bytes;
        char scale[256];
        snprintf(scale, sizeof scale, "%s_scale_inv", t->name);
        if (fr_checkpoint_find(c, scale)) assert_int_equal(fr_checkpoint_find(c, scale)->file, t->file);
    }
    for (; files < 40 && in_shard[files]; files++)
        if (in_shard[files] > LIMIT) fail_msg("shard %d has %d bytes", (int)files, (int)in_shard[files]);
    assert_int_equal(files, w.files);
    fr_checkpoint_destroy(c);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

static void config_is_changed_and_kept(void **state) {
    (void)state;
    static const char *const set[] = {"rope_theta=25000", "rope_scaling.factor=8", "num_nextn_predict_layers=0",
                                      "first_k_dense_replace=2"};
    scratch s = scratch_create();
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    synth(GOLDEN "pico-yarn-s1", dir,
          &(fr_synth_options){.set = set, .num_set = 4, .tokenizer = GOLDEN "pico-yarn-s1", .layers = 4});
    fr_config config;
    assert_int_equal(fr_config_load(dir, &config, NULL, NULL), FR_OK);
    assert_int_equal(config.num_hidden_layers, 4);
    assert_int_equal(config.first_k_dense_replace, 2);
    assert_int_equal(config.num_nextn_predict_layers, 0);
    assert_true(config.rope_theta == 25000 && config.yarn.factor == 8 && config.yarn.present);
    assert_int_equal(config.eos_token_ids[0], 1);
    snprintf(path, sizeof path, "%s/config.json", dir);
    cJSON *json = NULL;
    assert_int_equal(fr_json_load(path, 1 << 20, &json, NULL), FR_OK);
    assert_string_equal(cJSON_GetObjectItem(json, "transformers_version")->valuestring, "4.33.1"); /* not ours */
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "use_cache")));
    cJSON_Delete(json);
    static const char *const copied[] = {"tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 2; i++) {
        size_t x, y;
        snprintf(path, sizeof path, "%s/%s", dir, copied[i]);
        char *a = scratch_read(path, &x);
        snprintf(path, sizeof path, GOLDEN "pico-yarn-s1/%s", copied[i]);
        char *b = scratch_read(path, &y);
        assert_int_equal(x, y);
        assert_memory_equal(a, b, x);
        free(a);
        free(b);
    }
    assert_sound(dir);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

static void fewer_layers_and_experts_fit(void **state) {
    (void)state;
    static const struct {
        int layers, experts, dense, groups, kept, top;
    } cases[] = {{4, 16, 3, 8, 4, 8}, {3, 8, 2, 4, 4, 8}, {1, 6, 0, 3, 3, 6},
                 {2, 1, 1, 1, 1, 1},  {5, 7, 3, 1, 1, 7}, {61, 512, 3, 8, 4, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch s = scratch_create();
        char dir[512];
        snprintf(dir, sizeof dir, "%s/out", s.dir);
        synth(V3, dir, &(fr_synth_options){.layers = cases[i].layers, .experts = cases[i].experts, .sparse = true});
        fr_config c;
        assert_int_equal(fr_config_load(dir, &c, NULL, NULL), FR_OK);
        assert_int_equal(c.num_hidden_layers, cases[i].layers);
        assert_int_equal(c.n_routed_experts, cases[i].experts);
        assert_int_equal(c.first_k_dense_replace, cases[i].dense);
        assert_int_equal(c.n_group, cases[i].groups);
        assert_int_equal(c.topk_group, cases[i].kept);
        assert_int_equal(c.num_experts_per_tok, cases[i].top);
        remove_out(&s, "out");
        scratch_destroy(&s);
    }
}

/* ---- Sparse ---- */

static void full_size_takes_no_room(void **state) {
    (void)state;
    scratch s = scratch_create();
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    fr_written w = synth(V3, dir, &(fr_synth_options){.sparse = true});
    assert_int_equal(w.tensors, 91991); /* as published, in as many files */
    assert_int_equal(w.files, 163);
    assert_int_equal(w.tensor_bytes, 688574839360);
    assert_int_equal(total_size(dir), w.tensor_bytes);
    uint64_t apparent = 0, stored = 0;
    for (int i = 1; i <= 163; i++) {
        struct stat info;
        snprintf(path, sizeof path, "%s/model-%05d-of-00163.safetensors", dir, i);
        assert_int_equal(stat(path, &info), 0);
        apparent += (uint64_t)info.st_size;
        stored += (uint64_t)info.st_blocks * 512;
    }
    assert_int_equal(apparent, w.apparent_bytes);
    assert_true(apparent > w.tensor_bytes && apparent < w.tensor_bytes + 20000000);
    assert_true(stored < 40000000);
    fr_checkpoint *c = open_checkpoint(dir);
    assert_int_equal(fr_checkpoint_count(c), 91991);
    assert_int_equal(fr_checkpoint_bytes(c), 688574839360);
    const fr_tensor *t = tensor_of(c, "model.layers.61.mlp.experts.255.down_proj.weight");
    assert_int_equal(t->dtype, FR_F8_E4M3);
    assert_int_equal(t->shape[0], 7168);
    assert_int_equal(t->shape[1], 2048);
    assert_int_equal(((const uint8_t *)t->data)[t->bytes - 1], 0);
    /* layer by layer */
    assert_int_equal(tensor_of(c, "model.layers.0.self_attn.o_proj.weight")->file, 0);
    assert_int_equal(t->file, 162);
    fr_checkpoint_destroy(c);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

static void a_sparse_checkpoint_opens_as_a_model(void **state) {
    (void)state;
    scratch s = scratch_create();
    char dir[512];
    fr_model *model = NULL;
    fr_error error;
    fr_model_info info;
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    fr_written w = synth(GOLDEN "nano-mtp-s1", dir, &(fr_synth_options){.sparse = true});
    if (fr_model_open(dir, NULL, &model, &error) != FR_OK) fail_msg("%s", error.message);
    fr_model_get_info(model, &info);
    assert_true(info.has_mtp);
    assert_int_equal(info.weight_bytes, w.tensor_bytes);
    fr_model_destroy(model);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

/* ---- As a model ---- */

typedef struct chosen {
    int layers, topk;
    uint64_t count[64]; /* by expert */
} chosen;

static bool count_experts(void *user, const fr_score_batch *batch) {
    chosen *c = user;
    for (size_t i = 0; i < (size_t)c->layers * batch->rows * (size_t)c->topk; i++) c->count[batch->experts[i]]++;
    return true;
}

static void a_deep_model_stays_finite_and_even(void **state) {
    (void)state;
    enum { TEXT = 48, LAYERS = 61, EXPERTS = 16 };
    static const char *const set[] = {"n_group=4", "topk_group=2", "num_experts_per_tok=4"};
    scratch s = scratch_create();
    char dir[512];
    fr_error error;
    fr_model *model = NULL;
    fr_session *session = NULL;
    fr_model_info info;
    fr_step step;
    int32_t text[TEXT];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    synth(GOLDEN "pico-s1", dir, &(fr_synth_options){.layers = LAYERS, .experts = EXPERTS, .set = set, .num_set = 3, .seed = 3});
    if (fr_model_open(dir, &(fr_model_options){.threads = 1}, &model, &error) != FR_OK) fail_msg("%s", error.message);
    fr_model_get_info(model, &info);
    assert_int_equal(info.num_hidden_layers, LAYERS);
    assert_true(info.has_mtp);
    for (int i = 0; i < TEXT; i++) text[i] = (i * 37 + 5) % info.vocab_size;

    chosen c = {.layers = info.num_moe_layers, .topk = info.num_experts_per_tok};
    assert_int_equal(fr_session_create(model, &(fr_session_options){.ctx = 64}, &session, &error), FR_OK);
    assert_int_equal(fr_session_score(session, text, TEXT, FR_SCORE_EXPERTS, count_experts, &c, &error), FR_OK);
    fr_session_destroy(session);
    uint64_t even = (uint64_t)c.layers * TEXT * 4 / EXPERTS;
    for (int e = 0; e < EXPERTS; e++)
        if (c.count[e] < even / 2 || c.count[e] > even * 2)
            fail_msg("expert %d was chosen %d times; evenly it would be %d", e, (int)c.count[e], (int)even);

    assert_int_equal(fr_session_create(model, &(fr_session_options){.ctx = 64, .drafting = FR_DRAFTING_ON}, &session, &error),
                     FR_OK);
    assert_int_equal(fr_session_prefill(session, text, 8, &error), FR_OK);
    for (int made = 0; made < 8; made += step.count) {
        assert_int_equal(fr_session_step(session, 8 - made, &step, &error), FR_OK);
        const float *logits = fr_session_logits(session);
        double squares = 0;
        for (int i = 0; i < info.vocab_size; i++) {
            assert_true(isfinite(logits[i]));
            squares += (double)logits[i] * logits[i];
        }
        squares /= info.vocab_size;
        assert_true(squares > 0.5 && squares < 2); /* the head keeps what the final norm gives */
    }
    fr_session_destroy(session);
    fr_model_destroy(model);
    remove_out(&s, "out");
    scratch_destroy(&s);
}

/* ---- What is refused ---- */

static void nonsense_is_refused(void **state) {
    (void)state;
    scratch s = scratch_create();
    char dir[512];
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    static const struct {
        const char *set, *says;
        fr_status status;
    } cases[] = {
        {"num_hiden_layers=4", "no key num_hiden_layers", FR_ERROR_ARGUMENT},
        {"rope_scaling.factor=4", "no object rope_scaling", FR_ERROR_ARGUMENT},
        {"hidden_size", "expected key=value", FR_ERROR_ARGUMENT},
        {"=4", "expected key=value", FR_ERROR_ARGUMENT},
        {"hidden_size=", "not a JSON value", FR_ERROR_ARGUMENT},
        {"hidden_size=12x", "not a JSON value", FR_ERROR_ARGUMENT},
        {"hidden_size=0", "hidden_size: expected a whole number", FR_ERROR_FORMAT},
        {"n_group=3", "3 groups do not divide", FR_ERROR_FORMAT},
        {"attention_bias=true", "attention_bias: only false", FR_ERROR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_error error = refused(GOLDEN "pico-s1", dir, &(fr_synth_options){.set = &cases[i].set, .num_set = 1}, cases[i].status);
        if (!strstr(error.message, cases[i].says)) fail_msg("%s: says %s", cases[i].set, error.message);
        assert_false(exists(dir));
    }
    fr_error error = refused(GOLDEN "none", dir, NULL, FR_ERROR_IO);
    assert_non_null(strstr(error.message, "golden/none"));
    refused(GOLDEN "pico-s1/tokenizer.json", dir, NULL, FR_ERROR_FORMAT);
    error = refused(GOLDEN "pico-s1", dir, &(fr_synth_options){.tokenizer = GOLDEN}, FR_ERROR_IO);
    assert_non_null(strstr(error.message, "tokenizer.json"));
    assert_false(exists(dir));
    scratch_destroy(&s);
}

static void directories_are_left_alone(void **state) {
    (void)state;
    scratch s = scratch_create();
    char dir[512], path[600];
    size_t length;
    scratch_write_text(&s, "mine.txt", "mine");
    fr_error error = refused(GOLDEN "pico-s1", s.dir, NULL, FR_ERROR_IO);
    assert_non_null(strstr(error.message, "not empty"));
    snprintf(path, sizeof path, "%s/config.json", s.dir);
    assert_false(exists(path));
    synth(GOLDEN "pico-s1", s.dir, &(fr_synth_options){.force = true});
    assert_sound(s.dir);
    synth(GOLDEN "pico-s1", s.dir, &(fr_synth_options){.force = true, .seed = 1}); /* over an older one */
    assert_sound(s.dir);
    char *text = scratch_read(scratch_path(&s, "mine.txt"), &length);
    assert_string_equal(text, "mine");
    free(text);
    snprintf(dir, sizeof dir, "%s/none/out", s.dir);
    error = refused(GOLDEN "pico-s1", dir, NULL, FR_ERROR_IO);
    assert_non_null(strstr(error.message, dir));
    snprintf(dir, sizeof dir, "%s/mine.txt", s.dir);
    error = refused(GOLDEN "pico-s1", dir, NULL, FR_ERROR_IO);
    assert_non_null(strstr(error.message, dir));
    /* a directory in which nobody can make a file */
    error = refused(GOLDEN "pico-s1", "/proc", &(fr_synth_options){.force = true, .sparse = true}, FR_ERROR_IO);
    assert_non_null(strstr(error.message, "/proc/config.json: cannot write"));
    scratch_destroy(&s);
}

/* No file may grow beyond a limit: what a full disk does, at a chosen byte. */
static fr_status synth_with_limit(const char *dir, rlim_t bytes, fr_error *error) {
    struct rlimit before, limit;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    fr_status status = fr_synth(GOLDEN "nano-mtp-s1", dir, &(fr_synth_options){.shard_bytes = 4000000}, NULL, error);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    return status;
}

static void failed_writes_leave_nothing(void **state) {
    (void)state;
    scratch s = scratch_create();
    char dir[512];
    fr_error error;
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    static const struct {
        rlim_t bytes;
        const char *file;
    } cases[] = {{100, "config.json"}, {20000, "model-00001-of-0000"}, {3000000, "model-00001-of-0000"}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(synth_with_limit(dir, cases[i].bytes, &error), FR_ERROR_IO);
        assert_non_null(strstr(error.message, cases[i].file));
        assert_non_null(strstr(error.message, "cannot write"));
        assert_false(exists(dir));
    }
    scratch_destroy(&s); /* fails if something is left in it */
    assert_false(exists(s.dir));
}

static bool stop_at(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what;
    assert_true(done < total);
    return done < *(uint64_t *)user;
}

static void it_can_be_interrupted(void **state) {
    (void)state;
    scratch s = scratch_create();
    char dir[512];
    uint64_t stop = 100;
    snprintf(dir, sizeof dir, "%s/out", s.dir);
    refused(GOLDEN "pico-s1", dir, &(fr_synth_options){.progress = stop_at, .user = &stop, .shard_bytes = 100000},
            FR_INTERRUPTED);
    assert_false(exists(dir));
    stop = 10000;
    synth(GOLDEN "pico-s1", dir, &(fr_synth_options){.progress = stop_at, .user = &stop});
    remove_out(&s, "out");
    scratch_destroy(&s);
}

/* ---- The writer ---- */

static void the_writer_refuses_another_order(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_writer *w = NULL;
    fr_error error;
    float data[6] = {1, 2, 3, 4, 5, 6};
    assert_int_equal(fr_writer_create(s.dir, &(fr_writer_options){0}, &w, &error), FR_OK);
    assert_int_equal(fr_writer_start(w, &error), FR_ERROR_ARGUMENT); /* nothing to write */
    assert_int_equal(fr_writer_add(w, "a\"\\b", FR_F32, 2, (int64_t[]){2, 3}, false, &error), FR_OK);
    assert_int_equal(fr_writer_add(w, "bad\n", FR_F32, 1, (int64_t[]){1}, false, &error), FR_ERROR_ARGUMENT);
    assert_int_equal(fr_writer_add(w, "huge", FR_F32, 2, (int64_t[]){INT64_MAX, 2}, false, &error), FR_ERROR_ARGUMENT);
    assert_int_equal(fr_writer_put(w, data, &error), FR_ERROR_ARGUMENT); /* not started */
    assert_int_equal(fr_writer_start(w, &error), FR_OK);
    assert_int_equal(fr_writer_finish(w, NULL, &error), FR_ERROR_ARGUMENT); /* no data yet */
    assert_int_equal(fr_writer_put(w, data, &error), FR_OK);
    assert_int_equal(fr_writer_put(w, data, &error), FR_ERROR_ARGUMENT); /* one too many */
    assert_int_equal(fr_writer_finish(w, NULL, &error), FR_OK);
    fr_writer_destroy(w);
    fr_checkpoint *c = open_checkpoint(s.dir);
    assert_memory_equal(tensor_of(c, "a\"\\b")->data, data, sizeof data);
    fr_checkpoint_destroy(c);
    assert_int_equal(fr_writer_create(s.dir, &(fr_writer_options){.force = true}, &w, &error), FR_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(fr_writer_add(w, "a", FR_F32, 1, (int64_t[]){6}, false, &error), FR_OK);
    assert_int_equal(fr_writer_start(w, &error), FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "twice"));
    fr_writer_destroy(w);
    fr_writer_destroy(NULL);
    scratch_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_depend_on_the_seed_alone),
        cmocka_unit_test(tensors_do_not_depend_on_each_other),
        cmocka_unit_test(values_are_as_planned),
        cmocka_unit_test(experts_can_be_preferred),
        cmocka_unit_test(scales_of_the_ue8m0_kind_are_powers_of_two),
        cmocka_unit_test(it_writes_what_the_schema_says),
        cmocka_unit_test(shards_are_whole_and_aligned),
        cmocka_unit_test(config_is_changed_and_kept),
        cmocka_unit_test(fewer_layers_and_experts_fit),
        cmocka_unit_test(full_size_takes_no_room),
        cmocka_unit_test(a_sparse_checkpoint_opens_as_a_model),
        cmocka_unit_test(a_deep_model_stays_finite_and_even),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(directories_are_left_alone),
        cmocka_unit_test(failed_writes_leave_nothing),
        cmocka_unit_test(it_can_be_interrupted),
        cmocka_unit_test(the_writer_refuses_another_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
