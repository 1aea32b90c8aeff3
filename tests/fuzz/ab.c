/* A document of `ab` as --from gets it: its tables, page and CSV. */
#include "cli/cli.h"
#include "core/memory.h"
#include "fuzz.h"

FUZZ_TARGET(ab) {
    char html[256], csv[256];
    fuzz_silence();
    snprintf(html, sizeof html, "%s", fuzz_path("page.html"));
    snprintf(csv, sizeof csv, "%s", fuzz_path("table.csv"));
    fr_cli_options options = {.from = fuzz_write("run.json", data, size), .html = html, .csv = csv};
    fr_cmd_ab(&options);
    return 0;
}
