/* A row of logits, and what all choices need of it: its peak, and the weight of each token. All threads share the work.
 *
 * The row is cut into chunks, each is summed by one thread, and the chunks' sums are added in their order. So no result depends
 * on how many threads there are. */
#ifndef FR_SAMPLER_ROW_H
#define FR_SAMPLER_ROW_H

#include <math.h>

#include "core/kernels/kernels.h"
#include "core/memory.h"

enum {
    FR_ROW_CHUNK = 1024, /* logits */
    FR_ROW_BINS = 256,   /* of scores, by their distance from the peak's: a quarter each, and the last without end */
};

/* What lies in each bin. Mass is in whole units of 2^-40, rounded down, since sums of whole numbers have no order. */
typedef struct fr_row_bins {
    uint64_t mass[FR_ROW_BINS];
    uint32_t count[FR_ROW_BINS];
} fr_row_bins;

/* Scratch of a choice, reused from row to row. */
typedef struct fr_row {
    int vocab_size;
    const fr_kernels *kernels;
    float *chunk_max;   /* [chunks] */
    double *chunk_sum;  /* [chunks] */
    double *weight;     /* [vocab]: exp(score - the peak's score), score = logit / temperature */
    uint8_t *bin;       /* [vocab] */
    fr_row_bins *part;  /* [threads]: of the chunks that a thread had */
    fr_row_bins *whole; /* their sum */
} fr_row;

typedef struct fr_peak {
    float value;
    int32_t id;
} fr_peak;

/* greedy: no temperature, so that there are no weights. */
void fr_row_take(fr_row *row, fr_arena *arena, int vocab_size, bool greedy, const fr_kernels *kernels, int threads);

/* ---- Team functions. x [vocab] is the row. ---- */

/* The largest logit; of equal ones that of the lowest id. NaN never is. */
fr_peak fr_row_peak(fr_row *row, const float *x);
/* The probability of the peak in the plain softmax of the row; 0 if that is not a number. Its last bits depend on the instruction
 * set. */
double fr_row_confidence(fr_row *row, const float *x, fr_peak peak);
/* Sets weight and bin of each token, and `whole`. Returns the sum of all weights. Weights are 1 at the peak. */
double fr_row_weigh(fr_row *row, const float *x, fr_peak peak, float temperature);

/* Logit / temperature; a NaN counts as -infinity. */
static inline double fr_row_score(float x, float temperature) {
    return x == x ? (double)x / (double)temperature : (double)-INFINITY;
}

/* A token of a higher bin has a lower score than each of a lower bin. */
static inline int fr_row_bin(double gap) {
    return gap * 4.0 < FR_ROW_BINS - 1 ? (int)(gap * 4.0) : FR_ROW_BINS - 1;
}

#endif
