/* Decode attention by chunks of positions: a row has the same bits whoever computes which chunk, in any pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "attn/absorbed.h"
#include "attn/chunk.h"
#include "core/kernels/isa.h"
#include "core/threads.h"
#include "random_linear.h"

enum { HIDDEN = 32, Q_RANK = 16, RANK = 120, ROPE = 8, NOPE = 4, V = 4, CTX = 1100, THREADS = 16, MOST_HEADS = 128 };

/* ---- Tiles in plain C ---- */

static void take_tiles(fr_tiled_queries *g, fr_arena *arena, int width, int rank) {
    g->high = (void *)FR_TAKE(arena, float, FR_TILED_QUERIES *width);
    g->sum = FR_TAKE(arena, float, FR_TILED_QUERIES *rank);
    g->max = FR_TAKE(arena, float, FR_TILED_QUERIES);
    g->total = FR_TAKE(arena, float, FR_TILED_QUERIES);
    g->seen = FR_TAKE(arena, int, FR_TILED_QUERIES);
}

static void *take_tile_scratch(fr_arena *arena, int width, int rank) {
    (void)rank;
    return FR_TAKE(arena, float, width);
}

static void pack_tiles(fr_tiled_queries *g, const float *const *q, int n, int width) {
    for (int i = 0; i < n; i++) memcpy((float *)(void *)g->high + i * width, q[i], (size_t)width * sizeof(float));
}

static void begin_tiles(fr_tiled_queries *g, const int *seen, int n, int rank) {
    memset(g->sum, 0, (size_t)(FR_TILED_QUERIES * rank) * sizeof *g->sum);
    for (int i = 0; i < FR_TILED_QUERIES; i++) {
        g->max[i] = -INFINITY;
        g->total[i] = 0.0f;
        g->seen[i] = i < n ? seen[i] : 0;
    }
}

static void fold_position(fr_tiled_queries *g, int i, const float *row, int width, int rank) {
    const float *q = (float *)(void *)g->high + i * width;
    float score = 0.0f, *sum = g->sum + i * rank;
    for (int j = 0; j < width; j++) score += q[j] * row[j];
    if (score > g->max[i]) {
        float shrink = expf(g->max[i] - score);
        for (int j = 0; j < rank; j++) sum[j] *= shrink;
        g->total[i] *= shrink;
        g->max[i] = score;
    }
    float p = expf(score - g->max[i]);
    for (int j = 0; j < rank; j++) sum[j] += p * row[j];
    g->total[i] += p;
}

static void fold_tiles(fr_tiled_queries *g, int groups, const uint16_t *rows, int64_t stride, int pos, int count, int width,
                       int rank, void *scratch) {
    float *row = scratch;
    for (int t = 0; t < count; t++) {
        for (int j = 0; j < width; j++) row[j] = fr_bf16_f32(rows[t * stride + j]);
        for (int i = 0; i < groups * FR_TILED_QUERIES; i++) {
            fr_tiled_queries *group = &g[i / FR_TILED_QUERIES];
            if (pos + t < group->seen[i % FR_TILED_QUERIES]) fold_position(group, i % FR_TILED_QUERIES, row, width, rank);
        }
    }
}

static void end_tiles(const fr_tiled_queries *g, float *const *out, float *max, float *total, int n, int rank) {
    for (int i = 0; i < n; i++) {
        memcpy(out[i], g->sum + i * rank, (size_t)rank * sizeof(float));
        max[i] = g->max[i];
        total[i] = g->total[i];
    }
}

static const fr_tiled_attention plain_tiles = {take_tiles, take_tile_scratch, pack_tiles, begin_tiles, fold_tiles, end_tiles};

/* ---- A layer's attention ---- */

typedef struct fixture {
    fr_mla mla;
    fr_rope rope;
    fr_rows rows;
    fr_compute compute;
    fr_mla_scratch scratch;
    fr_kv_cache kv;
    float *x, *delta; /* [CTX, HIDDEN] */
    fr_choice choices[FR_DECODE_ROWS];
    int32_t *lists; /* [FR_DECODE_ROWS, CTX] */
    void *memory;
    int shared, waves; /* passes that threads shared by position; that took more than one wave */
} fixture;

static void take(fixture *f, fr_arena *arena, const fr_kernels *kernels, int max_rows) {
    fr_config c = {.qk_rope_head_dim = ROPE, .rope_theta = 10000.0f};
    fr_rope_take(&f->rope, arena, &c, CTX);
    fr_rows_take(&f->rows, arena, kernels, max_rows, HIDDEN, FR_INPUT_ANY);
    fr_compute_take(&f->compute, arena, kernels, max_rows < FR_KV_BLOCK ? FR_KV_BLOCK : max_rows, THREADS);
    fr_mla_scratch_take(&f->scratch, arena, &f->mla, max_rows, &f->compute);
    fr_mla_scratch_take_index(&f->scratch, arena, &f->mla, max_rows, CTX);
    f->scratch.index.choices = NULL;
    f->delta = FR_TAKE(arena, float, (size_t)max_rows *HIDDEN);
    f->lists = FR_TAKE(arena, int32_t, FR_DECODE_ROWS * CTX);
}

static void create(fixture *f, const fr_kernels *kernels, int heads, fr_kv type, int max_rows) {
    *f = (fixture){.mla = {.hidden = HIDDEN,
                           .heads = heads,
                           .q_rank = Q_RANK,
                           .kv_rank = RANK,
                           .nope = NOPE,
                           .rope = ROPE,
                           .v = V,
                           .eps = 1e-6f,
                           .softmax_scale = 1.5f}};
    fr_arena arena = {0};
    f->mla.q_a_proj = random_linear(Q_RANK, HIDDEN);
    f->mla.q_b_proj = random_linear(heads * (NOPE + ROPE), Q_RANK);
    f->mla.kv_a_proj_with_mqa = random_linear(RANK + ROPE, HIDDEN);
    f->mla.kv_b_proj = random_linear(heads * (NOPE + V), RANK);
    f->mla.o_proj = random_linear(HIDDEN, heads * V);
    f->mla.q_a_layernorm = random_floats(Q_RANK, 1.0f);
    f->mla.kv_a_layernorm = random_floats(RANK, 1.0f);
    f->mla.indexer = (fr_indexer){.heads = 1, .dim = 8};
    f->x = random_floats(CTX * HIDDEN, 1.0f);
    take(f, &arena, kernels, max_rows);
    arena = (fr_arena){.base = f->memory = fr_alloc(arena.used), .size = arena.used};
    memset(f->memory, 0xff, arena.size); /* what is not written is NaN */
    take(f, &arena, kernels, max_rows);
    const fr_linear *linears[] = {&f->mla.q_a_proj, &f->mla.q_b_proj, &f->mla.kv_a_proj_with_mqa, &f->mla.kv_b_proj,
                                  &f->mla.o_proj};
    for (int i = 0; i < 5; i++) assert_int_equal(fr_compute_prepare(&f->compute, linears[i], NULL), FR_OK);
    assert_int_equal(fr_kv_cache_create(&f->kv, 1, CTX, RANK, ROPE, type, NULL), FR_OK);
    for (int pos = 0; pos < CTX; pos++) {
        float row[RANK + ROPE];
        for (int i = 0; i < RANK + ROPE; i++) row[i] = random_value();
        fr_kv_cache_write(&f->kv, 0, pos, row, kernels);
    }
    fr_kv_cache_commit(&f->kv, CTX);
}

static void release(fixture *f) {
    const fr_linear *all[] = {&f->mla.q_a_proj, &f->mla.q_b_proj, &f->mla.kv_a_proj_with_mqa, &f->mla.kv_b_proj, &f->mla.o_proj};
    for (size_t i = 0; i < 5; i++) fr_free((void *)all[i]->w);
    fr_free(f->mla.q_a_layernorm);
    fr_free(f->mla.kv_a_layernorm);
    fr_free(f->x);
    fr_kv_cache_release(&f->kv);
    fr_compute_release(&f->compute);
    fr_free(f->memory);
}

typedef struct pass {
    fixture *f;
    float *y;
    int pos, rows;
    bool shared;
    uint64_t barriers,
        least; /* least: inputs, latents, queries, one wave, values, output; queries' own where heads are not even */
} pass;

static void run(void *argument) {
    pass *p = argument;
    fixture *f = p->f;
    fr_rows_set(&f->rows, f->x + p->pos * HIDDEN, p->rows, HIDDEN, fr_mla_inputs(&f->mla), false);
    uint64_t before = fr_team_barriers();
    bool shared = p->rows <= FR_DECODE_ROWS && fr_attention_is_shared(&f->mla, f->kv.type, p->pos, p->rows, &f->scratch);
    fr_mla_forward(&f->mla, &f->rope, &f->kv, 0, p->pos, &f->rows, p->y, f->delta, &f->scratch);
    if (fr_team_rank() > 0) return;
    p->shared = shared;
    p->barriers = fr_team_barriers() - before;
    p->least = 6 + !fr_heads_are_even(&f->mla);
}

/* y [rows, HIDDEN] of a pass at position `pos` by so many threads; nothing is committed. Rows choose their lists, if there are
 * any. */
static void attend(fixture *f, int pos, int rows, int threads, float *y) {
    pass p = {.f = f, .y = y, .pos = pos, .rows = rows};
    memset(y, 0, (size_t)(rows * HIDDEN) * sizeof *y);
    fr_team_run(threads, run, &p);
    f->shared += p.shared;
    f->waves += p.shared && p.barriers > p.least;
}

/* What the rows from `pos` on choose: nothing; or every row most positions, but not all. */
static void choose(fixture *f, int pos, bool sparse) {
    for (int r = 0; r < FR_DECODE_ROWS; r++) {
        int32_t *list = f->lists + r * CTX;
        int count = 0;
        for (int t = 0; t <= pos + r; t++)
            if (t == pos + r || (t * 7 + r) % 31) list[count++] = t;
        f->choices[r] = (fr_choice){count, list};
    }
    f->scratch.index.choices = sparse ? f->choices : NULL;
}

/* ---- Tests ---- */

/* Rows behind `pos` one after the other by one thread, then by all others, together, again and again: each time the last pass is
 * rolled back. */
static void check_position(fixture *f, int pos, bool sparse) {
    static const int threads[] = {1, 2, 3, 5, 8, 16};
    float expected[FR_DECODE_ROWS * HIDDEN], y[FR_DECODE_ROWS * HIDDEN];
    fr_kv_cache_truncate(&f->kv, pos);
    for (int r = 0; r < FR_DECODE_ROWS; r++) {
        choose(f, pos, sparse);
        f->choices[0] = f->choices[r];
        attend(f, pos + r, 1, 1, expected + r * HIDDEN);
        fr_kv_cache_commit(&f->kv, 1);
    }
    choose(f, pos, sparse);
    for (int rows = 1; rows <= FR_DECODE_ROWS; rows++)
        for (int i = 0; i < 6; i++) {
            if (rows > 1 && rows < FR_DECODE_ROWS && i != rows % 6) continue;
            fr_kv_cache_truncate(&f->kv, pos);
            attend(f, pos, rows, threads[i], y);
            assert_memory_equal(y, expected, (size_t)(rows * HIDDEN) * sizeof *y);
            fr_kv_cache_commit(&f->kv, rows);
        }
    fr_kv_cache_truncate(&f->kv, pos);
    fr_kv_cache_commit(&f->kv, FR_DECODE_ROWS);
}

static void check(const fr_kernels *kernels, int heads, fr_kv type, const int *positions, int count, bool one_chunk_waves) {
    fixture f;
    create(&f, kernels, heads, type, FR_DECODE_ROWS);
    if (one_chunk_waves) f.scratch.slots = FR_DECODE_ROWS * heads;
    for (int i = count - 1; i >= 0; i--)
        for (int sparse = 0; sparse < 2; sparse++) check_position(&f, positions[i], sparse);
    assert_true(f.shared > 0);
    if (one_chunk_waves) assert_true(f.waves > 0);
    release(&f);
}

static void check_all(const fr_kernels *kernels) {
    static const int edges[] = {504, 512, 1017}, few[] = {509, 1023};
    check(kernels, 1, FR_KV_BF16, edges, 3, false);
    check(kernels, 4, FR_KV_BF16, few, 2, true);
    check(kernels, 5, FR_KV_BF16, few, 2, false);
    check(kernels, 5, FR_KV_F32, few, 2, true);
}

static void threads_rows_and_rollbacks_do_not_matter(void **unused) {
    (void)unused;
    const fr_kernels *kernels;
    for (int i = 0; (kernels = fr_isa_table(i)) != NULL; i++) check_all(kernels);
}

static void neither_do_they_with_many_heads(void **unused) {
    static const int one[] = {1025};
    (void)unused;
    check(fr_isa_kernels(FR_ISA_AUTO), MOST_HEADS, FR_KV_BF16, one, 1, true);
}

static void neither_do_they_by_tiles(void **unused) {
    static const int few[] = {509, 1023}, one[] = {1025};
    fr_kernels kernels = *fr_isa_kernels(FR_ISA_AUTO);
    (void)unused;
    kernels.tiled_attention = &plain_tiles;
    check(&kernels, 1, FR_KV_BF16, few, 2, false);
    check(&kernels, 4, FR_KV_BF16, few, 2, true);
    check(&kernels, 40, FR_KV_BF16, one, 1, true);
}

/* Chunks merged are the softmax of all positions: prefill goes through them in another way. */
static void check_expanded(const fr_kernels *kernels, fr_kv type) {
    static const int lengths[] = {512, 513, 520, 1024, 1030, CTX};
    fixture f;
    float *y = random_floats(CTX * HIDDEN, 0.0f), row[HIDDEN];
    create(&f, kernels, 3, type, CTX);
    fr_kv_cache_truncate(&f.kv, 0);
    attend(&f, 0, CTX, 2, y);
    fr_kv_cache_commit(&f.kv, CTX);
    for (int i = 5; i >= 0; i--)
        for (int threads = 1; threads <= 4; threads += 3) {
            fr_kv_cache_truncate(&f.kv, lengths[i] - 1);
            attend(&f, lengths[i] - 1, 1, threads, row);
            for (int j = 0; j < HIDDEN; j++) assert_true(fabsf(row[j] - y[(lengths[i] - 1) * HIDDEN + j]) < 1e-3f);
            fr_kv_cache_commit(&f.kv, 1);
        }
    release(&f);
    fr_free(y);
}

static void merged_chunks_are_one_softmax(void **unused) {
    (void)unused;
    const fr_kernels *kernels;
    for (int i = 0; (kernels = fr_isa_table(i)) != NULL; i++) check_expanded(kernels, FR_KV_F32);
    fr_kernels tiled = *fr_isa_kernels(FR_ISA_AUTO);
    tiled.tiled_attention = &plain_tiles;
    check_expanded(&tiled, FR_KV_BF16);
}

/* One chunk is the softmax itself, and behind it nothing is merged: not even zeros. */
static void a_chunk_that_a_row_does_not_see_is_not_merged(void **unused) {
    float latent[2][4] = {{-0.0f, 1.0f, -2.0f, 3.0f}, {0.5f, 0.25f, -0.0f, 1.0f}}, max[2] = {1.0f, 3.0f}, sum[2] = {2.0f, 5.0f};
    fr_partials all = {0, latent[0], &max[0], &sum[0]}, next = {0, latent[1], &max[1], &sum[1]};
    (void)unused;
    fr_chunk_merge(all, next, 0, 4);
    const float by = expf(-2.0f);
    assert_true(max[0] == 3.0f && sum[0] == 2.0f * by + 5.0f);
    assert_true(latent[0][1] == by + 0.25f && latent[0][2] == -2.0f * by && latent[0][3] == 3.0f * by + 1.0f);
}

int main(void) {
    random_state = 2718281;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_rows_and_rollbacks_do_not_matter),
        cmocka_unit_test(neither_do_they_with_many_heads),
        cmocka_unit_test(neither_do_they_by_tiles),
        cmocka_unit_test(merged_chunks_are_one_softmax),
        cmocka_unit_test(a_chunk_that_a_row_does_not_see_is_not_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
