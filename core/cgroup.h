/* Control groups of this process, versions 1 and 2. */
#ifndef FR_CORE_CGROUP_H
#define FR_CORE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

/* A group: its folder below /sys/fs/cgroup, and which version's files are in it. */
typedef struct fr_cgroup {
    int version;
    const char *folder;
} fr_cgroup;

/* Calls visit for the process's group and for all groups above it, whose limits hold too, in each hierarchy that `controller` may
 * be in. A container may not see its own group by the name that it has outside: then it is mounted as the topmost, which is
 * visited in any case. `root` goes before /proc and /sys: "" but in tests. */
void fr_cgroup_each(const char *root, const char *controller, void (*visit)(const fr_cgroup *group, void *user), void *user);

/* Reads the first line of a group's file into line; false when there is none. */
bool fr_cgroup_line(const fr_cgroup *group, const char *name, char *line, int size);
/* The number in a file of one number; `missing` when there is no file, or "max" in it. */
uint64_t fr_cgroup_number(const fr_cgroup *group, const char *name, uint64_t missing);

#endif
