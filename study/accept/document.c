#include "study/accept/document.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "forerun_study.h"
#include "study/environment.h"
#include "study/result.h"
#include "study/speculation.h"
#include "study/words.h"

/* What a prompt, or a domain's, texts come to. */
typedef struct totals {
    uint64_t prompts;
    fr_accept_text sums; /* of everything counted */
    uint64_t drafted, accepted;
} totals;

static void add_counts(uint64_t *to, const uint64_t *from, int count) {
    for (int i = 0; i < count; i++) to[i] += from[i];
}

static void add_text(totals *t, const fr_accept_text *text) {
    t->prompts += text->tokens > 0 || text->cycles > 0;
    t->sums.tokens += text->tokens;
    t->sums.cycles += text->cycles;
    add_counts(t->sums.at.drafted, text->at.drafted, FR_MAX_DEPTH);
    add_counts(t->sums.at.reached, text->at.reached, FR_MAX_DEPTH);
    add_counts(t->sums.at.accepted, text->at.accepted, FR_MAX_DEPTH);
    add_counts(t->sums.context_drafted, text->context_drafted, FR_ACCEPT_CONTEXTS);
    add_counts(t->sums.context_accepted, text->context_accepted, FR_ACCEPT_CONTEXTS);
    fr_calibration_merge(&t->sums.calibration, &text->calibration);
    for (int j = 0; j < FR_MAX_DEPTH; j++) {
        t->drafted += text->at.drafted[j];
        t->accepted += text->at.accepted[j];
    }
}

/* Of the prompts of a domain; NULL: of all. */
static totals totals_of(const fr_accept_run *run, const fr_accept_config *c, const char *domain) {
    totals t = {0};
    for (size_t p = 0; p < run->num_prompts; p++)
        if (!domain || strcmp(run->prompts.items[p].domain, domain) == 0) add_text(&t, &c->texts[p]);
    return t;
}

/* ---- Parts of a configuration ---- */

/* The interval of a figure; null where fewer than FR_LEAST_UNITS prompts have such drafts. */
static void add_interval(fr_accept_writer *w, cJSON *to, const char *key, const fr_accept_config *c, const char *domain,
                         fr_accept_kind kind, int at) {
    fr_estimated of = fr_accept_estimate(w->run, c, domain, (fr_accept_figure){kind, at}, &w->units);
    w->lacking |= w->units.count > 0 && w->units.count < FR_LEAST_UNITS;
    fr_json_add_interval(&w->d, to, key, of.interval.low, of.interval.high);
}

static void add_positions(fr_accept_writer *w, cJSON *to, const fr_accept_config *c, const char *domain,
                          const fr_accept_positions *at) {
    fr_json_builder *d = &w->d;
    cJSON *array = fr_json_add_array(d, to, "positions");
    for (int j = 0; j < c->depth; j++) {
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_count(d, item, "position", (uint64_t)j + 1);
        fr_json_add_count(d, item, "drafted", at->drafted[j]);
        fr_json_add_count(d, item, "reached", at->reached[j]);
        fr_json_add_count(d, item, "accepted", at->accepted[j]);
        fr_json_add_ratio(d, item, "rate", (double)at->accepted[j], (double)at->drafted[j]);
        add_interval(w, item, "rate_ci95", c, domain, FR_ACCEPT_POSITION, j);
        fr_json_add_ratio(d, item, "conditional_rate", (double)at->accepted[j], (double)at->reached[j]);
        add_interval(w, item, "conditional_ci95", c, domain, FR_ACCEPT_CONDITIONAL, j);
    }
}

static void add_domains(fr_accept_writer *w, cJSON *to, const fr_accept_config *c) {
    const fr_prompts *prompts = &w->run->prompts;
    fr_json_builder *d = &w->d;
    cJSON *array = fr_json_add_array(d, to, "domains");
    for (size_t p = 0; p < w->run->num_prompts; p++) {
        if (!fr_prompt_opens_domain(prompts, p)) continue;
        const char *domain = prompts->items[p].domain;
        totals t = totals_of(w->run, c, domain);
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_text(d, item, "domain", domain);
        fr_json_add_count(d, item, "prompts", t.prompts);
        fr_json_add_count(d, item, "tokens", t.sums.tokens);
        fr_json_add_count(d, item, "drafted", t.drafted);
        fr_json_add_count(d, item, "accepted", t.accepted);
        fr_json_add_ratio(d, item, "acceptance_rate", (double)t.accepted, (double)t.drafted);
        add_interval(w, item, "ci95", c, domain, FR_ACCEPT_RATE, 0);
        fr_json_add_ratio(d, item, "mean_acceptance_length", (double)(t.sums.cycles + t.accepted), (double)t.sums.cycles);
        add_positions(w, item, c, domain, &t.sums.at);
    }
}

static void add_context(fr_accept_writer *w, cJSON *to, const fr_accept_config *c, const fr_accept_text *sums) {
    fr_json_builder *d = &w->d;
    cJSON *array = fr_json_add_array(d, to, "context");
    for (int b = 0; b < FR_ACCEPT_CONTEXTS; b++) {
        if (sums->context_drafted[b] == 0) continue;
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_count(d, item, "from", b == 0 ? 0 : UINT64_C(32) << b);
        fr_json_add_count(d, item, "to", UINT64_C(64) << b);
        fr_json_add_count(d, item, "position", 1);
        fr_json_add_count(d, item, "drafted", sums->context_drafted[b]);
        fr_json_add_count(d, item, "accepted", sums->context_accepted[b]);
        fr_json_add_ratio(d, item, "rate", (double)sums->context_accepted[b], (double)sums->context_drafted[b]);
        add_interval(w, item, "ci95", c, NULL, FR_ACCEPT_CONTEXT, b);
    }
}

static void add_calibration(fr_accept_writer *w, cJSON *to, const fr_accept_config *config, const fr_calibration *c) {
    fr_json_builder *d = &w->d;
    cJSON *object = fr_json_add_object(d, to, "calibration");
    uint64_t reached = 0;
    for (int b = 0; b < FR_CALIBRATION_BINS; b++) reached += c->count[b];
    fr_json_add_real(d, object, "ece", reached > 0 ? fr_calibration_error(c) : NAN);
    fr_json_add_count(d, object, "judged", reached);
    cJSON *bins = fr_json_add_array(d, object, "bins");
    for (int b = 0; b < FR_CALIBRATION_BINS; b++) {
        cJSON *item = fr_json_add_object(d, bins, NULL);
        double count = (double)c->count[b];
        fr_json_add_real(d, item, "from", (double)b / FR_CALIBRATION_BINS);
        fr_json_add_real(d, item, "to", (double)(b + 1) / FR_CALIBRATION_BINS);
        fr_json_add_count(d, item, "count", c->count[b]);
        fr_json_add_ratio(d, item, "mean_confidence", c->confidence[b], count);
        fr_json_add_count(d, item, "accepted", c->happened[b]);
        fr_json_add_ratio(d, item, "rate", (double)c->happened[b], count);
        add_interval(w, item, "ci95", config, NULL, FR_ACCEPT_BIN, b);
    }
}

/* The token that was rejected most often among those not listed yet; of equals the lowest id. */
static int32_t most_rejected(const fr_accept_config *c, int32_t vocab, uint32_t bound, int32_t after) {
    int32_t best = -1;
    for (int32_t i = 0; i < vocab; i++) {
        bool listed = c->rejected[i] > bound || (c->rejected[i] == bound && i <= after);
        if (c->rejected[i] > 0 && !listed && (best < 0 || c->rejected[i] > c->rejected[best])) best = i;
    }
    return best;
}

static void add_rejected(fr_accept_writer *w, cJSON *to, const fr_accept_config *c) {
    const fr_accept_run *run = w->run;
    fr_json_builder *d = &w->d;
    cJSON *array = fr_json_add_array(d, to, "rejected_tokens");
    uint32_t bound = UINT32_MAX;
    int32_t token = -1;
    for (int i = 0; i < run->options.most_rejected; i++) {
        token = most_rejected(c, run->model->config.vocab_size, bound, token);
        if (token < 0) return;
        bound = c->rejected[token];
        size_t length = 0;
        const char *bytes = run->model->tokenizer ? fr_token_bytes(run->model, token, &length) : NULL;
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_count(d, item, "token", (uint64_t)token);
        if (bytes)
            fr_json_add_bytes(d, item, "text", bytes, length);
        else
            fr_json_add_null(d, item, "text");
        fr_json_add_count(d, item, "proposed", c->proposed[token]);
        fr_json_add_count(d, item, "rejected", c->rejected[token]);
        fr_json_add_ratio(d, item, "rate", (double)c->rejected[token], (double)c->proposed[token]);
    }
}

static void add_results(fr_accept_writer *w, cJSON *to, const fr_accept_config *c) {
    const fr_accept_run *run = w->run;
    fr_json_builder *d = &w->d;
    cJSON *array = fr_json_add_array(d, to, "results");
    for (size_t p = 0; p < run->num_prompts; p++) {
        const fr_prompt *prompt = &run->prompts.items[p];
        totals t = {0};
        add_text(&t, &c->texts[p]);
        if (t.prompts == 0 && !c->texts[p].whole) continue; /* not begun */
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_text(d, item, "id", prompt->id);
        fr_json_add_text(d, item, "domain", prompt->domain);
        fr_json_add_count(d, item, "prompt_tokens", prompt->count);
        fr_json_add_count(d, item, "tokens", t.sums.tokens);
        fr_json_add_count(d, item, "drafted", t.drafted);
        fr_json_add_count(d, item, "accepted", t.accepted);
        fr_json_add_ratio(d, item, "acceptance_rate", (double)t.accepted, (double)t.drafted);
        fr_json_add_ratio(d, item, "mean_acceptance_length", (double)(t.sums.cycles + t.accepted), (double)t.sums.cycles);
        fr_json_add_bool(d, item, "complete", c->texts[p].whole);
    }
}

/* Keys of a pass that was not made. */
static void forget_passes(fr_json_builder *d, cJSON *speculation) {
    static const char *const keys[] = {
        "unique_experts_per_pass", "draft_s",      "verify_s",   "sample_s", "rollback_s", "catch_up_s",
        "catch_up_rows",           "verify_bytes", "draft_bytes"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        cJSON_DeleteItemFromObject(speculation, keys[i]);
        fr_json_add_null(d, speculation, keys[i]);
    }
}

static void add_config(fr_accept_writer *w, cJSON *to, const fr_accept_config *c) {
    const fr_accept_options *o = &w->run->options;
    fr_json_builder *d = &w->d;
    totals t = totals_of(w->run, c, NULL);
    fr_json_add_text(d, to, "name", c->name);
    fr_json_add_text(d, to, "mode", o->teacher_forced ? "teacher-forced" : "generated");
    fr_json_add_count(d, to, "depth", (uint64_t)c->depth);
    fr_json_add_real(d, to, "temperature", (double)c->temperature);
    fr_json_add_text(d, to, "verify", fr_verify_word(c->verify));
    fr_json_add_text(d, to, "mtp_hidden", fr_hidden_state_word(c->hidden));
    fr_json_add_text(d, to, "mtp_recycle", fr_recycle_word(c->recycle));
    fr_json_add_text(d, to, "drafter", fr_drafter_word(o->session.drafter));
    fr_json_add_bool(d, to, "complete", c->whole);
    cJSON *speculation = fr_study_add_speculation(d, to, "speculative_decoding", &c->stats, NULL, c->depth);
    if (o->teacher_forced) {
        forget_passes(d, speculation);
        forget_passes(d, fr_study_add_speculation(d, to, "along_cycles", &c->along_cycles, NULL, c->depth));
    }
    add_interval(w, to, "acceptance_rate_ci95", c, NULL, FR_ACCEPT_RATE, 0);
    add_interval(w, to, "mean_acceptance_length_ci95", c, NULL, FR_ACCEPT_LENGTH, 0);
    add_positions(w, to, c, NULL, &t.sums.at);
    add_domains(w, to, c);
    add_context(w, to, c, &t.sums);
    add_calibration(w, to, c, &t.sums.calibration);
    add_rejected(w, to, c);
    add_results(w, to, c);
}

/* ---- The whole ---- */

/* What tokens would share if each chose its experts on its own: uniformly, or each expert as often as it was chosen. */
static void add_experts(const fr_accept_run *run, fr_json_builder *d) {
    const fr_accept_experts *e = &run->experts;
    double sum = 0.0, popular_sum = 0.0, chosen = e->chosen, tokens = (double)e->tokens;
    if (e->layers == 0 || e->pairs == 0) {
        fr_json_add_null(d, d->root, "expert_overlap");
        return;
    }
    cJSON *object = fr_json_add_object(d, d->root, "expert_overlap"), *layers = cJSON_CreateArray();
    for (int i = 0, moe = 0; i < run->model->config.num_hidden_layers; i++) {
        if (!run->model->layers[i].is_moe) continue;
        double overlap = (double)e->shared[moe] / ((double)e->pairs * chosen), popular = 0.0;
        for (int k = 0; k < e->count; k++) {
            double share = (double)e->chose[(size_t)moe * (size_t)e->count + (size_t)k] / tokens;
            popular += share * share / chosen;
        }
        cJSON *item = fr_json_add_object(d, layers, NULL);
        fr_json_add_count(d, item, "layer", (uint64_t)i);
        fr_json_add_real(d, item, "overlap", overlap);
        fr_json_add_real(d, item, "if_independent", popular);
        sum += overlap;
        popular_sum += popular;
        moe++;
    }
    fr_json_add_real(d, object, "mean", sum / e->layers);
    fr_json_add_real(d, object, "if_independent", chosen / e->count);
    fr_json_add_real(d, object, "if_independent_by_popularity", popular_sum / e->layers);
    fr_json_add_count(d, object, "pairs", e->pairs);
    fr_json_add(d, object, "layers", layers);
}

static void add_options(const fr_accept_run *run, fr_json_builder *d, cJSON *to) {
    const fr_accept_options *o = &run->options;
    const fr_sampling *s = &o->session.sampling;
    cJSON *array;
    fr_json_add_text(d, to, "prompts", o->prompts);
    fr_json_add_count(d, to, "most_prompts", o->most_prompts);
    fr_json_add_bool(d, to, "chat", o->chat);
    fr_add_chat_options(d, to, run->model, o->chat ? &o->chat_options : NULL);
    fr_json_add_text(d, to, "mode", o->teacher_forced ? "teacher-forced" : "generated");
    array = fr_json_add_array(d, to, "depths");
    for (size_t i = 0; i < o->num_depths; i++) fr_json_add_count(d, array, NULL, (uint64_t)o->depths[i]);
    array = fr_json_add_array(d, to, "temperatures");
    for (size_t i = 0; i < o->num_temperatures; i++) fr_json_add_real(d, array, NULL, (double)o->temperatures[i]);
    fr_json_add_text(d, to, "verify", o->both_verify ? "both" : fr_verify_word(s->verify));
    fr_json_add_text(d, to, "mtp_hidden", o->both_hidden ? "both" : fr_hidden_state_word(o->session.mtp_hidden));
    fr_json_add_text(d, to, "mtp_recycle",
                     o->num_recycles > 2   ? "all"
                     : o->num_recycles > 1 ? "both"
                                           : fr_recycle_word(o->recycles[0]));
    fr_json_add_text(d, to, "drafter", fr_drafter_word(o->session.drafter));
    fr_study_add_sampling(d, to, s);
    if (o->max_tokens > 0)
        fr_json_add_count(d, to, "max_tokens", (uint64_t)o->max_tokens);
    else
        fr_json_add_null(d, to, "max_tokens"); /* as the prompts say */
    fr_json_add_bool(d, to, "ignore_eos", o->ignore_eos);
    fr_json_add_text(d, to, "kv", fr_kv_word(o->session.kv));
    fr_json_add_count(d, to, "ctx", (uint64_t)o->session.ctx);
    fr_json_add_count(d, to, "prefill_chunk", (uint64_t)o->session.prefill_chunk);
}

/* What scripts look for at the top is the first configuration's. */
static void add_first(fr_json_builder *d, const cJSON *first) {
    static const char *const keys[] = {"speculative_decoding", "domains", "calibration"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        fr_json_add_copy(d, d->root, keys[i], cJSON_GetObjectItemCaseSensitive(first, keys[i]));
}

/* How figures are pooled, and which intervals are not given: `lacking` is known once all else is written. */
static void add_statistics(fr_accept_writer *w) {
    static const fr_pooling figures[] = {
        {"rates", "accepted drafts over drafts (or those reached), both summed over all prompts: a prompt weighs by its drafts"},
        {"mean_acceptance_length", "1 + accepted drafts over cycles that drafted, both summed over all prompts"},
        {"calibration", "the drafts of all prompts together, by their confidence"},
        {"comparisons", "the difference of two such figures, of the same prompts"},
        {"ci95", "over prompts: from what leaving one of them out changes (jackknife), with Student's t; of rates and lengths "
                 "Wilson's interval with as many trials as scatter that much; of comparisons paired by prompt"},
    };
    char says[200];
    fr_accept_estimate(w->run, w->run->configs, NULL, (fr_accept_figure){FR_ACCEPT_RATE, 0}, &w->units);
    if (w->units.count < FR_LEAST_UNITS)
        snprintf(says, sizeof says,
                 "There are no intervals: they are over prompts, and of %zu that drafted they cannot be told; "
                 "%d are needed.",
                 w->units.count, FR_LEAST_UNITS);
    else
        snprintf(says, sizeof says, "Intervals are over prompts. Where none is given, fewer than %d prompts had such drafts.",
                 FR_LEAST_UNITS);
    fr_study_add_statistics(&w->d, figures, sizeof figures / sizeof *figures, w->lacking ? says : NULL);
}

static void write(fr_accept_writer *w, bool complete) {
    const fr_accept_run *run = w->run;
    fr_json_builder *d = &w->d;
    add_options(run, d,
                fr_study_header(d, "forerun.accept/1", run->model, &run->options.origin, run->options.session.sampling.seed));
    cJSON *prompts = fr_study_add_prompts(d, &run->prompts, run->num_prompts);
    fr_json_add_count(d, prompts, "cut", run->num_cut);
    fr_json_add_bool(d, d->root, "complete", complete);
    cJSON *configurations = fr_json_add_array(d, d->root, "configurations");
    for (size_t i = 0; i < run->num_configs; i++) add_config(w, fr_json_add_object(d, configurations, NULL), &run->configs[i]);
    fr_accept_add_comparisons(w);
    add_statistics(w);
    if (d->failed) return;
    add_first(d, cJSON_GetArrayItem(configurations, 0));
    add_experts(run, d);
}

fr_status fr_accept_document(const fr_accept_run *run, bool complete, fr_study_result **out, fr_error *error) {
    fr_accept_writer w = {.run = run};
    FR_TRY(fr_accept_units_create(&w.units, run->num_prompts, error));
    fr_json_begin(&w.d);
    write(&w, complete);
    fr_accept_units_release(&w.units);
    return fr_study_finish(&w.d, out, error);
}
