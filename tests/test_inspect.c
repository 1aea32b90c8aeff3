#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forerun_checkpoint.h"
#include "model/schema.h"
#include "model/source.h"
#include "scratch.h"

#define GOLDEN FR_TEST_DIR "/golden/"

static fr_inspection *inspect(const char *path) {
    fr_inspection *inspection = NULL;
    fr_error error;
    if (fr_inspect(path, &inspection, &error) != FR_OK) fail_msg("%s", error.message);
    return inspection;
}

static void deepseek_v3_has_the_published_counts(void **state) {
    (void)state;
    fr_inspection *inspection = inspect(GOLDEN "deepseek-v3-config.json");
    const fr_parameters *p = fr_inspection_parameters(inspection);
    assert_int_equal(p->main_total, 671026419200);
    assert_int_equal(p->dense_mlp, 1189085184);
    assert_int_equal(p->moe_mlp, 656569547264);
    assert_int_equal(p->embedding, 129280ull * 7168);
    assert_int_equal(p->head, 129280ull * 7168);
    /* per layer: q_a, q_b, kv_a, kv_b, o, and the norms of the two latents */
    assert_int_equal(p->attention,
                     61ull * (1536 * 7168 + 128 * 192 * 1536 + 576 * 7168 + 128 * 256 * 512 + 7168 * 128 * 128 + 1536 + 512));
    assert_int_equal(p->main_total, p->embedding + p->head + p->attention + p->dense_mlp + p->moe_mlp + 61 * 2 * 7168 + 7168);
    assert_int_equal(p->main_activated, 36625618432); /* "37B" */
    /* published: 11.5B unique and 14B in all, counted without the eh_proj of 2 * 7168 * 7168 */
    assert_int_equal(p->mtp_unique, 11610068224);
    assert_int_equal((p->mtp_unique - 2ull * 7168 * 7168 + 50000000) / 100000000, 115);
    assert_int_equal(p->mtp_total, p->mtp_unique + p->embedding + p->head);
    assert_int_equal(p->mtp_activated, 1614779648);
    assert_int_equal(p->fp8_bytes, 688574839360); /* published: 688.6 GB */
    assert_int_equal(p->kv_bytes_per_token_bf16, 61 * 576 * 2);
    assert_int_equal(p->kv_bytes_per_token_f32, 61 * 576 * 4);
    assert_int_equal(p->mtp_kv_bytes_per_token_bf16, 576 * 2);
    assert_int_equal(fr_inspection_num_tensors(inspection), 0);
    assert_non_null(strstr(fr_inspection_config_json(inspection), "\"kv_lora_rank\": 512"));
    fr_inspection_destroy(inspection);
}

/* What is published, rounded: V3.2 671B, 37B activated, 14B for MTP; Kimi-K2 1T, 32B; GLM-5 744B, 40B; JoyAI-LLM-Flash 48B, 2.7B
 * without embedding and head; GLM-4.7-Flash 30B, 3B likewise; Moonlight 16B, 2.24B likewise; GigaChat3 10B, 1.8B with both. The
 * exact numbers were counted apart from this program, by the formulas of each network. */
static void public_configs_have_exact_counts(void **state) {
    static const struct {
        const char *name;
        uint64_t main_total, main_activated, attention, indexer, moe_mlp, mtp_total, mtp_unique, mtp_activated, kv, index,
            mtp_index;
    } models[] = {
        {"deepseek-v3.2", 671877944064, 37477143296, 11413547008, 851524864, 656569547264, 13477385728, 11624027648, 1628739072,
         70272, 15616, 256},
        {"kimi-k2", 1026408232448, 31687095808, 6168569856, 0, 1017493608960, 0, 0, 0, 70272, 0, 0},
        {"glm-5", 743911218432, 40833146112, 12871732224, 731008512, 727724870400, 9952920576, 9952920576, 1542816768, 89856,
         19968, 256},
        {"glm-5.2", 743377019904, 40298947584, 12871732224, 196809984, 727724870400, 9952920576, 9952920576, 1542816768, 89856,
         5376, 256},
        {"joyai-llm-flash", 48942542592, 3039555328, 1053900800, 0, 47314904832, 608317440, 78786560, 343552000, 46080, 0, 0},
        {"glm-4.7-flash", 29943393920, 3579571840, 1022683904, 0, 28223212416, 1278094656, 643706176, 394669376, 54144, 0, 0},
        {"moonlight-16b", 15960110208, 2579231872, 371602944, 0, 14848099968, 0, 0, 0, 31104, 0, 0},
        {"gigachat3-10b", 10672535616, 1628174400, 650064896, 0, 9587099200, 807215168, 413212736, 256319552, 29952, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[512];
        size_t num_notices;
        snprintf(path, sizeof path, FR_TEST_DIR "/data/configs/%s.json", models[i].name);
        fr_inspection *inspection = inspect(path);
        const fr_parameters *p = fr_inspection_parameters(inspection);
        assert_int_equal(p->main_total, models[i].main_total);
        assert_int_equal(p->main_activated, models[i].main_activated);
        assert_int_equal(p->attention, models[i].attention);
        assert_int_equal(p->indexer, models[i].indexer);
        assert_int_equal(p->moe_mlp, models[i].moe_mlp);
        assert_int_equal(p->mtp_total, models[i].mtp_total);
        assert_int_equal(p->mtp_unique, models[i].mtp_unique);
        assert_int_equal(p->mtp_activated, models[i].mtp_activated);
        assert_int_equal(p->kv_bytes_per_token_bf16, models[i].kv);
        assert_int_equal(p->index_bytes_per_token_bf16, models[i].index);
        assert_int_equal(p->mtp_index_bytes_per_token_bf16, models[i].mtp_index);
        assert_int_equal(p->mtp_kv_bytes_per_token_bf16, models[i].mtp_total ? 2 * 576 : 0);
        fr_inspection_notices(inspection, &num_notices);
        if (num_notices) fail_msg("%s: %zu notices", models[i].name, num_notices);
        fr_inspection_destroy(inspection);
    }
}

/* In a checkpoint in the original's layout, what the config implies is what the files hold, to the byte. */
static void counts_agree_with_files(void **state) {
    (void)state;
    static const struct {
        const char *dir;
        uint64_t bytes, tensors;
    } cases[] = {
        {GOLDEN "pico-s1", 1674072, 239},        {GOLDEN "pico-noqlora-s1", 1671624, 227},  {GOLDEN "nano-mtp-s1", 8552944, 619},
        {GOLDEN "pico-gigachat", 814792, 109},   {GOLDEN "pico-gigachat-fp8", 919856, 191}, {GOLDEN "pico-joyai", 843648, 109},
        {GOLDEN "pico-glm-flash", 1008160, 135}, {GOLDEN "pico-alldense", 269280, 27},      {GOLDEN "pico-kimi", 672744, 211},
        {GOLDEN "pico-v32", 1067496, 267},       {GOLDEN "pico-glm5", 843952, 229},         {GOLDEN "pico-glm52", 1033944, 307},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_inspection *inspection = inspect(cases[i].dir);
        const fr_parameters *p = fr_inspection_parameters(inspection);
        uint64_t bytes = 0, parameters = 0;
        assert_int_equal(fr_inspection_num_tensors(inspection), cases[i].tensors);
        for (size_t t = 0; t < cases[i].tensors; t++) {
            fr_tensor_info info;
            uint64_t elements = 1;
            fr_inspection_tensor(inspection, t, &info);
            for (int d = 0; d < info.rank; d++) elements *= (uint64_t)info.shape[d];
            bytes += info.bytes;
            if (!strstr(info.name, "weight_scale_inv")) parameters += elements;
        }
        assert_int_equal(bytes, cases[i].bytes);
        assert_int_equal(p->fp8_bytes, cases[i].bytes);
        assert_int_equal(p->main_total + p->mtp_total, parameters);
        fr_inspection_destroy(inspection);
    }
}

static void tensors_are_listed_in_order(void **state) {
    (void)state;
    fr_inspection *inspection = inspect(GOLDEN "nano-mtp-s1");
    fr_tensor_info info;
    fr_inspection_tensor(inspection, 0, &info);
    assert_string_equal(info.name, "lm_head.weight");
    assert_string_equal(info.dtype, "BF16");
    assert_int_equal(info.rank, 2);
    assert_int_equal(info.shape[0], 512);
    assert_int_equal(info.shape[1], 256);
    assert_int_equal(info.bytes, 512 * 256 * 2);
    assert_non_null(strstr(info.file, ".safetensors"));
    size_t nine = 0, ten = 0;
    for (size_t i = 0; i < fr_inspection_num_tensors(inspection); i++) {
        fr_inspection_tensor(inspection, i, &info);
        if (strcmp(info.name, "model.layers.1.mlp.experts.9.up_proj.weight") == 0) nine = i;
        if (strcmp(info.name, "model.layers.1.mlp.experts.10.up_proj.weight") == 0) ten = i;
    }
    assert_true(nine > 0 && ten > nine); /* by value, not by digit */
    fr_inspection_destroy(inspection);
}

static void an_mtp_module_that_the_files_lack_is_not_counted(void **state) {
    (void)state;
    scratch s = scratch_create();
    size_t length;
    char *config = scratch_read(GOLDEN "pico-s1/config.json", &length);
    scratch_write(&s, "config.json", config, length);
    free(config);
    static const char header[] =
        "{\"model.layers.2.input_layernorm.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
    char file[8 + sizeof header - 1 + 4] = {(char)(sizeof header - 1)};
    memcpy(file + 8, header, sizeof header - 1);
    scratch_write(&s, "model.safetensors", file, sizeof file);
    fr_inspection *inspection = inspect(s.dir);
    assert_int_equal(fr_inspection_parameters(inspection)->mtp_total, 0);
    assert_int_equal(fr_inspection_parameters(inspection)->mtp_kv_bytes_per_token_bf16, 0);
    assert_true(fr_inspection_parameters(inspection)->main_total > 0);
    fr_inspection_destroy(inspection);
    scratch_destroy(&s);
}

typedef struct seen {
    const fr_checkpoint *checkpoint;
    size_t tensors;
} seen;

static fr_status look(void *user, const fr_schema_tensor *t) {
    seen *s = user;
    char scale[256];
    int64_t shape[2];
    const fr_tensor *tensor;
    fr_error error;
    if (fr_checkpoint_get(s->checkpoint, t->name, fr_schema_dtypes(t->row->kind), t->rank, t->shape, &tensor, &error) != FR_OK)
        fail_msg("%s", error.message);
    s->tensors++;
    if (tensor->dtype == FR_F8_E4M3) {
        assert_int_equal(t->row->kind, FR_SCHEMA_LINEAR);
        assert_true(fr_schema_scale(t, scale, sizeof scale, shape));
        assert_int_equal(fr_checkpoint_get(s->checkpoint, scale, 1u << FR_F32, 2, shape, &tensor, &error), FR_OK);
        s->tensors++;
    }
    assert_int_equal(t->layer, fr_schema_layer_of(t->name));
    return FR_OK;
}

/* Every tensor of every reference checkpoint is in the schema, and the other way round. */
static void schema_is_what_checkpoints_hold(void **state) {
    (void)state;
    static const char *const dirs[] = {
        GOLDEN "pico-s1",       GOLDEN "pico-yarn-s1",   GOLDEN "pico-noqlora-s1", GOLDEN "pico-mtp-s1", GOLDEN "nano-mtp-s1",
        GOLDEN "pico-gigachat", GOLDEN "pico-glm-flash", GOLDEN "pico-v32",        GOLDEN "pico-glm5",   GOLDEN "pico-glm52"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        fr_config config;
        fr_checkpoint *checkpoint = NULL;
        fr_error error;
        assert_int_equal(fr_config_load(dirs[i], &config, NULL, &error), FR_OK);
        assert_int_equal(fr_checkpoint_open(dirs[i], &checkpoint, &error), FR_OK);
        fr_mtp_files mtp;
        fr_source_settle(&config, checkpoint, &mtp, NULL);
        assert_true(mtp.present && !mtp.own_embedding && !mtp.own_lm_head);
        assert_int_equal(config.num_nextn_predict_layers, 1);
        seen s = {.checkpoint = checkpoint};
        assert_int_equal(fr_schema_each(&config, look, &s), FR_OK);
        assert_int_equal(s.tensors, fr_checkpoint_count(checkpoint));
        fr_checkpoint_destroy(checkpoint);
    }
}

/* Of DeepSeek-V3 every rank has little more than its part, and together they have everything once: but for what all of them keep
 * whole, and blocks that two of them share. */
static void ranks_divide_the_weights(void **state) {
    fr_inspection *inspection;
    fr_memory_plan whole, part;
    fr_error error;
    const fr_session_options session = {.ctx = 4096};
    const fr_model_options options = {.weights = FR_WEIGHTS_COPY, .threads = 2, .memory_limit = UINT64_MAX / 2};
    (void)state;
    assert_int_equal(fr_inspect(FR_TEST_DIR "/golden/deepseek-v3-config.json", &inspection, &error), FR_OK);
    assert_int_equal(fr_plan_memory(inspection, &options, &session, &whole, &error), FR_OK);
    for (int ranks = 1; ranks <= 16; ranks *= 2) {
        uint64_t sum = 0;
        for (int i = 0; i < ranks; i++) {
            assert_int_equal(fr_plan_rank(inspection, &options, &session, i, ranks, &part, &error), FR_OK);
            assert_true((double)part.weight_bytes < (double)whole.weight_bytes * (1.0 / ranks + 0.008));
            assert_int_equal(part.session.kv_bytes, whole.session.kv_bytes);
            assert_true(part.private_bytes > part.weight_bytes);
            sum += part.weight_bytes;
        }
        assert_true(sum >= whole.weight_bytes && (ranks > 1 || sum == whole.weight_bytes));
        assert_true((double)(sum - whole.weight_bytes) <= 0.008 * (ranks - 1) * (double)whole.weight_bytes);
    }
    assert_int_equal(fr_plan_rank(inspection, &options, &session, 2, 2, &part, &error), FR_ERROR_ARGUMENT);
    assert_int_equal(fr_plan_rank(inspection, &options, &session, 0, 0, &part, &error), FR_ERROR_ARGUMENT);
    fr_inspection_destroy(inspection);
}

static fr_status stop_at_ten(void *user, const fr_schema_tensor *t) {
    (void)t;
    return ++*(int *)user == 10 ? FR_INTERRUPTED : FR_OK;
}

static void schema_walk_can_be_ended(void **state) {
    (void)state;
    fr_config config;
    int calls = 0;
    assert_int_equal(fr_config_load(GOLDEN "pico-s1", &config, NULL, NULL), FR_OK);
    assert_int_equal(fr_schema_each(&config, stop_at_ten, &calls), FR_INTERRUPTED);
    assert_int_equal(calls, 10);
}

static void a_name_tells_its_layer(void **state) {
    (void)state;
    assert_int_equal(fr_schema_layer_of("model.layers.61.eh_proj.weight"), 61);
    assert_int_equal(fr_schema_layer_of("model.layers.0.x"), 0);
    assert_int_equal(fr_schema_layer_of("model.layers.x"), -1);
    assert_int_equal(fr_schema_layer_of("model.layers.7"), -1);
    assert_int_equal(fr_schema_layer_of("model.norm.weight"), -1);
    assert_int_equal(fr_schema_layer_of("model.layers.99999999999999999999.x"), -1);
}

static void errors_name_the_path(void **state) {
    (void)state;
    fr_inspection *inspection = NULL;
    fr_error error;
    assert_int_equal(fr_inspect("/no/such/place", &inspection, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "/no/such/place"));
    assert_null(inspection);
    assert_int_equal(fr_inspect(FR_TEST_DIR, &inspection, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "config.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepseek_v3_has_the_published_counts),
        cmocka_unit_test(public_configs_have_exact_counts),
        cmocka_unit_test(counts_agree_with_files),
        cmocka_unit_test(tensors_are_listed_in_order),
        cmocka_unit_test(an_mtp_module_that_the_files_lack_is_not_counted),
        cmocka_unit_test(schema_is_what_checkpoints_hold),
        cmocka_unit_test(ranks_divide_the_weights),
        cmocka_unit_test(schema_walk_can_be_ended),
        cmocka_unit_test(a_name_tells_its_layer),
        cmocka_unit_test(errors_name_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
