/* Ranks that are threads of the test: the transport of core/ranks without MPI, so that every build can test what ranks compute.
 * Linked with truth, as the driver is. */
#ifndef FR_TESTS_THREAD_RANKS_H
#define FR_TESTS_THREAD_RANKS_H

#include "core/ranks.h"

enum { MAX_THREAD_RANKS = 8 };

/* Runs work(ranks, user) on `size` threads, one for each rank, and returns when all have come back. */
void run_ranks(int size, void (*work)(const fr_ranks *ranks, void *user), void *user);

#endif
