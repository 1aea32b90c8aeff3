#include "sampler/distribution.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void fr_distribution_take(fr_distribution *d, fr_arena *arena, int vocab_size) {
    d->count = 0;
    d->ids = FR_TAKE(arena, int32_t, vocab_size);
    d->score = FR_TAKE(arena, double, vocab_size);
    d->p = FR_TAKE(arena, double, vocab_size);
}

void fr_filters_take(fr_filters *filters, fr_arena *arena, const fr_sampling *sampling, int vocab_size) {
    filters->vocab_size = vocab_size;
    filters->sampling = *sampling;
    filters->adjusted = FR_TAKE(arena, float, vocab_size);
    filters->seen = FR_TAKE(arena, uint8_t, vocab_size);
    if (filters->seen) memset(filters->seen, 0, (size_t)vocab_size);
}

const float *fr_filters_penalize(fr_filters *filters, const float *logits, const int32_t *tokens, int length, int generated) {
    const fr_sampling *s = &filters->sampling;
    bool repetition = s->repetition_penalty > 0.0f && s->repetition_penalty != 1.0f;
    bool presence = s->presence_penalty != 0.0f || s->frequency_penalty != 0.0f;
    if (!repetition && !presence && s->num_logit_bias == 0) return logits;
    float *x = filters->adjusted;
    memcpy(x, logits, (size_t)filters->vocab_size * sizeof(float));
    for (int i = 0; repetition && i < length; i++) {
        if (filters->seen[tokens[i]]) continue;
        filters->seen[tokens[i]] = 1;
        x[tokens[i]] = x[tokens[i]] > 0.0f ? x[tokens[i]] / s->repetition_penalty : x[tokens[i]] * s->repetition_penalty;
    }
    for (int i = 0; i < length; i++) filters->seen[tokens[i]] = 0;
    for (int i = generated; presence && i < length; i++) {
        x[tokens[i]] -= s->frequency_penalty;
        if (filters->seen[tokens[i]]) continue;
        filters->seen[tokens[i]] = 1;
        x[tokens[i]] -= s->presence_penalty;
    }
    for (int i = generated; i < length; i++) filters->seen[tokens[i]] = 0;
    for (size_t i = 0; i < s->num_logit_bias; i++) x[s->logit_bias[i].token] += s->logit_bias[i].bias;
    return x;
}

/* Whether entry i comes before entry j: the higher score, of equal ones the lower id. */
static bool before(const fr_distribution *d, int i, int j) {
    return d->score[i] > d->score[j] || (d->score[i] == d->score[j] && d->ids[i] < d->ids[j]);
}

static void swap(fr_distribution *d, int i, int j) {
    double score = d->score[i], p = d->p[i];
    int32_t id = d->ids[i];
    d->score[i] = d->score[j];
    d->p[i] = d->p[j];
    d->ids[i] = d->ids[j];
    d->score[j] = score;
    d->p[j] = p;
    d->ids[j] = id;
}

/* The entries [0, n) are a heap, the first in the order of `before` on top, except that entry i may be too far up. */
static void sift_down(fr_distribution *d, int i, int n) {
    for (;;) {
        int child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && before(d, child + 1, child)) child++;
        if (!before(d, child, i)) return;
        swap(d, i, child);
        i = child;
    }
}

/* Keeps the first `most` entries in the order of `before`, or fewer: as many as it takes to reach probability `enough`. */
static void keep_first(fr_distribution *d, int most, double enough) {
    int n = d->count, kept = 0;
    double sum = 0.0;
    for (int i = n / 2 - 1; i >= 0; i--) sift_down(d, i, n);
    while (kept < most && kept < n && sum < enough) { /* each pop puts the first of what is left behind the heap */
        kept++;
        sum += d->p[0];
        swap(d, 0, n - kept);
        sift_down(d, 0, n - kept);
    }
    memmove(d->ids, d->ids + n - kept, (size_t)kept * sizeof *d->ids);
    memmove(d->score, d->score + n - kept, (size_t)kept * sizeof *d->score);
    memmove(d->p, d->p + n - kept, (size_t)kept * sizeof *d->p);
    d->count = kept;
}

/* Probabilities of what is there, summing to 1. */
static void normalize(fr_distribution *d) {
    double highest = -INFINITY, sum = 0.0;
    for (int i = 0; i < d->count; i++)
        if (d->score[i] > highest) highest = d->score[i];
    for (int i = 0; i < d->count; i++) { /* (infinity - infinity would be NaN) */
        d->p[i] = d->score[i] < highest ? exp(d->score[i] - highest) : 1.0;
        sum += d->p[i];
    }
    for (int i = 0; i < d->count; i++) d->p[i] /= sum;
}

void fr_filters_apply(const fr_filters *filters, const float *adjusted, fr_distribution *d) {
    const fr_sampling *s = &filters->sampling;
    assert(s->temperature > 0.0f);
    d->count = filters->vocab_size;
    for (int i = 0; i < d->count; i++) {
        d->ids[i] = i;
        d->score[i] = isnan(adjusted[i]) ? -INFINITY : (double)adjusted[i] / (double)s->temperature;
    }
    if (s->top_k > 0 && s->top_k < d->count) {
        memset(d->p, 0, (size_t)d->count * sizeof *d->p); /* not known yet, and not needed */
        keep_first(d, s->top_k, 1.0);
    }
    normalize(d);
    if (s->top_p > 0.0f && s->top_p < 1.0f) { /* the smallest set of most likely tokens that reaches top_p */
        keep_first(d, d->count, s->top_p);
        normalize(d);
    }
    if (s->min_p > 0.0f) {
        double highest = 0.0;
        int kept = 0;
        for (int i = 0; i < d->count; i++)
            if (d->p[i] > highest) highest = d->p[i];
        for (int i = 0; i < d->count; i++)
            if (d->p[i] >= (double)s->min_p * highest) swap(d, i, kept++);
        d->count = kept;
        normalize(d);
    }
}
