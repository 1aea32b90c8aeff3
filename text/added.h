/* Added tokens: strings that are found in a text before anything else is done to it, the longest at each position. */
#ifndef FR_TEXT_ADDED_H
#define FR_TEXT_ADDED_H

#include "core/status.h"

typedef struct fr_added_token {
    const char *content; /* not empty, not NUL-terminated; the owner's */
    uint32_t length;
    int32_t id;
    bool special;
} fr_added_token;

/* A set of added tokens; valid (and empty) when zeroed. */
typedef struct fr_added {
    fr_added_token *tokens; /* [count], by content */
    size_t count;
    bool first[256]; /* some token begins with this byte */
} fr_added;

/* Has room for `capacity` tokens. */
fr_status fr_added_create(fr_added *added, size_t capacity, fr_error *error);
void fr_added_release(fr_added *added);
/* Contents must differ. After the last one: fr_added_sort. */
void fr_added_put(fr_added *added, fr_added_token token);
void fr_added_sort(fr_added *added);

/* The longest token that text [length] begins with, NULL for none. Special ones count only if asked for. */
const fr_added_token *fr_added_match(const fr_added *added, const char *text, size_t length, bool special);
/* The token with exactly this content, NULL for none. */
const fr_added_token *fr_added_find(const fr_added *added, const char *content, size_t length);

#endif
