#include "core/text_size.h"

#include <inttypes.h>
#include <stdio.h>

/* In the largest of `count` units that it reaches, each `step` times the one before. */
static const char *scaled(double value, double step, const char *const *units, int count, char *text) {
    int unit = 0;
    for (; value >= step && unit + 1 < count; unit++) value /= step;
    snprintf(text, FR_TEXT_SIZE_BYTES, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *fr_text_size(uint64_t bytes, char *text) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    return scaled((double)bytes, 1024, units, 6, text);
}

const char *fr_text_count(uint64_t value, char *text) {
    static const char *const units[] = {"", "K", "M", "B", "T"};
    return scaled((double)value, 1000, units, 5, text);
}

const char *fr_text_grouped(uint64_t value, char *text) {
    char digits[24], *to = text;
    int length = snprintf(digits, sizeof digits, "%" PRIu64, value);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}
