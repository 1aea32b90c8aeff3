/* Where threads and copied weights go on machines that are made up (HWLOC_SYNTHETIC), and the barrier that follows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/barrier.h"
#include "core/memory.h"
#include "core/topology.h"
#include "driver.h"
#include "goldens.h"

static fr_topology *open_machine(const char *description) {
    setenv("HWLOC_SYNTHETIC", description, 1);
    fr_topology *t = fr_topology_open();
    unsetenv("HWLOC_SYNTHETIC");
#ifndef FR_HWLOC
    assert_null(t);
    skip(); /* built without hwloc: nothing is known */
#endif
    assert_non_null(t);
    return t;
}

static const char two_sockets[] = "pack:2 [numa] l3:4 core:4 pu:2"; /* 32 cores, 8 caches, 2 nodes */

static void as_many_threads_as_cores_have_one_each(void **state) {
    (void)state;
    fr_topology *t = open_machine(two_sockets);
    fr_core_range places[33];
    assert_int_equal(fr_topology_cores(t), 32);
    assert_int_equal(fr_topology_nodes(t), 2);
    assert_true(fr_topology_spread(t, 32, places));
    for (int i = 0; i < 32; i++) {
        assert_int_equal(places[i].first, i);
        assert_int_equal(places[i].count, 1);
        assert_int_equal(places[i].seat.cache, i / 4);
        assert_int_equal(places[i].seat.node, i / 16);
    }
    assert_false(fr_topology_spread(t, 33, places));
    fr_topology_close(t);
}

static void fewer_threads_are_spread_over_caches_and_nodes(void **state) {
    (void)state;
    fr_topology *t = open_machine(two_sockets);
    for (int threads = 1; threads < 32; threads++) {
        fr_core_range places[32];
        int at = 0, most = 0, least = 32;
        assert_true(fr_topology_spread(t, threads, places));
        for (int i = 0; i < threads; i++) { /* all cores, and each once */
            assert_int_equal(places[i].first, at);
            at += places[i].count;
            if (places[i].count > most) most = places[i].count;
            if (places[i].count < least) least = places[i].count;
            if (threads == 8) assert_int_equal(places[i].seat.cache, i);
            if (threads == 2) assert_int_equal(places[i].seat.node, i);
        }
        assert_int_equal(at, 32);
        assert_in_range(most - least, 0, 1);
    }
    fr_topology_close(t);
}

static void a_machine_without_nodes_or_caches_has_one_of_each(void **state) {
    (void)state;
    fr_topology *t = open_machine("core:6 pu:1");
    fr_core_range places[6];
    assert_int_equal(fr_topology_nodes(t), 1);
    assert_true(fr_topology_spread(t, 6, places));
    for (int i = 1; i < 6; i++) assert_memory_equal(&places[i].seat, &places[0].seat, sizeof(fr_seat));
    fr_topology_close(t);
}

/* ---- The barrier ---- */

/* The meeting where two members' ways to the root meet. */
static int common_meeting(const fr_barrier *b, int x, int y) {
    for (int i = x; i >= 0; i = b->meetings[i].parent)
        for (int j = y; j >= 0; j = b->meetings[j].parent)
            if (i == j) return i;
    return -1;
}

/* Everybody comes, in any order: the last one alone opens, and again in the next round. */
static void check_rounds(fr_barrier *b, const int *leaf, int members) {
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < members; i++)
            assert_int_equal(fr_barrier_arrive(b, leaf[(i * 7 + round) % members]), i == members - 1);
}

static void build(fr_barrier *b, const fr_seat *seats, int members, int *leaf) {
    b->meetings = fr_alloc_zeroed((size_t)fr_barrier_most_meetings(members), sizeof *b->meetings);
    assert_non_null(b->meetings);
    fr_barrier_build(b, seats, members, leaf);
    assert_in_range(b->count, 1, fr_barrier_most_meetings(members));
}

static void a_barriers_tree_follows_caches_and_nodes(void **state) {
    (void)state;
    fr_topology *t = open_machine("pack:2 [numa] l3:12 core:8 pu:2"); /* 192 cores */
    enum { CORES = 192 };
    fr_core_range places[CORES];
    fr_seat seats[CORES];
    int leaf[CORES];
    fr_barrier b = {0};
    assert_true(fr_topology_spread(t, CORES, places));
    for (int i = 0; i < CORES; i++) seats[i] = places[i].seat;
    build(&b, seats, CORES, leaf);
    assert_int_equal(b.leaves, 24);
    for (int i = 0; i < CORES; i++) assert_int_equal(leaf[i], i / 8);
    int root = b.count - 1;
    for (int i = 0; i < b.count; i++) {
        assert_in_range(b.meetings[i].expected, 1, FR_BARRIER_WIDTH);
        assert_true((b.meetings[i].parent < 0) == (i == root));
    }
    for (int i = 0; i < CORES / 2; i++) assert_int_equal(common_meeting(&b, leaf[i], leaf[CORES / 2 + i]), root);
    assert_true(common_meeting(&b, leaf[0], leaf[8]) != root);
    check_rounds(&b, leaf, CORES);
    fr_free(b.meetings);
    fr_topology_close(t);
}

static void few_members_have_one_counter(void **state) {
    (void)state;
    for (int members = 2; members <= FR_BARRIER_WIDTH; members++) {
        fr_seat seats[FR_BARRIER_WIDTH] = {{0, 0}};
        int leaf[FR_BARRIER_WIDTH];
        fr_barrier b = {0};
        build(&b, seats, members, leaf);
        assert_int_equal(b.count, 1);
        check_rounds(&b, leaf, members);
        fr_free(b.meetings);
    }
}

static void any_number_of_members_in_any_seats_meets(void **state) {
    enum { MOST = 600 };
    static fr_seat seats[MOST];
    static int leaf[MOST];
    uint64_t bits = 1;
    (void)state;
    for (int members = 2; members < MOST; members += 1 + members / 3)
        for (int kind = 0; kind < 3; kind++) {
            fr_barrier b = {0};
            for (int i = 0; i < members; i++) {
                bits = bits * 6364136223846793005u + 1442695040888963407u;
                int node = kind == 0 ? 0 : kind == 1 ? i * 4 / members : (int)(bits >> 62);
                seats[i] = (fr_seat){kind == 2 ? (int)(bits >> 40 & 15) : i / 5, node};
            }
            build(&b, seats, members, leaf);
            if (members % 7 != 0) check_rounds(&b, leaf, members);
            fr_free(b.meetings);
        }
}

/* ---- Weights ---- */

/* Whether opening with copied weights says that they are spread over memory nodes. */
static bool says_spread(const char *machine, fr_weights weights, const char *expected) {
    char dir[512];
    fr_model *model;
    size_t count;
    bool said = false;
    golden_model_dir("pico-s1", dir, sizeof dir);
    setenv("HWLOC_SYNTHETIC", machine, 1);
    fr_model_options options = {.threads = 2, .weights = weights};
    assert_int_equal(fr_model_open(dir, &options, &model, NULL), FR_OK);
    unsetenv("HWLOC_SYNTHETIC");
    const fr_notice *notices = fr_model_notices(model, &count);
    for (size_t i = 0; i < count; i++)
        said |= strcmp(notices[i].what, "memory nodes") == 0 && strstr(notices[i].why, expected) != NULL;
    fr_model_destroy(model);
    return said;
}

static void copied_weights_are_spread_over_nodes_and_it_is_said(void **state) {
    (void)state;
    fr_topology_close(open_machine(two_sockets)); /* or skipped */
    assert_true(says_spread("pack:4 [numa] core:4 pu:1", FR_WEIGHTS_COPY, "over 4 of them"));
    assert_true(says_spread(two_sockets, FR_WEIGHTS_COPY, "over 2 of them"));
    assert_false(says_spread("pack:2 core:4 pu:1", FR_WEIGHTS_COPY, "")); /* one node */
    assert_false(says_spread(two_sockets, FR_WEIGHTS_MMAP, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_threads_as_cores_have_one_each),
        cmocka_unit_test(fewer_threads_are_spread_over_caches_and_nodes),
        cmocka_unit_test(a_machine_without_nodes_or_caches_has_one_of_each),
        cmocka_unit_test(a_barriers_tree_follows_caches_and_nodes),
        cmocka_unit_test(few_members_have_one_counter),
        cmocka_unit_test(any_number_of_members_in_any_seats_meets),
        cmocka_unit_test(copied_weights_are_spread_over_nodes_and_it_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
