#include "core/checkpoint/safetensors_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/checkpoint/safetensors.h"
#include "core/memory.h"
#include "core/threads.h"

#define INDEX_NAME "model.safetensors.index.json"
#define DEFAULT_SHARD_BYTES 4250000000u /* cuts DeepSeek-V3 into 163 files, as it was published */
#define PIECE (1u << 20)                /* of fill: stays in a core's cache until it is written */
#define NO_SHARD SIZE_MAX

/* Text that grows. When memory runs out it stays NULL for ever, which is looked at once, at the end. */
typedef struct text {
    char *bytes;
    size_t length, room;
    bool failed;
} text;

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
    char *dir;
    int dir_fd;
    bool made_dir, finished;
    fr_writer_options options;
    entry *entries; /* [count] in the order of add, which is the order of shards */
    size_t count, room;
    shard *shards; /* [num_shards]; NULL before start */
    size_t num_shards;
    size_t next; /* the entry that gets its data next */
    size_t open; /* the shard that fd is of; NO_SHARD */
    int fd;
    char **files; /* [num_files] that exist: under their temporary names, the first num_named under their own */
    size_t num_files, files_room, num_named;
    void **buffers; /* [options.threads] of buffer_bytes, for fill */
    size_t buffer_bytes;
};

/* ---- Text ---- */

static void text_reserve(text *t, size_t more) {
    if (t->failed || t->room - t->length > more) return;
    size_t room = 2 * t->room + more + 256;
    char *grown = fr_grow(t->bytes, t->length, room);
    if (!grown) {
        t->failed = true;
        return;
    }
    t->bytes = grown;
    t->room = room;
}

static void text_add(text *t, const char *format, ...) FR_PRINTF(2, 3);

static void text_add(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length > 0) text_reserve(t, (size_t)length);
    if (t->failed || length <= 0) return;
    va_start(args, format);
    vsnprintf(t->bytes + t->length, (size_t)length + 1, format, args);
    va_end(args);
    t->length += (size_t)length;
}

/* A name in quotes. Names are plain, so that only these two need escaping. */
static void text_add_name(text *t, const char *name) {
    text_add(t, "\"");
    while (*name) {
        size_t run = strcspn(name, "\"\\");
        if (run) text_add(t, "%.*s", (int)run, name);
        name += run;
        if (*name) text_add(t, "\\%c", *name++);
    }
    text_add(t, "\"");
}

/* ---- Files under their temporary names ---- */

static fr_status no_memory(const fr_writer *w, fr_error *error) {
    return fr_fail_at(error, FR_ERROR_MEMORY, w->dir, "no memory to write it");
}

static fr_status fail_write(const fr_writer *w, const char *name, int number, fr_error *error) {
    fr_fail_at(error, FR_ERROR_IO, fr_place_of("%s/%s", w->dir, name).text, "cannot write: %s", strerror(number));
    if (number == ENOSPC || number == EDQUOT) fr_hint(error, FR_ERROR_IO, "make room, or write to another disk");
    return FR_ERROR_IO;
}

static void temporary_name(const char *name, char *out, size_t size) {
    snprintf(out, size, ".%s.partial", name);
}

static void shard_name(const fr_writer *w, size_t shard_index, char *out, size_t size) {
    snprintf(out, size, "model-%05zu-of-%05zu.safetensors", shard_index + 1, w->num_shards);
}

/* Creates a file and puts it on the list of those that finish names and destroy removes. */
static fr_status open_file(fr_writer *w, const char *name, int *fd, fr_error *error) {
    char temporary[320];
    if (strlen(name) > 255) return fail_write(w, name, ENAMETOOLONG, error);
    if (w->num_files == w->files_room) {
        size_t room = 2 * w->files_room + 16;
        char **grown = fr_grow(w->files, w->num_files * sizeof *grown, room * sizeof *grown);
        if (!grown) return no_memory(w, error);
        w->files = grown;
        w->files_room = room;
    }
    char *kept = fr_strdup(name);
    if (!kept) return no_memory(w, error);
    temporary_name(name, temporary, sizeof temporary);
    *fd = openat(w->dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*fd < 0) {
        fr_free(kept);
        return fail_write(w, name, errno, error);
    }
    w->files[w->num_files++] = kept;
    return FR_OK;
}

/* Returns 0 or an errno. */
static int write_all(int fd, const void *data, uint64_t bytes, uint64_t at) {
    const char *from = data;
    while (bytes > 0) {
        size_t step = bytes < 1u << 30 ? (size_t)bytes : 1u << 30;
        ssize_t n = pwrite(fd, from, step, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : EIO;
        from += n;
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* Closes a written file. What a disk has refused late comes out here, before the file gets its name. */
static fr_status close_file(const fr_writer *w, int fd, const char *name, fr_error *error) {
    int number = fdatasync(fd) != 0 && errno != EINVAL && errno != EROFS ? errno : 0;
    if (close(fd) != 0 && !number) number = errno;
    return number ? fail_write(w, name, number, error) : FR_OK;
}

fr_status fr_writer_file(fr_writer *w, const char *name, const void *data, size_t bytes, fr_error *error) {
    int fd;
    FR_TRY(open_file(w, name, &fd, error));
    int number = write_all(fd, data, bytes, 0);
    if (number) {
        close(fd);
        return fail_write(w, name, number, error);
    }
    return close_file(w, fd, name, error);
}

static fr_status copy_data(fr_writer *w, int from, const char *from_dir, const char *name, fr_error *error) {
    int fd, number = 0;
    char *buffer = fr_alloc(PIECE);
    if (!buffer) return no_memory(w, error);
    fr_status status = open_file(w, name, &fd, error);
    for (uint64_t at = 0; status == FR_OK;) {
        ssize_t n = read(from, buffer, PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) break;
        if (n < 0)
            status = fr_fail_at(error, FR_ERROR_IO, fr_place_of("%s/%s", from_dir, name).text, "%s", strerror(errno));
        else if ((number = write_all(fd, buffer, (uint64_t)n, at)))
            status = fail_write(w, name, number, error);
        at += (uint64_t)(n > 0 ? n : 0);
        if (status != FR_OK) close(fd);
    }
    fr_free(buffer);
    return status == FR_OK ? close_file(w, fd, name, error) : status;
}

fr_status fr_writer_copy(fr_writer *w, const char *from_dir, const char *name, fr_error *error) {
    char *path = NULL;
    struct stat info;
    if (asprintf(&path, "%s/%s", from_dir, name) < 0) return no_memory(w, error);
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    fr_status status = FR_OK;
    if (from < 0 || fstat(from, &info) != 0)
        status = fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = fr_fail_at(error, FR_ERROR_IO, path, "not a regular file");
    else
        status = copy_data(w, from, from_dir, name, error);
    if (from >= 0) close(from);
    free(path);
    return status;
}

/* ---- The directory ---- */

static fr_status take_directory(fr_writer *w, fr_error *error) {
    w->made_dir = mkdir(w->dir, 0777) == 0;
    if (!w->made_dir && errno != EEXIST)
        return fr_fail_at(error, FR_ERROR_IO, w->dir, "cannot make the directory: %s", strerror(errno));
    w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->dir_fd < 0) return fr_fail_at(error, FR_ERROR_IO, w->dir, "%s", strerror(errno));
    if (w->made_dir || w->options.force) return FR_OK;
    DIR *list = opendir(w->dir);
    if (!list) return fr_fail_at(error, FR_ERROR_IO, w->dir, "%s", strerror(errno));
    bool empty = true;
    for (struct dirent *item; empty && (item = readdir(list));)
        empty = strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0;
    closedir(list);
    if (empty) return FR_OK;
    return fr_hint(error, fr_fail_at(error, FR_ERROR_IO, w->dir, "the directory is not empty"),
                   "name a new directory, or force writing into this one");
}

fr_status fr_writer_create(const char *dir, const fr_writer_options *options, fr_writer **out, fr_error *error) {
    fr_writer *w = fr_alloc_zeroed(1, sizeof *w);
    if (!w) return fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory to write it");
    w->options = *options;
    if (!w->options.shard_bytes) w->options.shard_bytes = DEFAULT_SHARD_BYTES;
    if (w->options.threads < 1) w->options.threads = fr_physical_cores();
    w->open = NO_SHARD;
    w->fd = w->dir_fd = -1;
    w->dir = fr_strdup(dir);
    fr_status status = w->dir ? take_directory(w, error) : fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
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
    for (size_t i = 0; i < w->num_files; i++) {
        char temporary[320];
        temporary_name(w->files[i], temporary, sizeof temporary);
        if (!w->finished) unlinkat(w->dir_fd, i < w->num_named ? w->files[i] : temporary, 0);
        fr_free(w->files[i]);
    }
    if (w->dir_fd >= 0) close(w->dir_fd);
    if (w->made_dir && !w->finished) rmdir(w->dir);
    for (size_t i = 0; i < w->count; i++) fr_free(w->entries[i].name);
    for (int i = 0; w->buffers && i < w->options.threads; i++) fr_free(w->buffers[i]);
    fr_free(w->buffers);
    fr_free(w->files);
    fr_free(w->shards);
    fr_free(w->entries);
    fr_free(w->dir);
    fr_free(w);
}

/* ---- Layout ---- */

fr_status fr_writer_add(fr_writer *w, const char *name, fr_dtype dtype, int rank, const int64_t *shape, bool beside_last,
                        fr_error *error) {
    entry added = {.dtype = dtype, .rank = rank, .beside_last = beside_last && w->count > 0};
    added.bytes = fr_dtype_size(dtype);
    if (rank < 0 || rank > FR_MAX_RANK || !fr_name_is_plain(name))
        return fr_fail_at(error, FR_ERROR_ARGUMENT, w->dir, "a tensor of %d dimensions, or one without a plain name", rank);
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

/* Cuts the entries into shards: an entry and those beside it stay together. */
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

/* Gives the entries of a shard their places: those whose sizes are multiples of 64 first, then of 32, and so on, so
 * that each starts at a multiple of that power of two and none leaves a gap. */
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

/* Better now than after hours of writing. */
static fr_status look_for_room(const fr_writer *w, fr_error *error) {
    struct statvfs disk;
    uint64_t need = 0;
    for (size_t i = 0; i < w->num_shards; i++) need += w->shards[i].data_bytes;
    if (w->options.sparse || fstatvfs(w->dir_fd, &disk) != 0) return FR_OK;
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need <= room) return FR_OK;
    return fr_hint(
        error,
        fr_fail_at(error, FR_ERROR_IO, w->dir, "%" PRIu64 " bytes are needed, and the disk has room for %" PRIu64, need, room),
        "make room, or write to another disk");
}

fr_status fr_writer_start(fr_writer *w, fr_error *error) {
    if (!w->count) return fr_fail_at(error, FR_ERROR_ARGUMENT, w->dir, "there is no tensor to write");
    FR_TRY(reject_twice(w, error));
    w->shards = fr_alloc_zeroed(w->count, sizeof *w->shards);
    if (!w->shards) return no_memory(w, error);
    cut_shards(w);
    for (size_t i = 0; i < w->num_shards; i++) place_entries(w, &w->shards[i]);
    return look_for_room(w, error);
}

/* ---- Shards ---- */

static int by_begin(const void *a, const void *b) {
    const entry *x = *(const entry *const *)a, *y = *(const entry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x < y ? -1 : 1;
}

/* The header in the order of the data, its length before it and blanks behind it. */
static void make_header(const shard *s, const entry *const *order, text *t) {
    text_add(t, "%8s{\"__metadata__\":{\"format\":\"pt\"}", "");
    for (size_t i = 0; i < s->end - s->first; i++) {
        const entry *e = order[i];
        text_add(t, ",");
        text_add_name(t, e->name);
        text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", fr_dtype_name(e->dtype));
        for (int d = 0; d < e->rank; d++) text_add(t, "%s%" PRId64, d ? "," : "", e->shape[d]);
        text_add(t, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", e->begin, e->begin + e->bytes);
    }
    text_add(t, "}");
    size_t blanks = (FR_ALIGN - t->length % FR_ALIGN) % FR_ALIGN;
    if (blanks) text_add(t, "%*s", (int)blanks, "");
    for (int i = 0; i < 8 && !t->failed; i++) t->bytes[i] = (char)((t->length - 8) >> (8 * i) & 0xff);
}

static fr_status open_shard(fr_writer *w, size_t index, fr_error *error) {
    shard *s = &w->shards[index];
    size_t count = s->end - s->first;
    char name[64];
    text header = {0};
    const entry **order = fr_alloc(count * sizeof *order);
    fr_status status = order ? FR_OK : no_memory(w, error);
    if (status == FR_OK) {
        for (size_t i = 0; i < count; i++) order[i] = &w->entries[s->first + i];
        qsort(order, count, sizeof *order, by_begin);
        make_header(s, order, &header);
        s->data_begin = header.length;
        if (header.failed) status = no_memory(w, error);
    }
    shard_name(w, index, name, sizeof name);
    if (status == FR_OK) status = open_file(w, name, &w->fd, error);
    if (status == FR_OK) {
        w->open = index;
        int number = write_all(w->fd, header.bytes, header.length, 0);
        if (!number && w->options.sparse && ftruncate(w->fd, (off_t)(s->data_begin + s->data_bytes)) != 0) number = errno;
        if (number) status = fail_write(w, name, number, error);
    }
    fr_free(header.bytes);
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
    if (w->options.sparse) return close(fd) == 0 ? FR_OK : fail_write(w, name, errno, error);
    return close_file(w, fd, name, error);
}

/* The next entry, with its shard open. */
static fr_status next_entry(fr_writer *w, const entry **out, fr_error *error) {
    if (!w->shards || w->options.sparse || w->next == w->count)
        return fr_fail_at(error, FR_ERROR_ARGUMENT, w->dir, "no tensor is waiting for data");
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
    return fail_write(w, name, number, error);
}

fr_status fr_writer_put(fr_writer *w, const void *data, fr_error *error) {
    const entry *e = NULL;
    FR_TRY(next_entry(w, &e, error));
    int number = write_all(w->fd, data, e->bytes, w->shards[w->open].data_begin + e->begin);
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

fr_status fr_writer_fill(fr_writer *w, size_t unit, fr_writer_fill_fn fn, void *user, fr_error *error) {
    const entry *e = NULL;
    FR_TRY(next_entry(w, &e, error));
    size_t piece = unit < PIECE ? PIECE / unit * unit : unit;
    int64_t pieces = (int64_t)((e->bytes + piece - 1) / piece);
    uint64_t begin = w->shards[w->open].data_begin + e->begin;
    fr_team team = FR_TEAM;
    atomic_llong next = 0;
    atomic_int failed = 0; /* errno of a piece that could not be written */
    FR_TRY(reserve_buffers(w, e->bytes < piece ? (size_t)e->bytes : piece, error));
#pragma omp parallel num_threads(pieces > 1 ? w->options.threads : 1)
    {
        fr_team_enter(&team);
        void *buffer = w->buffers[fr_team_rank()];
        for (int64_t i; atomic_load(&failed) == 0 && (i = atomic_fetch_add(&next, 1)) < pieces;) {
            uint64_t at = (uint64_t)i * piece;
            size_t bytes = e->bytes - at < piece ? (size_t)(e->bytes - at) : piece;
            fn(user, at, bytes, buffer);
            int number = write_all(w->fd, buffer, bytes, begin + at);
            if (number) atomic_store(&failed, number);
        }
        fr_team_leave();
    }
    return failed ? fail_shard(w, failed, error) : FR_OK;
}

/* ---- The end ---- */

static fr_status write_index(fr_writer *w, fr_error *error) {
    text t = {0};
    uint64_t total = 0;
    char name[64];
    for (size_t i = 0; i < w->num_shards; i++) total += w->shards[i].data_bytes;
    text_add(&t, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {", total);
    for (size_t s = 0; s < w->num_shards; s++) {
        shard_name(w, s, name, sizeof name);
        for (size_t i = w->shards[s].first; i < w->shards[s].end; i++) {
            text_add(&t, "%s\n    ", i ? "," : "");
            text_add_name(&t, w->entries[i].name);
            text_add(&t, ": \"%s\"", name);
        }
    }
    text_add(&t, "\n  }\n}\n");
    fr_status status = t.failed ? no_memory(w, error) : fr_writer_file(w, INDEX_NAME, t.bytes, t.length, error);
    fr_free(t.bytes);
    return status;
}

/* An index that is there already describes other files: it goes before any of them is replaced. */
static fr_status name_files(fr_writer *w, fr_error *error) {
    char temporary[320];
    if (unlinkat(w->dir_fd, INDEX_NAME, 0) != 0 && errno != ENOENT) return fail_write(w, INDEX_NAME, errno, error);
    for (; w->num_named < w->num_files; w->num_named++) {
        const char *name = w->files[w->num_named];
        temporary_name(name, temporary, sizeof temporary);
        if (renameat(w->dir_fd, temporary, w->dir_fd, name) != 0) return fail_write(w, name, errno, error);
    }
    return FR_OK;
}

fr_status fr_writer_finish(fr_writer *w, fr_writer_totals *totals, fr_error *error) {
    fr_writer_totals sum = {.tensors = w->count, .shards = w->num_shards};
    for (size_t i = 0; w->options.sparse && i < w->num_shards; i++) {
        FR_TRY(open_shard(w, i, error));
        FR_TRY(close_shard(w, error));
    }
    if (!w->shards || (!w->options.sparse && w->next != w->count))
        return fr_fail_at(error, FR_ERROR_ARGUMENT, w->dir, "tensors are still without data");
    FR_TRY(close_shard(w, error));
    FR_TRY(write_index(w, error));
    FR_TRY(name_files(w, error));
    w->finished = true;
    for (size_t i = 0; i < w->num_shards; i++) {
        sum.tensor_bytes += w->shards[i].data_bytes;
        sum.shard_bytes += w->shards[i].data_begin + w->shards[i].data_bytes;
    }
    if (totals) *totals = sum;
    return FR_OK;
}
