/* Threads. The code that computes is written as TEAM FUNCTIONS: every thread of a team calls them with the same arguments,
 * work is shared by a static split, and each ends with a barrier, so that its result is whole when it returns. Called
 * outside a team they run on one thread. A pass is one team:
 *
 *     fr_team team = FR_TEAM;
 *     #pragma omp parallel num_threads(threads)
 *     {
 *         fr_team_enter(&team);
 *         ...
 *         fr_team_leave();
 *     }
 *
 * OpenMP starts the threads. The barrier is our own: a pass has hundreds, and how long to spin at one is ours to say (the
 * runtimes' spin for milliseconds, which costs a busy machine dearly, or sleep at once, or even allocate).
 * No result depends on how many threads share the work: sums are never split between threads. */
#ifndef FR_CORE_THREADS_H
#define FR_CORE_THREADS_H

#include <stdalign.h>
#include <stdatomic.h>

/* What a team's threads share; belongs to the thread that opens the region. */
typedef struct fr_team {
    alignas(64) atomic_int arrived; /* at the barrier of this round */
    alignas(64) atomic_uint round;  /* barriers passed */
    atomic_int asleep;
} fr_team;
#define FR_TEAM                                                                                                                  \
    { 0 }

/* First and last in a parallel region, by all its threads. Regions do not nest. */
void fr_team_enter(fr_team *team);
void fr_team_leave(void);

/* Of the calling thread: 0 of 1 outside a team. */
int fr_team_rank(void);
int fr_team_size(void);
/* Nobody goes on before all have come. What they wrote before, all see after. */
void fr_team_barrier(void);

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
