#include "core/checkpoint/staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/new_file.h"

enum { MAX_NAME = 255, TEMPORARY = MAX_NAME + 16, COPY_STEP = 1 << 20 };

static fr_status no_memory(const fr_staging *s, fr_error *error) {
    return fr_fail_at(error, FR_ERROR_MEMORY, s->dir, "no memory to write it");
}

fr_status fr_staging_fail(const fr_staging *s, const char *name, int number, fr_error *error) {
    return fr_fail_write(error, fr_place_of("%s/%s", s->dir, name).text, number);
}

static void temporary_name(const char *name, char *out, size_t size) {
    snprintf(out, size, ".%s.partial", name);
}

/* ---- The directory ---- */

/* Whether it is one of those names. */
static bool is_temporary(const char *name) {
    static const char end[] = ".partial";
    size_t length = strlen(name);
    return name[0] == '.' && length >= sizeof end && strcmp(name + length - (sizeof end - 1), end) == 0;
}

/* Removes what a run left that was killed. Returns whether nothing else is there. */
static bool clear(DIR *list, int dir_fd) {
    bool empty = true;
    for (struct dirent *item; (item = readdir(list));) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
        if (!is_temporary(item->d_name) || unlinkat(dir_fd, item->d_name, 0) != 0) empty = false;
    }
    return empty;
}

/* Takes the directory and, where locks are to be had, holds one on it: no other run writes there until close. */
static fr_status take_directory(fr_staging *s, bool force, fr_error *error) {
    s->made_dir = mkdir(s->dir, 0777) == 0;
    if (!s->made_dir && errno != EEXIST)
        return fr_fail_at(error, FR_ERROR_IO, s->dir, "cannot make the directory: %s", strerror(errno));
    s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir_fd < 0) return fr_fail_at(error, FR_ERROR_IO, s->dir, "%s", strerror(errno));
    if (flock(s->dir_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return fr_fail_at(error, FR_ERROR_IO, s->dir, "another run is writing into this directory");
    DIR *list = opendir(s->dir);
    if (!list) return fr_fail_at(error, FR_ERROR_IO, s->dir, "%s", strerror(errno));
    bool empty = clear(list, s->dir_fd);
    closedir(list);
    if (empty || force) return FR_OK;
    return fr_hint(error, fr_fail_at(error, FR_ERROR_IO, s->dir, "the directory is not empty"),
                   "name a new directory, or force writing into this one");
}

fr_status fr_staging_open(fr_staging *s, const char *dir, bool force, fr_error *error) {
    *s = (fr_staging){.dir = fr_strdup(dir), .dir_fd = -1};
    return s->dir ? take_directory(s, force, error) : fr_fail_at(error, FR_ERROR_MEMORY, dir, "no memory");
}

void fr_staging_close(fr_staging *s) {
    for (size_t i = 0; i < s->num_files; i++) {
        char temporary[TEMPORARY];
        temporary_name(s->files[i], temporary, sizeof temporary);
        if (!s->published) unlinkat(s->dir_fd, i < s->num_named ? s->files[i] : temporary, 0);
        fr_free(s->files[i]);
    }
    if (s->dir_fd >= 0) close(s->dir_fd);
    if (s->made_dir && !s->published) rmdir(s->dir);
    fr_free(s->files);
    fr_free(s->dir);
    *s = (fr_staging){.dir_fd = -1};
}

fr_status fr_staging_publish(fr_staging *s, const char *index, fr_error *error) {
    char temporary[TEMPORARY];
    if (unlinkat(s->dir_fd, index, 0) != 0 && errno != ENOENT) return fr_staging_fail(s, index, errno, error);
    for (; s->num_named < s->num_files; s->num_named++) {
        const char *name = s->files[s->num_named];
        temporary_name(name, temporary, sizeof temporary);
        if (renameat(s->dir_fd, temporary, s->dir_fd, name) != 0) return fr_staging_fail(s, name, errno, error);
    }
    s->published = true;
    int number = fr_sync_folder(s->dir);
    return number ? fr_staging_fail(s, index, number, error) : FR_OK;
}

/* ---- Files ---- */

/* On the list are the files that publish names and close removes. */
fr_status fr_staging_create(fr_staging *s, const char *name, int *fd, fr_error *error) {
    char temporary[TEMPORARY];
    if (strlen(name) > MAX_NAME) return fr_staging_fail(s, name, ENAMETOOLONG, error);
    if (s->num_files == s->room) {
        size_t room = 2 * s->room + 16;
        char **grown = fr_grow(s->files, s->num_files * sizeof *grown, room * sizeof *grown);
        if (!grown) return no_memory(s, error);
        s->files = grown;
        s->room = room;
    }
    char *kept = fr_strdup(name);
    if (!kept) return no_memory(s, error);
    temporary_name(name, temporary, sizeof temporary);
    *fd = openat(s->dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*fd < 0) {
        fr_free(kept);
        return fr_staging_fail(s, name, errno, error);
    }
    s->files[s->num_files++] = kept;
    return FR_OK;
}

fr_status fr_staging_finish(const fr_staging *s, int fd, const char *name, fr_error *error) {
    int number = fdatasync(fd) != 0 && errno != EINVAL && errno != EROFS ? errno : 0;
    if (close(fd) != 0 && !number) number = errno;
    return number ? fr_staging_fail(s, name, number, error) : FR_OK;
}

fr_status fr_staging_file(fr_staging *s, const char *name, const void *data, size_t bytes, fr_error *error) {
    int fd;
    FR_TRY(fr_staging_create(s, name, &fd, error));
    int number = fr_write_at(fd, data, bytes, 0);
    if (number) {
        close(fd);
        return fr_staging_fail(s, name, number, error);
    }
    return fr_staging_finish(s, fd, name, error);
}

static fr_status copy_data(fr_staging *s, int from, const char *from_dir, const char *name, fr_error *error) {
    int fd, number = 0;
    char *buffer = fr_alloc(COPY_STEP);
    if (!buffer) return no_memory(s, error);
    fr_status status = fr_staging_create(s, name, &fd, error);
    for (uint64_t at = 0; status == FR_OK;) {
        ssize_t n = read(from, buffer, COPY_STEP);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) break;
        if (n < 0)
            status = fr_fail_at(error, FR_ERROR_IO, fr_place_of("%s/%s", from_dir, name).text, "%s", strerror(errno));
        else if ((number = fr_write_at(fd, buffer, (uint64_t)n, at)))
            status = fr_staging_fail(s, name, number, error);
        at += (uint64_t)(n > 0 ? n : 0);
        if (status != FR_OK) close(fd);
    }
    fr_free(buffer);
    return status == FR_OK ? fr_staging_finish(s, fd, name, error) : status;
}

fr_status fr_staging_copy(fr_staging *s, const char *from_dir, const char *name, fr_error *error) {
    char *path = NULL;
    struct stat info;
    if (asprintf(&path, "%s/%s", from_dir, name) < 0) return no_memory(s, error);
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    fr_status status = FR_OK;
    if (from < 0 || fstat(from, &info) != 0)
        status = fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = fr_fail_at(error, FR_ERROR_IO, path, "not a regular file");
    else
        status = copy_data(s, from, from_dir, name, error);
    if (from >= 0) close(from);
    free(path);
    return status;
}
