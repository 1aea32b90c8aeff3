/* The commands, and what they share: the model and session that the options ask for. */
#ifndef FR_CLI_CLI_H
#define FR_CLI_CLI_H

#include "cli/access.h"
#include "cli/message.h"
#include "cli/options.h"
#include "cli/progress.h"

/* Each runs one command with its parsed options and returns the exit code. */
int fr_cmd_generate(const fr_cli_options *options);
int fr_cmd_chat(const fr_cli_options *options);
int fr_cmd_score(const fr_cli_options *options);
int fr_cmd_inspect(const fr_cli_options *options);
int fr_cmd_check(const fr_cli_options *options);
int fr_cmd_tokenize(const fr_cli_options *options);
int fr_cmd_synth(const fr_cli_options *options);
int fr_cmd_quantize(const fr_cli_options *options);
int fr_cmd_bench(const fr_cli_options *options);
int fr_cmd_accept(const fr_cli_options *options);
int fr_cmd_ab(const fr_cli_options *options);

/* The directory of --model as it was given (or the snapshot in it, with a note), or of the demo model, relative where it lies
 * below the working directory; NULL, printed, when there is neither. weights: whether it must have weights. */
const char *fr_cli_model_dir(const fr_cli_options *options, bool weights);

typedef struct fr_cli_runtime {
    const char *dir;
    fr_model *model;
    fr_model_info info;
    double load_s;
    fr_cli_progress progress; /* of loading */
} fr_cli_runtime;

/* Opens the model for the session that the options ask for, and prints on stderr what memory that takes. Returns 0, or an exit
 * code after printing why. fr_cli_runtime_close is for a runtime that failed to open, too. */
int fr_cli_runtime_open(fr_cli_runtime *runtime, const fr_cli_options *options);
/* The same for another session; NULL: for none, and nothing is printed. */
int fr_cli_runtime_open_for(fr_cli_runtime *runtime, const fr_cli_options *options, const fr_session_options *session);
/* The same with the tokenizer alone, which needs no weights. */
int fr_cli_runtime_open_tokenizer(fr_cli_runtime *runtime, const fr_cli_options *options);
/* Where nothing was said about the temperature, so that decoding is greedy: prints what generation_config.json suggests. */
void fr_cli_suggest_sampling(const fr_cli_options *options, const char *dir);
/* The model that the options ask for. */
fr_chat_options fr_cli_chat_options(const fr_cli_options *options);
fr_model_options fr_cli_model_options(const fr_cli_options *options);
void fr_cli_runtime_close(fr_cli_runtime *runtime);

/* Most drafts a cycle that these options lead to with this model; 0 without MTP. */
int fr_cli_depth(const fr_cli_options *options, const fr_model_info *info);
/* The sampling that the options ask for. */
fr_sampling fr_cli_sampling(const fr_cli_options *options);
/* The session that they ask for. */
fr_session_options fr_cli_session_options(const fr_cli_options *options, fr_cli_progress *progress);
/* A stream of text that ends before the stop strings that they name; *out is set on success alone. */
fr_status fr_cli_text_stream(const fr_model *model, const fr_cli_options *options, fr_text_stream **out, fr_error *error);

#endif
