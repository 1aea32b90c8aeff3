#include "text/chat_recognize.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/checkpoint/checksum.h"
#include "core/memory.h"

static bool matches(const fr_chat_format *f, const char *text) {
    for (int i = 0; i < FR_CHAT_MAX_MARKS; i++) {
        if (f->has[i] && !strstr(text, f->has[i])) return false;
        if (f->lacks[i] && strstr(text, f->lacks[i])) return false;
    }
    return f->has[0] != NULL;
}

static void trim(const char **text, size_t *length) {
    while (*length && isspace((unsigned char)**text)) ++*text, --*length;
    while (*length && isspace((unsigned char)(*text)[*length - 1])) --*length;
}

/* Whether the format was compared with this very template. */
static bool compared(const fr_chat_format *f, const char *text) {
    size_t length = strlen(text);
    trim(&text, &length);
    uint64_t digest = FR_HASH64_START;
    for (size_t j = 0; j < length; j++)
        if (text[j] != '\r') digest = fr_hash64(digest, text + j, 1);
    for (int i = 0; i < FR_CHAT_MAX_MARKS; i++)
        if (f->digests[i] == digest) return true;
    return false;
}

static bool has_tokens(const fr_chat_format *f, const fr_tokenizer *tokenizer) {
    for (int i = 0; i < FR_CHAT_MAX_TOKENS && f->tokens[i]; i++)
        if (fr_tokenizer_find(tokenizer, f->tokens[i]) < 0) return false;
    return true;
}

static fr_status find_name(fr_chat *chat, const char *name, fr_error *error) {
    char names[256];
    size_t used = 0;
    const fr_chat_format *f;
    for (int i = 0; (f = fr_chat_format_at(i)); i++) {
        if (strcmp(f->name, name) == 0) {
            chat->format = f;
            return FR_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", f->name);
    }
    fr_status status = fr_fail(error, FR_ERROR_ARGUMENT, "chat format: there is none of the name '%.40s'", name);
    return fr_hint(error, status, "There are: %s.", names);
}

static void find_format(fr_chat *chat, const fr_tokenizer *tokenizer, const char *text, const char *model_type,
                        fr_notices *notices) {
    for (int i = 0; !chat->format && fr_chat_format_at(i); i++) {
        const fr_chat_format *f = fr_chat_format_at(i);
        if (text ? matches(f, text)
                 : f->model_type && model_type && strcmp(f->model_type, model_type) == 0 && has_tokens(f, tokenizer))
            chat->format = f;
    }
    if (text && !chat->format)
        fr_notices_add(notices, "chat template",
                       "it is none of those that are known, so there is no chat format: give one by name "
                       "(--chat-format), or prompts that are rendered already");
    else if (text && !compared(chat->format, text))
        fr_notices_add(notices, "chat template", "taken for %s by what is in it; as a whole it is not the one that was compared",
                       chat->format->name);
    else if (!text && chat->format)
        fr_notices_add(notices, "chat template", "the checkpoint has none; %s is taken, whose tokens the tokenizer has",
                       chat->format->name);
}

/* Jinja's minus signs take white space off at both ends. */
static fr_status take_preamble(fr_chat *chat, const char *text, fr_error *error) {
    const char *from = text ? strstr(text, chat->format->preamble_from) : NULL;
    const char *to = from ? strstr(from, chat->format->preamble_to) : NULL;
    if (!to) return FR_OK;
    from += strlen(chat->format->preamble_from);
    size_t length = (size_t)(to - from);
    trim(&from, &length);
    chat->preamble = fr_alloc(length + 1);
    if (!chat->preamble) return fr_fail(error, FR_ERROR_MEMORY, "no memory for a chat template");
    memcpy(chat->preamble, from, length);
    chat->preamble[length] = '\0';
    return FR_OK;
}

fr_status fr_chat_recognize(fr_chat *chat, const fr_tokenizer *tokenizer, const char *text, const char *model_type,
                            const char *name, fr_notices *notices, fr_error *error) {
    fr_free(chat->preamble);
    *chat = (fr_chat){.has_template = text != NULL};
    if (name)
        FR_TRY(find_name(chat, name, error));
    else
        find_format(chat, tokenizer, text, model_type, notices);
    return chat->format && chat->format->preamble_from ? take_preamble(chat, text, error) : FR_OK;
}
