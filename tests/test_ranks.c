/* Exchanges between ranks, whatever the sizes. The transport is threads; with the argument "mpi", under mpirun, it is MPI
 * (test_ranks_mpi.sh). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/dtype.h"
#include "thread_ranks.h"

/* cmocka's assertions are the main thread's: a rank counts what is wrong. */
typedef struct tally {
    atomic_int wrong;
} tally;

static void expect(tally *t, bool holds) {
    if (!holds) atomic_fetch_add(&t->wrong, 1);
}

static fr_ranks *joined; /* MPI's; NULL: threads are the ranks */

static void run_and_check(int size, void (*work)(const fr_ranks *ranks, void *user)) {
    tally t = {0};
    if (joined)
        work(joined, &t);
    else
        run_ranks(size, work, &t);
    assert_int_equal(atomic_load(&t.wrong), 0);
}

/* ---- Outside of passes ---- */

static void share_text(const fr_ranks *ranks, void *user) {
    char text[300] = "another";
    if (ranks->rank == 0) strcpy(text, "what rank 0 says");
    fr_ranks_share(ranks, text, sizeof text);
    expect(user, strcmp(text, "what rank 0 says") == 0);
}

static void everybody_has_what_rank_0_shares(void **state) {
    (void)state;
    for (int size = 1; size <= 4; size++) run_and_check(size, share_text);
}

static void fail_somewhere(const fr_ranks *ranks, void *user) {
    fr_error error = {0};
    char wanted[64];
    expect(user, fr_ranks_agree(ranks, FR_OK, &error) == FR_OK);
    for (int failing = 0; failing < ranks->size; failing++) {
        fr_status status = FR_OK;
        if (ranks->rank >= failing) status = fr_fail(&error, FR_ERROR_IO, "rank %d has no disk", ranks->rank);
        status = fr_ranks_agree(ranks, status, &error);
        snprintf(wanted, sizeof wanted, "%srank %d has no disk", failing ? ": " : "", failing);
        const char *what = strstr(error.message, wanted);
        expect(user, status == FR_ERROR_IO && what && strcmp(what, wanted) == 0);
        snprintf(wanted, sizeof wanted, failing ? "rank %d on " : "rank %d has", failing); /* rank 0 speaks for others */
        expect(user, strncmp(error.message, wanted, strlen(wanted)) == 0);
        expect(user, fr_ranks_agree(ranks, status, NULL) == FR_ERROR_IO);
    }
}

static void the_first_failure_is_everybodys(void **state) {
    (void)state;
    for (int size = 1; size <= 4; size++) run_and_check(size, fail_somewhere);
}

static void one_process_is_rank_0_of_1(void **state) {
    (void)state;
    int kept = 5;
    fr_ranks_share(NULL, &kept, sizeof kept);
    assert_int_equal(kept, 5);
    assert_int_equal(fr_ranks_size(NULL), 1);
    assert_int_equal(fr_ranks_rank(NULL), 0);
    assert_int_equal(fr_ranks_agree(NULL, FR_ERROR_FORMAT, NULL), FR_ERROR_FORMAT);
}

/* ---- Planes ---- */

enum { FEW = 9, ROWS = 700, FLOATS = 200, BLOCKS = 5 };

typedef struct pass {
    fr_exchange exchange;
    float x[ROWS][FLOATS + 3];
    uint16_t codes[ROWS][BLOCKS * 128]; /* E4M3 as BF16 */
    float scales[ROWS][BLOCKS];
    int rows, width;
} pass;

/* Any code that is a number, and the one that is none. */
static uint16_t carried(int row, int column) {
    return (uint16_t)(fr_f32_bits(fr_e4m3_f32((uint8_t)(row + column * 7))) >> 16);
}

static float value_of(int row, int column) {
    return (float)(row * 1000 + column) + 0.5f;
}

static void fill_own_parts(pass *p) {
    const fr_ranks *ranks = p->exchange.ranks;
    int begin, end;
    memset(p->x, 0, sizeof p->x);
    memset(p->codes, 0, sizeof p->codes);
    memset(p->scales, 0, sizeof p->scales);
    fr_ranks_part(ranks, ranks->rank, p->width, 16, &begin, &end);
    for (int r = 0; r < p->rows; r++)
        for (int i = begin; i < end; i++) p->x[r][i] = value_of(r, i);
    fr_ranks_part(ranks, ranks->rank, BLOCKS * 128 - 40, 128, &begin, &end);
    for (int r = 0; r < p->rows; r++)
        for (int i = begin; i < end; i++) {
            p->codes[r][i] = carried(r, i);
            p->scales[r][i / 128] = value_of(r, i / 128);
        }
}

/* TEAM. */
static void exchange_planes(void *argument) {
    pass *p = argument;
    const fr_plane planes[] = {{p->x, p->rows, p->width, 16, sizeof *p->x, 1, sizeof(float), false},
                               {p->codes, p->rows, BLOCKS * 128 - 40, 128, sizeof *p->codes, 128, 256, true},
                               {p->scales, p->rows, BLOCKS * 128 - 40, 128, sizeof *p->scales, 128, sizeof(float), false}};
    fr_exchange_planes(&p->exchange, planes, 3);
    fr_exchange_planes(&p->exchange, planes, 1);
}

static bool is_whole(const pass *p) {
    for (int r = 0; r < p->rows; r++) {
        for (int i = 0; i < p->width; i++)
            if (p->x[r][i] != value_of(r, i)) return false;
        for (int i = 0; i < BLOCKS * 128 - 40; i++)
            if (p->codes[r][i] != carried(r, i) || p->scales[r][i / 128] != value_of(r, i / 128)) return false;
    }
    return true;
}

static void exchange_once(const fr_ranks *ranks, size_t room, int rows, int width, tally *t) {
    pass *p = calloc(1, sizeof *p);
    fr_arena arena = {0};
    fr_exchange_take(&p->exchange, &arena, ranks, room);
    arena = (fr_arena){.size = arena.used, .base = fr_alloc(arena.used + 1)};
    void *memory = arena.base;
    fr_exchange_take(&p->exchange, &arena, ranks, room);
    p->rows = rows;
    p->width = width;
    fill_own_parts(p);
    fr_team_run(1 + ranks->rank, exchange_planes, p);
    expect(t, is_whole(p));
    fr_free(memory);
    free(p);
}

/* With staging for one row, for some and for all; with threads of a team's own, who share the work on more than a megabyte. */
static void exchange_everything(const fr_ranks *ranks, void *user) {
    static const size_t rooms[] = {1400, 3000, 100000};
    for (int i = 0; i < 3; i++)
        for (int width = 10; width <= FLOATS; width += 95) {
            for (int rows = 1; rows <= FEW; rows += 4) exchange_once(ranks, rooms[i], rows, width, user);
            if (i == 2) exchange_once(ranks, rooms[i], ROWS, width, user);
        }
}

static void every_rank_ends_with_all_columns(void **state) {
    (void)state;
    for (int size = 1; size <= 5; size++) run_and_check(size, exchange_everything);
}

int main(int count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_has_what_rank_0_shares),
        cmocka_unit_test(the_first_failure_is_everybodys),
        cmocka_unit_test(one_process_is_rank_0_of_1),
        cmocka_unit_test(every_rank_ends_with_all_columns),
    };
    fr_error error = {0};
    bool mpi = count > 1 && strcmp(arguments[1], "mpi") == 0;
    if (mpi && (fr_ranks_join(&joined, &error) != FR_OK || fr_ranks_size(joined) < 2)) {
        fprintf(stderr, "no ranks to test with: %s\n", error.message);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fr_ranks_leave(joined);
    return failed;
}
