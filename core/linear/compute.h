/* What computing needs beside weights and activations, for the passes of one session. */
#ifndef FR_CORE_LINEAR_COMPUTE_H
#define FR_CORE_LINEAR_COMPUTE_H

#include "core/kernels/kernels.h"
#include "core/ranks.h"

struct fr_linear;
struct fr_fp8_products;

typedef struct fr_compute {
    const fr_kernels *kernels; /* of the model's instruction set */
    int max_rows, threads;
    void *scratch;               /* [threads, scratch_bytes]: of products in the prefill regime */
    size_t scratch_bytes;        /* of a thread */
    struct fr_fp8_products *fp8; /* oneDNN's own, where they are used; else NULL */
    fr_exchange exchange;        /* with other ranks */
} fr_compute;

/* The calling thread's. */
static inline void *fr_compute_scratch(const fr_compute *compute) {
    return (char *)compute->scratch + (size_t)fr_team_rank() * compute->scratch_bytes;
}

/* Takes the scratch for products of up to max_rows rows. (Planning: see fr_arena.) */
void fr_compute_take(fr_compute *compute, fr_arena *arena, const fr_kernels *kernels, int max_rows, int threads);
/* Creates what products with w will need, so that a pass creates nothing. Called for each linear when a session is created. */
fr_status fr_compute_prepare(fr_compute *compute, const struct fr_linear *w, fr_error *error);
/* Releases that; the scratch is its arena's. */
void fr_compute_release(fr_compute *compute);

#endif
