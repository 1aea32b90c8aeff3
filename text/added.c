#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

fr_status fr_added_create(fr_added *added, size_t capacity, fr_error *error) {
    *added = (fr_added){0};
    added->tokens = fr_alloc(capacity * sizeof *added->tokens);
    return added->tokens ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "no memory for %zu added tokens", capacity);
}

void fr_added_release(fr_added *added) {
    fr_free(added->tokens);
    *added = (fr_added){0};
}

void fr_added_put(fr_added *added, fr_added_token token) {
    added->tokens[added->count++] = token;
    added->first[(uint8_t)token.content[0]] = true;
}

static int by_content(const void *a, const void *b) {
    const fr_added_token *x = a, *y = b;
    int order = memcmp(x->content, y->content, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

void fr_added_sort(fr_added *added) {
    if (added->count) qsort(added->tokens, added->count, sizeof *added->tokens, by_content);
}

/* The first of tokens [begin, end) whose byte at `depth` is not below `byte`; all of them are longer than depth. */
static size_t lower_bound(const fr_added *added, size_t begin, size_t end, size_t depth, int byte) {
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        if ((uint8_t)added->tokens[middle].content[depth] < byte)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

const fr_added_token *fr_added_match(const fr_added *added, const char *text, size_t length, bool special) {
    if (!length || !added->first[(uint8_t)text[0]]) return NULL;
    const fr_added_token *best = NULL;
    size_t begin = 0, end = added->count; /* tokens that begin with the first `depth` bytes of the text, and are longer */
    for (size_t depth = 0; depth < length; depth++) {
        int byte = (uint8_t)text[depth];
        begin = lower_bound(added, begin, end, depth, byte);
        end = lower_bound(added, begin, end, depth, byte + 1);
        if (begin == end) break;
        const fr_added_token *shortest = &added->tokens[begin]; /* contents differ: only it can end here */
        if (shortest->length == depth + 1) {
            if (special || !shortest->special) best = shortest;
            begin++;
        }
    }
    return best;
}

const fr_added_token *fr_added_find(const fr_added *added, const char *content, size_t length) {
    const fr_added_token key = {content, (uint32_t)length, 0, false};
    if (!added->count) return NULL;
    return bsearch(&key, added->tokens, added->count, sizeof *added->tokens, by_content);
}
