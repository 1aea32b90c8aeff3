#include "study/result.h"

#include "core/memory.h"
#include "forerun_study.h"

fr_status fr_study_finish(fr_study_document *d, fr_study_result **out, fr_error *error) {
    fr_study_result *result = d->failed ? NULL : fr_alloc_zeroed(1, sizeof *result);
    *out = NULL;
    if (result) result->text = cJSON_Print(d->root);
    if (!result || !result->text) {
        fr_free(result);
        fr_study_discard(d);
        return fr_fail(error, FR_ERROR_MEMORY, "study: not enough for its document");
    }
    result->document = d->root;
    d->root = NULL;
    *out = result;
    return FR_OK;
}

const char *fr_study_json(const fr_study_result *result) {
    return result->text;
}

void fr_study_destroy(fr_study_result *result) {
    if (!result) return;
    cJSON_Delete(result->document);
    cJSON_free(result->text);
    fr_free(result);
}
