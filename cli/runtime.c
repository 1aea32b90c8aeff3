#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

const char *fr_cli_model_dir(const fr_cli_options *options) {
    static const char *const demo[] = {
#ifdef FR_DEMO_MODEL_DIR
        FR_DEMO_MODEL_DIR,
#endif
#ifdef FR_INSTALL_DEMO_MODEL_DIR
        FR_INSTALL_DEMO_MODEL_DIR,
#endif
        NULL,
    };
    if (options->model) return options->model;
    for (int i = 0; demo[i]; i++) {
        struct stat about;
        if (stat(demo[i], &about) == 0 && S_ISDIR(about.st_mode)) return demo[i];
    }
    fr_cli_error(FR_EXIT_FAILED, "model: none was given, and the demo model is not installed%s%s",
                 demo[0] ? " in " : "", demo[0] ? demo[0] : "");
    fr_cli_hint("name a checkpoint's directory with -m DIR");
    return NULL;
}

int fr_cli_runtime_open(fr_cli_runtime *runtime, const fr_cli_options *options) {
    memset(runtime, 0, sizeof *runtime);
    runtime->dir = fr_cli_model_dir(options);
    if (!runtime->dir) return FR_EXIT_FAILED;
    fr_model_options model_options = {
        .threads = options->threads, .act = (fr_act)options->act, .isa = (fr_isa)options->isa,
        .draft_head = (fr_draft_head)options->draft_head};
    fr_error error = {FR_OK, "", ""};
    double start = fr_cli_seconds();
    if (fr_model_open(runtime->dir, &model_options, &runtime->model, &error) != FR_OK) {
        runtime->model = NULL;
        return fr_cli_failure(&error);
    }
    runtime->load_s = fr_cli_seconds() - start;
    fr_model_get_info(runtime->model, &runtime->info);
    return 0;
}

void fr_cli_runtime_close(fr_cli_runtime *runtime) {
    fr_model_destroy(runtime->model);
    runtime->model = NULL;
}

int fr_cli_depth(const fr_cli_options *options, const fr_model_info *info) {
    if (options->mtp == FR_MTP_OFF || !info->has_mtp) return 0;
    if (options->depth) return options->depth;
    return options->mtp == FR_MTP_ON ? 1 : 3;
}

fr_sampling fr_cli_sampling(const fr_cli_options *options) {
    return (fr_sampling){
        .temperature = (float)options->temperature,
        .top_k = options->top_k,
        .top_p = (float)options->top_p,
        .min_p = (float)options->min_p,
        .seed = options->seed,
        .verify = (fr_verify)options->verify,
    };
}
