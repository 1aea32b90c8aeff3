#include "sampler/greedy.h"

int32_t fr_greedy(const float *logits, int vocab_size) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab_size; i++)
        if (logits[i] > logits[best] || logits[best] != logits[best]) best = i;
    return best;
}
