/* The machine as hwloc sees it, within the affinity mask of the thread that opens it: where threads and memory go. Built without
 * hwloc nothing is known. (HWLOC_SYNTHETIC="pack:2 l3:4 core:4 pu:2" lets hwloc describe a made-up machine, where nothing can be
 * bound: for tests.) */
#ifndef FR_CORE_TOPOLOGY_H
#define FR_CORE_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/barrier.h"

typedef struct fr_topology fr_topology;

/* NULL: not known. */
fr_topology *fr_topology_open(void);
void fr_topology_close(fr_topology *topology);

int fr_topology_cores(const fr_topology *topology);
int fr_topology_nodes(const fr_topology *topology); /* that have memory, at least 1 */

/* Where a thread goes: neighbouring cores, one if there are as many threads. */
typedef struct fr_core_range {
    int first, count; /* in the machine's order: those of a cache, then those of a node, lie together */
    fr_seat seat;     /* of the first core */
} fr_core_range;

/* Spreads threads evenly over all cores; false when there are more threads than cores: then none has a place of its own. */
bool fr_topology_spread(const fr_topology *topology, int threads, fr_core_range *places);
/* Binds the calling thread to a place, NULL: to all that the topology has. False when the system does not let it, or is not
 * Linux. Allocates nothing. */
bool fr_topology_bind(const fr_topology *topology, const fr_core_range *place);

/* Spreads memory that is not yet in use over all nodes, by pages of whatever size the system gives it: huge ones of 2 MiB, as a
 * rule. */
bool fr_topology_interleave(const fr_topology *topology, void *memory, size_t bytes);

#endif
