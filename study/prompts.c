#include "study/prompts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "core/ranks.h"
#include "core/utf8.h"
#include "model/weights.h"
#include "study/words.h"

enum { MOST_BYTES = 1 << 30, DEFAULT_TOKENS = 128 };

static const char *const blanks = " \t\r\n\f\v";

static fr_status out_of_memory(fr_error *error) {
    return fr_fail(error, FR_ERROR_MEMORY, "prompts: out of memory");
}

/* ---- Lines ---- */

static fr_status read_tokens(const cJSON *array, int32_t *tokens, fr_error *error) {
    const cJSON *item;
    char found[64];
    size_t count = 0;
    cJSON_ArrayForEach(item, array) {
        if (!cJSON_IsNumber(item) || item->valuedouble != (double)item->valueint || item->valueint < 0)
            return fr_fail_at(error, FR_ERROR_FORMAT, fr_place_of("token %zu", count).text, "expected an id, found %s",
                              fr_json_describe(item, found, sizeof found));
        tokens[count++] = item->valueint;
    }
    return FR_OK;
}

/* A NUL belongs into a prompt, not into its id or domain. */
static fr_status refuse_nul(const char *key, const char *text, fr_error *error) {
    if (!text || !strstr(text, FR_JSON_NUL)) return FR_OK;
    return fr_fail_at(error, FR_ERROR_FORMAT, key, "a NUL character in it");
}

/* Takes an object apart, but for its tokens. */
static fr_status read_object(const cJSON *object, fr_prompt_line *line, const cJSON **tokens, fr_error *error) {
    const cJSON *text = fr_json_find(object, "prompt");
    const char *key = text ? "prompt" : "text", *id;
    char found[64];
    *tokens = fr_json_find(object, "tokens");
    FR_TRY(fr_json_unique(object, "prompt", error));
    if (!text && !*tokens) text = fr_json_find(object, "text");
    if (!text == !*tokens)
        return fr_fail(error, FR_ERROR_FORMAT, "expected \"prompt\" or \"tokens\", found %s", text ? "both" : "neither");
    if (text && !cJSON_IsString(text))
        return fr_fail_at(error, FR_ERROR_FORMAT, key, "expected a string, found %s",
                          fr_json_describe(text, found, sizeof found));
    if (*tokens && !cJSON_IsArray(*tokens))
        return fr_fail_at(error, FR_ERROR_FORMAT, "tokens", "expected an array, found %s",
                          fr_json_describe(*tokens, found, sizeof found));
    if (text) line->text = fr_json_bytes((cJSON *)text, &line->length); /* of a tree that is read_line's own */
    line->id = fr_json_find(object, "id");
    if (!cJSON_IsNumber(line->id)) FR_TRY(fr_json_string_or(object, "prompt", "id", NULL, &id, error));
    FR_TRY(fr_json_string_or(object, "prompt", "domain", NULL, &line->domain, error));
    FR_TRY(refuse_nul("id", cJSON_IsString(line->id) ? line->id->valuestring : NULL, error));
    FR_TRY(refuse_nul("domain", line->domain, error));
    return fr_json_int_or(object, "prompt", "max_tokens", 1, INT32_MAX, 0, &line->max_tokens, error);
}

static fr_status read_line(size_t number, const char *text, size_t length, fr_prompt_line_fn fn, void *user, fr_error *error) {
    fr_prompt_line line = {.number = number};
    cJSON *value = NULL;
    const cJSON *array;
    int32_t *tokens = NULL;
    fr_status status;
    char found[64];
    FR_CHECK(fr_json_parse_nul(text, length, "line", &value, error));
    if (!cJSON_IsObject(value))
        FR_CHECK(
            fr_fail(error, FR_ERROR_FORMAT, "expected a JSON object, found %s", fr_json_describe(value, found, sizeof found)));
    FR_CHECK(read_object(value, &line, &array, error));
    line.count = (size_t)cJSON_GetArraySize(array);
    if (array) line.tokens = tokens = fr_alloc(line.count * sizeof *tokens);
    if (array && !tokens) FR_CHECK(out_of_memory(error));
    FR_CHECK(read_tokens(array, tokens, error));
    status = fn(user, &line, error);
done:
    fr_free(tokens);
    cJSON_Delete(value);
    return status;
}

fr_status fr_prompts_parse(const char *text, size_t length, const char *name, fr_prompt_line_fn fn, void *user, fr_error *error) {
    size_t number = 1, mark = fr_utf8_mark(text, length);
    for (const char *line = text + mark, *end = text + length; line < end; number++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((stop ? stop : end) - line);
        const char *first = line;
        while (first < line + size && strchr(blanks, *first) && *first) first++;
        if (first < line + size) {
            fr_status status = read_line(number, line, size, fn, user, error);
            if (status != FR_OK) return fr_context(error, status, "%s:%zu", name, number);
        }
        line += size + 1;
    }
    return FR_OK;
}

/* ---- Prompts ---- */

typedef struct reader {
    const fr_model *model;
    const char *path;
    const fr_chat_options *chat; /* NULL: no template */
    fr_prompts *out;
    size_t room;
    fr_error *error;
} reader;

/* An empty prompt at the end of the list. */
static fr_status add(reader *r, fr_prompt **prompt) {
    fr_prompts *list = r->out;
    if (list->count == r->room) {
        size_t room = 2 * r->room + 16;
        fr_prompt *items = fr_grow(list->items, r->room * sizeof *items, room * sizeof *items);
        if (!items) return out_of_memory(r->error);
        list->items = items;
        r->room = room;
    }
    *prompt = &list->items[list->count++];
    **prompt = (fr_prompt){0};
    return FR_OK;
}

static fr_status name(reader *r, fr_prompt *prompt, const char *id, const char *domain) {
    char number[24];
    snprintf(number, sizeof number, "%zu", r->out->count);
    prompt->id = fr_strdup(id ? id : number);
    prompt->domain = fr_strdup(domain ? domain : "all");
    return prompt->id && prompt->domain ? FR_OK : out_of_memory(r->error);
}

fr_status fr_prompt_tokenize(const fr_model *model, const char *text, size_t *length, const fr_chat_options *chat,
                             bool add_special, int32_t **tokens, size_t *count, fr_error *error) {
    if (!chat) return fr_tokenize(model, text, *length, add_special, tokens, count, error);
    const fr_chat_turn turn = {FR_CHAT_USER, text};
    fr_chat_options options = *chat;
    char *whole;
    options.reply = true;
    FR_TRY(fr_render_chat(model, &turn, 1, &options, &whole, error));
    *length = strlen(whole);
    fr_free(whole);
    return fr_tokenize_chat(model, &turn, 1, &options, tokens, count, error);
}

void fr_add_chat_options(fr_json_builder *b, cJSON *to, const fr_model *model, const fr_chat_options *chat) {
    fr_model_info info;
    fr_model_get_info(model, &info);
    fr_json_add_text(b, to, "chat_format", chat ? info.chat_format : NULL);
    fr_json_add_text(b, to, "think", chat ? fr_think_word((int)chat->think) : NULL);
}

static fr_status set_text(reader *r, fr_prompt *prompt, const char *text, size_t length) {
    if (length == 0) return fr_fail(r->error, FR_ERROR_FORMAT, "the prompt is empty");
    if (r->chat && memchr(text, 0, length))
        return fr_fail(r->error, FR_ERROR_FORMAT, "the text holds a NUL byte, which the chat template cannot take");
    prompt->chat_template = r->chat;
    FR_TRY(fr_prompt_tokenize(r->model, text, &length, r->chat, true, &prompt->tokens, &prompt->count, r->error));
    return prompt->count ? FR_OK : fr_fail(r->error, FR_ERROR_FORMAT, "the prompt is empty: no tokens");
}

/* kind: status of the error when they are not tokens of the model. */
static fr_status set_tokens(reader *r, fr_prompt *prompt, const int32_t *tokens, size_t count, fr_status kind) {
    int vocab = r->model->config.vocab_size;
    if (count == 0) return fr_fail(r->error, kind, "the prompt is empty: no tokens");
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return fr_fail_at(r->error, kind, fr_place_of("token %zu", i).text, "id %d is not in the vocabulary of %d", tokens[i],
                              vocab);
    prompt->tokens = fr_alloc(count * sizeof *tokens);
    if (!prompt->tokens) return out_of_memory(r->error);
    memcpy(prompt->tokens, tokens, count * sizeof *tokens);
    prompt->count = count;
    return FR_OK;
}

/* An fr_prompt_line_fn: a line is a prompt. Ids that are numbers become strings. */
static fr_status add_line(void *user, const fr_prompt_line *line, fr_error *error) {
    reader *r = user;
    fr_prompt *prompt = NULL;
    char digits[40];
    (void)error; /* the reader's */
    FR_TRY(add(r, &prompt));
    if (cJSON_IsNumber(line->id)) snprintf(digits, sizeof digits, "%.17g", line->id->valuedouble);
    FR_TRY(name(r, prompt, !line->id ? NULL : cJSON_IsNumber(line->id) ? digits : line->id->valuestring, line->domain));
    prompt->max_tokens = line->max_tokens;
    if (line->text) return set_text(r, prompt, line->text, line->length);
    return set_tokens(r, prompt, line->tokens, line->count, FR_ERROR_FORMAT);
}

static fr_status read_text(reader *r, const char *text, size_t length) {
    fr_prompt *prompt = NULL;
    const char *file = strrchr(r->path, '/');
    FR_TRY(add(r, &prompt));
    FR_TRY(name(r, prompt, file && file[1] ? file + 1 : r->path, NULL));
    fr_status status = set_text(r, prompt, text, length);
    return status == FR_OK ? FR_OK : fr_context(r->error, status, "%s", r->path);
}

static int by_id(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Results refer to prompts by id, so ids must differ. */
static fr_status check_ids(const reader *r) {
    size_t count = r->out->count;
    const char **ids = fr_alloc(count * sizeof *ids);
    fr_status status = FR_OK;
    if (!ids) return out_of_memory(r->error);
    for (size_t i = 0; i < count; i++) ids[i] = r->out->items[i].id;
    qsort(ids, count, sizeof *ids, by_id);
    for (size_t i = 1; i < count && status == FR_OK; i++)
        if (strcmp(ids[i - 1], ids[i]) == 0)
            status = fr_fail_at(r->error, FR_ERROR_FORMAT, r->path, "two prompts have the id \"%.60s\"", ids[i]);
    fr_free(ids);
    return status;
}

fr_status fr_prompts_load(const fr_model *model, const char *path, const fr_chat_options *chat, fr_prompts *out,
                          fr_error *error) {
    reader r = {.model = model, .path = path, .chat = chat, .out = out, .error = error};
    char *text = NULL;
    size_t length = 0;
    fr_status status;
    *out = (fr_prompts){0};
    FR_CHECK(fr_ranks_read(model->ranks, path, MOST_BYTES, &text, &length, error));
    size_t mark = fr_utf8_mark(text, length), start = mark + strspn(text + mark, blanks);
    FR_CHECK(text[start] == '{' ? fr_prompts_parse(text, length, path, add_line, &r, error) : read_text(&r, text, length));
    status = check_ids(&r);
done:
    fr_free(text);
    if (status != FR_OK) fr_prompts_release(out);
    return status;
}

fr_status fr_prompts_from_tokens(const fr_model *model, const int32_t *tokens, size_t count, fr_prompts *out, fr_error *error) {
    reader r = {.model = model, .path = "prompt", .out = out, .error = error};
    fr_prompt *prompt = NULL;
    fr_status status;
    *out = (fr_prompts){0};
    FR_CHECK(add(&r, &prompt));
    FR_CHECK(name(&r, prompt, NULL, NULL));
    FR_CHECK(set_tokens(&r, prompt, tokens, count, FR_ERROR_ARGUMENT));
done:
    if (status != FR_OK) fr_prompts_release(out);
    return status;
}

void fr_prompts_limit(fr_prompts *prompts, int most) {
    for (size_t i = 0; i < prompts->count; i++) {
        int *tokens = &prompts->items[i].max_tokens;
        if (*tokens == 0) *tokens = most > 0 ? most : DEFAULT_TOKENS;
        if (most > 0 && *tokens > most) *tokens = most;
    }
}

bool fr_prompt_opens_domain(const fr_prompts *prompts, size_t index) {
    for (size_t before = 0; before < index; before++)
        if (strcmp(prompts->items[before].domain, prompts->items[index].domain) == 0) return false;
    return true;
}

void fr_prompts_release(fr_prompts *prompts) {
    for (size_t i = 0; i < prompts->count; i++) {
        fr_free(prompts->items[i].id);
        fr_free(prompts->items[i].domain);
        fr_free(prompts->items[i].tokens);
    }
    fr_free(prompts->items);
    *prompts = (fr_prompts){0};
}
