#include "text/chat_template.h"

#include <ctype.h>
#include <string.h>

#include "core/memory.h"
#include "text/tokenizer_private.h"

static const char think_end[] = "</think>";

/* render() runs twice: first with out NULL, to count. */
typedef struct writer {
    const fr_chat_format *format;
    const char *preamble; /* NULL: none */
    bool think;
    char *out;
    bool *plain; /* [length]: bytes of what people wrote, in which control tokens are text; NULL: not wanted */
    size_t length;
} writer;

static void put(writer *w, const char *text, size_t length, bool plain) {
    if (w->out) memcpy(w->out + w->length, text, length);
    if (w->plain) memset(w->plain + w->length, plain, length * sizeof *w->plain);
    w->length += length;
}

static void put_format(writer *w, const char *text) {
    if (text) put(w, text, strlen(text), false);
}

/* The part of an answer that stays in the conversation. */
static void put_answer(writer *w, const char *content) {
    const char *end = w->format->drops ? strstr(content, think_end) : NULL;
    while (end) {
        content = end + strlen(think_end);
        end = w->format->drops == FR_CHAT_DROPS_TO_LAST ? strstr(content, think_end) : NULL;
    }
    size_t length = strlen(content);
    if (w->format->strips) {
        while (length && isspace((unsigned char)*content)) content++, length--;
        while (length && isspace((unsigned char)content[length - 1])) length--;
    }
    put(w, content, length, true);
}

static void put_turn(writer *w, const fr_chat_turn *turn) {
    put_format(w, w->format->turns[turn->role].before);
    if (turn->role == FR_CHAT_ASSISTANT) {
        put_format(w, w->format->history);
        put_answer(w, turn->content);
    } else {
        put(w, turn->content, strlen(turn->content), true);
    }
    put_format(w, w->format->turns[turn->role].after);
}

static void put_beginning(writer *w, const fr_chat_turn *turns, size_t count) {
    put_format(w, w->format->begin);
    if (w->think) put_format(w, w->format->begin_thinking);
    if (w->preamble) {
        put_format(w, w->format->preamble_role);
        put_format(w, w->preamble);
        put_format(w, w->format->turns[FR_CHAT_SYSTEM].after);
    }
    if (count == 0 || turns[0].role != FR_CHAT_SYSTEM) put_format(w, w->format->default_system);
}

static void put_systems(writer *w, const fr_chat_turn *turns, size_t count) {
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        if (turns[i].role != FR_CHAT_SYSTEM) continue;
        if (!first) put_format(w, "\n\n");
        put(w, turns[i].content, strlen(turns[i].content), true);
        first = false;
    }
}

static void render(writer *w, const fr_chat_turn *turns, size_t count, const fr_chat_options *o) {
    bool system_first = w->format->system_first;
    if (!o->goes_on) put_beginning(w, turns, count);
    if (system_first) put_systems(w, turns, count);
    for (size_t i = 0; i < count; i++)
        if (!system_first || turns[i].role != FR_CHAT_SYSTEM) put_turn(w, &turns[i]);
    if (!o->reply) return;
    put_format(w, w->format->turns[FR_CHAT_ASSISTANT].before);
    put_format(w, w->think ? w->format->reply_thinking : w->format->reply);
}

/* ---- What is asked for ---- */

static fr_status no_format(const fr_tokenizer *tokenizer, fr_error *error) {
    fr_status status = fr_fail(error, FR_ERROR_UNSUPPORTED, "chat: the checkpoint has %s",
                               tokenizer->chat.has_template ? "a chat template that is not known" : "no chat template");
    return fr_hint(error, status,
                   "Name a format that fits (--chat-format), or give a prompt that is rendered already, without "
                   "--chat.");
}

static fr_status begin(const fr_tokenizer *tokenizer, const fr_chat_options *o, writer *w, fr_error *error) {
    const fr_chat_format *f = tokenizer->chat.format;
    if (!f) return no_format(tokenizer, error);
    for (int i = 0; i < FR_CHAT_MAX_TOKENS && f->tokens[i]; i++)
        if (fr_tokenizer_find(tokenizer, f->tokens[i]) < 0)
            return fr_fail(error, FR_ERROR_UNSUPPORTED, "chat format %s: the tokenizer has no token %s", f->name, f->tokens[i]);
    if (o->think == FR_THINK_ON && f->thinking == FR_CHAT_THINKS_NEVER)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "chat format %s: it has no thinking to turn on", f->name);
    if (o->think == FR_THINK_OFF && f->thinking == FR_CHAT_THINKS_ALWAYS)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "chat format %s: its thinking cannot be turned off", f->name);
    bool wanted = o->think == FR_THINK_AUTO ? f->thinks_by_default : o->think == FR_THINK_ON;
    *w = (writer){.format = f,
                  .preamble = tokenizer->chat.preamble,
                  .think = f->thinking == FR_CHAT_THINKS_ALWAYS || (f->thinking == FR_CHAT_THINKS_OR_NOT && wanted)};
    return FR_OK;
}

static fr_status no_memory(size_t length, fr_error *error) {
    return fr_fail(error, FR_ERROR_MEMORY, "no memory for a conversation of %zu bytes", length);
}

fr_status fr_chat_render(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                         char **text, fr_error *error) {
    writer w;
    FR_TRY(begin(tokenizer, options, &w, error));
    const char *bos = NULL;
    size_t bos_length = 0;
    if (w.format->bos && !options->goes_on && tokenizer->bos >= 0 && !tokenizer->add_bos)
        bos = fr_tokenizer_token_bytes(tokenizer, tokenizer->bos, &bos_length);
    render(&w, turns, count, options);
    w.out = fr_alloc(bos_length + w.length + 1);
    if (!w.out) return no_memory(w.length, error);
    *text = w.out;
    w.length = 0;
    put(&w, bos ? bos : "", bos_length, false);
    render(&w, turns, count, options);
    w.out[w.length] = '\0';
    return FR_OK;
}

fr_status fr_chat_encode(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                         int32_t **tokens, size_t *num_tokens, fr_error *error) {
    writer w;
    FR_TRY(begin(tokenizer, options, &w, error));
    bool bos = w.format->bos && !options->goes_on && tokenizer->bos >= 0;
    render(&w, turns, count, options);
    w.out = fr_alloc(w.length + 1);
    w.plain = fr_alloc((w.length + 1) * sizeof *w.plain);
    fr_status status = w.out && w.plain ? FR_OK : no_memory(w.length, error);
    if (status == FR_OK) {
        w.length = 0;
        render(&w, turns, count, options);
        status = fr_tokenizer_encode_parts(tokenizer, w.out, w.length, options->raw_special ? NULL : w.plain, bos, tokens,
                                           num_tokens, error);
    }
    fr_free(w.out);
    fr_free(w.plain);
    return status;
}

/* ---- Ends ---- */

bool fr_chat_ends(const fr_tokenizer *tokenizer, int32_t token) {
    const fr_chat_format *f = tokenizer->chat.format;
    for (int i = 0; f && i < FR_CHAT_MAX_TOKENS && f->ends[i]; i++)
        if (fr_tokenizer_find(tokenizer, f->ends[i]) == token) return token >= 0;
    return false;
}

int32_t fr_chat_end_token(const fr_tokenizer *tokenizer) {
    const fr_chat_format *f = tokenizer->chat.format;
    return f ? fr_tokenizer_find(tokenizer, f->turns[FR_CHAT_ASSISTANT].after) : -1;
}

bool fr_chat_drops_reasoning(const fr_tokenizer *tokenizer) {
    return tokenizer->chat.format && tokenizer->chat.format->drops;
}
