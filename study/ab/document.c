#include "study/ab/document.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/checkpoint/checksum.h"
#include "core/memory.h"
#include "study/ab/cost.h"
#include "study/ab/figures.h"
#include "study/environment.h"
#include "study/result.h"
#include "study/speculation.h"
#include "study/words.h"

enum { HISTOGRAM_BINS = 40, CURVE_STEPS = 20 };

typedef struct writer {
    fr_json_builder d;
    const fr_ab_run *run;
    fr_ab_costs costs;
    fr_ab_comparison noise;
    double resolution; /* NaN: the noise check was not made */
    fr_ab_comparison compared[FR_AB_MOST_COLUMNS];
    fr_ab_figures figures[FR_AB_MOST_COLUMNS];
} writer;

/* ---- Options ---- */

static void add_options(writer *w, cJSON *to) {
    const fr_ab_options *o = &w->run->options;
    const fr_session_options *s = &o->session;
    fr_json_builder *d = &w->d;
    char arms[FR_AB_MOST_ARMS * 34] = "";
    for (int c = 0; c < w->run->num_columns; c++)
        if (w->run->columns[c].role == FR_AB_ARM)
            snprintf(arms + strlen(arms), sizeof arms - strlen(arms), "%s%s", c ? "," : "", w->run->columns[c].name);
    fr_json_add_text(d, to, "prompts", o->prompts);
    fr_json_add_count(d, to, "most_prompts", o->most_prompts);
    fr_json_add_bool(d, to, "chat", o->chat);
    fr_add_chat_options(d, to, w->run->model, o->chat ? &o->chat_options : NULL);
    fr_json_add_text(d, to, "arms", arms);
    fr_json_add_reals(d, to, "synthetic_acceptance", o->synthetic, o->num_synthetic);
    fr_json_add_count(d, to, "max_tokens", (uint64_t)o->max_tokens);
    fr_json_add_bool(d, to, "ignore_eos", o->ignore_eos);
    fr_json_add_count(d, to, "repeats", (uint64_t)o->repeats);
    fr_json_add_count(d, to, "warm_up", (uint64_t)(o->warm_up > 0 ? o->warm_up : 0));
    fr_json_add_real(d, to, "cool_off_s", o->cool_off_s);
    fr_json_add_bool(d, to, "noise_check", !o->no_noise_check);
    fr_json_add_count(d, to, "depth", (uint64_t)s->depth);
    fr_json_add_text(d, to, "drafter", fr_drafter_word(s->drafter));
    fr_json_add_bool(d, to, "learned", s->learned);
    fr_json_add_text(d, to, "mtp_hidden", fr_hidden_state_word(s->mtp_hidden));
    fr_json_add_text(d, to, "mtp_recycle", fr_recycle_word(s->mtp_recycle));
    fr_json_add_text(d, to, "verify", fr_verify_word(s->sampling.verify));
    fr_json_add_real(d, to, "temperature", (double)s->sampling.temperature);
    fr_study_add_sampling(d, to, &s->sampling);
    fr_json_add_text(d, to, "kv", fr_kv_word(s->kv));
    fr_json_add_count(d, to, "ctx", (uint64_t)s->ctx);
    fr_json_add_count(d, to, "prefill_chunk", (uint64_t)s->prefill_chunk);
}

/* ---- Arms ---- */

static void add_rate(writer *w, cJSON *to, const char *key, const fr_ab_quantiles *q) {
    cJSON *object = fr_json_add_object(&w->d, to, key);
    fr_json_add_real(&w->d, object, "median", q->p50);
    fr_json_add_real(&w->d, object, "p05", q->p05);
    fr_json_add_real(&w->d, object, "p95", q->p95);
    fr_json_add_count(&w->d, object, "samples", q->samples);
}

static void add_latency(writer *w, cJSON *to, const char *key, const fr_ab_quantiles *q) {
    cJSON *object = fr_json_add_object(&w->d, to, key);
    fr_json_add_real(&w->d, object, "p50", q->p50);
    fr_json_add_real(&w->d, object, "p90", q->p90);
    fr_json_add_real(&w->d, object, "p99", q->p99);
    fr_json_add_count(&w->d, object, "samples", q->samples);
}

/* Calls fn with the time in milliseconds of every token of a column's whole texts. */
static void each_token(const writer *w, int column, void (*fn)(double *state, double ms), double *state) {
    const fr_ab_run *run = w->run;
    for (size_t p = 0; p < run->num_prompts; p++)
        for (int r = 0; r < run->options.repeats; r++) {
            const fr_ab_text *t = fr_ab_text_at(run, p, r, column);
            if (!fr_ab_turn_is_whole(run, p, r)) continue;
            for (int i = 0; i < t->count - 1; i++) fn(state, 1e3 * t->token_s[i]);
        }
}

static void widen(double *state, double ms) { /* state: least, most */
    if (ms > 0.0 && ms < state[0]) state[0] = ms;
    if (ms > state[1]) state[1] = ms;
}

static void count_in_bin(double *state, double ms) { /* state: least, most, then a count for each bin */
    double at = log(ms / state[0]) / log(state[1] / state[0]) * HISTOGRAM_BINS;
    int bin = !(at > 0.0) ? 0 : at < HISTOGRAM_BINS ? (int)at : HISTOGRAM_BINS - 1;
    state[2 + bin] += 1.0;
}

/* The same edges for all arms, at equal ratios, so that their distributions can be laid over each other. */
static void add_histogram(writer *w, cJSON *to, int column, const double *range) {
    double state[2 + HISTOGRAM_BINS] = {range[0], range[1]}, edges[HISTOGRAM_BINS + 1];
    if (!(range[1] > range[0])) {
        fr_json_add_null(&w->d, to, "itl_histogram");
        return;
    }
    each_token(w, column, count_in_bin, state);
    for (int i = 0; i <= HISTOGRAM_BINS; i++) edges[i] = range[0] * pow(range[1] / range[0], (double)i / HISTOGRAM_BINS);
    cJSON *object = fr_json_add_object(&w->d, to, "itl_histogram");
    fr_json_add_reals(&w->d, object, "edges_ms", edges, HISTOGRAM_BINS + 1);
    fr_json_add_reals(&w->d, object, "counts", state + 2, HISTOGRAM_BINS);
}

static void add_times(writer *w, cJSON *to, int column) {
    const fr_ab_figures *f = &w->figures[column];
    add_rate(w, to, "decode_tokens_per_s", &f->decode_rate);
    add_rate(w, to, "prefill_tokens_per_s", &f->prefill_rate);
    add_latency(w, to, "tpot_ms", &f->tpot_ms);
    add_latency(w, to, "inter_token_ms", &f->token_ms);
    add_latency(w, to, "cycle_ms", &f->cycle_ms);
    add_latency(w, to, "ttft_ms", &f->ttft_ms);
    fr_json_add_count(&w->d, to, "tokens", f->tokens);
    fr_json_add_real(&w->d, to, "energy_j_per_token", f->energy_j_per_token);
}

/* The interval over prompts. Out of memory fails the document. */
static void add_acceptance(writer *w, cJSON *to, const char *key, int column, fr_ab_share of, int position) {
    fr_estimated share = {NAN, {NAN, NAN}};
    w->d.failed |= fr_ab_acceptance(w->run, column, of, position, &share, NULL) != FR_OK;
    fr_json_add_interval(&w->d, to, key, share.interval.low, share.interval.high);
}

static void add_arms(writer *w) {
    const fr_ab_run *run = w->run;
    double range[2] = {INFINITY, 0.0};
    fr_model_info model;
    fr_model_get_info(run->model, &model);
    for (int c = 0; c < run->num_columns; c++)
        if (run->columns[c].role == FR_AB_ARM) each_token(w, c, widen, range);
    cJSON *arms = fr_json_add_array(&w->d, w->d.root, "arms");
    for (int c = 0; c < run->num_columns; c++) {
        const fr_ab_column *column = &run->columns[c];
        if (column->role != FR_AB_ARM) continue;
        cJSON *arm = fr_json_add_object(&w->d, arms, NULL);
        fr_json_add_text(&w->d, arm, "name", column->name);
        fr_json_add_text(&w->d, arm, "mtp", fr_drafting_word(column->drafting));
        fr_json_add_count(&w->d, arm, "depth", (uint64_t)column->depth);
        add_times(w, arm, c);
        add_histogram(w, arm, c, range);
        fr_study_add_speculation(&w->d, arm, "speculative_decoding", &w->figures[c].stats, NULL, column->depth);
        fr_study_add_experts(&w->d, arm, &w->figures[c].stats, model.reader);
        add_acceptance(w, arm, "acceptance_rate_ci95", c, FR_AB_OF_DRAFTED, 0);
        cJSON *positions = fr_json_add_array(&w->d, arm, "per_position_ci95");
        for (int j = 0; j < column->depth; j++) add_acceptance(w, positions, NULL, c, FR_AB_OF_CYCLES, j);
    }
}

/* ---- Comparisons ---- */

static void add_estimate(writer *w, cJSON *to, const char *key, fr_estimated of) {
    char name[32];
    fr_json_add_real(&w->d, to, key, of.value);
    snprintf(name, sizeof name, strcmp(key, "median") == 0 ? "ci95" : "%s_ci95", key);
    fr_json_add_interval(&w->d, to, name, of.interval.low, of.interval.high);
}

static void add_speedup(writer *w, cJSON *to, const fr_ab_comparison *c) {
    cJSON *speedup = fr_json_add_object(&w->d, to, "speedup");
    add_estimate(w, speedup, "median", c->median);
    add_estimate(w, speedup, "geometric_mean", c->geometric_mean);
    add_estimate(w, speedup, "total", c->total);
    add_estimate(w, speedup, "mean", c->mean);
    fr_json_add_text(&w->d, to, "verdict", fr_ab_verdict(c->median, isfinite(w->resolution) ? w->resolution : 0.0));
}

static void add_comparisons(writer *w) {
    const fr_ab_run *run = w->run;
    cJSON *comparisons = fr_json_add_array(&w->d, w->d.root, "comparisons");
    for (int c = 0; c < run->num_columns; c++) {
        const fr_ab_comparison *compared = &w->compared[c];
        if (run->columns[c].role != FR_AB_ARM || c == run->base) continue;
        cJSON *item = fr_json_add_object(&w->d, comparisons, NULL);
        fr_json_add_text(&w->d, item, "a", run->columns[run->base].name);
        fr_json_add_text(&w->d, item, "b", run->columns[c].name);
        add_speedup(w, item, compared);
        fr_json_add_text(&w->d, item, "unit", compared->by_pair ? "pair" : "prompt");
        fr_json_add_count(&w->d, item, "units", compared->units);
        fr_json_add_count(&w->d, item, "prompts", compared->prompts);
        fr_json_add_count(&w->d, item, "pairs", compared->pairs);
        cJSON *slower = fr_json_add_object(&w->d, item, "slower_prompts");
        fr_json_add_count(&w->d, slower, "count", compared->slower);
        fr_json_add_ratio(&w->d, slower, "share", (double)compared->slower, (double)compared->units);
        fr_json_add_count(&w->d, slower, "beyond_noise", compared->slower_beyond_noise);
    }
}

static void add_noise(writer *w) {
    const double quiet = 0.03; /* what is claimed of drafting is of the size of some percent */
    const fr_ab_run *run = w->run;
    const fr_ab_comparison *n = &w->noise;
    char says[256];
    if (run->again < 0) {
        fr_json_add_null(&w->d, w->d.root, "noise");
        return;
    }
    cJSON *noise = fr_json_add_object(&w->d, w->d.root, "noise");
    bool few = n->units < FR_LEAST_UNITS;
    fr_json_add_text(&w->d, noise, "a", run->columns[run->base].name);
    fr_json_add_text(&w->d, noise, "b", run->columns[run->again].name);
    cJSON *ratio = fr_json_add_object(&w->d, noise, "ratio");
    add_estimate(w, ratio, "median", n->median);
    add_estimate(w, ratio, "total", n->total);
    fr_json_add_count(&w->d, noise, "units", n->units);
    fr_json_add_real(&w->d, noise, "spread", n->spread);
    fr_json_add_real(&w->d, noise, "resolution", w->resolution);
    fr_json_add_text(&w->d, noise, "verdict", !few && w->resolution <= quiet ? "quiet" : "noisy");
    if (few)
        snprintf(says, sizeof says, "Of %zu %s nobody can tell how quiet the machine is; %d are needed.", n->units,
                 n->by_pair ? "pairs" : "prompts", FR_LEAST_UNITS);
    else if (w->resolution <= quiet)
        snprintf(says, sizeof says,
                 "The median of the same arm twice lies within %.1f %% of 1: medians farther off are not noise.",
                 100.0 * w->resolution);
    else
        snprintf(says, sizeof says,
                 "The median of the same arm twice may be %.1f %% off 1: the machine is too noisy to tell "
                 "smaller differences. More prompts or repeats, or nothing else running, would help.",
                 100.0 * w->resolution);
    fr_json_add_text(&w->d, noise, "says", says);
}

static bool nothing_compared(const fr_ab_run *run) {
    for (size_t p = 0; p < run->num_prompts; p++)
        for (int r = 0; r < run->options.repeats; r++)
            if (run->num_columns > 1 && fr_ab_turn_is_whole(run, p, r)) return false;
    return true;
}

static void add_identity(writer *w) {
    const fr_ab_run *run = w->run;
    fr_ab_difference found = fr_ab_find_difference(run);
    bool promised = fr_ab_promises_identity(&run->options);
    fr_json_add_bool(&w->d, w->d.root, "identical_outputs", !found.any);
    cJSON *outputs = fr_json_add_object(&w->d, w->d.root, "outputs");
    fr_json_add_bool(&w->d, outputs, "promised_identical", promised);
    fr_json_add_count(&w->d, outputs, "different_texts", found.texts);
    if (found.any) {
        cJSON *first = fr_json_add_object(&w->d, outputs, "first_difference");
        fr_json_add_text(&w->d, first, "id", run->prompts.items[found.prompt].id);
        fr_json_add_text(&w->d, first, "arm", run->columns[found.column].name);
        fr_json_add_count(&w->d, first, "repeat", (uint64_t)found.repeat);
        fr_json_add_count(&w->d, first, "token", (uint64_t)found.position);
    }
    fr_json_add_text(&w->d, outputs, "says",
                     nothing_compared(run) ? "No texts to compare."
                     : !found.any          ? "All arms gave the same texts."
                     : promised            ? "Arms gave different texts, which must not be: this is a fault."
                                : "Arms gave different texts, as rejection sampling may: speeds are of different texts.");
}

/* ---- Cost model ---- */

static double acceptance_of(const fr_stats *s) {
    return s->num_draft_tokens > 0 ? (double)s->num_accepted_tokens / (double)s->num_draft_tokens : NAN;
}

/* The column that the cost model's own figures are about: the first that always drafts, else the first that drafts at all. */
static int modelled(const fr_ab_run *run) {
    static const struct {
        fr_ab_role role;
        fr_drafting drafting;
    } order[] = {{FR_AB_ARM, FR_DRAFTING_ON}, {FR_AB_ARM, FR_DRAFTING_AUTO}, {FR_AB_SYNTHETIC, FR_DRAFTING_ON}};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        for (int c = 0; c < run->num_columns; c++)
            if (run->columns[c].role == order[i].role && run->columns[c].drafting == order[i].drafting) return c;
    return -1;
}

/* What the cost model says of a column, and what was measured. By bytes: on a machine that only waits for memory. */
static void add_prediction(writer *w, cJSON *to, int c) {
    const fr_stats *stats = &w->figures[c].stats;
    double predicted = fr_ab_predict(w->run, &w->costs, c), by_bytes = fr_ab_predict_by_bytes(w->run, &w->costs, c);
    /* Predictions are over no drafts; with another arm to compare with nothing was measured that they speak of. */
    bool over_off = c != w->run->base && w->run->columns[w->run->base].drafting == FR_DRAFTING_OFF;
    fr_estimated total = over_off ? w->compared[c].total : (fr_estimated){NAN, {NAN, NAN}};
    double measured = total.value;
    fr_json_add_real(&w->d, to, "acceptance_rate", acceptance_of(stats));
    fr_json_add_ratio(&w->d, to, "tokens_per_cycle", (double)(stats->num_cycles + stats->num_accepted_tokens),
                      (double)stats->num_cycles);
    fr_json_add_real(&w->d, to, "predicted_speedup", predicted);
    fr_json_add_real(&w->d, to, "measured_speedup", measured);
    fr_json_add_interval(&w->d, to, "measured_speedup_ci95", total.interval.low, total.interval.high);
    fr_json_add_real(&w->d, to, "of_prediction", measured / predicted);
    fr_json_add_real(&w->d, to, "speedup_by_bytes", by_bytes);
    fr_json_add_real(&w->d, to, "of_speedup_by_bytes", measured / by_bytes);
    fr_json_add_real(&w->d, to, "break_even_acceptance", fr_cost_break_even(&w->costs.measured, w->run->columns[c].depth));
}

static void add_curve(writer *w, cJSON *to, int depth) {
    cJSON *curve = fr_json_add_array(&w->d, to, "curve");
    for (int i = 0; i <= CURVE_STEPS; i++) {
        double acceptance = (double)i / CURVE_STEPS, speedup = fr_cost_speedup(&w->costs.measured, depth, acceptance);
        if (!isfinite(speedup)) continue;
        cJSON *point = fr_json_add_object(&w->d, curve, NULL);
        fr_json_add_real(&w->d, point, "acceptance", acceptance);
        fr_json_add_real(&w->d, point, "speedup", speedup);
        fr_json_add_real(&w->d, point, "speedup_by_bytes", fr_cost_speedup(&w->costs.bytes, depth, acceptance));
    }
}

static void add_cost_model(writer *w) {
    const fr_ab_run *run = w->run;
    const fr_ab_costs *costs = &w->costs;
    cJSON *to = fr_json_add_object(&w->d, w->d.root, "cost_model");
    double ms[FR_MAX_DEPTH + 1];
    size_t rows = (size_t)costs->rows;
    int main_column = modelled(run);
    for (size_t r = 0; r < rows; r++) ms[r] = 1e3 * costs->pass_s[r];
    fr_json_add_reals(&w->d, to, "pass_ms", ms, rows);
    fr_json_add_reals(&w->d, to, "pass_over_one", costs->over_one, rows);
    fr_json_add_reals(&w->d, to, "unique_experts", costs->experts, rows);
    fr_json_add_count(&w->d, to, "probes", costs->probes);
    fr_json_add_real(&w->d, to, "draft_ms", 1e3 * costs->draft_first_s);
    fr_json_add_real(&w->d, to, "next_draft_ms", 1e3 * costs->draft_next_s);
    fr_json_add_real(&w->d, to, "draft_over_one", costs->measured.draft_first);
    fr_json_add_real(&w->d, to, "expert_overlap", costs->overlap);
    if (main_column >= 0) {
        fr_json_add_text(&w->d, to, "arm", run->columns[main_column].name);
        fr_json_add_count(&w->d, to, "depth", (uint64_t)run->columns[main_column].depth);
        add_prediction(w, to, main_column);
        add_curve(w, to, run->columns[main_column].depth);
    }
    cJSON *arms = fr_json_add_array(&w->d, to, "arms");
    for (int c = 0; c < run->num_columns; c++) {
        if (run->columns[c].role != FR_AB_ARM || run->columns[c].drafting == FR_DRAFTING_OFF) continue;
        cJSON *arm = fr_json_add_object(&w->d, arms, NULL);
        fr_json_add_text(&w->d, arm, "name", run->columns[c].name);
        add_prediction(w, arm, c);
    }
}

static void add_synthetic(writer *w) {
    const fr_ab_run *run = w->run;
    cJSON *array = fr_json_add_array(&w->d, w->d.root, "synthetic");
    for (int c = 0; c < run->num_columns; c++) {
        const fr_stats *stats = &w->figures[c].stats;
        uint64_t reached = 0;
        if (run->columns[c].role != FR_AB_SYNTHETIC) continue;
        for (int j = 0; j < FR_MAX_DEPTH; j++) reached += stats->reached_at[j];
        cJSON *item = fr_json_add_object(&w->d, array, NULL);
        fr_json_add_real(&w->d, item, "target", run->columns[c].target);
        /* Of drafts whose predecessors were all accepted: what the target is about. */
        fr_json_add_ratio(&w->d, item, "acceptance", (double)stats->num_accepted_tokens, (double)reached);
        add_acceptance(w, item, "acceptance_ci95", c, FR_AB_OF_REACHED, 0);
        fr_json_add_count(&w->d, item, "depth", (uint64_t)run->columns[c].depth);
        fr_json_add_count(&w->d, item, "judged", reached);
        fr_json_add_count(&w->d, item, "accepted", stats->num_accepted_tokens);
        add_speedup(w, item, &w->compared[c]);
        add_prediction(w, item, c);
        add_times(w, item, c);
    }
}

/* ---- Prompts, one by one ---- */

static double mean_ttft_ms(const fr_ab_run *run, size_t prompt, int column) {
    double sum = 0.0;
    int count = 0;
    for (int r = 0; r < run->options.repeats; r++) {
        if (!fr_ab_turn_is_whole(run, prompt, r)) continue;
        sum += 1e3 * fr_ab_text_at(run, prompt, r, column)->ttft_s;
        count++;
    }
    return count > 0 ? sum / count : NAN;
}

static void add_result(writer *w, cJSON *results, size_t p) {
    const fr_ab_run *run = w->run;
    const fr_prompt *prompt = &run->prompts.items[p];
    const fr_ab_text *text = fr_ab_text_at(run, p, 0, run->base);
    int drafting = modelled(run);
    char checksum[24];
    if (!fr_ab_turn_is_whole(run, p, 0)) return;
    cJSON *item = fr_json_add_object(&w->d, results, NULL);
    fr_json_add_text(&w->d, item, "id", prompt->id);
    fr_json_add_text(&w->d, item, "domain", prompt->domain);
    fr_json_add_count(&w->d, item, "prompt_tokens", prompt->count);
    fr_json_add_count(&w->d, item, "tokens", (uint64_t)text->count);
    snprintf(checksum, sizeof checksum, "%08x", (unsigned)fr_crc32c(0, text->tokens, (size_t)text->count * sizeof *text->tokens));
    fr_json_add_text(&w->d, item, "output_crc32c", checksum);
    fr_json_add_real(&w->d, item, "acceptance_rate",
                     drafting < 0 ? NAN : acceptance_of(&fr_ab_text_at(run, p, 0, drafting)->stats));
    cJSON *arms = fr_json_add_object(&w->d, item, "arms"), *speedups = fr_json_add_object(&w->d, item, "speedup");
    for (int c = 0; c < run->num_columns; c++) {
        if (run->columns[c].role != FR_AB_ARM) continue;
        double rate = fr_ab_rate(run, p, -1, c);
        cJSON *arm = fr_json_add_object(&w->d, arms, run->columns[c].name);
        fr_json_add_real(&w->d, arm, "decode_tokens_per_s", rate);
        fr_json_add_real(&w->d, arm, "ttft_ms", mean_ttft_ms(run, p, c));
        fr_json_add_real(&w->d, arm, "tpot_ms", 1e3 / rate);
        if (c != run->base) fr_json_add_real(&w->d, speedups, run->columns[c].name, rate / fr_ab_rate(run, p, -1, run->base));
    }
}

/* ---- The whole ---- */

static fr_status measure(writer *w, fr_error *error) {
    const fr_ab_run *run = w->run;
    double unit_noise = 0.0;
    w->resolution = NAN;
    if (run->again >= 0) {
        FR_TRY(fr_ab_compare_columns(run, run->again, 0.0, &w->noise, error));
        w->resolution = fr_ab_resolution(&w->noise);
        /* Single units scatter more than their median, the more so the more there are. */
        if (isfinite(w->resolution)) unit_noise = fmax(w->resolution, 0.5 * w->noise.spread);
    }
    for (int c = 0; c < run->num_columns; c++) {
        FR_TRY(fr_ab_figures_of(run, c, &w->figures[c], error));
        if (c != run->base && c != run->again) FR_TRY(fr_ab_compare_columns(run, c, unit_noise, &w->compared[c], error));
    }
    fr_ab_costs_of(run, &w->costs);
    return FR_OK;
}

/* How figures are pooled, and why there are no intervals where there are none. */
static void add_statistics(writer *w) {
    static const fr_pooling figures[] = {
        {"arms", "medians and quantiles over texts; of inter_token_ms over all tokens, of cycle_ms over all cycles"},
        {"speculative_decoding", "sums over all texts"},
        {"speedup.median", "the median over prompts of each one's tokens/s over its tokens/s in the compared arm"},
        {"speedup.geometric_mean", "the geometric mean of the same ratios: every prompt weighs the same"},
        {"speedup.total",
         "the ratio of all tokens over all seconds: the ratio of total times, in which a prompt weighs by its time"},
        {"speedup.mean", "the arithmetic mean of the same ratios as the median, which is above the others"},
        {"cost_model", "predicted and measured speedups are both ratios of total times: costs are means over the run, weighed by "
                       "the texts' tokens, and every cycle counts once"},
        {"ci95", "over prompts, of a single prompt over its pairs: of medians between order statistics; of the others from what "
                 "leaving one out changes (jackknife), with Student's t, of speedups on logarithms, of acceptance Wilson's "
                 "interval with as many trials as scatter that much"},
    };
    const fr_ab_run *run = w->run;
    int other = run->base == 0 && run->num_columns > 1 ? 1 : 0;
    const fr_ab_comparison *c = other == run->again ? &w->noise : &w->compared[other];
    char says[200];
    snprintf(says, sizeof says, "There are no intervals: they are over %s, and of %zu they cannot be told; %d are needed.",
             c->by_pair ? "the pairs of the one prompt" : "prompts", c->units, FR_LEAST_UNITS);
    bool lacking = run->num_columns > 1 && c->units < FR_LEAST_UNITS;
    fr_study_add_statistics(&w->d, figures, sizeof figures / sizeof *figures, lacking ? says : NULL);
}

static void write(writer *w) {
    const fr_ab_run *run = w->run;
    fr_json_builder *d = &w->d;
    add_options(w, fr_study_header(d, "forerun.ab/1", run->model, &run->options.origin, run->options.session.sampling.seed));
    fr_study_add_prompts(d, &run->prompts, run->num_prompts);
    fr_json_add_bool(d, d->root, "complete", !run->interrupted);
    add_arms(w);
    add_comparisons(w);
    add_noise(w);
    add_identity(w);
    add_cost_model(w);
    add_synthetic(w);
    add_statistics(w);
    cJSON *results = fr_json_add_array(d, d->root, "results");
    for (size_t p = 0; p < run->num_prompts; p++) add_result(w, results, p);
}

fr_status fr_ab_document(const fr_ab_run *run, fr_study_result **out, fr_error *error) {
    writer *w = fr_alloc_zeroed(1, sizeof *w);
    if (!w) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the document");
    w->run = run;
    fr_status status = measure(w, error);
    if (status == FR_OK) {
        fr_json_begin(&w->d);
        write(w);
        status = fr_study_finish(&w->d, out, error);
    }
    fr_free(w);
    return status;
}
