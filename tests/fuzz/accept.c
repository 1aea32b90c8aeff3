/* A document of `accept`: its page and CSV. */
#include <stdlib.h>
#include <string.h>

#include "forerun_study.h"
#include "fuzz.h"

FUZZ_TARGET(accept) {
    fr_error error;
    char *out, *text = malloc(size + 1);
    if (size) memcpy(text, data, size);
    text[size] = '\0';
    if (fuzz_worked(fr_study_html(text, &out, &error), &error)) fr_free(out);
    if (fuzz_worked(fr_study_csv(text, &out, &error), &error)) fr_free(out);
    free(text);
    return 0;
}
