#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/message.h"

#define BAR_CELLS 20
#define WHAT_WIDTH 24
#define REDRAW_S 0.1

void fr_cli_progress_init(fr_cli_progress *progress) {
    memset(progress, 0, sizeof *progress);
    progress->enabled = !fr_cli_quiet() && isatty(STDERR_FILENO);
    progress->colour = fr_cli_colour(stderr);
}

/* "12:34 left", or nothing while too little was done for an estimate. */
static void time_left(fr_cli_progress *p, double now, uint64_t done, uint64_t total, char *text, size_t size) {
    if (!p->drawn || done < p->last_done || total != p->last_total) {
        p->start_s = now;
        p->start_done = done;
    }
    p->last_done = done;
    p->last_total = total;
    double seconds = now - p->start_s;
    text[0] = 0;
    if (seconds < 1.0 || done <= p->start_done || done >= total) return;
    double left = seconds * (double)(total - done) / (double)(done - p->start_done);
    if (left >= 360000.0) return;
    int whole = (int)(left + 0.5);
    if (whole >= 3600)
        snprintf(text, size, "%d:%02d:%02d left", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(text, size, "%d:%02d left", whole / 60, whole % 60);
}

bool fr_cli_progress_update(void *user, const char *what, uint64_t done, uint64_t total) {
    fr_cli_progress *progress = user;
    if (progress->enabled && total > 0) {
        double now = fr_cli_seconds();
        if (!progress->drawn || now - progress->last_drawn_s >= REDRAW_S || done >= total) {
            double part = done >= total ? 1.0 : (double)done / (double)total;
            int cells = (int)(part * BAR_CELLS);
            char bar[BAR_CELLS + 1], left[24];
            memset(bar, '#', (size_t)cells);
            memset(bar + cells, '.', (size_t)(BAR_CELLS - cells));
            bar[BAR_CELLS] = 0;
            time_left(progress, now, done, total, left, sizeof left);
            fprintf(stderr, "\r%-*.*s %s%s%s %3.0f %% %" PRIu64 "/%" PRIu64 " %-13s", WHAT_WIDTH, WHAT_WIDTH, what ? what : "",
                    progress->colour ? "\033[36m" : "", bar, progress->colour ? "\033[0m" : "", 100.0 * part, done, total, left);
            fflush(stderr);
            progress->drawn = true;
            progress->last_drawn_s = now;
        }
    }
    return !fr_cli_interrupted();
}

void fr_cli_progress_clear(fr_cli_progress *progress) {
    if (!progress->drawn) return;
    fprintf(stderr, "\r%*s\r", WHAT_WIDTH + BAR_CELLS + 50, "");
    fflush(stderr);
    progress->drawn = false;
}
