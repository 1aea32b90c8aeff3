/* config.json: read, and what inspect makes of it. */
#include "core/checkpoint/config.h"

#include "forerun_checkpoint.h"
#include "fuzz.h"

FUZZ_TARGET(config) {
    fr_config config;
    fr_error error;
    fr_notices notices = {0};
    fr_inspection *inspection;
    fr_memory_plan plan;
    int read = fuzz_worked(fr_config_parse((const char *)data, size, "config.json", &config, &notices, &error), &error);
    /* Names of all tensors are made, so that huge models only cost time. */
    if (!read || (int64_t)config.num_hidden_layers * (config.n_routed_experts + 8) > 20000) return 0;
    fr_config_hash(0, &config);
    const char *path = fuzz_write("config.json", data, size);
    if (!fuzz_worked(fr_inspect(path, &inspection, &error), &error)) return 0;
    fuzz_worked(fr_plan_memory(inspection, NULL, NULL, &plan, &error), &error);
    fr_inspection_destroy(inspection);
    return 0;
}
