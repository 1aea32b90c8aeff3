/* How often the 95 % intervals of study/statistics.h hold the truth, simulated: prompts that differ in acceptance, in length and
 * in speed, as those of real studies do. The truth of a figure is what very many prompts come to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"
#include "study/statistics.h"

/* ---- Random numbers ---- */

static uint64_t state; /* of splitmix64 (Steele, Lea and Flood 2014) */

static double uniform(void) {
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {
    double radius = sqrt(-2.0 * log(uniform()));
    return radius * cos(6.283185307179586 * uniform());
}

/* Marsaglia and Tsang 2000. */
static double gamma_of(double shape) {
    if (shape < 1.0) {
        double scale = pow(uniform(), 1.0 / shape);
        return scale * gamma_of(shape + 1.0);
    }
    double d = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = normal(), v = 1.0 + c * x;
        if (v <= 0.0) continue;
        v = v * v * v;
        if (log(uniform()) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
    }
}

static double beta(double mean, double concentration) {
    double a = gamma_of(mean * concentration), b = gamma_of((1.0 - mean) * concentration);
    return a / (a + b);
}

/* ---- Prompts ---- */

enum { DEPTH = 3 };

/* How prompts differ: the chance of a first draft by prompt is beta-distributed; each further one is a little less likely. */
typedef struct population {
    const char *name;
    double acceptance, concentration, fading;
    double change;     /* of that chance under another configuration */
    double draft_cost; /* a cycle's passes and drafts, over a pass of one row */
    double noise;      /* of a text's time, on logarithms; one text in twenty takes half as long again */
} population;

typedef struct text {
    double cycles, drafted[DEPTH], reached[DEPTH], accepted[DEPTH];
    double all_drafted, all_accepted;
} text;

static text decode(double chance, double fading, int tokens) {
    text t = {0};
    for (int made = 1; tokens - made > 1;) {
        int depth = tokens - made - 1 < DEPTH ? tokens - made - 1 : DEPTH, j = 0;
        double this = chance;
        t.cycles++;
        for (int i = 0; i < depth; i++) t.drafted[i]++;
        for (bool accepted = true; accepted && j < depth; j += accepted, this *= fading) {
            accepted = uniform() < this;
            t.reached[j]++;
            t.accepted[j] += accepted;
        }
        t.all_drafted += depth;
        t.all_accepted += j;
        made += j + 1;
    }
    return t;
}

static double time_of(double passes, double noise) {
    double slow = uniform() < 0.05 ? 1.5 : 1.0;
    return passes * exp(noise * normal()) * slow;
}

/* ---- Figures ---- */

typedef enum figure {
    RATE,
    POSITION_1,
    POSITION_3,
    CONDITIONAL_2,
    CONDITIONAL_3,
    BIN,
    LENGTH,
    RATE_DIFFERENCE,
    POSITION_DIFFERENCE,
    LENGTH_DIFFERENCE,
    TOTAL_RATIO,
    GEOMETRIC_MEAN,
    MEAN,
    MEDIAN,
    FIGURES,
} figure;

static const char *const names[] = {"acceptance rate",
                                    "rate of position 1",
                                    "rate of position 3",
                                    "conditional rate of 2",
                                    "conditional of 3",
                                    "rate of a bin",
                                    "mean length",
                                    "difference of rates",
                                    "difference at position 1",
                                    "of lengths",
                                    "ratio of total times",
                                    "geometric mean",
                                    "mean",
                                    "median"};

/* Columns of a sample, one value for each prompt. */
typedef struct columns {
    size_t units;
    double *accepted, *drafted, *most, *cycles; /* most: DEPTH * cycles */
    double *accepted_1, *drafted_1, *accepted_3, *drafted_3, *accepted_2, *reached_2, *reached_3;
    double *other_accepted, *other_drafted, *other_cycles, *other_accepted_1, *other_drafted_1;
    double *bin_accepted, *bin_drafted;
    double *tokens, *off_s, *on_s, *speedup, *log_speedup;
    double *values; /* what they all lie in */
} columns;

enum { COLUMNS = 23 };

static columns make_room(size_t units) {
    columns c = {.values = fr_alloc(COLUMNS * units * sizeof(double))};
    double **const all[COLUMNS] = {&c.accepted,        &c.drafted,        &c.most,          &c.cycles,       &c.accepted_1,
                                   &c.drafted_1,       &c.accepted_3,     &c.drafted_3,     &c.accepted_2,   &c.reached_2,
                                   &c.reached_3,       &c.other_accepted, &c.other_drafted, &c.other_cycles, &c.other_accepted_1,
                                   &c.other_drafted_1, &c.tokens,         &c.off_s,         &c.on_s,         &c.speedup,
                                   &c.log_speedup,     &c.bin_accepted,   &c.bin_drafted};
    assert_non_null(c.values);
    for (size_t i = 0; i < COLUMNS; i++) *all[i] = c.values + i * units;
    return c;
}

/* Draws a prompt into place i. Between 16 and 128 tokens; of some prompts all drafts of a position are never reached. */
static void draw(const population *p, columns *c, size_t i) {
    double chance = beta(p->acceptance, p->concentration), pass = exp(0.1 * normal());
    int tokens = 16 + (int)(113 * uniform());
    text t = decode(chance, p->fading, tokens), other = decode(chance * p->change, p->fading, tokens);
    c->accepted[i] = t.all_accepted;
    c->drafted[i] = t.all_drafted;
    c->cycles[i] = t.cycles;
    c->most[i] = DEPTH * t.cycles;
    c->accepted_1[i] = t.accepted[0];
    c->drafted_1[i] = t.drafted[0];
    c->accepted_2[i] = t.accepted[1];
    c->reached_2[i] = t.reached[1];
    c->accepted_3[i] = t.accepted[2];
    c->drafted_3[i] = t.drafted[2];
    c->reached_3[i] = t.reached[2];
    c->other_accepted[i] = other.all_accepted;
    c->other_drafted[i] = other.all_drafted;
    c->other_cycles[i] = other.cycles;
    c->other_accepted_1[i] = other.accepted[0];
    c->other_drafted_1[i] = other.drafted[0];
    /* One draft in eight has a confidence in the bin. Of some prompts there are none. */
    c->bin_accepted[i] = c->bin_drafted[i] = 0.0;
    for (int j = 0; j < tokens; j++) {
        if (uniform() > 0.125) continue;
        c->bin_drafted[i]++;
        c->bin_accepted[i] += uniform() < chance;
    }
    c->tokens[i] = tokens - 1;
    c->off_s[i] = time_of(pass * (tokens - 1), p->noise);
    c->on_s[i] = time_of(pass * t.cycles * p->draft_cost, p->noise);
    c->speedup[i] = c->off_s[i] / c->on_s[i];
    c->log_speedup[i] = log(c->speedup[i]);
}

/* Prompts that reached a position at all. */
static fr_estimated conditional(const double *part, const double *whole, size_t units) {
    double parts[128], wholes[128];
    size_t count = 0;
    if (units > 128) return fr_estimate_share((fr_sums){part, whole}, units);
    for (size_t i = 0; i < units; i++) {
        if (whole[i] == 0.0) continue;
        parts[count] = part[i];
        wholes[count++] = whole[i];
    }
    return fr_estimate_share((fr_sums){parts, wholes}, count);
}

static void estimate_all(columns *c, size_t n, fr_estimated *out) {
    fr_sums off = {c->tokens, c->off_s}, on = {c->tokens, c->on_s};
    out[RATE] = fr_estimate_share((fr_sums){c->accepted, c->drafted}, n);
    out[POSITION_1] = fr_estimate_share((fr_sums){c->accepted_1, c->drafted_1}, n);
    out[POSITION_3] = fr_estimate_share((fr_sums){c->accepted_3, c->drafted_3}, n);
    out[CONDITIONAL_2] = conditional(c->accepted_2, c->reached_2, n);
    out[CONDITIONAL_3] = conditional(c->accepted_3, c->reached_3, n);
    out[BIN] = conditional(c->bin_accepted, c->bin_drafted, n);
    out[LENGTH] = fr_estimate_share((fr_sums){c->accepted, c->most}, n);
    out[RATE_DIFFERENCE] =
        fr_estimate_difference((fr_sums){c->accepted, c->drafted}, (fr_sums){c->other_accepted, c->other_drafted}, n);
    out[POSITION_DIFFERENCE] =
        fr_estimate_difference((fr_sums){c->accepted_1, c->drafted_1}, (fr_sums){c->other_accepted_1, c->other_drafted_1}, n);
    out[LENGTH_DIFFERENCE] =
        fr_estimate_difference((fr_sums){c->accepted, c->cycles}, (fr_sums){c->other_accepted, c->other_cycles}, n);
    out[TOTAL_RATIO] = fr_estimate_ratio(off, on, n);
    out[GEOMETRIC_MEAN] = fr_estimate_geometric_mean(c->log_speedup, n);
    out[MEAN] = fr_estimate_mean(c->speedup, n);
    out[MEDIAN] = fr_estimate_median(c->speedup, n);
}

/* ---- Coverage ---- */

enum { TRUTH_PROMPTS = 200000, REPLICATIONS = 3000 };

static bool holds(fr_interval interval, double truth) {
    return interval.low <= truth && truth <= interval.high;
}

static void find_truth(const population *p, double *truth) {
    columns c = make_room(TRUTH_PROMPTS);
    fr_estimated all[FIGURES];
    for (size_t i = 0; i < TRUTH_PROMPTS; i++) draw(p, &c, i);
    estimate_all(&c, TRUTH_PROMPTS, all);
    for (int f = 0; f < FIGURES; f++) truth[f] = all[f].value;
    fr_free(c.values);
}

/* Wilson's interval as if every draft were for itself: a sample of as many units as drafts. */
static bool by_draft_holds(double accepted, double drafted, double truth) {
    double p = accepted / drafted, k = 3.841458820694124 / drafted, half = sqrt(k * p * (1 - p) + 0.25 * k * k);
    return fabs(p + 0.5 * k - (1 + k) * truth) <= half;
}

static double sum(const double *values, size_t n) {
    return fr_mean(values, n) * (double)n;
}

/* How often each figure's interval holds the truth, over studies of n prompts; the last one is that by draft. */
static void cover(const population *p, size_t n, const double *truth, double *coverage) {
    columns c = make_room(n);
    int held[FIGURES] = {0}, given[FIGURES] = {0}, by_draft = 0;
    for (int r = 0; r < REPLICATIONS; r++) {
        fr_estimated all[FIGURES];
        for (size_t i = 0; i < n; i++) draw(p, &c, i);
        by_draft += by_draft_holds(sum(c.accepted, n), sum(c.drafted, n), truth[RATE]);
        estimate_all(&c, n, all);
        for (int f = 0; f < FIGURES; f++) {
            given[f] += isfinite(all[f].interval.low) && isfinite(all[f].interval.high);
            held[f] += holds(all[f].interval, truth[f]);
        }
    }
    for (int f = 0; f < FIGURES; f++) coverage[f] = given[f] > REPLICATIONS / 2 ? (double)held[f] / given[f] : 0.0;
    coverage[FIGURES] = (double)by_draft / REPLICATIONS;
    fr_free(c.values);
}

static void intervals_hold(const population *p) {
    static const size_t sizes[] = {5, 20, 66};
    double truth[FIGURES], coverage[FIGURES + 1];
    bool failed = false;
    find_truth(p, truth);
    for (int s = 0; s < 3; s++) {
        cover(p, sizes[s], truth, coverage);
        for (int f = 0; f < FIGURES; f++) {
            if (coverage[f] >= 0.92 && coverage[f] <= 0.97) continue;
            print_message("%s, %zu prompts, %s: %.1f %%\n", p->name, sizes[s], names[f], 100 * coverage[f]);
            failed = true;
        }
        assert_true(coverage[FIGURES] < 0.75); /* this simulation tells a wrong interval from a right one */
    }
    if (failed) fail_msg("%s: coverage is not 92 to 97 %%", p->name);
}

static void intervals_hold_for_a_small_model(void **unused) {
    (void)unused;
    state = 1;
    intervals_hold(&(population){"small", 0.82, 14, 0.93, 0.95, 1.7, 0.02});
}

static void intervals_hold_for_a_large_model(void **unused) {
    (void)unused;
    state = 2;
    intervals_hold(&(population){"large", 0.88, 25, 0.97, 0.98, 1.6, 0.05});
}

static void intervals_hold_where_few_drafts_are_accepted(void **unused) {
    (void)unused;
    state = 3;
    intervals_hold(&(population){"few accepted", 0.4, 8, 0.9, 0.8, 1.3, 0.1});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_hold_for_a_small_model),
        cmocka_unit_test(intervals_hold_for_a_large_model),
        cmocka_unit_test(intervals_hold_where_few_drafts_are_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
