/* What a user names as a checkpoint: its directory, or something near it, which is recognized so that the error can say what it
 * is and what to do. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/status.h"
#include "forerun_checkpoint.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"
#define CACHE_PREFIX "models--" /* how the cache of the Hugging Face hub names the folder of a model */

/* ---- Names ---- */

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Whether DIR/NAME is there; a link that leads nowhere is not. */
static bool has(const char *dir, const char *name) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path && access(path, F_OK) == 0;
}

static bool is_directory(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static bool has_weights(const char *dir) {
    return has(dir, INDEX_NAME) || has(dir, SINGLE_NAME);
}

/* The directory of a file, in the error's hint. */
static fr_status hint_directory(const char *path, fr_error *error) {
    const char *slash = strrchr(path, '/');
    if (!slash) return fr_hint(error, error->status, "name the directory that it is in: -m .");
    return fr_hint(error, error->status, "name the directory that it is in: -m %.*s", slash == path ? 1 : (int)(slash - path),
                   path);
}

/* ---- Files ---- */

static fr_status refuse_file(const char *path, fr_error *error) {
    char start[8] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool gguf = fd >= 0 && read(fd, start, 4) == 4 && memcmp(start, "GGUF", 4) == 0;
    if (fd >= 0) close(fd);
    if (gguf || ends_with(path, ".gguf")) {
        fr_fail_at(error, FR_ERROR_UNSUPPORTED, path, "a GGUF file; forerun reads the original safetensors");
        return fr_hint(error, FR_ERROR_UNSUPPORTED,
                       "download the checkpoint that it was made from, and name that directory with -m DIR");
    }
    const char *what = ends_with(path, ".safetensors")              ? "one file of weights, not a checkpoint's directory"
                       : ends_with(path, ".safetensors.index.json") ? "the index of a checkpoint, not its directory"
                       : ends_with(path, ".json")                   ? "a file beside the weights, not a checkpoint's directory"
                                                                    : "a file, not a checkpoint's directory";
    fr_fail_at(error, FR_ERROR_IO, path, "%s", what);
    if (ends_with(path, "/config.json") || strcmp(path, "config.json") == 0)
        return fr_hint(error, FR_ERROR_IO, "forerun inspect --config takes a config alone; -m takes the directory");
    return hint_directory(path, error);
}

/* ---- Directories ---- */

/* What is in a directory without weights that forerun reads. */
typedef struct contents {
    size_t entries, safetensors, pytorch, gguf, cached; /* cached: folders of models */
    char folder[256];                                   /* one that has weights; "" for none */
    char model[256];                                    /* a cached one */
} contents;

static void count_entry(contents *c, const char *dir, const char *name) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return;
    c->entries++;
    c->safetensors += ends_with(name, ".safetensors");
    c->gguf += ends_with(name, ".gguf");
    c->pytorch += ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth");
    if (strncmp(name, CACHE_PREFIX, strlen(CACHE_PREFIX)) == 0) {
        c->cached++;
        snprintf(c->model, sizeof c->model, "%s", name);
    }
    if (!*c->folder && is_directory(path) && has_weights(path)) snprintf(c->folder, sizeof c->folder, "%s", name);
}

static fr_status read_directory(const char *dir, contents *c, fr_error *error) {
    const struct dirent *entry;
    DIR *open = opendir(dir);
    *c = (contents){0};
    if (!open) return fr_fail_at(error, FR_ERROR_IO, dir, "%s", strerror(errno));
    while ((entry = readdir(open)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) count_entry(c, dir, entry->d_name);
    closedir(open);
    return FR_OK;
}

/* The error of a directory without weights. */
static fr_status refuse_directory(const char *dir, fr_error *error) {
    contents c;
    FR_TRY(read_directory(dir, &c, error));
    if (c.entries == 0) {
        fr_fail_at(error, FR_ERROR_IO, dir, "an empty directory");
        return fr_hint(error, FR_ERROR_IO, "a checkpoint's directory holds config.json and the weights as safetensors");
    }
    if (c.cached > 0) {
        fr_fail_at(error, FR_ERROR_IO, dir, "a Hugging Face cache with %zu %s, not one of them", c.cached,
                   c.cached == 1 ? "model" : "models");
        return fr_hint(error, FR_ERROR_IO, "name one: -m %.80s/%.120s", dir, c.model);
    }
    if (c.safetensors > 0) {
        fr_fail_at(error, FR_ERROR_IO, dir, "%zu %s of weights, but no " INDEX_NAME ", which says what is in each", c.safetensors,
                   c.safetensors == 1 ? "file" : "files");
        return fr_hint(error, FR_ERROR_IO,
                       c.safetensors == 1 ? "download the index, too; a file that is the whole checkpoint is called " SINGLE_NAME
                                          : "download the index, too; it is beside the weights");
    }
    if (c.pytorch > 0) {
        fr_fail_at(error, FR_ERROR_UNSUPPORTED, dir, "a PyTorch checkpoint (.bin); forerun reads safetensors");
        return fr_hint(error, FR_ERROR_UNSUPPORTED,
                       "many models have both; transformers' save_pretrained writes safetensors, too");
    }
    if (c.gguf > 0) {
        fr_fail_at(error, FR_ERROR_UNSUPPORTED, dir, "GGUF files; forerun reads the original safetensors");
        return fr_hint(error, FR_ERROR_UNSUPPORTED, "download the checkpoint that they were made from");
    }
    fr_fail_at(error, FR_ERROR_IO, dir, "no weights: neither " INDEX_NAME " nor " SINGLE_NAME " is there");
    if (*c.folder) return fr_hint(error, FR_ERROR_IO, "%.80s in it has some: -m %.80s/%.80s", c.folder, dir, c.folder);
    if (has(dir, "config.json"))
        return fr_hint(error, FR_ERROR_IO, "forerun inspect --config %.150s/config.json works without them", dir);
    if (has(dir, "tokenizer.json")) return fr_hint(error, FR_ERROR_IO, "forerun tokenize works without them");
    return fr_hint(error, FR_ERROR_IO, "name the directory that holds config.json and the weights");
}

/* ---- The cache of the Hugging Face hub: models--OWNER--NAME/snapshots/HASH ---- */

static int is_snapshot(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* `path` with the one snapshot of a folder behind it. */
static fr_status find_snapshot(const char *path, const char *folder, char **dir, fr_error *error) {
    struct dirent **entries;
    int count = scandir(folder, &entries, is_snapshot, alphasort);
    fr_status status = FR_OK;
    if (count < 0) return fr_fail_at(error, FR_ERROR_IO, folder, "%s", strerror(errno));
    if (count == 1) {
        *dir = fr_alloc(strlen(folder) + strlen(entries[0]->d_name) + 2);
        if (*dir)
            sprintf(*dir, "%s/%s", folder, entries[0]->d_name);
        else
            status = fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory for its name");
    } else if (count == 0) {
        status = fr_fail_at(error, FR_ERROR_IO, path, "a Hugging Face cache folder without a snapshot");
        fr_hint(error, status, "the download did not get that far: start it again");
    } else {
        char list[400];
        size_t used = 0;
        for (int i = 0; i < count && used < sizeof list; i++)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", entries[i]->d_name);
        status = fr_fail_at(error, FR_ERROR_IO, path, "a Hugging Face cache folder with %d snapshots: %s", count, list);
        fr_hint(error, status, "name one: -m %.150s/%.60s", folder, entries[0]->d_name);
    }
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    return status;
}

/* ---- What was named ---- */

/* A name like deepseek-ai/DeepSeek-V3, which other programs download. */
static bool is_hub_name(const char *path) {
    const char *slash = strchr(path, '/');
    return slash && slash > path && slash[1] && !strchr(slash + 1, '/') && path[0] != '.' && path[0] != '~';
}

static fr_status refuse_missing(const char *path, int reason, fr_error *error) {
    char parent[PATH_MAX];
    fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(reason));
    snprintf(parent, sizeof parent, "%s", path);
    if (strchr(parent, '/')) *strchr(parent, '/') = '\0';
    if (reason == ENOENT && is_hub_name(path) && !is_directory(parent))
        return fr_hint(error, FR_ERROR_IO, "forerun downloads nothing; hf download %.90s --local-dir DIR does, then -m DIR",
                       path);
    if (reason == EACCES) return fr_hint(error, FR_ERROR_IO, "you may not look into a directory on the way to it");
    return FR_ERROR_IO;
}

/* The folder of snapshots that a cache folder has, or is; false for another directory. */
static bool find_snapshots(const char *path, char *folder, size_t size) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    if (length + strlen("/snapshots") >= size) return false;
    snprintf(folder, size, "%.*s", (int)length, path);
    if (ends_with(folder, "/snapshots")) return true;
    strcat(folder, "/snapshots");
    return is_directory(folder);
}

fr_status fr_find_checkpoint(const char *path, bool weights, char **dir, fr_error *error) {
    fr_error own;
    struct stat about;
    char folder[PATH_MAX];
    if (!error) error = &own;
    *dir = NULL;
    if (stat(path, &about) != 0) return refuse_missing(path, errno, error);
    if (!S_ISDIR(about.st_mode)) return refuse_file(path, error);
    if (!has_weights(path) && find_snapshots(path, folder, sizeof folder))
        FR_TRY(find_snapshot(path, folder, dir, error));
    else if (!(*dir = fr_strdup(path)))
        return fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory for its name");
    if (!weights || has_weights(*dir)) return FR_OK;
    fr_status status = refuse_directory(*dir, error);
    fr_free(*dir);
    *dir = NULL;
    return status;
}
