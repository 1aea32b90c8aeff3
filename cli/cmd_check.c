#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/notice.h"
#include "cli/output.h"
#include "cli/shown.h"
#include "forerun_checkpoint.h"

typedef struct checking {
    const fr_cli_options *options;
    fr_cli_progress progress;
    fr_json_builder document;
    cJSON *problems; /* of the document, with --json; otherwise each is printed as it is found */
} checking;

static void take_problem(void *user, const fr_problem *problem) {
    checking *run = user;
    const char *tensor = problem->tensor ? problem->tensor : "", *file = problem->file ? problem->file : "";
    if (run->options->json) {
        cJSON *item = fr_json_add_object(&run->document, run->problems, NULL);
        fr_json_add_text(&run->document, item, "tensor", tensor);
        fr_json_add_text(&run->document, item, "file", file);
        fr_json_add_text(&run->document, item, "problem", problem->problem);
        return;
    }
    fr_cli_progress_clear(&run->progress);
    fr_cli_print_shown(stdout, "%s%s%s%s%s", file, *file ? ": " : "", tensor, *tensor ? ": " : "", problem->problem);
}

static void take_notice(void *user, const fr_notice *notice) {
    checking *run = user;
    fr_cli_progress_clear(&run->progress);
    fr_cli_notice(notice);
}

int fr_cmd_check(const fr_cli_options *options) {
    checking run = {.options = options};
    fr_error error = {0};
    uint64_t count = 0;
    const char *dir = fr_cli_model_dir(options, true);
    if (!dir) return FR_EXIT_FAILED;
    fr_json_builder *b = &run.document;
    fr_cli_json_begin(b);
    fr_json_add_text(b, b->root, "path", dir);
    run.problems = fr_json_add_array(b, b->root, "problems");
    fr_cli_progress_init(&run.progress);
    fr_cli_interrupt_defer();
    fr_status status = options->headers ? fr_check_headers(dir, take_problem, take_notice, &run, &count, &error)
                                        : fr_check(dir, options->threads, take_problem, take_notice, &run, fr_cli_progress_update,
                                                   &run.progress, &count, &error);
    fr_cli_progress_clear(&run.progress);
    bool interrupted = status == FR_INTERRUPTED && fr_cli_interrupted();
    if (status != FR_OK && !interrupted) {
        fr_json_discard(b);
        return fr_cli_failure(&error);
    }
    int code = interrupted ? FR_EXIT_INTERRUPTED : count ? FR_EXIT_NOT_OK : FR_EXIT_DONE;
    if (options->json) {
        fr_json_add_bool(b, b->root, "ok", code == FR_EXIT_DONE);
        fr_json_add_count(b, b->root, "num_problems", count);
        fr_json_add_bool(b, b->root, "complete", !interrupted);
        fr_json_add_bool(b, b->root, "values", !options->headers);
        fr_cli_json_print(b);
    } else {
        fr_json_discard(b);
        if (interrupted)
            fr_cli_print_shown(stdout, "%s: interrupted", dir);
        else if (count)
            fr_cli_print_shown(stdout, "%s: %" PRIu64 " %s", dir, count, count == 1 ? "problem" : "problems");
        else
            fr_cli_print_shown(stdout, "%s: ok%s", dir, options->headers ? ", values not read" : "");
    }
    return fr_cli_flush(code);
}
