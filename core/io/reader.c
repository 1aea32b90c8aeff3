#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/io/private.h"
#include "core/memory.h"
#include "core/wait.h"

#define PAGE ((uint64_t)FR_READ_PAGE)

/* ---- Asking ---- */

void fr_reader_submit(fr_reader *r, fr_read *read, bool urgent) {
    pthread_mutex_lock(&r->lock);
    atomic_store_explicit(&read->state, FR_READ_ASKED, memory_order_relaxed);
    read->error = 0;
    read->failed_at = UINT64_MAX;
    read->issued = 0;
    read->in_flight = 0;
    read->canceled = false;
    read->urgent = urgent;
    fr_reader_enlist(r, read);
    pthread_mutex_unlock(&r->lock);
    r->type->wake(r->state);
}

void fr_reader_hurry(fr_reader *r, fr_read *read) {
    pthread_mutex_lock(&r->lock);
    bool stopped = read->canceled && read->in_flight > 0, slow = read->listed && !read->urgent;
    if (slow) fr_reader_unlist(r, read);
    if (slow || stopped) {
        read->canceled = false;
        read->urgent = true;
        fr_reader_enlist(r, read);
    }
    pthread_mutex_unlock(&r->lock);
    if (stopped) r->type->wake(r->state);
}

void fr_reader_cancel(fr_reader *r, fr_read *read) {
    pthread_mutex_lock(&r->lock);
    if (read->listed) {
        fr_reader_unlist(r, read);
        read->canceled = true;
        if (read->in_flight == 0) fr_reader_end(r, read, FR_READ_IDLE);
    }
    pthread_mutex_unlock(&r->lock);
    fr_wake(&r->events, &r->asleep);
}

unsigned fr_reader_events(const fr_reader *r) {
    return atomic_load(&r->events);
}

double fr_reader_wait(fr_reader *r, unsigned events) {
    double start = fr_now();
    fr_sleep_while(&r->events, events, &r->asleep);
    return fr_now() - start;
}

void fr_reader_tell(fr_reader *r) {
    atomic_fetch_add(&r->events, 1);
    fr_wake(&r->events, &r->asleep);
}

void fr_reader_count(fr_reader *r, uint64_t *bytes, double *busy_s) {
    pthread_mutex_lock(&r->lock);
    *bytes = r->bytes;
    *busy_s = r->busy_s + (r->in_flight > 0 ? fr_now() - r->busy_since : 0.0);
    pthread_mutex_unlock(&r->lock);
}

fr_status fr_reader_fail(const fr_reader *r, const fr_read *read, const char *what, fr_error *error) {
    fr_place place = fr_place_of("%s%s%s", r->files[read->file].path, *what ? ": " : "", what);
    if (read->error)
        return fr_fail_at(error, FR_ERROR_IO, place.text, "cannot be read at offset %" PRIu64 ": %s", read->failed_at,
                          strerror(read->error));
    return fr_fail_at(error, FR_ERROR_IO, place.text,
                      "ends at or before offset %" PRIu64 ", before its data: it was changed meanwhile", read->failed_at);
}

/* ---- Opening ---- */

/* Whether the file can be read past the page cache: a first page says so where opening does not. */
static bool reads_directly(int fd) {
    void *page = fr_alloc(2 * PAGE);
    char *at = page ? (char *)page + (PAGE - (uintptr_t)page % PAGE) % PAGE : NULL;
    bool direct = at && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) == 0 && pread(fd, at, PAGE, 0) > 0;
    fr_free(page);
    return direct;
}

static fr_status open_file(fr_reader *r, int i, const char *path, fr_error *error) {
    r->files[i].fd = -1;
    if (!path) return FR_OK;
    r->files[i].path = fr_strdup(path);
    if (!r->files[i].path) return fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory to read it");
    r->files[i].fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->files[i].fd < 0) return fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(errno));
    r->direct = r->direct && reads_directly(r->files[i].fd);
    return FR_OK;
}

static void read_through_cache(fr_reader *r) {
    for (int i = 0; i < r->num_files; i++)
        if (r->files[i].fd >= 0) fcntl(r->files[i].fd, F_SETFL, fcntl(r->files[i].fd, F_GETFL) & ~O_DIRECT);
}

static fr_status start(fr_reader *r, const fr_reader_options *o, fr_error *error) {
    const fr_reader_type *types[] = {&fr_reader_uring, &fr_reader_threads};
    for (int i = o->kind == FR_READER_THREADS; i < (o->kind == FR_READER_URING ? 1 : 2) && !r->state; i++) {
        r->type = types[i];
        r->state = r->type->start ? r->type->start(r) : NULL;
    }
    if (!r->state && o->kind == FR_READER_URING)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "reader: io_uring is not in this build, or not allowed here");
    if (!r->state) return fr_fail(error, FR_ERROR_MEMORY, "reader: no threads can be started");
    if (o->kind == FR_READER_BEST && r->type == &fr_reader_threads)
        fr_notices_add(o->notices, "io_uring", "not in this build, or not allowed here: files are read by threads instead");
    snprintf(r->text, sizeof r->text, "%s, %s", r->type->name, r->direct ? "O_DIRECT" : "page cache");
    return FR_OK;
}

static fr_status open_all(fr_reader *r, const char *const *paths, const fr_reader_options *o, fr_error *error) {
    for (int i = 0; i < r->num_files; i++) r->files[i].fd = -1;
    for (int i = 0; i < r->num_files; i++) FR_TRY(open_file(r, i, paths[i], error));
    if (!r->direct) {
        read_through_cache(r);
        if (!o->cached)
            fr_notices_add(o->notices, "O_DIRECT",
                           "the file system of the checkpoint does not have it: files are read through the "
                           "page cache, which keeps what was read a second time");
    }
    return start(r, o, error);
}

fr_status fr_reader_create(const char *const *paths, int files, const fr_reader_options *o, fr_reader **out, fr_error *error) {
    fr_reader *r = fr_alloc_zeroed(1, sizeof *r);
    if (!r) return fr_fail(error, FR_ERROR_MEMORY, "reader: out of memory");
    pthread_mutex_init(&r->lock, NULL);
    r->direct = !o->cached;
    r->memory = o->memory;
    r->memory_bytes = o->memory_bytes;
    r->num_files = files;
    r->files = fr_alloc_zeroed((size_t)files, sizeof *r->files);
    fr_status status = r->files ? open_all(r, paths, o, error) : fr_fail(error, FR_ERROR_MEMORY, "reader: out of memory");
    if (status != FR_OK) {
        fr_reader_destroy(r);
        return status;
    }
    *out = r;
    return FR_OK;
}

void fr_reader_destroy(fr_reader *r) {
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->ending = true;
    pthread_mutex_unlock(&r->lock);
    if (r->state) r->type->stop(r->state);
    for (int i = 0; r->files && i < r->num_files; i++) {
        if (r->files[i].fd >= 0) close(r->files[i].fd);
        fr_free((void *)r->files[i].path);
    }
    fr_free(r->files);
    pthread_mutex_destroy(&r->lock);
    fr_free(r);
}

const char *fr_reader_describe(const fr_reader *r) {
    return r->text;
}
