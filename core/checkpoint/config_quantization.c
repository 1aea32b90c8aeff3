/* What config.json, or a file beside it, says of quantized weights: FP8 in blocks of 128 x 128, or nothing. */
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/config_sections.h"
#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"

#define FORMATS                                                                                                                  \
    "forerun reads E4M3 in blocks of 128 x 128 (weight_scale_inv), BF16 and F32; take the weights as they were published in "    \
    "one of these"

static const struct {
    const char *method, *is;
} known[] = {
    {"awq", "4-bit integers"},
    {"gptq", "4-bit integers"},
    {"compressed-tensors", "mostly 4-bit integers or NVFP4"},
    {"modelopt", "NVFP4, or E4M3 with one scale a tensor"},
    {"fbgemm_fp8", "E4M3 with one scale a row"},
    {"mxfp4", "4-bit floats in blocks of 32"},
    {"bitsandbytes", "4- or 8-bit integers"},
};

static fr_status refuse_method(const fr_keys *k, const cJSON *method) {
    fr_status status = fr_keys_unsupported(k, "quant_method", "\"fp8\"");
    const char *is = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known && cJSON_IsString(method); i++)
        if (strcmp(known[i].method, method->valuestring) == 0) is = known[i].is;
    return is ? fr_hint(k->error, status, "%s is %s; " FORMATS, method->valuestring, is) : fr_hint(k->error, status, FORMATS);
}

static bool blocks_of_128(const cJSON *block) {
    const cJSON *item;
    if (!cJSON_IsArray(block) || cJSON_GetArraySize(block) != 2) return false;
    cJSON_ArrayForEach(item, block) {
        if (!cJSON_IsNumber(item) || item->valuedouble != 128) return false;
    }
    return true;
}

fr_status fr_config_quantization(const fr_keys *k, fr_config *c) {
    fr_place place;
    fr_keys q;
    FR_TRY(fr_keys_inside(k, "compression_config", &place, &q)); /* of older files of compressed-tensors */
    if (q.object) return refuse_method(&q, fr_json_find(q.object, "quant_method"));
    FR_TRY(fr_keys_inside(k, "quantization_config", &place, &q));
    if (!q.object) return FR_OK;
    const cJSON *method = fr_json_find(q.object, "quant_method");
    if (!cJSON_IsString(method) || strcmp(method->valuestring, "fp8") != 0) return refuse_method(&q, method);
    FR_TRY(fr_keys_only_string(&q, "fmt", "e4m3"));
    if (!blocks_of_128(fr_json_find(q.object, "weight_block_size")))
        return fr_keys_unsupported(&q, "weight_block_size", "[128, 128]");
    FR_TRY(fr_keys_only_string(&q, "activation_scheme", "dynamic"));
    FR_TRY(fr_keys_only_string(&q, "scale_fmt", "ue8m0"));
    c->fp8 = c->act_dynamic = true;
    c->act_ue8m0 = fr_json_find(q.object, "scale_fmt") != NULL;
    return FR_OK;
}

static fr_status refuse_file(const char *path, fr_error *error) {
    cJSON *json = NULL;
    FR_TRY(fr_json_load(path, 1u << 24, &json, error));
    const cJSON *method = fr_json_find(fr_json_find(json, "quantization"), "quant_algo");
    if (!method) method = fr_json_find(json, "quant_method");
    fr_status status = cJSON_IsString(method)
                           ? fr_fail_at(error, FR_ERROR_UNSUPPORTED, path,
                                        "weights are quantized as %.80s, which is not computed", method->valuestring)
                           : fr_fail_at(error, FR_ERROR_UNSUPPORTED, path, "it describes a quantization, but does not name it");
    cJSON_Delete(json);
    return fr_hint(error, status, FORMATS);
}

fr_status fr_config_refuse_beside(const char *dir, fr_error *error) {
    static const char *const names[] = {"hf_quant_config.json", "quantize_config.json",
                                        "quant_config.json"}; /* ModelOpt, GPTQ, AWQ */
    fr_status status = FR_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && status == FR_OK; i++) {
        char *path = fr_keys_path(dir, names[i], error);
        if (!path) return FR_ERROR_MEMORY;
        if (fr_is_there(path)) status = refuse_file(path, error);
        fr_free(path);
    }
    return status;
}
