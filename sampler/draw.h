/* A sample of a distribution by the Gumbel-max trick: the argmax of score + noise. */
#ifndef FR_SAMPLER_DRAW_H
#define FR_SAMPLER_DRAW_H

#include "sampler/distribution.h"

/* What a thread found: [threads], a cache line each. */
typedef struct fr_best {
    double value;
    int index;
    char apart[64 - sizeof(double) - sizeof(int)];
} fr_best;

/* A team function. Index into the distribution of the winner; of equal ones it is that with the lowest id. */
int fr_draw(const fr_distribution *d, fr_best *best, uint64_t seed, fr_stream stream, int position);

#endif
