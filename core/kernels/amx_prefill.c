/* AMX: the products of prefill with their scaling (core/kernels/prefill.h).
 *
 * Four tiles of sums, 32 outputs x 32 tokens, take a block of 128 inputs. While the matrix unit works on the next four, vector
 * instructions scale and add those. Every operand is a tile in one piece, so the hardware can foresee what a product reads. */
#include "core/kernels/amx.h"
#include "core/kernels/e4m3.h"
#include "core/kernels/prefill.h"

#define STEPS 4  /* of 32 inputs a block */
#define TILE 512 /* BF16 numbers */
#define SIDE 32  /* outputs and tokens of four tiles of sums */
_Static_assert(STEPS * 32 == FR_BLOCK && TILE == 16 * 32, "a block of inputs is whole tiles");
_Static_assert(FR_TILE_OUTPUTS % SIDE == 0 && FR_TILE_TOKENS % SIDE == 0, "four tiles of sums at a time");

/* ---- Weights ---- */

void fr_e4m3_to_tiles_amx(uint16_t *a, const uint8_t *w, int64_t stride, int rows) {
    const __m512i deal = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); /* so that unpacking restores the order */
    for (int i = 0; i < rows; i++, w += stride) {
        uint16_t *to = a + i / 16 * STEPS * TILE + i % 16 * 32;
        __m512i r[STEPS];
        _mm_prefetch((const char *)w + FR_BLOCK, _MM_HINT_T1); /* the next block of the row */
        _mm_prefetch((const char *)w + FR_BLOCK + 64, _MM_HINT_T1);
        convert_dealt_128(_mm512_permutexvar_epi64(deal, _mm512_loadu_si512(w)),
                          _mm512_permutexvar_epi64(deal, _mm512_loadu_si512(w + 64)), r);
        UNROLL for (int s = 0; s < STEPS; s++) _mm512_store_si512(to + s * TILE, r[s]);
    }
}

/* ---- Products ---- */

/* Sums of 32 outputs and 16 * `vectors` tokens that are not added yet. */
typedef struct pending {
    const float *c; /* [SIDE][SIDE] */
    float *sum;     /* rows FR_TILE_TOKENS apart */
    __m512 scale[2];
    int vectors;
} pending;

INLINE void add_rows(const pending *p, int from, int to) {
    for (int i = from; i < to; i++) {
        float *sum = p->sum + i * FR_TILE_TOKENS;
        const float *c = p->c + i * SIDE;
        _mm512_store_ps(sum, _mm512_fmadd_ps(_mm512_load_ps(c), p->scale[0], _mm512_load_ps(sum)));
        if (p->vectors == 2)
            _mm512_store_ps(sum + 16, _mm512_fmadd_ps(_mm512_load_ps(c + 16), p->scale[1], _mm512_load_ps(sum + 16)));
    }
}

/* One step of four tiles of sums (of two, when the tokens are 16): A rows of tiles at a and a + STEPS * TILE, B likewise. */
#define STEP(a, b, wide)                                                                                                         \
    do {                                                                                                                         \
        _tile_loadd(4, a, 64);                                                                                                   \
        _tile_loadd(6, b, 64);                                                                                                   \
        if (wide) _tile_loadd(7, (b) + STEPS * TILE, 64);                                                                        \
        _tile_loadd(5, (a) + STEPS * TILE, 64);                                                                                  \
        _tile_dpbf16ps(0, 4, 6);                                                                                                 \
        if (wide) _tile_dpbf16ps(1, 4, 7);                                                                                       \
        _tile_dpbf16ps(2, 5, 6);                                                                                                 \
        if (wide) _tile_dpbf16ps(3, 5, 7);                                                                                       \
    } while (0)

/* c = the sum of `count` products a[i] b[i], while `before` is added. */
INLINE void multiply(const uint16_t *const *a, const uint16_t *const *b, int count, bool wide, float *c, const pending *before) {
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < count; i++) STEP(a[i] + s * TILE, b[i] + s * TILE, wide);
        if (before->sum) add_rows(before, s * SIDE / STEPS, (s + 1) * SIDE / STEPS);
    }
    _tile_stored(0, c, SIDE * sizeof *c);
    if (wide) _tile_stored(1, c + 16, SIDE * sizeof *c);
    _tile_stored(2, c + 16 * SIDE, SIDE * sizeof *c);
    if (wide) _tile_stored(3, c + 16 * SIDE + 16, SIDE * sizeof *c);
    settle();
}

/* A part of what the next call will want: 1 / `parts` of `bytes`. */
INLINE void ask_for(const void *memory, size_t bytes, int part, int parts) {
    const char *at = (const char *)memory + bytes * (size_t)part / (size_t)parts;
    if (!memory) return;
    for (size_t i = 0; i < bytes / (size_t)parts; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
}

void fr_multiply_panel_amx(const fr_panel *p) {
    _Alignas(64) float c[2][SIDE * SIDE];
    const int groups = p->columns / 16, units = p->blocks * 2 * ((groups + 1) / 2);
    pending before = {.sum = NULL};
    int turn = 0;
    load_config(&whole_tiles);
    for (int block = 0; block < p->blocks; block++) {
        const __m512 sw = _mm512_set1_ps(p->sw ? p->sw[block] : 1.0f);
        for (int output = 0; output < FR_TILE_OUTPUTS; output += SIDE) {
            for (int group = 0; group < groups; group += 2, turn++) {
                const uint16_t *a[4], *b[4];
                for (int i = 0; i < p->products; i++) {
                    a[i] = p->a[i] + block * FR_TILE_OUTPUTS * FR_BLOCK + output * FR_BLOCK;
                    b[i] = p->b[i] + block * p->b_stride + group * STEPS * TILE;
                }
                ask_for(p->next_b, p->next_b_bytes, turn, units);
                ask_for(p->next_sum, FR_TILE_OUTPUTS * FR_TILE_TOKENS * sizeof(float), turn, units);
                const bool wide = group + 1 < groups;
                if (wide)
                    multiply(a, b, p->products, true, c[turn % 2], &before);
                else
                    multiply(a, b, p->products, false, c[turn % 2], &before);
                before.c = c[turn % 2];
                before.sum = p->sum + output * FR_TILE_TOKENS + group * 16;
                before.vectors = wide ? 2 : 1;
                for (int v = 0; v < before.vectors; v++) {
                    const float *sx = p->sx ? p->sx + block * p->sx_stride + (group + v) * 16 : NULL;
                    before.scale[v] = sx ? _mm512_mul_ps(sw, _mm512_loadu_ps(sx)) : sw;
                }
            }
        }
    }
    add_rows(&before, 0, SIDE);
    _tile_release();
}
