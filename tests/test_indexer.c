/* Sparse attention beside what it is made of: the choice against sorting and against the goldens', and attention over chosen
 * positions against dense attention. (test_golden holds its results to the goldens.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attn/indexer.h"
#include "core/kernels/isa.h"
#include "core/threads.h"
#include "driver.h"
#include "goldens.h"
#include "model/cache.h"
#include "model/forward.h"
#include "model/layer.h"
#include "mtp/drafters/mtp_module.h"

static uint32_t state = 7;

static uint32_t draw(uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

/* ---- The choice ---- */

static const float *sorted_scores;

static int by_score(const void *a, const void *b) {
    int i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sorted_scores[i] != sorted_scores[j]) return sorted_scores[i] > sorted_scores[j] ? -1 : 1;
    return i - j;
}

static int by_position(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

enum { MOST = 512, TEAM = 5 };

typedef struct selection {
    fr_select select;
    float scores[MOST];
    int n, k;
    int32_t chosen[MOST];
} selection;

static void finish(void *argument) {
    selection *s = argument;
    fr_select_finish(&s->select, 0, s->scores, s->k, s->chosen);
}

/* Each thread has a part of the scores, as they come: here in two steps. TEAM. */
static void select_largest(void *argument) {
    selection *s = argument;
    int begin, end;
    fr_team_split(s->n, 1, &begin, &end);
    int middle = (begin + end) / 2;
    fr_select_begin(&s->select, 1);
    fr_select_count(&s->select, 0, s->scores, begin, middle);
    fr_select_count(&s->select, 0, s->scores, middle, end);
    fr_team_barrier();
    fr_select_collect(&s->select, 0, s->scores, s->k);
    fr_team_barrier_do(finish, s);
}

static void check_choice(const float *scores, int n, int k) {
    selection s = {.n = n, .k = k};
    int32_t want[MOST];
    fr_arena arena = {0};
    assert_true(n <= MOST);
    for (int i = 0; i < n; i++) want[i] = i;
    sorted_scores = scores;
    qsort(want, (size_t)n, sizeof *want, by_score);
    qsort(want, (size_t)k, sizeof *want, by_position);
    fr_select_take(&s.select, &arena, 1, TEAM, n);
    arena = (fr_arena){.base = fr_alloc(arena.used), .size = arena.used};
    fr_select_take(&s.select, &arena, 1, TEAM, n);
    memcpy(s.scores, scores, (size_t)n * sizeof *scores);
    fr_team_run(1 + (n + k) % TEAM, select_largest, &s);
    assert_memory_equal(s.chosen, want, (size_t)k * sizeof *want);
    fr_free(arena.base);
}

/* Few values, so that many are equal; zeros of both signs are equal too. */
static void the_largest_are_chosen_and_of_equals_the_first(void **unused) {
    float scores[512];
    (void)unused;
    for (int trial = 0; trial < 2000; trial++) {
        int n = 1 + (int)draw(512), k = 1 + (int)draw((uint32_t)n);
        uint32_t values = trial % 3 == 0 ? 3 : trial % 3 == 1 ? 40 : 1u << 24;
        for (int i = 0; i < n; i++) {
            scores[i] = (float)((int)draw(values) - (int)values / 2) * 0.37f;
            if (scores[i] == 0.0f && draw(2)) scores[i] = -0.0f;
        }
        check_choice(scores, n, k);
    }
}

/* ---- The golden choices ---- */

/* A pass of the main model's layers, one after the other. */
typedef struct layers_pass {
    const fr_model *model;
    fr_workspace *ws;
    fr_kv_cache *kv;
    const int32_t *tokens;
    int rows;
    const golden *g;
    const char *isa;
} layers_pass;

static void same_positions(const golden *g, const fr_index_scratch *s, const int32_t *want, int first, int rows, const char *what,
                           const char *isa) {
    for (int r = 0; r < rows; r++) {
        const fr_choice *choice = &s->choices[r];
        const int32_t *row = want + (size_t)(first + r) * (size_t)g->index_topk;
        assert_int_equal(choice->count, first + r < g->index_topk ? first + r + 1 : g->index_topk);
        for (int i = 0; i < choice->count; i++)
            if ((choice->positions ? choice->positions[i] : i) != row[i])
                fail_msg("%s on %s, %s row %d: choice %d is %d, not %d", g->label, isa, what, first + r, i,
                         choice->positions ? choice->positions[i] : i, row[i]);
    }
}

static void run_layers(void *argument) {
    const layers_pass *p = argument;
    const golden *g = p->g;
    int pos = p->kv->length, seen = 0;
    size_t width = (size_t)g->hidden_size;
    for (int r = 0; r < p->rows; r++)
        fr_embed(p->model->kernels, &p->model->embed_tokens, p->tokens[r], p->ws->x + (size_t)r * width);
    for (int i = 0; i < p->model->config.num_hidden_layers; i++) {
        fr_layer_forward(p->model, &p->model->layers[i], p->ws, p->kv, i, pos, p->rows);
        if (seen < g->index_layers && g->index_layer[seen] == i) seen++;
        char what[32];
        snprintf(what, sizeof what, "layer %d", i);
        same_positions(g, &p->ws->mla.index, g->index_idx + (size_t)(seen - 1) * (size_t)(g->length * g->index_topk), pos,
                       p->rows, what, p->isa);
    }
    assert_int_equal(seen, g->index_layers);
}

static void check_choices(const golden *g, const fr_model *model, int chunk, const char *isa) {
    fr_workspace ws = {0};
    fr_kv_cache kv = {0}, mtp = {0};
    int32_t *text = golden_text(g);
    assert_int_equal(fr_workspace_create(&ws, model, chunk, g->length, NULL), FR_OK);
    assert_int_equal(fr_cache_create(&kv, &model->config, FR_CACHE_MAIN, g->length, FR_KV_F32, NULL), FR_OK);
    assert_int_equal(fr_cache_create(&mtp, &model->config, FR_CACHE_MTP, g->length, FR_KV_F32, NULL), FR_OK);
    for (int first = 0, n; first < g->length; first += n) {
        n = g->length - first < chunk ? g->length - first : chunk;
        layers_pass p = {model, &ws, &kv, text + first, n, g, isa};
        fr_team_run(1, run_layers, &p);
        fr_kv_cache_commit(&kv, n);
        fr_mtp_forward(model, &ws, &mtp, g->hidden + (size_t)(first * g->hidden_size), text + first + 1, n, n, first);
        same_positions(g, &ws.mla.index, g->mtp_index_idx, first, n, "MTP", isa);
        fr_kv_cache_commit(&mtp, n);
    }
    fr_kv_cache_release(&kv);
    fr_kv_cache_release(&mtp);
    fr_workspace_release(&ws);
    free(text);
}

static void the_golden_positions_are_chosen(void **unused) {
    (void)unused;
    for (int isa = 0; isa < DRIVER_ISAS; isa++)
        for (int i = GOLDEN_SPARSE; i < GOLDEN_ALL; i++) {
            fr_model *model = driver_open(golden_cases[i].model, driver_isa(isa), FR_ACT_NONE, 1);
            for (int j = 0; model && j < GOLDEN_LENGTHS; j++) {
                golden g;
                golden_load(golden_cases[i].model, golden_cases[i].lengths[j], GOLDEN_F32, &g);
                assert_true(g.index_layers > 0);
                check_choices(&g, model, 5, fr_isa_name(driver_isa(isa)));
                check_choices(&g, model, 256, fr_isa_name(driver_isa(isa)));
                golden_release(&g);
            }
            fr_model_destroy(model);
        }
}

/* ---- Attention ---- */

enum { CTX = 200 };

static void set_rows(const fr_model *model, fr_workspace *ws, int pos, int rows) {
    size_t width = (size_t)model->config.hidden_size;
    for (int r = 0; r < rows; r++) fr_embed(model->kernels, &model->embed_tokens, (pos + r) * 7 % 300, ws->x + (size_t)r * width);
}

/* A layer that shares the choice of another is given a list of all positions, and none: the first takes the way of sparse
 * attention, the second that of dense attention. */
static void check_all_listed(const fr_model *model, fr_kv type, int chunk) {
    enum { SHARED = 2 };
    size_t width = (size_t)model->config.hidden_size;
    float *y = calloc(CTX * width, sizeof *y);
    int32_t all[CTX];
    fr_workspace ws = {0};
    fr_kv_cache kv[2];
    for (int i = 0; i < CTX; i++) all[i] = i;
    assert_int_equal(model->layers[SHARED].mla.indexer.topk, 0);
    assert_int_equal(fr_workspace_create(&ws, model, CTX, CTX, NULL), FR_OK);
    for (int listed = 0; listed < 2; listed++) {
        assert_int_equal(fr_cache_create(&kv[listed], &model->config, FR_CACHE_MAIN, CTX, type, NULL), FR_OK);
        for (int pos = 0, n; pos < CTX; pos += n) {
            n = CTX - pos < chunk ? CTX - pos : chunk;
            set_rows(model, &ws, pos, n);
            for (int r = 0; r < n; r++) ws.mla.index.choices[r] = (fr_choice){pos + r + 1, listed ? all : NULL};
            driver_layer(model, &ws, &kv[listed], SHARED, pos, n, model->threads);
            if (!listed) memcpy(y + (size_t)pos * width, ws.x, (size_t)n * width * sizeof *y);
            if (listed) assert_memory_equal(y + (size_t)pos * width, ws.x, (size_t)n * width * sizeof *y);
            fr_kv_cache_commit(&kv[listed], n);
        }
    }
    for (int i = 0; i < 2; i++) fr_kv_cache_release(&kv[i]);
    fr_workspace_release(&ws);
    free(y);
}

static void chosen_positions_that_are_all_give_the_bits_of_dense_attention(void **unused) {
    (void)unused;
    for (int isa = 0; isa < DRIVER_ISAS; isa++) {
        fr_model *model = driver_open("pico-glm52", driver_isa(isa), FR_ACT_NONE, 1 + isa % 2);
        if (!model) continue;
        for (int type = FR_KV_BF16; type <= FR_KV_F32; type++) {
            check_all_listed(model, (fr_kv)type, 1);
            check_all_listed(model, (fr_kv)type, 8);
            check_all_listed(model, (fr_kv)type, CTX);
        }
        fr_model_destroy(model);
    }
}

/* However a text is cut into passes, of one row to eight or of more, and whatever threads share them: each row chooses the same
 * positions, and has the bits that it has alone or in one pass. */
static void check_cuts(const fr_model *model, fr_kv type, const int *cuts, int num_cuts) {
    size_t width = (size_t)model->config.hidden_size, topk = (size_t)model->config.index_topk;
    float *y[2] = {calloc(CTX * width, sizeof(float)), calloc(CTX * width, sizeof(float))};
    int32_t *chosen[2] = {calloc(CTX * topk, sizeof(int32_t)), calloc(CTX * topk, sizeof(int32_t))};
    fr_workspace ws = {0};
    assert_false(model->layers[0].is_moe);
    assert_int_equal(fr_workspace_create(&ws, model, CTX, CTX, NULL), FR_OK);
    for (int cut = 0; cut < num_cuts; cut++) {
        fr_kv_cache kv;
        int way = cut > 0;
        assert_int_equal(fr_cache_create(&kv, &model->config, FR_CACHE_MAIN, CTX, type, NULL), FR_OK);
        for (int pos = 0, n; pos < CTX; pos += n) {
            n = CTX - pos < cuts[cut] ? CTX - pos : cuts[cut];
            set_rows(model, &ws, pos, n);
            driver_layer(model, &ws, &kv, 0, pos, n, 1 + (cut + pos) % 3);
            memcpy(y[way] + (size_t)pos * width, ws.x, (size_t)n * width * sizeof(float));
            for (int r = 0; r < n; r++) {
                const fr_choice *choice = &ws.mla.index.choices[r];
                int32_t *to = chosen[way] + (size_t)(pos + r) * topk;
                assert_int_equal(choice->count, pos + r < (int)topk ? pos + r + 1 : (int)topk);
                for (int i = 0; i < choice->count; i++) to[i] = choice->positions ? choice->positions[i] : i;
            }
            fr_kv_cache_commit(&kv, n);
        }
        if (way) assert_memory_equal(y[0], y[1], CTX * width * sizeof(float));
        if (way) assert_memory_equal(chosen[0], chosen[1], CTX * topk * sizeof(int32_t));
        fr_kv_cache_release(&kv);
    }
    for (int i = 0; i < 2; i++) {
        free(y[i]);
        free(chosen[i]);
    }
    fr_workspace_release(&ws);
}

static void cuts_into_passes_do_not_matter(void **unused) {
    (void)unused;
    static const int decode[] = {1, 2, 3, 5, 8}, prefill[] = {CTX, 10, 20, 50, 100}; /* no last pass of eight rows or fewer */
    for (int isa = 0; isa < DRIVER_ISAS; isa++) {
        fr_model *model = driver_open("pico-v32", driver_isa(isa), isa % 2 ? FR_ACT_FP8 : FR_ACT_NONE, 3);
        if (!model) continue;
        for (int type = FR_KV_BF16; type <= FR_KV_F32; type++) {
            check_cuts(model, (fr_kv)type, decode, 5);
            check_cuts(model, (fr_kv)type, prefill, 5);
        }
        fr_model_destroy(model);
    }
}

/* What is not chosen has no influence: NaNs there change nothing. */
static void positions_that_are_not_chosen_do_not_matter(void **unused) {
    (void)unused;
    enum { SHARED = 2, POS = 150 };
    fr_model *model = driver_open("pico-glm52", FR_ISA_AUTO, FR_ACT_NONE, 2);
    size_t width = (size_t)model->config.hidden_size, row = (size_t)(model->config.kv_lora_rank + model->config.qk_rope_head_dim);
    fr_workspace ws = {0};
    fr_kv_cache kv;
    float y[2][8 * 256];
    int32_t chosen[] = {0, 3, 4, 5, 63, 64, 65, 90, 127, 128, 149};
    assert_true(width <= 256);
    assert_int_equal(fr_workspace_create(&ws, model, CTX, CTX, NULL), FR_OK);
    assert_int_equal(fr_cache_create(&kv, &model->config, FR_CACHE_MAIN, CTX, FR_KV_F32, NULL), FR_OK);
    set_rows(model, &ws, 0, POS);
    fr_indexer_see_all(0, POS, &ws.mla.index);
    driver_layer(model, &ws, &kv, SHARED, 0, POS, 2);
    fr_kv_cache_commit(&kv, POS);
    for (int spoilt = 0; spoilt < 2; spoilt++) {
        for (int t = 0, i = 0; spoilt && t < POS; t++)
            if (i < 11 && chosen[i] == t)
                i++;
            else
                memset((void *)fr_kv_cache_row(&kv, SHARED, t), 0xff, row * sizeof(float));
        set_rows(model, &ws, POS, 8);
        for (int r = 0; r < 8; r++) ws.mla.index.choices[r] = (fr_choice){11, chosen};
        driver_layer(model, &ws, &kv, SHARED, POS, 8, 2);
        memcpy(y[spoilt], ws.x, 8 * width * sizeof(float));
    }
    assert_memory_equal(y[0], y[1], 8 * width * sizeof(float));
    fr_kv_cache_release(&kv);
    fr_workspace_release(&ws);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_are_chosen_and_of_equals_the_first),
        cmocka_unit_test(the_golden_positions_are_chosen),
        cmocka_unit_test(chosen_positions_that_are_all_give_the_bits_of_dense_attention),
        cmocka_unit_test(cuts_into_passes_do_not_matter),
        cmocka_unit_test(positions_that_are_not_chosen_do_not_matter),
    };
    return cmocka_run_group_tests_name("indexer", tests, NULL, NULL);
}
