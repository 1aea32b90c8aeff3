/* The choice of a token by its definition: everything sorted, noise for every token, one thread. */
#ifndef FR_TESTS_REFERENCE_SAMPLER_H
#define FR_TESTS_REFERENCE_SAMPLER_H

#include "sampler/sampler.h"

typedef struct reference_token {
    int32_t id;
    double score, p;
} reference_token;

/* Arrays are allocated by reference_create and belong to it. */
typedef struct reference_sampler {
    fr_sampling sampling;
    int vocab_size, count, proposed; /* tokens that the filters leave, and those of the last draft */
    float *x;
    reference_token *left, *proposal;
    double *q;
} reference_sampler;

reference_sampler *reference_create(const fr_sampling *sampling, int vocab_size);
void reference_destroy(reference_sampler *r);

/* As the functions of sampler/sampler.h, of one draft a cycle. */
int32_t reference_choose(reference_sampler *r, const float *logits, fr_history h);
int32_t reference_draft(reference_sampler *r, const float *logits, fr_history h, double *confidence);
int32_t reference_verify(reference_sampler *r, const float *logits, fr_history h, int32_t draft);

#endif
