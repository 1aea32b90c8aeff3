/* Which members of a team take part. A thread that has to share its processor with another process is away for whole time slices,
 * and at every barrier all others wait for it. So a member that lost more of a run than its own work is worth stays out for a
 * while, and is tried again. What is computed does not depend on it: work is divided by outputs. */
#ifndef FR_CORE_MEMBERS_H
#define FR_CORE_MEMBERS_H

/* Times are seconds of one clock. */
typedef struct fr_members {
    int out;        /* members that stay out */
    double until;   /* when the next of them is tried again */
    double hold;    /* how long the last one was sent out for */
    double changed; /* when a member was last sent out or tried again */
} fr_members;

/* A loss of fewer seconds is not a time slice's. */
#define FR_MEMBERS_LEAST_LOST 500e-6

/* How many of `threads` take part in a run that begins now, at least 1. */
int fr_members_begin(fr_members *members, int threads, double now);

/* A run of `count` members has ended, which took `seconds`; lost[i] of them member i was kept from working, by anything but its
 * team. Returns the member that stays out from now on, -1: none. Member 0 called the others and never stays out: where it lost
 * most, one of the others makes room. */
int fr_members_end(fr_members *members, const double *lost, int count, double seconds, double now);

#endif
