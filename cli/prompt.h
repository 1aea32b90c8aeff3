/* The prompt of a command, as text or tokens. */
#ifndef FR_CLI_PROMPT_H
#define FR_CLI_PROMPT_H

#include "cli/options.h"

typedef struct fr_cli_prompt {
    int32_t *tokens; /* released with fr_free */
    size_t count;
    bool is_text;       /* the tokens came from a text */
    size_t text_length; /* its bytes, chat template included */
} fr_cli_prompt;

/* Reads a whole file ("-": stdin) into a NUL-terminated buffer, released with fr_free. Returns 0 or an exit code, printed. */
int fr_cli_read_file(const char *path, char **out, size_t *length);

/* Checks that the options name one prompt, before a model is loaded. Returns 0 or FR_EXIT_USAGE, printed. */
int fr_cli_prompt_check(const fr_cli_options *options, bool empty_allowed);
/* Reads and tokenizes the prompt; an empty one is an error unless allowed. Returns 0 or an exit code, printed. Release with
 * fr_cli_prompt_free, also after a failure. */
int fr_cli_prompt_read(fr_cli_prompt *prompt, const fr_model *model, const fr_cli_options *options, bool empty_allowed);
void fr_cli_prompt_free(fr_cli_prompt *prompt);

/* Tokenizes a text as the options say, chat template included. Returns 0 or an exit code, printed. Release likewise. */
int fr_cli_text_tokens(const fr_model *model, const char *text, size_t length, const fr_cli_options *options, fr_cli_prompt *out);
/* Returns 0, or FR_EXIT_USAGE after printing the id that is not in the vocabulary. where: where the ids came from. */
int fr_cli_check_ids(const fr_model *model, const char *where, const int32_t *ids, size_t count);

#endif
