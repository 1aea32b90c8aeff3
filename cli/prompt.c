#include "cli/prompt.h"

#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/ranks.h"
#include "core/ranks.h"
#include "study/prompts.h"

/* ---- Files ------------------------------------------------------------------------------------------------- */

int fr_cli_read_file(const char *path, char **out, size_t *length) {
    fr_error error = {0};
    return fr_ranks_read(fr_cli_ranks(), path, 0, out, length, &error) == FR_OK ? 0 : fr_cli_failure(&error);
}

/* ---- One prompt ---------------------------------------------------------------------------------------------- */

static int empty_prompt(void) {
    fr_cli_error(FR_EXIT_USAGE, "prompt: it is empty");
    fr_cli_hint("a model needs at least one token to go on from");
    return FR_EXIT_USAGE;
}

int fr_cli_prompt_check(const fr_cli_options *options, bool empty_allowed) {
    int given = (options->prompt != NULL) + (options->prompt_file != NULL) + (options->prompt_tokens.ids != NULL);
    if (given == 0) {
        fr_cli_error(FR_EXIT_USAGE, "prompt: none was given");
        fr_cli_hint("give one with -p TEXT, -f FILE or --prompt-tokens 1,2,3");
        return FR_EXIT_USAGE;
    }
    if (given > 1)
        return fr_cli_error(FR_EXIT_USAGE, "prompt: only one of --prompt, --prompt-file and --prompt-tokens can be given");
    if (options->chat && options->prompt_tokens.ids)
        return fr_cli_error(FR_EXIT_USAGE, "--chat: the template needs a prompt as text, not as tokens");
    if (options->prompt && !*options->prompt && !empty_allowed) return empty_prompt();
    const char *file = options->prompt_file; /* looked for now: loading a model may take minutes */
    return file && strcmp(file, "-") != 0 ? fr_cli_check_readable(file) : 0;
}

int fr_cli_check_ids(const fr_model *model, const char *where, const int32_t *ids, size_t count) {
    fr_model_info info;
    fr_model_get_info(model, &info);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= info.vocab_size)
            return fr_cli_error(FR_EXIT_USAGE, "%s: token %d is not in the vocabulary of %d (0 to %d)", where, (int)ids[i],
                                info.vocab_size, info.vocab_size - 1);
    return 0;
}

int fr_cli_text_tokens(const fr_model *model, const char *text, size_t length, const fr_cli_options *options,
                       fr_cli_prompt *out) {
    fr_error error = {0};
    fr_chat_options chat = fr_cli_chat_options(options);
    *out = (fr_cli_prompt){.is_text = true, .text_length = length};
    if (options->chat && strlen(text) != length)
        return fr_cli_error(FR_EXIT_FAILED, "--chat: the prompt holds a NUL byte, which the template cannot take");
    if (fr_prompt_tokenize(model, text, &out->text_length, options->chat ? &chat : NULL, !options->no_special, &out->tokens,
                           &out->count, &error) == FR_OK)
        return 0;
    out->tokens = NULL;
    return fr_cli_failure(&error);
}

int fr_cli_prompt_read(fr_cli_prompt *prompt, const fr_model *model, const fr_cli_options *options, bool empty_allowed) {
    memset(prompt, 0, sizeof *prompt);
    const fr_cli_ids *given = &options->prompt_tokens;
    if (given->ids) {
        int code = fr_cli_check_ids(model, "--prompt-tokens", given->ids, given->count);
        if (code) return code;
        prompt->tokens = given->ids;
        prompt->count = given->count;
        return 0;
    }
    char *read = NULL;
    const char *text = options->prompt;
    size_t length = text ? strlen(text) : 0;
    int code = 0;
    if (!text) {
        code = fr_cli_read_file(options->prompt_file, &read, &length);
        text = read;
    }
    if (!code && length == 0 && !empty_allowed) code = empty_prompt();
    if (!code) code = fr_cli_text_tokens(model, text, length, options, prompt);
    if (!code && prompt->count == 0 && !empty_allowed) code = empty_prompt();
    fr_free(read);
    return code;
}

void fr_cli_prompt_free(fr_cli_prompt *prompt) {
    if (prompt->is_text) fr_free(prompt->tokens); /* ids that were given belong to the options */
    memset(prompt, 0, sizeof *prompt);
}
