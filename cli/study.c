#include "cli/study.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/ranks.h"
#include "core/new_file.h"

int fr_cli_study_prompts(const fr_cli_options *options, const char *model_dir, const char **path) {
    static char own[4096];
    *path = options->prompts;
    int code = fr_cli_check_writable(options->html);
    if (!code) code = fr_cli_check_writable(options->csv);
    if (code) return code;
    if (options->prompts && options->prompt_tokens.ids)
        return fr_cli_error(FR_EXIT_USAGE, "prompts: only one of --prompts and --prompt-tokens can be given");
    if (options->prompts) return fr_cli_check_readable(options->prompts);
    if (options->prompt_tokens.ids) return 0;
    snprintf(own, sizeof own, "%s/prompts.jsonl", model_dir);
    *path = own;
    if (fr_cli_share(access(own, R_OK)) == 0) return 0;
    fr_cli_error(FR_EXIT_USAGE, "prompts: none were given, and the model brings none (%s)", own);
    fr_cli_hint("name a file with --prompts FILE: lines of JSON with a \"prompt\", or one text");
    return FR_EXIT_USAGE;
}

fr_study_origin fr_cli_study_origin(const fr_cli_options *options, const fr_cli_runtime *runtime) {
    return (fr_study_origin){runtime->dir, options->arguments, options->num_arguments};
}

static int write_report(const char *path, const char *json, fr_status (*render)(const char *, char **, fr_error *)) {
    fr_error error = {0};
    char *text = NULL;
    if (!path || !fr_cli_is_first()) return 0;
    fr_status status = render(json, &text, &error);
    if (status == FR_OK) status = fr_replace_file(path, text, strlen(text), true, &error);
    fr_free(text);
    return status == FR_OK ? 0 : fr_cli_failure(&error);
}

int fr_cli_study_write(const fr_cli_options *options, const char *json) {
    int html = write_report(options->html, json, fr_study_html), csv = write_report(options->csv, json, fr_study_csv);
    return html ? html : csv;
}
