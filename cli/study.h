/* What the commands that run studies share. */
#ifndef FR_CLI_STUDY_H
#define FR_CLI_STUDY_H

#include "cli/cli.h"
#include "forerun_study.h"

/* Looks at the files that a study takes and writes, before it loads the model. The file of prompts: --prompts, or the model's own
 * prompts.jsonl; NULL with --prompt-tokens. Returns 0, or an exit code after printing that there is none, or what cannot be read
 * or written. *path is static or the options'. */
int fr_cli_study_prompts(const fr_cli_options *options, const char *model_dir, const char **path);
/* Where a study's document says that it comes from; points into the options and the runtime. */
fr_study_origin fr_cli_study_origin(const fr_cli_options *options, const fr_cli_runtime *runtime);
/* Writes what --html and --csv ask for from a document's text. Returns 0 or an exit code, printed. */
int fr_cli_study_write(const fr_cli_options *options, const char *json);

#endif
