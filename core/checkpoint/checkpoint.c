#include "core/checkpoint/private.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checkpoint/checksum.h"
#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "forerun_checkpoint.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"
#define MAX_BESIDE 16        /* files of MTP modules that the index does not name */
#define MAX_FILES 16384      /* the system maps some 65,000 */
#define MAX_INDEX 100000000u /* 671B parameters in 91,991 tensors take 9 MB */

/* The state of opening. Without options.report the first problem ends it. */
typedef struct lost_file {
    const char *name; /* the index's */
    char why[256];
    size_t tensors; /* that the index puts there */
} lost_file;

typedef struct opener {
    fr_checkpoint *checkpoint;
    fr_open_options options;
    lost_file *lost; /* [num_lost] by name: files of the index that cannot be used; with `report` */
    size_t num_lost;
    int listed; /* files that the index names, or the only one; those beside it come behind */
    fr_error *error;
} opener;

static fr_status complain(const opener *o, const char *tensor, const char *file, const char *problem) {
    if (!o->options.report) {
        if (!*tensor) return fr_fail_at(o->error, FR_ERROR_FORMAT, file, "%s", problem);
        return fr_fail_at(o->error, FR_ERROR_FORMAT, fr_place_of("%s: tensor %.200s", file, tensor).text, "%s", problem);
    }
    o->options.report(o->options.user, &(fr_problem){.tensor = tensor, .file = file, .problem = problem});
    return FR_OK;
}

/* ---- The index over all tensors ---- */

/* Numbers in names compare by value, so that layer 10 comes after layer 9. Zero only for equal names. */
static int compare_names(const char *a, const char *b) {
    const char *x = a, *y = b;
    while (*x && *y) {
        if ((unsigned)(*x - '0') < 10 && (unsigned)(*y - '0') < 10) {
            while (*x == '0') x++;
            while (*y == '0') y++;
            size_t n = strspn(x, "0123456789"), m = strspn(y, "0123456789");
            if (n != m) return n < m ? -1 : 1;
            int order = memcmp(x, y, n);
            if (order) return order;
            x += n, y += m;
        } else {
            if (*x != *y) return (unsigned char)*x < (unsigned char)*y ? -1 : 1;
            x++, y++;
        }
    }
    if (*x || *y) return *x ? 1 : -1;
    return strcmp(a, b);
}

static int by_name(const void *a, const void *b) {
    const fr_tensor *x = a, *y = b;
    int order = compare_names(x->name, y->name);
    return order ? order : x->file - y->file;
}

static uint64_t hash_name(const char *name) {
    uint64_t hash = fr_hash64(FR_HASH64_START, name, strlen(name));
    return hash ^ hash >> 32;
}

const fr_tensor *fr_checkpoint_find(const fr_checkpoint *checkpoint, const char *name) {
    for (size_t slot = hash_name(name) & checkpoint->mask; checkpoint->table[slot]; slot = (slot + 1) & checkpoint->mask) {
        const fr_tensor *tensor = &checkpoint->tensors[checkpoint->table[slot] - 1];
        if (strcmp(tensor->name, name) == 0) return tensor;
    }
    return NULL;
}

/* Joins the lists of all files into one. A name that two files have is a problem, and kept once. */
static fr_status gather(opener *o) {
    fr_checkpoint *c = o->checkpoint;
    size_t count = 0, kept = 0, slots = 16;
    for (int f = 0; f < c->num_files; f++) count += c->files[f].count;
    while (slots < 2 * count) slots *= 2;
    c->tensors = fr_alloc(count * sizeof *c->tensors);
    c->table = fr_alloc_zeroed(slots, sizeof *c->table);
    if (!c->tensors || !c->table) return fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory for %zu tensors", count);
    count = 0;
    for (int f = 0; f < c->num_files; f++) {
        fr_safetensors *file = &c->files[f];
        if (file->count) memcpy(c->tensors + count, file->tensors, file->count * sizeof *file->tensors);
        count += file->count;
        fr_free(file->tensors);
        file->tensors = NULL;
    }
    qsort(c->tensors, count, sizeof *c->tensors, by_name);
    c->mask = slots - 1;
    assert(count < UINT32_MAX); /* the table has 32-bit indices */
    for (size_t i = 0; i < count; i++) {
        const fr_tensor *tensor = &c->tensors[i];
        if (kept && strcmp(c->tensors[kept - 1].name, tensor->name) == 0) {
            char problem[320];
            snprintf(problem, sizeof problem, "is in %.200s too", c->files[c->tensors[kept - 1].file].name);
            FR_TRY(complain(o, tensor->name, c->files[tensor->file].name, problem));
            continue;
        }
        size_t slot = hash_name(tensor->name) & c->mask;
        while (c->table[slot]) slot = (slot + 1) & c->mask;
        c->table[slot] = (uint32_t)kept + 1;
        c->bytes += tensor->bytes;
        c->tensors[kept++] = *tensor;
    }
    c->count = kept;
    return FR_OK;
}

/* ---- Shards ---- */

/* Files come in the order of their names. */
static fr_status remember_lost(opener *o, const char *name, const fr_error *why) {
    lost_file *grown = fr_grow(o->lost, o->num_lost * sizeof *grown, (o->num_lost + 1) * sizeof *grown);
    if (!grown) return fr_fail_at(o->error, FR_ERROR_MEMORY, name, "no memory for what is wrong with it");
    o->lost = grown;
    lost_file *lost = &grown[o->num_lost++];
    *lost = (lost_file){.name = name};
    snprintf(lost->why, sizeof lost->why, "%s", fr_error_what(why));
    return FR_OK;
}

/* Opens one file as the next; with `report`, one that cannot be used is reported and left out. listed: the index names it, and
 * what is lost with it is known later. */
static fr_status open_file(opener *o, const char *name, bool listed, fr_error *own) {
    fr_checkpoint *c = o->checkpoint;
    fr_status status =
        fr_safetensors_open(c->dir, name, c->num_files, o->options.report, o->options.user, &c->files[c->num_files], own);
    if (status == FR_OK) c->num_files++;
    if (status == FR_OK || status == FR_ERROR_MEMORY || !o->options.report) return status;
    if (listed) return remember_lost(o, name, own);
    return complain(o, "", name, fr_error_what(own)); /* the report has a field for the file */
}

/* A plain name in the directory: what the index says must never lead out of it. */
static bool name_is_inside(const char *name) {
    return fr_name_is_plain(name) && !strchr(name, '/') && !strstr(name, "..") && strcmp(name, ".") != 0;
}

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct files of a weight_map, sorted. `files` has room for one an entry. */
static fr_status list_files(opener *o, const cJSON *map, const char **files, size_t *num_files) {
    const cJSON *item;
    size_t n = 0;
    cJSON_ArrayForEach(item, map) {
        if (cJSON_IsString(item) && name_is_inside(item->valuestring)) {
            if (!n || strcmp(files[n - 1], item->valuestring) != 0) files[n++] = item->valuestring;
            continue;
        }
        char problem[160], found[80];
        fr_json_describe(item, found, sizeof found);
        for (char *c = found; *c; c++)
            if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
        snprintf(problem, sizeof problem, "weight_map: expected the name of a file in the directory, found %s", found);
        FR_TRY(complain(o, fr_name_is_plain(item->string) ? item->string : "?", INDEX_NAME, problem));
    }
    qsort(files, n, sizeof *files, compare_text);
    *num_files = 0;
    for (size_t i = 0; i < n; i++)
        if (!i || strcmp(files[i - 1], files[i]) != 0) files[(*num_files)++] = files[i];
    return FR_OK;
}

/* The opened file of a name that the index has; these were opened in the order of their names. NULL when it could not be used. */
static const fr_safetensors *file_named(const opener *o, const char *name) {
    const fr_checkpoint *c = o->checkpoint;
    int low = 0, high = o->listed;
    while (low < high) {
        int middle = (low + high) / 2, order = strcmp(c->files[middle].name, name);
        if (order == 0) return &c->files[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int compare_lost(const void *name, const void *lost) {
    return strcmp(name, ((const lost_file *)lost)->name);
}

/* A tensor of a file that cannot be used: one problem tells of all of them. */
static fr_status lose(opener *o, const char *name, const char *file) {
    lost_file *lost = o->num_lost ? bsearch(file, o->lost, o->num_lost, sizeof *lost, compare_lost) : NULL;
    if (!lost) return complain(o, name, file, "lost with its file");
    lost->tensors++;
    o->options.report(o->options.user, &(fr_problem){.tensor = name, .file = file});
    return FR_OK;
}

static fr_status report_lost(const opener *o) {
    for (size_t i = 0; i < o->num_lost; i++) {
        char problem[320];
        const lost_file *lost = &o->lost[i];
        snprintf(problem, sizeof problem, "%s; %zu %s lost with it", lost->why, lost->tensors,
                 lost->tensors == 1 ? "tensor is" : "tensors are");
        FR_TRY(complain(o, "", lost->name, problem));
    }
    return FR_OK;
}

/* Compares the index with the shards: each must have what the other has. Without `report`, tensors that the index does not list
 * are accepted. */
static fr_status compare_index(opener *o, const cJSON *map) {
    fr_checkpoint *c = o->checkpoint;
    char problem[512];
    const cJSON *item;
    bool *listed = fr_alloc_zeroed(c->count, sizeof *listed);
    if (!listed) return fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory for %zu flags", c->count);
    fr_status status = FR_OK;
    cJSON_ArrayForEach(item, map) {
        if (!cJSON_IsString(item)) continue;
        const fr_tensor *tensor = fr_checkpoint_find(c, item->string);
        const char *says = item->valuestring, *name = fr_name_is_plain(item->string) ? item->string : "?";
        *problem = '\0';
        if (!tensor) {
            const fr_safetensors *file = file_named(o, says);
            if (!file) FR_CHECK(lose(o, name, says));
            if (file && !file->broken)
                snprintf(problem, sizeof problem, "the index puts it in %.200s, which has no such tensor", says);
        } else if (listed[tensor - c->tensors]) {
            snprintf(problem, sizeof problem, "the index lists it twice");
        } else {
            listed[tensor - c->tensors] = true;
            const char *is = c->files[tensor->file].name;
            if (strcmp(is, says) != 0)
                snprintf(problem, sizeof problem, "the index puts it in %.200s, but it is in %.200s", says, is);
        }
        if (*problem) FR_CHECK(complain(o, name, INDEX_NAME, problem));
    }
    for (size_t i = 0; i < c->count && o->options.report; i++)
        if (!listed[i] && c->tensors[i].file < o->listed)
            FR_CHECK(complain(o, c->tensors[i].name, c->files[c->tensors[i].file].name, "the index does not list it"));
    status = report_lost(o);
done:
    fr_free(listed);
    return status;
}

/* Files that an interrupted download left out are counted, before any is opened. */
static fr_status require_files(const opener *o, const char *const *files, size_t count) {
    const fr_checkpoint *c = o->checkpoint;
    const char *first = NULL;
    size_t missing = 0;
    for (size_t i = 0; i < count; i++) {
        char *path;
        if (asprintf(&path, "%s/%s", c->dir, files[i]) < 0) return fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory");
        bool there = access(path, F_OK) == 0 || errno != ENOENT;
        free(path);
        if (there) continue;
        if (missing++ == 0) first = files[i];
    }
    if (missing == 0) return FR_OK;
    fr_fail_at(o->error, FR_ERROR_IO, c->dir, "%zu of the %zu files that the index names %s missing, the first is %s", missing,
               count, missing == 1 ? "is" : "are", first);
    return fr_hint(o->error, FR_ERROR_IO, "the download is incomplete: start it again, it goes on where it ended");
}

/* ---- MTP modules in files of their own ---- */

static bool has_layer(const fr_checkpoint *c, int layer) {
    char prefix[32];
    size_t length = (size_t)snprintf(prefix, sizeof prefix, "model.layers.%d.", layer);
    for (int f = 0; f < c->num_files; f++)
        for (size_t i = 0; i < c->files[f].count; i++)
            if (strncmp(c->files[f].tensors[i].name, prefix, length) == 0) return true;
    return false;
}

static int is_mtp_file(const struct dirent *entry) {
    return fnmatch("mtp*.safetensors", entry->d_name, 0) == 0;
}

static bool is_open(const fr_checkpoint *c, const char *name) {
    for (int f = 0; f < c->num_files; f++)
        if (strcmp(c->files[f].name, name) == 0) return true;
    return false;
}

/* Opens one of them, or says why it is left out. */
static fr_status take_beside(opener *o, const char *name, bool module_is_there) {
    fr_error own;
    const fr_open_options *options = &o->options;
    if (options->mtp_layer < 0 || module_is_there) {
        fr_notices_add(options->notices, name, "the index does not name it, and %s: left out",
                       module_is_there ? "the MTP module is elsewhere" : "config.json announces no MTP module");
        return FR_OK;
    }
    fr_status status = open_file(o, name, false, &own);
    if (status == FR_OK)
        fr_notices_add(options->notices, name, "the index does not name it: its tensors count as if it did");
    else if (o->error)
        *o->error = own;
    return status;
}

static fr_status open_beside(opener *o) {
    fr_checkpoint *c = o->checkpoint;
    struct dirent **names = NULL;
    o->listed = c->num_files;
    if (!o->options.look_beside) return FR_OK;
    bool there = o->options.mtp_layer >= 0 && has_layer(c, o->options.mtp_layer);
    int count = scandir(c->dir, &names, is_mtp_file, alphasort);
    fr_status status = FR_OK;
    if (count < 0 && errno == ENOMEM) return fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory to list it");
    for (int i = 0; i < count; i++) {
        if (status == FR_OK && c->num_files < o->listed + MAX_BESIDE && !is_open(c, names[i]->d_name))
            status = take_beside(o, names[i]->d_name, there);
        free(names[i]);
    }
    free(names);
    return status;
}

/* ---- All of them ---- */

static fr_status open_shards(opener *o, const cJSON *map) {
    fr_checkpoint *c = o->checkpoint;
    size_t entries = (size_t)cJSON_GetArraySize(map), num_files = 0;
    const char **files = fr_alloc(entries * sizeof *files);
    fr_status status = FR_OK;
    if (!files) return fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory for %zu names", entries);
    FR_CHECK(list_files(o, map, files, &num_files));
    if (num_files > MAX_FILES)
        FR_CHECK(fr_fail_at(o->error, FR_ERROR_FORMAT, INDEX_NAME, "weight_map names %zu files, at most %d are possible",
                            num_files, MAX_FILES));
    if (!o->options.report) FR_CHECK(require_files(o, files, num_files));
    c->files = fr_alloc_zeroed(num_files + MAX_BESIDE, sizeof *c->files);
    if (!c->files) FR_CHECK(fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory for %zu files", num_files));
    for (size_t i = 0; i < num_files; i++) {
        fr_error own;
        status = open_file(o, files[i], true, &own);
        if (status == FR_OK) continue;
        if (o->error) *o->error = own;
        goto done;
    }
    FR_CHECK(open_beside(o));
    FR_CHECK(gather(o));
    status = compare_index(o, map);
done:
    fr_free(files);
    return status;
}

static fr_status open_index(opener *o, const char *path) {
    cJSON *json = NULL;
    const cJSON *map;
    fr_status status = FR_OK;
    FR_TRY(fr_json_load(path, MAX_INDEX, &json, o->error));
    FR_CHECK(fr_json_object(json, path, "weight_map", &map, o->error));
    if (!map->child) FR_CHECK(fr_fail_at(o->error, FR_ERROR_FORMAT, fr_place_of("%s: weight_map", path).text, "is empty"));
    status = open_shards(o, map);
done:
    cJSON_Delete(json);
    return status;
}

static fr_status open_single(opener *o) {
    fr_checkpoint *c = o->checkpoint;
    fr_error own;
    c->files = fr_alloc_zeroed(1 + MAX_BESIDE, sizeof *c->files);
    if (!c->files) return fr_fail_at(o->error, FR_ERROR_MEMORY, c->dir, "no memory");
    fr_status status = open_file(o, SINGLE_NAME, false, &own);
    if (status == FR_OK)
        status = open_beside(o);
    else if (o->error)
        *o->error = own;
    return status == FR_OK ? gather(o) : status;
}

/* ---- The checkpoint ---- */

static fr_status open_checkpoint(opener *o) {
    const char *dir = o->checkpoint->dir;
    struct stat info;
    char *index = NULL, *single = NULL;
    fr_status status = FR_OK;
    if (stat(dir, &info) != 0) return fr_fail_at(o->error, FR_ERROR_IO, dir, "%s", strerror(errno));
    if (!S_ISDIR(info.st_mode)) return fr_fail_at(o->error, FR_ERROR_IO, dir, "not a directory");
    if (asprintf(&index, "%s/" INDEX_NAME, dir) < 0) return fr_fail_at(o->error, FR_ERROR_MEMORY, dir, "no memory");
    if (asprintf(&single, "%s/" SINGLE_NAME, dir) < 0) {
        status = fr_fail_at(o->error, FR_ERROR_MEMORY, dir, "no memory");
        single = NULL;
    } else if (fr_is_there(index)) {
        status = open_index(o, index);
    } else if (fr_is_there(single)) {
        status = open_single(o);
    } else {
        status = fr_hint(o->error, fr_fail_at(o->error, FR_ERROR_IO, dir, "neither " INDEX_NAME " nor " SINGLE_NAME " is there"),
                         "name the directory that holds config.json and the weights");
    }
    free(index);
    free(single);
    return status;
}

fr_status fr_checkpoint_open_with(const char *dir, const fr_open_options *options, fr_checkpoint **out, fr_error *error) {
    fr_checkpoint *checkpoint = fr_alloc_zeroed(1, sizeof *checkpoint);
    if (checkpoint) checkpoint->dir = fr_strdup(dir);
    if (!checkpoint || !checkpoint->dir) {
        fr_checkpoint_destroy(checkpoint);
        return fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
    }
    opener o = {.checkpoint = checkpoint, .options = *options, .error = error};
    fr_status status = open_checkpoint(&o);
    fr_free(o.lost);
    if (status != FR_OK) {
        fr_checkpoint_destroy(checkpoint);
        return status;
    }
    *out = checkpoint;
    return FR_OK;
}

fr_status fr_checkpoint_open(const char *dir, fr_checkpoint **out, fr_error *error) {
    return fr_checkpoint_open_with(dir, &(fr_open_options){.mtp_layer = -1}, out, error);
}

void fr_checkpoint_destroy(fr_checkpoint *checkpoint) {
    if (!checkpoint) return;
    if (checkpoint->copy) munmap(checkpoint->copy, checkpoint->copy_bytes);
    for (int f = 0; f < checkpoint->num_files; f++) fr_safetensors_release(&checkpoint->files[f]);
    fr_free(checkpoint->files);
    fr_free(checkpoint->tensors);
    fr_free(checkpoint->table);
    fr_free(checkpoint->dir);
    fr_free(checkpoint);
}

size_t fr_checkpoint_count(const fr_checkpoint *checkpoint) {
    return checkpoint->count;
}

const fr_tensor *fr_checkpoint_at(const fr_checkpoint *checkpoint, size_t i) {
    return &checkpoint->tensors[i];
}

const char *fr_checkpoint_file(const fr_checkpoint *checkpoint, int file) {
    return checkpoint->files[file].name;
}

int fr_checkpoint_num_files(const fr_checkpoint *checkpoint) {
    return checkpoint->num_files;
}

const char *fr_checkpoint_dir(const fr_checkpoint *checkpoint) {
    return checkpoint->dir;
}

bool fr_checkpoint_locate(const fr_checkpoint *checkpoint, const void *data, int *file, uint64_t *offset) {
    for (int f = 0; f < checkpoint->num_files; f++) {
        const char *map = checkpoint->files[f].map;
        uintptr_t at = (uintptr_t)data - (uintptr_t)map;
        if (at >= checkpoint->files[f].size) continue;
        *file = f;
        *offset = at;
        return true;
    }
    return false;
}

uint64_t fr_checkpoint_bytes(const fr_checkpoint *checkpoint) {
    return checkpoint->bytes;
}

/* ---- Files that are lost while they are mapped ---- */

fr_place fr_checkpoint_place(const fr_checkpoint *c, int file, uint64_t offset) {
    const char *at = (const char *)c->files[file].map + offset;
    for (size_t i = 0; i < c->count; i++) {
        const fr_tensor *t = &c->tensors[i];
        if (t->file == file && (const char *)t->data <= at && at < (const char *)t->data + t->bytes)
            return fr_place_of("%.250s/%.40s: tensor %.200s", c->dir, c->files[file].name, t->name);
    }
    return fr_place_of("%s/%s", c->dir, c->files[file].name);
}

/* The size of the file now, if it can be told, says who is to blame. */
static fr_status fail_lost(const fr_checkpoint *c, int file, uint64_t offset, fr_error *error) {
    const fr_safetensors *f = &c->files[file];
    fr_place place = fr_checkpoint_place(c, file, offset);
    struct stat now;
    bool known = stat(fr_place_of("%s/%s", c->dir, f->name).text, &now) == 0;
    if (known && (uint64_t)now.st_size < f->size) {
        fr_fail_at(error, FR_ERROR_IO, place.text,
                   "cannot be read at offset %" PRIu64 ": the file has %" PRIu64 " bytes now, and had %" PRIu64
                   " when it was opened",
                   offset, (uint64_t)now.st_size, f->size);
        return fr_hint(error, FR_ERROR_IO, "something cut it while it was in use; forerun check tells whether it is whole again");
    }
    fr_fail_at(error, FR_ERROR_IO, place.text, "cannot be read at offset %" PRIu64 ": the disk failed, or the file was changed",
               offset);
    return fr_hint(error, FR_ERROR_IO, "the system's log (dmesg) may say more; forerun check reads all of the checkpoint");
}

fr_status fr_checkpoint_still_whole(const fr_checkpoint *c, fr_error *error) {
    uint64_t offset;
    if (!fr_mapping_any_lost()) return FR_OK;
    for (int f = 0; f < c->num_files; f++)
        if (fr_mapping_is_lost(c->files[f].mapping, &offset)) return fail_lost(c, f, offset, error);
    return FR_OK;
}

_Static_assert(FR_DTYPE_COUNT <= 32, "a set of dtypes is an unsigned");

static const char *describe_dtypes(unsigned dtypes, char *text, size_t size) {
    size_t used = 0;
    *text = '\0';
    for (int d = 0; d < FR_DTYPE_COUNT && used < size; d++)
        if (dtypes >> d & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " or " : "", fr_dtype_name((fr_dtype)d));
    return text;
}

fr_status fr_checkpoint_get(const fr_checkpoint *checkpoint, const char *name, unsigned dtypes, int rank, const int64_t *shape,
                            const fr_tensor **out, fr_error *error) {
    const fr_tensor *tensor = fr_checkpoint_find(checkpoint, name);
    if (!tensor)
        return fr_fail_at(error, FR_ERROR_FORMAT, fr_place_of("%.200s", checkpoint->dir).text, "tensor %.200s is missing", name);
    bool fits = (dtypes >> tensor->dtype & 1) && tensor->rank == rank;
    for (int i = 0; fits && i < rank; i++) fits = tensor->shape[i] == shape[i];
    if (!fits) {
        char types[128], expected[128], found[128];
        fr_tensor_describe(tensor->dtype, rank, shape, expected, sizeof expected);
        return fr_fail_at(error, FR_ERROR_FORMAT,
                          fr_place_of("%.200s: tensor %.200s", fr_checkpoint_file(checkpoint, tensor->file), name).text,
                          "expected %s%s, found %s", describe_dtypes(dtypes, types, sizeof types), strchr(expected, ' '),
                          fr_tensor_describe(tensor->dtype, tensor->rank, tensor->shape, found, sizeof found));
    }
    *out = tensor;
    return FR_OK;
}
