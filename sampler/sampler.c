#include "sampler/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "sampler/greedy.h"

void fr_sampler_take(fr_sampler *s, fr_arena *arena, const fr_sampling *sampling, int vocab_size) {
    fr_filters_take(&s->filters, arena, sampling, vocab_size);
    if (sampling->temperature <= 0.0f) return;
    fr_distribution_take(&s->target, arena, vocab_size);
    if (sampling->verify != FR_VERIFY_REJECTION) return;
    for (int j = 0; j < FR_MAX_DEPTH; j++) fr_distribution_take(&s->proposal[j], arena, vocab_size);
    s->residual = FR_TAKE(arena, double, vocab_size);
    if (s->residual) memset(s->residual, 0, (size_t)vocab_size * sizeof(double));
}

static bool is_greedy(const fr_sampler *s) {
    return s->filters.sampling.temperature <= 0.0f;
}

/* The distribution that logits give after penalties, temperature and filters. */
static void distribute(fr_sampler *s, const float *logits, fr_history h, fr_distribution *d) {
    fr_filters_apply(&s->filters, fr_filters_penalize(&s->filters, logits, h.tokens, h.length, h.generated), d);
}

/* A sample of a distribution by the Gumbel-max trick: argmax of score + noise. Noise is bounded, so what cannot win any more
 * is passed over without computing it. */
static int32_t draw(const fr_sampler *s, const fr_distribution *d, fr_stream stream, int position) {
    uint64_t seed = s->filters.sampling.seed;
    int first = 0;
    for (int i = 1; i < d->count; i++)
        if (d->score[i] > d->score[first]) first = i;
    int32_t best = d->ids[first];
    double value = d->score[first] + fr_gumbel(seed, stream, position, best);
    for (int i = 0; i < d->count; i++) {
        if (i == first || d->score[i] + FR_GUMBEL_MAX < value) continue;
        double candidate = d->score[i] + fr_gumbel(seed, stream, position, d->ids[i]);
        if (candidate > value || (candidate == value && d->ids[i] < best)) {
            value = candidate;
            best = d->ids[i];
        }
    }
    return best;
}

int32_t fr_sampler_choose(fr_sampler *s, const float *logits, fr_history h) {
    if (is_greedy(s))
        return fr_greedy(fr_filters_penalize(&s->filters, logits, h.tokens, h.length, h.generated), s->filters.vocab_size);
    distribute(s, logits, h, &s->target);
    return draw(s, &s->target, FR_STREAM_TOKEN, h.length);
}

static double probability(const fr_distribution *d, int32_t token) {
    for (int i = 0; i < d->count; i++)
        if (d->ids[i] == token) return d->p[i];
    return 0.0;
}

/* exp(x - highest), also for logits that are infinite; a NaN has no weight. */
static double softmax_weight(float x, float highest) {
    return x < highest ? (double)expf(x - highest) : x == highest ? 1.0 : 0.0;
}

int32_t fr_sampler_draft(fr_sampler *s, const float *logits, fr_history h, int j, double *confidence) {
    assert(j >= 0 && j < FR_MAX_DEPTH);
    if (is_greedy(s)) {
        const float *x = fr_filters_penalize(&s->filters, logits, h.tokens, h.length, h.generated);
        int32_t token = fr_greedy(x, s->filters.vocab_size);
        double sum = 0.0;
        for (int i = 0; i < s->filters.vocab_size; i++) sum += i == token ? 1.0 : softmax_weight(x[i], x[token]);
        *confidence = 1.0 / sum;
        return token;
    }
    bool rejection = s->filters.sampling.verify == FR_VERIFY_REJECTION;
    fr_distribution *d = rejection ? &s->proposal[j] : &s->target;
    distribute(s, logits, h, d);
    /* Drafts of one position in two cycles are independent, so that nothing learned from the first says what the second is. */
    int apart = (int)((unsigned)h.length * FR_MAX_DEPTH + (unsigned)j);
    int32_t token = rejection ? draw(s, d, FR_STREAM_DRAFT, apart) : draw(s, d, FR_STREAM_TOKEN, h.length);
    *confidence = probability(d, token);
    return token;
}

double fr_sampler_foreseen(const fr_sampler *s, int j, double confidence) {
    const fr_distribution *d = &s->proposal[j];
    double highest = 0.0;
    if (is_greedy(s) || s->filters.sampling.verify != FR_VERIFY_REJECTION) return confidence;
    for (int i = 0; i < d->count; i++) highest = fmax(highest, d->p[i]);
    return highest;
}

void fr_sampler_propose(fr_sampler *s, int j, int32_t token) {
    assert(j >= 0 && j < FR_MAX_DEPTH);
    if (is_greedy(s) || s->filters.sampling.verify != FR_VERIFY_REJECTION) return;
    fr_distribution *d = &s->proposal[j];
    d->count = 1;
    d->ids[0] = token;
    d->score[0] = 0.0;
    d->p[0] = 1.0;
}

/* A sample of the normalized positive part of target - proposal. */
static int32_t draw_residual(fr_sampler *s, const fr_distribution *proposal, int position) {
    fr_distribution *d = &s->target;
    int kept = 0;
    for (int i = 0; i < proposal->count; i++) s->residual[proposal->ids[i]] = proposal->p[i];
    for (int i = 0; i < d->count; i++) {
        double left = d->p[i] - s->residual[d->ids[i]];
        if (left <= 0.0) continue;
        d->ids[kept] = d->ids[i];
        d->score[kept++] = log(left);
    }
    for (int i = 0; i < proposal->count; i++) s->residual[proposal->ids[i]] = 0.0;
    if (kept > 0) d->count = kept; /* else p equals q up to rounding, and any token of p is right */
    return draw(s, d, FR_STREAM_RESIDUAL, position);
}

int32_t fr_sampler_verify(fr_sampler *s, const float *logits, fr_history h, int j, int32_t draft) {
    assert(j >= 0 && j < FR_MAX_DEPTH);
    if (is_greedy(s) || s->filters.sampling.verify != FR_VERIFY_REJECTION) return fr_sampler_choose(s, logits, h);
    const fr_distribution *q = &s->proposal[j];
    distribute(s, logits, h, &s->target);
    double u = fr_uniform(s->filters.sampling.seed, FR_STREAM_ACCEPT, h.length, 0);
    if (u * probability(q, draft) < probability(&s->target, draft)) return draft;
    return draw_residual(s, q, h.length);
}
