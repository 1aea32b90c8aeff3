#include "study/accept/accept.h"

#include <stdio.h>

#include "core/memory.h"
#include "forerun_study.h"
#include "mtp/drafters/drafter.h"
#include "study/words.h"

enum { DEFAULT_REJECTED = 20 };

/* The grid takes `!` for the other one of two. */
_Static_assert(FR_VERIFY_COUPLED == 0 && FR_VERIFY_REJECTION == 1, "two rules");
_Static_assert(FR_HIDDEN_POST_NORM == 0 && FR_HIDDEN_PRE_NORM == 1, "two hidden states");

/* ---- Options ---- */

static fr_status out_of_memory(fr_error *error) {
    return fr_fail(error, FR_ERROR_MEMORY, "accept: out of memory");
}

static fr_status check_options(const fr_model *model, fr_accept_options *o, fr_error *error) {
    const fr_drafter_type *drafter = fr_drafter_type_of((int)o->session.drafter);
    if (!drafter) return fr_fail(error, FR_ERROR_ARGUMENT, "accept: there is no drafter %d", (int)o->session.drafter);
    if (drafter->needs_mtp && !model->mtp.files.present) {
        fr_fail(error, FR_ERROR_UNSUPPORTED, "accept: this checkpoint has no MTP module (layer %d): %s",
                model->config.num_hidden_layers, model->mtp.files.absent);
        return fr_hint(error, FR_ERROR_UNSUPPORTED, "--drafter ngram drafts without one");
    }
    if (o->session.drafter != FR_DRAFTER_MTP && o->teacher_forced)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "accept: only the MTP module's drafts can be teacher-forced");
    if (o->num_recycles == 0 || o->session.drafter != FR_DRAFTER_MTP) { /* (nothing else recycles) */
        o->recycles = &o->session.mtp_recycle;
        o->num_recycles = 1;
    }
    if (o->session.drafter != FR_DRAFTER_MTP) o->both_hidden = false;
    if (o->max_tokens < 0) return fr_fail(error, FR_ERROR_ARGUMENT, "accept: at most %d tokens", o->max_tokens);
    for (size_t i = 0; i < o->num_depths; i++)
        if (o->depths[i] < 1 || o->depths[i] > FR_MAX_DEPTH)
            return fr_fail(error, FR_ERROR_ARGUMENT, "depth: %d, expected 1 to %d", o->depths[i], FR_MAX_DEPTH);
    if (o->most_rejected == 0) o->most_rejected = DEFAULT_REJECTED;
    if (o->session.depth == 0) o->session.depth = fr_default_depth(FR_DRAFTING_AUTO);
    if (o->num_depths == 0) {
        o->depths = &o->session.depth;
        o->num_depths = 1;
    }
    if (o->num_temperatures == 0) {
        o->temperatures = &o->session.sampling.temperature;
        o->num_temperatures = 1;
    }
    return FR_OK;
}

static fr_status load_prompts(fr_accept_run *run, fr_error *error) {
    const fr_accept_options *o = &run->options;
    if (o->prompts)
        FR_TRY(fr_prompts_load(run->model, o->prompts, o->chat ? &o->chat_options : NULL, &run->prompts, error));
    else
        FR_TRY(fr_prompts_from_tokens(run->model, o->tokens, o->num_tokens, &run->prompts, error));
    run->num_prompts = run->prompts.count;
    if (o->most_prompts > 0 && o->most_prompts < run->num_prompts) run->num_prompts = o->most_prompts;
    fr_prompts_limit(&run->prompts, o->max_tokens);
    return FR_OK;
}

/* A context for the longest text. A text that does not fit is cut when it is teacher-forced; a prompt that does not fit is an
 * error, before anything runs. */
static fr_status set_context(fr_accept_run *run, fr_error *error) {
    int *ctx = &run->options.session.ctx, most = run->model->config.max_position_embeddings;
    size_t need = 0;
    for (size_t p = 0; p < run->num_prompts; p++) {
        fr_prompt *prompt = &run->prompts.items[p];
        size_t room = (size_t)(*ctx ? *ctx : most);
        if (run->options.teacher_forced && prompt->count > room) {
            prompt->count = room;
            run->num_cut++;
        }
        size_t length = prompt->count + (run->options.teacher_forced ? 0 : (size_t)prompt->max_tokens);
        if (prompt->count > room)
            return fr_fail(error, FR_ERROR_CONTEXT, "prompt \"%.60s\": its %zu tokens do not fit in a context of %zu", prompt->id,
                           prompt->count, room);
        if (length > need) need = length;
    }
    if (*ctx == 0) *ctx = need < (size_t)most ? (int)need : most;
    return FR_OK;
}

/* ---- The grid ---- */

/* Parts of a name that vary in this grid, or the depth alone. */
static void name_config(const fr_accept_options *o, fr_accept_config *c) {
    int used = snprintf(c->name, sizeof c->name, "depth %d", c->depth);
    if (o->num_temperatures > 1)
        used += snprintf(c->name + used, sizeof c->name - (size_t)used, ", temperature %g", (double)c->temperature);
    if (o->both_verify && c->temperature > 0.0f)
        used += snprintf(c->name + used, sizeof c->name - (size_t)used, ", %s", fr_verify_word(c->verify));
    if (o->both_hidden)
        used += snprintf(c->name + used, sizeof c->name - (size_t)used, ", hidden %s", fr_hidden_state_word(c->hidden));
    if (o->num_recycles > 1 && c->depth > 1)
        snprintf(c->name + used, sizeof c->name - (size_t)used, ", recycle %s", fr_recycle_word(c->recycle));
}

static fr_status add_config(fr_accept_run *run, const fr_accept_config *like, fr_error *error) {
    size_t vocab = (size_t)run->model->config.vocab_size;
    fr_accept_config *c = &run->configs[run->num_configs++];
    *c = *like;
    name_config(&run->options, c);
    c->texts = fr_alloc_zeroed(run->num_prompts, sizeof *c->texts);
    c->proposed = fr_alloc_zeroed(vocab, sizeof *c->proposed);
    c->rejected = fr_alloc_zeroed(vocab, sizeof *c->rejected);
    return c->texts && c->proposed && c->rejected ? FR_OK : out_of_memory(error);
}

/* The configurations of a temperature, rule and hidden state. */
static fr_status add_depths(fr_accept_run *run, fr_accept_config config, fr_error *error) {
    const fr_accept_options *o = &run->options;
    for (size_t r = 0; r < o->num_recycles; r++)
        for (size_t d = 0; d < o->num_depths; d++) {
            if (r > 0 && o->depths[d] == 1) continue; /* one draft recycles nothing */
            config.recycle = o->recycles[r];
            config.depth = o->depths[d];
            FR_TRY(add_config(run, &config, error));
        }
    return FR_OK;
}

static fr_status make_grid(fr_accept_run *run, fr_error *error) {
    const fr_accept_options *o = &run->options;
    const fr_session_options *s = &o->session;
    size_t most = o->num_temperatures * 4 * o->num_recycles * o->num_depths;
    run->configs = fr_alloc_zeroed(most, sizeof *run->configs);
    if (!run->configs) return out_of_memory(error);
    for (size_t t = 0; t < o->num_temperatures; t++)
        for (int way = 0; way < 4; way++) {
            bool verify = way & 2, hidden = way & 1; /* the other one of each */
            if ((verify && (!o->both_verify || o->temperatures[t] <= 0.0f)) || (hidden && !o->both_hidden)) continue;
            fr_accept_config config = {
                .temperature = o->temperatures[t],
                .verify = verify ? (fr_verify)!s->sampling.verify : s->sampling.verify,
                .hidden = hidden ? (fr_hidden_state)!s->mtp_hidden : s->mtp_hidden,
            };
            FR_TRY(add_depths(run, config, error));
        }
    return FR_OK;
}

static fr_status make_experts(fr_accept_run *run, fr_error *error) {
    const fr_config *c = &run->model->config;
    fr_accept_experts *e = &run->experts;
    *e =
        (fr_accept_experts){.layers = run->model->num_moe_layers, .chosen = c->num_experts_per_tok, .count = c->n_routed_experts};
    if (e->layers == 0) return FR_OK;
    size_t layers = (size_t)e->layers;
    e->last = fr_alloc_zeroed(layers * (size_t)e->chosen, sizeof *e->last);
    e->shared = fr_alloc_zeroed(layers, sizeof *e->shared);
    e->chose = fr_alloc_zeroed(layers * (size_t)e->count, sizeof *e->chose);
    return e->last && e->shared && e->chose ? FR_OK : out_of_memory(error);
}

/* ---- Running ---- */

/* What a prompt adds to the progress at most. */
static size_t weight(const fr_accept_run *run, const fr_prompt *prompt) {
    return prompt->count + (run->options.teacher_forced ? 0 : (size_t)prompt->max_tokens);
}

/* The session's own progress counts a prefill; all that it may do here is to stop. */
static bool prefill_goes_on(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what;
    (void)total;
    return fr_accept_report(user, (size_t)done, NULL) == FR_OK;
}

static fr_status run_prompt(fr_accept_run *run, size_t p, fr_error *error) {
    const fr_prompt *prompt = &run->prompts.items[p];
    run->text = &run->config->texts[p];
    fr_accept_new_text(run);
    FR_TRY(fr_session_truncate(run->session, 0, error));
    fr_status status = run->options.teacher_forced ? fr_accept_verify_text(run, prompt->tokens, (int)prompt->count, 0, error)
                                                   : fr_accept_generate(run, prompt, error);
    if (status != FR_OK && status != FR_INTERRUPTED) return fr_context(error, status, "prompt \"%.60s\"", prompt->id);
    run->text->whole = status == FR_OK;
    run->done += weight(run, prompt);
    return status;
}

static fr_status run_config(fr_accept_run *run, fr_accept_config *config, fr_error *error) {
    fr_session_options o = run->options.session;
    fr_status status = FR_OK;
    o.drafting = FR_DRAFTING_ON;
    o.ignore_eos = run->options.ignore_eos;
    o.ends = NULL;
    o.depth = config->depth;
    o.mtp_hidden = config->hidden;
    o.mtp_recycle = config->recycle;
    o.sampling.temperature = config->temperature;
    o.sampling.verify = config->verify;
    o.progress = run->options.teacher_forced ? NULL : prefill_goes_on;
    o.user = run;
    run->config = config;
    FR_TRY(fr_session_create(run->model, &o, &run->session, error));
    for (size_t p = 0; p < run->num_prompts && status == FR_OK; p++) status = run_prompt(run, p, error);
    config->whole = status == FR_OK;
    fr_session_destroy(run->session);
    run->session = NULL;
    return status;
}

static void release(fr_accept_run *run) {
    for (size_t i = 0; i < run->num_configs; i++) {
        fr_free(run->configs[i].texts);
        fr_free(run->configs[i].proposed);
        fr_free(run->configs[i].rejected);
    }
    fr_free(run->configs);
    fr_free(run->experts.last);
    fr_free(run->experts.shared);
    fr_free(run->experts.chose);
    fr_prompts_release(&run->prompts);
}

fr_status fr_accept(const fr_model *model, const fr_accept_options *options, fr_study_result **out, fr_error *error) {
    fr_accept_run run = {.model = model, .options = *options};
    fr_error ignored;
    fr_status status;
    *out = NULL;
    if (!error) error = &ignored;
    FR_CHECK(check_options(model, &run.options, error));
    FR_CHECK(load_prompts(&run, error));
    FR_CHECK(set_context(&run, error));
    FR_CHECK(make_grid(&run, error));
    FR_CHECK(make_experts(&run, error));
    for (size_t p = 0; p < run.num_prompts; p++) run.total += weight(&run, &run.prompts.items[p]) * run.num_configs;
    for (size_t i = 0; i < run.num_configs && status == FR_OK; i++) status = run_config(&run, &run.configs[i], error);
    if (status == FR_OK || status == FR_INTERRUPTED) {
        fr_status made = fr_accept_document(&run, status == FR_OK, out, error);
        if (made != FR_OK) status = made;
    }
done:
    release(&run);
    return status;
}
