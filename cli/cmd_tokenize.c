#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/prompt.h"

static void print_ids(const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) printf("%s%d", i ? "," : "", (int)ids[i]);
    putchar('\n');
}

/* The text of each token: one that is a part of a character shows as U+FFFD, one without text as null. */
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
        print_ids(prompt.tokens, prompt.count);
    }
    fr_cli_prompt_free(&prompt);
    return code;
}

static int decode(const fr_cli_options *options, const fr_model *model) {
    const fr_cli_ids *given = &options->decode;
    fr_error error = {FR_OK, "", ""};
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

static void add_result(fr_json_builder *b, cJSON *results, const fr_cli_entry *entry, const int32_t *ids, size_t count) {
    cJSON *result = fr_json_add_object(b, results, NULL);
    if (entry->id && entry->id_is_number)
        fr_json_add(b, result, "id", cJSON_CreateRaw(entry->id));
    else if (entry->id)
        fr_json_add_text(b, result, "id", entry->id);
    if (entry->domain) fr_json_add_text(b, result, "domain", entry->domain);
    fr_json_add_ids(b, result, "tokens", ids, count);
}

/* Tokenizes every line of --prompts, in order; nothing is printed unless all of them could be. */
static int encode_many(const fr_cli_options *options, const fr_model *model) {
    fr_cli_entries entries;
    int code = fr_cli_entries_read(&entries, options->prompts);
    fr_cli_prompt *prompts = fr_cli_alloc(entries.count, sizeof *prompts);
    for (size_t i = 0; !code && i < entries.count; i++) {
        const fr_cli_entry *entry = &entries.entries[i];
        if (entry->prompt)
            code =
                fr_cli_text_tokens(model, entry->prompt, strlen(entry->prompt), options->chat, !options->no_special, &prompts[i]);
        else
            code = fr_cli_check_ids(model, options->prompts, entry->tokens.ids, entry->tokens.count);
        if (code) fr_cli_hint("this was line %zu of %s", entry->line, options->prompts);
    }
    fr_json_builder builder, *b = &builder;
    fr_cli_json_begin(b);
    cJSON *results = fr_json_add_array(b, b->root, "results");
    for (size_t i = 0; !code && i < entries.count; i++) {
        const fr_cli_entry *entry = &entries.entries[i];
        const int32_t *ids = entry->prompt ? prompts[i].tokens : entry->tokens.ids;
        size_t count = entry->prompt ? prompts[i].count : entry->tokens.count;
        if (options->json)
            add_result(b, results, entry, ids, count);
        else
            print_ids(ids, count);
    }
    if (!code && options->json)
        fr_cli_json_print(b);
    else
        fr_json_discard(b);
    for (size_t i = 0; i < entries.count; i++) fr_cli_prompt_free(&prompts[i]);
    free(prompts);
    fr_cli_entries_free(&entries);
    return code;
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
    code = fr_cli_runtime_open_for(&runtime, options, NULL);
    if (!code) {
        if (options->decode.ids)
            code = decode(options, runtime.model);
        else
            code = options->prompts ? encode_many(options, runtime.model) : encode(options, runtime.model);
    }
    fr_cli_runtime_close(&runtime);
    return fr_cli_flush(code);
}
