/* How many barriers a decode pass has: at each, all threads wait for the last. The phases of a layer are in model/layer.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/threads.h"
#include "driver.h"
#include "model/cache.h"
#include "model/forward.h"
#include "model/layer.h"

typedef struct counted_layer {
    const fr_model *model;
    fr_workspace *ws;
    fr_kv_cache *kv;
    int layer, pos, rows;
    int size;          /* of the team that it had */
    uint64_t barriers; /* the layer's */
} counted_layer;

static void run_layer(void *argument) {
    counted_layer *c = argument;
    uint64_t before = fr_team_barriers();
    fr_layer_forward(c->model, &c->model->layers[c->layer], c->ws, c->kv, c->layer, c->pos, c->rows);
    if (fr_team_rank() > 0) return;
    c->barriers = fr_team_barriers() - before;
    c->size = fr_team_size();
}

/* Of a layer for `rows` rows by a team of `size`; is_long: positions are so many that a team shares attention by position. */
static uint64_t expected(const fr_config *c, bool is_moe, bool chooses, bool is_long, int rows, int size) {
    bool even = c->num_attention_heads % size == 0, owned = even || rows == 1;
    uint64_t count = is_moe ? 9 : 8;
    if (is_moe && rows > 2) count++; /* rows are routed by several threads */
    if (c->index_topk > 0 && chooses)
        count += (even || rows == 1 ? 3 : 2) + (rows > 1); /* index queries (or as below), scores, choice, its end by rows */
    if (is_long && size > 1 && owned) count += c->q_lora_rank > 0 ? 2 : 1; /* before attention, and in it */
    if (even) return count;
    if (c->q_lora_rank > 0) count++;                   /* queries are split evenly */
    if (rows > 1) count += c->q_lora_rank > 0 ? 2 : 1; /* and so are pairs of a row and a head */
    return count;
}

static void check_model(const char *name, int pos) {
    enum { CTX = 6016 };
    fr_model *model = driver_open(name, driver_best_isa(), FR_ACT_AUTO, 4);
    const fr_config *c = &model->config;
    fr_workspace ws = {0};
    fr_kv_cache kv = {0};
    assert_int_equal(fr_workspace_create(&ws, model, FR_DECODE_ROWS, CTX, NULL), FR_OK);
    assert_int_equal(fr_cache_create(&kv, c, FR_CACHE_MAIN, CTX, FR_KV_BF16, NULL), FR_OK);
    memset(kv.rows, 0, fr_kv_cache_bytes(kv.layers, CTX, kv.rank, kv.rope, kv.type));
    for (int rows = 1; rows <= FR_DECODE_ROWS; rows++) {
        for (int r = 0; r < rows; r++) fr_embed(model->kernels, &model->embed_tokens, 5 + r, ws.x + (size_t)(r * c->hidden_size));
        for (int threads = 1; threads <= 4; threads++)
            for (int layer = 0; layer < 2; layer++) { /* a dense one, one with experts */
                counted_layer counted = {model, &ws, &kv, layer, pos, rows, 0, 0};
                assert_int_equal(model->layers[layer].is_moe, layer == 1);
                fr_team_run(threads, run_layer, &counted);
                assert_int_equal(counted.barriers,
                                 expected(c, layer == 1, pos + rows > c->index_topk, pos > 512, rows, counted.size));
            }
    }
    fr_kv_cache_release(&kv);
    fr_workspace_release(&ws);
    fr_model_destroy(model);
}

static void a_layer_has_nine_barriers(void **state) {
    (void)state;
    check_model("nano-mtp-s1", 0);
    check_model("pico-noqlora-s1", 0); /* no latent for queries */
}

static void attention_that_is_shared_by_position_has_two_more(void **state) {
    (void)state;
    check_model("nano-mtp-s1", 4000);
    check_model("pico-noqlora-s1", 6000); /* one of them is there anyway */
}

/* An indexer costs no barrier until there are more positions than it may choose. */
static void an_indexer_that_chooses_has_three_more_or_four(void **state) {
    (void)state;
    check_model("pico-v32", 0);
    check_model("pico-v32", 20);
}

typedef struct shared_work {
    int done_by, before; /* who did it, after how many others had come */
    atomic_int came;
} shared_work;

static void do_it(void *argument) {
    shared_work *w = argument;
    w->done_by = fr_team_rank();
    w->before = atomic_load(&w->came);
}

static void come_and_do(void *argument) {
    shared_work *w = argument;
    for (int i = 0; i < 100; i++) {
        atomic_fetch_add(&w->came, 1);
        fr_team_barrier_do(do_it, w);
        if (w->before != (i + 1) * fr_team_size() || w->done_by < 0) atomic_fetch_add(&w->came, 1000000);
        fr_team_barrier();
    }
}

static void the_last_to_come_does_what_is_one_threads_work(void **state) {
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        shared_work w = {.done_by = -1};
        fr_team_run(threads, come_and_do, &w);
        assert_in_range(w.came, 100, 100 * threads);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_has_nine_barriers),
        cmocka_unit_test(attention_that_is_shared_by_position_has_two_more),
        cmocka_unit_test(an_indexer_that_chooses_has_three_more_or_four),
        cmocka_unit_test(the_last_to_come_does_what_is_one_threads_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
