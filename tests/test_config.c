#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/checkpoint/config.h"
#include "core/json.h"
#include "scratch.h"

#define GOLDEN FR_TEST_DIR "/golden/"

static void the_published_config_is_read(void **state) {
    (void)state;
    size_t length;
    char *text = scratch_read(GOLDEN "deepseek-v3-config.json", &length);
    fr_config c;
    fr_error error;
    if (fr_config_parse(text, length, "c.json", &c, NULL, &error) != FR_OK) fail_msg("%s", error.message);
    free(text);
    assert_int_equal(c.hidden_size, 7168);
    assert_int_equal(c.vocab_size, 129280);
    assert_int_equal(c.num_hidden_layers, 61);
    assert_int_equal(c.num_nextn_predict_layers, 1);
    assert_int_equal(c.max_position_embeddings, 163840);
    assert_true(c.rms_norm_eps == 1e-6f);
    assert_false(c.tie_word_embeddings);
    assert_int_equal(c.num_attention_heads, 128);
    assert_int_equal(c.q_lora_rank, 1536);
    assert_int_equal(c.kv_lora_rank, 512);
    assert_int_equal(c.qk_nope_head_dim, 128);
    assert_int_equal(c.qk_rope_head_dim, 64);
    assert_int_equal(c.v_head_dim, 128);
    assert_true(c.rope_theta == 10000);
    assert_true(c.yarn.present);
    assert_true(c.yarn.factor == 40 && c.yarn.beta_fast == 32 && c.yarn.beta_slow == 1);
    assert_true(c.yarn.mscale == 1 && c.yarn.mscale_all_dim == 1);
    assert_int_equal(c.yarn.original_max_position_embeddings, 4096);
    assert_int_equal(c.intermediate_size, 18432);
    assert_int_equal(c.moe_intermediate_size, 2048);
    assert_int_equal(c.n_routed_experts, 256);
    assert_int_equal(c.n_shared_experts, 1);
    assert_int_equal(c.num_experts_per_tok, 8);
    assert_int_equal(c.n_group, 8);
    assert_int_equal(c.topk_group, 4);
    assert_int_equal(c.first_k_dense_replace, 3);
    assert_true(c.norm_topk_prob);
    assert_true(c.routed_scaling_factor == 2.5f);
    assert_true(c.fp8 && c.act_dynamic && !c.act_ue8m0);
    assert_int_equal(c.bos_token_id, 0);
    assert_int_equal(c.num_eos_token_ids, 1);
    assert_int_equal(c.eos_token_ids[0], 1);
    assert_false(fr_config_layer_is_moe(&c, 2));
    assert_true(fr_config_layer_is_moe(&c, 3));
    assert_true(fr_config_layer_is_moe(&c, 61));
    assert_int_equal(fr_config_num_moe_layers(&c), 58);
}

/* The golden pico config with some keys set (JSON text) or removed (NULL). */
static fr_status parse_noticing(const char *const (*edits)[2], size_t count, fr_config *out, fr_notices *notices,
                                fr_error *error) {
    cJSON *json = NULL;
    if (fr_json_load(GOLDEN "pico-s1/config.json", 1 << 20, &json, error) != FR_OK) fail_msg("%s", error->message);
    for (size_t i = 0; i < count; i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(json, edits[i][0]);
        if (edits[i][1]) cJSON_AddItemToObject(json, edits[i][0], cJSON_Parse(edits[i][1]));
    }
    char *text = cJSON_PrintUnformatted(json);
    if (notices) memset(notices, 0, sizeof *notices);
    fr_status status = fr_config_parse(text, strlen(text), "c.json", out, notices, error);
    cJSON_free(text);
    cJSON_Delete(json);
    return status;
}

static fr_status parse_with(const char *const (*edits)[2], size_t count, fr_config *out, fr_error *error) {
    return parse_noticing(edits, count, out, NULL, error);
}

static fr_config parsed_with(const char *key, const char *value) {
    const char *const edit[1][2] = {{key, value}};
    fr_config config;
    fr_error error;
    if (parse_with(edit, 1, &config, &error) != FR_OK) fail_msg("%s", error.message);
    return config;
}

#define YARN(more) "{\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 64" more "}"
#define FP8(more) "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]" more "}"

static void what_conversions_write_is_accepted(void **state) {
    (void)state;
    assert_int_equal(parsed_with("q_lora_rank", "null").q_lora_rank, 0);
    assert_int_equal(parsed_with("hidden_size", "160.0").hidden_size, 160);
    assert_int_equal(parsed_with("num_nextn_predict_layers", NULL).num_nextn_predict_layers, 0);
    assert_int_equal(parsed_with("num_nextn_predict_layers", "2").num_nextn_predict_layers, 2);
    assert_int_equal(parsed_with("n_shared_experts", "null").n_shared_experts, 0);
    assert_int_equal(parsed_with("n_shared_experts", NULL).n_shared_experts, 1);
    assert_int_equal(parsed_with("num_key_value_heads", "1").num_attention_heads, 2); /* MLA has none: it is not read */
    assert_true(parsed_with("tie_word_embeddings", "true").tie_word_embeddings);
    assert_false(parsed_with("quantization_config", NULL).fp8);
    assert_false(parsed_with("quantization_config", "null").fp8);
    assert_true(parsed_with("quantization_config", FP8(", \"scale_fmt\": \"ue8m0\"")).act_ue8m0);
    assert_true(parsed_with("rope_theta", "50000.5").rope_theta == 50000.5f);
    assert_true(parsed_with("routed_scaling_factor", NULL).routed_scaling_factor == 2.5f);
    assert_true(parsed_with("model_type", "\"derived\"").hidden_size == 160); /* architectures still says it */
    /* RoPE scaling: none, none by name, YaRN under either key, everything in rope_parameters */
    assert_false(parsed_with("rope_scaling", "null").yarn.present);
    assert_false(parsed_with("rope_scaling", "{\"rope_type\": \"default\"}").yarn.present);
    fr_config c =
        parsed_with("rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 64}");
    assert_true(c.yarn.present && c.yarn.factor == 4 && c.yarn.mscale == 1 && c.yarn.mscale_all_dim == 0);
    assert_true(c.yarn.beta_fast == 32 && c.yarn.beta_slow == 1);
    c = parsed_with("rope_parameters", YARN(", \"rope_theta\": 77.0, \"mscale\": 0.5"));
    assert_true(c.yarn.present && c.yarn.mscale == 0.5f && c.rope_theta == 77);
    /* tokens */
    assert_int_equal(parsed_with("bos_token_id", "null").bos_token_id, -1);
    assert_int_equal(parsed_with("bos_token_id", NULL).bos_token_id, 0);
    assert_int_equal(parsed_with("eos_token_id", "null").num_eos_token_ids, 0);
    c = parsed_with("eos_token_id", "[5, 319]");
    assert_int_equal(c.num_eos_token_ids, 2);
    assert_int_equal(c.eos_token_ids[1], 319);
}

static void moe_layers_may_alternate(void **state) {
    (void)state;
    fr_config c = parsed_with("moe_layer_freq", "2"); /* layers 0 1 2, the first dense */
    assert_false(fr_config_layer_is_moe(&c, 1));
    assert_true(fr_config_layer_is_moe(&c, 2));
    assert_int_equal(fr_config_num_moe_layers(&c), 1);
}

static void values_out_of_range_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *message;
    } cases[] = {
        {"hidden_size", NULL, "c.json: hidden_size: expected a whole number from 1 to 131072, found nothing"},
        {"hidden_size", "0", "hidden_size: expected a whole number from 1"},
        {"hidden_size", "-160", "found -160"},
        {"hidden_size", "160.5", "found 160.5"},
        {"hidden_size", "\"160\"", "found the string \"160\""},
        {"hidden_size", "1e300", "hidden_size: expected"},
        {"hidden_size", "4294967456", "hidden_size: expected"},
        {"vocab_size", "1e9", "vocab_size: expected"},
        {"num_hidden_layers", "100000", "num_hidden_layers: expected"},
        {"num_nextn_predict_layers", "-1", "num_nextn_predict_layers: expected"},
        {"max_position_embeddings", "0", "max_position_embeddings: expected"},
        {"rms_norm_eps", "-1e-6", "rms_norm_eps: expected a number from 0 to 1, found -"},
        {"tie_word_embeddings", "1", "tie_word_embeddings: expected true or false, found 1"},
        {"num_attention_heads", "0", "num_attention_heads: expected"},
        {"q_lora_rank", NULL, "q_lora_rank: expected"},
        {"q_lora_rank", "0", "q_lora_rank: expected"},
        {"kv_lora_rank", "null", "kv_lora_rank: expected a whole number from 1 to 131072, found null"},
        {"qk_rope_head_dim", "7", "qk_rope_head_dim: expected an even number (RoPE turns pairs), found 7"},
        {"v_head_dim", "1e6", "v_head_dim: expected"},
        {"rope_theta", "0", "rope_theta: expected"},
        {"rope_scaling", "3", "rope_scaling: expected an object, found 3"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4}",
         "c.json: rope_scaling: original_max_position_embeddings: expected"},
        {"rope_scaling", "{\"type\": \"yarn\", \"original_max_position_embeddings\": 64}", "rope_scaling: factor: expected"},
        {"rope_scaling", YARN(", \"factor\": 5"), "c.json: rope_scaling: the key \"factor\" is there twice"},
        {"rope_scaling", YARN(", \"beta_fast\": \"x\""), "beta_fast: expected"},
        {"intermediate_size", "0", "intermediate_size: expected"},
        {"moe_intermediate_size", NULL, "moe_intermediate_size: expected"},
        {"n_routed_experts", "0", "n_routed_experts: expected"},
        {"n_group", "3", "n_group: 3 groups do not divide n_routed_experts 8"},
        {"n_group", "8", "n_group: 8 groups of one expert"},
        {"topk_group", "5", "topk_group: expected at most n_group 4, found 5"},
        {"num_experts_per_tok", "5", "num_experts_per_tok: expected at most the 4 experts of 2 groups, found 5"},
        {"moe_layer_freq", "0", "moe_layer_freq: expected"},
        {"moe_layer_freq", "[0, 1, 1]", "moe_layer_freq: expected a whole number from 1 to 1024, found an array of 3"},
        {"first_k_dense_replace", "-1", "first_k_dense_replace: expected"},
        {"routed_scaling_factor", "1e30", "routed_scaling_factor: expected"},
        {"norm_topk_prob", "\"yes\"", "norm_topk_prob: expected true or false"},
        {"quantization_config", "[]", "quantization_config: expected an object"},
        {"bos_token_id", "320", "bos_token_id: expected a whole number from 0 to 319, found 320"},
        {"eos_token_id", "[1, -1]", "eos_token_id: expected ids of tokens, found -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const edit[1][2] = {{cases[i].key, cases[i].value}};
        fr_config config;
        fr_error error = {0};
        if (parse_with(edit, 1, &config, &error) != FR_ERROR_FORMAT) fail_msg("%s = %s", cases[i].key, cases[i].value);
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
    }
}

static void what_is_not_computed_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *message;
    } cases[] = {
        {"hidden_act", "\"gelu\"", "c.json: hidden_act: only silu is supported, found the string \"gelu\""},
        {"scoring_func", "\"softmax\"", "scoring_func: only sigmoid"},
        {"topk_method", "\"greedy\"", "topk_method: only noaux_tc"},
        {"attention_bias", "true", "attention_bias: only false is supported, found true"},
        {"rope_interleave", "false", "rope_interleave: only true"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}", "c.json: rope_scaling: type: only \"yarn\""},
        {"rope_scaling", "{\"rope_type\": \"llama3\"}", "rope_type: only \"yarn\""},
        {"rope_scaling", YARN(", \"attention_factor\": 1.2"), "attention_factor: only its absence"},
        {"quantization_config", "{\"quant_method\": \"awq\"}", "c.json: quantization_config: quant_method: only \"fp8\""},
        {"quantization_config", "{}", "quant_method: only \"fp8\" is supported, found nothing"},
        {"quantization_config", "{\"quant_method\": \"fp8\"}", "weight_block_size: only [128, 128]"},
        {"quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [64, 128]}",
         "weight_block_size: only [128, 128]"},
        {"quantization_config", FP8(", \"fmt\": \"e5m2\""), "fmt: only e4m3"},
        {"quantization_config", FP8(", \"activation_scheme\": \"static\""), "activation_scheme: only dynamic"},
        {"quantization_config", FP8(", \"scale_fmt\": \"bf16\""), "scale_fmt: only ue8m0"},
        {"eos_token_id", "[1,2,3,4,5,6,7,8,9]", "eos_token_id: 9 ids, at most 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const edit[1][2] = {{cases[i].key, cases[i].value}};
        fr_config config;
        fr_error error = {0};
        if (parse_with(edit, 1, &config, &error) != FR_ERROR_UNSUPPORTED) fail_msg("%s = %s", cases[i].key, cases[i].value);
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
        if (!strstr(error.where, cases[i].key) || strstr(fr_error_what(&error), cases[i].key))
            fail_msg("\"%s\" at \"%s\"", error.message, error.where);
    }
    static const char *const other[2][2] = {{"model_type", "\"llama\""}, {"architectures", "[\"LlamaForCausalLM\"]"}};
    fr_config config;
    fr_error error;
    assert_int_equal(parse_with(other, 2, &config, &error), FR_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "model_type: only the DeepSeek-V3 family"));
}

static void files_that_are_no_config_are_refused(void **state) {
    (void)state;
    fr_config config;
    fr_error error;
    assert_int_equal(fr_config_parse("[]", 2, "c.json", &config, NULL, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "c.json: expected a JSON object, found an array of 0");
    assert_int_equal(fr_config_parse("", 0, "c.json", &config, NULL, &error), FR_ERROR_FORMAT);
    const char *twice = "{\"hidden_size\": 1, \"hidden_size\": 2}";
    assert_int_equal(fr_config_parse(twice, strlen(twice), "c.json", &config, NULL, &error), FR_ERROR_FORMAT);
    assert_string_equal(error.message, "c.json: the key \"hidden_size\" is there twice");
    assert_int_equal(fr_config_load("/no/such/place", &config, NULL, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "/no/such/place/config.json"));
}

static void generation_config_decides_on_eos(void **state) {
    (void)state;
    scratch s = scratch_create();
    size_t length;
    fr_config config;
    fr_error error;
    char *text = scratch_read(GOLDEN "pico-s1/config.json", &length);
    scratch_write(&s, "config.json", text, length);
    free(text);
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_OK);
    assert_int_equal(config.eos_token_ids[0], 1);
    scratch_write_text(&s, "generation_config.json", "{\"eos_token_id\": [7, 9], \"temperature\": 0.6}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_OK);
    assert_int_equal(config.num_eos_token_ids, 2);
    assert_int_equal(config.eos_token_ids[0], 7);
    scratch_write_text(&s, "generation_config.json", "{\"do_sample\": false}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_OK);
    assert_int_equal(config.num_eos_token_ids, 1);
    scratch_write_text(&s, "generation_config.json", "{\"eos_token_id\": \"x\"}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "generation_config.json: eos_token_id: expected ids"));
    scratch_destroy(&s);
}

/* ---- Notices ---- */

static fr_notices noticed;

/* Parses the golden pico config with a key set or removed, and returns the only notice; NULL: there is none. */
static const fr_notice *notice_of(const char *key, const char *value) {
    const char *const edit[1][2] = {{key, value}};
    fr_config config;
    fr_error error;
    if (parse_noticing(edit, 1, &config, &noticed, &error) != FR_OK) fail_msg("%s", error.message);
    assert_true(noticed.count < 2);
    return noticed.count ? &noticed.list[0] : NULL;
}

static void nothing_is_noticed_where_nothing_is_assumed(void **state) {
    (void)state;
    assert_null(notice_of("hidden_act", "\"silu\""));
    assert_null(notice_of("num_nextn_predict_layers", NULL)); /* 0 is what its absence means */
    assert_null(notice_of("eos_token_id", "[3, 5]"));
    assert_null(notice_of("bos_token_id", NULL));
}

static void absent_keys_that_change_numbers_are_noticed_with_their_values(void **state) {
    (void)state;
    static const char *const edits[3][2] = {{"n_group", NULL}, {"routed_scaling_factor", NULL}, {"n_routed_experts", "16"}};
    fr_config config;
    fr_error error;
    assert_int_equal(parse_noticing(edits, 3, &config, &noticed, &error), FR_OK);
    assert_int_equal(noticed.count, 1);
    assert_string_equal(noticed.list[0].what, "c.json");
    assert_string_equal(noticed.list[0].why,
                        "keys that are absent are taken as deepseek_v3 has them: n_group 8, routed_scaling_factor 2.5");
    static const char *const keys[] = {"rms_norm_eps", "rope_theta", "n_shared_experts", "norm_topk_prob",
                                       "first_k_dense_replace"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const fr_notice *notice = notice_of(keys[i], NULL);
        if (!notice || !strstr(notice->why, keys[i])) fail_msg("%s: %s", keys[i], notice ? notice->why : "none");
    }
}

static void end_of_text_ids_beyond_the_vocabulary_are_left_out_with_a_notice(void **state) {
    (void)state;
    fr_config c = parsed_with("eos_token_id", "[7, 320, 9]");
    assert_int_equal(c.num_eos_token_ids, 2);
    assert_int_equal(c.eos_token_ids[1], 9);
    const fr_notice *notice = notice_of("eos_token_id", "[7, 320, 9]");
    assert_non_null(notice);
    assert_string_equal(notice->why, "eos_token_id 320 is beyond vocab_size 320, and no token: left out");
}

static void a_list_of_notices_keeps_each_once_and_says_when_it_is_full(void **state) {
    (void)state;
    fr_notices list = {.count = 0};
    fr_notices_add(NULL, "a", "nobody wants to know");
    for (int i = 0; i < 2 * FR_MAX_NOTICES; i++) fr_notices_add(&list, "a", "%d", i / 2);
    assert_int_equal(list.count, FR_MAX_NOTICES);
    assert_string_equal(list.list[FR_MAX_NOTICES - 1].what, "a");
    fr_notices_add(&list, "b", "one more");
    assert_int_equal(list.count, FR_MAX_NOTICES);
    assert_string_equal(list.list[FR_MAX_NOTICES - 1].what, "notices");
    assert_string_equal(list.list[0].why, "0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_config_is_read),
        cmocka_unit_test(what_conversions_write_is_accepted),
        cmocka_unit_test(moe_layers_may_alternate),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(what_is_not_computed_is_refused),
        cmocka_unit_test(files_that_are_no_config_are_refused),
        cmocka_unit_test(generation_config_decides_on_eos),
        cmocka_unit_test(nothing_is_noticed_where_nothing_is_assumed),
        cmocka_unit_test(absent_keys_that_change_numbers_are_noticed_with_their_values),
        cmocka_unit_test(end_of_text_ids_beyond_the_vocabulary_are_left_out_with_a_notice),
        cmocka_unit_test(a_list_of_notices_keeps_each_once_and_says_when_it_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
