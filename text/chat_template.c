#include "text/chat_template.h"

#include <string.h>

#include "core/memory.h"

enum { USER, ASSISTANT, END, NUM_MARKS };

/* What a tokenizer must have (U+FF5C and U+2581, not | and _). */
static const char *const marks[NUM_MARKS] = {
    [USER] = "<｜User｜>",
    [ASSISTANT] = "<｜Assistant｜>",
    [END] = "<｜end▁of▁sentence｜>",
};

/* render() runs twice: first with out NULL, to count. */
typedef struct writer {
    char *out;
    size_t length;
} writer;

static void put(writer *w, const char *text, size_t length) {
    if (w->out) memcpy(w->out + w->length, text, length);
    w->length += length;
}

static void puts_to(writer *w, const char *text) {
    put(w, text, strlen(text));
}

static void render(writer *w, const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, bool reply) {
    int32_t bos = fr_tokenizer_bos(tokenizer);
    size_t length;
    if (bos >= 0 && !fr_tokenizer_add_bos(tokenizer)) {
        const char *text = fr_tokenizer_token_bytes(tokenizer, bos, &length);
        put(w, text, length);
    }
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        if (turns[i].role != FR_CHAT_SYSTEM) continue;
        if (!first) puts_to(w, "\n\n");
        puts_to(w, turns[i].content);
        first = false;
    }
    for (size_t i = 0; i < count; i++) {
        if (turns[i].role == FR_CHAT_SYSTEM) continue;
        puts_to(w, marks[turns[i].role == FR_CHAT_USER ? USER : ASSISTANT]);
        puts_to(w, turns[i].content);
        if (turns[i].role == FR_CHAT_ASSISTANT) puts_to(w, marks[END]);
    }
    if (reply) puts_to(w, marks[ASSISTANT]);
    if (w->out) w->out[w->length] = '\0';
}

fr_status fr_chat_render(const fr_tokenizer *tokenizer, const fr_chat_turn *turns, size_t count, bool reply, char **text,
                         fr_error *error) {
    for (int i = 0; i < NUM_MARKS; i++)
        if (fr_tokenizer_find(tokenizer, marks[i]) < 0) {
            fr_status status = fr_fail(error, FR_ERROR_UNSUPPORTED, "chat template: the tokenizer has no token %s", marks[i]);
            return fr_hint(error, status,
                           "This looks like a base model, which continues text: give the prompt without a template.");
        }
    writer w = {0};
    render(&w, tokenizer, turns, count, reply);
    w.out = fr_alloc(w.length + 1);
    if (!w.out) return fr_fail(error, FR_ERROR_MEMORY, "no memory for a conversation of %zu bytes", w.length);
    w.length = 0;
    render(&w, tokenizer, turns, count, reply);
    *text = w.out;
    return FR_OK;
}
