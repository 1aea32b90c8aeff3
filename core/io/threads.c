/* Reading by threads that call pread: for systems, and containers, that do not allow io_uring. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/io/private.h"
#include "core/memory.h"
#include "core/wait.h"

enum { THREADS = 8 };

typedef struct pool {
    fr_reader *reader;
    pthread_cond_t more;
    pthread_t threads[THREADS];
    int count;
} pool;

static void read_piece(fr_reader *r, fr_piece *piece) {
    bool again;
    do {
        ssize_t got = pread(piece->fd, piece->to, (size_t)piece->bytes, (off_t)piece->offset);
        int64_t result = got < 0 ? -(int64_t)errno : (int64_t)got;
        if (!r->direct) posix_fadvise(piece->fd, (off_t)piece->offset, (off_t)piece->bytes, POSIX_FADV_DONTNEED);
        pthread_mutex_lock(&r->lock);
        again = fr_reader_over(r, piece, result);
        pthread_mutex_unlock(&r->lock);
    } while (again);
    fr_wake(&r->events, &r->asleep);
}

static void *work(void *argument) {
    pool *p = argument;
    fr_reader *r = p->reader;
    fr_piece piece;
    pthread_mutex_lock(&r->lock);
    while (!r->ending) {
        if (!fr_reader_next(r, &piece)) {
            pthread_cond_wait(&p->more, &r->lock);
            continue;
        }
        pthread_mutex_unlock(&r->lock);
        read_piece(r, &piece);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void wake(void *state) {
    pool *p = state;
    pthread_mutex_lock(&p->reader->lock);
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->reader->lock);
}

static void stop(void *state) {
    pool *p = state;
    wake(p);
    for (int i = 0; i < p->count; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->more);
    fr_free(p);
}

static void *start(fr_reader *r) {
    pool *p = fr_alloc_zeroed(1, sizeof *p);
    sigset_t all, before;
    if (!p) return NULL;
    p->reader = r;
    pthread_cond_init(&p->more, NULL);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->count < THREADS && pthread_create(&p->threads[p->count], NULL, work, p) == 0) p->count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (p->count > 0) return p;
    stop(p);
    return NULL;
}

const fr_reader_type fr_reader_threads = {"pread by threads", start, wake, stop};
