#include "attn/select.h"

#include <assert.h>
#include <string.h>

#include "core/threads.h"

enum { SHIFT = 21 }; /* bits below the upper ones */

void fr_select_take(fr_select *s, fr_arena *arena, int rows, int threads, int ctx) {
    s->threads = threads;
    s->ctx = ctx;
    s->counts = FR_TAKE(arena, uint32_t, (size_t)rows * (size_t)threads * FR_SELECT_DIGITS);
    s->parts = FR_TAKE(arena, fr_select_part, (size_t)rows * (size_t)threads);
    s->found = FR_TAKE(arena, int32_t, (size_t)rows * (size_t)ctx);
}

/* Numbers in the order of scores. Both zeros are the same one. */
static uint32_t key_of(float score) {
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static fr_select_part *part_of(const fr_select *s, int row, int rank) {
    return &s->parts[(size_t)row * (size_t)s->threads + (size_t)rank];
}

static uint32_t *counts_of(const fr_select *s, int row, int rank) {
    return s->counts + ((size_t)row * (size_t)s->threads + (size_t)rank) * FR_SELECT_DIGITS;
}

void fr_select_begin(fr_select *s, int rows) {
    for (int row = 0; row < rows; row++) {
        *part_of(s, row, fr_team_rank()) = (fr_select_part){0};
        memset(counts_of(s, row, fr_team_rank()), 0, FR_SELECT_DIGITS * sizeof *s->counts);
    }
}

void fr_select_count(fr_select *s, int row, const float *scores, int begin, int end) {
    fr_select_part *part = part_of(s, row, fr_team_rank());
    uint32_t *counts = counts_of(s, row, fr_team_rank());
    assert(part->end == part->begin || part->end == begin);
    if (part->end == part->begin) part->begin = begin;
    part->end = end;
    for (int i = begin; i < end; i++) counts[key_of(scores[i]) >> SHIFT]++;
}

/* The upper bits of the k-th largest key. */
static uint32_t last_digit(const fr_select *s, int row, int k) {
    uint32_t digit = FR_SELECT_DIGITS, count = 0;
    while (count < (uint32_t)k) {
        digit--;
        for (int t = 0; t < fr_team_size(); t++) count += counts_of(s, row, t)[digit];
    }
    return digit;
}

void fr_select_collect(fr_select *s, int row, const float *scores, int k) {
    fr_select_part part = *part_of(s, row, fr_team_rank());
    int32_t *found = s->found + (size_t)row * (size_t)s->ctx;
    const uint32_t digit = last_digit(s, row, k);
    /* Without branches, which nobody could predict: what is not counted is written over. */
    for (int i = part.begin; i < part.end; i++) {
        uint32_t upper = key_of(scores[i]) >> SHIFT;
        found[part.end - part.equal - 1] = i;
        part.equal += upper == digit;
        found[part.begin + part.above] = i;
        part.above += upper > digit;
    }
    *part_of(s, row, fr_team_rank()) = part;
}

/* The next `bits` bits of the left-th largest key of those that begin with `known`, whose other `shift` bits are below; *left:
 * how many are to be chosen of those that go on with them. */
static uint32_t refine(const float *scores, int n, uint32_t known, int shift, int bits, int *left) {
    uint32_t count[1 << 11] = {0}, mask = (1u << bits) - 1;
    for (int i = 0; i < n; i++) {
        uint32_t key = key_of(scores[i]);
        if (key >> (shift + bits) == known) count[key >> shift & mask]++;
    }
    uint32_t digit = mask;
    while (count[digit] < (uint32_t)*left) *left -= (int)count[digit--];
    return known << bits | digit;
}

/* Brings the scores of the equal ones to the front, in ascending order of positions; *above: how many others there are. */
static int gather(const fr_select *s, int row, float *scores, int *above) {
    int n = 0;
    *above = 0;
    for (int t = 0; t < fr_team_size(); t++) {
        const fr_select_part *part = part_of(s, row, t);
        const int32_t *equal = s->found + (size_t)row * (size_t)s->ctx + part->end - 1;
        for (int i = 0; i < part->equal; i++) scores[n++] = scores[equal[-i]];
        *above += part->above;
    }
    return n;
}

void fr_select_finish(fr_select *s, int row, float *scores, int k, int32_t *positions) {
    int above, count = 0, n = gather(s, row, scores, &above), left = k - above;
    uint32_t last = refine(scores, n, key_of(scores[0]) >> SHIFT, 10, 11, &left);
    last = refine(scores, n, last, 0, 10, &left);
    for (int t = 0; t < fr_team_size(); t++) { /* what a part has of both, by position */
        const fr_select_part *part = part_of(s, row, t);
        const int32_t *found = s->found + (size_t)row * (size_t)s->ctx, *sure = found + part->begin, *end = sure + part->above;
        for (int i = 1; i <= part->equal; i++, scores++) {
            int32_t position = found[part->end - i];
            uint32_t key = key_of(*scores);
            while (sure < end && *sure < position) positions[count++] = *sure++;
            if (key > last || (key == last && left-- > 0)) positions[count++] = position;
        }
        while (sure < end) positions[count++] = *sure++;
    }
    assert(count == k);
    (void)k;
}
