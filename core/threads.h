/* Threads. The code that computes is written as TEAM FUNCTIONS: every thread of a team calls them with the same arguments,
 * work is shared by a static split, and each ends with a barrier, so that its result is whole when it returns. Called
 * outside a team they run on one thread. A pass is one run of a team:
 *
 *     static void pass(void *argument) { ... team functions ... }
 *     fr_team_run(threads, pass, &arguments);
 *
 * A thread that calls fr_team_run has a team of its own from then on, whose threads sleep between runs; a forked child begins
 * with none. Both they and barriers are our own rather than OpenMP's: a pass has hundreds of barriers, and how long to spin at
 * one is ours to say (the runtimes' spin for milliseconds, which costs a busy machine dearly, or sleep at once, or even
 * allocate), and so is who takes part (core/members.h). No result depends on how many threads share the work: sums are never
 * split between threads. */
#ifndef FR_CORE_THREADS_H
#define FR_CORE_THREADS_H

#include <stdbool.h>
#include <stdint.h>

typedef void fr_team_work(void *argument);

/* Calls work(argument) on `threads` threads, the caller's among them, and returns when all have come back. It may be fewer, down
 * to the caller's alone: fr_team_size says. Runs do not nest. */
void fr_team_run(int threads, fr_team_work *work, void *argument);

/* Whether the threads of the caller's team are bound to places that are spread over the machine (core/topology.h), from its next
 * run on; at first they are not. The caller's own thread never is: there is a place left for it. */
void fr_team_pin(bool pinned);

/* Of the calling thread: 0 of 1 outside a team. */
int fr_team_rank(void);
int fr_team_size(void);
/* Nobody goes on before all have come. What they wrote before, all see after. */
void fr_team_barrier(void);
/* The same; the last to come first does what is one thread's work, while all others wait. */
void fr_team_barrier_do(fr_team_work *work, void *argument);
/* The calling thread has slept for so many seconds of the run, waiting for something else than the team: it has not lost its
 * processor. */
void fr_team_slept(double seconds);
/* Barriers that the calling thread has come to so far, alone or in a team: tests hold a pass to their number. */
uint64_t fr_team_barriers(void);

/* Whether the caller's team measures how long its threads wait, from its next run on; at first it does not. Each barrier is two
 * looks at the clock then. */
void fr_team_time_waits(bool timed);
/* Seconds that the threads of the caller's team have waited in such runs, all together: to be called, for each other at barriers,
 * and for the last at the end. One that stayed out (core/members.h) waited for all of a run. */
double fr_team_waited(void);
/* A clock of the calling thread that stands still while it waits; in a run that is not measured it goes on. */
double fr_team_worked(void);

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

/* This thread's share of several lengths that are laid end to end, each rounded up to whole units. `total` is their sum, so
 * rounded. */
typedef struct fr_share {
    int begin, end, unit;
    int at; /* where the next length begins */
} fr_share;

static inline fr_share fr_team_share(int total, int unit) {
    fr_share share = {.unit = unit};
    fr_team_split(total, unit, &share.begin, &share.end);
    return share;
}

static inline int fr_whole_units(int count, int unit) {
    return (count + unit - 1) / unit * unit;
}

/* The share's part [*begin, *end) of the next length; false if that is nothing. */
static inline bool fr_share_next(fr_share *share, int count, int *begin, int *end) {
    *begin = share->begin > share->at ? share->begin - share->at : 0;
    *end = share->end - share->at < count ? share->end - share->at : count;
    share->at += fr_whole_units(count, share->unit);
    return *begin < *end;
}

#endif
