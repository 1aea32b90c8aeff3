/* How the decode kernels of a vector unit go through outputs and rows: by strips of up to STREAMS outputs and all rows, block by
 * block of inputs, and within a block by tiles of as many outputs as have their sums in registers. The file that includes this
 * has defined
 *  - VECTOR, ZERO(), SAME(x), MULTIPLY(a, b), MULTIPLY_ADD(a, b, c) = a b + c, and sum_lanes_of_four(a, b, c, d),
 *    an __m128: its vectors of floats
 *  - STREAMS
 *  - TILE(rows): outputs of a tile
 *  - sum_times(kind): the factor by which a block's sum of add_block is too small, a power of two
 *  - block_of_x(kind, quantized, x, n, buffer): the n inputs at x as add_block takes them; in place, or in the buffer, of
 *    4 FR_BLOCK bytes, with zeros behind them
 *  - makes_inputs(kind): whether that is work
 *  - add_block(kind, rows, tile, w, at, x, sum): the sums over one block of inputs, at byte `at` of the weights w, for
 *    every output and row of a tile
 *
 * and then says with DECODE_LINEAR which kernels it wants.
 *
 * A weight is loaded and converted once for all rows. A pair (output, row) goes through the same chain of operations at any place
 * of a strip and whatever shares the strip, so its result does not depend on the number of rows or on how outputs are split
 * between threads. */
_Static_assert(FR_DECODE_ROWS == 8, "DECODE_LINEAR has a strip for each number of rows");

/* Inputs as add_block takes them, where that is work: made once for all strips. They are read from the second-level cache, and
 * more of them than fit there every strip makes again. */
enum { KEPT_BYTES = 256 * 1024, KEPT_BLOCKS = KEPT_BYTES / (4 * FR_BLOCK) };
typedef struct fr_kept {
    _Alignas(64) char x[KEPT_BLOCKS][4 * FR_BLOCK]; /* [blocks][rows] */
} fr_kept;

INLINE int block_inputs(const fr_decode_job *j, int b) {
    return j->in - b * FR_BLOCK < FR_BLOCK ? j->in - b * FR_BLOCK : FR_BLOCK;
}

INLINE const fr_kept *keep_inputs(weight_kind kind, bool quantized, const fr_decode_job *j, fr_kept *kept) {
    const int blocks = fr_blocks(j->in);
    if (!makes_inputs(kind) || blocks * j->rows > KEPT_BLOCKS) return NULL;
    for (int b = 0; b < blocks; b++) {
        for (int r = 0; r < j->rows; r++) {
            const char *x = (const char *)j->x[r] + b * FR_BLOCK * (quantized ? 2 : 4);
            block_of_x(kind, quantized, x, block_inputs(j, b), kept->x[b * j->rows + r]);
        }
    }
    return kept;
}

/* Outputs o0 and `outputs` - 1 more, each `apart` further. Outputs from j->end on are computed but not stored. A partial last
 * block is copied and padded with zeros. */
INLINE void strip(weight_kind kind, bool quantized, int rows, const fr_decode_job *j, const fr_kept *kept, int o0, int apart,
                  int outputs) {
    _Static_assert(STREAMS % 4 == 0 && STREAMS % TILE(1) == 0,
                   "a strip with fewer outputs is filled up with copies of the last one");
    const int size = weight_size(kind), tile = TILE(rows), blocks = fr_blocks(j->in);
    const int step = kept ? rows * 4 * FR_BLOCK : FR_BLOCK * (quantized ? 2 : 4); /* from a row's block to its next */
    const char *w[STREAMS], *x[FR_DECODE_ROWS], *next[FR_DECODE_ROWS];
    const float *sw[STREAMS];
    VECTOR total[STREAMS][FR_DECODE_ROWS], sx[FR_DECODE_ROWS];
    _Alignas(64) char buffer[FR_DECODE_ROWS][4 * FR_BLOCK], tail[STREAMS][4 * FR_BLOCK];
    UNROLL for (int o = 0; o < STREAMS; o++) {
        int output = o0 + o * apart < j->end && o < outputs ? o0 + o * apart : j->end - 1;
        w[o] = (const char *)j->w + output * j->stride * size;
        sw[o] = kind == W_E4M3 ? j->scale + output / FR_BLOCK * j->scale_stride : NULL;
        UNROLL for (int r = 0; r < rows; r++) total[o][r] = ZERO();
    }
    UNROLL for (int r = 0; r < rows; r++) next[r] = kept ? kept->x[r] : (const char *)j->x[r];
    for (int b = 0; b < blocks; b++) {
        const int at = b * FR_BLOCK, n = block_inputs(j, b);
        UNROLL for (int r = 0; r < rows; r++) {
            x[r] = kept ? next[r] : block_of_x(kind, quantized, next[r], n, buffer[r]);
            next[r] += step;
            if (quantized) sx[r] = SAME(j->sx[r][b]);
        }
        const int offset = n < FR_BLOCK ? 0 : at * size;
        for (int o = 0; n < FR_BLOCK && o < STREAMS; o++) w[o] = fr_pad_block(tail[o], w[o] + at * size, n, size);
        for (int o = 0; o < STREAMS; o += tile) {
            VECTOR sum[TILE(1)][FR_DECODE_ROWS];
            add_block(kind, rows, tile, w + o, offset, x, sum);
            UNROLL for (int i = 0; i < tile; i++) {
                VECTOR s = SAME(kind == W_E4M3 ? sum_times(kind) * sw[o + i][b] : 1.0f);
                UNROLL for (int r = 0; r < rows; r++) total[o + i][r] =
                    MULTIPLY_ADD(quantized ? MULTIPLY(s, sx[r]) : s, sum[i][r], total[o + i][r]);
            }
        }
    }
    UNROLL for (int o = 0; o < STREAMS; o += 4) {
        UNROLL for (int r = 0; r < rows; r++) {
            _Alignas(16) float sum[4];
            _mm_store_ps(sum, sum_lanes_of_four(total[o][r], total[o + 1][r], total[o + 2][r], total[o + 3][r]));
            float *y = j->y + r * j->y_stride;
            for (int i = o; i < o + 4 && i < outputs && o0 + i * apart < j->end; i++) y[o0 + i * apart] = sum[i - o];
        }
    }
}

/* Defines a decode kernel. (A macro, because compilers then see constants before they inline; the job is copied so that no store
 * can change it.) */
#define DECODE_LINEAR(linkage, name, kind, quantized)                                                                            \
    linkage void name(const fr_decode_job *job) {                                                                                \
        const fr_decode_job j = *job;                                                                                            \
        const int range = j.end - j.begin, apart = fr_streams_apart(range, STREAMS), outputs = (range + apart - 1) / apart;      \
        const unsigned had = subnormals_on();                                                                                    \
        fr_kept buffer;                                                                                                          \
        const fr_kept *kept = keep_inputs(kind, quantized, &j, &buffer);                                                         \
        for (int o = j.begin; o < j.begin + apart; o++) {                                                                        \
            if (j.rows == 1) strip(kind, quantized, 1, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 2) strip(kind, quantized, 2, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 3) strip(kind, quantized, 3, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 4) strip(kind, quantized, 4, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 5) strip(kind, quantized, 5, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 6) strip(kind, quantized, 6, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 7) strip(kind, quantized, 7, &j, kept, o, apart, outputs);                                             \
            if (j.rows == 8) strip(kind, quantized, 8, &j, kept, o, apart, outputs);                                             \
        }                                                                                                                        \
        _mm_setcsr(had);                                                                                                         \
    }
