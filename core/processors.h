/* The processors that this process may use. */
#ifndef FR_CORE_PROCESSORS_H
#define FR_CORE_PROCESSORS_H

#include <stddef.h>

/* Those that the calling thread's affinity mask allows, hardware threads of a core each counted; at least 1. */
int fr_processors(void);
/* Physical cores of those, at least 1. */
int fr_physical_cores(void);
/* Whole processors whose time this process's control groups (version 1 and 2, the tightest of all groups above it) let it take,
 * at least 1; INT_MAX: all. `root` goes before /proc and /sys: "" but in tests. */
int fr_processor_quota(const char *root);
/* How many threads compute when nobody says: one a physical core within the quota. A team of more would be stopped in the middle
 * of its work. */
int fr_default_threads(void);

#ifdef __linux__
#include <sched.h>
/* The calling thread's affinity mask, of any number of processors: `bytes` long, released with CPU_FREE. NULL: no memory. */
cpu_set_t *fr_affinity(size_t *bytes);
/* Physical cores of the processors in a mask, by the topology in `root`/sys. A processor whose core is not said there is one. */
int fr_cores_in_mask(const char *root, const cpu_set_t *mask, size_t bytes);
#endif

#endif
