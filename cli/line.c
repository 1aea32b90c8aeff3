#include "cli/line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/message.h"

void fr_cli_line_init(fr_cli_line *line) {
    memset(line, 0, sizeof *line);
    line->interactive = isatty(STDIN_FILENO);
}

static fr_cli_line_status no_line(const fr_cli_line *line, int number) {
    if (feof(stdin)) {
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

fr_cli_line_status fr_cli_line_read(fr_cli_line *line, const char *prompt) {
    ssize_t got;
    if (line->interactive && isatty(STDOUT_FILENO)) fputs(prompt, stdout);
    fflush(stdout);
    fr_cli_interrupt_break_reads(true);
    got = getline(&line->text, &line->room, stdin);
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

void fr_cli_line_free(fr_cli_line *line) {
    free(line->text);
    memset(line, 0, sizeof *line);
}
