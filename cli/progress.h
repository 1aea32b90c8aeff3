/* A progress bar on stderr: only when stderr is a terminal and --quiet was not given; without colour under NO_COLOR. */
#ifndef FR_CLI_PROGRESS_H
#define FR_CLI_PROGRESS_H

#include "forerun.h"

typedef struct fr_cli_progress {
    bool enabled, colour, drawn;
    double last_drawn_s; /* it is drawn ten times a second at most */
    double start_s;      /* the time left is estimated from here: the bar's start, or when it last went back */
    uint64_t start_done, last_done, last_total;
} fr_cli_progress;

void fr_cli_progress_init(fr_cli_progress *progress);
/* An fr_progress_fn whose user is the fr_cli_progress: draws the bar, and returns false after a SIGINT. */
bool fr_cli_progress_update(void *user, const char *what, uint64_t done, uint64_t total);
/* Wipes the bar off its line. */
void fr_cli_progress_clear(fr_cli_progress *progress);

#endif
