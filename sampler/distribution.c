#include "sampler/distribution.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/threads.h"

void fr_distribution_take(fr_distribution *d, fr_arena *arena, int vocab_size) {
    d->count = 0;
    d->ids = FR_TAKE(arena, int32_t, vocab_size);
    d->score = FR_TAKE(arena, double, vocab_size);
    d->p = FR_TAKE(arena, double, vocab_size);
}

void fr_filters_take(fr_filters *filters, fr_arena *arena, const fr_sampling *sampling, int vocab_size, const fr_kernels *kernels,
                     int threads) {
    filters->vocab_size = vocab_size;
    filters->sampling = *sampling;
    filters->adjusted = FR_TAKE(arena, float, vocab_size);
    filters->seen = FR_TAKE(arena, uint8_t, vocab_size);
    if (filters->seen) memset(filters->seen, 0, (size_t)vocab_size);
    filters->gathered = FR_TAKE(arena, int, vocab_size / FR_ROW_CHUNK + 1);
    fr_row_take(&filters->row, arena, vocab_size, sampling->temperature <= 0.0f, kernels, threads);
}

/* ---- Penalties ---- */

static bool has_repetition(const fr_sampling *s) {
    return s->repetition_penalty > 0.0f && s->repetition_penalty != 1.0f;
}

static bool has_presence(const fr_sampling *s) {
    return s->presence_penalty != 0.0f || s->frequency_penalty != 0.0f;
}

static void adjust(fr_filters *filters, const int32_t *tokens, int length, int generated) {
    const fr_sampling *s = &filters->sampling;
    float *x = filters->adjusted;
    for (int i = 0; has_repetition(s) && i < length; i++) {
        if (filters->seen[tokens[i]]) continue;
        filters->seen[tokens[i]] = 1;
        x[tokens[i]] = x[tokens[i]] > 0.0f ? x[tokens[i]] / s->repetition_penalty : x[tokens[i]] * s->repetition_penalty;
    }
    for (int i = 0; i < length; i++) filters->seen[tokens[i]] = 0;
    for (int i = generated; has_presence(s) && i < length; i++) {
        x[tokens[i]] -= s->frequency_penalty;
        if (filters->seen[tokens[i]]) continue;
        filters->seen[tokens[i]] = 1;
        x[tokens[i]] -= s->presence_penalty;
    }
    for (int i = generated; i < length; i++) filters->seen[tokens[i]] = 0;
    for (size_t i = 0; i < s->num_logit_bias; i++) x[s->logit_bias[i].token] += s->logit_bias[i].bias;
}

const float *fr_filters_penalize(fr_filters *filters, const float *logits, const int32_t *tokens, int length, int generated) {
    const fr_sampling *s = &filters->sampling;
    int begin, end;
    if (!has_repetition(s) && !has_presence(s) && s->num_logit_bias == 0) return logits;
    fr_team_split(filters->vocab_size, FR_ROW_CHUNK, &begin, &end);
    memcpy(filters->adjusted + begin, logits + begin, (size_t)(end - begin) * sizeof(float));
    fr_team_barrier();
    if (fr_team_rank() == 0) adjust(filters, tokens, length, generated);
    fr_team_barrier();
    return filters->adjusted;
}

/* ---- Selection. p is weights here, until `normalize`. ---- */

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

/* Keeps the first `most` entries in the order of `before`, or fewer: as many as it takes for a sum that begins with `sum` to
 * reach `enough`, each adding its part of `total`. Returns by how much the sum missed `enough`, before or after the last one: the
 * smaller. */
static double keep_first(fr_distribution *d, int most, double sum, double enough, double total) {
    int n = d->count, kept = 0;
    double missed = fabs(enough - sum);
    for (int i = n / 2 - 1; i >= 0; i--) sift_down(d, i, n);
    while (kept < most && kept < n && sum < enough) { /* each pop puts the first of what is left behind the heap */
        kept++;
        missed = enough - sum;
        sum += d->p[0] / total;
        swap(d, 0, n - kept);
        sift_down(d, 0, n - kept);
    }
    memmove(d->ids, d->ids + n - kept, (size_t)kept * sizeof *d->ids);
    memmove(d->score, d->score + n - kept, (size_t)kept * sizeof *d->score);
    memmove(d->p, d->p + n - kept, (size_t)kept * sizeof *d->p);
    d->count = kept;
    return fmin(missed, fabs(sum - enough));
}

static double sum_of(const fr_distribution *d) {
    double sum = 0.0;
    for (int i = 0; i < d->count; i++) sum += d->p[i];
    return sum;
}

/* ---- Gathering what may be kept ---- */

/* Writes the tokens [begin, end) of bins up to `last` to entries [at, ...), which must not lie behind the tokens' own. Returns
 * the end. */
static int gather_range(const fr_filters *f, const float *x, fr_distribution *d, int at, int begin, int end, int last) {
    for (int i = begin; i < end; i++) {
        if (f->row.bin[i] > last) continue;
        d->ids[at] = i;
        d->score[at] = fr_row_score(x[i], f->sampling.temperature);
        d->p[at++] = f->row.weight[i];
    }
    return at;
}

/* Each thread gathers its chunks, at the entries of their own. */
static void gather_chunks(fr_filters *f, const float *x, fr_distribution *d, int last) {
    int begin, end;
    fr_team_split(f->vocab_size, FR_ROW_CHUNK, &begin, &end);
    for (int at = begin; at < end; at += FR_ROW_CHUNK) {
        int next = end - at < FR_ROW_CHUNK ? end : at + FR_ROW_CHUNK;
        f->gathered[at / FR_ROW_CHUNK] = gather_range(f, x, d, at, at, next, last) - at;
    }
}

/* Moves what the chunks have to the front, in the order of ids. */
static void join_chunks(const fr_filters *f, fr_distribution *d) {
    d->count = 0;
    for (int at = 0; at < f->vocab_size; at += FR_ROW_CHUNK) {
        int n = f->gathered[at / FR_ROW_CHUNK];
        memmove(d->ids + d->count, d->ids + at, (size_t)n * sizeof *d->ids);
        memmove(d->score + d->count, d->score + at, (size_t)n * sizeof *d->score);
        memmove(d->p + d->count, d->p + at, (size_t)n * sizeof *d->p);
        d->count += n;
    }
}

/* ---- Filters ---- */

static bool has_top_k(const fr_filters *f) {
    return f->sampling.top_k > 0 && f->sampling.top_k < f->vocab_size;
}

static bool has_top_p(const fr_filters *f) {
    return f->sampling.top_p > 0.0f && f->sampling.top_p < 1.0f;
}

/* A bin behind which no filter keeps anything. With top-k, top-p looks only at what that leaves. */
static int last_bin(const fr_filters *f, double sum) {
    uint64_t count = 0;
    double mass = 0.0, enough = (double)f->sampling.top_p * sum * (1.0 + 0x1p-30);
    int b = 0;
    if (!has_top_k(f) && !has_top_p(f)) return fr_row_bin(0.01 - log((double)f->sampling.min_p));
    for (; b < FR_ROW_BINS - 1; b++) {
        count += f->row.whole->count[b];
        mass += (double)f->row.whole->mass[b] * 0x1p-40;
        if (has_top_k(f) ? count >= (uint64_t)f->sampling.top_k : mass >= enough) break;
    }
    return b;
}

/* Part of a distribution: its arrays from entry `at` on. */
static fr_distribution view(const fr_distribution *d, int at, int count) {
    return (fr_distribution){.count = count, .ids = d->ids + at, .score = d->score + at, .p = d->p + at};
}

/* Top-p over the whole row, of which bins up to `last` are gathered. Those before `last` are kept, and in `last` it is decided.
 * The rule is: tokens in the order of `before`, probabilities as weights over their sum by ids, and the first of them whose sum
 * reaches top_p. Sums of other orders differ in the last places; where that may matter, the rule itself is followed. */
static void keep_nucleus(const fr_filters *f, const float *x, fr_distribution *d, int last, double total) {
    double enough = f->sampling.top_p, sum = 0.0, doubt = 4.0 * f->vocab_size * 0x1p-53;
    int sure = 0;
    for (int i = 0; i < d->count; i++)
        if (f->row.bin[d->ids[i]] < last) swap(d, i, sure++);
    for (int i = 0; i < sure; i++) sum += d->p[i] / total;
    fr_distribution rest = view(d, sure, d->count - sure);
    double missed = keep_first(&rest, rest.count, sum, enough, total);
    d->count = sure + rest.count;
    if (sum < enough && missed > doubt) return;
    total = 0.0;
    for (int i = 0; i < f->vocab_size; i++) total += f->row.weight[i];
    d->count = gather_range(f, x, d, 0, 0, f->vocab_size, last);
    keep_first(d, d->count, 0.0, enough, total);
}

static void keep_probable(const fr_filters *f, fr_distribution *d) {
    double sum = sum_of(d), least = (double)f->sampling.min_p * (1.0 / sum); /* the peak weighs 1 */
    int kept = 0;
    for (int i = 0; i < d->count; i++)
        if (d->p[i] / sum >= least) swap(d, i, kept++);
    d->count = kept;
}

static void filter(const fr_filters *f, const float *x, fr_distribution *d, int last, double sum) {
    if (has_top_k(f)) keep_first(d, f->sampling.top_k, 0.0, INFINITY, 1.0);
    if (has_top_p(f) && has_top_k(f)) keep_first(d, d->count, 0.0, f->sampling.top_p, sum_of(d));
    if (has_top_p(f) && !has_top_k(f)) keep_nucleus(f, x, d, last, sum);
    if (f->sampling.min_p > 0.0f) keep_probable(f, d);
}

/* Probabilities of what is there, and the place of the peak. */
static void normalize(fr_distribution *d, int32_t peak) {
    double sum = sum_of(d);
    for (int i = 0; i < d->count; i++) d->p[i] /= sum;
    for (d->top = 0; d->top < d->count - 1 && d->ids[d->top] != peak;) d->top++;
}

/* All tokens, where nothing is filtered. */
static void take_all(const fr_filters *f, const float *x, fr_distribution *d, double sum, int32_t peak) {
    int begin, end;
    fr_team_split(f->vocab_size, FR_ROW_CHUNK, &begin, &end);
    for (int i = begin; i < end; i++) {
        d->ids[i] = i;
        d->score[i] = fr_row_score(x[i], f->sampling.temperature);
        d->p[i] = f->row.weight[i] / sum;
    }
    if (fr_team_rank() > 0) return;
    d->count = f->vocab_size;
    d->top = peak;
}

void fr_filters_apply(fr_filters *f, const float *adjusted, fr_distribution *d) {
    assert(f->sampling.temperature > 0.0f);
    fr_peak peak = fr_row_peak(&f->row, adjusted);
    double sum = fr_row_weigh(&f->row, adjusted, peak, f->sampling.temperature);
    if (!has_top_k(f) && !has_top_p(f) && !(f->sampling.min_p > 0.0f)) {
        take_all(f, adjusted, d, sum, peak.id);
    } else {
        int last = last_bin(f, sum);
        gather_chunks(f, adjusted, d, last);
        fr_team_barrier();
        if (fr_team_rank() == 0) {
            join_chunks(f, d);
            filter(f, adjusted, d, last, sum);
            normalize(d, peak.id);
        }
    }
    fr_team_barrier();
}
