#include "sampler/noise.h"

#include <math.h>

void fr_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)b;
        c2 = n2;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void fr_uniform_block(uint64_t seed, fr_stream stream, int position, int32_t block, uint32_t out[FR_BLOCK_TOKENS]) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)position, (uint32_t)stream, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    fr_philox(counter, key, out);
}

double fr_uniform(uint64_t seed, fr_stream stream, int position, int32_t token) {
    uint32_t out[FR_BLOCK_TOKENS];
    fr_uniform_block(seed, stream, position, token / FR_BLOCK_TOKENS, out);
    return fr_uniform_of(out[token % FR_BLOCK_TOKENS]);
}

double fr_gumbel(uint64_t seed, fr_stream stream, int position, int32_t token) {
    return -log(-log(fr_uniform(seed, stream, position, token)));
}
