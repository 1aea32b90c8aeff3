#include "core/processors.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/file.h"
#include "core/memory.h"

#ifdef __linux__

cpu_set_t *fr_affinity(size_t *bytes) {
    /* The system refuses a mask that is shorter than its own, whose length it does not say. */
    for (size_t count = 1024; count <= (size_t)1 << 20; count *= 2) {
        cpu_set_t *mask = CPU_ALLOC(count);
        *bytes = CPU_ALLOC_SIZE(count);
        if (!mask) return NULL;
        CPU_ZERO_S(*bytes, mask);
        if (sched_getaffinity(0, *bytes, mask) == 0) return mask;
        CPU_FREE(mask);
        if (errno != EINVAL) return NULL;
    }
    return NULL;
}

/* The number in a one-number file of a processor's topology, or -1. */
static int read_number(const char *root, size_t processor, const char *what) {
    char path[PATH_MAX], line[32];
    int value;
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%zu/topology/%s", root, processor, what);
    return fr_read_line(path, line, sizeof line) && sscanf(line, "%d", &value) == 1 ? value : -1;
}

int fr_cores_in_mask(const char *root, const cpu_set_t *mask, size_t bytes) {
    /* A core is a (package, core id) pair: hardware threads that share one are counted once. */
    struct core {
        int package, id;
    } *seen = fr_alloc((size_t)CPU_COUNT_S(bytes, mask) * sizeof *seen);
    int count = 0, known = 0;
    for (size_t processor = 0; processor < 8 * bytes; processor++) {
        if (!CPU_ISSET_S(processor, bytes, mask)) continue;
        struct core core = {read_number(root, processor, "physical_package_id"), read_number(root, processor, "core_id")};
        int i = 0;
        while (seen && core.id >= 0 && i < known && (seen[i].package != core.package || seen[i].id != core.id)) i++;
        if (seen && core.id >= 0 && i < known) continue;
        if (seen && core.id >= 0) seen[known++] = core;
        count++;
    }
    fr_free(seen);
    return count > 0 ? count : 1;
}

int fr_processors(void) {
    size_t bytes;
    cpu_set_t *mask = fr_affinity(&bytes);
    int count = mask ? CPU_COUNT_S(bytes, mask) : 1;
    CPU_FREE(mask);
    return count;
}

int fr_physical_cores(void) {
    size_t bytes;
    cpu_set_t *mask = fr_affinity(&bytes);
    int count = mask ? fr_cores_in_mask("", mask, bytes) : 1;
    CPU_FREE(mask);
    return count;
}

#else

int fr_processors(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}

int fr_physical_cores(void) {
    return fr_processors();
}

#endif

/* Lowers `least` to the processors' time that a group may take. */
static void lower_to_quota(const fr_cgroup *group, void *least) {
    char line[64];
    long long quota = -1, period = 0;
    if (group->version == 2) { /* "QUOTA PERIOD" in microseconds, or "max PERIOD" */
        if (!fr_cgroup_line(group, "cpu.max", line, sizeof line) || sscanf(line, "%lld %lld", &quota, &period) != 2) return;
    } else { /* a quota of -1: none */
        if (!fr_cgroup_line(group, "cpu.cfs_quota_us", line, sizeof line) || sscanf(line, "%lld", &quota) != 1) return;
        period = (long long)fr_cgroup_number(group, "cpu.cfs_period_us", 0);
    }
    if (quota < 0 || period <= 0) return;
    long long whole = quota / period;
    if (whole < *(int *)least) *(int *)least = whole > 0 ? (int)whole : 1;
}

int fr_processor_quota(const char *root) {
    int least = INT_MAX;
    fr_cgroup_each(root, "cpu", lower_to_quota, &least);
    return least;
}

int fr_default_threads(void) {
    int cores = fr_physical_cores(), quota = fr_processor_quota("");
    return cores < quota ? cores : quota;
}
