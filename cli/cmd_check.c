#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/shown.h"
#include "forerun_checkpoint.h"

typedef struct checking {
    const fr_cli_options *options;
    fr_cli_progress progress;
    cJSON *problems; /* with --json; otherwise each is printed as it is found */
} checking;

static void take_problem(void *user, const fr_problem *problem) {
    checking *run = user;
    const char *tensor = problem->tensor ? problem->tensor : "", *file = problem->file ? problem->file : "";
    if (run->options->json) {
        cJSON *item = fr_doc_object();
        fr_doc_text(item, "tensor", tensor);
        fr_doc_text(item, "file", file);
        fr_doc_text(item, "problem", problem->problem);
        fr_doc_add(run->problems, NULL, item);
        return;
    }
    fr_cli_progress_clear(&run->progress);
    fr_cli_print_shown(stdout, "%s%s%s%s%s", file, *file ? ": " : "", tensor, *tensor ? ": " : "", problem->problem);
}

int fr_cmd_check(const fr_cli_options *options) {
    checking run = {.options = options};
    fr_error error = {FR_OK, "", ""};
    uint64_t count = 0;
    const char *dir = fr_cli_model_dir(options);
    if (!dir) return FR_EXIT_FAILED;
    cJSON *document = fr_doc_object();
    fr_doc_text(document, "path", dir);
    run.problems = fr_doc_add_array(document, "problems");
    fr_cli_progress_init(&run.progress);
    fr_cli_interrupt_defer();
    fr_status status = fr_check(dir, take_problem, &run, fr_cli_progress_update, &run.progress, &count, &error);
    fr_cli_progress_clear(&run.progress);
    bool interrupted = status == FR_INTERRUPTED && fr_cli_interrupted();
    if (status != FR_OK && !interrupted) {
        cJSON_Delete(document);
        return fr_cli_failure(&error);
    }
    int code = interrupted ? FR_EXIT_INTERRUPTED : count ? FR_EXIT_NOT_OK : FR_EXIT_DONE;
    if (options->json) {
        fr_doc_bool(document, "ok", code == FR_EXIT_DONE);
        fr_doc_count(document, "num_problems", count);
        fr_doc_bool(document, "complete", !interrupted);
        fr_doc_print(document);
    } else {
        cJSON_Delete(document);
        if (interrupted)
            printf("%s: interrupted\n", dir);
        else if (count)
            printf("%s: %" PRIu64 " %s\n", dir, count, count == 1 ? "problem" : "problems");
        else
            printf("%s: ok\n", dir);
    }
    return fr_cli_flush(code);
}
