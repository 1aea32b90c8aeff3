/* Threads. The code that computes is written as TEAM FUNCTIONS: every thread of an OpenMP team calls them with the same
 * arguments, work is shared by a static split or `#pragma omp for`, and each ends with a barrier, so that its result is
 * whole when it returns. Called outside a parallel region they run on one thread. A pass opens one parallel region.
 * No result depends on how many threads share the work: sums are never split between threads. */
#ifndef FR_CORE_THREADS_H
#define FR_CORE_THREADS_H

#ifdef _OPENMP
#include <omp.h>
static inline int fr_team_rank(void) { return omp_get_thread_num(); }
static inline int fr_team_size(void) { return omp_get_num_threads(); }
#else
static inline int fr_team_rank(void) { return 0; }
static inline int fr_team_size(void) { return 1; }
#endif

/* Physical cores that this process may run on, at least 1. */
int fr_physical_cores(void);

/* Part `i` of `parts` of [0, count), in whole units of `unit` (the last may be partial); parts differ by at most one unit. */
static inline void fr_split(int count, int unit, int parts, int i, int *begin, int *end) {
    long long units = ((long long)count + unit - 1) / unit;
    long long b = units * i / parts * unit, e = units * (i + 1) / parts * unit;
    *begin = (int)(b < count ? b : count);
    *end = (int)(e < count ? e : count);
}

/* This thread's part of [0, count). */
static inline void fr_team_split(int count, int unit, int *begin, int *end) {
    fr_split(count, unit, fr_team_size(), fr_team_rank(), begin, end);
}

#endif
