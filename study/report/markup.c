#include "study/report/markup.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/utf8.h"

/* Where `more` bytes and a NUL may be written; NULL without memory. */
static char *reserve(fr_markup *m, size_t more) {
    if (m->failed) return NULL;
    if (m->length + more + 1 > m->room) {
        size_t room = 2 * (m->length + more) + 1024;
        char *grown = fr_grow(m->bytes, m->length, room);
        if (!grown) {
            m->failed = true;
            return NULL;
        }
        m->bytes = grown;
        m->room = room;
    }
    return m->bytes + m->length;
}

static void append(fr_markup *m, const char *bytes, size_t count) {
    char *to = reserve(m, count);
    if (!to) return;
    memcpy(to, bytes, count);
    to[count] = '\0';
    m->length += count;
}

void fr_markup_raw(fr_markup *m, const char *text) {
    append(m, text, strlen(text));
}

void fr_markup_format(fr_markup *m, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int count = vsnprintf(NULL, 0, format, args);
    char *to = count < 0 ? NULL : reserve(m, (size_t)count);
    if (to) {
        vsnprintf(to, (size_t)count + 1, format, again);
        m->length += (size_t)count;
    }
    va_end(again);
    va_end(args);
}

static const char *reference_of(char c) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

/* The sign for a white space character of a token; NULL: it is shown as it is. */
static const char *visible(char c) {
    switch (c) {
    case ' ':
        return "\xE2\x90\xA3"; /* open box */
    case '\n':
        return "\xE2\x8F\x8E"; /* return symbol */
    case '\t':
        return "\xE2\x87\xA5"; /* arrow to bar */
    default:
        return NULL;
    }
}

static void escape(fr_markup *m, const char *text, bool token) {
    size_t room = text ? strlen(text) : 0;
    while (room > 0) {
        int whole = fr_utf8_next((const uint8_t *)text, room);
        size_t length = whole > 0 ? (size_t)whole : whole < 0 ? (size_t)-whole : room;
        bool control = ((unsigned char)*text < 0x20 && *text != '\n' && *text != '\t') || *text == 0x7F;
        const char *instead = token && visible(*text) ? visible(*text) : reference_of(*text);
        if (whole <= 0 || control)
            fr_markup_raw(m, FR_UTF8_REPLACEMENT);
        else if (instead)
            fr_markup_raw(m, instead);
        else
            append(m, text, length);
        text += length;
        room -= length;
    }
}

void fr_markup_text(fr_markup *m, const char *text) {
    escape(m, text, false);
}

void fr_markup_token(fr_markup *m, const char *text) {
    escape(m, text, true);
}

void fr_markup_csv(fr_markup *m, const char *text) {
    if (!text) return;
    if (!text[strcspn(text, ",\"\r\n")]) {
        fr_markup_raw(m, text);
        return;
    }
    fr_markup_raw(m, "\"");
    for (; *text; text++) {
        if (*text == '"') fr_markup_raw(m, "\"");
        append(m, text, 1);
    }
    fr_markup_raw(m, "\"");
}

void fr_markup_shell(fr_markup *m, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%";
    if (word[0] && strspn(word, plain) == strlen(word)) {
        fr_markup_raw(m, word);
        return;
    }
    fr_markup_raw(m, "'");
    for (; *word; word++) {
        if (*word == '\'')
            fr_markup_raw(m, "'\\''");
        else
            append(m, word, 1);
    }
    fr_markup_raw(m, "'");
}

void fr_markup_release(fr_markup *m) {
    fr_free(m->bytes);
    *m = (fr_markup){NULL, 0, 0, false};
}
