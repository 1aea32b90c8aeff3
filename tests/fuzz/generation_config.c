/* generation_config.json, beside a whole config.json. */
#include "core/checkpoint/config.h"
#include "fuzz.h"

FUZZ_TARGET(generation_config) {
    static int copied;
    fr_config config;
    fr_error error;
    fr_notices notices = {0};
    if (!copied++) fuzz_copy("config.json", "golden/pico-mtp-s1/config.json");
    fuzz_write("generation_config.json", data, size);
    fuzz_worked(fr_config_load(fuzz_folder(), &config, &notices, &error), &error);
    return 0;
}
