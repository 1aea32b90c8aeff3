/* A barrier that follows the machine: a tree whose leaves are members that share a cache, then those of a node, then all. Members
 * count themselves at their leaf, and the last of each counts for it one step up, so that few of them ever write to one cache
 * line, and most of those are near. Few members have one leaf, which is the root: one central counter. */
#ifndef FR_CORE_BARRIER_H
#define FR_CORE_BARRIER_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { FR_BARRIER_WIDTH = 8 }; /* most that count themselves in one place */

/* Where a member sits: equal numbers share a cache (of the last level) or a memory node. */
typedef struct fr_seat {
    int cache, node;
} fr_seat;

typedef struct fr_meeting {
    alignas(64) atomic_int arrived; /* of this round */
    int expected, node, parent;     /* parent -1: the root */
    alignas(64) atomic_uint round;  /* of a leaf: barriers passed */
    atomic_int asleep;              /* of a leaf's members */
} fr_meeting;

typedef struct fr_barrier {
    fr_meeting *meetings; /* the leaves first, the root last */
    int leaves, count;
    _Atomic double opened; /* when it opened last while somebody slept, by fr_now */
} fr_barrier;

/* Meetings that `members` may need. */
int fr_barrier_most_meetings(int members);
/* Builds the tree for members that sit so, in their order, and writes each one's leaf. Nobody may be at the barrier. */
void fr_barrier_build(fr_barrier *barrier, const fr_seat *seats, int members, int *leaf);

/* Counts a member; true for the last, which opens the barrier (fr_barrier_open), the others wait (fr_barrier_wait). */
bool fr_barrier_arrive(fr_barrier *barrier, int leaf);
void fr_barrier_open(fr_barrier *barrier);
/* round: of the leaf before the member arrived. Returns how many seconds it slept until the barrier was opened: what comes
 * between that and its own waking is not counted. */
double fr_barrier_wait(fr_barrier *barrier, int leaf, unsigned round, int looks);

static inline unsigned fr_barrier_round(const fr_barrier *barrier, int leaf) {
    return atomic_load_explicit(&barrier->meetings[leaf].round, memory_order_relaxed);
}

#endif
