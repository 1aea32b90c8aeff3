#include "mtp/drafters/drafter.h"

enum { LONGEST = 4, SHORTEST = 2 };

/* Where the text's last n tokens stand for the last time before its end: index of the token after them, or -1. */
static int find(const int32_t *tokens, int length, int n) {
    for (int end = length - 1; end >= n; end--)
        if (memcmp(tokens + end - n, tokens + length - n, (size_t)n * sizeof *tokens) == 0) return end;
    return -1;
}

static void draft(fr_session *s, fr_cycle *cycle) {
    int from = -1;
    if (cycle->planned == 0) return; /* there is nothing to keep up with */
    for (int n = LONGEST; n >= SHORTEST && from < 0; n--)
        if (s->length > n) from = find(s->tokens, s->length, n);
    if (from < 0) return;
    int count = cycle->planned < s->length - from ? cycle->planned : s->length - from;
    for (int j = 0; j < count; j++) {
        s->tokens[s->length + j] = s->tokens[from + j];
        fr_sampler_propose(&s->sampler, j, s->tokens[from + j]);
        cycle->confidence[j] = 1.0;
    }
    cycle->made = count;
}

const fr_drafter fr_ngram_drafter = {"ngram", draft};
