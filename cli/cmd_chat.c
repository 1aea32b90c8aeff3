/* A conversation. What has been said is a list of tokens, and the session's KV caches hold them from turn to turn: a
 * turn adds the template's tokens around what the user typed, nothing that was said before is rendered or evaluated
 * again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/line.h"
#include "cli/output.h"
#include "cli/ranks.h"

typedef struct chat {
    const fr_cli_options *options;
    fr_cli_runtime runtime;
    fr_cli_progress progress;
    fr_cli_line line;
    bool interrupted; /* the last reply */
    fr_session *session;
    fr_text_stream *stream; /* of the reply that is being made */
    bool templated;         /* otherwise the model just continues the text */
    int32_t end_token;      /* ends a reply in the template; -1: nothing does */
    bool opens;             /* the template opens the reasoning of a reply */
    bool thinking;          /* a reply's reasoning is being printed */
    int32_t think_end;      /* ends it; -1: no token does */
    bool ended;             /* by /quit */

    /* The conversation. Between turns the session holds exactly these tokens; after a message that could not be read, maybe only
     * their beginning. */
    int32_t *tokens;
    size_t count, room;

    struct {
        size_t read, reused, made, timed; /* timed: after the first step, which costs no pass */
        double read_s, timed_s;
    } last; /* turn */
} chat;

static void add_tokens(chat *c, const int32_t *tokens, size_t count) {
    if (c->count + count > c->room) {
        c->room = 2 * (c->count + count) + 256;
        c->tokens = fr_cli_grow(c->tokens, c->room, sizeof *c->tokens);
    }
    if (count) memcpy(c->tokens + c->count, tokens, count * sizeof *tokens);
    c->count += count;
}

/* Truncates the session to the conversation: drops a message that was interrupted, or the token that ended a reply without a
 * template. */
static void settle(chat *c) {
    fr_error error;
    const int32_t *held = fr_session_tokens(c->session);
    size_t length = fr_session_length(c->session), same = 0;
    while (same < length && same < c->count && held[same] == c->tokens[same]) same++;
    if (length > same) fr_session_truncate(c->session, same, &error);
}

/* ---- A turn ------------------------------------------------------------------------------------------------ */

/* The tokens of turns in the chat format, released with fr_free. Those that begin a conversation come first in an empty one. */
static fr_status turn_tokens(const chat *c, const fr_chat_turn *turns, size_t count, fr_chat_options options, int32_t **tokens,
                             size_t *num_tokens, fr_error *error) {
    options.goes_on = c->count > 0;
    return fr_tokenize_chat(c->runtime.model, turns, count, &options, tokens, num_tokens, error);
}

static fr_status add_turns(chat *c, const fr_chat_turn *turns, size_t count, bool reply, fr_error *error) {
    int32_t *tokens = NULL;
    size_t num_tokens = 0;
    fr_chat_options options = fr_cli_chat_options(c->options);
    options.reply = reply;
    fr_status status = turn_tokens(c, turns, count, options, &tokens, &num_tokens, error);
    if (status == FR_OK) add_tokens(c, tokens, num_tokens);
    fr_free(tokens);
    return status;
}

/* ---- Earlier replies ---- */

/* Where the conversation's last reply is, with what opens it in the template. */
typedef struct last_reply {
    size_t at, opening; /* tokens; at SIZE_MAX: there is none */
    bool thinks;        /* the template has opened its reasoning */
} last_reply;

/* Whether tokens of the template open a reply's reasoning. */
static bool opens_thinking(const chat *c, const int32_t *tokens, size_t count) {
    char *text;
    size_t length;
    if (fr_detokenize(c->runtime.model, tokens, count, true, &text, &length, NULL) != FR_OK) return false;
    bool opens = strstr(text, "<think>") && !strstr(text, "</think>");
    fr_free(text);
    return opens;
}

/* Where the last occurrence of some tokens in the conversation begins; SIZE_MAX: there is none. */
static size_t find_last(const chat *c, const int32_t *tokens, size_t count) {
    if (count == 0 || count > c->count) return SIZE_MAX;
    for (size_t at = c->count - count + 1; at-- > 0;)
        if (memcmp(c->tokens + at, tokens, count * sizeof *tokens) == 0) return at;
    return SIZE_MAX;
}

/* A conversation is tokens, and may come from a file: a reply is found by what opens one, with thinking or without. */
static last_reply find_reply(const chat *c) {
    static const fr_think modes[] = {FR_THINK_AUTO, FR_THINK_OFF, FR_THINK_ON};
    last_reply best = {.at = SIZE_MAX};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        int32_t *tokens;
        size_t count;
        if (turn_tokens(c, NULL, 0, (fr_chat_options){.reply = true, .think = modes[i]}, &tokens, &count, NULL) != FR_OK)
            continue;
        size_t at = find_last(c, tokens, count);
        if (at != SIZE_MAX && (best.at == SIZE_MAX || at > best.at || (at == best.at && count > best.opening)))
            best = (last_reply){at, count, opens_thinking(c, tokens, count)};
        fr_free(tokens);
    }
    return best;
}

/* Takes the reasoning out of the last reply, where the template does so with earlier turns. */
static fr_status drop_reasoning(chat *c, fr_error *error) {
    if (!c->templated || !c->runtime.info.chat_drops_reasoning || c->count == 0) return FR_OK;
    last_reply reply = find_reply(c);
    if (reply.at == SIZE_MAX) return FR_OK;
    size_t begin = reply.at + reply.opening, end = c->count, length;
    char *text = NULL;
    while (end > begin && fr_token_ends_text(c->runtime.model, c->tokens[end - 1])) end--;
    fr_status status = fr_detokenize(c->runtime.model, c->tokens + begin, end - begin, true, &text, &length, error);
    if (status != FR_OK) return status;
    bool closed = strstr(text, "</think>"), opened = reply.thinks || strncmp(text, "<think>", 7) == 0;
    if (closed || opened) {
        const fr_chat_turn answer = {FR_CHAT_ASSISTANT, closed ? text : ""}; /* broken off while it reasoned: no answer */
        c->count = reply.at;
        status = add_turns(c, &answer, 1, false, error);
    }
    fr_free(text);
    return status;
}

/* Adds the user's message, up to where the model is to answer. */
static fr_status add_message(chat *c, const char *message, fr_error *error) {
    const fr_chat_turn turns[] = {{FR_CHAT_SYSTEM, c->options->system}, {FR_CHAT_USER, message}};
    if (c->templated) {
        bool first = c->count == 0, open = !first && c->end_token >= 0 && c->tokens[c->count - 1] != c->end_token;
        if (open) add_tokens(c, &c->end_token, 1); /* a reply that was broken off */
        bool system = first && c->options->system;
        return add_turns(c, turns + !system, 1 + system, true, error);
    }
    int32_t *tokens = NULL;
    size_t count = 0;
    fr_status status = fr_tokenize(c->runtime.model, message, strlen(message), c->count == 0, &tokens, &count, error);
    if (status == FR_OK) add_tokens(c, tokens, count);
    fr_free(tokens);
    return status;
}

/* Reasoning is shown between its tags, which the template has or the stream leaves out; dim on a terminal. */
static void begin_thinking(chat *c) {
    c->thinking = true;
    fputs(fr_cli_colour(stdout) ? "\033[2m<think>" : "<think>", stdout);
}

static void end_thinking(chat *c, bool tag) {
    c->thinking = false;
    if (tag) fputs("</think>", stdout);
    if (fr_cli_colour(stdout)) fputs("\033[0m", stdout);
}

/* An fr_end_fn: adds a token and prints its text. The last one of a stop string ends the reply. */
static bool take(void *user, int32_t token) {
    chat *c = user;
    size_t length;
    if (!c->options->ignore_eos && fr_token_ends_text(c->runtime.model, token)) {
        if (c->templated && token == c->end_token) add_tokens(c, &token, 1);
        return true;
    }
    add_tokens(c, &token, 1);
    c->last.made++;
    const char *text = fr_text_stream_push(c->stream, token, &length);
    fwrite(text, 1, length, stdout);
    if (c->thinking && token == c->think_end) end_thinking(c, fr_token_is_special(c->runtime.model, token));
    return fr_text_stream_stopped(c->stream);
}

static void finish_reply(chat *c) {
    size_t length;
    const char *text = fr_text_stream_finish(c->stream, &length);
    fwrite(text, 1, length, stdout);
    if (c->thinking) end_thinking(c, false);
    putchar('\n');
    fflush(stdout);
}

/* Generates a reply. Prints why it ended, unless it ended by itself. */
static fr_status reply(chat *c, fr_error *error) {
    fr_status status = FR_OK;
    size_t ctx = (size_t)fr_session_ctx(c->session), most = (size_t)c->options->max_tokens;
    bool over = false;
    if (c->opens) begin_thinking(c);
    while (!over && c->last.made < most && c->count < ctx && !(c->interrupted = fr_cli_any_interrupted())) {
        size_t left = most - c->last.made < ctx - c->count ? most - c->last.made : ctx - c->count;
        bool first = c->last.made == 0;
        size_t before = c->last.made;
        double start = fr_cli_seconds();
        fr_step step;
        status = fr_session_step(c->session, (int)left, &step, error);
        if (status != FR_OK) break;
        over = step.ended;
        if (!first) {
            c->last.timed_s += fr_cli_seconds() - start;
            c->last.timed += c->last.made - before;
        }
        if (fr_cli_share(fflush(stdout)) != 0) break;
    }
    finish_reply(c);
    if (status != FR_OK) return status;
    if (over) return FR_OK;
    if (c->interrupted)
        fr_cli_note("interrupted");
    else if (c->count >= ctx)
        fr_cli_note("the context of %zu tokens is full; /reset begins a new conversation, --ctx N makes it larger", ctx);
    else if (c->last.made >= most)
        fr_cli_note("the reply was cut after %zu tokens; -n N makes it longer", most);
    return FR_OK;
}

/* One message and its reply. A message that cannot be evaluated leaves the conversation as it was. */
static int take_turn(chat *c, const char *message) {
    fr_error error = {0};
    double start = fr_cli_seconds();
    memset(&c->last, 0, sizeof c->last);
    fr_status status = drop_reasoning(c, &error);
    size_t before = c->count;
    if (status == FR_OK) status = add_message(c, message, &error);
    if (status == FR_OK) status = fr_session_prefill_from(c->session, c->tokens, c->count, &c->last.reused, &error);
    fr_cli_progress_clear(&c->progress);
    if (status != FR_OK) {
        c->count = before;
        settle(c);
        if (status == FR_INTERRUPTED && c->line.interactive) {
            fr_cli_note("interrupted: the message was not read to its end, and is forgotten");
            return 0;
        }
        int code = fr_cli_failure(&error);
        if (status == FR_ERROR_CONTEXT) fr_cli_hint("/reset begins a new conversation");
        return code;
    }
    c->last.read = c->count - c->last.reused;
    c->last.read_s = fr_cli_seconds() - start;
    status = fr_cli_text_stream(c->runtime.model, c->options, &c->stream, &error);
    if (status == FR_OK) {
        status = reply(c, &error);
        fr_text_stream_destroy(c->stream);
    }
    settle(c);
    if (status != FR_OK) return fr_cli_failure(&error);
    return c->interrupted && !c->line.interactive ? FR_EXIT_INTERRUPTED : fr_cli_share(fr_cli_flush(FR_EXIT_DONE));
}

/* ---- Commands ---------------------------------------------------------------------------------------------- */

static int do_help(chat *c, const char *argument);

static int do_reset(chat *c, const char *argument) {
    (void)argument;
    c->count = 0;
    settle(c);
    memset(&c->last, 0, sizeof c->last);
    fr_cli_note("a new conversation");
    return 0;
}

static int do_stats(chat *c, const char *argument) {
    (void)argument;
    fr_stats stats;
    fr_session_get_stats(c->session, &stats);
    double drafted = (double)stats.num_draft_tokens, accepted = (double)stats.num_accepted_tokens;
    printf("context     %zu of %d tokens\n", c->count, fr_session_ctx(c->session));
    printf("last turn   %zu tokens kept, %zu read in %.2f s; %zu made", c->last.reused, c->last.read, c->last.read_s,
           c->last.made);
    if (c->last.timed > 0 && c->last.timed_s > 0) printf(", %.1f tokens/s", (double)c->last.timed / c->last.timed_s);
    printf("\ndrafts      ");
    if (stats.num_drafts > 0)
        printf("%.0f drafted, %.0f accepted (%.1f %%), %.2f tokens a cycle\n", drafted, accepted,
               drafted > 0 ? 100 * accepted / drafted : 0, 1 + accepted / (double)stats.num_drafts);
    else
        printf("none\n");
    if (c->runtime.info.reader) {
        char experts[256];
        fr_cli_experts_text(&stats, experts, sizeof experts);
        printf("experts     %s\n", experts);
    }
    return 0;
}

static int do_save(chat *c, const char *argument) {
    fr_error error = {0};
    if (fr_session_save(c->session, argument, &error) != FR_OK) return fr_cli_failure(&error);
    fr_cli_note("saved: %s, %zu tokens", argument, c->count);
    return 0;
}

static int do_load(chat *c, const char *argument) {
    fr_error error = {0};
    if (fr_session_load(c->session, argument, &error) != FR_OK) return fr_cli_failure(&error);
    c->count = 0;
    add_tokens(c, fr_session_tokens(c->session), fr_session_length(c->session));
    memset(&c->last, 0, sizeof c->last);
    fr_cli_note("loaded: %s, %zu tokens; the conversation goes on from there", argument, c->count);
    return 0;
}

static int do_quit(chat *c, const char *argument) {
    (void)argument;
    c->ended = true;
    return 0;
}

typedef struct chat_command {
    const char *name, *argument, *help; /* argument: NULL, or what it takes */
    int (*run)(chat *c, const char *argument);
} chat_command;

static const chat_command commands[] = {
    {"/help", NULL, "this text", do_help},
    {"/reset", NULL, "forget the conversation", do_reset},
    {"/stats", NULL, "tokens in the context, speed, acceptance of drafts", do_stats},
    {"/save", "FILE", "write the conversation with its KV cache to a file", do_save},
    {"/load", "FILE", "go on with the conversation of a file", do_load},
    {"/quit", NULL, "end; so does Ctrl-D", do_quit},
};
enum { NUM_COMMANDS = sizeof commands / sizeof commands[0] };

static int do_help(chat *c, const char *argument) {
    (void)c, (void)argument;
    for (int i = 0; i < NUM_COMMANDS; i++)
        printf("  %-6s %-5s %s\n", commands[i].name, commands[i].argument ? commands[i].argument : "", commands[i].help);
    printf("Ctrl-C ends a reply. What begins with a blank is never a command.\n");
    return 0;
}

/* Runs "/name argument"; the line is cut up. */
static int run_command(chat *c, char *line) {
    size_t length = strcspn(line, " \t"), best = SIZE_MAX;
    char *argument = line + length + strspn(line + length, " \t");
    const char *nearest = NULL;
    for (size_t end = strlen(argument); end > 0 && strchr(" \t", argument[end - 1]); end--) argument[end - 1] = 0;
    line[length] = 0;
    for (int i = 0; i < NUM_COMMANDS; i++) {
        const chat_command *command = &commands[i];
        size_t distance = fr_cli_distance(line, command->name);
        if (distance < best) {
            best = distance;
            nearest = command->name;
        }
        if (distance > 0) continue;
        if (command->argument && !*argument) return fr_cli_error(FR_EXIT_USAGE, "%s: its %s is missing", line, command->argument);
        if (!command->argument && *argument) return fr_cli_error(FR_EXIT_USAGE, "%s: takes nothing after it", line);
        return command->run(c, argument);
    }
    fr_cli_error(FR_EXIT_USAGE, "%s: there is no such command", line);
    if (nearest && fr_cli_is_near(line, best))
        fr_cli_hint("did you mean %s?", nearest);
    else
        fr_cli_hint("/help lists them");
    return FR_EXIT_USAGE;
}

/* ---- The conversation -------------------------------------------------------------------------------------- */

/* After an error a terminal session goes on; a script ends. */
static int converse(chat *c) {
    int code = 0;
    while (!c->ended && (!code || c->line.interactive)) {
        switch (fr_cli_line_read(&c->line, "> ")) {
        case FR_LINE_END:
            return c->line.interactive ? 0 : code;
        case FR_LINE_FAILED:
            return FR_EXIT_FAILED;
        case FR_LINE_INTERRUPTED:
            if (!c->line.interactive) return FR_EXIT_INTERRUPTED;
            fr_cli_note("/quit or Ctrl-D ends the conversation, another Ctrl-C the program");
            continue;
        case FR_LINE_READ:
            break;
        }
        if (c->line.length == 0) continue;
        if (strlen(c->line.text) != c->line.length)
            code = fr_cli_error(FR_EXIT_FAILED, "standard input: a line holds a NUL byte");
        else
            code = c->line.text[0] == '/' ? run_command(c, c->line.text) : take_turn(c, c->line.text);
        fr_cli_interrupt_forget();
    }
    return c->line.interactive ? 0 : code;
}

/* Whether there is a chat format, and the token that ends a reply in it. Returns 0 or an exit code, printed. */
static int find_template(chat *c) {
    const fr_model_info *info = &c->runtime.info;
    int32_t *tokens = NULL;
    size_t count;
    fr_error error = {0};
    c->templated = info->chat_format != NULL;
    c->end_token = info->chat_end_token_id;
    if (c->templated || !info->has_tokenizer) { /* errors that would come with the first message */
        fr_chat_options options = fr_cli_chat_options(c->options);
        options.reply = true;
        if (turn_tokens(c, NULL, 0, options, &tokens, &count, &error) != FR_OK) return fr_cli_failure(&error);
        c->opens = opens_thinking(c, tokens, count);
        fr_free(tokens);
        if (fr_tokenize(c->runtime.model, "</think>", 8, true, &tokens, &count, &error) != FR_OK) return fr_cli_failure(&error);
        size_t bos = count > 0 && info->add_bos_token;
        c->think_end = count == 1 + bos ? tokens[bos] : -1;
        fr_free(tokens);
        return 0;
    }
    fr_cli_note("There is no chat template that is known: the model continues what you type, as one text.");
    if (c->options->system) return fr_cli_error(FR_EXIT_FAILED, "--system: there is no chat template to put it into");
    return 0;
}

int fr_cmd_chat(const fr_cli_options *options) {
    chat c;
    fr_error error = {0};
    memset(&c, 0, sizeof c);
    c.options = options;
    fr_cli_hold_output();
    fr_cli_line_init(&c.line);
    fr_cli_progress_init(&c.progress);
    int code = fr_cli_runtime_open(&c.runtime, options);
    if (!code) code = find_template(&c);
    if (!code) {
        fr_session_options wanted = fr_cli_session_options(options, &c.progress);
        wanted.ends = take;
        wanted.ends_user = &c;
        if (fr_session_create(c.runtime.model, &wanted, &c.session, &error) != FR_OK) {
            c.session = NULL;
            code = fr_cli_failure(&error);
        }
    }
    if (!code) {
        fr_cli_interrupt_defer();
        if (c.line.interactive) fr_cli_note("/help lists the commands; Ctrl-C ends a reply, Ctrl-D the conversation");
        code = fr_cli_flush(converse(&c));
    }
    if (c.session) fr_session_keep_learned(c.session, NULL); /* never needed: whether it can be kept is nobody's concern */
    fr_session_destroy(c.session);
    fr_cli_runtime_close(&c.runtime);
    fr_cli_line_free(&c.line);
    free(c.tokens);
    return code;
}
