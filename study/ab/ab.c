/* The study: options, sessions, and the order in which texts are made. */
#include "study/ab/ab.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/memory.h"
#include "mtp/session.h"
#include "study/ab/document.h"
#include "study/ab/run.h"
#include "study/ab/text.h"
#include "study/statistics.h"
#include "study/words.h"

enum { DEFAULT_REPEATS = 2, WARM_UP_TOKENS = 32, MOST_REPEATS = 1000 };

int fr_ab_order(int columns, size_t prompt, int repeat, int turn) {
    assert(turn >= 0 && turn < columns);
    return (prompt + (size_t)repeat) % 2 == 0 ? turn : columns - 1 - turn;
}

/* ---- Options ---- */

static fr_status check_options(fr_ab_options *o, fr_error *error) {
    static const fr_ab_arm usual[] = {
        {FR_DRAFTING_OFF, 0, false}, {FR_DRAFTING_ON, 0, false}, {FR_DRAFTING_AUTO, 0, false}, {FR_DRAFTING_AUTO, 0, true}};
    if (!o->arms) {
        o->arms = usual;
        o->num_arms = sizeof usual / sizeof *usual;
    }
    if (o->repeats == 0) o->repeats = DEFAULT_REPEATS;
    if (o->warm_up == 0) o->warm_up = 1;
    if (o->num_arms < 1 || o->num_arms > FR_AB_MOST_ARMS)
        return fr_fail(error, FR_ERROR_ARGUMENT, "ab: %zu arms, expected 1 to %d", o->num_arms, FR_AB_MOST_ARMS);
    if (o->num_synthetic > FR_AB_MOST_SYNTHETIC)
        return fr_fail(error, FR_ERROR_ARGUMENT, "ab: %zu synthetic acceptances, at most %d can be measured", o->num_synthetic,
                       FR_AB_MOST_SYNTHETIC);
    if (o->max_tokens < 0 || o->max_tokens == 1)
        return fr_fail(error, FR_ERROR_ARGUMENT,
                       "ab: texts of %d tokens; the first comes with the prefill, so that times "
                       "of decoding need 2 at least",
                       o->max_tokens);
    if (o->repeats < 1 || o->repeats > MOST_REPEATS)
        return fr_fail(error, FR_ERROR_ARGUMENT, "ab: %d repeats, expected 1 to %d", o->repeats, MOST_REPEATS);
    if (!(o->cool_off_s >= 0.0 && o->cool_off_s <= 3600.0))
        return fr_fail(error, FR_ERROR_ARGUMENT, "ab: a pause of %g seconds, expected 0 to 3600", o->cool_off_s);
    for (size_t i = 0; i < o->num_synthetic; i++)
        if (!(o->synthetic[i] >= 0.0 && o->synthetic[i] <= 1.0))
            return fr_fail(error, FR_ERROR_ARGUMENT, "ab: a synthetic acceptance of %g, expected 0 to 1", o->synthetic[i]);
    if (o->num_synthetic > 0 && !fr_ab_promises_identity(o)) {
        fr_fail(error, FR_ERROR_ARGUMENT,
                "ab: synthetic acceptance needs texts that do not depend on drafts, and rejection "
                "at a temperature above 0 does not give them");
        return fr_hint(error, FR_ERROR_ARGUMENT, "--verify coupled does");
    }
    return FR_OK;
}

/* ---- Columns ---- */

static int depth_of(const fr_ab_options *o, fr_drafting drafting, int depth) {
    if (drafting == FR_DRAFTING_OFF) return 0;
    if (depth == 0) depth = o->session.depth;
    return depth > 0 ? depth : fr_default_depth(drafting);
}

static fr_status lay_out_columns(fr_ab_run *run, fr_error *error) {
    const fr_ab_options *o = &run->options;
    run->base = -1;
    run->again = -1;
    for (size_t i = 0; i < o->num_arms; i++) {
        fr_ab_column *c = &run->columns[run->num_columns];
        *c = (fr_ab_column){.drafting = o->arms[i].drafting,
                            .depth = depth_of(o, o->arms[i].drafting, o->arms[i].depth),
                            .learned = o->arms[i].learned && o->arms[i].drafting == FR_DRAFTING_AUTO};
        fr_ab_arm_name(&o->arms[i], c->name, sizeof c->name);
        for (int j = 0; j < run->num_columns; j++)
            if (strcmp(run->columns[j].name, c->name) == 0)
                return fr_fail(error, FR_ERROR_ARGUMENT, "ab: there are two arms %s", c->name);
        if (run->base < 0 && c->drafting == FR_DRAFTING_OFF) run->base = run->num_columns;
        run->num_columns++;
    }
    if (run->base < 0) run->base = 0;
    for (size_t i = 0; i < o->num_synthetic; i++) {
        fr_ab_column *c = &run->columns[run->num_columns++];
        *c = (fr_ab_column){.role = FR_AB_SYNTHETIC,
                            .drafting = FR_DRAFTING_ON,
                            .depth = depth_of(o, FR_DRAFTING_ON, 0),
                            .target = o->synthetic[i]};
        snprintf(c->name, sizeof c->name, "synthetic:%g", c->target);
        run->num_synthetic++;
    }
    if (o->no_noise_check) return FR_OK;
    const fr_ab_column *base = &run->columns[run->base];
    fr_ab_column *again = &run->columns[run->num_columns];
    run->again = run->num_columns++;
    *again = (fr_ab_column){.role = FR_AB_AGAIN, .drafting = base->drafting, .depth = base->depth, .learned = base->learned};
    fr_ab_arm_name(&o->arms[run->base], again->name, sizeof again->name);
    strcat(again->name, " (again)");
    return FR_OK;
}

static bool on_prefill(void *user, const char *what, uint64_t done, uint64_t total) {
    const fr_ab_run *run = user;
    (void)what, (void)done, (void)total; /* a prompt is a small part of the whole */
    return !run->options.progress || run->options.progress(run->options.user, run->what, run->done, run->total);
}

static fr_status open_sessions(fr_ab_run *run, fr_error *error) {
    fr_session_options wanted = run->options.session;
    wanted.ignore_eos = run->options.ignore_eos;
    wanted.ends = NULL;
    wanted.progress = on_prefill;
    wanted.user = run;
    for (int c = 0; c < run->num_columns; c++) {
        wanted.drafting = run->columns[c].drafting;
        wanted.depth = run->columns[c].depth;
        wanted.learned = run->columns[c].learned ? run->options.session.learned : NULL;
        FR_TRY(fr_session_create(run->model, &wanted, &run->columns[c].session, error));
        if (run->columns[c].depth >= run->probe_rows) run->probe_rows = run->columns[c].depth + 1;
    }
    if (run->probe_rows < 2) run->probe_rows = 2; /* what drafting would cost, and how experts overlap */
    return FR_OK;
}

/* ---- Prompts ---- */

static fr_status load_prompts(fr_ab_run *run, fr_error *error) {
    fr_ab_options *o = &run->options;
    int most = run->model->config.max_position_embeddings;
    size_t longest = 0;
    if (o->prompts)
        FR_TRY(fr_prompts_load(run->model, o->prompts, o->chat ? &o->chat_options : NULL, &run->prompts, error));
    else
        FR_TRY(fr_prompts_from_tokens(run->model, o->tokens, o->num_tokens, &run->prompts, error));
    if (run->prompts.count == 0) return fr_fail(error, FR_ERROR_ARGUMENT, "ab: there are no prompts");
    run->num_prompts = o->most_prompts > 0 && o->most_prompts < run->prompts.count ? o->most_prompts : run->prompts.count;
    fr_prompts_limit(&run->prompts, o->max_tokens);
    for (size_t i = 0; i < run->num_prompts; i++) {
        fr_prompt *p = &run->prompts.items[i];
        if (p->max_tokens < 2) p->max_tokens = 2;
        size_t length = p->count + (size_t)p->max_tokens;
        if (length > longest) longest = length;
        if (length <= (size_t)(o->session.ctx ? o->session.ctx : most)) continue;
        fr_fail(error, FR_ERROR_CONTEXT, "ab: prompt %s: its %zu tokens and %d more do not fit in %d", p->id, p->count,
                p->max_tokens, o->session.ctx ? o->session.ctx : most);
        return o->session.ctx ? fr_hint(error, FR_ERROR_CONTEXT, "ask for a longer context (--ctx), or fewer tokens (-n)")
                              : fr_hint(error, FR_ERROR_CONTEXT, "ask for fewer tokens (-n)");
    }
    if (o->session.ctx == 0) o->session.ctx = (int)longest;
    return FR_OK;
}

/* ---- The run ---- */

static int warm_up_tokens(const fr_ab_run *run, size_t prompt) {
    int most = run->prompts.items[prompt].max_tokens;
    return most < WARM_UP_TOKENS ? most : WARM_UP_TOKENS;
}

static fr_status allocate(fr_ab_run *run, fr_error *error) {
    size_t turns = run->num_prompts * (size_t)run->options.repeats;
    int longest = 0;
    run->texts = fr_alloc_zeroed(turns * (size_t)run->num_columns, sizeof *run->texts);
    run->probes = fr_alloc_zeroed(turns, sizeof *run->probes);
    if (!run->texts || !run->probes) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the texts");
    for (size_t p = 0; p < run->num_prompts; p++) {
        int most = run->prompts.items[p].max_tokens;
        for (int r = 0; r < run->options.repeats; r++)
            for (int c = 0; c < run->num_columns; c++) FR_TRY(fr_ab_text_create(fr_ab_text_at(run, p, r, c), most, error));
        if (most > longest) longest = most;
        run->total += (uint64_t)most * (uint64_t)(run->options.repeats * run->num_columns + (run->num_synthetic > 0));
    }
    for (int i = 0; i < run->options.warm_up; i++)
        run->total += (uint64_t)run->num_columns * (uint64_t)warm_up_tokens(run, (size_t)i % run->num_prompts);
    return fr_ab_text_create(&run->record, longest, error);
}

/* The pause before a text, in slices, so that it can be broken off. */
static fr_status cool_off(const fr_ab_run *run, fr_error *error) {
    fr_status status = FR_OK;
    for (double left = run->options.cool_off_s; left > 0.0 && status == FR_OK; left -= 0.1) {
        double slice = left < 0.1 ? left : 0.1;
        struct timespec pause = {0, (long)(1e9 * slice)};
        nanosleep(&pause, NULL);
        if (run->options.progress && !run->options.progress(run->options.user, "cool-off", run->done, run->total))
            status = fr_fail(error, FR_INTERRUPTED, "ab: interrupted");
    }
    return fr_ranks_agree(run->model->ranks, status, error);
}

static fr_status warm_up(fr_ab_run *run, fr_error *error) {
    for (int i = 0; i < run->options.warm_up; i++)
        for (int c = 0; c < run->num_columns; c++) {
            size_t prompt = (size_t)i % run->num_prompts;
            int most = warm_up_tokens(run, prompt);
            FR_TRY(fr_ab_make_text(run, c, prompt, most, 0, &run->record, error));
            run->done += (uint64_t)most;
        }
    return FR_OK;
}

static fr_status run_prompt(fr_ab_run *run, size_t prompt, fr_error *error) {
    int most = run->prompts.items[prompt].max_tokens, repeats = run->options.repeats;
    if (run->num_synthetic > 0) {
        FR_TRY(fr_ab_make_text(run, run->base, prompt, most, 0, &run->record, error));
        run->done += (uint64_t)most;
    }
    for (int repeat = 0; repeat < repeats; repeat++) {
        for (int turn = 0; turn < run->num_columns; turn++) {
            int column = fr_ab_order(run->num_columns, prompt, repeat, turn), draw = (int)prompt * repeats + repeat;
            FR_TRY(cool_off(run, error));
            FR_TRY(fr_ab_make_text(run, column, prompt, most, draw, fr_ab_text_at(run, prompt, repeat, column), error));
            run->done += (uint64_t)most;
        }
        FR_TRY(fr_ab_probe_passes(run, prompt, &run->probes[prompt * (size_t)repeats + (size_t)repeat], error));
    }
    return FR_OK;
}

static fr_status run_all(fr_ab_run *run, fr_error *error) {
    FR_TRY(warm_up(run, error));
    for (size_t p = 0; p < run->num_prompts; p++) FR_TRY(run_prompt(run, p, error));
    return FR_OK;
}

static void release(fr_ab_run *run) {
    size_t texts = run->texts ? run->num_prompts * (size_t)(run->options.repeats * run->num_columns) : 0;
    for (size_t i = 0; i < texts; i++) fr_ab_text_release(&run->texts[i]);
    fr_ab_text_release(&run->record);
    for (int c = 0; c < run->num_columns; c++) fr_session_destroy(run->columns[c].session);
    fr_free(run->texts);
    fr_free(run->probes);
    fr_prompts_release(&run->prompts);
}

fr_status fr_ab(const fr_model *model, const fr_ab_options *options, fr_study_result **out, fr_error *error) {
    fr_ab_run *run = fr_alloc_zeroed(1, sizeof *run);
    fr_status status;
    *out = NULL;
    if (!run) return fr_fail(error, FR_ERROR_MEMORY, "ab: out of memory");
    run->model = model;
    if (options) run->options = *options;
    FR_CHECK(check_options(&run->options, error));
    FR_CHECK(load_prompts(run, error));
    FR_CHECK(lay_out_columns(run, error));
    FR_CHECK(allocate(run, error));
    FR_CHECK(open_sessions(run, error));
    fr_energy_open(&run->energy, FR_ENERGY_ROOT);
    status = run_all(run, error);
    run->interrupted = status == FR_INTERRUPTED;
    if (status != FR_OK && status != FR_INTERRUPTED) goto done;
    for (int c = 0; c < run->num_columns; c++) /* never needed: whether it can be kept is nobody's concern */
        if (run->columns[c].role == FR_AB_ARM) fr_session_keep_learned(run->columns[c].session, NULL);
    fr_status written = fr_ab_document(run, out, error);
    if (written != FR_OK) status = written;
done:
    release(run);
    fr_free(run);
    return status;
}
