/* Scratch directories for tests that need files of their own, or damaged copies of a reference checkpoint. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct scratch {
    char dir[256];
} scratch;

static inline scratch scratch_create(void) {
    scratch s;
    const char *base = getenv("TMPDIR");
    snprintf(s.dir, sizeof s.dir, "%s/forerun-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(s.dir)) abort();
    return s;
}

/* DIR/NAME, in one of a few buffers that take turns. */
static inline const char *scratch_path(const scratch *s, const char *name) {
    static char paths[4][1024];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", s->dir, name);
    return path;
}

static inline void scratch_write(const scratch *s, const char *name, const void *bytes, size_t count) {
    FILE *file = fopen(scratch_path(s, name), "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) abort();
}

static inline void scratch_write_text(const scratch *s, const char *name, const char *text) {
    scratch_write(s, name, text, strlen(text));
}

/* The whole file, NUL-terminated; release with free. */
static inline char *scratch_read(const char *path, size_t *count) {
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &info) != 0) abort();
    char *bytes = malloc((size_t)info.st_size + 1);
    if (!bytes || fread(bytes, 1, (size_t)info.st_size, file) != (size_t)info.st_size) abort();
    bytes[info.st_size] = '\0';
    fclose(file);
    *count = (size_t)info.st_size;
    return bytes;
}

/* A copy of one file, under a name. */
static inline void scratch_copy_file(const scratch *s, const char *name, const char *from) {
    size_t count;
    char *bytes = scratch_read(from, &count);
    scratch_write(s, name, bytes, count);
    free(bytes);
}

/* The regular files of a directory, without what is below it. */
static inline void scratch_copy_from(const scratch *s, const char *from) {
    char path[1024];
    DIR *dir = opendir(from);
    if (!dir) abort();
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", from, entry->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) scratch_copy_file(s, entry->d_name, path);
    }
    closedir(dir);
}

static inline void scratch_destroy(const scratch *s) {
    DIR *dir = opendir(s->dir);
    if (!dir) abort();
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) unlink(scratch_path(s, entry->d_name));
    closedir(dir);
    rmdir(s->dir);
}

/* DIR/PATH, its folders made; path begins with a slash. */
static inline void scratch_put(const scratch *s, const char *path, const char *text) {
    char folder[1024];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof folder, "%s%.*s", s->dir, (int)(slash - path), path);
        mkdir(folder, 0700);
    }
    scratch_write_text(s, path + 1, text);
}

static inline void scratch_remove_tree(const scratch *s) {
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    if (system(command) != 0) abort();
}

#endif
