#include "core/available.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cgroup.h"

#define NO_LIMIT UINT64_MAX

/* A version of control groups keeps its figures in files of its own. Both count page cache as used, although it can be
 * dropped: memory.stat says how much of it there is. */
typedef struct memory_files {
    const char *limits[2], *used, *cached[2];
} memory_files;

static const memory_files version_1 = {
    {"memory.limit_in_bytes", NULL},
    "memory.usage_in_bytes",
    {"total_inactive_file", "total_active_file"},
};
static const memory_files version_2 = {
    {"memory.max", "memory.high"}, /* above `high` a process is all but stopped */
    "memory.current",
    {"inactive_file", "active_file"},
};

/* The sum of two of the lines "KEY VALUE" of memory.stat. */
static uint64_t read_stat(const fr_cgroup *group, const char *const keys[2]) {
    char path[PATH_MAX], key[64];
    uint64_t value, sum = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/memory.stat", group->folder) >= sizeof path) return 0;
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%63s %" SCNu64, key, &value) == 2)
        if (strcmp(key, keys[0]) == 0 || strcmp(key, keys[1]) == 0) sum += value;
    if (file) fclose(file);
    return sum;
}

/* What one group leaves. */
static uint64_t left_in_group(const fr_cgroup *group) {
    const memory_files *files = group->version == 1 ? &version_1 : &version_2;
    uint64_t limit = NO_LIMIT;
    for (int i = 0; i < 2 && files->limits[i]; i++) {
        uint64_t value = fr_cgroup_number(group, files->limits[i], NO_LIMIT);
        if (value < limit) limit = value;
    }
    if (limit >= NO_LIMIT / 4) return NO_LIMIT; /* how version 1 writes "none" */
    uint64_t used = fr_cgroup_number(group, files->used, 0), cached = read_stat(group, files->cached);
    used -= cached < used ? cached : used;
    return used < limit ? limit - used : 1; /* 0 would say that nothing is known */
}

static void lower_to_group(const fr_cgroup *group, void *least) {
    uint64_t left = left_in_group(group);
    if (left < *(uint64_t *)least) *(uint64_t *)least = left;
}

uint64_t fr_available_memory(const char *root) {
    uint64_t bytes = 0, kib;
    char line[128], path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/proc/meminfo", root) >= sizeof path) return 0;
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1) bytes = kib << 10;
    if (file) fclose(file);
#ifdef _SC_AVPHYS_PAGES
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (!*root && bytes == 0 && pages > 0 && page > 0) bytes = (uint64_t)pages * (uint64_t)page;
#endif
    uint64_t left = NO_LIMIT;
    fr_cgroup_each(root, "memory", lower_to_group, &left);
    return left < bytes || (bytes == 0 && left != NO_LIMIT) ? left : bytes;
}
