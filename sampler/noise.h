/* Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011). A number is a pure function of seed, stream, position in
 * the text and token, so that a draft and its verification see the same noise, whatever happened in between. */
#ifndef FR_SAMPLER_NOISE_H
#define FR_SAMPLER_NOISE_H

#include <stdint.h>

/* What a number is for; streams are independent. */
typedef enum fr_stream {
    FR_STREAM_TOKEN,
    FR_STREAM_DRAFT,
    FR_STREAM_ACCEPT,
    FR_STREAM_RESIDUAL,
    FR_STREAM_SPOIL, /* studies: drafts that are made wrong */
} fr_stream;

/* One block of Philox4x32-10: 4 numbers from a counter and a key. */
void fr_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A block serves neighbouring tokens: token t has number t % 4 of block t / 4. */
#define FR_BLOCK_TOKENS 4
void fr_uniform_block(uint64_t seed, fr_stream stream, int position, int32_t block, uint32_t out[FR_BLOCK_TOKENS]);
/* A number as one in (0, 1), at half steps from both ends. */
#define FR_UNIFORM_STEP 0x1p-32
static inline double fr_uniform_of(uint32_t number) {
    return ((double)number + 0.5) * FR_UNIFORM_STEP;
}

/* Uniform in (0, 1), never 0 or 1. */
double fr_uniform(uint64_t seed, fr_stream stream, int position, int32_t token);
/* Standard Gumbel noise, -log(-log(u)); in (FR_GUMBEL_MIN, FR_GUMBEL_MAX). */
double fr_gumbel(uint64_t seed, fr_stream stream, int position, int32_t token);
#define FR_GUMBEL_MIN (-3.2)
#define FR_GUMBEL_MAX 22.9

#endif
