/* What the files of a checkpoint make of its config: opening, inspecting and checking one agree, and each oddity is one notice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forerun_checkpoint.h"
#include "model/weights.h"
#include "scratch.h"

#define GOLDEN FR_TEST_DIR "/golden/"
#define INDEX "model.safetensors.index.json"

static fr_notices noticed;
static uint64_t problems;

static void take_notice(void *user, const fr_notice *notice) {
    (void)user;
    fr_notices_add(&noticed, notice->what, "%s", notice->why);
}

static void take_problem(void *user, const fr_problem *problem) {
    (void)user;
    (void)problem;
    problems++;
}

static void same_notices(const fr_notice *list, size_t count) {
    assert_int_equal(count, noticed.count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(list[i].what, noticed.list[i].what);
        assert_string_equal(list[i].why, noticed.list[i].why);
    }
}

/* Opens, inspects and checks a checkpoint, which all give the same notices; returns the model. */
static fr_model *open_three_ways(const char *dir) {
    fr_model *model;
    fr_inspection *inspection;
    fr_error error;
    size_t count;
    memset(&noticed, 0, sizeof noticed);
    problems = 0;
    if (fr_check(dir, 0, take_problem, take_notice, NULL, NULL, NULL, NULL, &error) != FR_OK) fail_msg("%s", error.message);
    if (fr_model_open(dir, NULL, &model, &error) != FR_OK) fail_msg("%s", error.message);
    if (fr_inspect(dir, &inspection, &error) != FR_OK) fail_msg("%s", error.message);
    const fr_notice *list = fr_model_notices(model, &count);
    same_notices(list, count);
    list = fr_inspection_notices(inspection, &count);
    same_notices(list, count);
    fr_inspection_destroy(inspection);
    return model;
}

static void one_notice(const char *what, const char *why) {
    assert_int_equal(noticed.count, 1);
    assert_string_equal(noticed.list[0].what, what);
    if (!strstr(noticed.list[0].why, why)) fail_msg("\"%s\" lacks \"%s\"", noticed.list[0].why, why);
}

/* Replaces every occurrence of `from` by `to`, of the same length. */
static void replace_all(const scratch *s, const char *file, const char *from, const char *to) {
    size_t length, times = 0;
    char *whole = scratch_read(scratch_path(s, file), &length), *at = whole;
    assert_int_equal(strlen(from), strlen(to));
    while ((at = memmem(at, length - (size_t)(at - whole), from, strlen(from)))) {
        memcpy(at, to, strlen(to));
        times++;
    }
    if (times) scratch_write(s, file, whole, length);
    free(whole);
}

static void rename_tensors(const scratch *s, const char *from, const char *to) {
    static const char *const files[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX};
    for (int f = 0; f < 3; f++) replace_all(s, files[f], from, to);
}

/* Replaces the first occurrence of a text in config.json by another one. */
static void edit_config(const scratch *s, const char *from, const char *to) {
    size_t length;
    char *whole = scratch_read(scratch_path(s, "config.json"), &length), *grown = malloc(length + strlen(to) + 1);
    assert_non_null(grown);
    char *at = memmem(whole, length, from, strlen(from));
    assert_non_null(at);
    size_t before = (size_t)(at - whole), behind = length - before - strlen(from);
    memcpy(grown, whole, before);
    memcpy(grown + before, to, strlen(to));
    memcpy(grown + before + strlen(to), at + strlen(from), behind);
    scratch_write(s, "config.json", grown, before + strlen(to) + behind);
    free(grown);
    free(whole);
}

static scratch copy_of(const char *golden) {
    scratch s = scratch_create();
    scratch_copy_from(&s, golden);
    return s;
}

/* With drafting on there is an error that says why; auto runs without. */
static void runs_without(const fr_model *model, const char *why) {
    fr_session *session;
    fr_error error;
    fr_model_info info;
    fr_model_get_info(model, &info);
    assert_false(info.has_mtp);
    const fr_session_options on = {.drafting = FR_DRAFTING_ON, .ctx = 16};
    assert_int_equal(fr_session_create(model, &on, &session, &error), FR_ERROR_UNSUPPORTED);
    if (!strstr(error.message, why)) fail_msg("\"%s\" lacks \"%s\"", error.message, why);
    assert_int_equal(fr_session_create(model, &(fr_session_options){.ctx = 16}, &session, &error), FR_OK);
    fr_session_destroy(session);
}

/* ---- The MTP module ---- */

static void a_module_that_is_announced_and_not_there_is_noticed(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    assert_int_equal(fr_synth(GOLDEN "pico-s1/config.json", s.dir,
                              &(fr_synth_options){.set = (const char *const[]){"num_nextn_predict_layers=0"}, .num_set = 1}, NULL,
                              &error),
                     FR_OK);
    replace_all(&s, "config.json", "\"num_nextn_predict_layers\": 0", "\"num_nextn_predict_layers\": 1");
    fr_model *model = open_three_ways(s.dir);
    one_notice("MTP module (layer 3)", "announces it (num_nextn_predict_layers 1), but no tensor of it is there");
    assert_int_equal(problems, 0);
    runs_without(model, "no tensor of it is there");
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_module_that_is_there_and_not_announced_is_left_out(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    replace_all(&s, "config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0");
    fr_model *model = open_three_ways(s.dir);
    one_notice("MTP module (layer 3)", "tensors of it are there, but config.json announces none");
    assert_int_equal(problems, 0);
    runs_without(model, "announces none");
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_part_of_a_module_is_of_no_use_and_the_first_missing_tensor_is_named(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    rename_tensors(&s, "model.layers.3.hnorm.weight", "model.layers.3.hNORM.weight");
    rename_tensors(&s, "model.layers.3.self_attn.o_proj.weight_scale_inv", "model.layers.3.self_attn.o_proj.weight_scale_xxx");
    fr_model *model = open_three_ways(s.dir);
    one_notice("MTP module (layer 3)", "tensor model.layers.3.hnorm.weight is missing");
    assert_int_equal(problems, 4); /* two are missing, two have names that nobody knows */
    runs_without(model, "tensor model.layers.3.hnorm.weight is missing");
    fr_model_destroy(model);
    rename_tensors(&s, "model.layers.3.hNORM.weight", "model.layers.3.hnorm.weight");
    model = open_three_ways(s.dir);
    one_notice("MTP module (layer 3)", "tensor model.layers.3.self_attn.o_proj.weight_scale_inv is missing");
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void of_several_modules_the_first_is_used(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error;
    assert_int_equal(fr_synth(GOLDEN "pico-s1/config.json", s.dir,
                              &(fr_synth_options){.set = (const char *const[]){"num_nextn_predict_layers=2"}, .num_set = 1}, NULL,
                              &error),
                     FR_OK);
    fr_model *model = open_three_ways(s.dir);
    one_notice("MTP module (layer 3)", "there are 2 modules: the first is used");
    assert_true(model->mtp.files.present);
    assert_int_equal(problems, 0);
    fr_model_destroy(model);
    scratch_destroy(&s);
    s = copy_of(GOLDEN "pico-s1");
    replace_all(&s, "config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 2");
    model = open_three_ways(s.dir);
    one_notice("MTP module (layer 3)", "announces 2 modules, but tensors of only 1 are there");
    assert_true(model->mtp.files.present);
    assert_int_equal(problems, 0);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_file_beside_the_index_counts_as_if_it_were_named(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-joyai");
    fr_model *model = open_three_ways(s.dir);
    one_notice("mtp-1-of-1.safetensors", "the index does not name it: its tensors count as if it did");
    assert_true(model->mtp.files.present && !model->mtp.layer.is_moe);
    assert_int_equal(problems, 0);
    fr_model_destroy(model);
    replace_all(&s, "config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0");
    model = open_three_ways(s.dir);
    one_notice("mtp-1-of-1.safetensors", "config.json announces no MTP module: left out");
    runs_without(model, "announces none");
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_file_beside_an_index_that_has_the_module_is_left_out(void **state) {
    (void)state;
    size_t length;
    scratch s = copy_of(GOLDEN "pico-gigachat");
    char *file = scratch_read(GOLDEN "pico-joyai/mtp-1-of-1.safetensors", &length);
    scratch_write(&s, "mtp.safetensors", file, length);
    free(file);
    fr_model *model = open_three_ways(s.dir);
    one_notice("mtp.safetensors", "the MTP module is elsewhere: left out");
    assert_true(model->mtp.files.present);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void an_embedding_and_head_are_shared_if_they_repeat_the_main_ones(void **state) {
    (void)state;
    fr_model *model = open_three_ways(GOLDEN "pico-gigachat");
    assert_int_equal(noticed.count, 0);
    assert_true(model->mtp.embed_tokens.w == model->embed_tokens.w && model->mtp.lm_head.w == model->lm_head.w);
    uint64_t shared = model->plan.weight_bytes;
    assert_true(fr_checkpoint_bytes(model->checkpoint) - shared > 2 * 320 * 80 * 2);
    fr_model_destroy(model);
    model = open_three_ways(GOLDEN "pico-gigachat-fp8");
    assert_int_equal(noticed.count, 0);
    assert_true(model->mtp.embed_tokens.w != model->embed_tokens.w && model->mtp.lm_head.w != model->lm_head.w);
    assert_true(model->draft_head.w == model->mtp.lm_head.w);
    fr_model_destroy(model);
}

/* One value of the head is enough. */
static void a_single_value_makes_a_head_the_modules_own(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-gigachat");
    const char *file = "model-00001-of-00002.safetensors";
    fr_safetensors st;
    long at = -1;
    for (int f = 0; f < 2 && at < 0; f++) {
        file = f ? "model-00002-of-00002.safetensors" : file;
        assert_int_equal(fr_safetensors_open(s.dir, file, 0, NULL, NULL, &st, NULL), FR_OK);
        for (size_t i = 0; i < st.count; i++)
            if (strcmp(st.tensors[i].name, "model.layers.3.shared_head.head.weight") == 0)
                at = (long)((const char *)st.tensors[i].data - (const char *)st.map) + 2 * (80 * 200 + 13);
        fr_safetensors_release(&st);
    }
    assert_true(at > 0);
    FILE *data = fopen(scratch_path(&s, file), "r+b");
    assert_non_null(data);
    assert_int_equal(fseek(data, at, SEEK_SET), 0);
    assert_int_equal(fwrite("\x11\x3f", 1, 2, data), 2);
    fclose(data);
    fr_model *model;
    assert_int_equal(fr_model_open(s.dir, NULL, &model, NULL), FR_OK);
    assert_true(model->mtp.files.own_lm_head && !model->mtp.files.own_embedding);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

/* A checkpoint that is all holes, with an embedding and LM head of 80 MiB. */
static scratch large_copies(void) {
    static const char *const set[] = {"hidden_size=64", "vocab_size=655360"};
    scratch s = scratch_create();
    fr_synth_options options = {.set = set, .num_set = 2, .sparse = true, .force = true};
    fr_error error;
    if (fr_synth(FR_TEST_DIR "/fuzz/tiny-config.json", s.dir, &options, NULL, &error) != FR_OK) fail_msg("%s", error.message);
    return s;
}

/* Writes into the hole of the module's LM head. */
static void change_head(const scratch *s, uint64_t at) {
    const char *file = "model-00001-of-00001.safetensors";
    fr_safetensors st;
    long offset = -1;
    assert_int_equal(fr_safetensors_open(s->dir, file, 0, NULL, NULL, &st, NULL), FR_OK);
    for (size_t i = 0; i < st.count; i++)
        if (strcmp(st.tensors[i].name, "model.layers.2.shared_head.head.weight") == 0)
            offset = (long)((const char *)st.tensors[i].data - (const char *)st.map) + (long)at;
    fr_safetensors_release(&st);
    FILE *data = fopen(scratch_path(s, file), "r+b");
    assert_non_null(data);
    assert_int_equal(fseek(data, offset, SEEK_SET), 0);
    assert_int_equal(fwrite("\x11\x3f", 1, 2, data), 2);
    fclose(data);
}

static fr_model *open_large(const scratch *s) {
    fr_model *model;
    fr_error error;
    memset(&noticed, 0, sizeof noticed);
    if (fr_model_open(s->dir, &(fr_model_options){.threads = 1}, &model, &error) != FR_OK) fail_msg("%s", error.message);
    size_t count;
    const fr_notice *list = fr_model_notices(model, &count);
    for (size_t i = 0; i < count; i++) take_notice(NULL, &list[i]);
    return model;
}

static void large_copies_are_compared_at_places_with_a_notice_and_by_check_as_a_whole(void **state) {
    (void)state;
    scratch s = large_copies();
    fr_error error;
    fr_model *model = open_large(&s);
    assert_false(model->mtp.files.own_lm_head || model->mtp.files.own_embedding);
    one_notice("MTP module", "160.00 MiB, is taken for the same: 256 places");
    fr_model_destroy(model);

    change_head(&s, 8192); /* between two places */
    model = open_large(&s);
    assert_false(model->mtp.files.own_lm_head);
    fr_model_destroy(model);
    memset(&noticed, 0, sizeof noticed);
    assert_int_equal(fr_check(s.dir, 1, NULL, take_notice, NULL, NULL, NULL, NULL, &error), FR_OK);
    one_notice("MTP module", "not quite the main model's");

    change_head(&s, 655360ull * 64 * 2 / 256 * 100); /* at one */
    model = open_large(&s);
    assert_true(model->mtp.files.own_lm_head && !model->mtp.files.own_embedding);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

/* ---- FP8 ---- */

static void fp8_tensors_without_a_quantization_config_are_noticed(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    replace_all(&s, "config.json", "\"quantization_config\"", "\"quantization_CONFIG\"");
    fr_model *model = open_three_ways(s.dir);
    one_notice("config.json", "there is no quantization_config, but model.layers.0.mlp.down_proj.weight and others are E4M3");
    assert_false(model->act_fp8);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_quantization_config_without_fp8_tensors_is_noticed(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-gigachat");
    edit_config(&s, "{", "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]},");
    fr_model_destroy(open_three_ways(s.dir));
    one_notice("config.json", "quantization_config says fp8, but no tensor is E4M3");
    scratch_destroy(&s);
}

static void a_scale_format_that_scales_do_not_have_is_noticed(void **state) {
    (void)state;
    scratch s = copy_of(GOLDEN "pico-s1");
    edit_config(&s, "\"quant_method\"", "\"scale_fmt\": \"ue8m0\", \"quant_method\"");
    fr_model_destroy(open_three_ways(s.dir));
    one_notice("config.json", "scale_fmt is ue8m0, but scales of model.layers.0.self_attn.q_a_proj.weight_scale_inv and others");
    scratch_destroy(&s);
    s = scratch_create();
    fr_error error;
    const char *const set[] = {"quantization_config.scale_fmt=\"ue8m0\""};
    if (fr_synth(GOLDEN "pico-s1/config.json", s.dir, &(fr_synth_options){.set = set, .num_set = 1}, NULL, &error) != FR_OK)
        fail_msg("%s", error.message);
    fr_model_destroy(open_three_ways(s.dir));
    assert_int_equal(noticed.count, 0);
    edit_config(&s, "scale_fmt", "scale_FMT");
    fr_model_destroy(open_three_ways(s.dir));
    one_notice("config.json", "scale_fmt is absent, but the first layer's scales are all powers of two");
    scratch_destroy(&s);
}

/* ---- Sparse attention ---- */

static void a_network_with_sparse_attention_is_whole(void **state) {
    static const char *const dirs[] = {GOLDEN "pico-v32", GOLDEN "pico-glm5", GOLDEN "pico-glm52"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        fr_model *model;
        fr_error error;
        uint64_t count;
        memset(&noticed, 0, sizeof noticed);
        assert_int_equal(fr_check(dirs[i], 0, take_problem, take_notice, NULL, NULL, NULL, &count, NULL), FR_OK);
        assert_int_equal(count, 0);
        assert_int_equal(noticed.count, i == 0); /* V3.2's scales */
        assert_int_equal(fr_model_open(dirs[i], NULL, &model, &error), FR_OK);
        fr_model_destroy(model);
    }
}

static void indexers_that_contradict_the_config_are_refused_with_their_layer(void **state) {
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"full\",\n    \"shared\"", "\"full\",\n    \"full\"", "layer 2 has no indexer in the files, and one in the config"},
        {"\"full\",\n    \"shared\",\n    \"full\"", "\"full\",\n    \"shared\",\n    \"shared\"",
         "layer 3 has an indexer in the files, and none in the config"},
    };
    (void)state;
    for (int i = 0; i < 2; i++) {
        scratch s = copy_of(GOLDEN "pico-glm52");
        fr_inspection *inspection;
        fr_error error;
        edit_config(&s, "\"index_topk_freq\": 2,", "");
        edit_config(&s, cases[i].from, cases[i].to);
        assert_int_equal(fr_inspect(s.dir, &inspection, &error), FR_ERROR_FORMAT);
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
        scratch_destroy(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_module_that_is_announced_and_not_there_is_noticed),
        cmocka_unit_test(a_module_that_is_there_and_not_announced_is_left_out),
        cmocka_unit_test(a_part_of_a_module_is_of_no_use_and_the_first_missing_tensor_is_named),
        cmocka_unit_test(of_several_modules_the_first_is_used),
        cmocka_unit_test(a_file_beside_the_index_counts_as_if_it_were_named),
        cmocka_unit_test(a_file_beside_an_index_that_has_the_module_is_left_out),
        cmocka_unit_test(an_embedding_and_head_are_shared_if_they_repeat_the_main_ones),
        cmocka_unit_test(a_single_value_makes_a_head_the_modules_own),
        cmocka_unit_test(large_copies_are_compared_at_places_with_a_notice_and_by_check_as_a_whole),
        cmocka_unit_test(fp8_tensors_without_a_quantization_config_are_noticed),
        cmocka_unit_test(a_quantization_config_without_fp8_tensors_is_noticed),
        cmocka_unit_test(a_scale_format_that_scales_do_not_have_is_noticed),
        cmocka_unit_test(a_network_with_sparse_attention_is_whole),
        cmocka_unit_test(indexers_that_contradict_the_config_are_refused_with_their_layer),
    };
    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
