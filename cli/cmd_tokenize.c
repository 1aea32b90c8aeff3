#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/prompt.h"
#include "study/prompts.h"

/* Returns whether all of it was printed. */
static bool print_ids(FILE *to, const int32_t *ids, size_t count) {
    bool whole = true;
    for (size_t i = 0; i < count; i++) whole &= fprintf(to, "%s%d", i ? "," : "", (int)ids[i]) > 0;
    return fputc('\n', to) != EOF && whole;
}

/* The text of each token: U+FFFD for the parts of a character, null for a token without text. */
static void add_pieces(fr_json_builder *b, const fr_model *model, const int32_t *ids, size_t count) {
    cJSON *pieces = fr_json_add_array(b, b->root, "pieces");
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        const char *bytes = fr_token_bytes(model, ids[i], &length);
        if (bytes)
            fr_json_add_bytes(b, pieces, NULL, bytes, length);
        else
            fr_json_add_null(b, pieces, NULL);
    }
}

static int encode(const fr_cli_options *options, const fr_model *model) {
    fr_cli_prompt prompt;
    int code = fr_cli_prompt_read(&prompt, model, options, true);
    if (!code && options->json) {
        fr_json_builder builder, *b = &builder;
        fr_cli_json_begin(b);
        fr_json_add_ids(b, b->root, "tokens", prompt.tokens, prompt.count);
        add_pieces(b, model, prompt.tokens, prompt.count);
        fr_cli_json_print(b);
    } else if (!code) {
        print_ids(stdout, prompt.tokens, prompt.count);
    }
    fr_cli_prompt_free(&prompt);
    return code;
}

static int decode(const fr_cli_options *options, const fr_model *model) {
    const fr_cli_ids *given = &options->decode;
    fr_error error = {0};
    char *text = NULL;
    size_t length = 0;
    int code = fr_cli_check_ids(model, "--decode", given->ids, given->count);
    if (code) return code;
    if (fr_detokenize(model, given->ids, given->count, options->with_special, &text, &length, &error) != FR_OK)
        return fr_cli_failure(&error);
    if (options->json) {
        fr_json_builder builder, *b = &builder;
        fr_cli_json_begin(b);
        fr_json_add_bytes(b, b->root, "text", text, length);
        fr_json_add_ids(b, b->root, "tokens", given->ids, given->count);
        add_pieces(b, model, given->ids, given->count);
        fr_cli_json_print(b);
    } else {
        fwrite(text, 1, length, stdout);
        putchar('\n');
    }
    fr_free(text);
    return 0;
}

/* The lines of --prompts. */
typedef struct batch {
    const fr_cli_options *options;
    const fr_model *model;
    fr_json_builder document;
    cJSON *results; /* of the document */
    FILE *text;     /* without --json: lines of ids, in memory */
    bool failed;    /* there was no memory for one */
    size_t count;   /* of lines */
    int code;       /* of a line whose tokens are not to be had, printed; 0: none */
} batch;

static void add_result(batch *run, const fr_prompt_line *line, const int32_t *ids, size_t count) {
    fr_json_builder *b = &run->document;
    cJSON *result = fr_json_add_object(b, run->results, NULL);
    if (cJSON_IsNumber(line->id))
        fr_json_add_copy(b, result, "id", line->id);
    else if (line->id)
        fr_json_add_text(b, result, "id", line->id->valuestring);
    if (line->domain) fr_json_add_text(b, result, "domain", line->domain);
    fr_json_add_ids(b, result, "tokens", ids, count);
}

/* An fr_prompt_line_fn: adds a line's tokens to the results. */
static fr_status encode_line(void *user, const fr_prompt_line *line, fr_error *error) {
    batch *run = user;
    const fr_cli_options *options = run->options;
    fr_cli_prompt text = {.tokens = NULL};
    (void)error;
    run->code = line->text ? fr_cli_text_tokens(run->model, line->text, line->length, options, &text)
                           : fr_cli_check_ids(run->model, options->prompts, line->tokens, line->count);
    if (run->code) {
        fr_cli_hint("this was line %zu of %s", line->number, options->prompts);
        return FR_ERROR_FORMAT;
    }
    const int32_t *ids = line->text ? text.tokens : line->tokens;
    size_t count = line->text ? text.count : line->count;
    if (options->json)
        add_result(run, line, ids, count);
    else if (run->text)
        run->failed |= !print_ids(run->text, ids, count);
    run->count++;
    fr_cli_prompt_free(&text);
    return FR_OK;
}

/* Prints the results and releases what they are kept in. */
static int finish(batch *run, int code, char **text, size_t *length) {
    bool written = run->options->json || (run->text && fclose(run->text) == 0 && !run->failed);
    if (!code && !written) code = fr_cli_error(FR_EXIT_FAILED, "memory: not enough for the lines of ids");
    if (!code && run->options->json)
        fr_cli_json_print(&run->document);
    else if (!code)
        fwrite(*text, 1, *length, stdout);
    fr_json_discard(&run->document);
    free(*text);
    return code;
}

/* Tokenizes every line of --prompts, in order. Prints nothing if one of them fails. */
static int encode_many(const fr_cli_options *options, const fr_model *model) {
    batch run = {.options = options, .model = model};
    fr_error error = {0};
    char *bytes, *text = NULL;
    size_t length, text_length = 0;
    const char *name = strcmp(options->prompts, "-") == 0 ? "standard input" : options->prompts;
    int code = fr_cli_read_file(options->prompts, &bytes, &length);
    if (code) return code;
    fr_cli_json_begin(&run.document);
    run.results = fr_json_add_array(&run.document, run.document.root, "results");
    if (!options->json) run.text = open_memstream(&text, &text_length);
    if (fr_prompts_parse(bytes, length, name, encode_line, &run, &error) != FR_OK)
        code = run.code ? run.code : fr_cli_failure(&error);
    else if (run.count == 0)
        code = fr_cli_error(FR_EXIT_FAILED, "%s: there is no prompt in it", name);
    fr_free(bytes);
    return finish(&run, code, &text, &text_length);
}

int fr_cmd_tokenize(const fr_cli_options *options) {
    fr_cli_runtime runtime;
    bool text = options->prompt || options->prompt_file;
    if (text + (options->decode.ids != NULL) + (options->prompts != NULL) > 1)
        return fr_cli_error(FR_EXIT_USAGE, "tokenize: a prompt, --decode and --prompts exclude each other");
    if (!options->decode.ids && !options->prompts && !text) {
        fr_cli_error(FR_EXIT_USAGE, "tokenize: no text was given");
        fr_cli_hint("give one with -p TEXT or -f FILE, many with --prompts F.jsonl, or ids with --decode 1,2,3");
        return FR_EXIT_USAGE;
    }
    int code = text ? fr_cli_prompt_check(options, true) : 0;
    if (code) return code;
    code = fr_cli_runtime_open_tokenizer(&runtime, options);
    if (!code) {
        if (options->decode.ids)
            code = decode(options, runtime.model);
        else
            code = options->prompts ? encode_many(options, runtime.model) : encode(options, runtime.model);
    }
    fr_cli_runtime_close(&runtime);
    return fr_cli_flush(code);
}
