/* A document of `ab` as --compare gets it: before and after another one. */
#include <stdlib.h>
#include <string.h>

#include "forerun_study.h"
#include "fuzz.h"
#include "scratch.h"

FUZZ_TARGET(compare) {
    static char *other;
    size_t length;
    fr_error error;
    fr_study_result *result;
    if (!other) other = scratch_read(FR_TEST_DIR "/fuzz/corpus/compare/run", &length);
    char *text = malloc(size + 1);
    if (size) memcpy(text, data, size);
    text[size] = '\0';
    if (fuzz_worked(fr_ab_compare(text, other, &result, &error), &error)) fr_study_destroy(result);
    if (fuzz_worked(fr_ab_compare(other, text, &result, &error), &error)) fr_study_destroy(result);
    if (fuzz_worked(fr_ab_compare(text, text, &result, &error), &error)) fr_study_destroy(result);
    free(text);
    return 0;
}
