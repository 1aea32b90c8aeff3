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
#define YARN_SAID                                                                                                                \
    "{\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 64, \"beta_fast\": 32, \"beta_slow\": 1}"
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
    assert_true(c.yarn.present && c.yarn.factor == 4 && c.yarn.mscale == 0 && c.yarn.mscale_all_dim == 0);
    assert_true(c.yarn.beta_fast == 32 && c.yarn.beta_slow == 1);
    c = parsed_with("rope_parameters", YARN(", \"rope_theta\": 77.0, \"mscale\": 0.5"));
    assert_true(c.yarn.present && c.yarn.mscale == 0.5f && c.rope_theta == 77);
    assert_true(parsed_with("rope_scaling", YARN(", \"attention_factor\": 1.25")).yarn.attention_factor == 1.25f);
    assert_true(parsed_with("rope_scaling", "{\"type\": \"deepseek_yarn\", \"factor\": 4}").yarn.present);
    c = parsed_with("rope_scaling", "{\"type\": \"yarn\", \"factor\": 4}");
    assert_int_equal(c.yarn.original_max_position_embeddings, c.max_position_embeddings);
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
        {"q_lora_rank", "0", "q_lora_rank: expected"},
        {"kv_lora_rank", "null", "kv_lora_rank: expected a whole number from 1 to 131072, found null"},
        {"qk_rope_head_dim", "7", "qk_rope_head_dim: expected an even number (RoPE turns pairs), found 7"},
        {"v_head_dim", "1e6", "v_head_dim: expected"},
        {"rope_theta", "0", "rope_theta: expected"},
        {"rope_scaling", "3", "rope_scaling: expected an object, found 3"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 0}",
         "c.json: rope_scaling: original_max_position_embeddings: expected"},
        {"qk_head_dim", "64", "qk_head_dim: expected qk_nope_head_dim + qk_rope_head_dim, which is 32, found 64"},
        {"mlp_layer_types", "[\"dense\", \"sparse\"]",
         "mlp_layer_types: expected a word for each of num_hidden_layers 3, found 2"},
        {"mlp_layer_types", "[\"dense\", \"sparse\", \"moe\"]",
         "mlp_layer_types: layer 2: expected \"sparse\" or \"dense\", found the string \"moe\""},
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
        {"rope_scaling", "{\"factor\": 4}", "c.json: rope_scaling: rope_type: only \"yarn\" beside a factor"},
        {"partial_rotary_factor", "0.5", "c.json: partial_rotary_factor: only 1 is supported, found 0.5"},
        {"rope_parameters", "{\"partial_rotary_factor\": 0.5}", "c.json: rope_parameters: partial_rotary_factor: only 1"},
        {"mlp_bias", "true", "c.json: mlp_bias: only false"},
        {"model_type", "\"deepseek_v4\"", "deepseek_v4 is not of the DeepSeek-V3 family: it is DeepSeek-V4"},
        {"model_type", "\"glm4_moe\"", "grouped-query attention"},
        {"model_type", "\"glm5_next\"", "GLM-5.3"},
        {"model_type", "\"kimi_k25\"", "Kimi-K2.5"},
        {"model_type", "\"kimi_k3\"", "Kimi-K3"},
        {"model_type", "\"kimi_linear\"", "linear attention"},
        {"model_type", "\"gigachat3_5\"", "GigaChat3.5"},
        {"model_type", "\"deepseek_v2\"", "softmax"},
        {"quantization_config", "{\"quant_method\": \"compressed-tensors\"}", "quant_method: only \"fp8\""},
        {"compression_config", "{\"quant_method\": \"compressed-tensors\"}", "compression_config: quant_method: only \"fp8\""},
        {"quantization_config", "{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\"}", "quant_method: only \"fp8\""},
        {"quantization_config", "{\"quant_method\": \"awq\"}", "c.json: quantization_config: quant_method: only \"fp8\""},
        {"quantization_config", "{}", "quant_method: only \"fp8\" is supported, found nothing"},
        {"quantization_config", "{\"quant_method\": \"fp8\"}", "weight_block_size: only [128, 128]"},
        {"quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [64, 128]}",
         "weight_block_size: only [128, 128]"},
        {"quantization_config", FP8(", \"fmt\": \"e5m2\""), "fmt: only e4m3"},
        {"quantization_config", FP8(", \"activation_scheme\": \"static\""), "activation_scheme: only dynamic"},
        {"quantization_config", FP8(", \"scale_fmt\": \"bf16\""), "scale_fmt: only ue8m0"},
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

static fr_notices noticed;

static void eos_ids_of_both_files_end_a_text(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_config config;
    fr_error error;
    scratch_copy_file(&s, "config.json", GOLDEN "pico-s1/config.json");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_OK);
    assert_int_equal(config.eos_token_ids[0], 1);
    scratch_write_text(&s, "generation_config.json", "{\"eos_token_id\": [7, 9], \"temperature\": 0.6}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_OK);
    assert_int_equal(config.num_eos_token_ids, 3);
    assert_int_equal(config.eos_token_ids[0], 1);
    assert_int_equal(config.eos_token_ids[1], 7);
    assert_int_equal(config.eos_token_ids[2], 9);
    scratch_write_text(&s, "generation_config.json", "{\"eos_token_id\": [9, 1, 4, 999]}");
    assert_int_equal(fr_config_load(s.dir, &config, &noticed, &error), FR_OK);
    assert_int_equal(config.num_eos_token_ids, 3);
    assert_string_equal(noticed.list[0].what, "generation_config.json");
    scratch_write_text(&s, "generation_config.json", "{\"do_sample\": false}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_OK);
    assert_int_equal(config.num_eos_token_ids, 1);
    scratch_write_text(&s, "generation_config.json", "{\"eos_token_id\": \"x\"}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "generation_config.json: eos_token_id: expected ids"));
    scratch_destroy(&s);
}

/* ---- Notices ---- */

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
    notice = notice_of("eos_token_id", "[7, 400, 401, 402]"); /* one notice, however many they are */
    assert_non_null(notice);
    assert_string_equal(notice->why, "eos_token_id 400 and 2 more are beyond vocab_size 320, and no tokens: left out");
}

static void a_model_type_that_nobody_knows_is_noticed(void **state) {
    (void)state;
    const fr_notice *notice = notice_of("model_type", "\"my_finetune\"");
    assert_non_null(notice);
    assert_string_equal(notice->why, "model_type my_finetune is not known: read as deepseek_v3, whose architecture it names");
    assert_null(notice_of("model_type", NULL)); /* its architecture says what it is */
    assert_null(notice_of("architectures", NULL));
}

static void what_was_assumed_is_noticed_where_the_config_is_refused(void **state) {
    (void)state;
    static const char *const edit[1][2] = {{"num_experts_per_tok", NULL}};
    fr_config config;
    fr_error error;
    assert_int_equal(parse_noticing(edit, 1, &config, &noticed, &error), FR_ERROR_FORMAT);
    assert_int_equal(noticed.count, 1);
    assert_string_equal(noticed.list[0].why, "keys that are absent are taken as deepseek_v3 has them: num_experts_per_tok 8");
}

static void any_number_of_ids_ends_a_text(void **state) {
    char list[1024] = "[0";
    (void)state;
    for (int i = 1; i < 100; i++) snprintf(list + strlen(list), sizeof list - strlen(list), ", %d", i);
    strcat(list, "]");
    fr_config c = parsed_with("eos_token_id", list);
    assert_int_equal(c.num_eos_token_ids, 100);
    assert_int_equal(c.eos_token_ids[99], 99);
}

static void spellings_that_disagree_are_noticed_with_the_one_that_counts(void **state) {
    (void)state;
    static const struct {
        const char *edits[2][2], *what, *why;
    } cases[] = {
        {{{"rope_theta", "5000"}, {"rope_parameters", "{\"rope_theta\": 77}"}},
         "c.json: rope_parameters",
         "rope_theta is 77 here and 5000 at the top level: the one here counts"},
        {{{"rope_scaling", YARN(", \"rope_type\": \"default\"")}, {"hidden_act", NULL}},
         "c.json: rope_scaling",
         "type is \"yarn\" and rope_type \"default\": rope_type counts"},
        {{{"rope_scaling", YARN_SAID}, {"rope_parameters", "{\"rope_type\": \"default\"}"}},
         "c.json",
         "rope_scaling and rope_parameters disagree: rope_scaling counts"},
        {{{"mlp_layer_types", "[\"dense\", \"dense\", \"sparse\"]"}, {"first_k_dense_replace", "1"}},
         "c.json",
         "mlp_layer_types and first_k_dense_replace 1 disagree: mlp_layer_types counts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_config config;
        fr_error error;
        if (parse_noticing(cases[i].edits, 2, &config, &noticed, &error) != FR_OK) fail_msg("%s", error.message);
        assert_int_equal(noticed.count, 1);
        assert_string_equal(noticed.list[0].what, cases[i].what);
        assert_string_equal(noticed.list[0].why, cases[i].why);
    }
    static const char *const agree[2][2] = {{"rope_scaling", YARN_SAID}, {"rope_parameters", YARN_SAID}};
    fr_config config;
    fr_error error;
    assert_int_equal(parse_noticing(agree, 2, &config, &noticed, &error), FR_OK);
    assert_int_equal(noticed.count, 0);
}

static void a_list_of_layer_types_counts_before_the_first_dense_ones(void **state) {
    (void)state;
    fr_config c = parsed_with("mlp_layer_types", "[\"sparse\", \"dense\", \"sparse\"]");
    assert_true(fr_config_layer_is_moe(&c, 0));
    assert_false(fr_config_layer_is_moe(&c, 1));
    assert_true(fr_config_layer_is_moe(&c, 2));
    assert_int_equal(fr_config_num_moe_layers(&c), 2);
}

static void without_experts_their_keys_mean_nothing(void **state) {
    (void)state;
    static const char *const counts[] = {"0", "null", "256"};
    for (size_t i = 0; i < 3; i++) {
        const char *const these[4][2] = {{"first_k_dense_replace", "3"},
                                         {"num_nextn_predict_layers", NULL},
                                         {"n_routed_experts", counts[i]},
                                         {"n_group", "77"}};
        fr_config c;
        fr_error error;
        if (parse_noticing(these, 4, &c, &noticed, &error) != FR_OK) fail_msg("%s", error.message);
        assert_int_equal(fr_config_num_moe_layers(&c), 0);
        assert_int_equal(c.n_routed_experts, 0);
        assert_int_equal(noticed.count, 0);
    }
}

/* What each member takes for keys that its file leaves out: family.md's table, by value. */
static void each_member_has_its_own_defaults(void **state) {
    static const struct {
        const char *type;
        int n_group, topk_group, per_tok, first_dense, q_lora, nope, v, heads, topk, bos;
        float eps, scaling;
        bool interleaved;
    } members[] = {
        {"deepseek_v3", 8, 4, 8, 3, 1536, 128, 128, 0, 0, 0, 1e-6f, 2.5f, false},
        {"kimi_k2", 8, 4, 8, 3, 1536, 128, 128, 0, 0, 0, 1e-6f, 2.5f, false},
        {"joyai_llm_flash", 8, 4, 8, 3, 1536, 128, 128, 0, 0, 0, 1e-6f, 2.5f, false},
        {"glm4_moe_lite", 1, 1, 4, 1, 768, 192, 256, 0, 0, -1, 1e-5f, 1.8f, false},
        {"deepseek_v32", 8, 4, 8, 3, 1536, 128, 128, 64, 2048, 0, 1e-6f, 2.5f, false},
        {"glm_moe_dsa", 1, 1, 8, 3, 2048, 192, 256, 32, 2048, -1, 1e-5f, 2.5f, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        char text[512];
        fr_config c;
        fr_error error;
        memset(&noticed, 0, sizeof noticed);
        snprintf(text, sizeof text,
                 "{\"model_type\": \"%s\", \"hidden_size\": 64, \"vocab_size\": 99, \"num_hidden_layers\": 5, "
                 "\"n_routed_experts\": 64, "
                 "\"max_position_embeddings\": 99, \"intermediate_size\": 64, \"moe_intermediate_size\": 8, "
                 "\"num_attention_heads\": 2}",
                 members[i].type);
        if (fr_config_parse(text, strlen(text), "c.json", &c, &noticed, &error) != FR_OK) fail_msg("%s", error.message);
        assert_string_equal(c.model_type, members[i].type);
        assert_int_equal(c.n_group, members[i].n_group);
        assert_int_equal(c.topk_group, members[i].topk_group);
        assert_int_equal(c.num_experts_per_tok, members[i].per_tok);
        assert_int_equal(c.n_shared_experts, 1);
        assert_int_equal(c.first_k_dense_replace, members[i].first_dense);
        assert_int_equal(c.q_lora_rank, members[i].q_lora);
        assert_int_equal(c.kv_lora_rank, 512);
        assert_int_equal(c.qk_nope_head_dim, members[i].nope);
        assert_int_equal(c.qk_rope_head_dim, 64);
        assert_int_equal(c.v_head_dim, members[i].v);
        assert_int_equal(c.index_n_heads, members[i].heads);
        assert_int_equal(c.index_head_dim, members[i].heads ? 128 : 0);
        assert_int_equal(c.index_topk, members[i].topk);
        assert_int_equal(c.indexer_rope_interleave, members[i].interleaved);
        assert_int_equal(c.bos_token_id, members[i].bos);
        assert_true(c.rms_norm_eps == members[i].eps && c.routed_scaling_factor == members[i].scaling);
        assert_true(c.norm_topk_prob && c.rope_theta == 1e4f && c.num_nextn_predict_layers == 0);
        assert_int_equal(noticed.count, 1);
        assert_non_null(strstr(noticed.list[0].why, members[i].type));
        assert_non_null(strstr(noticed.list[0].why, "q_lora_rank "));
        assert_int_equal(strstr(noticed.list[0].why, "index_topk 2048") != NULL, members[i].topk > 0);
    }
}

/* ---- Indexers ---- */

static fr_status parse_glm(const char *const (*edits)[2], size_t count, fr_config *out, fr_error *error) {
    static const char *const fixed[][2] = {
        {"model_type", "\"glm_moe_dsa\""}, {"num_hidden_layers", "9"}, {"index_topk", "16"},
        {"index_head_dim", "16"},          {"index_n_heads", "4"},     {"indexer_rope_interleave", "true"},
        {"first_k_dense_replace", "1"}};
    enum { FIXED = sizeof fixed / sizeof *fixed };
    const char *all[FIXED + 4][2];
    memcpy(all, fixed, sizeof fixed);
    for (size_t i = 0; i < count; i++) {
        all[FIXED + i][0] = edits[i][0];
        all[FIXED + i][1] = edits[i][1];
    }
    return parse_noticing((const char *const(*)[2])all, FIXED + count, out, &noticed, error);
}

static void check_full(const char *const (*edits)[2], size_t count, const char *full, const char *notice) {
    fr_config c;
    fr_error error;
    if (parse_glm(edits, count, &c, &error) != FR_OK) fail_msg("%s", error.message);
    for (int i = 0; i < 9; i++) assert_int_equal(fr_config_layer_has_indexer(&c, i), full[i] == 'F');
    assert_true(fr_config_layer_has_indexer(&c, 9)); /* an MTP module's */
    assert_int_equal(noticed.count, notice != NULL);
    if (notice) assert_string_equal(noticed.list[0].why, notice);
}

#define TYPES "[\"full\",\"full\",\"shared\",\"full\",\"shared\",\"full\",\"shared\",\"full\",\"shared\"]"

static void three_spellings_say_which_layers_have_an_indexer(void **state) {
    (void)state;
    static const char *const frequency[][2] = {{"index_topk_freq", "4"}, {"index_skip_topk_offset", "3"}};
    static const char *const pattern[][2] = {{"index_topk_pattern", "\"FFFSSSFSS\""}};
    static const char *const types[][2] = {{"indexer_types", TYPES}};
    static const char *const list[][2] = {{"index_topk_pattern", TYPES}};
    static const char *const two[][2] = {{"indexer_types", TYPES}, {"index_topk_freq", "2"}, {"index_skip_topk_offset", "2"}};
    static const char *const fight[][2] = {{"indexer_types", TYPES}, {"index_topk_pattern", "\"FFFSSSFSS\""}};
    check_full(NULL, 0, "FFFFFFFFF", NULL);
    check_full(frequency, 2, "FFFSSSFSS", NULL);
    check_full(pattern, 1, "FFFSSSFSS", NULL);
    check_full(types, 1, "FFSFSFSFS", NULL);
    check_full(list, 1, "FFSFSFSFS", NULL);
    check_full(two, 3, "FFSFSFSFS", NULL);
    check_full(fight, 2, "FFSFSFSFS", "indexer_types and index_topk_pattern disagree: indexer_types counts");
}

static void indexers_that_cannot_be_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *message;
        fr_status status;
    } cases[] = {
        {"index_topk_pattern", "\"SFFFFFFFF\"", "index_topk_pattern: layer 0 has no indexer", FR_ERROR_FORMAT},
        {"index_topk_pattern", "\"FFX\"", "index_topk_pattern: expected a letter, F or S", FR_ERROR_FORMAT},
        {"q_lora_rank", "null", "q_lora_rank: null, but the indexer reads", FR_ERROR_UNSUPPORTED},
        {"index_head_dim", "4", "index_head_dim: expected at least qk_rope_head_dim 8, found 4", FR_ERROR_FORMAT},
        {"index_topk", "0", "index_topk: expected", FR_ERROR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const edit[1][2] = {{cases[i].key, cases[i].value}};
        fr_config c;
        fr_error error;
        assert_int_equal(parse_glm(edit, 1, &c, &error), cases[i].status);
        if (!strstr(error.message, cases[i].message)) fail_msg("\"%s\" lacks \"%s\"", error.message, cases[i].message);
    }
}

static void a_quantization_beside_the_config_is_refused_by_its_name(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_config config;
    fr_error error;
    scratch_copy_file(&s, "config.json", GOLDEN "pico-s1/config.json");
    scratch_write_text(&s, "hf_quant_config.json", "{\"quantization\": {\"quant_algo\": \"NVFP4\"}}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "hf_quant_config.json: weights are quantized as NVFP4"));
    assert_non_null(strstr(error.hint, "BF16"));
    scratch_write_text(&s, "hf_quant_config.json", "{\"quantization\": {\"quant_algo\": null}}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "hf_quant_config.json: it describes a quantization, but does not name it"));
    unlink(scratch_path(&s, "hf_quant_config.json"));
    scratch_write_text(&s, "quantize_config.json", "{\"bits\": 4, \"quant_method\": \"gptq\"}");
    assert_int_equal(fr_config_load(s.dir, &config, NULL, &error), FR_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "quantize_config.json: weights are quantized as gptq"));
    scratch_destroy(&s);
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
        cmocka_unit_test(eos_ids_of_both_files_end_a_text),
        cmocka_unit_test(nothing_is_noticed_where_nothing_is_assumed),
        cmocka_unit_test(absent_keys_that_change_numbers_are_noticed_with_their_values),
        cmocka_unit_test(end_of_text_ids_beyond_the_vocabulary_are_left_out_with_a_notice),
        cmocka_unit_test(a_model_type_that_nobody_knows_is_noticed),
        cmocka_unit_test(what_was_assumed_is_noticed_where_the_config_is_refused),
        cmocka_unit_test(any_number_of_ids_ends_a_text),
        cmocka_unit_test(spellings_that_disagree_are_noticed_with_the_one_that_counts),
        cmocka_unit_test(a_list_of_layer_types_counts_before_the_first_dense_ones),
        cmocka_unit_test(without_experts_their_keys_mean_nothing),
        cmocka_unit_test(each_member_has_its_own_defaults),
        cmocka_unit_test(three_spellings_say_which_layers_have_an_indexer),
        cmocka_unit_test(indexers_that_cannot_be_are_refused),
        cmocka_unit_test(a_quantization_beside_the_config_is_refused_by_its_name),
        cmocka_unit_test(a_list_of_notices_keeps_each_once_and_says_when_it_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
