#include "sampler/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/threads.h"

/* A vocabulary worth a team: what is done for a token is a comparison, or an exponential too. */
enum { MANY_GREEDY = 65536, MANY_WEIGHED = 4096 };

void fr_sampler_take(fr_sampler *s, fr_arena *arena, const fr_sampling *sampling, int vocab_size, const fr_kernels *kernels,
                     int threads) {
    bool greedy = sampling->temperature <= 0.0f;
    s->threads = vocab_size >= (greedy ? MANY_GREEDY : MANY_WEIGHED) ? threads : 1;
    fr_filters_take(&s->filters, arena, sampling, vocab_size, kernels, s->threads);
    if (greedy) return;
    s->best = FR_TAKE(arena, fr_best, s->threads);
    fr_distribution_take(&s->target, arena, vocab_size);
    if (sampling->verify != FR_VERIFY_REJECTION) return;
    for (int j = 0; j < FR_MAX_DEPTH; j++) fr_distribution_take(&s->proposal[j], arena, vocab_size);
    s->residual = FR_TAKE(arena, double, vocab_size);
    if (s->residual) memset(s->residual, 0, (size_t)vocab_size * sizeof(double));
}

static bool is_greedy(const fr_sampler *s) {
    return s->filters.sampling.temperature <= 0.0f;
}

static bool is_rejection(const fr_sampler *s) {
    return !is_greedy(s) && s->filters.sampling.verify == FR_VERIFY_REJECTION;
}

/* ---- Team functions ---- */

/* One choice; its threads share it, and the first writes what came out. */
typedef struct choice {
    fr_sampler *sampler;
    const float *logits;
    fr_history history;
    int j;         /* of a draft, */
    int32_t draft; /* which is to be verified */
    int32_t token;
    double confidence;
} choice;

static void tell(choice *c, int32_t token, double confidence) {
    if (fr_team_rank() > 0) return;
    c->token = token;
    c->confidence = confidence;
}

static const float *penalize(const choice *c) {
    return fr_filters_penalize(&c->sampler->filters, c->logits, c->history.tokens, c->history.length, c->history.generated);
}

/* A sample of a distribution: an index into it. */
static int draw(const choice *c, const fr_distribution *d, fr_stream stream, int position) {
    return fr_draw(d, c->sampler->best, c->sampler->filters.sampling.seed, stream, position);
}

static void choose_greedily(void *argument) {
    choice *c = argument;
    tell(c, fr_row_peak(&c->sampler->filters.row, penalize(c)).id, 0.0);
}

static void draft_greedily(void *argument) {
    choice *c = argument;
    fr_row *row = &c->sampler->filters.row;
    const float *x = penalize(c);
    fr_peak peak = fr_row_peak(row, x);
    tell(c, peak.id, fr_row_confidence(row, x, peak));
}

/* From the distribution that logits give after penalties, temperature and filters. */
static void choose_from(choice *c, fr_distribution *d, fr_stream stream, int position) {
    fr_filters_apply(&c->sampler->filters, penalize(c), d);
    int i = draw(c, d, stream, position);
    tell(c, d->ids[i], d->p[i]);
}

static void choose(void *argument) {
    choice *c = argument;
    choose_from(c, &c->sampler->target, FR_STREAM_TOKEN, c->history.length);
}

/* Drafts of one position in two cycles are independent, so that nothing learned from the first says what the second is. */
static void draft(void *argument) {
    choice *c = argument;
    int apart = (int)((unsigned)c->history.length * FR_MAX_DEPTH + (unsigned)c->j);
    choose_from(c, &c->sampler->proposal[c->j], FR_STREAM_DRAFT, apart);
}

static double probability(const fr_distribution *d, int32_t token) {
    for (int i = 0; i < d->count; i++)
        if (d->ids[i] == token) return d->p[i];
    return 0.0;
}

/* The positive part of target - proposal takes the target's place: p is not normalized, score is its logarithm. */
static void subtract(fr_sampler *s, const fr_distribution *proposal) {
    fr_distribution *d = &s->target;
    int kept = 0, top = 0;
    for (int i = 0; i < proposal->count; i++) s->residual[proposal->ids[i]] = proposal->p[i];
    for (int i = 0; i < d->count; i++) {
        double left = d->p[i] - s->residual[d->ids[i]];
        if (left <= 0.0) continue;
        d->ids[kept] = d->ids[i];
        d->score[kept] = log(left);
        d->p[kept] = left;
        if (left > d->p[top]) top = kept;
        kept++;
    }
    for (int i = 0; i < proposal->count; i++) s->residual[proposal->ids[i]] = 0.0;
    if (kept == 0) return; /* p equals q up to rounding, and any token of p is right */
    d->count = kept;
    d->top = top;
}

static void verify(void *argument) {
    choice *c = argument;
    fr_sampler *s = c->sampler;
    const fr_distribution *q = &s->proposal[c->j], *p = &s->target;
    fr_filters_apply(&s->filters, penalize(c), &s->target);
    double u = fr_uniform(s->filters.sampling.seed, FR_STREAM_ACCEPT, c->history.length, 0);
    if (u * probability(q, c->draft) < probability(p, c->draft)) {
        tell(c, c->draft, 0.0);
        return;
    }
    fr_team_barrier(); /* all have seen p */
    if (fr_team_rank() == 0) subtract(s, q);
    fr_team_barrier();
    tell(c, p->ids[draw(c, p, FR_STREAM_RESIDUAL, c->history.length)], 0.0);
}

/* ---- The face ---- */

int32_t fr_sampler_choose(fr_sampler *s, const float *logits, fr_history h) {
    choice c = {.sampler = s, .logits = logits, .history = h};
    fr_team_run(s->threads, is_greedy(s) ? choose_greedily : choose, &c);
    return c.token;
}

int32_t fr_sampler_draft(fr_sampler *s, const float *logits, fr_history h, int j, double *confidence) {
    assert(j >= 0 && j < FR_MAX_DEPTH);
    choice c = {.sampler = s, .logits = logits, .history = h, .j = j};
    fr_team_run(s->threads, is_greedy(s) ? draft_greedily : is_rejection(s) ? draft : choose, &c);
    *confidence = c.confidence;
    return c.token;
}

double fr_sampler_foreseen(const fr_sampler *s, int j, double confidence) {
    const fr_distribution *d = &s->proposal[j];
    return is_rejection(s) ? d->p[d->top] : confidence;
}

void fr_sampler_propose(fr_sampler *s, int j, int32_t token) {
    assert(j >= 0 && j < FR_MAX_DEPTH);
    if (!is_rejection(s)) return;
    fr_distribution *d = &s->proposal[j];
    d->count = 1;
    d->top = 0;
    d->ids[0] = token;
    d->score[0] = 0.0;
    d->p[0] = 1.0;
}

int32_t fr_sampler_verify(fr_sampler *s, const float *logits, fr_history h, int j, int32_t token) {
    assert(j >= 0 && j < FR_MAX_DEPTH);
    if (!is_rejection(s)) return fr_sampler_choose(s, logits, h);
    choice c = {.sampler = s, .logits = logits, .history = h, .j = j, .draft = token};
    fr_team_run(s->threads, verify, &c);
    return c.token;
}
