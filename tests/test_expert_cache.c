/* The books of the expert cache: what stays, what goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "moe/expert_cache.h"

enum { LAYERS = 3, EXPERTS = 20, SLOTS = 12 };

typedef struct fixture {
    fr_expert_cache cache;
    void *memory;
    uint64_t random;
} fixture;

static int set_up(void **state) {
    fixture *f = fr_alloc_zeroed(1, sizeof *f);
    fr_arena arena = {0};
    fr_expert_cache_take(&f->cache, &arena, LAYERS, EXPERTS, SLOTS);
    arena = (fr_arena){.size = arena.used, .base = f->memory = fr_alloc(arena.used)};
    fr_expert_cache_take(&f->cache, &arena, LAYERS, EXPERTS, SLOTS);
    f->random = 1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    fr_free(f->memory);
    fr_free(f);
    return 0;
}

static int below(fixture *f, int n) {
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    return (int)((f->random >> 33) % (uint64_t)n);
}

/* As a pass does. Returns whether it was there. */
static bool use(fr_expert_cache *c, int32_t key, double share) {
    bool hit = c->slot_of[key] >= 0;
    fr_expert_cache_choose(c, key, share);
    if (!hit) fr_expert_cache_put(c, fr_expert_cache_victim(c, key, false), key);
    return hit;
}

static void check_books(const fr_expert_cache *c) {
    int held = 0;
    for (int key = 0; key < LAYERS * EXPERTS; key++) {
        if (c->slot_of[key] < 0) continue;
        assert_int_equal(c->key_of[c->slot_of[key]], key);
        held++;
    }
    for (int i = 0; i < SLOTS; i++) held -= c->key_of[i] >= 0;
    assert_int_equal(held, 0);
}

static void both_books_agree_after_anything(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    for (int i = 0; i < 20000; i++) {
        int key = below(f, LAYERS * EXPERTS), slot = below(f, SLOTS);
        if (i % 3 == 0) fr_expert_cache_age(c);
        if (below(f, 5) > 0)
            use(c, key, 1.0);
        else
            fr_expert_cache_empty(c, slot);
        if (i % 100 == 0) check_books(c);
    }
}

static void what_is_pinned_stays_and_with_all_pinned_there_is_no_room(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    for (int key = 0; key < SLOTS; key++) use(c, key, 1.0);
    c->pins[c->slot_of[3]]++;
    for (int i = 0; i < 1000; i++) {
        fr_expert_cache_age(c);
        use(c, SLOTS + below(f, LAYERS * EXPERTS - SLOTS), 1.0);
    }
    assert_true(c->slot_of[3] >= 0);
    for (int i = 0; i < SLOTS; i++) c->pins[i]++;
    int absent = 0;
    while (c->slot_of[absent] >= 0) absent++;
    assert_int_equal(fr_expert_cache_victim(c, absent, false), -1);
}

static void the_coldest_goes_and_of_equals_the_one_that_was_used_longest_ago(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    for (int key = 0; key < SLOTS; key++) use(c, key, 1.0);
    for (int i = 0; i < SLOTS; i++) c->used[c->slot_of[i]] = 100 + (uint64_t)(i * 7 % SLOTS);
    fr_expert_cache_choose(c, 0, 1.0);                                    /* 0 is warmer now; all others are alike */
    assert_int_equal(c->key_of[fr_expert_cache_victim(c, 50, false)], 7); /* 7 * 7 % 12 is 1 */
    c->warmth[4] /= 2;
    assert_int_equal(c->key_of[fr_expert_cache_victim(c, 50, false)], 4);
    assert_int_equal(fr_expert_cache_victim(c, 50, true), -1); /* 50 was never chosen */
    fr_expert_cache_choose(c, 50, 0.6);
    assert_int_equal(c->key_of[fr_expert_cache_victim(c, 50, true)], 4);
}

/* What was chosen often long ago gives way to what is chosen now. */
static void warmth_wears_off(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    for (int pass = 0; pass < 1000; pass++)
        for (int layer = 0; layer < LAYERS; layer++) {
            fr_expert_cache_age(c);
            for (int e = 0; e < 4; e++) use(c, layer * EXPERTS + e, 1.0);
        }
    for (int pass = 0; pass < 300; pass++)
        for (int layer = 0; layer < LAYERS; layer++) {
            fr_expert_cache_age(c);
            for (int e = 10; e < 14; e++) use(c, layer * EXPERTS + e, 1.0);
        }
    for (int layer = 0; layer < LAYERS; layer++)
        for (int e = 10; e < 14; e++) assert_true(c->slot_of[layer * EXPERTS + e] >= 0);
}

/* Experts that rows go back to stay through a prefill that goes through all of them, several times. */
static void a_prefill_does_not_wash_out_what_decoding_uses(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    for (int pass = 0; pass < 100; pass++)
        for (int layer = 0; layer < LAYERS; layer++) {
            fr_expert_cache_age(c);
            for (int e = 0; e < 3; e++) use(c, layer * EXPERTS + e, 1.0);
        }
    for (int chunk = 0; chunk < 3; chunk++)
        for (int layer = 0; layer < LAYERS; layer++) {
            fr_expert_cache_age(c);
            for (int e = 0; e < EXPERTS; e++) use(c, layer * EXPERTS + e, 0.1);
        }
    for (int layer = 0; layer < LAYERS; layer++)
        for (int e = 0; e < 3; e++) assert_true(c->slot_of[layer * EXPERTS + e] >= 0);
}

/* Of choices that are skewed as experts' are, it keeps more than what was used last would be. */
static void it_hits_more_often_than_the_last_ones_used_would(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    int32_t recent[SLOTS];
    int hits = 0, recent_hits = 0, used = 0;
    memset(recent, -1, sizeof recent);
    for (int pass = 0; pass < 4000; pass++)
        for (int layer = 0; layer < LAYERS; layer++) {
            fr_expert_cache_age(c);
            for (int k = 0; k < 2; k++) {
                int e = below(f, EXPERTS) * below(f, EXPERTS) / EXPERTS;
                int32_t key = layer * EXPERTS + e;
                hits += use(c, key, 1.0);
                used++;
                int at = 0;
                while (at < SLOTS - 1 && recent[at] != key) at++;
                recent_hits += recent[at] == key;
                memmove(recent + 1, recent, (size_t)at * sizeof *recent);
                recent[0] = key;
            }
        }
    assert_true(hits > used / 4);
    assert_true(hits > recent_hits + used / 50);
}

static void time_does_not_end(void **state) {
    fixture *f = *state;
    fr_expert_cache *c = &f->cache;
    use(c, 1, 1.0);
    for (int i = 0; i < 60000; i++) fr_expert_cache_age(c);
    assert_true(c->unit < 1e101);
    use(c, 2, 1.0);
    assert_true(c->warmth[2] > c->warmth[1]);
    check_books(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_books_agree_after_anything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_pinned_stays_and_with_all_pinned_there_is_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_coldest_goes_and_of_equals_the_one_that_was_used_longest_ago, set_up, tear_down),
        cmocka_unit_test_setup_teardown(warmth_wears_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_prefill_does_not_wash_out_what_decoding_uses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_hits_more_often_than_the_last_ones_used_would, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_does_not_end, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("expert_cache", tests, NULL, NULL);
}
