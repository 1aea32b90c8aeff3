/* From logits to the distribution that tokens are drawn from: penalties and biases, temperature, then top-k, top-p and
 * min-p, in this order, each on what the one before left. */
#ifndef FR_SAMPLER_DISTRIBUTION_H
#define FR_SAMPLER_DISTRIBUTION_H

#include "sampler/noise.h"
#include "sampler/row.h"

/* The tokens that can be drawn, and how likely. Unsorted. */
typedef struct fr_distribution {
    int count;     /* at least 1 */
    int top;       /* one of the most likely */
    int32_t *ids;  /* [count] */
    double *score; /* [count]: adjusted logit / temperature */
    double *p;     /* [count]: probability, sums to 1 */
} fr_distribution;

typedef struct fr_filters {
    int vocab_size;
    fr_sampling sampling; /* temperature > 0, or 0 for greedy */
    float *adjusted;      /* [vocab]: logits after penalties */
    uint8_t *seen;        /* [vocab], zeros between calls */
    int *gathered;        /* [chunks of a row] */
    fr_row row;
} fr_filters;

void fr_distribution_take(fr_distribution *d, fr_arena *arena, int vocab_size);
void fr_filters_take(fr_filters *filters, fr_arena *arena, const fr_sampling *sampling, int vocab_size, const fr_kernels *kernels,
                     int threads);

/* ---- Team functions ---- */

/* Logits after penalties and biases; `logits` itself when there are none. Penalties look at tokens [0, length): repetition
 * at all of them, presence and frequency at those from `generated` on (the completion). */
const float *fr_filters_penalize(fr_filters *filters, const float *logits, const int32_t *tokens, int length, int generated);
/* Temperature (> 0) and filters. At least one token is left. A NaN counts as -infinity; infinite logits that are the highest
 * share the probability among them. */
void fr_filters_apply(fr_filters *filters, const float *adjusted, fr_distribution *out);

#endif
