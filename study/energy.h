/* The energy that processors and their memory have used, where Linux lets it be read (powercap's RAPL counters). */
#ifndef FR_STUDY_ENERGY_H
#define FR_STUDY_ENERGY_H

#include "core/status.h"

#define FR_ENERGY_ROOT "/sys/class/powercap"

enum { FR_ENERGY_MOST_ZONES = 32 };

typedef struct fr_energy {
    struct {
        char path[320];
        uint64_t last, range; /* microjoules; a counter goes back to 0 after `range` */
    } zones[FR_ENERGY_MOST_ZONES];
    int num_zones; /* 0: nothing can be read */
    double joules;
} fr_energy;

/* Finds the counters below root (FR_ENERGY_ROOT, but for tests): packages and their memory. Parts of a package are left out, and
 * zones that count a package again. If one of them cannot be read, none is used: a sum without it would mislead. */
void fr_energy_open(fr_energy *energy, const char *root);
/* Joules since open; NaN when nothing can be read. To be called more often than the counters wrap, which they do within a minute
 * at the earliest: a longer gap loses whole rounds. */
double fr_energy_read(fr_energy *energy);

#endif
