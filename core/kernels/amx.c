/* AMX: decode with quantized rows as the columns of a tile, so that further rows cost next to nothing.
 *
 * A strip takes one output out of each of 16 regions of the range, the next strip the outputs after those. So 16 streams are
 * read, each in the order of memory (core/kernels/decode.h). Of many threads at once, more streams read less.
 *
 * A block of 128 inputs is four steps. A step multiplies a tile of weights [16 outputs, 32 inputs], converted to BF16, by a tile
 * of activations [32 inputs, columns]. Columns do not affect each other, and all calls go through a block's steps and through the
 * blocks in the same order, so a row gets the same bits whatever the number of columns. */
#include "core/kernels/amx.h"
#include "core/kernels/e4m3.h"

#define GROUP 16 /* outputs of a tile */
#define GROUPS 1 /* of a strip, which share a loading of activations */
#define STEPS 4
#define TILE 1024           /* bytes */
#define AHEAD 768           /* bytes of a row that are prefetched before they are converted */
#define PACKED (320 * 1024) /* bytes of packed activations on the stack */

/* Tile registers. Intrinsics want literals. */
#define C 0
#define A0 1
#define A1 2
#define B0 3
#define B1 4
#define B2 5
#define B3 6

static void configure(int columns) {
    tile_config t = whole_tiles;
    for (int i = C; i <= B3; i++)
        if (i != A0 && i != A1) t.row_bytes[i] = (uint16_t)(4 * columns);
    load_config(&t);
}

/* A run of blocks whose activations are packed: for each block its scales, of column i mod columns at i < 16, then
 * [step][16 pairs of inputs][columns][2]. */
typedef struct run {
    int first, blocks, columns;
    int region; /* outputs of a region */
    char *packed;
} run;

#define SCALES 64 /* bytes */
INLINE int block_bytes(int columns) {
    return SCALES + STEPS * 64 * columns;
}
_Static_assert(STEPS * 32 == FR_BLOCK && GROUP * 64 == TILE && 16 * sizeof(float) == SCALES, "a block is whole tiles");
_Static_assert(PACKED >= SCALES + STEPS * 64 * FR_DECODE_ROWS, "a block of all rows fits");
_Static_assert(FR_DECODE_ROWS == 8, "rows are packed as 1, 2, 4 or 8 columns");

/* a and b become their dwords in turn: a0 b0 a1 b1 .. */
INLINE void zip(__m512i *a, __m512i *b) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    __m512i x = *a, y = *b;
    *a = _mm512_permutex2var_epi32(x, low, y);
    *b = _mm512_permutex2var_epi32(x, high, y);
}

/* to [16][columns] = the dwords of each column; columns is a power of two. Zips the first half with the second, until
 * columns that were neighbours are. */
INLINE void interleave(int columns, __m512i *z, char *to) {
    UNROLL for (int half = columns / 2; half >= 1; half /= 2) {
        __m512i t[FR_DECODE_ROWS];
        UNROLL for (int i = 0; i < columns; i++) t[i] = z[i];
        UNROLL for (int i = 0; i < columns / 2; i++) {
            z[2 * i] = t[i];
            z[2 * i + 1] = t[i + columns / 2];
            zip(&z[2 * i], &z[2 * i + 1]);
        }
    }
    UNROLL for (int i = 0; i < columns; i++) _mm512_store_si512(to + 64 * i, z[i]);
}

/* Packs two steps, inputs [at, at + 64), dealt as convert_dealt deals weights. Columns beyond the rows are zero. */
INLINE void pack_steps(int columns, const fr_decode_job *j, int at, char *to) {
    __m512i a[FR_DECODE_ROWS], b[FR_DECODE_ROWS];
    UNROLL for (int c = 0; c < columns; c++) {
        const uint16_t *q = (const uint16_t *)j->x[c < j->rows ? c : 0] + at;
        int n = c < j->rows ? j->in - at : 0;
        __m512i q0 = _mm512_maskz_loadu_epi16(first32(n), q), q1 = _mm512_maskz_loadu_epi16(first32(n - 32), q + 32);
        a[c] = _mm512_shuffle_i32x4(q0, q1, 0x88);
        b[c] = _mm512_shuffle_i32x4(q0, q1, 0xdd);
    }
    interleave(columns, a, to);
    interleave(columns, b, to + 64 * columns);
}

static void pack(const fr_decode_job *j, const run *k) {
    char *to = k->packed;
    for (int block = k->first; block < k->first + k->blocks; block++, to += block_bytes(k->columns)) {
        float *scale = (float *)(void *)to;
        for (int i = 0; i < 16; i++) {
            int r = i & (k->columns - 1);
            scale[i] = r < j->rows ? j->sx[r][block] : 0.0f;
        }
        for (int half = 0; half < 2; half++) {
            int at = block * FR_BLOCK + half * 64;
            char *steps = to + SCALES + half * 128 * k->columns;
            if (k->columns == 1) pack_steps(1, j, at, steps);
            if (k->columns == 2) pack_steps(2, j, at, steps);
            if (k->columns == 4) pack_steps(4, j, at, steps);
            if (k->columns == 8) pack_steps(8, j, at, steps);
        }
    }
}

/* Some of a strip's outputs: `output` and every one a region further, n of them. */
typedef struct group {
    int output, n;
} group;

INLINE group group_of(const fr_decode_job *j, const run *k, int strip, int g) {
    const int output = j->begin + g * GROUP * k->region + strip, left = j->end - output;
    const int n = strip < k->region && left > 0 ? (left + k->region - 1) / k->region : 0;
    return (group){output, n < GROUP ? n : GROUP};
}

/* What strips work with. */
typedef struct work {
    _Alignas(64) char a[2][STEPS][TILE]; /* converted weights of one group, and of the next */
    _Alignas(64) float c[2][GROUP * FR_DECODE_ROWS], total[GROUPS][GROUP * FR_DECODE_ROWS]; /* [16 outputs][columns] */
} work;

/* Converts one block of a group's outputs [from, to). */
INLINE void convert_rows(const fr_decode_job *j, const run *k, group g, int block, int from, int to, char (*a)[TILE]) {
    const int left = j->in - block * FR_BLOCK;
    /* What comes next: a few blocks ahead, or at the beginning of the next output. */
    const int64_t width = (int64_t)(j->in + FR_BLOCK - 1) / FR_BLOCK * FR_BLOCK, region = k->region * j->stride;
    const int64_t next = left > AHEAD ? AHEAD : AHEAD - width + j->stride;
    const char *w = (const char *)j->w + g.output * j->stride + from * region + (int64_t)block * FR_BLOCK;
    char tail[FR_BLOCK];
    for (int i = from; i < to; i++, w += region) {
        char *tile = a[0] + i * 64;
        const char *codes = left < FR_BLOCK ? fr_pad_block(tail, w, left, 1) : w;
        __m512i r[STEPS];
        _mm_prefetch(w + next, _MM_HINT_T1);
        _mm_prefetch(w + next + 64, _MM_HINT_T1);
        convert_dealt_128(_mm512_loadu_si512(codes), _mm512_loadu_si512(codes + 64), r);
        UNROLL for (int s = 0; s < STEPS; s++) _mm512_store_si512(tile + s * TILE, r[s]);
    }
}

/* A group's product of one block, and what it is to be multiplied with: scales of its outputs, and of the columns. */
typedef struct product {
    float *total;
    const float *c;
    __m512 w, x;
} product;

INLINE void add_scaled(int columns, const product *p) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i log_columns = _mm512_set1_epi32(columns == 8 ? 3 : columns / 2);
    for (int i = 0; i < 16 * columns; i += 16) {
        __m512i output = _mm512_srlv_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(i)), log_columns);
        __m512 scale = _mm512_mul_ps(_mm512_permutexvar_ps(output, p->w), p->x);
        _mm512_store_ps(p->total + i, _mm512_fmadd_ps(_mm512_load_ps(p->c + i), scale, _mm512_load_ps(p->total + i)));
    }
}

/* One step of a group, and a quarter of converting the next. */
#define STEP(s, A, B)                                                                                                            \
    do {                                                                                                                         \
        _tile_loadd(A, a[s], 64);                                                                                                \
        _tile_dpbf16ps(C, A, B);                                                                                                 \
        convert_rows(j, k, next, next_block, next.n *s / STEPS, next.n * (s + 1) / STEPS, next_a);                               \
    } while (0)

/* A group is converted while the one before it is multiplied, and added when the one after it has been, so that units and memory
 * never wait for each other. The first group of the run's first strip has been converted; the last strip's last converts nothing.
 * Returns which half of `a` has the next strip's first group. */
static int strip(const fr_decode_job *j, const run *k, int index, int parity, work *s) {
    const int end = k->first + k->blocks, row_bytes = 4 * k->columns;
    group of[GROUPS + 1];
    __m512i scales[GROUPS];
    __mmask16 some[GROUPS];
    int groups = 0;
    memset(s->total, 0, sizeof s->total);
    for (int g = 0; g < GROUPS; g++) {
        int32_t at[GROUP] = {0};
        of[g] = group_of(j, k, index, g);
        if (of[g].n == 0) break;
        groups++;
        for (int i = 0; i < of[g].n; i++) {
            int output = of[g].output + i * k->region;
            at[i] = (int32_t)(output / FR_BLOCK * j->scale_stride);
            for (int r = 0; k->first > 0 && r < j->rows; r++) s->total[g][i * k->columns + r] = j->y[r * j->y_stride + output];
        }
        scales[g] = _mm512_loadu_si512(at);
        some[g] = first16(of[g].n);
    }
    of[groups] = group_of(j, k, index + 1, 0);
    product late = {0};
    for (int block = k->first; block < end; block++) {
        const char *b = k->packed + (int64_t)(block - k->first) * block_bytes(k->columns);
        const __m512 sx = _mm512_load_ps(b);
        b += SCALES;
        settle();
        _tile_loadd(B0, b, row_bytes);
        _tile_loadd(B1, b + 16 * row_bytes, row_bytes);
        _tile_loadd(B2, b + 32 * row_bytes, row_bytes);
        _tile_loadd(B3, b + 48 * row_bytes, row_bytes);
        for (int g = 0; g < groups; g++, parity ^= 1) {
            char(*a)[TILE] = s->a[parity], (*next_a)[TILE] = s->a[parity ^ 1];
            const bool again = g + 1 == groups && block + 1 < end;
            const group next = of[again ? 0 : g + 1];
            const int next_block = again ? block + 1 : g + 1 < groups ? block : k->first;
            settle();
            _tile_zero(C);
            STEP(0, A0, B0);
            STEP(1, A1, B1);
            STEP(2, A0, B2);
            STEP(3, A1, B3);
            _tile_stored(C, s->c[parity], row_bytes);
            settle();
            if (late.total) add_scaled(k->columns, &late);
            late = (product){s->total[g], s->c[parity],
                             _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some[g], scales[g], j->scale + block, 4), sx};
        }
    }
    add_scaled(k->columns, &late);
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < of[g].n; i++)
            for (int r = 0; r < j->rows; r++)
                j->y[r * j->y_stride + of[g].output + i * k->region] = s->total[g][i * k->columns + r];
    return parity;
}

void fr_decode_linear_e4m3_q_amx(const fr_decode_job *job) {
    const fr_decode_job j = *job;
    _Alignas(64) char packed[PACKED];
    work s;
    run k = {.columns = j.rows > 4 ? 8 : j.rows > 2 ? 4 : j.rows == 2 ? 2 : 1, .packed = packed};
    const int blocks = (j.in + FR_BLOCK - 1) / FR_BLOCK, most = PACKED / block_bytes(k.columns);
    k.region = fr_streams_apart(j.end - j.begin, GROUPS * GROUP);
    /* An incomplete group computes its missing outputs, too, from zeros or from what was there before; they are not stored. */
    memset(s.a, 0, sizeof s.a);
    configure(k.columns);
    for (; k.first < blocks; k.first += k.blocks) {
        int parity = 0;
        k.blocks = blocks - k.first < most ? blocks - k.first : most;
        pack(&j, &k);
        const group first = group_of(&j, &k, 0, 0);
        convert_rows(&j, &k, first, k.first, 0, first.n, s.a[parity]);
        for (int i = 0; i < k.region; i++) parity = strip(&j, &k, i, parity, &s);
    }
    _tile_release();
}
