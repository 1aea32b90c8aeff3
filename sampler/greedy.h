/* Greedy choice: the token of the largest logit; of equal ones the lowest id. */
#ifndef FR_SAMPLER_GREEDY_H
#define FR_SAMPLER_GREEDY_H

#include <stdint.h>

/* logits [vocab_size]. NaN never wins. */
int32_t fr_greedy(const float *logits, int vocab_size);

#endif
