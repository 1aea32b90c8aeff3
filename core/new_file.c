#include "core/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_WRITERS = 100 };

fr_status fr_fail_write(fr_error *error, const char *path, int number) {
    fr_status status =
        fr_fail_at(error, number == ENOMEM ? FR_ERROR_MEMORY : FR_ERROR_IO, path, "cannot write: %s", strerror(number));
    if (number == ENOSPC || number == EDQUOT) return fr_hint(error, status, "make room, or write to another disk");
    if (number == EROFS || number == EACCES) return fr_hint(error, status, "name a folder that can be written to");
    return status;
}

/* offset: -1 for where the last write ended. */
static int write_all(int fd, const char *from, uint64_t count, off_t offset) {
    while (count > 0) {
        size_t step = count < 1u << 30 ? (size_t)count : 1u << 30;
        ssize_t n = offset < 0 ? write(fd, from, step) : pwrite(fd, from, step, offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : ENOSPC;
        from += n;
        offset += offset < 0 ? 0 : n;
        count -= (uint64_t)n;
    }
    return 0;
}

int fr_write(int fd, const void *bytes, uint64_t count) {
    return write_all(fd, bytes, count, -1);
}

int fr_write_at(int fd, const void *bytes, uint64_t count, uint64_t offset) {
    return write_all(fd, bytes, count, (off_t)offset);
}

/* ---- Names ---- */

static int folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

char *fr_partial_name(const char *path, int number) {
    char *name, digits[16] = "";
    int length = folder_length(path);
    if (number > 0) snprintf(digits, sizeof digits, "%d", number);
    return asprintf(&name, "%.*s.%s.partial%s", length, path, path + length, digits) < 0 ? NULL : name;
}

int fr_sync_folder(const char *folder) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? 0 : errno;
    int number = fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
    close(fd);
    return number;
}

/* ---- A new file ---- */

/* Opens the file of that name, and locks it. Returns its descriptor; -1 with EEXIST where another process writes it. Where locks
 * are not to be had there are none. */
static int take(const char *name) {
    struct stat opened, named;
    for (;;) {
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd < 0) return -1;
        bool busy = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        bool ours = !busy && fstat(fd, &opened) == 0 && lstat(name, &named) == 0 && opened.st_ino == named.st_ino &&
                    opened.st_dev == named.st_dev; /* its writer did not rename or remove it before it was locked */
        if (ours && ftruncate(fd, 0) == 0) return fd;
        int number = busy ? EEXIST : errno;
        if (ours) unlink(name);
        close(fd);
        errno = number;
        if (busy || ours) return -1;
    }
}

/* What is there and is no regular file is written as it is, a device or a pipe; so is a file that has no name any more. A link to
 * a file, /dev/stdout above all, stays one. */
static bool opened_in_place(fr_new_file *file) {
    struct stat about, named;
    if (stat(file->path, &about) != 0) return false;
    bool regular = S_ISREG(about.st_mode), link = lstat(file->path, &named) == 0 && S_ISLNK(named.st_mode);
    if (regular && link) file->linked = realpath(file->path, NULL);
    if (regular && (!link || file->linked)) return false;
    file->fd = open(file->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    return true;
}

static const char *place_of(const fr_new_file *file) {
    return file->linked ? file->linked : file->path;
}

/* Returns 0 or an errno. */
static int open_temporary(fr_new_file *file) {
    int number = EEXIST;
    for (int i = 0; i < MOST_WRITERS && number == EEXIST; i++) {
        file->temporary = fr_partial_name(place_of(file), i);
        if (!file->temporary) return ENOMEM;
        file->fd = take(file->temporary);
        if (file->fd >= 0) return 0;
        number = errno;
        free(file->temporary);
        file->temporary = NULL;
    }
    return number;
}

fr_status fr_new_file_open(fr_new_file *file, const char *path, fr_error *error) {
    *file = (fr_new_file){.path = path, .fd = -1};
    int number = !opened_in_place(file) ? open_temporary(file) : file->fd < 0 ? errno : 0;
    if (!number) return FR_OK;
    fr_new_file_discard(file);
    return fr_fail_write(error, path, number);
}

/* The lock is given up last, when the temporary name is free again. Returns 0 or an errno. */
static int release(fr_new_file *file) {
    int number = file->fd >= 0 && close(file->fd) != 0 ? errno : 0;
    free(file->temporary);
    free(file->linked);
    *file = (fr_new_file){.fd = -1};
    return number;
}

void fr_new_file_discard(fr_new_file *file) {
    if (file->temporary) unlink(file->temporary);
    release(file);
}

/* Returns 0 or an errno. */
static int name_it(fr_new_file *file, bool durable) {
    if (durable && fsync(file->fd) != 0 && errno != EINVAL && errno != EROFS) return errno;
    return file->temporary && rename(file->temporary, place_of(file)) != 0 ? errno : 0;
}

static int sync_name(const char *path) {
    int length = folder_length(path);
    char *folder = strndup(length ? path : ".", length ? (size_t)length : 1);
    int number = folder ? fr_sync_folder(folder) : ENOMEM;
    free(folder);
    return number;
}

fr_status fr_new_file_finish(fr_new_file *file, bool durable, fr_error *error) {
    const char *path = file->path;
    int number = name_it(file, durable);
    if (number) {
        fr_new_file_discard(file);
        return fr_fail_write(error, path, number);
    }
    int unsynced = durable && file->temporary ? sync_name(place_of(file)) : 0;
    number = release(file);
    if (!number) number = unsynced;
    return number ? fr_fail_write(error, path, number) : FR_OK;
}

fr_status fr_replace_file(const char *path, const void *bytes, size_t count, bool durable, fr_error *error) {
    fr_new_file file;
    FR_TRY(fr_new_file_open(&file, path, error));
    int number = fr_write(file.fd, bytes, count);
    if (!number) return fr_new_file_finish(&file, durable, error);
    fr_new_file_discard(&file);
    return fr_fail_write(error, path, number);
}
