#include "study/ab/text.h"

#include <stdio.h>

#include "model/forward.h"
#include "mtp/drafters/forced.h"
#include "mtp/session.h"
#include "sampler/noise.h"

/* ---- Synthetic drafts ---- */

typedef struct spoiler {
    const fr_ab_text *record; /* the text that will be made: drafts are right or wrong by it */
    size_t prompt_count;
    uint64_t seed;
    int draw;
    double target;
    int32_t vocab_size;
} spoiler;

int32_t fr_ab_spoil(uint64_t seed, int position, int draw, double target, int32_t right, int32_t vocab_size) {
    /* A uniform number is above 0 and below 1: with a target of 0 and of 1 nothing is left to chance. */
    double u = fr_uniform(seed, FR_STREAM_SPOIL, position, draw);
    if (u < target || vocab_size < 2) return right;
    int32_t away = 1 + (int32_t)((u - target) / (1.0 - target) * (vocab_size - 1)); /* uniform again, given that it is wrong */
    if (away > vocab_size - 1) away = vocab_size - 1;
    return (int32_t)(((int64_t)right + away) % vocab_size);
}

/* An fr_force_fn. A wrong draft is never what the model says there: the output cannot change, and none is accepted by luck. */
static void spoil(void *user, const fr_draft_context *context, fr_cycle *cycle) {
    const spoiler *s = user;
    int at = context->length - (int)s->prompt_count, known = s->record->count - at; /* an eos token may end the record */
    int count = cycle->made < known ? cycle->made : known;
    cycle->made = 0;
    for (int j = 0; j < count; j++) {
        int32_t right = s->record->tokens[at + j];
        fr_draft_propose(context, cycle, fr_ab_spoil(s->seed, context->length + j, s->draw, s->target, right, s->vocab_size));
    }
}

/* ---- A text ---- */

static void take(const fr_step *step, fr_ab_text *out) {
    for (int i = 0; i < step->count; i++) out->tokens[out->count++] = step->tokens[i];
}

/* Ranks are interrupted together: signals do not reach all of them at once. */
static fr_status report(fr_ab_run *run, int column, size_t prompt, int made, fr_error *error) {
    fr_status status = FR_OK;
    if (!run->options.progress) return FR_OK;
    uint64_t done = run->done + (uint64_t)made;
    snprintf(run->what, sizeof run->what, "%zu/%zu %s", prompt + 1, run->num_prompts, run->columns[column].name);
    if (!run->options.progress(run->options.user, run->what, done < run->total ? done : run->total, run->total))
        status = fr_fail(error, FR_INTERRUPTED, "ab: interrupted in prompt %zu of %zu", prompt + 1, run->num_prompts);
    return fr_ranks_agree(run->model->ranks, status, error);
}

static void count_drafting(const fr_cycle *cycle, fr_ab_text *out) {
    if (cycle->verified > 0) {
        out->first_draft_s += cycle->first_s;
        out->first_drafts++;
    }
    if (cycle->verified > 1) {
        out->next_draft_s += cycle->rest_s;
        out->next_drafts += cycle->verified - 1;
    }
}

/* The cycles after the first token. */
static fr_status decode(fr_ab_run *run, int column, size_t prompt, int most, fr_ab_text *out, fr_error *error) {
    fr_session *s = run->columns[column].session;
    bool drafts_all = run->columns[column].drafting == FR_DRAFTING_ON;
    for (fr_step step = {0}; !step.ended && out->count < most;) {
        double start = fr_now();
        FR_TRY(fr_session_step(s, most - out->count, &step, error));
        double seconds = fr_now() - start;
        take(&step, out);
        for (int i = 0; i < step.count; i++) out->token_s[out->count - 1 - step.count + i] = seconds / step.count;
        out->cycle_s[out->cycles++] = seconds;
        out->decode_s += seconds;
        if (drafts_all) count_drafting(fr_session_last_cycle(s), out);
        FR_TRY(report(run, column, prompt, out->count, error));
    }
    return FR_OK;
}

static fr_status make(fr_ab_run *run, int column, size_t prompt, int most, fr_ab_text *out, fr_error *error) {
    const fr_prompt *p = &run->prompts.items[prompt];
    fr_session *s = run->columns[column].session;
    fr_step step;
    double start = fr_now();
    FR_TRY(fr_session_prefill(s, p->tokens, p->count, error));
    out->prefill_s = fr_now() - start;
    FR_TRY(fr_session_step(s, most, &step, error));
    out->ttft_s = fr_now() - start;
    take(&step, out);
    double energy = fr_energy_read(&run->energy);
    if (!step.ended) FR_TRY(decode(run, column, prompt, most, out, error));
    out->energy_j = fr_energy_read(&run->energy) - energy;
    return FR_OK;
}

/* What a policy knows when a text begins is what it would know in a run of the program. */
static void begin_policy(const fr_ab_column *c) {
    fr_learned learned;
    if (c->drafting != FR_DRAFTING_AUTO) return;
    if (!c->learned)
        fr_session_begin_policy(c->session, NULL);
    else if (fr_learned_take(&c->session->policy, &learned))
        fr_session_begin_policy(c->session, &learned);
}

fr_status fr_ab_make_text(fr_ab_run *run, int column, size_t prompt, int most, int draw, fr_ab_text *out, fr_error *error) {
    const fr_ab_column *c = &run->columns[column];
    spoiler spoiled = {&run->record, run->prompts.items[prompt].count, run->options.session.sampling.seed, draw,
                       c->target,    run->model->config.vocab_size};
    *out = (fr_ab_text){.tokens = out->tokens, .token_s = out->token_s, .cycle_s = out->cycle_s};
    FR_TRY(report(run, column, prompt, 0, error));
    FR_TRY(fr_session_truncate(c->session, 0, error));
    fr_session_reset_stats(c->session);
    begin_policy(c);
    fr_forced_drafter forced = fr_forced_drafter_around(c->session->drafter, spoil, &spoiled);
    bool synthetic = c->role == FR_AB_SYNTHETIC && out != &run->record;
    if (synthetic) fr_session_swap_drafter(c->session, &forced.base);
    fr_status status = make(run, column, prompt, most, out, error);
    if (synthetic) fr_session_swap_drafter(c->session, forced.inner);
    fr_session_get_stats(c->session, &out->stats);
    out->whole = status == FR_OK;
    return status;
}

/* ---- Passes ---- */

enum { ROUNDS = 3 }; /* a mean of few is at the mercy of one that was disturbed */

fr_status fr_ab_probe_passes(fr_ab_run *run, size_t prompt, fr_ab_probe *out, fr_error *error) {
    fr_session *s = run->columns[run->base].session;
    int first = (int)run->prompts.items[prompt].count, made = s->length - first, rows = run->probe_rows;
    int32_t tokens[FR_MAX_DEPTH + 1];
    *out = (fr_ab_probe){0};
    if (made < rows + 1) return FR_OK; /* the last token of the text was not evaluated */
    int at = first + (made - rows) / 2;
    for (int r = 0; r < rows; r++) tokens[r] = s->tokens[at + r];
    FR_TRY(fr_session_truncate(s, (size_t)at + 1, error)); /* positions before `at` stay in the cache */
    /* Once to warm up, then with rising and falling numbers of rows: what drifts meets all alike. */
    for (int i = -1; i < ROUNDS * 2 * rows; i++) {
        int at_round = i < 0 ? 0 : i % (2 * rows), r = i < 0 ? rows : at_round < rows ? at_round + 1 : 2 * rows - at_round;
        double start = fr_now();
        fr_forward(s->model, &s->ws, &s->kv, tokens, r);
        fr_lm_head(s->model, &s->ws, &s->model->lm_head, s->ws.hidden, r, s->logits);
        if (i < 0) continue;
        out->pass_s[r - 1] += (fr_now() - start) / (2 * ROUNDS);
        out->experts[r - 1] = fr_unique_experts(s->model, &s->ws, r);
    }
    out->rows = rows;
    return fr_session_trusts_pass(s, error);
}
