#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/prompt.h"
#include "cli/ranks.h"
#include "study/speculation.h"
#include "study/words.h"

typedef struct generation {
    const fr_cli_options *options;
    fr_cli_runtime runtime;
    fr_cli_prompt prompt;
    int32_t *prompt_tokens; /* to prefill: the prompt's, without bos where a session goes on */
    size_t prompt_count;
    size_t resumed; /* tokens of the session file that was loaded */
    fr_cli_progress progress;
    fr_session *session;
    fr_text_stream *stream; /* NULL for a model without a tokenizer */

    int32_t *tokens;                      /* generated, with the one that ended the text */
    size_t count, room, after_first_step; /* after_first_step: tokens when the first step had ended */
    char *text;                           /* with --json only; otherwise text goes to stdout as it comes */
    size_t text_length, text_room;
    const char *finish_reason; /* NULL while running */
    fr_error error;            /* that ended it after some tokens */

    double ttft_s, prefill_s, decode_s; /* decode_s: in steps after the first, which costs no pass */
} generation;

/* ---- Text -------------------------------------------------------------------------------------------------- */

static void emit(generation *run, const char *text, size_t length) {
    if (!run->options->json) {
        fwrite(text, 1, length, stdout);
        return;
    }
    if (run->text_length + length > run->text_room) {
        run->text_room = 2 * (run->text_length + length) + 256;
        run->text = fr_cli_grow(run->text, run->text_room, 1);
    }
    if (length) memcpy(run->text + run->text_length, text, length);
    run->text_length += length;
}

static void emit_token(generation *run, int32_t token) {
    size_t length = 0;
    if (run->stream) {
        const char *text = fr_text_stream_push(run->stream, token, &length);
        emit(run, text, length);
    } else if (!run->options->json) {
        printf("%s%d", run->count > 1 ? " " : "", (int)token);
    }
}

static void emit_end(generation *run) {
    size_t length = 0;
    const char *text = run->stream ? fr_text_stream_finish(run->stream, &length) : "";
    emit(run, text, length);
    if (run->options->json) return;
    putchar('\n');
    fflush(stdout);
}

/* ---- The run ------------------------------------------------------------------------------------------------- */

/* An fr_end_fn: adds a token to the text. The last one of a stop string ends it. */
static bool take(void *user, int32_t token) {
    generation *run = user;
    if (run->count == run->room) {
        run->room = 2 * run->count + 64;
        run->tokens = fr_cli_grow(run->tokens, run->room, sizeof *run->tokens);
    }
    run->tokens[run->count++] = token;
    if (run->options->ignore_eos || !fr_token_ends_text(run->runtime.model, token)) emit_token(run, token);
    return run->stream && fr_text_stream_stopped(run->stream);
}

static const char *reason_to_end(const generation *run) {
    if (run->finish_reason) return run->finish_reason;
    if (run->count >= (size_t)run->options->max_tokens) return "length";
    if (fr_session_length(run->session) >= (size_t)fr_session_ctx(run->session)) return "context";
    return fr_cli_any_interrupted() ? "interrupted" : NULL;
}

/* Prefills and steps until there is a reason to end. Returns 0, or an exit code after printing why. */
static int generate(generation *run) {
    fr_error error = {0};
    double start = fr_cli_seconds(), before = start, now = start;
    fr_status status = FR_OK; /* a session that was loaded needs no prompt */
    if (run->prompt_count > 0 || run->resumed == 0)
        status = fr_session_prefill(run->session, run->prompt_tokens, run->prompt_count, &error);
    run->prefill_s = fr_cli_seconds() - start;
    run->ttft_s = NAN;
    fr_cli_progress_clear(&run->progress);
    while (status == FR_OK && !(run->finish_reason = reason_to_end(run))) {
        size_t left = (size_t)run->options->max_tokens - run->count;
        size_t fits = (size_t)fr_session_ctx(run->session) - fr_session_length(run->session);
        bool first = run->count == 0;
        fr_step step;
        before = fr_cli_seconds();
        status = fr_session_step(run->session, (int)(left < fits ? left : fits), &step, &error);
        if (status != FR_OK) break;
        now = fr_cli_seconds();
        if (step.ended) run->finish_reason = "stop";
        if (first) {
            run->ttft_s = now - start;
            run->after_first_step = run->count;
        } else {
            run->decode_s += now - before;
        }
        if (!run->options->json && fr_cli_share(fflush(stdout)) != 0) return fr_cli_share(fr_cli_flush(FR_EXIT_DONE));
    }
    if (status == FR_INTERRUPTED)
        run->finish_reason = "interrupted";
    else if (status == FR_ERROR_CONTEXT && run->count > 0)
        run->finish_reason = "context";
    else if (status != FR_OK && run->count == 0)
        return fr_cli_failure(&error);
    else if (status != FR_OK)
        run->finish_reason = "error";
    run->error = error;
    return 0;
}

static bool ended_by_error(const generation *run) {
    return strcmp(run->finish_reason, "error") == 0;
}

/* ---- Session files --------------------------------------------------------------------------------------------- */

static bool resumes(const fr_cli_options *options) {
    return options->session && fr_cli_share(access(options->session, F_OK)) == 0;
}

static int load_session(generation *run) {
    fr_error error = {0};
    if (fr_session_load(run->session, run->options->session, &error) != FR_OK) return fr_cli_failure(&error);
    run->resumed = fr_session_length(run->session);
    bool bos = run->prompt_count > 0 && run->prompt_tokens[0] == run->runtime.info.bos_token_id;
    if (run->resumed > 0 && run->prompt.is_text && bos) { /* the text began in the session */
        run->prompt_tokens++;
        run->prompt_count--;
    }
    return 0;
}

static int save_session(generation *run) {
    fr_error error = {0};
    return fr_session_save(run->session, run->options->session, &error) == FR_OK ? 0 : fr_cli_failure(&error);
}

/* Whether the session is worth saving. Weights that could not be read have left it as it was; of values that are not finite some
 * may be in its caches. */
static bool is_sound(const generation *run) {
    return !ended_by_error(run) || run->error.status == FR_ERROR_IO;
}

static int open_session(generation *run) {
    const fr_cli_options *options = run->options;
    fr_error error = {0};
    fr_session_options wanted = fr_cli_session_options(options, &run->progress);
    wanted.ends = take;
    wanted.ends_user = run;
    if (fr_session_create(run->runtime.model, &wanted, &run->session, &error) != FR_OK) {
        run->session = NULL;
        return fr_cli_failure(&error);
    }
    run->prompt_tokens = run->prompt.tokens;
    run->prompt_count = run->prompt.count;
    int code = resumes(options) ? load_session(run) : 0;
    if (code) return code;
    if (run->prompt_count > (size_t)fr_session_ctx(run->session) - run->resumed) {
        char after[48] = "";
        if (run->resumed > 0) snprintf(after, sizeof after, " after %zu", run->resumed);
        fr_cli_error(FR_EXIT_FAILED, "prompt: its %zu tokens%s do not fit in a context of %d", run->prompt_count, after,
                     fr_session_ctx(run->session));
        fr_cli_hint("--ctx N makes the context larger, up to the model's %d", run->runtime.info.max_position_embeddings);
        return FR_EXIT_FAILED;
    }
    if (!run->runtime.info.has_tokenizer && options->stop.count > 0)
        return fr_cli_error(FR_EXIT_FAILED, "--stop: the model has no tokenizer, so its tokens have no text");
    if (run->runtime.info.has_tokenizer && fr_cli_text_stream(run->runtime.model, options, &run->stream, &error) != FR_OK) {
        run->stream = NULL;
        return fr_cli_failure(&error);
    }
    return 0;
}

/* ---- Results --------------------------------------------------------------------------------------------------- */

static double decode_rate(const generation *run) {
    size_t tokens = run->count - run->after_first_step;
    return tokens > 0 && run->decode_s > 0 ? (double)tokens / run->decode_s : NAN;
}

/* {"token": bias}; JSON has no infinity, so that is "-inf", as --logit-bias takes it. */
static void add_biases(fr_json_builder *b, cJSON *to, const fr_cli_biases *list) {
    cJSON *object = fr_json_add_object(b, to, "logit_bias");
    for (size_t i = 0; i < list->count; i++) {
        char token[16];
        snprintf(token, sizeof token, "%d", (int)list->biases[i].token);
        if (isinf(list->biases[i].bias))
            fr_json_add_text(b, object, token, "-inf"); /* the other one is refused */
        else
            fr_json_add_number(b, object, token, (double)list->biases[i].bias);
    }
}

static void print_document(const generation *run) {
    const fr_cli_options *options = run->options;
    const fr_model_info *info = &run->runtime.info;
    fr_json_builder builder, *b = &builder;
    cJSON *part;
    fr_stats stats;
    fr_policy_info policy;
    fr_session_get_stats(run->session, &stats);
    fr_session_get_policy(run->session, &policy);
    fr_cli_json_begin(b);
    fr_json_add_ids(b, b->root, "tokens", run->tokens, run->count);
    fr_json_add_ids(b, b->root, "prompt_tokens", run->prompt_tokens, run->prompt_count);
    if (run->stream)
        fr_json_add_bytes(b, b->root, "text", run->text ? run->text : "", run->text_length);
    else
        fr_json_add_null(b, b->root, "text");
    fr_json_add_text(b, b->root, "finish_reason", run->finish_reason);
    if (ended_by_error(run)) {
        part = fr_json_add_object(b, b->root, "error");
        fr_json_add_text(b, part, "message", run->error.message);
        fr_json_add_text(b, part, "where", run->error.where);
        fr_json_add_text(b, part, "hint", run->error.hint);
    }

    part = fr_json_add_object(b, b->root, "timing");
    fr_json_add_number(b, part, "load_s", run->runtime.load_s);
    fr_json_add_number(b, part, "ttft_s", run->ttft_s);
    fr_json_add_number(b, part, "prefill_s", run->prefill_s);
    fr_json_add_number(b, part, "decode_s", run->decode_s);
    fr_json_add_number(b, part, "decode_tokens_per_s", decode_rate(run));
    fr_json_add_ratio(b, part, "prefill_tokens_per_s", (double)stats.prefill_tokens, run->prefill_s);
    fr_study_add_speculation(b, b->root, "speculative_decoding", &stats, &policy, fr_cli_depth(options, info));
    fr_study_add_experts(b, b->root, &stats, info->reader);
    fr_cli_add_memory(b, b->root, info, run->session);
    if (options->session) {
        part = fr_json_add_object(b, b->root, "session");
        fr_json_add_text(b, part, "path", options->session);
        fr_json_add_count(b, part, "loaded_tokens", run->resumed);
        fr_json_add_count(b, part, "tokens", fr_session_length(run->session));
    }

    part = fr_json_add_object(b, b->root, "model");
    fr_json_add_text(b, part, "path", run->runtime.dir);
    fr_json_add_text(b, part, "isa", info->isa);
    fr_json_add_count(b, part, "threads", (uint64_t)info->threads);
    fr_json_add_bool(b, part, "mtp", info->has_mtp);
    part = fr_json_add_object(b, b->root, "options");
    fr_json_add_text(b, part, "mtp", fr_drafting_word(options->mtp));
    fr_json_add_count(b, part, "depth", (uint64_t)fr_cli_depth(options, info));
    fr_json_add_bool(b, part, "learned", !options->no_learned);
    fr_json_add_text(b, part, "mtp_hidden", fr_hidden_state_word(options->mtp_hidden));
    fr_json_add_text(b, part, "mtp_recycle", fr_recycle_word(options->mtp_recycle));
    fr_json_add_text(b, part, "act", fr_act_word(info->act_fp8 ? FR_ACT_FP8 : FR_ACT_NONE));
    fr_json_add_text(b, part, "kv", fr_kv_word(options->kv));
    fr_json_add_count(b, part, "ctx", (uint64_t)fr_session_ctx(run->session));
    fr_json_add_count(b, part, "max_tokens", (uint64_t)options->max_tokens);
    fr_json_add_bool(b, part, "ignore_eos", options->ignore_eos);
    fr_json_add_number(b, part, "temperature", options->temperature);
    fr_json_add_count(b, part, "top_k", (uint64_t)options->top_k);
    fr_json_add_number(b, part, "top_p", options->top_p);
    fr_json_add_number(b, part, "min_p", options->min_p);
    fr_json_add_number(b, part, "repetition_penalty", options->repetition_penalty);
    fr_json_add_number(b, part, "presence_penalty", options->presence_penalty);
    fr_json_add_number(b, part, "frequency_penalty", options->frequency_penalty);
    add_biases(b, part, &options->logit_bias);
    fr_json_add_texts(b, part, "stop", options->stop.texts, options->stop.count);
    fr_json_add_text(b, part, "verify", fr_verify_word(options->verify));
    fr_json_add_count(b, part, "seed", options->seed);
    fr_cli_json_print(b);
}

static void print_summary(const generation *run) {
    char speed[64] = "", drafts[128] = "";
    fr_stats stats;
    fr_session_get_stats(run->session, &stats);
    double rate = decode_rate(run), drafted = (double)stats.num_draft_tokens, accepted = (double)stats.num_accepted_tokens;
    if (isfinite(rate)) snprintf(speed, sizeof speed, ", %.1f tokens/s", rate);
    if (stats.num_drafts > 0)
        snprintf(drafts, sizeof drafts, "; drafted %.0f, accepted %.0f (%.1f %%), %.2f tokens a cycle", drafted, accepted,
                 drafted > 0 ? 100 * accepted / drafted : 0, 1 + accepted / (double)stats.num_drafts);
    if (strcmp(run->finish_reason, "interrupted") == 0) fr_cli_note("interrupted");
    if (strcmp(run->finish_reason, "context") == 0)
        fr_cli_note("the context of %d tokens is full; --ctx N makes it larger", fr_session_ctx(run->session));
    fr_cli_note("%zu %s%s, prefill %zu tokens in %.2f s%s", run->count, run->count == 1 ? "token" : "tokens", speed,
                (size_t)stats.prefill_tokens, run->prefill_s, drafts);
    if (!run->runtime.info.reader) return;
    char experts[256];
    fr_cli_experts_text(&stats, experts, sizeof experts);
    fr_cli_note("experts: %s", experts);
}

int fr_cmd_generate(const fr_cli_options *options) {
    generation run;
    memset(&run, 0, sizeof run);
    run.options = options;
    fr_cli_hold_output();
    bool prompted = options->prompt || options->prompt_file || options->prompt_tokens.ids || !resumes(options);
    int code = prompted ? fr_cli_prompt_check(options, false) : 0;
    if (!code) code = fr_cli_check_writable(options->session);
    if (code) return code;
    fr_cli_progress_init(&run.progress);
    code = fr_cli_runtime_open(&run.runtime, options);
    if (!code && prompted) code = fr_cli_prompt_read(&run.prompt, run.runtime.model, options, false);
    if (!code) code = open_session(&run);
    if (!code) {
        fr_cli_interrupt_defer();
        code = generate(&run);
    }
    if (!code) {
        emit_end(&run);
        if (ended_by_error(&run)) code = fr_cli_failure(&run.error);
        if (options->session && is_sound(&run) && save_session(&run) != 0) code = FR_EXIT_FAILED;
        if (options->json) print_document(&run);
        if (!code && strcmp(run.finish_reason, "interrupted") == 0) code = FR_EXIT_INTERRUPTED;
        code = fr_cli_flush(code);
        print_summary(&run);
    }
    if (run.session) fr_session_keep_learned(run.session, NULL); /* never needed: whether it can be kept is nobody's concern */
    fr_text_stream_destroy(run.stream);
    fr_session_destroy(run.session);
    fr_cli_prompt_free(&run.prompt);
    fr_cli_runtime_close(&run.runtime);
    free(run.tokens);
    free(run.text);
    return code;
}
