/* Each string is searched for by the Knuth-Morris-Pratt algorithm, byte by byte, so that it may come in any number of parts.
 * Invariant between calls: `held` is the longest suffix of the text that is a prefix of a stop string. */
#include "text/stop_strings.h"

#include <string.h>

#include "core/memory.h"

typedef struct pattern {
    const char *text;
    size_t length, matched; /* matched: length of the prefix that the text ends with */
    size_t *shorter;        /* [length]: of its first i + 1 bytes, length of the longest proper prefix that is a suffix */
} pattern;

struct fr_stop_strings {
    pattern *patterns;
    size_t count, longest;
    char *held; /* [longest] */
    size_t num_held;
    bool found;
    void *memory;
};

static void prepare(pattern *p) {
    p->shorter[0] = 0;
    for (size_t i = 1, k = 0; i < p->length; i++) {
        while (k > 0 && p->text[i] != p->text[k]) k = p->shorter[k - 1];
        k += p->text[i] == p->text[k];
        p->shorter[i] = k;
    }
}

/* Takes all memory from the arena; the first run only counts. */
static void lay_out(fr_stop_strings *s, fr_arena *arena, const char *const *strings) {
    s->patterns = FR_TAKE(arena, pattern, s->count);
    for (size_t i = 0; i < s->count; i++) {
        size_t length = strlen(strings[i]), *shorter = FR_TAKE(arena, size_t, length);
        char *text = FR_TAKE(arena, char, length);
        if (length > s->longest) s->longest = length;
        if (!s->patterns || !shorter || !text) continue;
        memcpy(text, strings[i], length);
        s->patterns[i] = (pattern){text, length, 0, shorter};
        prepare(&s->patterns[i]);
    }
    s->held = FR_TAKE(arena, char, s->longest);
}

fr_status fr_stop_strings_create(const char *const *strings, size_t count, fr_stop_strings **out, fr_error *error) {
    for (size_t i = 0; i < count; i++)
        if (!strings[i] || !*strings[i]) return fr_fail(error, FR_ERROR_ARGUMENT, "stop string %zu: it is empty", i + 1);
    fr_stop_strings *s = fr_alloc_zeroed(1, sizeof *s);
    fr_arena arena = {0};
    if (!s) return fr_fail(error, FR_ERROR_MEMORY, "stop strings: out of memory");
    s->count = count;
    lay_out(s, &arena, strings);
    arena = (fr_arena){.size = arena.used, .base = s->memory = fr_alloc(arena.used)};
    if (!arena.base) {
        fr_stop_strings_destroy(s);
        return fr_fail(error, FR_ERROR_MEMORY, "stop strings: out of memory");
    }
    lay_out(s, &arena, strings);
    *out = s;
    return FR_OK;
}

void fr_stop_strings_destroy(fr_stop_strings *s) {
    if (!s) return;
    fr_free(s->memory);
    fr_free(s);
}

size_t fr_stop_strings_longest(const fr_stop_strings *s) {
    return s->longest;
}

/* Adds a byte to all matches. Returns the length of the longest prefix of a stop string that the text now ends with; *whole is
 * that of the longest stop string that it ends with, or 0. */
static size_t advance(fr_stop_strings *s, char byte, size_t *whole) {
    size_t most = 0;
    *whole = 0;
    for (size_t i = 0; i < s->count; i++) {
        pattern *p = &s->patterns[i];
        while (p->matched > 0 && p->text[p->matched] != byte) p->matched = p->shorter[p->matched - 1];
        p->matched += p->text[p->matched] == byte;
        if (p->matched > most) most = p->matched;
        if (p->matched == p->length && p->length > *whole) *whole = p->length;
    }
    return most;
}

size_t fr_stop_strings_push(fr_stop_strings *s, char byte, char *out) {
    size_t whole;
    if (s->found) return 0;
    size_t keep = advance(s, byte, &whole), have = s->num_held + 1, gone = have - (whole > 0 ? whole : keep);
    /* The byte comes after those in `held`, which may have no room for it: then it is written directly. */
    size_t from_held = gone < s->num_held ? gone : s->num_held;
    memcpy(out, s->held, from_held);
    if (gone > from_held) out[from_held] = byte;
    s->found = whole > 0;
    memmove(s->held, s->held + from_held, s->num_held - from_held);
    s->num_held -= from_held;
    if (gone == from_held) s->held[s->num_held++] = byte;
    if (s->found) s->num_held = 0;
    return gone;
}

bool fr_stop_strings_found(const fr_stop_strings *s) {
    return s->found;
}

size_t fr_stop_strings_finish(fr_stop_strings *s, char *out) {
    size_t count = s->num_held;
    memcpy(out, s->held, count);
    for (size_t i = 0; i < s->count; i++) s->patterns[i].matched = 0;
    s->num_held = 0;
    s->found = false;
    return count;
}
