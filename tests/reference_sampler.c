#include "reference_sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

reference_sampler *reference_create(const fr_sampling *sampling, int vocab_size) {
    reference_sampler *r = calloc(1, sizeof *r);
    size_t n = (size_t)vocab_size;
    *r = (reference_sampler){.sampling = *sampling,
                             .vocab_size = vocab_size,
                             .x = calloc(n, sizeof(float)),
                             .left = calloc(n, sizeof(reference_token)),
                             .proposal = calloc(n, sizeof(reference_token)),
                             .q = calloc(n, sizeof(double))};
    return r;
}

void reference_destroy(reference_sampler *r) {
    free(r->x);
    free(r->left);
    free(r->proposal);
    free(r->q);
    free(r);
}

/* How often a token is in [from, to) of the text. */
static int count_of(const int32_t *tokens, int from, int to, int32_t token) {
    int count = 0;
    for (int i = from; i < to; i++) count += tokens[i] == token;
    return count;
}

static void penalize(reference_sampler *r, const float *logits, fr_history h) {
    const fr_sampling *s = &r->sampling;
    for (int i = 0; i < r->vocab_size; i++) {
        int anywhere = count_of(h.tokens, 0, h.length, i), generated = count_of(h.tokens, h.generated, h.length, i);
        float x = logits[i];
        if (s->repetition_penalty > 0.0f && anywhere) x = x > 0.0f ? x / s->repetition_penalty : x * s->repetition_penalty;
        for (int n = 0; n < generated; n++) {
            x -= s->frequency_penalty;
            if (n == 0) x -= s->presence_penalty;
        }
        r->x[i] = x;
    }
    for (size_t i = 0; i < s->num_logit_bias; i++) r->x[s->logit_bias[i].token] += s->logit_bias[i].bias;
}

static int by_rank(const void *a, const void *b) {
    const reference_token *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : x->id - y->id;
}

static void softmax(reference_token *t, int count, bool ascending) {
    double highest = -INFINITY, sum = 0.0;
    for (int i = 0; i < count; i++) highest = fmax(highest, t[i].score);
    for (int i = 0; i < count; i++) t[i].p = exp(t[i].score - highest);
    for (int i = 0; i < count; i++) sum += t[ascending ? count - 1 - i : i].p;
    for (int i = 0; i < count; i++) t[i].p /= sum;
}

static void apply_filters(reference_sampler *r) {
    const fr_sampling *s = &r->sampling;
    reference_token *t = r->left;
    int n = r->vocab_size;
    for (int i = 0; i < n; i++) t[i] = (reference_token){.id = i, .score = (double)r->x[i] / (double)s->temperature};
    bool all = s->top_k <= 0 || s->top_k >= n;
    if (all) softmax(t, n, false); /* summed by ids */
    qsort(t, (size_t)n, sizeof *t, by_rank);
    if (!all) softmax(t, n = s->top_k, true);
    if (s->top_p > 0.0f && s->top_p < 1.0f) {
        int kept = 0;
        double sum = 0.0;
        while (kept < n && sum < (double)s->top_p) sum += t[kept++].p;
        softmax(t, n = kept, true);
    }
    if (s->min_p > 0.0f) {
        while (n > 1 && t[n - 1].p < (double)s->min_p * t[0].p) n--;
        softmax(t, n, true);
    }
    r->count = n;
}

static const reference_token *draw(const reference_sampler *r, const reference_token *t, int count, fr_stream stream,
                                   int position) {
    const reference_token *best = NULL;
    double most = 0.0;
    for (int i = 0; i < count; i++) {
        double value = t[i].score + fr_gumbel(r->sampling.seed, stream, position, t[i].id);
        if (best && (value < most || (value == most && t[i].id > best->id))) continue;
        most = value;
        best = &t[i];
    }
    return best;
}

static int32_t greedy(const reference_sampler *r) {
    int32_t best = 0;
    for (int32_t i = 1; i < r->vocab_size; i++)
        if (r->x[i] > r->x[best]) best = i;
    return best;
}

int32_t reference_choose(reference_sampler *r, const float *logits, fr_history h) {
    penalize(r, logits, h);
    if (r->sampling.temperature <= 0.0f) return greedy(r);
    apply_filters(r);
    return draw(r, r->left, r->count, FR_STREAM_TOKEN, h.length)->id;
}

int32_t reference_draft(reference_sampler *r, const float *logits, fr_history h, double *confidence) {
    penalize(r, logits, h);
    if (r->sampling.temperature <= 0.0f) {
        double sum = 0.0;
        int32_t token = greedy(r);
        for (int i = 0; i < r->vocab_size; i++) sum += exp((double)r->x[i] - (double)r->x[token]);
        *confidence = 1.0 / sum;
        return token;
    }
    apply_filters(r);
    bool rejection = r->sampling.verify == FR_VERIFY_REJECTION;
    const reference_token *t = rejection ? draw(r, r->left, r->count, FR_STREAM_DRAFT, h.length * FR_MAX_DEPTH)
                                         : draw(r, r->left, r->count, FR_STREAM_TOKEN, h.length);
    *confidence = t->p;
    memcpy(r->proposal, r->left, (size_t)r->count * sizeof *r->left);
    r->proposed = r->count;
    return t->id;
}

int32_t reference_verify(reference_sampler *r, const float *logits, fr_history h, int32_t draft) {
    if (r->sampling.temperature <= 0.0f || r->sampling.verify != FR_VERIFY_REJECTION) return reference_choose(r, logits, h);
    double p = 0.0;
    int n = 0;
    penalize(r, logits, h);
    apply_filters(r);
    memset(r->q, 0, (size_t)r->vocab_size * sizeof *r->q);
    for (int i = 0; i < r->proposed; i++) r->q[r->proposal[i].id] = r->proposal[i].p;
    for (int i = 0; i < r->count; i++)
        if (r->left[i].id == draft) p = r->left[i].p;
    if (fr_uniform(r->sampling.seed, FR_STREAM_ACCEPT, h.length, 0) * r->q[draft] < p) return draft;
    for (int i = 0; i < r->count; i++) {
        reference_token t = r->left[i];
        t.score = log(t.p - r->q[t.id]);
        if (t.p > r->q[t.id]) r->left[n++] = t;
    }
    return draw(r, r->left, n > 0 ? n : r->count, FR_STREAM_RESIDUAL, h.length)->id;
}
