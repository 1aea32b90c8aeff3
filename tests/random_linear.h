/* Random numbers and layers of a test, the same in every run. main() sets random_state. */
#ifndef FR_TEST_RANDOM_LINEAR_H
#define FR_TEST_RANDOM_LINEAR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "core/linear/linear.h"
#include "core/memory.h"

static uint32_t random_state;

static inline float random_value(void) { /* in [-1, 1) */
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / (float)(1 << 24) * 2.0f - 1.0f;
}

/* Release with fr_free. */
static inline float *random_floats(size_t n, float scale) {
    float *x = fr_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = random_value() * scale;
    return x;
}

/* Float32 weights, w to be released with fr_free. */
static inline fr_linear random_linear(int out, int in) {
    return (fr_linear){.out = out,
                       .in = in,
                       .dtype = FR_F32,
                       .stride = in,
                       .w = random_floats((size_t)out * (size_t)in, 1.7f / sqrtf((float)in))};
}

#endif
