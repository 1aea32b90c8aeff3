#include "cli/line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/message.h"
#include "cli/ranks.h"

#ifdef FR_LIBEDIT
#include <histedit.h>
#include <locale.h>
#include <wchar.h>

enum { REMEMBERED = 200 }; /* lines, in memory only */

struct fr_cli_editor {
    EditLine *edit;
    History *history;
    const char *prompt;
};

static char *prompt_of(EditLine *edit) {
    struct fr_cli_editor *editor;
    el_get(edit, EL_CLIENTDATA, &editor);
    return (char *)(uintptr_t)editor->prompt; /* not written to */
}

/* The next character, as libedit's own function but for a signal, which must end the line. */
static int next_character(EditLine *edit, wchar_t *out) {
    mbstate_t state;
    (void)edit;
    memset(&state, 0, sizeof state);
    for (;;) {
        char byte;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        if (got < 0 && errno == EINTR && !fr_cli_interrupted()) continue; /* another signal, as of a new window size */
        if (got <= 0) return (int)got;
        size_t length = mbrtowc(out, &byte, 1, &state);
        if (length == (size_t)-2) continue; /* more to come */
        if (length != (size_t)-1) return 1;
        memset(&state, 0, sizeof state); /* broken UTF-8: passed over */
    }
}

static struct fr_cli_editor *create_editor(void) {
    if (!isatty(STDOUT_FILENO)) return NULL;
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8"); /* text is UTF-8 whatever the locale says */
    struct fr_cli_editor *editor = fr_cli_alloc(1, sizeof *editor);
    *editor = (struct fr_cli_editor){.edit = el_init("forerun", stdin, stdout, stderr), .history = history_init()};
    if (!editor->edit || !editor->history) {
        if (editor->edit) el_end(editor->edit);
        if (editor->history) history_end(editor->history);
        free(editor);
        return NULL;
    }
    HistEvent event;
    history(editor->history, &event, H_SETSIZE, REMEMBERED);
    history(editor->history, &event, H_SETUNIQUE, 1);
    el_set(editor->edit, EL_CLIENTDATA, editor);
    el_set(editor->edit, EL_PROMPT, prompt_of);
    el_set(editor->edit, EL_EDITOR, "emacs");
    el_set(editor->edit, EL_SIGNAL, 0);
    el_set(editor->edit, EL_GETCFN, next_character);
    el_set(editor->edit, EL_HIST, history, editor->history);
    return editor;
}

static void destroy_editor(struct fr_cli_editor *editor) {
    if (!editor) return;
    el_end(editor->edit);
    history_end(editor->history);
    free(editor);
}

/* As getline. */
static ssize_t edit_line(fr_cli_line *line, const char *prompt) {
    int count = 0;
    bool again = fr_cli_interrupted(); /* a second Ctrl-C ends the program, but first the terminal must be as it was */
    fr_cli_interrupt_forget();
    line->editor->prompt = prompt;
    errno = 0;
    const char *text = el_gets(line->editor->edit, &count);
    if (!text || count <= 0) {
        if (again && fr_cli_interrupted()) exit(FR_EXIT_INTERRUPTED);
        if (fr_cli_interrupted()) errno = EINTR;
        return -1;
    }
    if ((size_t)count + 1 > line->room) {
        line->room = 2 * (size_t)count + 64;
        line->text = fr_cli_grow(line->text, line->room, 1);
    }
    memcpy(line->text, text, (size_t)count);
    line->text[count] = 0;
    HistEvent event;
    if (count > 1) history(line->editor->history, &event, H_ENTER, text);
    return count;
}
#else
static struct fr_cli_editor *create_editor(void) {
    return NULL;
}

static void destroy_editor(struct fr_cli_editor *editor) {
    (void)editor;
}

static ssize_t edit_line(fr_cli_line *line, const char *prompt) {
    (void)line, (void)prompt;
    return -1;
}
#endif

void fr_cli_line_init(fr_cli_line *line) {
    memset(line, 0, sizeof *line);
    bool terminal = isatty(STDIN_FILENO);
    line->interactive = fr_cli_share(terminal) != 0;
    if (line->interactive && fr_cli_is_first()) line->editor = create_editor();
}

static fr_cli_line_status no_line(const fr_cli_line *line, int number) {
    if (feof(stdin) || (line->editor && number == 0)) {
        if (line->interactive) putchar('\n');
        return FR_LINE_END;
    }
    clearerr(stdin);
    if (number == EINTR && fr_cli_interrupted()) {
        if (line->interactive) putchar('\n');
        return FR_LINE_INTERRUPTED;
    }
    fr_cli_error(FR_EXIT_FAILED, "standard input: cannot read: %s", strerror(number));
    return FR_LINE_FAILED;
}

static fr_cli_line_status read_line(fr_cli_line *line, const char *prompt) {
    ssize_t got;
    if (line->interactive && !line->editor && isatty(STDOUT_FILENO)) fputs(prompt, stdout);
    fflush(stdout);
    fr_cli_interrupt_break_reads(true);
    got = line->editor ? edit_line(line, prompt) : getline(&line->text, &line->room, stdin);
    int number = errno;
    fr_cli_interrupt_break_reads(false);
    if (got < 0) return no_line(line, number);
    fr_cli_interrupt_forget();
    line->length = (size_t)got;
    if (line->length > 0 && line->text[line->length - 1] == '\n') line->length--;
    if (line->length > 0 && line->text[line->length - 1] == '\r') line->length--;
    line->text[line->length] = 0;
    return FR_LINE_READ;
}

fr_cli_line_status fr_cli_line_read(fr_cli_line *line, const char *prompt) {
    fr_cli_line_status status = fr_cli_is_first() ? read_line(line, prompt) : FR_LINE_FAILED;
    status = (fr_cli_line_status)fr_cli_share((int)status);
    if (status == FR_LINE_READ) fr_cli_share_text(&line->text, &line->length, &line->room);
    return status;
}

void fr_cli_line_free(fr_cli_line *line) {
    destroy_editor(line->editor);
    free(line->text);
    memset(line, 0, sizeof *line);
}
