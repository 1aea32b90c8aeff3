/* The whole of a tiny checkpoint, model.safetensors, beside its config.json: opened and run, whatever its weights are; checked;
 * and inspected. Sparse attention, experts and an MTP module, in FP8. */
#include "core/memory.h"
#include "forerun_checkpoint.h"
#include "fuzz.h"

static void run(void) {
    fr_model *model;
    fr_error error;
    if (!fuzz_worked(fr_model_open(fuzz_folder(), &(fr_model_options){.threads = 1}, &model, &error), &error)) return;
    fuzz_generate(model);
    fr_model_destroy(model);
}

static void look(void) {
    fr_inspection *inspection;
    fr_tensor_info info;
    fr_error error;
    uint64_t problems;
    if (fuzz_worked(fr_inspect(fuzz_folder(), &inspection, &error), &error)) {
        for (size_t i = 0; i < fr_inspection_num_tensors(inspection); i++) fr_inspection_tensor(inspection, i, &info);
        fr_inspection_destroy(inspection);
    }
    fuzz_worked(fr_check(fuzz_folder(), 1, NULL, NULL, NULL, NULL, NULL, &problems, &error), &error);
}

FUZZ_TARGET(checkpoint) {
    static int copied;
    if (!copied++) fuzz_copy("config.json", "fuzz/tiny-config.json");
    fuzz_write("model.safetensors", data, size);
    run();
    look();
    return 0;
}
