#include "core/linear/prefill.h"

#include <stdio.h>

const fr_prefill_backend *const fr_prefill_backends[] = {&fr_backend_onednn_fp8, &fr_backend_amx,      &fr_backend_brgemm,
                                                         &fr_backend_brgemm_f32, &fr_backend_portable, NULL};

const fr_prefill_backend *fr_prefill_backend_of(const fr_kernels *kernels, bool quantized, int width) {
    int i = 0;
    while (!fr_prefill_backends[i]->ready(kernels, quantized, width)) i++; /* the portable one always is */
    return fr_prefill_backends[i];
}

/* What converting a tile of weights costs, in products with a tile of tokens: about this on matrix units, less on vector units.
 */
#define CONVERT 1

int fr_token_parts(int count, int token_tiles, int threads) {
    int best = 1;
    int64_t least = INT64_MAX;
    for (int parts = 1; parts <= token_tiles; parts++) {
        int64_t units = ((int64_t)count * parts + threads - 1) / threads; /* of the busiest thread */
        int64_t cost = units * (CONVERT + (token_tiles + parts - 1) / parts);
        if (cost < least) {
            least = cost;
            best = parts;
        }
    }
    return best;
}

void fr_linear_prefill_path(const fr_kernels *kernels, char *text, size_t size) {
    const fr_prefill_backend *exact = fr_prefill_backend_of(kernels, false, FR_BLOCK),
                             *quantized = fr_prefill_backend_of(kernels, true, FR_BLOCK);
    bool both = quantized != exact;
    snprintf(text, size, "%s%s%s", exact->name, both ? "; FP8 x FP8 by " : "", both ? quantized->name : "");
}
