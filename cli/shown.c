#include "cli/shown.h"

#include <stdint.h>
#include <string.h>

#include "core/utf8.h"

/* The code of a well-formed character. */
static uint32_t code_of(const char *text, size_t length) {
    const unsigned char *p = (const unsigned char *)text;
    uint32_t code = length == 1 ? p[0] : p[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) code = code << 6 | (p[i] & 0x3Fu);
    return code;
}

int fr_cli_columns(const char *text, int *length) {
    static const struct {
        uint32_t first, last;
        int columns;
    } ranges[] = {
        {0, 0x1F, -1},         {0x7F, 0x9F, -1},      {0x300, 0x36F, 0},     {0x591, 0x5BD, 0},     {0x61C, 0x61C, -1},
        {0x64B, 0x65F, 0},     {0x1100, 0x115F, 2},   {0x200B, 0x200F, -1},  {0x2028, 0x202E, -1},  {0x2060, 0x206F, -1},
        {0x20D0, 0x20FF, 0},   {0x2E80, 0x303E, 2},   {0x3041, 0xA4CF, 2},   {0xAC00, 0xD7A3, 2},   {0xF900, 0xFAFF, 2},
        {0xFE00, 0xFE0F, 0},   {0xFE30, 0xFE6F, 2},   {0xFEFF, 0xFEFF, -1},  {0xFF01, 0xFF60, 2},   {0xFFE0, 0xFFE6, 2},
        {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1F9FF, 2}, {0x20000, 0x3FFFD, 2}, {0xE0000, 0xE0FFF, -1},
    };
    int bytes = fr_utf8_next((const uint8_t *)text, strnlen(text, 4));
    *length = bytes > 0 ? bytes : 1;
    if (bytes <= 0) return -1;
    uint32_t c = code_of(text, (size_t)bytes);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges && ranges[i].first <= c; i++)
        if (c <= ranges[i].last) return ranges[i].columns;
    return 1;
}

char *fr_cli_make_shown(char *text) {
    char *to = text;
    int length;
    for (const char *from = text; *from; from += length) { /* nothing becomes longer */
        if (fr_cli_columns(from, &length) < 0) {
            *to++ = '?';
            continue;
        }
        memmove(to, from, (size_t)length);
        to += length;
    }
    *to = '\0';
    return text;
}

void fr_cli_vprint_shown(FILE *out, const char *format, va_list arguments) {
    char line[8192];
    if (vsnprintf(line, sizeof line, format, arguments) < 0) line[0] = '\0';
    size_t used = strlen(fr_cli_make_shown(line));
    line[used++] = '\n'; /* over the NUL; the line is one write where there is no buffer */
    fwrite(line, 1, used, out);
}

void fr_cli_print_shown(FILE *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fr_cli_vprint_shown(out, format, arguments);
    va_end(arguments);
}
