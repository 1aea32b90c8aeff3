/* The clock by which the library measures its own work. */
#ifndef FR_CORE_CLOCK_H
#define FR_CORE_CLOCK_H

#include <time.h>

/* Seconds on a clock that only goes forward. */
static inline double fr_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
