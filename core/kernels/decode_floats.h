/* A strip's block (core/kernels/decode_strips.h) in float32. The file that includes this has defined the vectors as that one
 * says, of LANES floats, with STORE and LOAD for aligned and any floats, and
 *  - load_weights(kind, w): LANES weights; E4M3 2^-120 times their value
 *  - load_x(quantized, x, i, n): LANES inputs from i on, of the n at x; zeros behind them. */

/* Inputs of E4M3 weights are multiplied by 2^80, so that their products are normal numbers (of exact inputs from 1e-23 to 1e14),
 * and what a block's sum has yet to be multiplied by leaves room for scales. */
INLINE float x_times(weight_kind kind) {
    return kind == W_E4M3 ? 0x1p80f : 1.0f;
}

INLINE float sum_times(weight_kind kind) {
    return kind == W_E4M3 ? 0x1p120f / x_times(kind) : 1.0f;
}

INLINE bool makes_inputs(weight_kind kind) {
    return kind == W_E4M3;
}

INLINE const char *block_of_x(weight_kind kind, bool quantized, const char *x, int n, char *buffer) {
    if (kind != W_E4M3 && n == FR_BLOCK) return x;
    float *to = (float *)(void *)buffer;
    TWICE for (int i = 0; i < FR_BLOCK; i += LANES) {
        VECTOR v = load_x(quantized, x, i, n);
        STORE(to + i, x_times(kind) > 1.0f ? MULTIPLY(v, SAME(x_times(kind))) : v);
    }
    return buffer;
}

INLINE void add_block(weight_kind kind, int rows, int tile, const char *const *w, int at, const char *const *x,
                      VECTOR (*sum)[FR_DECODE_ROWS]) {
    const int size = weight_size(kind);
    VECTOR s[TILE(1)][FR_DECODE_ROWS]; /* in registers, where `sum` would be in memory */
    UNROLL for (int o = 0; o < tile; o++) {
        UNROLL for (int r = 0; r < rows; r++) s[o][r] = ZERO();
        TWICE for (int i = 0; i < FR_BLOCK * size; i += 64) _mm_prefetch(w[o] + at + i + AHEAD, _MM_HINT_T0);
    }
    TWICE for (int i = 0; i < FR_BLOCK; i += LANES) {
        VECTOR a[TILE(1)];
        UNROLL for (int o = 0; o < tile; o++) a[o] = load_weights(kind, w[o] + at + i * size);
        UNROLL for (int r = 0; r < rows; r++) {
            VECTOR v = LOAD((const float *)(const void *)x[r] + i);
            UNROLL for (int o = 0; o < tile; o++) s[o][r] = MULTIPLY_ADD(a[o], v, s[o][r]);
        }
    }
    UNROLL for (int o = 0; o < tile; o++) {
        UNROLL for (int r = 0; r < rows; r++) sum[o][r] = s[o][r];
    }
}
