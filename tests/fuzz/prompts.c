/* prompts.jsonl, tokenized for a model. */
#include "study/prompts.h"

#include "fuzz.h"

FUZZ_TARGET(prompts) {
    fr_prompts prompts;
    fr_error error;
    const char *path = fuzz_write("prompts.jsonl", data, size);
    if (!fuzz_worked(fr_prompts_load(fuzz_model(), path, NULL, &prompts, &error), &error)) return 0;
    fr_prompts_limit(&prompts, 64);
    fr_prompts_release(&prompts);
    return 0;
}
