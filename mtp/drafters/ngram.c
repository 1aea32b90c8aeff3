/* Lookup in the text so far: what followed when its last few tokens occurred before. */
#include <string.h>

#include "mtp/drafters/drafter.h"

enum { LONGEST = 4, SHORTEST = 2 };

/* The latest place before the text's end where its last n tokens occur: index of the token after them, or -1. */
static int find(const int32_t *tokens, int length, int n) {
    for (int end = length - 1; end >= n; end--)
        if (memcmp(tokens + end - n, tokens + length - n, (size_t)n * sizeof *tokens) == 0) return end;
    return -1;
}

static void draft(fr_drafter *drafter, const fr_draft_context *c, fr_cycle *cycle) {
    int from = -1;
    (void)drafter; /* the text is all that it knows */
    if (cycle->planned == 0) return;
    for (int n = LONGEST; n >= SHORTEST && from < 0; n--)
        if (c->length > n) from = find(c->tokens, c->length, n);
    while (from >= 0 && from < c->length && cycle->made < cycle->planned) fr_draft_propose(c, cycle, c->tokens[from++]);
}

const fr_drafter_type fr_ngram_drafter_type = {.name = "ngram", .size = sizeof(fr_drafter), .draft = draft};
