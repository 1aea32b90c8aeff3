/* The depth policy by simulation: acceptance 0 to 1, cheap and dear drafts and rows, honest and boastful confidence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "mtp/policy.h"

/* A world: what things cost and how good drafts are. Times are in passes of one row. */
typedef struct {
    double row;        /* each further row of a pass */
    double draft;      /* each draft */
    double acceptance; /* mean; drafts differ around it by `spread` */
    double spread;
    double boast;  /* added to the confidence that a draft reports */
    double jitter; /* relative noise of measured times */
    double late;   /* chance that a measured time is five times too long: the machine did something else */
    double sway;   /* by this factor the whole machine gets slower, and fast again, every 300 cycles */
} world;

static uint64_t state;

static double uniform(void) { /* splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static double clamp(double x) {
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

/* Tokens a unit of time over `cycles` cycles. fixed >= 0: that many drafts a cycle, else the policy decides. *w may change at
 * half time to *later. */
static double simulate(const world *w, const world *later, int fixed, int cycles, fr_policy *p) {
    const double shape[FR_MAX_DEPTH + 1] = {1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7}; /* a first guess, not the truth */
    double time = 0.0, tokens = 0.0;
    fr_policy_init(p, true, 4, shape, 0.1, 0.1);
    state = 7;
    for (int c = 0; c < cycles; c++) {
        const world *now = later && c >= cycles / 2 ? later : w;
        double chance[FR_MAX_DEPTH];
        fr_cycle cycle = {.planned = fixed >= 0 ? fixed : fr_policy_plan(p, FR_MAX_DEPTH)};
        while (cycle.made < cycle.planned) {
            int j = cycle.made++;
            chance[j] = clamp(now->acceptance + now->spread * (2.0 * uniform() - 1.0));
            cycle.foreseen[j] = clamp(chance[j] + now->boast);
            if (fixed < 0 && cycle.made < cycle.planned && !fr_policy_go_on(p, &cycle)) break;
        }
        cycle.verified = fixed >= 0 ? cycle.made : fr_policy_keep(p, &cycle);
        while (cycle.accepted < cycle.verified && uniform() < chance[cycle.accepted]) cycle.accepted++;
        double pass = 1.0 + now->row * cycle.verified, first = cycle.made > 0 ? now->draft : 0.0,
               rest = cycle.made > 1 ? (cycle.made - 1) * now->draft : 0.0;
        time += pass + first + rest;
        tokens += 1.0 + cycle.accepted;
        double noise[3], slow = c / 300 % 2 ? 1.0 + now->sway : 1.0;
        for (int i = 0; i < 3; i++)
            noise[i] = slow * (1.0 + now->jitter * (2.0 * uniform() - 1.0)) * (uniform() < now->late ? 5.0 : 1.0);
        cycle.first_s = first * noise[0];
        cycle.rest_s = rest * noise[1];
        cycle.verify_s = pass * noise[2];
        fr_policy_observe(p, &cycle);
    }
    return tokens / time;
}

static double best_fixed(const world *w, int cycles) {
    double best = 0.0;
    fr_policy unused;
    for (int k = 0; k <= 4; k++) best = fmax(best, simulate(w, NULL, k, cycles, &unused));
    return best;
}

static void never_slower_and_close_to_the_best(void **in) {
    (void)in;
    enum { CYCLES = 6000 };
    double worst_off = 10.0, worst_best = 10.0;
    for (int a = 0; a <= 10; a++)
        for (int kind = 0; kind < 3 * 3 * 2 * 3; kind++) {
            world w = {.row = (double[]){0.02, 0.2, 0.6}[kind % 3],
                       .draft = (double[]){0.03, 0.1, 0.3}[kind / 3 % 3],
                       .acceptance = 0.1 * a,
                       .spread = kind / 9 % 2 ? 0.3 : 0.0,
                       .boast = (double[]){0.0, 0.3, -0.2}[kind / 18],
                       .jitter = 0.1};
            fr_policy p;
            double rate = simulate(&w, NULL, -1, CYCLES, &p);
            worst_off = fmin(worst_off, rate); /* off makes 1 token a unit of time */
            worst_best = fmin(worst_best, rate / best_fixed(&w, CYCLES));
        }
    print_message("worst: %.4f of off, %.4f of the best fixed depth\n", worst_off, worst_best);
    assert_true(worst_off >= 0.98);
    assert_true(worst_best >= 0.95);
}

/* Disturbed measurements do not change that: the decisions are as good, told by what the work costs undisturbed. */
static void disturbances_do_not_mislead(void **in) {
    (void)in;
    enum { CYCLES = 6000 };
    double worst_off = 10.0, worst_best = 10.0;
    for (int a = 0; a <= 10; a += 2)
        for (int kind = 0; kind < 3 * 3 * 3; kind++) {
            world w = {.row = (double[]){0.02, 0.2, 0.6}[kind % 3],
                       .draft = (double[]){0.03, 0.1, 0.3}[kind / 3 % 3],
                       .acceptance = 0.1 * a,
                       .spread = 0.3,
                       .jitter = 0.1,
                       .late = kind / 9 != 1 ? 0.05 : 0.0,
                       .sway = kind / 9 != 0 ? 0.6 : 0.0};
            fr_policy p;
            double rate = simulate(&w, NULL, -1, CYCLES, &p);
            worst_off = fmin(worst_off, rate);
            worst_best = fmin(worst_best, rate / best_fixed(&w, CYCLES));
        }
    print_message("disturbed, worst: %.4f of off, %.4f of the best fixed depth\n", worst_off, worst_best);
    assert_true(worst_off >= 0.98);
    assert_true(worst_best >= 0.95);
}

/* Acceptance collapses, and comes back: the policy follows both ways. */
static void finds_its_way_back(void **in) {
    (void)in;
    world bad = {.row = 0.2, .draft = 0.1, .acceptance = 0.05, .jitter = 0.1}, good = bad;
    good.acceptance = 0.9;
    fr_policy p;
    double rate = simulate(&bad, &good, -1, 4000, &p);
    assert_true(p.switches >= 2 && !p.off);
    assert_true(rate >= 0.95 * (best_fixed(&bad, 2000) + best_fixed(&good, 2000)) / 2.0 * 0.97);
    simulate(&good, &bad, -1, 4000, &p);
    assert_true(p.off && p.probes > 0);
}

/* With rejection sampling, whether draft j is verified is the same whatever was drafted after it. */
static void what_follows_a_draft_does_not_decide_about_it(void **in) {
    (void)in;
    world w = {.row = 0.4, .draft = 0.05, .acceptance = 0.6, .spread = 0.4, .jitter = 0.1};
    fr_policy p;
    int dropped = 0;
    simulate(&w, NULL, -1, 2000, &p);
    p.blind = true;
    p.off = false;
    p.explore = 0;
    for (int i = 0; i < 2000; i++) {
        fr_cycle whole = {.planned = 4, .made = 4};
        for (int j = 0; j < 4; j++) whole.foreseen[j] = uniform();
        int kept = fr_policy_keep(&p, &whole);
        dropped += 4 - kept;
        for (int j = 0; j < 4; j++) {
            fr_cycle other = whole;
            for (int k = j + 1; k < 4; k++) other.foreseen[k] = uniform();
            other.made = j + 1 + (int)(uniform() * (4 - j));
            assert_int_equal(fr_policy_keep(&p, &other) > j, kept > j);
        }
    }
    assert_true(dropped > 500 && dropped < 7500);
}

static void fixed_depth_is_fixed(void **in) {
    (void)in;
    const double shape[FR_MAX_DEPTH + 1] = {1, 1, 1, 1, 1, 1, 1, 1};
    const fr_cycle cycle = {.planned = 3, .made = 3, .verified = 3, .first_s = 1.0, .rest_s = 2.0, .verify_s = 1.0};
    fr_policy p;
    fr_policy_init(&p, false, 3, shape, 0.1, 0.1);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(fr_policy_plan(&p, 7), 3);
        assert_int_equal(fr_policy_plan(&p, 2), 2);
        assert_true(fr_policy_go_on(&p, &(fr_cycle){.made = 1}));
        assert_int_equal(fr_policy_keep(&p, &cycle), 3);
        fr_policy_observe(&p, &cycle);
    }
    assert_int_equal(fr_policy_plan(&p, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_slower_and_close_to_the_best),
        cmocka_unit_test(disturbances_do_not_mislead),
        cmocka_unit_test(finds_its_way_back),
        cmocka_unit_test(what_follows_a_draft_does_not_decide_about_it),
        cmocka_unit_test(fixed_depth_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
