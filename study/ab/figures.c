#include "study/ab/figures.h"

#include <math.h>

#include "core/memory.h"
#include "study/speculation.h"

/* ---- Arms ---- */

/* What a column made of a prompt, over its whole turns; of one turn alone if repeat >= 0. */
typedef struct made {
    double tokens, seconds;
} made;

static made made_of(const fr_ab_run *run, size_t prompt, int repeat, int column) {
    made sum = {0.0, 0.0};
    for (int r = 0; r < run->options.repeats; r++) {
        if ((repeat >= 0 && r != repeat) || !fr_ab_turn_is_whole(run, prompt, r)) continue;
        const fr_ab_text *t = fr_ab_text_at(run, prompt, r, column);
        sum.tokens += t->count - 1;
        sum.seconds += t->decode_s;
    }
    return sum;
}

static double rate_of(made d) {
    return d.tokens > 0.0 && d.seconds > 0.0 ? d.tokens / d.seconds : NAN;
}

double fr_ab_rate(const fr_ab_run *run, size_t prompt, int repeat, int column) {
    return rate_of(made_of(run, prompt, repeat, column));
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

/* ---- Acceptance ---- */

static void count_accepted(const fr_stats *s, fr_ab_share of, int position, double *part, double *whole) {
    *part += (double)(of == FR_AB_OF_CYCLES ? s->accepted_at[position] : s->num_accepted_tokens);
    if (of == FR_AB_OF_DRAFTED) *whole += (double)s->num_draft_tokens;
    if (of == FR_AB_OF_CYCLES) *whole += (double)s->num_drafts;
    for (int j = 0; of == FR_AB_OF_REACHED && j < FR_MAX_DEPTH; j++) *whole += (double)s->reached_at[j];
}

fr_status fr_ab_acceptance(const fr_ab_run *run, int column, fr_ab_share of, int position, fr_estimated *out, fr_error *error) {
    double *part = fr_alloc(2 * run->num_prompts * sizeof *part), *whole = part + run->num_prompts;
    size_t count = 0;
    if (!part) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the figures");
    for (size_t p = 0; p < run->num_prompts; p++) {
        part[count] = whole[count] = 0.0;
        for (int r = 0; r < run->options.repeats; r++)
            if (fr_ab_turn_is_whole(run, p, r))
                count_accepted(&fr_ab_text_at(run, p, r, column)->stats, of, position, &part[count], &whole[count]);
        count += whole[count] > 0.0;
    }
    *out = fr_estimate_share((fr_sums){part, whole}, count);
    fr_free(part);
    return FR_OK;
}

/* ---- Comparisons ---- */

/* What each unit adds, in a column and in the compared arm. */
typedef struct units {
    double *ratios, *logarithms; /* of rates */
    double *tokens, *seconds, *base_tokens, *base_seconds;
    size_t count;
} units;

enum { UNIT_COLUMNS = 6 };

static void add_unit(const fr_ab_run *run, size_t prompt, int repeat, int column, units *u) {
    made base = made_of(run, prompt, repeat, run->base), other = made_of(run, prompt, repeat, column);
    double ratio = rate_of(other) / rate_of(base);
    if (!isfinite(ratio)) return;
    u->ratios[u->count] = ratio;
    u->logarithms[u->count] = log(ratio);
    u->tokens[u->count] = other.tokens;
    u->seconds[u->count] = other.seconds;
    u->base_tokens[u->count] = base.tokens;
    u->base_seconds[u->count++] = base.seconds;
}

/* By prompt; of a single prompt by pair. */
static void fill_units(const fr_ab_run *run, int column, units *u, fr_ab_comparison *out) {
    for (size_t p = 0; p < run->num_prompts; p++) {
        add_unit(run, p, -1, column, u);
        for (int r = 0; r < run->options.repeats; r++) out->pairs += fr_ab_turn_is_whole(run, p, r);
    }
    out->prompts = u->count;
    out->by_pair = run->num_prompts == 1 && u->count > 0;
    if (!out->by_pair) return;
    u->count = 0;
    for (int r = 0; r < run->options.repeats; r++) add_unit(run, 0, r, column, u);
}

fr_status fr_ab_compare_columns(const fr_ab_run *run, int column, double unit_noise, fr_ab_comparison *out, fr_error *error) {
    size_t most = run->num_prompts > (size_t)run->options.repeats ? run->num_prompts : (size_t)run->options.repeats;
    double *room = fr_alloc(UNIT_COLUMNS * most * sizeof *room);
    if (!room) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the figures");
    units u = {room, room + most, room + 2 * most, room + 3 * most, room + 4 * most, room + 5 * most, 0};
    *out = (fr_ab_comparison){.spread = NAN};
    fill_units(run, column, &u, out);
    out->units = u.count;
    for (size_t i = 0; i < u.count; i++) {
        out->slower += u.ratios[i] < 1.0;
        out->slower_beyond_noise += u.ratios[i] < 1.0 - unit_noise;
    }
    out->geometric_mean = fr_estimate_geometric_mean(u.logarithms, u.count);
    out->mean = fr_estimate_mean(u.ratios, u.count);
    out->total = fr_estimate_ratio((fr_sums){u.base_tokens, u.base_seconds}, (fr_sums){u.tokens, u.seconds}, u.count);
    out->median = fr_estimate_median(u.ratios, u.count); /* sorts them */
    if (u.count > 0) out->spread = fr_quantile(u.ratios, u.count, 0.95) - fr_quantile(u.ratios, u.count, 0.05);
    fr_free(room);
    return FR_OK;
}

double fr_ab_resolution(const fr_ab_comparison *noise) {
    return fmax(fabs(noise->median.interval.low - 1.0), fabs(noise->median.interval.high - 1.0));
}

const char *fr_ab_verdict(fr_estimated median, double resolution) {
    if (median.interval.low > 1.0 && median.value - 1.0 > resolution) return "faster";
    if (median.interval.high < 1.0 && 1.0 - median.value > resolution) return "slower";
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
