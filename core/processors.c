#include "core/processors.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "core/file.h"

#ifdef __linux__

/* The number in a one-number file of /sys, or -1. */
static int read_number(int cpu, const char *what) {
    char path[128], line[32];
    int value;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    return fr_read_line(path, line, sizeof line) && sscanf(line, "%d", &value) == 1 ? value : -1;
}

int fr_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int fr_physical_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    /* A core is a (package, core id) pair: hardware threads that share one are counted once. */
    struct {
        int package, core;
    } seen[CPU_SETSIZE];
    int count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        int package = read_number(cpu, "physical_package_id"), core = read_number(cpu, "core_id");
        int i = 0;
        while (core >= 0 && i < count && (seen[i].package != package || seen[i].core != core)) i++;
        if (core >= 0 && i < count) continue;
        seen[count].package = core >= 0 ? package : -2;
        seen[count].core = core;
        count++;
    }
    return count > 0 ? count : 1;
}
#else
int fr_processors(void) {
    return fr_physical_cores();
}

int fr_physical_cores(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}
#endif
