#include "study/report/unit.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *fr_unit_text(double value, fr_unit unit, char *text) {
    double size = fabs(value);
    int digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    if (!isfinite(value))
        snprintf(text, 32, "\xE2\x80\x93");
    else if (unit == FR_UNIT_PERCENT)
        snprintf(text, 32, "%.1f\xC2\xA0%%", 100 * value); /* that does not break the line */
    else if (unit == FR_UNIT_TIMES)
        snprintf(text, 32, "%.*f\xC3\x97", size >= 10 ? 1 : size >= 0.1 || size == 0 ? 2 : 3, value);
    else if (unit == FR_UNIT_MS)
        snprintf(text, 32, "%.*f\xC2\xA0ms", digits, value);
    else if (unit == FR_UNIT_COUNT)
        snprintf(text, 32, "%.0f", value);
    else
        snprintf(text, 32, "%.4g", value);
    return text;
}

const char *fr_range_text(double low, double high, fr_unit unit, char *text) {
    char first[32], last[32];
    bool known = isfinite(low) && isfinite(high);
    fr_unit_text(low, unit, first);
    fr_unit_text(known ? high : NAN, unit, last);
    /* the unit is written once: every unit begins behind the digits */
    first[strspn(first, "-0123456789.e+")] = '\0';
    snprintf(text, 72, known ? "%s to %s" : "%s%s", known ? first : "", last);
    return text;
}
