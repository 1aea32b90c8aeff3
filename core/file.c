#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"

/* Reads `most` bytes or to the end, whichever comes first: an end before `most` is no error, the file was cut meanwhile.
 * room: how much to begin with. Returns 0 or an errno. */
static int read_bytes(int fd, size_t room, size_t most, char **bytes, size_t *length) {
    size_t done = 0;
    char *buffer = fr_alloc(room + 1);
    int problem = buffer ? 0 : ENOMEM;
    while (!problem && done < most) {
        if (done == room) {
            char *grown = fr_grow(buffer, room, 2 * room + 1);
            if (!grown) problem = ENOMEM;
            if (!grown) break;
            buffer = grown;
            room *= 2;
        }
        ssize_t n = read(fd, buffer + done, room - done);
        if (n == 0) break;
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            problem = errno;
    }
    if (problem) {
        fr_free(buffer);
        return problem;
    }
    buffer[done] = '\0';
    *bytes = buffer;
    *length = done;
    return 0;
}

bool fr_is_there(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 || errno != ENOENT;
}

fr_status fr_fail_open(fr_error *error, const char *path) {
    int reason = errno;
    struct stat st;
    bool dangling = reason == ENOENT && lstat(path, &st) == 0;
    fr_fail_at(error, FR_ERROR_IO, path, "%s", dangling ? "a link to a file that is not there" : strerror(reason));
    if (dangling) fr_hint(error, FR_ERROR_IO, "the download is incomplete, or what the link leads to was removed");
    return FR_ERROR_IO;
}

fr_status fr_read_file(const char *path, uint64_t limit, char **bytes, size_t *length, fr_error *error) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO does not wait for a writer; regular files do not care */
    if (fd < 0) return fr_fail_open(error, path);
    fr_status status = FR_OK;
    if (fstat(fd, &st) != 0)
        status = fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = fr_fail_at(error, FR_ERROR_IO, path, "not a regular file");
    else if ((uint64_t)st.st_size > limit)
        status = fr_fail_at(error, FR_ERROR_FORMAT, path, "%" PRIu64 " bytes, at most %" PRIu64 " are expected of such a file",
                            (uint64_t)st.st_size, limit);
    int problem = status == FR_OK ? read_bytes(fd, (size_t)st.st_size, (size_t)st.st_size, bytes, length) : 0;
    close(fd);
    if (problem == ENOMEM) return fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory for %zu bytes", (size_t)st.st_size);
    return problem ? fr_fail_at(error, FR_ERROR_IO, path, "%s", strerror(problem)) : status;
}

fr_status fr_read_input(const char *path, char **bytes, size_t *length, fr_error *error) {
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (standard) path = "standard input";
    int problem = fd < 0 ? errno : read_bytes(fd, 1 << 16, SIZE_MAX, bytes, length);
    if (!standard && fd >= 0) close(fd);
    if (problem == ENOMEM) return fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory for what is in it");
    return problem ? fr_fail_at(error, FR_ERROR_IO, path, "cannot read: %s", strerror(problem)) : FR_OK;
}

bool fr_is_lfs_pointer(const char *bytes, size_t length, uint64_t *size) {
    static const char start[] = "version https://git-lfs.github.com/spec/";
    char text[512];
    if (length < strlen(start) || length >= sizeof text || memcmp(bytes, start, strlen(start)) != 0) return false;
    memcpy(text, bytes, length);
    text[length] = '\0';
    const char *line = strstr(text, "\nsize ");
    *size = line ? strtoull(line + strlen("\nsize "), NULL, 10) : 0;
    return true;
}

fr_status fr_fail_lfs(fr_error *error, const char *where, uint64_t size) {
    fr_fail_at(error, FR_ERROR_FORMAT, where, "a git-lfs pointer to %" PRIu64 " bytes, not the file itself", size);
    return fr_hint(error, FR_ERROR_FORMAT, "git lfs pull in its directory fetches all files that pointers stand for");
}

bool fr_read_line(const char *path, char *line, int size) {
    FILE *file = fopen(path, "re");
    bool read = file && fgets(line, size, file);
    if (file) fclose(file);
    if (read) line[strcspn(line, "\n")] = '\0';
    return read;
}
