/* A library for LD_PRELOAD that makes calls of the system fail, as disks and kernels do. What it does comes from the environment:
 *
 *   FAULT_CALLS   which calls count, by commas: open read pread write pwrite fsync rename truncate mmap (each with its kin, as
 *                 openat, fdatasync, renameat, pwrite64)
 *   FAULT_PATH    only those of files whose path holds this text; FAULT_NOT of files whose path does not
 *   FAULT_AT      which of them, from 1; 0 (the default) is none, and all are counted only
 *   FAULT_FOR     how many from there on; the default is 1
 *   FAULT_DO      what happens: EIO, ENOSPC, EROFS, EINTR, EMFILE, ENOMEM: the call fails so; short: half of the bytes; end: a
 * read that finds the file's end; kill: the process is killed before the call FAULT_COUNT   a file to which the number of such
 * calls is written at the end
 *
 * Calls that the C library makes for itself (stdio) are not seen. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

static const struct {
    const char *name;
    int number;
} numbers[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EROFS", EROFS},  {"EINTR", EINTR},
               {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"EACCES", EACCES}};

typedef enum fault { NO_FAULT, FAIL, SHORT, END } fault;

static atomic_long seen;

__attribute__((destructor)) static void write_count(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "we") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", atomic_load(&seen));
    fclose(file);
}

static bool has_word(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || !at[length])) return true;
    return false;
}

static long number_of(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

static bool is_meant(const char *call, const char *path) {
    const char *calls = getenv("FAULT_CALLS"), *only = getenv("FAULT_PATH"), *not = getenv("FAULT_NOT");
    if (!calls || !has_word(calls, call)) return false;
    return !(only && !strstr(path, only)) && !(not &&strstr(path, not ));
}

/* What is to happen to a call; errno is set for one that fails. */
static fault next(const char *call, const char *path) {
    if (!is_meant(call, path)) return NO_FAULT;
    long at = number_of("FAULT_AT", 0), i = atomic_fetch_add(&seen, 1) + 1;
    if (at == 0 || i < at || i >= at + number_of("FAULT_FOR", 1)) return NO_FAULT;
    const char *what = getenv("FAULT_DO");
    if (!what) return NO_FAULT;
    if (strcmp(what, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(what, "short") == 0) return SHORT;
    if (strcmp(what, "end") == 0) return END;
    errno = EIO;
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        if (strcmp(what, numbers[k].name) == 0) errno = numbers[k].number;
    return FAIL;
}

static fault next_of_fd(const char *call, int fd) {
    char link[64], path[4096];
    int number = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    errno = number;
    return next(call, path);
}

/* The next definition of a function, as whatever type it is. */
#define REAL(type, name, ...)                                                                                                    \
    static type (*real)(__VA_ARGS__);                                                                                            \
    if (!real) *(void **)(&real) = dlsym(RTLD_NEXT, #name)

static size_t cut(fault f, size_t count) {
    return f == SHORT && count > 1 ? count / 2 : count;
}

#define OPEN(name)                                                                                                               \
    SHOWN int name(const char *path, int flags, ...);                                                                            \
    int name(const char *path, int flags, ...) {                                                                                 \
        REAL(int, name, const char *, int, ...);                                                                                 \
        va_list arguments;                                                                                                       \
        va_start(arguments, flags);                                                                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;                                             \
        va_end(arguments);                                                                                                       \
        return next("open", path) ? -1 : real(path, flags, mode);                                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                             \
    SHOWN int name(int folder, const char *path, int flags, ...);                                                                \
    int name(int folder, const char *path, int flags, ...) {                                                                     \
        REAL(int, name, int, const char *, int, ...);                                                                            \
        va_list arguments;                                                                                                       \
        va_start(arguments, flags);                                                                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;                                             \
        va_end(arguments);                                                                                                       \
        return next("open", path) ? -1 : real(folder, path, flags, mode);                                                        \
    }
OPENAT(openat)
OPENAT(openat64)

SHOWN ssize_t read(int fd, void *to, size_t count);
ssize_t read(int fd, void *to, size_t count) {
    REAL(ssize_t, read, int, void *, size_t);
    fault f = next_of_fd("read", fd);
    return f == FAIL ? -1 : f == END ? 0 : real(fd, to, cut(f, count));
}

#define PREAD(name)                                                                                                              \
    SHOWN ssize_t name(int fd, void *to, size_t count, off_t at);                                                                \
    ssize_t name(int fd, void *to, size_t count, off_t at) {                                                                     \
        REAL(ssize_t, name, int, void *, size_t, off_t);                                                                         \
        fault f = next_of_fd("pread", fd);                                                                                       \
        return f == FAIL ? -1 : f == END ? 0 : real(fd, to, cut(f, count), at);                                                  \
    }
PREAD(pread)
PREAD(pread64)

SHOWN ssize_t write(int fd, const void *from, size_t count);
ssize_t write(int fd, const void *from, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    fault f = next_of_fd("write", fd);
    return f == FAIL ? -1 : real(fd, from, cut(f, count));
}

#define PWRITE(name)                                                                                                             \
    SHOWN ssize_t name(int fd, const void *from, size_t count, off_t at);                                                        \
    ssize_t name(int fd, const void *from, size_t count, off_t at) {                                                             \
        REAL(ssize_t, name, int, const void *, size_t, off_t);                                                                   \
        fault f = next_of_fd("pwrite", fd);                                                                                      \
        return f == FAIL ? -1 : real(fd, from, cut(f, count), at);                                                               \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define SYNC(name)                                                                                                               \
    SHOWN int name(int fd);                                                                                                      \
    int name(int fd) {                                                                                                           \
        REAL(int, name, int);                                                                                                    \
        return next_of_fd("fsync", fd) ? -1 : real(fd);                                                                          \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name)                                                                                                           \
    SHOWN int name(int fd, off_t size);                                                                                          \
    int name(int fd, off_t size) {                                                                                               \
        REAL(int, name, int, off_t);                                                                                             \
        return next_of_fd("truncate", fd) ? -1 : real(fd, size);                                                                 \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

SHOWN int rename(const char *from, const char *to);
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return next("rename", to) ? -1 : real(from, to);
}

SHOWN int renameat(int from_folder, const char *from, int to_folder, const char *to);
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    return next("rename", to) ? -1 : real(from_folder, from, to_folder, to);
}

#define MMAP(name)                                                                                                               \
    SHOWN void *name(void *address, size_t bytes, int protection, int flags, int fd, off_t at);                                  \
    void *name(void *address, size_t bytes, int protection, int flags, int fd, off_t at) {                                       \
        REAL(void *, name, void *, size_t, int, int, int, off_t);                                                                \
        return fd >= 0 && next_of_fd("mmap", fd) ? MAP_FAILED : real(address, bytes, protection, flags, fd, at);                 \
    }
MMAP(mmap)
MMAP(mmap64)
