#include "core/available.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NO_LIMIT UINT64_MAX

/* A version of control groups keeps its figures in files of its own. Both count page cache as used, although it can be
 * dropped: memory.stat says how much of it there is. */
typedef struct cgroup_kind {
    const char *mount, *limits[2], *used, *cached[2];
} cgroup_kind;

static const cgroup_kind version_1 = {
    "/sys/fs/cgroup/memory",
    {"memory.limit_in_bytes", NULL},
    "memory.usage_in_bytes",
    {"total_inactive_file", "total_active_file"},
};
static const cgroup_kind version_2 = {
    "/sys/fs/cgroup",
    {"memory.max", "memory.high"}, /* above `high` a process is all but stopped */
    "memory.current",
    {"inactive_file", "active_file"},
};

static FILE *open_file(const char *root, const char *folder, const char *group, const char *name) {
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s%s%s/%s", root, folder, group, name) >= sizeof path) return NULL;
    return fopen(path, "re");
}

/* The number in a file of one number; `missing` when there is no file, or "max" in it. */
static uint64_t read_number(const char *root, const char *folder, const char *group, const char *name, uint64_t missing) {
    uint64_t value = missing;
    FILE *file = open_file(root, folder, group, name);
    if (!file) return missing;
    if (fscanf(file, "%" SCNu64, &value) != 1) value = missing;
    fclose(file);
    return value;
}

/* The sum of two of the lines "KEY VALUE" of memory.stat. */
static uint64_t read_stat(const char *root, const char *folder, const char *group, const char *const keys[2]) {
    char key[64];
    uint64_t value, sum = 0;
    FILE *file = open_file(root, folder, group, "memory.stat");
    while (file && fscanf(file, "%63s %" SCNu64, key, &value) == 2)
        if (strcmp(key, keys[0]) == 0 || strcmp(key, keys[1]) == 0) sum += value;
    if (file) fclose(file);
    return sum;
}

/* What one group leaves. */
static uint64_t left_in_group(const char *root, const cgroup_kind *kind, const char *group) {
    uint64_t limit = NO_LIMIT;
    for (int i = 0; i < 2 && kind->limits[i]; i++) {
        uint64_t value = read_number(root, kind->mount, group, kind->limits[i], NO_LIMIT);
        if (value < limit) limit = value;
    }
    if (limit >= NO_LIMIT / 4) return NO_LIMIT; /* how version 1 writes "none" */
    uint64_t used = read_number(root, kind->mount, group, kind->used, 0);
    uint64_t cached = read_stat(root, kind->mount, group, kind->cached);
    used -= cached < used ? cached : used;
    return used < limit ? limit - used : 1; /* 0 would say that nothing is known */
}

/* What a group and all groups above it leave. A container may not see its own group by the name that it has outside: then
 * it is mounted as the topmost, which is looked at in any case. `group` is cut up. */
static uint64_t left_in_groups(const char *root, const cgroup_kind *kind, char *group) {
    uint64_t least = NO_LIMIT;
    for (;;) {
        size_t length = strlen(group);
        while (length > 0 && group[length - 1] == '/') group[--length] = 0;
        uint64_t left = left_in_group(root, kind, group);
        if (left < least) least = left;
        if (length == 0) return least;
        *strrchr(group, '/') = 0;
    }
}

/* Whether `name` is among comma-separated names. */
static bool is_among(const char *names, const char *name) {
    size_t length = strlen(name);
    for (; *names; names += strcspn(names, ","), names += *names == ',')
        if (strcspn(names, ",") == length && strncmp(names, name, length) == 0) return true;
    return false;
}

/* Lines "ID:CONTROLLERS:/GROUP"; version 2 has ID 0 and names no controllers. */
static uint64_t left_by_cgroups(const char *root) {
    char line[PATH_MAX];
    uint64_t least = NO_LIMIT;
    FILE *file = open_file(root, "/proc/self", "", "cgroup");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group || group[1] != '/') continue;
        *controllers++ = 0;
        *group++ = 0;
        bool first = is_among(controllers, "memory"), second = strcmp(line, "0") == 0 && !*controllers;
        if (!first && !second) continue;
        uint64_t left = left_in_groups(root, first ? &version_1 : &version_2, group);
        if (left < least) least = left;
    }
    if (file) fclose(file);
    return least;
}

uint64_t fr_available_memory(const char *root) {
    uint64_t bytes = 0, kib;
    char line[128];
    FILE *file = open_file(root, "/proc", "", "meminfo");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1) bytes = kib << 10;
    if (file) fclose(file);
#ifdef _SC_AVPHYS_PAGES
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (!*root && bytes == 0 && pages > 0 && page > 0) bytes = (uint64_t)pages * (uint64_t)page;
#endif
    uint64_t left = left_by_cgroups(root);
    return left < bytes || (bytes == 0 && left != NO_LIMIT) ? left : bytes;
}
