/* How the decode kernels of a vector unit go through outputs and rows: by strips of OUTPUTS outputs and up to ROWS rows. The file
 * that includes this has defined
 *   VECTOR, ZERO(), SAME(x), MULTIPLY_ADD(a, b, c) = a b + c, sum_lanes(v): its vectors of floats
 *   OUTPUTS, ROWS
 *   E4M3_LOADED: the factor by which add_block's E4M3 weights are off their values, a power of two
 *   add_block(kind, quantized, rows, w, x, sum): the sums over one block of inputs for every output and row of a strip
 * and then says with DECODE_LINEAR which kernels it wants.
 *
 * A pair (output, row) goes through the same chain of operations at any place of a strip and whatever shares the strip, so its
 * result does not depend on the number of rows or on how outputs are split between threads. */
_Static_assert(ROWS == 3 || ROWS == 4, "DECODE_LINEAR has a strip for each number of rows that is left over");

/* OUTPUTS outputs, o0 and then each `apart` further, for rows [r0, r0 + rows). Outputs from j->end on are computed but not
 * stored. A partial last block is copied and padded with zeros. */
INLINE void strip(weight_kind kind, bool quantized, int rows, const fr_decode_job *j, int o0, int apart, int r0) {
    const int size = weight_size(kind), x_size = quantized ? 2 : 4, blocks = (j->in + FR_BLOCK - 1) / FR_BLOCK;
    const char *w[OUTPUTS], *x[ROWS];
    const float *sw[OUTPUTS];
    VECTOR total[OUTPUTS][ROWS], sum[OUTPUTS][ROWS];
    char w_tail[OUTPUTS][4 * FR_BLOCK], x_tail[ROWS][4 * FR_BLOCK];
    UNROLL for (int o = 0; o < OUTPUTS; o++) {
        int output = o0 + o * apart < j->end ? o0 + o * apart : j->end - 1;
        w[o] = (const char *)j->w + output * j->stride * size;
        sw[o] = kind == W_E4M3 ? j->scale + output / FR_BLOCK * j->scale_stride : NULL;
        UNROLL for (int r = 0; r < rows; r++) total[o][r] = ZERO();
    }
    UNROLL for (int r = 0; r < rows; r++) x[r] = j->x[r0 + r];
    for (int b = 0; b < blocks; b++) {
        int left = j->in - b * FR_BLOCK;
        if (left < FR_BLOCK) {
            for (int o = 0; o < OUTPUTS; o++) w[o] = fr_pad_block(w_tail[o], w[o], left, size);
            for (int r = 0; r < rows; r++) x[r] = fr_pad_block(x_tail[r], x[r], left, x_size);
        }
        add_block(kind, quantized, rows, w, x, sum);
        UNROLL for (int o = 0; o < OUTPUTS; o++) {
            float s = kind == W_E4M3 ? 1 / E4M3_LOADED * sw[o][b] : 1.0f;
            UNROLL for (int r = 0; r < rows; r++) {
                VECTOR scale = SAME(quantized ? s * j->sx[r0 + r][b] : s);
                total[o][r] = MULTIPLY_ADD(scale, sum[o][r], total[o][r]);
            }
            w[o] += FR_BLOCK * size;
        }
        UNROLL for (int r = 0; r < rows; r++) x[r] += FR_BLOCK * x_size;
    }
    UNROLL for (int o = 0; o < OUTPUTS; o++) {
        UNROLL for (int r = 0; r < rows; r++) {
            if (o0 + o * apart < j->end) j->y[(r0 + r) * j->y_stride + o0 + o * apart] = sum_lanes(total[o][r]);
        }
    }
}

/* Defines a decode kernel. It goes through all rows of a strip before the next strip, so that weights are read from memory once.
 * (A macro, because compilers then see constants before they inline; the job is copied so that no store can change it.) */
#define DECODE_LINEAR(linkage, name, kind, quantized)                                                                            \
    linkage void name(const fr_decode_job *job) {                                                                                \
        const fr_decode_job j = *job;                                                                                            \
        const int apart = fr_streams_apart(j.end - j.begin, OUTPUTS);                                                            \
        for (int o = j.begin; o < j.begin + apart; o++) {                                                                        \
            int r = 0;                                                                                                           \
            for (; r + ROWS <= j.rows; r += ROWS) strip(kind, quantized, ROWS, &j, o, apart, r);                                 \
            if (j.rows - r == 1) strip(kind, quantized, 1, &j, o, apart, r);                                                     \
            if (j.rows - r == 2) strip(kind, quantized, 2, &j, o, apart, r);                                                     \
            if (ROWS > 3 && j.rows - r == 3) strip(kind, quantized, 3, &j, o, apart, r);                                         \
        }                                                                                                                        \
    }
