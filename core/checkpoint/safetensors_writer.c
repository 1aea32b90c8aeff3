#include "core/checkpoint/safetensors_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/staging.h"
#include "core/memory.h"
#include "core/new_file.h"
#include "core/processors.h"
#include "core/threads.h"

#define INDEX_NAME "model.safetensors.index.json"
#define DEFAULT_SHARD_BYTES 4250000000u /* cuts DeepSeek-V3 into 163 files, as it was published */
#define PIECE (1u << 20)                /* of fill: stays in a core's cache until it is written */
#define NO_SHARD SIZE_MAX

_Static_assert((FR_ALIGN & (FR_ALIGN - 1)) == 0 && PIECE % FR_ALIGN == 0, "places are multiples of powers of two");

typedef struct entry {
    char *name;
    fr_dtype dtype;
    int rank;
    int64_t shape[FR_MAX_RANK];
    uint64_t bytes, begin; /* begin: in the shard's data */
    bool beside_last;
} entry;

typedef struct shard {
    size_t first, end; /* its entries */
    uint64_t data_bytes, data_begin;
} shard;

struct fr_writer {
    fr_staging staging;
    fr_writer_options options;
    entry *entries; /* [count] in the order of add, which is the order of shards */
    size_t count, room;
    shard *shards; /* [num_shards]; NULL before start */
    size_t num_shards;
    size_t next; /* the entry that gets its data next */
    size_t open; /* the shard that fd is of; NO_SHARD */
    int fd;
    void **buffers; /* [options.threads] of buffer_bytes, for fill */
    size_t buffer_bytes;
};

static fr_status no_memory(const fr_writer *w, fr_error *error) {
    return fr_fail_at(error, FR_ERROR_MEMORY, w->staging.dir, "no memory to write it");
}

fr_status fr_writer_create(const char *dir, const fr_writer_options *options, fr_writer **out, fr_error *error) {
    fr_writer *w = fr_alloc_zeroed(1, sizeof *w);
    if (!w) return fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory to write it");
    w->options = *options;
    if (!w->options.shard_bytes) w->options.shard_bytes = DEFAULT_SHARD_BYTES;
    if (w->options.threads < 1) w->options.threads = fr_default_threads();
    w->open = NO_SHARD;
    w->fd = -1;
    fr_status status = fr_staging_open(&w->staging, dir, options->force, error);
    if (status != FR_OK) {
        fr_writer_destroy(w);
        return status;
    }
    *out = w;
    return FR_OK;
}

void fr_writer_destroy(fr_writer *w) {
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    fr_staging_close(&w->staging);
    for (size_t i = 0; i < w->count; i++) fr_free(w->entries[i].name);
    for (int i = 0; w->buffers && i < w->options.threads; i++) fr_free(w->buffers[i]);
    fr_free(w->buffers);
    fr_free(w->shards);
    fr_free(w->entries);
    fr_free(w);
}

fr_status fr_writer_file(fr_writer *w, const char *name, const void *data, size_t bytes, fr_error *error) {
    return fr_staging_file(&w->staging, name, data, bytes, error);
}

fr_status fr_writer_copy(fr_writer *w, const char *from_dir, const char *name, fr_error *error) {
    return fr_staging_copy(&w->staging, from_dir, name, error);
}

/* ---- Layout ---- */

fr_status fr_writer_add(fr_writer *w, const char *name, fr_dtype dtype, int rank, const int64_t *shape, bool beside_last,
                        fr_error *error) {
    entry added = {.dtype = dtype, .rank = rank, .beside_last = beside_last && w->count > 0};
    added.bytes = fr_dtype_size(dtype);
    if (rank < 0 || rank > FR_MAX_RANK || !fr_name_is_plain(name))
        return fr_fail_at(error, FR_ERROR_ARGUMENT, w->staging.dir, "a tensor of %d dimensions, or one without a plain name",
                          rank);
    for (int i = 0; i < rank; i++) {
        added.shape[i] = shape[i];
        if (shape[i] < 0 || __builtin_mul_overflow(added.bytes, (uint64_t)shape[i], &added.bytes))
            return fr_fail_at(error, FR_ERROR_ARGUMENT, fr_place_of("tensor %.200s", name).text,
                              "its byte count overflows 64 bits");
    }
    if (w->count == w->room) {
        size_t room = 2 * w->room + 64;
        entry *grown = fr_grow(w->entries, w->count * sizeof *grown, room * sizeof *grown);
        if (!grown) return no_memory(w, error);
        w->entries = grown;
        w->room = room;
    }
    added.name = fr_strdup(name);
    if (!added.name) return no_memory(w, error);
    w->entries[w->count++] = added;
    return FR_OK;
}

/* Splits the entries into shards. An entry and those beside it stay together. */
static void cut_shards(fr_writer *w) {
    w->num_shards = 0;
    for (size_t i = 0, end; i < w->count; i = end) {
        uint64_t bytes = w->entries[i].bytes;
        for (end = i + 1; end < w->count && w->entries[end].beside_last; end++) bytes += w->entries[end].bytes;
        shard *last = w->num_shards ? &w->shards[w->num_shards - 1] : NULL;
        if (!last || last->data_bytes + bytes > w->options.shard_bytes) {
            last = &w->shards[w->num_shards++];
            *last = (shard){.first = i};
        }
        last->end = end;
        last->data_bytes += bytes;
    }
}

/* Places the entries of a shard: first those whose sizes are multiples of 64, then of 32, and so on. So each starts at a multiple
 * of that power of two, and there are no gaps. */
static void place_entries(fr_writer *w, const shard *s) {
    uint64_t at = 0;
    for (uint64_t alignment = FR_ALIGN; alignment; alignment /= 2) {
        for (size_t i = s->first; i < s->end; i++) {
            entry *e = &w->entries[i];
            bool fits = e->bytes % alignment == 0;
            bool fitted = alignment < FR_ALIGN && e->bytes % (2 * alignment) == 0;
            if (!fits || fitted) continue;
            e->begin = at;
            at += e->bytes;
        }
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const entry *const *)a)->name, (*(const entry *const *)b)->name);
}

static fr_status reject_twice(const fr_writer *w, fr_error *error) {
    const entry **order = fr_alloc(w->count * sizeof *order);
    if (!order) return no_memory(w, error);
    for (size_t i = 0; i < w->count; i++) order[i] = &w->entries[i];
    qsort(order, w->count, sizeof *order, by_name);
    fr_status status = FR_OK;
    for (size_t i = 1; i < w->count && status == FR_OK; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            status =
                fr_fail_at(error, FR_ERROR_ARGUMENT, fr_place_of("tensor %.200s", order[i]->name).text, "would be written twice");
    fr_free(order);
    return status;
}

/* Fails now rather than after hours of writing. */
static fr_status look_for_room(const fr_writer *w, fr_error *error) {
    struct statvfs disk;
    uint64_t need = 0;
    for (size_t i = 0; i < w->num_shards; i++) need += w->shards[i].data_bytes;
    if (w->options.sparse || fstatvfs(w->staging.dir_fd, &disk) != 0) return FR_OK;
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need <= room) return FR_OK;
    return fr_hint(error,
                   fr_fail_at(error, FR_ERROR_IO, w->staging.dir,
                              "%" PRIu64 " bytes are needed, and the disk has room for %" PRIu64, need, room),
                   "make room, or write to another disk");
}

fr_status fr_writer_start(fr_writer *w, fr_error *error) {
    if (!w->count) return fr_fail_at(error, FR_ERROR_ARGUMENT, w->staging.dir, "there is no tensor to write");
    FR_TRY(reject_twice(w, error));
    w->shards = fr_alloc_zeroed(w->count, sizeof *w->shards);
    if (!w->shards) return no_memory(w, error);
    cut_shards(w);
    for (size_t i = 0; i < w->num_shards; i++) place_entries(w, &w->shards[i]);
    return look_for_room(w, error);
}

/* ---- Texts ---- */

static void shard_name(const fr_writer *w, size_t shard_index, char *out, size_t size) {
    snprintf(out, size, "model-%05zu-of-%05zu.safetensors", shard_index + 1, w->num_shards);
}

/* Text in memory: an open_memstream. When memory runs out a call says so; ferror and fclose may not. */
typedef struct text {
    FILE *file;
    bool failed;
} text;

static void add(text *t, const char *format, ...) FR_PRINTF(2, 3);
static void add(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    t->failed |= vfprintf(t->file, format, args) < 0;
    va_end(args);
}

/* Prints a name in quotes. Names have no control characters, so that only quotes and backslashes need escaping. */
static void add_name(text *t, const char *name) {
    add(t, "\"");
    while (*name) {
        size_t run = strcspn(name, "\"\\");
        add(t, "%.*s", (int)run, name);
        name += run;
        if (*name) add(t, "\\%c", *name++);
    }
    add(t, "\"");
}

/* Whether the text is whole. */
static bool close_text(text *t) {
    return fclose(t->file) == 0 && !t->failed;
}

static int by_begin(const void *a, const void *b) {
    const entry *x = *(const entry *const *)a, *y = *(const entry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x < y ? -1 : 1;
}

/* The header, entries in the order of the data, with its length before it and blanks behind it; allocated with malloc. */
static bool make_header(const shard *s, const entry *const *order, char **bytes, size_t *length) {
    text t = {.file = open_memstream(bytes, length)};
    if (!t.file) return false;
    add(&t, "%8s{\"__metadata__\":{\"format\":\"pt\"}", "");
    for (size_t i = 0; i < s->end - s->first; i++) {
        const entry *e = order[i];
        add(&t, ",");
        add_name(&t, e->name);
        add(&t, ":{\"dtype\":\"%s\",\"shape\":[", fr_dtype_name(e->dtype));
        for (int d = 0; d < e->rank; d++) add(&t, "%s%" PRId64, d ? "," : "", e->shape[d]);
        add(&t, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", e->begin, e->begin + e->bytes);
    }
    add(&t, "}");
    int beyond = (int)(ftell(t.file) % FR_ALIGN);
    add(&t, "%*s", beyond ? FR_ALIGN - beyond : 0, "");
    if (!close_text(&t)) return false;
    for (int i = 0; i < 8; i++) (*bytes)[i] = (char)((*length - 8) >> (8 * i) & 0xff);
    return true;
}

static bool make_index(const fr_writer *w, char **bytes, size_t *length) {
    uint64_t total = 0;
    char name[64];
    text t = {.file = open_memstream(bytes, length)};
    if (!t.file) return false;
    for (size_t i = 0; i < w->num_shards; i++) total += w->shards[i].data_bytes;
    add(&t, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {", total);
    for (size_t s = 0; s < w->num_shards; s++) {
        shard_name(w, s, name, sizeof name);
        for (size_t i = w->shards[s].first; i < w->shards[s].end; i++) {
            add(&t, "%s\n    ", i ? "," : "");
            add_name(&t, w->entries[i].name);
            add(&t, ": \"%s\"", name);
        }
    }
    add(&t, "\n  }\n}\n");
    return close_text(&t);
}

/* ---- Shards ---- */

/* Creates a shard's file and writes its header. */
static fr_status open_shard(fr_writer *w, size_t index, fr_error *error) {
    shard *s = &w->shards[index];
    size_t count = s->end - s->first, length = 0;
    char name[64], *header = NULL;
    const entry **order = fr_alloc(count * sizeof *order);
    fr_status status = FR_OK;
    shard_name(w, index, name, sizeof name);
    for (size_t i = 0; order && i < count; i++) order[i] = &w->entries[s->first + i];
    if (order) qsort(order, count, sizeof *order, by_begin);
    if (!order || !make_header(s, order, &header, &length)) FR_CHECK(no_memory(w, error));
    FR_CHECK(fr_staging_create(&w->staging, name, &w->fd, error));
    w->open = index;
    s->data_begin = length;
    int number = fr_write_at(w->fd, header, length, 0);
    if (!number && w->options.sparse && ftruncate(w->fd, (off_t)(s->data_begin + s->data_bytes)) != 0) number = errno;
    if (number) status = fr_staging_fail(&w->staging, name, number, error);
done:
    free(header);
    fr_free(order);
    return status;
}

static fr_status close_shard(fr_writer *w, fr_error *error) {
    char name[64];
    if (w->open == NO_SHARD) return FR_OK;
    shard_name(w, w->open, name, sizeof name);
    int fd = w->fd;
    w->fd = -1;
    w->open = NO_SHARD;
    if (w->options.sparse) return close(fd) == 0 ? FR_OK : fr_staging_fail(&w->staging, name, errno, error);
    return fr_staging_finish(&w->staging, fd, name, error);
}

/* The entry whose data come next, with its shard open. */
static fr_status next_entry(fr_writer *w, const entry **out, fr_error *error) {
    if (!w->shards || w->options.sparse || w->next == w->count)
        return fr_fail_at(error, FR_ERROR_ARGUMENT, w->staging.dir, "no tensor is waiting for data");
    size_t index = w->open == NO_SHARD ? 0 : w->open;
    while (w->next >= w->shards[index].end) index++;
    if (index != w->open) {
        FR_TRY(close_shard(w, error));
        FR_TRY(open_shard(w, index, error));
    }
    *out = &w->entries[w->next++];
    return FR_OK;
}

static fr_status fail_shard(const fr_writer *w, int number, fr_error *error) {
    char name[64];
    shard_name(w, w->open, name, sizeof name);
    return fr_staging_fail(&w->staging, name, number, error);
}

fr_status fr_writer_put(fr_writer *w, const void *data, fr_error *error) {
    const entry *e = NULL;
    FR_TRY(next_entry(w, &e, error));
    int number = fr_write_at(w->fd, data, e->bytes, w->shards[w->open].data_begin + e->begin);
    return number ? fail_shard(w, number, error) : FR_OK;
}

static fr_status reserve_buffers(fr_writer *w, size_t bytes, fr_error *error) {
    if (!w->buffers) w->buffers = fr_alloc_zeroed((size_t)w->options.threads, sizeof *w->buffers);
    if (!w->buffers) return no_memory(w, error);
    if (bytes <= w->buffer_bytes) return FR_OK;
    w->buffer_bytes = 0;
    for (int i = 0; i < w->options.threads; i++) {
        fr_free(w->buffers[i]);
        w->buffers[i] = fr_alloc(bytes);
        if (!w->buffers[i]) return no_memory(w, error);
    }
    w->buffer_bytes = bytes;
    return FR_OK;
}

/* What the threads that fill a tensor share. */
typedef struct filling {
    fr_writer *writer;
    uint64_t begin, bytes; /* of the tensor: offset in the file, size */
    size_t piece;
    int64_t pieces;
    fr_writer_fill_fn fn;
    void *user;
    atomic_llong next;
    atomic_int failed; /* errno of a piece that could not be written */
} filling;

/* TEAM. */
static void fill_pieces(void *argument) {
    filling *f = argument;
    void *buffer = f->writer->buffers[fr_team_rank()];
    for (int64_t i; atomic_load(&f->failed) == 0 && (i = atomic_fetch_add(&f->next, 1)) < f->pieces;) {
        uint64_t at = (uint64_t)i * f->piece;
        size_t bytes = f->bytes - at < f->piece ? (size_t)(f->bytes - at) : f->piece;
        f->fn(f->user, at, bytes, buffer);
        int number = fr_write_at(f->writer->fd, buffer, bytes, f->begin + at);
        if (number) atomic_store(&f->failed, number);
    }
}

fr_status fr_writer_fill(fr_writer *w, size_t unit, fr_writer_fill_fn fn, void *user, fr_error *error) {
    const entry *e = NULL;
    FR_TRY(next_entry(w, &e, error));
    size_t piece = unit < PIECE ? PIECE / unit * unit : unit;
    filling f = {.writer = w,
                 .begin = w->shards[w->open].data_begin + e->begin,
                 .bytes = e->bytes,
                 .piece = piece,
                 .pieces = (int64_t)((e->bytes + piece - 1) / piece),
                 .fn = fn,
                 .user = user};
    FR_TRY(reserve_buffers(w, e->bytes < piece ? (size_t)e->bytes : piece, error));
    fr_team_run(f.pieces > 1 ? w->options.threads : 1, fill_pieces, &f);
    return f.failed ? fail_shard(w, f.failed, error) : FR_OK;
}

/* ---- The end ---- */

static fr_status write_index(fr_writer *w, fr_error *error) {
    char *bytes = NULL;
    size_t length = 0;
    fr_status status = make_index(w, &bytes, &length) ? fr_writer_file(w, INDEX_NAME, bytes, length, error) : no_memory(w, error);
    free(bytes);
    return status;
}

fr_status fr_writer_finish(fr_writer *w, fr_writer_totals *totals, fr_error *error) {
    fr_writer_totals sum = {.tensors = w->count, .shards = w->num_shards};
    for (size_t i = 0; w->options.sparse && i < w->num_shards; i++) {
        FR_TRY(open_shard(w, i, error));
        FR_TRY(close_shard(w, error));
    }
    if (!w->shards || (!w->options.sparse && w->next != w->count))
        return fr_fail_at(error, FR_ERROR_ARGUMENT, w->staging.dir, "tensors are still without data");
    FR_TRY(close_shard(w, error));
    FR_TRY(write_index(w, error));
    FR_TRY(fr_staging_publish(&w->staging, INDEX_NAME, error));
    for (size_t i = 0; i < w->num_shards; i++) {
        sum.tensor_bytes += w->shards[i].data_bytes;
        sum.shard_bytes += w->shards[i].data_begin + w->shards[i].data_bytes;
    }
    if (totals) *totals = sum;
    return FR_OK;
}
