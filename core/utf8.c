#include "core/utf8.h"

#include <string.h>

size_t fr_utf8_mark(const char *text, size_t length) {
    size_t mark = strlen(FR_UTF8_MARK);
    return length >= mark && memcmp(text, FR_UTF8_MARK, mark) == 0 ? mark : 0;
}

int fr_utf8_next(const uint8_t *p, size_t n) {
    uint8_t lead = p[0], low = 0x80, high = 0xbf;
    int length;
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return -1;
    if (lead < 0xe0)
        length = 2;
    else if (lead < 0xf0)
        length = 3;
    else
        length = 4;
    if (lead == 0xe0) low = 0xa0;  /* overlong */
    if (lead == 0xed) high = 0x9f; /* surrogates */
    if (lead == 0xf0) low = 0x90;  /* overlong */
    if (lead == 0xf4) high = 0x8f; /* above U+10FFFF */
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= n) return 0;
        if (p[i] < low || p[i] > high) return -i;
        low = 0x80, high = 0xbf;
    }
    return length;
}
