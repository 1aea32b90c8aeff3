/* Reading by io_uring: one thread submits pieces and takes what has come back. */
#include "core/io/private.h"

#ifndef FR_URING
const fr_reader_type fr_reader_uring = {.name = "io_uring"};
#else

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/wait.h"

/* The kernel takes buffers of up to a GiB. */
#define BUFFER ((uint64_t)1 << 30)
enum { MOST_BUFFERS = 16384 }; /* that it takes at once */

typedef struct ring {
    fr_reader *reader;
    struct io_uring uring;
    int bell;        /* an eventfd that wake writes to */
    uint64_t rung;   /* what was read from it */
    bool registered; /* the kernel knows the reader's memory */
    pthread_t thread;
    fr_piece pieces[FR_READ_DEPTH];
    int free[FR_READ_DEPTH], num_free; /* pieces that are not in flight */
} ring;

/* There is always a free entry: the ring is larger than the pieces and the bell together. */
static void listen_to_bell(ring *g) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&g->uring);
    io_uring_prep_read(sqe, g->bell, &g->rung, sizeof g->rung, 0);
    io_uring_sqe_set_data64(sqe, FR_READ_DEPTH);
}

static void submit_piece(ring *g, int i) {
    const fr_piece *p = &g->pieces[i];
    const fr_reader *r = g->reader;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&g->uring);
    uint64_t at = (uint64_t)(p->to - r->memory), end = at + p->bytes - 1;
    if (g->registered && p->to >= r->memory && end < r->memory_bytes && at / BUFFER == end / BUFFER)
        io_uring_prep_read_fixed(sqe, p->fd, p->to, (unsigned)p->bytes, p->offset, (int)(at / BUFFER));
    else
        io_uring_prep_read(sqe, p->fd, p->to, (unsigned)p->bytes, p->offset);
    io_uring_sqe_set_data64(sqe, (uint64_t)i);
}

/* With the lock: puts as many pieces into flight as there may be. */
static void submit_pieces(ring *g) {
    fr_reader *r = g->reader;
    while (!r->ending && g->num_free > 0 && fr_reader_next(r, &g->pieces[g->free[g->num_free - 1]]))
        submit_piece(g, g->free[--g->num_free]);
}

/* With the lock: takes what has come back. */
static void collect(ring *g) {
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&g->uring, &cqe) == 0) {
        int i = (int)io_uring_cqe_get_data64(cqe), result = cqe->res;
        io_uring_cqe_seen(&g->uring, cqe);
        if (i == FR_READ_DEPTH) {
            listen_to_bell(g);
            continue;
        }
        fr_piece *p = &g->pieces[i];
        if (!g->reader->direct) posix_fadvise(p->fd, (off_t)p->offset, (off_t)p->bytes, POSIX_FADV_DONTNEED);
        if (fr_reader_over(g->reader, p, result))
            submit_piece(g, i);
        else
            g->free[g->num_free++] = i;
    }
}

static void *work(void *argument) {
    ring *g = argument;
    fr_reader *r = g->reader;
    listen_to_bell(g);
    for (bool over = false; !over;) {
        pthread_mutex_lock(&r->lock);
        collect(g);
        submit_pieces(g);
        over = r->ending && g->num_free == FR_READ_DEPTH;
        pthread_mutex_unlock(&r->lock);
        fr_wake(&r->events, &r->asleep);
        if (!over) io_uring_submit_and_wait(&g->uring, 1);
    }
    return NULL;
}

static void wake(void *state) {
    const ring *g = state;
    const uint64_t one = 1;
    while (write(g->bell, &one, sizeof one) < 0 && errno == EINTR) continue;
}

static void release(ring *g) {
    if (g->bell >= 0) close(g->bell);
    fr_free(g);
}

static void stop(void *state) {
    ring *g = state;
    wake(g);
    pthread_join(g->thread, NULL);
    io_uring_queue_exit(&g->uring);
    release(g);
}

/* Saves the kernel from looking up pages at each read. It may refuse (RLIMIT_MEMLOCK), which costs little. */
static bool register_memory(ring *g) {
    const fr_reader *r = g->reader;
    size_t count = (size_t)((r->memory_bytes + BUFFER - 1) / BUFFER);
    if (!r->memory || count == 0 || count > MOST_BUFFERS) return false;
    struct iovec *parts = fr_alloc(count * sizeof *parts);
    if (!parts) return false;
    for (size_t i = 0; i < count; i++) {
        uint64_t at = i * BUFFER, left = r->memory_bytes - at;
        parts[i] = (struct iovec){r->memory + at, (size_t)(left < BUFFER ? left : BUFFER)};
    }
    bool done = io_uring_register_buffers(&g->uring, parts, (unsigned)count) == 0;
    fr_free(parts);
    return done;
}

static void *start(fr_reader *r) {
    sigset_t all, before;
    ring *g = fr_alloc_zeroed(1, sizeof *g);
    if (!g) return NULL;
    g->reader = r;
    g->bell = eventfd(0, EFD_CLOEXEC);
    for (g->num_free = 0; g->num_free < FR_READ_DEPTH; g->num_free++) g->free[g->num_free] = g->num_free;
    if (g->bell < 0 || io_uring_queue_init(2 * FR_READ_DEPTH, &g->uring, 0) != 0) {
        release(g);
        return NULL;
    }
    g->registered = register_memory(g);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&g->thread, NULL, work, g) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) return g;
    io_uring_queue_exit(&g->uring);
    release(g);
    return NULL;
}

const fr_reader_type fr_reader_uring = {"io_uring", start, wake, stop};

#endif
