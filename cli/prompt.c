#include "cli/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "cli/message.h"
#include "core/file.h"

/* ---- Files ------------------------------------------------------------------------------------------------- */

int fr_cli_read_file(const char *path, char **out, size_t *length) {
    fr_error error = {FR_OK, "", ""};
    return fr_read_input(path, out, length, &error) == FR_OK ? 0 : fr_cli_failure(&error);
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
    return 0;
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

int fr_cli_text_tokens(const fr_model *model, const char *text, size_t length, bool chat, bool add_special, fr_cli_prompt *out) {
    fr_error error = {FR_OK, "", ""};
    char *turn = NULL;
    fr_status status = FR_OK;
    if (chat && strlen(text) != length)
        return fr_cli_error(FR_EXIT_FAILED, "--chat: the prompt holds a NUL byte, which the template cannot take");
    if (chat) {
        status = fr_render_chat(model, &(fr_chat_turn){FR_CHAT_USER, text}, 1, true, &turn, &error);
        if (status == FR_OK) {
            text = turn;
            length = strlen(turn);
        }
    }
    if (status == FR_OK) status = fr_tokenize(model, text, length, add_special, &out->tokens, &out->count, &error);
    if (status != FR_OK) out->tokens = NULL;
    out->is_text = true;
    out->text_length = length;
    fr_free(turn);
    return status == FR_OK ? 0 : fr_cli_failure(&error);
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
    if (!code) code = fr_cli_text_tokens(model, text, length, options->chat, !options->no_special, prompt);
    if (!code && prompt->count == 0 && !empty_allowed) code = empty_prompt();
    fr_free(read);
    return code;
}

void fr_cli_prompt_free(fr_cli_prompt *prompt) {
    if (prompt->is_text) fr_free(prompt->tokens); /* ids that were given belong to the options */
    memset(prompt, 0, sizeof *prompt);
}

/* ---- Many prompts -------------------------------------------------------------------------------------------- */

/* Whether a line of JSON escapes a NUL: a parsed C string would silently end there. */
static bool escapes_nul(const char *line) {
    for (const char *c = line; *c; c++)
        if (*c == '\\') {
            if (strncmp(c, "\\u0000", 6) == 0) return true;
            if (!*++c) return false;
        }
    return false;
}

static char *copy_text(const char *text) {
    char *copy = fr_cli_alloc(strlen(text) + 1, 1);
    strcpy(copy, text);
    return copy;
}

static char *copy_number(const cJSON *number) {
    char *copy = cJSON_PrintUnformatted(number);
    return copy ? copy : copy_text("0");
}

/* Fills an entry from a parsed line. Returns NULL, or what is wrong with it (static). */
static const char *fill_entry(fr_cli_entry *entry, const cJSON *line) {
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(line, "id"), *item;
    const cJSON *prompt = cJSON_GetObjectItemCaseSensitive(line, "prompt");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(line, "tokens");
    const cJSON *domain = cJSON_GetObjectItemCaseSensitive(line, "domain");
    if (!cJSON_IsObject(line)) return "it is not a JSON object";
    if (!prompt == !tokens) return "it needs one of \"prompt\" and \"tokens\"";
    if (prompt && !cJSON_IsString(prompt)) return "\"prompt\" is not a string";
    if (tokens && !cJSON_IsArray(tokens)) return "\"tokens\" is not an array";
    if (domain && !cJSON_IsString(domain)) return "\"domain\" is not a string";
    if (id && !cJSON_IsString(id) && !cJSON_IsNumber(id)) return "\"id\" is neither a string nor a number";
    if (tokens) {
        entry->tokens.ids = fr_cli_alloc((size_t)cJSON_GetArraySize(tokens), sizeof *entry->tokens.ids);
        cJSON_ArrayForEach(item, tokens) {
            if (!cJSON_IsNumber(item) || item->valuedouble != (double)item->valueint || item->valueint < 0)
                return "\"tokens\" holds something that is not a token id";
            entry->tokens.ids[entry->tokens.count++] = item->valueint;
        }
    }
    if (prompt) entry->prompt = copy_text(prompt->valuestring);
    if (domain) entry->domain = copy_text(domain->valuestring);
    entry->id_is_number = cJSON_IsNumber(id);
    if (id) entry->id = entry->id_is_number ? copy_number(id) : copy_text(id->valuestring);
    return NULL;
}

/* Parses one line into a new entry, unless it is blank. Returns 0 or FR_EXIT_FAILED, printed. */
static int read_line(fr_cli_entries *entries, const char *path, size_t number, char *line) {
    if (line[strspn(line, " \t\r")] == 0) return 0;
    entries->entries = fr_cli_grow(entries->entries, entries->count + 1, sizeof *entries->entries);
    fr_cli_entry *entry = &entries->entries[entries->count++];
    memset(entry, 0, sizeof *entry);
    entry->line = number;
    cJSON *parsed = cJSON_ParseWithOpts(line, NULL, true);
    const char *problem = !parsed ? "it is not JSON" : escapes_nul(line) ? "it holds a NUL character" : fill_entry(entry, parsed);
    cJSON_Delete(parsed);
    return problem ? fr_cli_error(FR_EXIT_FAILED, "%s: line %zu: %s", path, number, problem) : 0;
}

int fr_cli_entries_read(fr_cli_entries *entries, const char *path) {
    char *bytes;
    size_t length, number = 0;
    memset(entries, 0, sizeof *entries);
    int code = fr_cli_read_file(path, &bytes, &length);
    if (code) return code;
    if (strcmp(path, "-") == 0) path = "standard input";
    if (strlen(bytes) != length) code = fr_cli_error(FR_EXIT_FAILED, "%s: it holds a NUL byte, and is not JSON", path);
    for (char *line = bytes; !code && line < bytes + length;) {
        char *end = line + strcspn(line, "\n");
        *end = 0;
        code = read_line(entries, path, ++number, line);
        line = end + 1;
    }
    if (!code && entries->count == 0) code = fr_cli_error(FR_EXIT_FAILED, "%s: there is no prompt in it", path);
    fr_free(bytes);
    return code;
}

void fr_cli_entries_free(fr_cli_entries *entries) {
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->entries[i].id);
        free(entries->entries[i].domain);
        free(entries->entries[i].prompt);
        free(entries->entries[i].tokens.ids);
    }
    free(entries->entries);
    memset(entries, 0, sizeof *entries);
}
