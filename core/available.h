/* How much memory there is to be had. */
#ifndef FR_CORE_AVAILABLE_H
#define FR_CORE_AVAILABLE_H

#include <stdint.h>

/* Bytes that this process can still take: what the system can give without swapping (page cache that it can drop included),
 * and no more than the process's control groups (version 1 and 2, with all groups above them) leave. 0: unknown.
 * `root` goes before /proc and /sys: "" but in tests. */
uint64_t fr_available_memory(const char *root);

#endif
