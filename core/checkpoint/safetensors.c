#include "core/checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "forerun_checkpoint.h"

#define MAX_HEADER 100000000u /* the format's own limit */

/* The state of reading one header. */
typedef struct reader {
    fr_safetensors *st;
    int file;
    fr_problem_fn report;
    void *user;
    fr_error *error;
} reader;

const char *fr_tensor_describe(fr_dtype dtype, int rank, const int64_t *shape, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "%s [", fr_dtype_name(dtype));
    for (int i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (used < size) snprintf(text + used, size - used, "]");
    return text;
}

bool fr_name_is_plain(const char *name) {
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) return false;
    return *name != '\0';
}

/* ---- The file ---- */

/* Reads `count` bytes at an offset; those of the header are not taken from the mapping, since then a file that is cut, or a disk
 * that fails, is an error like others. */
static fr_status read_bytes(int fd, const char *path, void *bytes, size_t count, off_t at, fr_error *error) {
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(fd, (char *)bytes + done, count - done, at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fr_fail_at(error, FR_ERROR_IO, path, "cannot be read: %s", strerror(errno));
        if (n == 0) return fr_fail_at(error, FR_ERROR_FORMAT, path, "truncated while it was read");
        done += (size_t)n;
    }
    return FR_OK;
}

static fr_status check_length(fr_safetensors *st, const uint8_t start[8], uint64_t *length, fr_error *error) {
    *length = 0;
    for (int i = 0; i < 8; i++) *length |= (uint64_t)start[i] << (8 * i);
    if (*length > MAX_HEADER)
        return fr_hint(error,
                       fr_fail_at(error, FR_ERROR_FORMAT, st->name, "header length %" PRIu64 ", at most %u is possible", *length,
                                  MAX_HEADER),
                       "the file is damaged or not in safetensors format");
    if (*length > st->size - 8)
        return fr_fail_at(error, FR_ERROR_FORMAT, st->name, "truncated: a header of %" PRIu64 " bytes in a file of %" PRIu64,
                          *length, st->size);
    st->data_begin = 8 + *length;
    return FR_OK;
}

/* Small files alone may be pointers. */
static fr_status reject_pointer(const fr_safetensors *st, int fd, const char *path, fr_error *error) {
    char text[512];
    uint64_t target;
    if (st->size >= sizeof text) return FR_OK;
    FR_TRY(read_bytes(fd, path, text, (size_t)st->size, 0, error));
    return fr_is_lfs_pointer(text, (size_t)st->size, &target) ? fr_fail_lfs(error, st->name, target) : FR_OK;
}

/* The header's text, released by the caller with fr_free. */
static fr_status load_header(fr_safetensors *st, int fd, const char *path, char **text, uint64_t *length, fr_error *error) {
    uint8_t start[8];
    FR_TRY(reject_pointer(st, fd, path, error));
    FR_TRY(read_bytes(fd, path, start, sizeof start, 0, error));
    FR_TRY(check_length(st, start, length, error));
    *text = fr_alloc((size_t)*length);
    if (!*text) return fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory for its header of %" PRIu64 " bytes", *length);
    return read_bytes(fd, path, *text, (size_t)*length, 8, error);
}

static fr_status map_file(fr_safetensors *st, int fd, const char *path, fr_error *error) {
    st->mapping = fr_mapping_open(fd, st->size); /* outlives the descriptor */
    if (st->mapping) st->map = fr_mapping_bytes(st->mapping);
    if (st->map) return FR_OK;
    return fr_fail_at(error, errno == ENOMEM ? FR_ERROR_MEMORY : FR_ERROR_IO, path, "cannot map %" PRIu64 " bytes: %s", st->size,
                      strerror(errno));
}

static fr_status open_file(fr_safetensors *st, const char *path, char **header, uint64_t *length, fr_error *error) {
    struct stat info;
    fr_status status = FR_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fr_fail_open(error, path);
    if (fstat(fd, &info) != 0) FR_CHECK(fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(errno)));
    if (!S_ISREG(info.st_mode)) FR_CHECK(fr_fail_at(error, FR_ERROR_IO, path, "not a regular file"));
    if (info.st_size < 8)
        FR_CHECK(fr_fail_at(error, FR_ERROR_FORMAT, path, "%s",
                            info.st_size ? "truncated: shorter than the 8 bytes of a header length" : "the file is empty"));
    st->size = (uint64_t)info.st_size;
    FR_CHECK(load_header(st, fd, path, header, length, error));
    status = map_file(st, fd, path, error);
done:
    close(fd);
    return status;
}

/* ---- One entry ---- */

/* The readers below return false when an entry is broken, and say in `problem` why. */
typedef struct entry_parts {
    const cJSON *dtype, *shape, *offsets;
    bool beyond; /* its data reach beyond the file's end */
} entry_parts;

static bool read_keys(const cJSON *object, entry_parts *e, char *problem, size_t size) {
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        const char *key = item->string ? item->string : "";
        const cJSON **slot = strcmp(key, "dtype") == 0          ? &e->dtype
                             : strcmp(key, "shape") == 0        ? &e->shape
                             : strcmp(key, "data_offsets") == 0 ? &e->offsets
                                                                : NULL;
        if (slot && *slot) {
            snprintf(problem, size, "the key \"%s\" is there twice", key);
            return false;
        }
        if (slot) *slot = item;
    }
    return true;
}

/* Sets dtype, rank and shape, and the bytes that they imply. */
static bool read_shape(const entry_parts *e, fr_tensor *tensor, char *problem, size_t size) {
    char found[80];
    const cJSON *item;
    if (!cJSON_IsString(e->dtype) || !fr_dtype_parse(e->dtype->valuestring, &tensor->dtype)) {
        snprintf(problem, size, "dtype: expected a known type, found %s", fr_json_describe(e->dtype, found, sizeof found));
        return false;
    }
    if (!cJSON_IsArray(e->shape)) {
        snprintf(problem, size, "shape: expected an array, found %s", fr_json_describe(e->shape, found, sizeof found));
        return false;
    }
    tensor->bytes = fr_dtype_size(tensor->dtype);
    tensor->rank = 0;
    cJSON_ArrayForEach(item, e->shape) {
        uint64_t value = 0;
        if (tensor->rank == FR_MAX_RANK)
            snprintf(problem, size, "shape: %d dimensions, at most %d are supported", cJSON_GetArraySize(e->shape), FR_MAX_RANK);
        else if (!fr_json_to_u64(item, &value))
            snprintf(problem, size, "shape: expected whole numbers, found %s", fr_json_describe(item, found, sizeof found));
        else if (__builtin_mul_overflow(tensor->bytes, value, &tensor->bytes))
            snprintf(problem, size, "shape: the byte count overflows 64 bits");
        if (*problem) return false;
        tensor->shape[tensor->rank++] = (int64_t)value;
    }
    return true;
}

static bool read_offsets(const fr_safetensors *st, entry_parts *e, fr_tensor *tensor, char *problem, size_t size) {
    uint64_t begin, end, room = st->size - st->data_begin;
    char found[80];
    if (!cJSON_IsArray(e->offsets) || cJSON_GetArraySize(e->offsets) != 2 || !fr_json_to_u64(e->offsets->child, &begin) ||
        !fr_json_to_u64(e->offsets->child->next, &end) || begin > end) {
        char *text = cJSON_PrintUnformatted(e->offsets);
        snprintf(problem, size, "data_offsets: expected two whole numbers [begin, end], found %.60s", text ? text : "nothing");
        cJSON_free(text);
    } else if (end - begin != tensor->bytes) {
        snprintf(problem, size, "data_offsets: %" PRIu64 " bytes, but %s takes %" PRIu64, end - begin,
                 fr_tensor_describe(tensor->dtype, tensor->rank, tensor->shape, found, sizeof found), tensor->bytes);
    } else if (end > room) {
        e->beyond = true;
        snprintf(problem, size, "data_offsets: [%" PRIu64 ", %" PRIu64 "] reach beyond the %" PRIu64 " bytes of data in the file",
                 begin, end, room);
    } else {
        tensor->data = (const char *)st->map + st->data_begin + begin;
    }
    return !*problem;
}

static bool read_entry(const fr_safetensors *st, const cJSON *object, fr_tensor *tensor, bool *beyond, char *problem,
                       size_t size) {
    entry_parts e = {0};
    char found[80];
    *beyond = false;
    *problem = '\0';
    if (!cJSON_IsObject(object)) {
        snprintf(problem, size, "expected an object, found %s", fr_json_describe(object, found, sizeof found));
        return false;
    }
    bool sound = read_keys(object, &e, problem, size) && read_shape(&e, tensor, problem, size) &&
                 read_offsets(st, &e, tensor, problem, size);
    *beyond = e.beyond;
    return sound;
}

/* With `report`, reports a problem; without, it is an error. */
static fr_status complain(const reader *r, const char *tensor, const char *problem) {
    if (!r->report)
        return fr_hint(
            r->error,
            fr_fail_at(r->error, FR_ERROR_FORMAT, fr_place_of("%s: tensor %.200s", r->st->name, tensor).text, "%s", problem),
            "the file is damaged or incomplete; fetch it again");
    r->report(r->user, &(fr_problem){.tensor = tensor, .file = r->st->name, .problem = problem});
    return FR_OK;
}

static fr_status leave_out(const reader *r, const char *tensor, const char *problem) {
    r->st->broken++;
    return complain(r, tensor, problem);
}

/* Tensors that a file was cut before. In a report several are one problem. */
typedef struct cut_off {
    size_t count;
    const char *first;
    char problem[256]; /* of the first */
} cut_off;

static fr_status note_cut_off(const reader *r, cut_off *cut, const char *tensor, const char *problem) {
    if (!r->report) return leave_out(r, tensor, problem);
    if (cut->count++ == 0) {
        cut->first = tensor;
        snprintf(cut->problem, sizeof cut->problem, "%s", problem);
    }
    r->st->broken++;
    r->report(r->user, &(fr_problem){.tensor = tensor, .file = r->st->name});
    return FR_OK;
}

static fr_status tell_cut_off(const reader *r, const cut_off *cut) {
    char problem[400];
    if (cut->count == 0) return FR_OK;
    if (cut->count == 1) return complain(r, cut->first, cut->problem);
    snprintf(problem, sizeof problem, "truncated: the data of %zu tensors reach beyond its end, the first is %.200s", cut->count,
             cut->first);
    return complain(r, "", problem);
}

/* ---- The header ---- */

static fr_status read_entries(const reader *r, const cJSON *header) {
    fr_safetensors *st = r->st;
    size_t count = 0, name_bytes = 1;
    cut_off cut = {0};
    const cJSON *entry;
    cJSON_ArrayForEach(entry, header) {
        count++;
        name_bytes += strlen(entry->string) + 1;
    }
    st->tensors = fr_alloc_zeroed(count, sizeof *st->tensors);
    st->names = fr_alloc(name_bytes);
    if (!st->tensors || !st->names) return fr_fail_at(r->error, FR_ERROR_MEMORY, st->name, "no memory for %zu tensors", count);
    char *names = st->names;
    cJSON_ArrayForEach(entry, header) {
        char problem[256];
        bool beyond;
        fr_tensor *tensor = &st->tensors[st->count];
        if (strcmp(entry->string, "__metadata__") == 0) continue;
        if (!fr_name_is_plain(entry->string)) {
            FR_TRY(leave_out(r, "", "a name that is empty or has control characters"));
            continue;
        }
        if (!read_entry(st, entry, tensor, &beyond, problem, sizeof problem)) {
            FR_TRY(beyond ? note_cut_off(r, &cut, entry->string, problem) : leave_out(r, entry->string, problem));
            continue;
        }
        size_t length = strlen(entry->string) + 1;
        tensor->name = memcpy(names, entry->string, length);
        tensor->file = r->file;
        names += length;
        st->count++;
        st->data_bytes += tensor->bytes;
    }
    return tell_cut_off(r, &cut);
}

static int by_name(const void *a, const void *b) {
    const fr_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int by_data(const void *a, const void *b) {
    const fr_tensor *x = a, *y = b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static fr_status reject_twice(const reader *r) {
    fr_safetensors *st = r->st;
    size_t kept = 0;
    qsort(st->tensors, st->count, sizeof *st->tensors, by_name);
    for (size_t i = 0; i < st->count; i++) {
        if (kept && strcmp(st->tensors[kept - 1].name, st->tensors[i].name) == 0) {
            FR_TRY(leave_out(r, st->tensors[i].name, "is there twice"));
            st->data_bytes -= st->tensors[i].bytes;
            continue;
        }
        st->tensors[kept++] = st->tensors[i];
    }
    st->count = kept;
    return FR_OK;
}

/* Overlaps are problems. So are gaps, but only in a report: every tensor's data is where the header says. */
static fr_status check_layout(const reader *r) {
    fr_safetensors *st = r->st;
    char problem[320];
    uint64_t end = 0, gaps = 0;
    const char *before = "";
    qsort(st->tensors, st->count, sizeof *st->tensors, by_data);
    for (size_t i = 0; i < st->count; i++) {
        const fr_tensor *tensor = &st->tensors[i];
        uint64_t begin = (uint64_t)((const char *)tensor->data - (const char *)st->map) - st->data_begin;
        if (begin < end && tensor->bytes) {
            snprintf(problem, sizeof problem, "its data overlaps with that of %.200s", before);
            FR_TRY(complain(r, tensor->name, problem));
        }
        if (begin > end) gaps += begin - end;
        if (begin + tensor->bytes > end) end = begin + tensor->bytes, before = tensor->name;
    }
    gaps += st->size - st->data_begin - end;
    if (gaps && r->report) {
        snprintf(problem, sizeof problem, "%" PRIu64 " bytes belong to no sound tensor", gaps);
        FR_TRY(complain(r, "", problem));
    }
    return FR_OK;
}

static fr_status read_header(const reader *r, const char *text, uint64_t length) {
    fr_safetensors *st = r->st;
    cJSON *header = NULL;
    char found[80];
    fr_status status = fr_json_parse(text, length, st->name, &header, r->error);
    if (status != FR_OK) return status;
    if (!cJSON_IsObject(header))
        status = fr_fail_at(r->error, FR_ERROR_FORMAT, st->name, "the header: expected an object, found %s",
                            fr_json_describe(header, found, sizeof found));
    else
        status = read_entries(r, header);
    cJSON_Delete(header);
    if (status != FR_OK) return status;
    FR_TRY(reject_twice(r));
    return check_layout(r);
}

fr_status fr_safetensors_open(const char *dir, const char *name, int file, fr_problem_fn report, void *user, fr_safetensors *out,
                              fr_error *error) {
    memset(out, 0, sizeof *out);
    out->name = fr_strdup(name);
    if (!out->name) return fr_fail_at(error, FR_ERROR_MEMORY, name, "no memory for its name");
    reader r = {.st = out, .file = file, .report = report, .user = user, .error = error};
    uint64_t length = 0;
    char *path = NULL, *header = NULL;
    fr_status status = FR_OK;
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        path = NULL;
        FR_CHECK(fr_fail_at(error, FR_ERROR_MEMORY, name, "no memory for its path"));
    }
    FR_CHECK(open_file(out, path, &header, &length, error));
    status = read_header(&r, header, length);
done:
    fr_free(header);
    free(path);
    if (status != FR_OK) fr_safetensors_release(out);
    return status;
}

void fr_safetensors_release(fr_safetensors *st) {
    fr_mapping_close(st->mapping);
    fr_free(st->tensors);
    fr_free(st->names);
    fr_free(st->name);
    memset(st, 0, sizeof *st);
}
