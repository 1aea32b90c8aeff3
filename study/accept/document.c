#include "study/accept/accept.h"

#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "forerun_study.h"
#include "study/environment.h"
#include "study/result.h"
#include "study/speculation.h"
#include "study/words.h"

/* What a prompt, or a domain's, texts come to. */
typedef struct totals {
    uint64_t prompts, tokens, cycles, drafted, accepted;
    fr_accept_positions at;
} totals;

static void add_text(totals *t, const fr_accept_text *text) {
    t->prompts += text->tokens > 0 || text->cycles > 0;
    t->tokens += text->tokens;
    t->cycles += text->cycles;
    for (int j = 0; j < FR_MAX_DEPTH; j++) {
        t->drafted += text->at.drafted[j];
        t->accepted += text->at.accepted[j];
        t->at.drafted[j] += text->at.drafted[j];
        t->at.reached[j] += text->at.reached[j];
        t->at.accepted[j] += text->at.accepted[j];
    }
}

/* ---- Intervals over prompts ---- */

/* Scratch for the bootstrap: what each prompt accepted and drafted. */
typedef struct units {
    double *over, *under; /* [prompts] */
    size_t count;
} units;

/* 95 % interval of sum over / sum under, resampling prompts: drafts of a prompt resemble each other, and the drafts of
 * one cycle hang together. null for a single prompt, which does not say how others differ. */
static fr_status add_bootstrap(fr_json_builder *d, cJSON *to, const char *key, const units *u, uint64_t seed, fr_error *error) {
    fr_ratio_units ratio = {u->over, u->under};
    fr_bootstrap_options options = {.seed = seed};
    fr_bootstrap bootstrap;
    if (u->count < 2) {
        fr_json_add_null(d, to, key);
        return FR_OK;
    }
    FR_TRY(fr_bootstrap_interval(u->count, fr_statistic_ratio, &ratio, &options, &bootstrap, error));
    fr_json_add_interval(d, to, key, bootstrap.interval.low, bootstrap.interval.high);
    return FR_OK;
}

/* Fills the units with the prompts of a domain (NULL: all) that drafted. length: tokens a drafting cycle instead. */
static void fill_units(const fr_accept_run *run, const fr_accept_config *c, const char *domain, bool length, units *u) {
    u->count = 0;
    for (size_t p = 0; p < run->num_prompts; p++) {
        totals t = {0};
        if (domain && strcmp(domain, run->prompts.items[p].domain) != 0) continue;
        add_text(&t, &c->texts[p]);
        if (t.cycles == 0) continue;
        u->over[u->count] = length ? (double)(t.cycles + t.accepted) : (double)t.accepted;
        u->under[u->count++] = length ? (double)t.cycles : (double)t.drafted;
    }
}

/* ---- Parts of a configuration ---- */

static void add_wilson(fr_json_builder *d, cJSON *to, const char *key, uint64_t successes, uint64_t trials) {
    fr_interval interval = fr_wilson95(successes, trials);
    if (trials == 0)
        fr_json_add_null(d, to, key);
    else
        fr_json_add_interval(d, to, key, interval.low, interval.high);
}

static void add_positions(fr_json_builder *d, cJSON *to, const fr_accept_positions *at, int depth) {
    cJSON *array = fr_json_add_array(d, to, "positions");
    for (int j = 0; j < depth; j++) {
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_count(d, item, "position", (uint64_t)j + 1);
        fr_json_add_count(d, item, "drafted", at->drafted[j]);
        fr_json_add_count(d, item, "reached", at->reached[j]);
        fr_json_add_count(d, item, "accepted", at->accepted[j]);
        fr_json_add_ratio(d, item, "rate", (double)at->accepted[j], (double)at->drafted[j]);
        add_wilson(d, item, "rate_ci95", at->accepted[j], at->drafted[j]);
        fr_json_add_ratio(d, item, "conditional_rate", (double)at->accepted[j], (double)at->reached[j]);
        add_wilson(d, item, "conditional_ci95", at->accepted[j], at->reached[j]);
    }
}

static fr_status add_domains(fr_accept_run *run, fr_json_builder *d, cJSON *to, const fr_accept_config *c, units *u,
                             fr_error *error) {
    cJSON *array = fr_json_add_array(d, to, "domains");
    for (size_t p = 0; p < run->num_prompts; p++) {
        if (!fr_prompt_opens_domain(&run->prompts, p)) continue;
        const char *domain = run->prompts.items[p].domain;
        totals t = {0};
        for (size_t q = p; q < run->num_prompts; q++)
            if (strcmp(run->prompts.items[q].domain, domain) == 0) add_text(&t, &c->texts[q]);
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_text(d, item, "domain", domain);
        fr_json_add_count(d, item, "prompts", t.prompts);
        fr_json_add_count(d, item, "tokens", t.tokens);
        fr_json_add_count(d, item, "drafted", t.drafted);
        fr_json_add_count(d, item, "accepted", t.accepted);
        fr_json_add_ratio(d, item, "acceptance_rate", (double)t.accepted, (double)t.drafted);
        fill_units(run, c, domain, false, u);
        FR_TRY(add_bootstrap(d, item, "ci95", u, run->options.session.sampling.seed, error));
        fr_json_add_ratio(d, item, "mean_acceptance_length", (double)(t.cycles + t.accepted), (double)t.cycles);
        add_positions(d, item, &t.at, c->depth);
    }
    return FR_OK;
}

static void add_context(fr_json_builder *d, cJSON *to, const fr_accept_config *c) {
    cJSON *array = fr_json_add_array(d, to, "context");
    for (int b = 0; b < FR_ACCEPT_CONTEXTS; b++) {
        if (c->context_drafted[b] == 0) continue;
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_count(d, item, "from", b == 0 ? 0 : UINT64_C(32) << b);
        fr_json_add_count(d, item, "to", UINT64_C(64) << b);
        fr_json_add_count(d, item, "position", 1);
        fr_json_add_count(d, item, "drafted", c->context_drafted[b]);
        fr_json_add_count(d, item, "accepted", c->context_accepted[b]);
        fr_json_add_ratio(d, item, "rate", (double)c->context_accepted[b], (double)c->context_drafted[b]);
        add_wilson(d, item, "ci95", c->context_accepted[b], c->context_drafted[b]);
    }
}

static void add_calibration(fr_json_builder *d, cJSON *to, const fr_calibration *c) {
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
        add_wilson(d, item, "ci95", c->happened[b], c->count[b]);
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

static void add_rejected(fr_accept_run *run, fr_json_builder *d, cJSON *to, const fr_accept_config *c) {
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

static void add_results(fr_accept_run *run, fr_json_builder *d, cJSON *to, const fr_accept_config *c) {
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
        fr_json_add_count(d, item, "tokens", t.tokens);
        fr_json_add_count(d, item, "drafted", t.drafted);
        fr_json_add_count(d, item, "accepted", t.accepted);
        fr_json_add_ratio(d, item, "acceptance_rate", (double)t.accepted, (double)t.drafted);
        fr_json_add_ratio(d, item, "mean_acceptance_length", (double)(t.cycles + t.accepted), (double)t.cycles);
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

static fr_status add_config(fr_accept_run *run, fr_json_builder *d, cJSON *to, const fr_accept_config *c, units *u,
                            fr_error *error) {
    const fr_accept_options *o = &run->options;
    uint64_t seed = o->session.sampling.seed;
    totals t = {0};
    for (size_t p = 0; p < run->num_prompts; p++) add_text(&t, &c->texts[p]);
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
    fill_units(run, c, NULL, false, u);
    FR_TRY(add_bootstrap(d, to, "acceptance_rate_ci95", u, seed, error));
    fill_units(run, c, NULL, true, u);
    FR_TRY(add_bootstrap(d, to, "mean_acceptance_length_ci95", u, seed, error));
    add_positions(d, to, &t.at, c->depth);
    FR_TRY(add_domains(run, d, to, c, u, error));
    add_context(d, to, c);
    add_calibration(d, to, &c->calibration);
    add_rejected(run, d, to, c);
    add_results(run, d, to, c);
    return FR_OK;
}

/* ---- The whole ---- */

/* What tokens would share if each chose its experts on its own: uniformly, or each expert as often as it was chosen. */
static void add_experts(fr_accept_run *run, fr_json_builder *d) {
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

fr_status fr_accept_document(fr_accept_run *run, bool complete, fr_study_result **out, fr_error *error) {
    fr_json_builder d;
    fr_status status = FR_OK;
    units u = {fr_alloc(run->num_prompts * sizeof(double)), fr_alloc(run->num_prompts * sizeof(double)), 0};
    fr_json_begin(&d);
    d.failed |= !u.over || !u.under;
    if (!d.failed) {
        add_options(
            run, &d,
            fr_study_header(&d, "forerun.accept/1", run->model, &run->options.origin, run->options.session.sampling.seed));
        cJSON *prompts = fr_study_add_prompts(&d, &run->prompts, run->num_prompts);
        fr_json_add_count(&d, prompts, "cut", run->num_cut);
        fr_json_add_bool(&d, d.root, "complete", complete);
        cJSON *configurations = fr_json_add_array(&d, d.root, "configurations");
        for (size_t i = 0; i < run->num_configs && status == FR_OK; i++)
            status = add_config(run, &d, fr_json_add_object(&d, configurations, NULL), &run->configs[i], &u, error);
        if (status == FR_OK && !d.failed) {
            add_first(&d, cJSON_GetArrayItem(configurations, 0));
            add_experts(run, &d);
        }
    }
    fr_free(u.over);
    fr_free(u.under);
    if (status == FR_OK) return fr_study_finish(&d, out, error);
    fr_json_discard(&d);
    return status;
}
