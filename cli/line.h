/* Lines that the user types, or that come through a pipe. */
#ifndef FR_CLI_LINE_H
#define FR_CLI_LINE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum fr_cli_line_status {
    FR_LINE_READ,
    FR_LINE_END,         /* of the file; Ctrl-D */
    FR_LINE_INTERRUPTED, /* Ctrl-C; the next one ends the program, unless a line is read in between */
    FR_LINE_FAILED,      /* printed */
} fr_cli_line_status;

typedef struct fr_cli_line {
    char *text;    /* the last line without its line end; any bytes, then a NUL */
    size_t length; /* in bytes */
    size_t room;
    bool interactive;             /* stdin is a terminal */
    struct fr_cli_editor *editor; /* NULL: built without one, or not interactive */
} fr_cli_line;

void fr_cli_line_init(fr_cli_line *line);
/* Waits for a line on stdin. The prompt is shown on a terminal only. */
fr_cli_line_status fr_cli_line_read(fr_cli_line *line, const char *prompt);
void fr_cli_line_free(fr_cli_line *line);

#endif
