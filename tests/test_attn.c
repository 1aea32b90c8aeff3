/* The KV cache, and the two forms of MLA against each other across every block border. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "attn/expanded.h"
#include "core/kernels/isa.h"
#include "core/threads.h"
#include "random_linear.h"

enum { HIDDEN = 48, HEADS = 3, Q_RANK = 20, KV_RANK = 24, NOPE = 16, ROPE = 8, V = 12, CTX = 600 };

static fr_mla random_mla(void) {
    fr_mla m = {.hidden = HIDDEN,
                .heads = HEADS,
                .q_rank = Q_RANK,
                .kv_rank = KV_RANK,
                .nope = NOPE,
                .rope = ROPE,
                .v = V,
                .eps = 1e-6f,
                .softmax_scale = 1.5f};
    m.q_a_proj = random_linear(Q_RANK, HIDDEN);
    m.q_b_proj = random_linear(HEADS * (NOPE + ROPE), Q_RANK);
    m.kv_a_proj_with_mqa = random_linear(KV_RANK + ROPE, HIDDEN);
    m.kv_b_proj = random_linear(HEADS * (NOPE + V), KV_RANK);
    m.o_proj = random_linear(HIDDEN, HEADS * V);
    m.q_a_layernorm = random_floats(Q_RANK, 1.0f);
    m.kv_a_layernorm = random_floats(KV_RANK, 1.0f);
    return m;
}

static void release_mla(fr_mla *m) {
    const fr_linear *all[] = {&m->q_a_proj, &m->q_b_proj, &m->kv_a_proj_with_mqa, &m->kv_b_proj, &m->o_proj};
    for (size_t i = 0; i < 5; i++) fr_free((void *)all[i]->w);
    fr_free(m->q_a_layernorm);
    fr_free(m->kv_a_layernorm);
}

/* Everything that a forward pass needs, for up to CTX rows. */
typedef struct {
    fr_mla mla;
    fr_rope rope;
    fr_rows rows;
    fr_compute compute;
    fr_mla_scratch scratch;
    float *delta; /* [CTX, HIDDEN] */
    void *memory;
    int threads;
} fixture;

static void take(fixture *f, fr_arena *arena) {
    fr_config c = {.qk_rope_head_dim = ROPE, .rope_theta = 10000.0f};
    fr_rope_take(&f->rope, arena, &c, CTX);
    const fr_kernels *kernels = fr_isa_kernels(FR_ISA_AUTO);
    fr_rows_take(&f->rows, arena, kernels, CTX, HIDDEN, FR_INPUT_ANY);
    fr_compute_take(&f->compute, arena, kernels, CTX, f->threads);
    fr_mla_scratch_take(&f->scratch, arena, &f->mla, CTX, &f->compute);
    f->delta = FR_TAKE(arena, float, CTX *HIDDEN);
}

/* Takes all that, for up to `threads`; f->mla is there. */
static void prepare(fixture *f, int threads) {
    fr_arena arena = {0};
    f->threads = threads;
    take(f, &arena);
    arena = (fr_arena){.base = f->memory = fr_alloc(arena.used), .size = arena.used};
    take(f, &arena);
    const fr_linear *linears[] = {&f->mla.q_a_proj, &f->mla.q_b_proj, &f->mla.kv_a_proj_with_mqa, &f->mla.kv_b_proj,
                                  &f->mla.o_proj};
    for (int i = 0; i < 5; i++) assert_int_equal(fr_compute_prepare(&f->compute, linears[i], NULL), FR_OK);
}

static int setup(void **out) {
    fixture *f = fr_alloc_zeroed(1, sizeof *f);
    f->mla = random_mla();
    prepare(f, 3);
    *out = f;
    return 0;
}

static int teardown(void **in) {
    fixture *f = *in;
    release_mla(&f->mla);
    fr_compute_release(&f->compute);
    fr_free(f->memory);
    fr_free(f);
    return 0;
}

typedef struct attention_job {
    fixture *f;
    fr_kv_cache *kv;
    const float *x;
    float *y;
    int n, pos;
} attention_job;

static void run_attention(void *argument) {
    const attention_job *j = argument;
    fixture *f = j->f;
    fr_rows_set(&f->rows, j->x, j->n, HIDDEN, fr_mla_inputs(&f->mla), false);
    fr_mla_forward(&f->mla, &f->rope, j->kv, 1, j->pos, &f->rows, j->y, f->delta, &f->scratch);
}

/* Rows x in passes of `step` rows each (the first of `first`), on `threads` threads; y [rows, HIDDEN]. */
static void run(fixture *f, fr_kv_cache *kv, const float *x, int rows, int first, int step, int threads, float *y) {
    for (int pos = 0; pos < rows;) {
        int n = pos == 0 ? first : step;
        if (n > rows - pos) n = rows - pos;
        memset(y + pos * HIDDEN, 0, (size_t)n * HIDDEN * sizeof *y);
        fr_team_run(threads, run_attention, &(attention_job){f, kv, x + pos * HIDDEN, y + pos * HIDDEN, n, pos});
        fr_kv_cache_commit(kv, n);
        pos += n;
    }
}

static void both_forms_of_mla_agree(void **in) {
    fixture *f = *in;
    float *x = random_floats(CTX * HIDDEN, 1.0f), *absorbed = random_floats(CTX * HIDDEN, 0.0f),
          *expanded = random_floats(CTX * HIDDEN, 0.0f);
    const int lengths[] = {9, 64, 127, 128, 129, 137, 256, 257, 300};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        fr_kv_cache one, many;
        assert_int_equal(fr_kv_cache_create(&one, 2, CTX, KV_RANK, ROPE, FR_KV_F32, NULL), FR_OK);
        assert_int_equal(fr_kv_cache_create(&many, 2, CTX, KV_RANK, ROPE, FR_KV_F32, NULL), FR_OK);
        run(f, &one, x, lengths[i], 1, 1, 1, absorbed);
        run(f, &many, x, lengths[i], lengths[i], 1, 2, expanded);
        for (int j = 0; j < lengths[i] * HIDDEN; j++) assert_true(fabsf(absorbed[j] - expanded[j]) < 5e-4f);
        fr_kv_cache_release(&one);
        fr_kv_cache_release(&many);
    }
    fr_free(x);
    fr_free(absorbed);
    fr_free(expanded);
}

/* However a text is cut into passes of many rows, each row gets the bits that one pass gives it. */
static void cuts_into_passes_do_not_matter(void **in) {
    fixture *f = *in;
    const int firsts[] = {9, 64, 100, 129, 192, 291};
    float *x = random_floats(CTX * HIDDEN, 1.0f), *whole = random_floats(CTX * HIDDEN, 0.0f),
          *cut = random_floats(CTX * HIDDEN, 0.0f);
    for (int type = FR_KV_BF16; type <= FR_KV_F32; type++) {
        fr_kv_cache kv;
        assert_int_equal(fr_kv_cache_create(&kv, 2, CTX, KV_RANK, ROPE, (fr_kv)type, NULL), FR_OK);
        run(f, &kv, x, CTX, CTX, CTX, 1, whole);
        for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
            fr_kv_cache_truncate(&kv, 0);
            run(f, &kv, x, CTX, firsts[i], 70, 1 + (int)i % 3, cut); /* the last pass has more than FR_DECODE_ROWS rows left */
            assert_memory_equal(whole, cut, CTX * HIDDEN * sizeof(float));
        }
        fr_kv_cache_release(&kv);
    }
    fr_free(x);
    fr_free(whole);
    fr_free(cut);
}

/* Heads as one thread's work each, or expanded by all and shared in parts of the rows, as threads were planned and as there are.
 */
static void prefill_has_the_same_bits_on_any_number_of_threads(void **in) {
    static const int planned[] = {2, 5, 16, 64}, passes[] = {CTX, 200, 72, 67};
    fixture *own = *in;
    float *x = random_floats(CTX * HIDDEN, 1.0f), *one = random_floats(CTX * HIDDEN, 0.0f),
          *more = random_floats(CTX * HIDDEN, 0.0f);
    fr_kv_cache kv;
    assert_null(own->scratch.shared);
    assert_int_equal(fr_kv_cache_create(&kv, 2, CTX, KV_RANK, ROPE, FR_KV_BF16, NULL), FR_OK);
    for (int i = 0; i < 4; i++) {
        fixture f = {.mla = own->mla};
        prepare(&f, planned[i]);
        assert_non_null(f.scratch.shared); /* three heads are divided by none of these */
        for (int j = 0; j < 4; j++) {
            fr_kv_cache_truncate(&kv, 0);
            run(own, &kv, x, CTX, passes[j], passes[j], 1, one);
            for (int threads = planned[i]; threads > 0; threads /= 3) {
                fr_kv_cache_truncate(&kv, 0);
                run(&f, &kv, x, CTX, passes[j], passes[j], threads, more);
                assert_memory_equal(one, more, CTX * HIDDEN * sizeof(float));
            }
        }
        fr_compute_release(&f.compute);
        fr_free(f.memory);
    }
    fr_kv_cache_release(&kv);
    fr_free(x);
    fr_free(one);
    fr_free(more);
}

/* Units, not clocks, say that threads are not idle: with 512 rows, those of the busiest are little more than its share. */
static void heads_that_threads_do_not_divide_are_cut(void **in) {
    (void)in;
    static const int heads[] = {128, 128, 20, 16, 64}, threads[] = {192, 24, 16, 64, 48};
    for (int i = 0; i < 5; i++) {
        const int together = fr_expanded_shared_heads(heads[i], threads[i]);
        assert_true(together > 0);
        const int units = together * fr_token_parts(together, 8, threads[i]);
        const int busiest = (units + threads[i] - 1) / threads[i];
        assert_true(units >= threads[i] && 4 * busiest * threads[i] <= 5 * units);
    }
    assert_int_equal(fr_expanded_shared_heads(128, 16), 0); /* nor are others */
    assert_int_equal(fr_expanded_shared_heads(128, 1), 0);
    assert_int_equal(fr_expanded_shared_heads(128, 12), 0); /* a thread idles in a round of eleven */
}

/* Sixteen queries by tiles: right, and each with the same bits in any place of any group, beside any others. Rows that nobody may
 * see hold NaNs. */
static void check_tiles(const fr_tiled_attention *tiled, int width, int rank, int positions, const int *seen) {
    enum { Q = FR_TILED_QUERIES };
    float *q = random_floats((size_t)(Q * width), 1.0f),
          *out[2] = {random_floats((size_t)(Q * rank), 0.0f), random_floats((size_t)(Q * rank), 0.0f)};
    uint16_t *rows = fr_alloc((size_t)(CTX * width) * sizeof *rows);
    for (int i = 0; i < CTX * width; i++) rows[i] = i < positions * width ? fr_f32_bf16(random_value() * 2.0f) : 0x7fc0;
    for (int way = 0; way < 2; way++) { /* all in one group; or the other way round and split into two */
        fr_tiled_queries groups[2];
        fr_arena arena = {0};
        char *memory = NULL;
        void *work = NULL;
        for (int real = 0; real < 2; real++) {
            if (real) memset(memory = fr_alloc(arena.used), 0xff, arena.used);
            arena = (fr_arena){.base = memory, .size = real ? arena.used : 0};
            for (int g = 0; g < 2; g++) tiled->take(&groups[g], &arena, width, rank);
            work = tiled->take_scratch(&arena, width, rank);
        }
        const int count[2] = {way ? 5 : Q, way ? Q - 5 : 0};
        for (int g = 0, first = 0; g <= way; first += count[g++]) {
            const float *queries[Q];
            int see[Q];
            for (int i = 0; i < count[g]; i++) {
                int which = way ? Q - 1 - first - i : i;
                queries[i] = q + which * width;
                see[i] = seen[which];
            }
            tiled->pack(&groups[g], queries, count[g], width);
            tiled->begin(&groups[g], see, count[g], rank);
        }
        for (int at = 0; at < positions; at += FR_TILED_SPAN)
            tiled->fold(groups, 1 + way, rows + at * width, width, at,
                        positions - at < FR_TILED_SPAN ? positions - at : FR_TILED_SPAN, width, rank, work);
        for (int g = 0, first = 0; g <= way; first += count[g++]) {
            float *to[Q], max[Q], total[Q];
            for (int i = 0; i < count[g]; i++) to[i] = out[way] + (way ? Q - 1 - first - i : i) * rank;
            tiled->end(&groups[g], to, max, total, count[g], rank);
            for (int i = 0; i < count[g]; i++)
                for (int j = 0; j < rank; j++) to[i][j] /= total[i];
        }
        fr_free(memory);
    }
    assert_memory_equal(out[0], out[1], (size_t)(Q * rank) * sizeof(float));
    for (int i = 0; i < Q; i++) {
        double p[CTX], max = -INFINITY, total = 0.0;
        for (int t = 0; t < seen[i]; t++) {
            p[t] = 0.0;
            for (int j = 0; j < width; j++) p[t] += (double)q[i * width + j] * (double)fr_bf16_f32(rows[t * width + j]);
            if (p[t] > max) max = p[t];
        }
        for (int t = 0; t < seen[i]; t++) total += p[t] = exp(p[t] - max);
        for (int j = 0; j < rank; j++) {
            double expected = 0.0;
            for (int t = 0; t < seen[i]; t++) expected += p[t] / total * (double)fr_bf16_f32(rows[t * width + j]);
            assert_true(fabs((double)out[0][i * rank + j] - expected) < 3e-4);
        }
    }
    fr_free(q);
    fr_free(out[0]);
    fr_free(out[1]);
    fr_free(rows);
}

static void tiles_are_right_wherever_a_query_stands(void **in) {
    (void)in;
    const fr_tiled_attention *tiled = fr_isa_kernels(FR_ISA_AUTO)->tiled_attention;
    if (!tiled) skip();
    static const int sizes[][2] = {{576, 512}, {80, 64}, {48, 40}, {33, 1}, {32, 32}};
    for (int i = 0; i < 5; i++)
        for (int positions = 1; positions <= CTX; positions += positions < 130 ? 21 : 64) {
            int seen[FR_TILED_QUERIES];
            for (int j = 0; j < FR_TILED_QUERIES; j++) seen[j] = positions - j % 8 > 0 ? positions - j % 8 : 1;
            check_tiles(tiled, sizes[i][0], sizes[i][1], positions, seen);
        }
}

/* A verify pass of any number of rows gives each row, and the cache, the bits of a pass of one. */
static void rows_do_not_matter(void **in) {
    fixture *f = *in;
    float *x = random_floats(CTX * HIDDEN, 1.0f), *y[2] = {random_floats(CTX * HIDDEN, 0.0f), random_floats(CTX * HIDDEN, 0.0f)};
    for (int type = FR_KV_BF16; type <= FR_KV_F32; type++) {
        fr_kv_cache one, kv;
        assert_int_equal(fr_kv_cache_create(&one, 2, CTX, KV_RANK, ROPE, (fr_kv)type, NULL), FR_OK);
        run(f, &one, x, 150, 100, 1, 1, y[0]);
        for (int step = 2; step <= FR_DECODE_ROWS; step++) {
            assert_int_equal(fr_kv_cache_create(&kv, 2, CTX, KV_RANK, ROPE, (fr_kv)type, NULL), FR_OK);
            run(f, &kv, x, 150, 100, step, 1 + step % 3, y[1]);
            assert_memory_equal(y[0], y[1], 150 * HIDDEN * sizeof(float));
            size_t row = (KV_RANK + ROPE) * (type == FR_KV_F32 ? 4u : 2u);
            assert_memory_equal(fr_kv_cache_row(&one, 1, 0), fr_kv_cache_row(&kv, 1, 0), 150 * row);
            fr_kv_cache_release(&kv);
        }
        fr_kv_cache_release(&one);
    }
    fr_free(x);
    fr_free(y[0]);
    fr_free(y[1]);
}

/* Rolling back and going another way leaves what going that way at once leaves. */
static void rollback_leaves_no_trace(void **in) {
    fixture *f = *in;
    float *x = random_floats(CTX * HIDDEN, 1.0f), *y = random_floats(CTX * HIDDEN, 0.0f), *z = random_floats(CTX * HIDDEN, 0.0f);
    fr_kv_cache straight, winding;
    assert_int_equal(fr_kv_cache_create(&straight, 2, CTX, KV_RANK, ROPE, FR_KV_BF16, NULL), FR_OK);
    assert_int_equal(fr_kv_cache_create(&winding, 2, CTX, KV_RANK, ROPE, FR_KV_BF16, NULL), FR_OK);
    run(f, &straight, x, 140, 120, 1, 1, y);
    run(f, &winding, x, 120, 120, 1, 1, z);
    while (winding.length < 140) {
        int pos = winding.length, rows = 1 + (int)(fabsf(random_value()) * 7.0f),
            keep = 1 + (int)(fabsf(random_value()) * (float)rows);
        float *mixed = random_floats((size_t)rows * HIDDEN, 1.0f); /* confirmed rows, then rejected ones */
        if (keep > rows) keep = rows;
        if (keep > 140 - pos) keep = 140 - pos;
        memcpy(mixed, x + pos * HIDDEN, (size_t)keep * HIDDEN * sizeof(float));
        float out[FR_DECODE_ROWS * HIDDEN] = {0};
        fr_rows_set(&f->rows, mixed, rows, HIDDEN, fr_mla_inputs(&f->mla), false);
        fr_mla_forward(&f->mla, &f->rope, &winding, 1, pos, &f->rows, out, f->delta, &f->scratch);
        memcpy(z + pos * HIDDEN, out, (size_t)keep * HIDDEN * sizeof(float));
        fr_kv_cache_commit(&winding, rows);
        fr_kv_cache_truncate(&winding, pos + keep);
        fr_free(mixed);
    }
    assert_memory_equal(y, z, 140 * HIDDEN * sizeof(float));
    assert_memory_equal(fr_kv_cache_row(&straight, 1, 0), fr_kv_cache_row(&winding, 1, 0), 140 * (KV_RANK + ROPE) * 2);
    fr_kv_cache_release(&straight);
    fr_kv_cache_release(&winding);
    fr_free(x);
    fr_free(y);
    fr_free(z);
}

static void a_cache_that_is_too_large_is_an_error(void **in) {
    (void)in;
    fr_kv_cache kv;
    fr_error error;
    assert_int_equal(fr_kv_cache_create(&kv, 1 << 20, 1 << 30, 1 << 20, 64, FR_KV_F32, &error), FR_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "KV cache"));
    assert_true(error.hint[0]);
}

int main(void) {
    random_state = 12345;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_of_mla_agree),
        cmocka_unit_test(cuts_into_passes_do_not_matter),
        cmocka_unit_test(prefill_has_the_same_bits_on_any_number_of_threads),
        cmocka_unit_test(heads_that_threads_do_not_divide_are_cut),
        cmocka_unit_test(tiles_are_right_wherever_a_query_stands),
        cmocka_unit_test(rows_do_not_matter),
        cmocka_unit_test(rollback_leaves_no_trace),
        cmocka_unit_test(a_cache_that_is_too_large_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
