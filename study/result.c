#include "study/result.h"

#include "core/memory.h"
#include "forerun_study.h"

fr_status fr_study_finish(fr_json_builder *b, fr_study_result **out, fr_error *error) {
    fr_study_result *result = fr_alloc_zeroed(1, sizeof *result);
    *out = NULL;
    if (result) result->json = fr_json_print(b);
    fr_json_discard(b);
    if (!result || !result->json) {
        fr_free(result);
        return fr_fail(error, FR_ERROR_MEMORY, "study: not enough for its document");
    }
    *out = result;
    return FR_OK;
}

const char *fr_study_json(const fr_study_result *result) {
    return result->json;
}

void fr_study_destroy(fr_study_result *result) {
    if (!result) return;
    cJSON_free(result->json);
    fr_free(result);
}
