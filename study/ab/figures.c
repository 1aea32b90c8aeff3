#include "study/ab/figures.h"

#include <math.h>

#include "core/memory.h"
#include "study/speculation.h"

/* ---- Arms ---- */

double fr_ab_rate(const fr_ab_run *run, size_t prompt, int repeat, int column) {
    double tokens = 0.0, seconds = 0.0;
    for (int r = 0; r < run->options.repeats; r++) {
        if ((repeat >= 0 && r != repeat) || !fr_ab_turn_is_whole(run, prompt, r)) continue;
        const fr_ab_text *t = fr_ab_text_at(run, prompt, r, column);
        tokens += t->count - 1;
        seconds += t->decode_s;
    }
    return tokens > 0.0 && seconds > 0.0 ? tokens / seconds : NAN;
}

/* Sorts the samples. */
static fr_ab_quantiles quantiles_of(double *samples, size_t count) {
    if (count == 0) return (fr_ab_quantiles){0, NAN, NAN, NAN, NAN, NAN};
    fr_sort(samples, count);
    return (fr_ab_quantiles){count,
                             fr_quantile(samples, count, 0.05),
                             fr_quantile(samples, count, 0.5),
                             fr_quantile(samples, count, 0.9),
                             fr_quantile(samples, count, 0.95),
                             fr_quantile(samples, count, 0.99)};
}

/* The whole texts of a column, one after the other; NULL after the last. Begins with *at = 0. */
static const fr_ab_text *next_text(const fr_ab_run *run, int column, size_t *at) {
    size_t repeats = (size_t)run->options.repeats, turns = run->num_prompts * repeats;
    while (*at < turns) {
        size_t prompt = *at / repeats;
        int repeat = (int)((*at)++ % repeats);
        if (fr_ab_turn_is_whole(run, prompt, repeat)) return fr_ab_text_at(run, prompt, repeat, column);
    }
    return NULL;
}

typedef enum by_text { DECODE_RATE, PREFILL_RATE, TPOT, TTFT } by_text;

static double value_of(const fr_ab_text *t, by_text what) {
    switch (what) {
    case DECODE_RATE:
        return t->decode_s > 0.0 ? (t->count - 1) / t->decode_s : NAN;
    case PREFILL_RATE:
        return t->prefill_s > 0.0 ? (double)t->stats.prefill_tokens / t->prefill_s : NAN;
    case TPOT:
        return t->count > 1 ? 1e3 * t->decode_s / (t->count - 1) : NAN;
    case TTFT:
        return 1e3 * t->ttft_s;
    }
    return NAN;
}

static fr_ab_quantiles over_texts(const fr_ab_run *run, int column, by_text what, double *room) {
    size_t count = 0, at = 0;
    for (const fr_ab_text *t; (t = next_text(run, column, &at));) {
        double value = value_of(t, what);
        if (isfinite(value)) room[count++] = value;
    }
    return quantiles_of(room, count);
}

static fr_ab_quantiles over_parts(const fr_ab_run *run, int column, bool cycles, double *room) {
    size_t count = 0, at = 0;
    for (const fr_ab_text *t; (t = next_text(run, column, &at));) {
        const double *seconds = cycles ? t->cycle_s : t->token_s;
        int parts = cycles ? t->cycles : t->count - 1;
        for (int i = 0; i < parts; i++) room[count++] = 1e3 * seconds[i];
    }
    return quantiles_of(room, count);
}

fr_status fr_ab_figures_of(const fr_ab_run *run, int column, fr_ab_figures *out, fr_error *error) {
    double joules = 0.0;
    size_t at = 0, decoded = 0, texts = 0;
    *out = (fr_ab_figures){0};
    for (const fr_ab_text *t; (t = next_text(run, column, &at)); texts++) {
        out->tokens += (uint64_t)t->count;
        decoded += (size_t)t->count - 1;
        joules += t->energy_j; /* unknown once is unknown altogether */
        fr_stats_merge(&out->stats, &t->stats);
    }
    out->energy_j_per_token = decoded > 0 ? joules / (double)decoded : NAN;
    double *room = fr_alloc((decoded + texts + 1) * sizeof *room);
    if (!room) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the figures");
    out->decode_rate = over_texts(run, column, DECODE_RATE, room);
    out->prefill_rate = over_texts(run, column, PREFILL_RATE, room);
    out->tpot_ms = over_texts(run, column, TPOT, room);
    out->ttft_ms = over_texts(run, column, TTFT, room);
    out->token_ms = over_parts(run, column, false, room);
    out->cycle_ms = over_parts(run, column, true, room);
    fr_free(room);
    return FR_OK;
}

/* ---- Comparisons ---- */

/* Ratios by prompt into `ratios`; of a single prompt by pair. */
static size_t ratios_of(const fr_ab_run *run, int column, double *ratios, fr_ab_comparison *out) {
    size_t count = 0;
    for (size_t p = 0; p < run->num_prompts; p++) {
        double ratio = fr_ab_rate(run, p, -1, column) / fr_ab_rate(run, p, -1, run->base);
        if (isfinite(ratio)) ratios[count++] = ratio;
        for (int r = 0; r < run->options.repeats; r++) out->pairs += fr_ab_turn_is_whole(run, p, r);
    }
    out->prompts = count;
    if (run->num_prompts > 1 || count == 0) return count;
    out->by_pair = true;
    count = 0;
    for (int r = 0; r < run->options.repeats; r++) {
        double ratio = fr_ab_rate(run, 0, r, column) / fr_ab_rate(run, 0, r, run->base);
        if (isfinite(ratio)) ratios[count++] = ratio;
    }
    return count;
}

fr_status fr_ab_compare_columns(const fr_ab_run *run, int column, double unit_noise, fr_ab_comparison *out, fr_error *error) {
    const fr_bootstrap nothing = {.estimate = NAN, .interval = {NAN, NAN}};
    size_t most = run->num_prompts > (size_t)run->options.repeats ? run->num_prompts : (size_t)run->options.repeats;
    double *ratios = fr_alloc(2 * most * sizeof *ratios);
    fr_bootstrap_options percentile = {.method = FR_BOOTSTRAP_PERCENTILE,
                                       .resamples = run->options.resamples,
                                       .seed = run->options.session.sampling.seed},
                         bca = percentile;
    fr_status status = FR_OK;
    if (!ratios) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the figures");
    *out = (fr_ab_comparison){.spread = NAN, .median = nothing, .mean = nothing};
    out->units = ratios_of(run, column, ratios, out);
    for (size_t i = 0; i < out->units; i++) {
        out->slower += ratios[i] < 1.0;
        out->slower_beyond_noise += ratios[i] < 1.0 - unit_noise;
    }
    if (out->units > 0) {
        fr_value_units units = {ratios, ratios + most};
        fr_sort(ratios, out->units);
        out->spread = fr_quantile(ratios, out->units, 0.95) - fr_quantile(ratios, out->units, 0.05);
        /* BCa's jackknife is of no use for a median, which is not a smooth function of its units. */
        FR_CHECK(fr_bootstrap_interval(out->units, fr_statistic_median, &units, &percentile, &out->median, error));
        bca.method = FR_BOOTSTRAP_BCA;
        FR_CHECK(fr_bootstrap_interval(out->units, fr_statistic_mean, &units, &bca, &out->mean, error));
        if (out->units == 1) out->median.interval = out->mean.interval = nothing.interval; /* one says nothing of others */
    }
done:
    fr_free(ratios);
    return status;
}

double fr_ab_resolution(const fr_ab_comparison *noise) {
    return fmax(fabs(noise->median.interval.low - 1.0), fabs(noise->median.interval.high - 1.0));
}

const char *fr_ab_verdict(size_t units, double median, fr_interval interval, double resolution) {
    if (units < FR_AB_LEAST_UNITS) return "undecided";
    if (interval.low > 1.0 && median - 1.0 > resolution) return "faster";
    if (interval.high < 1.0 && 1.0 - median > resolution) return "slower";
    return "undecided";
}

/* ---- Outputs ---- */

/* Where two texts part; -1: nowhere. */
static int parting(const fr_ab_text *a, const fr_ab_text *b) {
    int shorter = a->count < b->count ? a->count : b->count, i = 0;
    while (i < shorter && a->tokens[i] == b->tokens[i]) i++;
    return i == a->count && i == b->count ? -1 : i;
}

fr_ab_difference fr_ab_find_difference(const fr_ab_run *run) {
    fr_ab_difference found = {0};
    for (size_t p = 0; p < run->num_prompts; p++) {
        const fr_ab_text *reference = NULL;
        for (int r = 0; r < run->options.repeats && !reference; r++)
            if (fr_ab_text_at(run, p, r, run->base)->whole) reference = fr_ab_text_at(run, p, r, run->base);
        for (int r = 0; reference && r < run->options.repeats; r++)
            for (int c = 0; c < run->num_columns; c++) {
                const fr_ab_text *t = fr_ab_text_at(run, p, r, c);
                int at = t->whole ? parting(reference, t) : -1;
                if (at < 0) continue;
                if (!found.any) found = (fr_ab_difference){true, 0, p, r, c, at};
                found.texts++;
            }
    }
    return found;
}
