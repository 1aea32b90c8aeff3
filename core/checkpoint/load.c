/* Loading weights before they are used: copied into pages of our own, or read and mapped. The work is shared in pieces, so that
 * all threads read, whatever the sizes of tensors. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/checkpoint/private.h"
#include "core/memory.h"
#include "core/threads.h"
#include "core/topology.h"

#define PAGE ((uint64_t)4096)
#define HUGE_PAGE ((uint64_t)2 << 20)
#define PIECE ((uint64_t)8 << 20)

_Static_assert(HUGE_PAGE % PAGE == 0 && PAGE % FR_ALIGN == 0, "a copy that begins at a huge page is aligned");

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; an older one refuses it */
#endif

/* A tensor, or a part of a large one. */
typedef struct piece {
    int file;
    uint64_t from, to; /* offsets in the file and in the copy */
    uint64_t bytes;
} piece;

typedef struct loading {
    fr_checkpoint *checkpoint;
    const fr_load_options *options;
    const char *what; /* for progress */
    char *copy;       /* NULL: populate */
    size_t *order;    /* [num_tensors]: the wanted tensors as they lie in the files, which is how they lie in the copy */
    size_t num_tensors;
    piece *pieces;
    size_t num_pieces;
    uint64_t total;
    atomic_size_t next;
    atomic_ullong done;
    atomic_bool stop;
    fr_status status; /* of the first failure, like `error`; written by the thread that set `stop` */
    fr_error error;
} loading;

static uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

static fr_part part_of(const fr_checkpoint *checkpoint, const fr_part *parts, size_t i) {
    return parts ? parts[i] : (fr_part){0, checkpoint->tensors[i].bytes};
}

uint64_t fr_checkpoint_copy_bytes(const fr_checkpoint *checkpoint, const bool *wanted, const fr_part *parts) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < checkpoint->count; i++) {
        fr_part part = part_of(checkpoint, parts, i);
        if (wanted[i]) bytes += round_up(part.end - part.begin, FR_ALIGN);
    }
    return round_up(bytes, HUGE_PAGE);
}

/* ---- The work -------------------------------------------------------------------------------------------------- */

int fr_checkpoint_by_place(const void *a, const void *b, void *user) {
    const fr_checkpoint *c = user;
    const fr_tensor *x = &c->tensors[*(const size_t *)a], *y = &c->tensors[*(const size_t *)b];
    if (x->file != y->file) return x->file - y->file;
    return ((uintptr_t)x->data > (uintptr_t)y->data) - ((uintptr_t)x->data < (uintptr_t)y->data);
}

static fr_status plan_pieces(loading *l, fr_error *error) {
    fr_checkpoint *c = l->checkpoint;
    size_t most = 0;
    uint64_t to = 0;
    for (size_t i = 0; i < c->count; i++)
        if (l->options->wanted[i]) most += (size_t)(c->tensors[i].bytes / PIECE) + 1;
    l->order = fr_alloc(c->count * sizeof *l->order);
    l->pieces = fr_alloc(most * sizeof *l->pieces);
    if (!l->order || !l->pieces) return fr_fail_at(error, FR_ERROR_MEMORY, c->dir, "no memory for a list of %zu", most);
    for (size_t i = 0; i < c->count; i++)
        if (l->options->wanted[i]) l->order[l->num_tensors++] = i;
    qsort_r(l->order, l->num_tensors, sizeof *l->order, fr_checkpoint_by_place, c);
    for (size_t i = 0; i < l->num_tensors; i++) {
        const fr_tensor *t = &c->tensors[l->order[i]];
        const fr_part part = part_of(c, l->options->parts, l->order[i]);
        uint64_t from = (uint64_t)((const char *)t->data - (const char *)c->files[t->file].map) + part.begin;
        uint64_t bytes = part.end - part.begin;
        for (uint64_t at = 0; at < bytes; at += PIECE)
            l->pieces[l->num_pieces++] =
                (piece){.file = t->file, .from = from + at, .to = to + at, .bytes = bytes - at < PIECE ? bytes - at : PIECE};
        l->total += bytes;
        to += round_up(bytes, FR_ALIGN);
    }
    return FR_OK;
}

/* Records the first failure and stops all threads. name: of a file, or "". */
static void give_up(loading *l, fr_status status, const char *name, const char *why) {
    bool before = false;
    if (!atomic_compare_exchange_strong(&l->stop, &before, true)) return;
    l->status = fr_fail_at(&l->error, status, fr_place_of("%s%s%s", l->checkpoint->dir, *name ? "/" : "", name).text, "%s", why);
}

/* The same about what is at an offset of a file. */
static void give_up_at(loading *l, int file, uint64_t offset, const char *why) {
    bool before = false;
    if (!atomic_compare_exchange_strong(&l->stop, &before, true)) return;
    l->status = fr_fail_at(&l->error, FR_ERROR_IO, fr_checkpoint_place(l->checkpoint, file, offset).text,
                           "cannot be read at offset %" PRIu64 ": %s", offset, why);
}

/* ---- Copying --------------------------------------------------------------------------------------------------- */

/* The file that a thread reads from at the moment. */
typedef struct source {
    int fd, file; /* -1: none */
} source;

static bool open_source(loading *l, source *s, int file) {
    char *path = NULL;
    if (s->file == file) return true;
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->file = -1;
    if (asprintf(&path, "%s/%s", l->checkpoint->dir, l->checkpoint->files[file].name) < 0) {
        give_up(l, FR_ERROR_MEMORY, l->checkpoint->files[file].name, "no memory for its path");
        return false;
    }
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        give_up(l, FR_ERROR_IO, l->checkpoint->files[file].name, strerror(errno));
    else
        s->file = file;
    free(path);
    return s->fd >= 0;
}

static bool copy_piece(loading *l, source *s, const piece *p) {
    if (!open_source(l, s, p->file)) return false;
    for (uint64_t done = 0; done < p->bytes;) {
        ssize_t got = pread(s->fd, l->copy + p->to + done, (size_t)(p->bytes - done), (off_t)(p->from + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            give_up_at(l, p->file, p->from + done,
                       got < 0 ? strerror(errno) : "the file ends here: it was cut since it was opened");
            return false;
        }
        done += (uint64_t)got;
    }
    /* The page in which the next piece begins is dropped with that piece. */
    uint64_t begin = p->from / PAGE * PAGE, end = (p->from + p->bytes) / PAGE * PAGE;
    if (!l->options->keep_cache && end > begin) posix_fadvise(s->fd, (off_t)begin, (off_t)(end - begin), POSIX_FADV_DONTNEED);
    return true;
}

/* ---- Populating ------------------------------------------------------------------------------------------------ */

static bool populate_piece(loading *l, const piece *p) {
    const fr_safetensors *file = &l->checkpoint->files[p->file];
    uint64_t begin = p->from / PAGE * PAGE, bytes = p->from + p->bytes - begin;
    char *at = (char *)file->map + begin;
    if (madvise(at, bytes, MADV_POPULATE_READ) == 0) return true;
    if (errno != EINVAL) {
        give_up_at(l, p->file, p->from, errno == EFAULT ? "the file was cut, or the disk failed" : strerror(errno));
        return false;
    }
    for (uint64_t i = 0; i < bytes; i += PAGE) (void)*(volatile const char *)(at + i);
    return true;
}

/* ---- Threads --------------------------------------------------------------------------------------------------- */

/* Reports the progress of all threads; called from the caller's own. */
static void tell(loading *l) {
    const fr_load_options *o = l->options;
    if (o->progress && !o->progress(o->user, l->what, atomic_load(&l->done) >> 20, l->total >> 20))
        give_up(l, FR_INTERRUPTED, "", "interrupted while its weights were read");
}

/* The next piece, until there is none. The caller's own thread also reports progress; TEAM. */
static void load_pieces(void *argument) {
    loading *l = argument;
    source s = {-1, -1};
    for (size_t i; !atomic_load(&l->stop) && (i = atomic_fetch_add(&l->next, 1)) < l->num_pieces;) {
        const piece *p = &l->pieces[i];
        if (!(l->copy ? copy_piece(l, &s, p) : populate_piece(l, p))) break;
        atomic_fetch_add(&l->done, p->bytes);
        if (fr_team_rank() == 0) tell(l);
    }
    if (s.fd >= 0) close(s.fd);
}

static fr_status run(loading *l, fr_error *error) {
    FR_TRY(plan_pieces(l, error));
    fr_team_run(l->options->threads, load_pieces, l);
    /* The caller's thread may have had no piece at all, or not the last one. */
    if (!atomic_load(&l->stop)) tell(l);
    if (!atomic_load(&l->stop)) return FR_OK;
    if (error) *error = l->error;
    return l->status;
}

static void release(loading *l) {
    fr_free(l->order);
    fr_free(l->pieces);
}

/* ---- The two ways ---------------------------------------------------------------------------------------------- */

/* Maps memory that starts at a huge page, spread over the memory nodes. What was mapped before and behind it is unmapped. */
static char *map_huge(uint64_t bytes, const fr_load_options *o) {
    char *map = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return NULL;
    uint64_t before = round_up((uintptr_t)map, HUGE_PAGE) - (uintptr_t)map;
    if (before > 0) munmap(map, before);
    if (before < HUGE_PAGE) munmap(map + before + bytes, HUGE_PAGE - before);
    int nodes = o->topology ? fr_topology_nodes(o->topology) : 1;
    if (nodes > 1 && !fr_topology_interleave(o->topology, map + before, bytes)) nodes = 1;
    if (o->nodes) *o->nodes = nodes;
    madvise(map + before, bytes, MADV_HUGEPAGE); /* a system without them serves small pages */
    return map + before;
}

fr_status fr_checkpoint_copy(fr_checkpoint *checkpoint, const fr_load_options *options, fr_error *error) {
    loading l = {.checkpoint = checkpoint, .options = options, .what = "copying weights (MiB)"};
    uint64_t bytes = fr_checkpoint_copy_bytes(checkpoint, options->wanted, options->parts), to = 0;
    if (bytes == 0) return FR_OK;
    l.copy = map_huge(bytes, options);
    if (!l.copy) {
        fr_fail_at(error, FR_ERROR_MEMORY, checkpoint->dir, "%" PRIu64 " bytes for its weights cannot be allocated", bytes);
        return fr_hint(error, FR_ERROR_MEMORY, "weights that stay mapped (--weights mmap) need no memory of their own");
    }
    fr_status status = run(&l, error);
    if (status != FR_OK) {
        munmap(l.copy, bytes);
        release(&l);
        return status;
    }
    for (size_t i = 0; i < l.num_tensors; i++) {
        fr_tensor *t = &checkpoint->tensors[l.order[i]];
        const fr_part part = part_of(checkpoint, options->parts, l.order[i]);
        if (part.end - part.begin == t->bytes) {
            t->data = l.copy + to;
        } else {
            t->part = l.copy + to;
            t->part_begin = part.begin;
        }
        to += round_up(part.end - part.begin, FR_ALIGN);
    }
    mprotect(l.copy, bytes, PROT_READ);             /* weights never change */
    for (int f = 0; f < checkpoint->num_files; f++) /* pages that were read until now are not needed any more */
        madvise(checkpoint->files[f].map, checkpoint->files[f].size, MADV_DONTNEED);
    checkpoint->copy = l.copy;
    checkpoint->copy_bytes = bytes;
    release(&l);
    return FR_OK;
}

void fr_checkpoint_want_huge_pages(fr_checkpoint *checkpoint) {
    for (int f = 0; f < checkpoint->num_files; f++) /* a hint: it has no effect where files are cached in small pages */
        madvise(checkpoint->files[f].map, checkpoint->files[f].size, MADV_HUGEPAGE);
}

void fr_checkpoint_read_ahead(fr_checkpoint *checkpoint, bool ahead) {
    for (int f = 0; f < checkpoint->num_files; f++)
        madvise(checkpoint->files[f].map, checkpoint->files[f].size, ahead ? MADV_NORMAL : MADV_RANDOM);
}

fr_status fr_checkpoint_populate(fr_checkpoint *checkpoint, const fr_load_options *options, fr_error *error) {
    loading l = {.checkpoint = checkpoint, .options = options, .what = "reading weights (MiB)"};
    fr_status status = run(&l, error);
    release(&l);
    return status;
}
