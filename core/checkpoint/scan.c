#include "core/checkpoint/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/checkpoint/private.h"
#include "core/memory.h"
#include "core/threads.h"

#define TURN ((uint64_t)8 << 20) /* what a thread reads before it takes the next: the disk is asked for all of it at once */

/* A tensor, or a part of one. */
typedef struct turn {
    size_t tensor;
    uint64_t at, bytes;
} turn;

typedef struct scan {
    const fr_checkpoint *checkpoint;
    const fr_scan_options *options;
    uint8_t *buffers;     /* [threads, FR_SCAN_BYTES] */
    pthread_mutex_t lock; /* of the next two */
    size_t next;          /* into the order */
    uint64_t at;          /* in that tensor */
    atomic_bool stop;
} scan;

void fr_checkpoint_order(const fr_checkpoint *c, size_t *order) {
    for (size_t i = 0; i < c->count; i++) order[i] = i;
    qsort_r(order, c->count, sizeof *order, fr_checkpoint_by_place, (void *)c);
}

/* The next one for this thread; false when there is none. */
static bool take(scan *s, turn *out) {
    pthread_mutex_lock(&s->lock);
    bool some = s->next < s->options->num_tensors;
    if (some) {
        size_t tensor = s->options->order[s->next];
        uint64_t left = s->checkpoint->tensors[tensor].bytes - s->at;
        *out = (turn){tensor, s->at, left < TURN ? left : TURN};
        s->at += out->bytes;
        if (out->bytes == left) s->next++, s->at = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return some;
}

/* The file that a thread reads from at the moment. */
typedef struct source {
    int fd, file; /* -1: none */
    int error;    /* it could not be opened */
} source;

static void open_source(const fr_checkpoint *c, source *s, int file) {
    char path[4096];
    if (s->file == file) return;
    if (s->fd >= 0) close(s->fd);
    s->file = file;
    s->fd = -1;
    s->error = ENAMETOOLONG;
    if (snprintf(path, sizeof path, "%s/%s", c->dir, c->files[file].name) >= (int)sizeof path) return;
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    s->error = errno;
}

/* Reads all of it. Returns 0, an errno, or -1. */
static int read_all(const source *s, uint8_t *to, size_t count, uint64_t offset) {
    if (s->fd < 0) return s->error;
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(s->fd, to + done, count - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : -1;
        done += (size_t)n;
    }
    return 0;
}

static void read_turn(scan *s, source *from, const turn *t, uint8_t *buffer) {
    const fr_checkpoint *c = s->checkpoint;
    const fr_tensor *tensor = &c->tensors[t->tensor];
    uint64_t offset = (uint64_t)((const char *)tensor->data - (const char *)c->files[tensor->file].map) + t->at;
    open_source(c, from, tensor->file);
    if (from->fd >= 0 && t->bytes > FR_SCAN_BYTES) posix_fadvise(from->fd, (off_t)offset, (off_t)t->bytes, POSIX_FADV_WILLNEED);
    for (uint64_t done = 0; done < t->bytes; done += FR_SCAN_BYTES) {
        fr_scan_piece piece = {.tensor = t->tensor, .at = t->at + done, .data = buffer};
        piece.count = t->bytes - done < FR_SCAN_BYTES ? (size_t)(t->bytes - done) : FR_SCAN_BYTES;
        piece.error = read_all(from, buffer, piece.count, offset + done);
        s->options->look(s->options->user, &piece);
    }
}

/* TEAM. */
static void read_turns(void *argument) {
    scan *s = argument;
    uint8_t *buffer = s->buffers + (size_t)fr_team_rank() * FR_SCAN_BYTES;
    source from = {.fd = -1, .file = -1};
    turn t;
    while (!atomic_load(&s->stop) && take(s, &t)) {
        read_turn(s, &from, &t, buffer);
        if (fr_team_rank() == 0 && !s->options->go_on(s->options->user)) atomic_store(&s->stop, true);
    }
    if (from.fd >= 0) close(from.fd);
}

fr_status fr_checkpoint_scan(const fr_checkpoint *c, const fr_scan_options *o, fr_error *error) {
    scan s = {.checkpoint = c, .options = o, .lock = PTHREAD_MUTEX_INITIALIZER};
    s.buffers = fr_alloc((size_t)o->threads * FR_SCAN_BYTES);
    if (!s.buffers) return fr_fail_at(error, FR_ERROR_MEMORY, c->dir, "no memory to read it");
    fr_team_run(o->threads, read_turns, &s);
    fr_free(s.buffers);
    return atomic_load(&s.stop) ? fr_fail_at(error, FR_INTERRUPTED, c->dir, "reading it was interrupted") : FR_OK;
}
