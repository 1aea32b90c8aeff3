/* Teams: every member does its part once, barriers hold, and who lost its processor stays out for a while. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/members.h"
#include "core/processors.h"
#include "core/threads.h"

enum { MOST = 16 };

typedef struct attendance {
    int rounds;
    atomic_int seen[MOST]; /* by rank: runs that it was in */
    int written[MOST];     /* by rank, in turns by all */
    atomic_int wrong, size;
} attendance;

/* Everybody writes its own number, and after a barrier reads its neighbour's. */
static void attend(void *argument) {
    attendance *a = argument;
    int rank = fr_team_rank(), size = fr_team_size();
    atomic_fetch_add(&a->seen[rank], 1);
    if (rank == 0) atomic_store(&a->size, size);
    for (int round = 1; round <= a->rounds; round++) {
        a->written[rank] = round;
        fr_team_barrier();
        if (a->written[(rank + 1) % size] != round) atomic_fetch_add(&a->wrong, 1);
        fr_team_barrier();
    }
}

static void check_attendance(int threads) {
    attendance a = {.rounds = 20};
    fr_team_run(threads, attend, &a);
    assert_int_equal(a.wrong, 0);
    assert_in_range(a.size, 1, threads);
    for (int i = 0; i < MOST; i++) assert_int_equal(a.seen[i], i < a.size);
    assert_int_equal(fr_team_size(), 1); /* the caller has left */
    assert_int_equal(fr_team_rank(), 0);
}

static void every_member_does_its_part_once(void **state) {
    static const int sizes[] = {1, 2, 3, 16, 2, 7, 1, 16};
    (void)state;
    for (int repeat = 0; repeat < 5; repeat++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_attendance(sizes[i]);
}

static void *call_a_team(void *wrong) {
    for (int i = 0; i < 20; i++) {
        attendance a = {.rounds = 10};
        fr_team_run(3, attend, &a);
        atomic_fetch_add((atomic_int *)wrong, a.wrong);
    }
    return NULL;
}

static void threads_that_call_have_teams_of_their_own(void **state) {
    (void)state;
    pthread_t callers[4];
    atomic_int wrong = 0;
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&callers[i], NULL, call_a_team, &wrong), 0);
    for (int i = 0; i < 4; i++) pthread_join(callers[i], NULL);
    assert_int_equal(wrong, 0);
}

static void wait_a_moment(long milliseconds) {
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
}

/* Beside busy processes it may take some tries until it has more than its caller. */
static int run_until_there_are_two(void) {
    attendance a = {.rounds = 20};
    for (int i = 0; i < 1000 && a.size < 2; i++, wait_a_moment(5)) fr_team_run(2, attend, &a);
    return a.wrong == 0 && a.size == 2 ? 0 : 1;
}

static void a_forked_child_has_a_team_of_its_own(void **state) {
    (void)state;
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
    skip(); /* it starts no threads in a forked child */
#endif
#endif
    int status;
    assert_int_equal(run_until_there_are_two(), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* ends a child that waits for threads that it does not have */
        _exit(run_until_there_are_two());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(run_until_there_are_two(), 0);
}

typedef struct absence {
    int size;
    long milliseconds;
} absence;

/* The last member is away, as it would be without its processor. */
static void be_away(void *argument) {
    absence *a = argument;
    if (fr_team_rank() == 0) a->size = fr_team_size();
    if (fr_team_size() > 1 && fr_team_rank() == fr_team_size() - 1) wait_a_moment(a->milliseconds);
}

static void a_member_that_lost_its_processor_stays_out_and_is_tried_again(void **state) {
    (void)state;
    absence a = {.milliseconds = 100};
    int run = 0;
    for (; run < 50 && a.size != 1; run++) fr_team_run(2, be_away, &a);
    assert_int_equal(a.size, 1);
    a.milliseconds = 0;
    for (run = 0; run < 1000 && a.size != 2; run++, wait_a_moment(10)) fr_team_run(2, be_away, &a);
    assert_int_equal(a.size, 2);
}

typedef struct masks {
    int size, processors[2]; /* that each may run on */
} masks;

static void look_at_masks(void *argument) {
    masks *m = argument;
    if (fr_team_rank() == 0) m->size = fr_team_size();
    m->processors[fr_team_rank()] = fr_processors();
}

/* Of a whole team of two: beside busy processes it may take some tries. */
static masks masks_of_two(void) {
    masks m = {0};
    for (int i = 0; i < 1000 && m.size != 2; i++, wait_a_moment(5)) fr_team_run(2, look_at_masks, &m);
    assert_int_equal(m.size, 2);
    return m;
}

static void pinned_threads_are_bound_but_the_callers_is_not(void **state) {
    (void)state;
    int all = fr_processors(), cores = fr_physical_cores();
#ifdef FR_HWLOC
    if (cores != 2) skip(); /* with two, the other thread has a core of its own */
    fr_team_pin(true);
    masks pinned = masks_of_two();
    assert_int_equal(pinned.processors[0], all);
    assert_int_equal(pinned.processors[1], all / cores);
    fr_team_pin(false);
#endif
    masks loose = masks_of_two();
    assert_int_equal(loose.processors[0], all);
    assert_int_equal(loose.processors[1], all);
    (void)cores;
}

/* ---- What waiting takes ---- */

static void meet_often(void *argument) {
    atomic_int *wrong = argument;
    for (int i = 0; i < 50; i++) {
        double now = fr_now(), worked = fr_team_worked();
        fr_team_barrier();
        worked = fr_team_worked() - worked;
        if (worked < -1e-9 || worked > fr_now() - now + 1e-9) atomic_fetch_add(wrong, 1); /* it stands still or goes on */
    }
}

static void waiting_is_measured_for_who_asks(void **state) {
    (void)state;
    atomic_int wrong = 0;
    double before = fr_team_waited();
    fr_team_run(3, meet_often, &wrong);
    assert_true(fr_team_waited() == before);
    fr_team_time_waits(true);
    double began = fr_now();
    fr_team_run(3, meet_often, &wrong);
    double all = 3.0 * (fr_now() - began);
    fr_team_time_waits(false);
    double waited = fr_team_waited() - before;
    assert_true(waited > 0.0 && waited < all);
    before = fr_team_waited();
    fr_team_run(3, meet_often, &wrong);
    assert_true(fr_team_waited() == before);
    assert_int_equal(wrong, 0);
}

/* ---- Who takes part, in numbers ---- */

static void the_one_that_lost_more_than_its_share_stays_out(void **state) {
    (void)state;
    fr_members m = {0};
    assert_int_equal(fr_members_begin(&m, 4, 10.0), 4);
    assert_int_equal(fr_members_end(&m, (double[]){0, 0.001, 0, 0}, 4, 0.005, 10.0), -1);   /* less than a quarter of the run */
    assert_int_equal(fr_members_end(&m, (double[]){0, 0.0001, 0, 0}, 4, 0.0002, 10.0), -1); /* too short to tell */
    assert_int_equal(fr_members_end(&m, (double[]){0, 0.001, 0.003, 0}, 4, 0.005, 10.0), 2);
    assert_int_equal(fr_members_begin(&m, 4, 10.001), 3);
    assert_int_equal(fr_members_end(&m, (double[]){0.003, 0, 0}, 3, 0.005, 10.006), 2); /* the caller itself cannot */
    assert_int_equal(fr_members_begin(&m, 4, 10.007), 2);
    assert_int_equal(fr_members_end(&m, (double[]){0, 0.003}, 2, 0.005, 10.012), 1);
    assert_int_equal(fr_members_begin(&m, 4, 10.013), 1);
    assert_int_equal(fr_members_end(&m, (double[]){0.003}, 1, 0.005, 10.018), -1); /* there is always one */
    assert_int_equal(fr_members_begin(&m, 4, 10.019), 1);
}

static void long_runs_are_not_tried_at_each_but_a_stopped_process_goes_on(void **state) {
    (void)state;
    fr_members slow = {0}, stopped = {0};
    assert_int_equal(fr_members_end(&slow, (double[]){0, 6.0}, 2, 10.0, 100.0), 1);
    assert_int_equal(fr_members_begin(&slow, 2, 110.0), 1);
    assert_int_equal(fr_members_begin(&slow, 2, 117.0), 2);
    assert_int_equal(fr_members_end(&stopped, (double[]){0, 3600.0}, 2, 3600.01, 4000.0), 1);
    assert_int_equal(fr_members_begin(&stopped, 2, 4001.0), 2);
}

static void members_come_back_one_at_a_time(void **state) {
    (void)state;
    fr_members m = {.out = 3, .until = 5.0, .hold = 0.02};
    assert_int_equal(fr_members_begin(&m, 4, 4.99), 1);
    assert_int_equal(fr_members_begin(&m, 4, 5.0), 2);
    assert_int_equal(fr_members_begin(&m, 4, 5.01), 2);
    assert_int_equal(fr_members_begin(&m, 4, 5.03), 3);
    assert_int_equal(fr_members_begin(&m, 4, 5.06), 4);
    assert_int_equal(fr_members_begin(&m, 4, 5.09), 4);
}

static void a_smaller_team_does_not_wait_for_those_that_a_larger_one_missed(void **state) {
    (void)state;
    fr_members m = {.out = 12, .until = 5.0, .hold = 0.8};
    assert_int_equal(fr_members_begin(&m, 2, 4.99), 1);
    assert_int_equal(fr_members_begin(&m, 2, 5.0), 2);
    assert_int_equal(fr_members_begin(&m, 0, 5.1), 1); /* no memory for any but the caller */
    assert_int_equal(fr_members_begin(&m, 16, 5.2), 16);
}

/* Beside a process that stays, few runs are lost; once it has gone, the team is whole within a second. */
static void who_is_tried_in_vain_stays_out_longer(void **state) {
    (void)state;
    fr_members m = {0};
    double now = 1.0, lost = 0.0, whole;
    while (now < 61.0) { /* a minute beside a neighbour: a run with the second member takes 6 milliseconds instead of 2 */
        int size = fr_members_begin(&m, 2, now);
        double seconds = size == 2 ? 0.006 : 0.002;
        now += seconds;
        lost += size == 2 ? 0.004 : 0.0;
        fr_members_end(&m, (double[]){0, 0.004}, size, seconds, now);
    }
    assert_true(lost < 0.5);
    for (whole = now; fr_members_begin(&m, 2, now) < 2;) now += 0.002;
    assert_true(now - whole <= 1.0);
    for (int i = 0; i < 5000; i++) { /* it goes well for ten seconds */
        assert_int_equal(fr_members_begin(&m, 2, now), 2);
        assert_int_equal(fr_members_end(&m, (double[]){0, 0}, 2, 0.002, now += 0.002), -1);
    }
    assert_int_equal(fr_members_end(&m, (double[]){0, 0.004}, 2, 0.006, now), 1);
    assert_int_equal(fr_members_begin(&m, 2, now + 0.06), 2); /* so it begins with a short absence again */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_does_its_part_once),
        cmocka_unit_test(threads_that_call_have_teams_of_their_own),
        cmocka_unit_test(a_forked_child_has_a_team_of_its_own),
        cmocka_unit_test(a_member_that_lost_its_processor_stays_out_and_is_tried_again),
        cmocka_unit_test(pinned_threads_are_bound_but_the_callers_is_not),
        cmocka_unit_test(waiting_is_measured_for_who_asks),
        cmocka_unit_test(the_one_that_lost_more_than_its_share_stays_out),
        cmocka_unit_test(long_runs_are_not_tried_at_each_but_a_stopped_process_goes_on),
        cmocka_unit_test(members_come_back_one_at_a_time),
        cmocka_unit_test(a_smaller_team_does_not_wait_for_those_that_a_larger_one_missed),
        cmocka_unit_test(who_is_tried_in_vain_stays_out_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
