#include "core/notices.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool has(const fr_notices *notices, const char *what, const char *why) {
    for (size_t i = 0; i < notices->count; i++)
        if (strcmp(notices->list[i].what, what) == 0 && strcmp(notices->list[i].why, why) == 0) return true;
    return false;
}

static void put(fr_notices *notices, const char *what, const char *why) {
    size_t i = notices->count < FR_MAX_NOTICES ? notices->count++ : FR_MAX_NOTICES - 1;
    snprintf(notices->texts[i].what, sizeof notices->texts[i].what, "%s", what);
    snprintf(notices->texts[i].why, sizeof notices->texts[i].why, "%s", why);
    notices->list[i] = (fr_notice){notices->texts[i].what, notices->texts[i].why};
}

void fr_notices_add(fr_notices *notices, const char *what, const char *format, ...) {
    char why[sizeof notices->texts->why];
    va_list args;
    if (!notices) return;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (has(notices, what, why)) return;
    if (notices->count < FR_MAX_NOTICES)
        put(notices, what, why);
    else
        put(notices, "notices", "there are more than are kept; check lists what is wrong with a checkpoint");
}

void fr_notices_tell(const fr_notices *notices, fr_notice_fn fn, void *user) {
    for (size_t i = 0; fn && i < notices->count; i++) fn(user, &notices->list[i]);
}
