/* What the A/B study makes of times, on times that were made up: figures, verdicts, cost model, comparison of
 * documents, energy counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include <cJSON.h>

#include "core/memory.h"
#include "forerun_study.h"
#include "scratch.h"
#include "study/ab/cost.h"
#include "study/ab/figures.h"
#include "study/cost_model.h"

enum { TOKENS = 5 };

/* ---- A run that was never made ---- */

typedef struct made_up {
    fr_ab_run run;
    fr_prompt prompts[64];
    fr_ab_text texts[64 * 2 * 3];
    fr_ab_probe probes[64 * 2];
    int32_t tokens[64 * 2 * 3][TOKENS];
    double token_s[64 * 2 * 3][TOKENS], cycle_s[64 * 2 * 3][TOKENS];
} made_up;

/* Columns off, on and "off (again)", two repeats. Seconds a token: base * (1, 1 / speedup(prompt), 1 +- noise). */
static made_up *make(size_t prompts, double speedup, double slope, double noise) {
    made_up *m = fr_alloc_zeroed(1, sizeof *m);
    assert_non_null(m);
    m->run = (fr_ab_run){.options = {.repeats = 2},
                         .prompts = {m->prompts, prompts},
                         .num_prompts = prompts,
                         .num_columns = 3,
                         .again = 2,
                         .texts = m->texts,
                         .probes = m->probes};
    m->run.columns[0] = (fr_ab_column){.name = "off", .drafting = FR_DRAFTING_OFF};
    m->run.columns[1] = (fr_ab_column){.name = "on", .drafting = FR_DRAFTING_ON, .depth = 1};
    m->run.columns[2] = (fr_ab_column){.name = "off (again)", .drafting = FR_DRAFTING_OFF, .role = FR_AB_AGAIN};
    for (size_t p = 0; p < prompts; p++)
        for (int r = 0; r < 2; r++)
            for (int c = 0; c < 3; c++) {
                size_t i = (p * 2 + (size_t)r) * 3 + (size_t)c;
                double each = 0.010 + 0.001 * (double)p;
                if (c == 1) each /= speedup + slope * (double)p;
                if (c == 2) each *= 1.0 + (p % 2 ? noise : -noise);
                fr_ab_text *t = fr_ab_text_at(&m->run, p, r, c);
                assert_ptr_equal(t, &m->texts[i]);
                *t = (fr_ab_text){true,
                                  TOKENS,
                                  TOKENS - 1,
                                  m->tokens[i],
                                  m->token_s[i],
                                  m->cycle_s[i],
                                  .prefill_s = 0.5,
                                  .ttft_s = 0.6,
                                  .decode_s = (TOKENS - 1) * each,
                                  .energy_j = 8.0};
                t->stats.prefill_tokens = 100;
                for (int n = 0; n < TOKENS; n++) {
                    t->tokens[n] = (int32_t)(p * 100 + (size_t)n);
                    t->token_s[n] = t->cycle_s[n] = each;
                }
            }
    return m;
}

static void figures_of_an_arm_are_over_its_whole_turns(void **state) {
    made_up *m = make(3, 2.0, 0.0, 0.0);
    fr_ab_figures f;
    (void)state;
    assert_int_equal(fr_ab_figures_of(&m->run, 0, &f, NULL), FR_OK);
    assert_int_equal(f.tokens, 3 * 2 * TOKENS);
    assert_float_equal(f.tpot_ms.p50, 11.0, 1e-9); /* 10, 11 and 12, twice each */
    assert_float_equal(f.decode_rate.p50, 1.0 / 0.011, 1e-6);
    assert_float_equal(f.prefill_rate.p95, 200.0, 1e-9);
    assert_float_equal(f.ttft_ms.p99, 600.0, 1e-9);
    assert_int_equal(f.token_ms.samples, 3 * 2 * (TOKENS - 1));
    assert_float_equal(f.token_ms.p99, 12.0, 1e-9);
    assert_float_equal(f.energy_j_per_token, 8.0 / (TOKENS - 1), 1e-9);
    assert_float_equal(fr_ab_rate(&m->run, 1, -1, 1), 2.0 / 0.011, 1e-6);

    fr_ab_text_at(&m->run, 2, 1, 2)->energy_j = NAN; /* of another column: no matter */
    fr_ab_text_at(&m->run, 0, 0, 0)->energy_j = NAN;
    assert_int_equal(fr_ab_figures_of(&m->run, 0, &f, NULL), FR_OK);
    assert_true(isnan(f.energy_j_per_token));
    /* A turn that lacks one column counts for none. */
    fr_ab_text_at(&m->run, 2, 0, 1)->whole = fr_ab_text_at(&m->run, 2, 1, 2)->whole = false;
    assert_int_equal(fr_ab_figures_of(&m->run, 0, &f, NULL), FR_OK);
    assert_int_equal(f.tokens, 2 * 2 * TOKENS);
    assert_true(isnan(fr_ab_rate(&m->run, 2, -1, 0)));
    fr_free(m);
}

static void speedups_are_ratios_by_prompt(void **state) {
    made_up *m = make(11, 0.95, 0.01, 0.0); /* 0.95 to 1.05 */
    fr_ab_comparison c;
    (void)state;
    assert_int_equal(fr_ab_compare_columns(&m->run, 1, 0.025, &c, NULL), FR_OK);
    assert_float_equal(c.median.value, 1.0, 1e-9);
    assert_float_equal(c.mean.value, 1.0, 1e-9);
    assert_int_equal(c.units, 11);
    assert_int_equal(c.pairs, 22);
    assert_false(c.by_pair);
    assert_int_equal(c.slower, 5);
    assert_int_equal(c.slower_beyond_noise, 3); /* 0.95, 0.96, 0.97 */
    assert_true(c.median.interval.low >= 0.95 && c.median.interval.low < 1.0 && c.median.interval.high > 1.0);
    /* Long texts weigh as short ones do, but not in the total: prompts take 10 to 20 ms a token, the slow ones are the fast
     * arm's. */
    double off = 0, on = 0, logarithms = 0;
    for (int p = 0; p < 11; p++) {
        off += 0.010 + 0.001 * p;
        on += (0.010 + 0.001 * p) / (0.95 + 0.01 * p);
        logarithms += log(0.95 + 0.01 * p) / 11;
    }
    assert_float_equal(c.total.value, off / on, 1e-9);
    assert_float_equal(c.geometric_mean.value, exp(logarithms), 1e-9);
    assert_true(c.total.value > 1.005 && c.total.interval.low < 1.0 && c.total.interval.high > c.total.value);
    fr_free(m);

    m = make(1, 2.0, 0.0, 0.0); /* one prompt: by pair */
    assert_int_equal(fr_ab_compare_columns(&m->run, 1, 0.0, &c, NULL), FR_OK);
    assert_true(c.by_pair && c.units == 2);
    assert_float_equal(c.median.value, 2.0, 1e-9);
    fr_ab_text_at(&m->run, 0, 0, 1)->whole = fr_ab_text_at(&m->run, 0, 1, 1)->whole = false;
    assert_int_equal(fr_ab_compare_columns(&m->run, 1, 0.0, &c, NULL), FR_OK); /* nothing: no figure, no error */
    assert_true(c.units == 0 && isnan(c.median.value) && isnan(c.median.interval.low));
    fr_free(m);
}

static void verdicts_need_more_than_noise(void **state) {
    fr_ab_comparison c;
    made_up *m = make(20, 1.1, 0.0, 0.01);
    (void)state;
    assert_int_equal(fr_ab_compare_columns(&m->run, 2, 0.0, &c, NULL), FR_OK);
    double resolution = fr_ab_resolution(&c);
    assert_true(resolution > 0.001 && resolution < 0.0102); /* equals differ by 1 % either way */
    assert_string_equal(fr_ab_verdict((fr_estimated){1.1, {1.08, 1.12}}, resolution), "faster");
    assert_string_equal(fr_ab_verdict((fr_estimated){0.9, {0.88, 0.92}}, resolution), "slower");
    assert_string_equal(fr_ab_verdict((fr_estimated){1.1, {0.99, 1.2}}, resolution), "undecided");
    assert_string_equal(fr_ab_verdict((fr_estimated){1.1, {1.08, 1.12}}, 0.2), "undecided");      /* equals differ by more */
    assert_string_equal(fr_ab_verdict((fr_estimated){1.1, {NAN, NAN}}, resolution), "undecided"); /* of too few */
    assert_string_equal(fr_ab_verdict((fr_estimated){NAN, {NAN, NAN}}, 0.0), "undecided");
    fr_free(m);
}

static void differences_are_found(void **state) {
    made_up *m = make(4, 1.0, 0.0, 0.0);
    (void)state;
    assert_false(fr_ab_find_difference(&m->run).any);
    fr_ab_text_at(&m->run, 2, 1, 1)->tokens[3]++;
    fr_ab_text_at(&m->run, 3, 0, 2)->count--; /* one that ends too early differs, too */
    fr_ab_difference found = fr_ab_find_difference(&m->run);
    assert_true(found.any && found.texts == 2 && found.prompt == 2 && found.repeat == 1 && found.column == 1);
    assert_int_equal(found.position, 3);
    fr_ab_text_at(&m->run, 2, 1, 1)->whole = fr_ab_text_at(&m->run, 3, 0, 2)->whole = false;
    assert_false(fr_ab_find_difference(&m->run).any); /* what is not whole is not compared */
    /* Even the compared arm is held to its own first text. */
    fr_ab_text_at(&m->run, 1, 1, 0)->tokens[0]++;
    found = fr_ab_find_difference(&m->run);
    assert_true(found.any && found.column == 0 && found.repeat == 1);
    fr_free(m);
}

/* ---- Cost model ---- */

static void the_cost_model_predicts_speedups(void **state) {
    fr_cost_model m = {{1.0, 1.2, 1.4}, 0.1, 0.05};
    (void)state;
    for (int r = 3; r <= FR_MAX_DEPTH; r++) m.pass[r] = NAN;
    assert_float_equal(fr_cost_cycle(&m, 0), 1.0, 1e-12);
    assert_float_equal(fr_cost_cycle(&m, 2), 1.55, 1e-12);
    assert_float_equal(fr_cost_tokens(0.5, 2), 1.75, 1e-12);
    assert_float_equal(fr_cost_speedup(&m, 1, 1.0), 2.0 / 1.3, 1e-12);
    assert_float_equal(fr_cost_break_even(&m, 1), 0.3, 1e-9);
    assert_float_equal(fr_cost_tokens(fr_cost_break_even(&m, 2), 2), 1.55, 1e-9);
    assert_true(isnan(fr_cost_break_even(&m, 3)) && isnan(fr_cost_speedup(&m, 3, 0.5)));
    fr_cost_model dear = {{1.0, 2.5}, 0.1, 0.1}, free_of_charge = {{1.0, 1.0}, 0.0, 0.0};
    assert_true(isnan(fr_cost_break_even(&dear, 1)));
    assert_float_equal(fr_cost_break_even(&free_of_charge, 1), 0.0, 1e-12);

    fr_stats stats = {.num_cycles = 10, .num_accepted_tokens = 8};
    stats.depth_histogram[0] = 2;
    stats.depth_histogram[1] = 4;
    stats.depth_histogram[2] = 4;
    assert_float_equal(fr_cost_without_drafts(&m, &stats), 18.0, 1e-12);
    assert_float_equal(fr_cost_of_cycles(&m, &stats), 2.0 + 4 * 1.3 + 4 * 1.55, 1e-12);
    stats.depth_histogram[3] = 1;
    assert_true(isnan(fr_cost_of_cycles(&m, &stats))); /* what such a pass costs is not known */
}

/* Times that are made as the model says are predicted exactly, however prompts differ in length, in acceptance and in what their
 * passes cost: both are ratios of total times. The median over prompts is another figure. */
static void predicted_and_measured_pool_alike(void **state) {
    made_up *m = make(12, 1.0, 0.0, 0.0);
    fr_ab_costs costs = {.draft_first_s = 0.002, .draft_next_s = 0.002};
    fr_ab_comparison c;
    (void)state;
    for (int r = 0; r <= FR_MAX_DEPTH; r++) costs.pass_s[r] = NAN;
    for (size_t p = 0; p < 12; p++)
        for (int r = 0; r < 2; r++) {
            fr_ab_text *off = fr_ab_text_at(&m->run, p, r, 0), *on = fr_ab_text_at(&m->run, p, r, 1);
            int cycles = 4 + 9 * (int)p, accepted = cycles * (int)(p + 1) / 13;
            double one = 0.010 - 0.0005 * (double)p, two = one * (1.9 - 0.07 * (double)p);
            m->probes[p * 2 + (size_t)r] = (fr_ab_probe){.rows = 2, .pass_s = {one, two}};
            on->stats.num_cycles = (uint64_t)cycles;
            on->stats.num_accepted_tokens = (uint64_t)accepted;
            on->stats.depth_histogram[1] = (uint64_t)cycles;
            on->count = off->count = 1 + cycles + accepted;
            off->decode_s = (off->count - 1) * one;
            on->decode_s = cycles * (two + 0.002);
        }
    assert_int_equal(fr_ab_compare_columns(&m->run, 1, 0.0, &c, NULL), FR_OK);
    double predicted = fr_ab_predict(&m->run, &costs, 1);
    assert_float_equal(predicted, c.total.value, 1e-12);
    assert_true(fabs(predicted - c.median.value) > 0.05 && fabs(predicted - c.geometric_mean.value) > 0.05);
    fr_ab_text_at(&m->run, 3, 0, 1)->stats.depth_histogram[2] = 1;
    assert_true(isnan(fr_ab_predict(&m->run, &costs, 1))); /* what such a cycle costs is not known */
    fr_free(m);
}

/* ---- Documents ---- */

typedef struct paper {
    double off, speedup, wobble; /* tokens a second; of "on"; by which prompts differ */
    double resolution;
    int prompts, threads;
    const char *kv, *fingerprint, *text;
} paper;

static char *write_paper(paper p) {
    char *out = fr_alloc(1 << 16);
    int n = sprintf(out,
                    "{\"schema\": \"forerun.ab/1\", \"created\": \"then\", \"complete\": true, \"environment\": {\"threads\": %d,"
                    "\"model\": {\"fingerprint\": \"%s\"}, \"options\": {\"kv\": \"%s\", \"repeats\": %d}},"
                    "\"arms\": [{\"name\": \"off\", \"depth\": 0, \"decode_tokens_per_s\": {\"median\": %g}}, {\"name\": \"on\","
                    "\"depth\": 1, \"decode_tokens_per_s\": {\"median\": %g}}], \"comparisons\": [{\"a\": \"off\", \"b\": \"on\","
                    "\"speedup\": {\"median\": %g}}], \"noise\": {\"resolution\": %g, \"verdict\": \"quiet\"},"
                    "\"identical_outputs\": true, \"results\": [",
                    p.threads, p.fingerprint, p.kv, p.prompts, p.off, p.off * p.speedup, p.speedup, p.resolution);
    for (int i = 0; i < p.prompts; i++) {
        double off = p.off * (1.0 + p.wobble * ((i * 7) % 5 - 2)), on = off * p.speedup;
        n += sprintf(out + n,
                     "%s{\"id\": \"p%d\", \"output_crc32c\": \"%s\", \"arms\": {\"off\": {\"decode_tokens_per_s\": %g},"
                     "\"on\": {\"decode_tokens_per_s\": %g}}, \"speedup\": {\"on\": %.10g}}",
                     i ? "," : "", i, p.text, off, on, on / off);
    }
    sprintf(out + n, "]}");
    return out;
}

static const paper plain = {100.0, 1.5, 0.001, 0.01, 20, 2, "bf16", "abc", "11"};

static cJSON *compare(paper before, paper after) {
    char *a = write_paper(before), *b = write_paper(after);
    fr_study_result *result = NULL;
    fr_error error;
    assert_int_equal(fr_ab_compare(a, b, &result, &error), FR_OK);
    cJSON *document = cJSON_Parse(fr_study_json(result));
    assert_non_null(document);
    fr_study_destroy(result);
    fr_free(a);
    fr_free(b);
    return document;
}

static const char *verdict(const cJSON *d, const char *list, int i) {
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItem(d, list), i);
    return cJSON_GetObjectItem(item, "verdict")->valuestring;
}

static bool warns(const cJSON *d, const char *of) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(d, "warnings")) if (strstr(item->valuestring, of)) return true;
    return false;
}

static void documents_are_compared_by_prompt(void **state) {
    paper after = plain;
    (void)state;
    cJSON *d = compare(plain, plain);
    assert_string_equal(verdict(d, "arms", 0), "no difference shown");
    assert_string_equal(verdict(d, "comparisons", 0), "no difference shown");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(d, "warnings")), 0);
    assert_int_equal(cJSON_GetObjectItem(d, "prompts_in_both")->valuedouble, 20);
    cJSON_Delete(d);

    after.off = 110.0; /* both arms faster by as much: speedups stay */
    after.wobble = 0.002;
    d = compare(plain, after);
    assert_string_equal(verdict(d, "arms", 0), "faster");
    assert_string_equal(verdict(d, "arms", 1), "faster");
    assert_string_equal(verdict(d, "comparisons", 0), "no difference shown");
    cJSON_Delete(d);

    after = plain;
    after.speedup = 1.2;
    d = compare(plain, after);
    assert_string_equal(verdict(d, "arms", 0), "no difference shown");
    assert_string_equal(verdict(d, "arms", 1), "slower");
    assert_string_equal(verdict(d, "comparisons", 0), "slower");
    cJSON_Delete(d);

    after.resolution = 0.3; /* a fifth less, but equals differ by more */
    d = compare(plain, after);
    assert_string_equal(verdict(d, "comparisons", 0), "no difference shown");
    cJSON_Delete(d);

    after = plain;
    after.prompts = 1;
    d = compare(plain, after);
    assert_string_equal(verdict(d, "arms", 0), "unknown");
    assert_true(warns(d, "1 prompts are in both"));
    cJSON_Delete(d);
}

static void what_is_not_comparable_is_warned_of(void **state) {
    paper after = plain;
    fr_study_result *result;
    fr_error error;
    (void)state;
    after.threads = 4;
    after.kv = "f32";
    after.fingerprint = "def";
    after.text = "22";
    cJSON *d = compare(plain, after);
    assert_true(warns(d, "threads differs: 2 before, 4 after"));
    assert_true(warns(d, "option kv differs"));
    assert_true(warns(d, "fingerprint differs"));
    assert_true(warns(d, "20 of 20 prompts gave another text"));
    assert_false(warns(d, "repeats"));
    cJSON_Delete(d);
    assert_int_equal(fr_ab_compare("{}", "{}", &result, &error), FR_ERROR_FORMAT);
    assert_null(result);
    assert_non_null(strstr(error.message, "before"));
    char *good = write_paper(plain);
    assert_int_equal(fr_ab_compare(good, "[1, 2", &result, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "after"));
    assert_int_equal(fr_ab_compare(good, "{\"schema\": \"forerun.accept/1\"}", &result, &error), FR_ERROR_FORMAT);
    fr_free(good);
}

/* ---- Energy ---- */

static void zone(const scratch *s, const char *dir, const char *name, const char *energy, const char *range) {
    char path[128];
    mkdir(scratch_path(s, dir), 0777);
    const char *const files[] = {"name", "energy_uj", "max_energy_range_uj"}, *const texts[] = {name, energy, range};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        if (texts[i]) scratch_write_text(s, path, texts[i]);
    }
}

static void remove_zones(const scratch *s) {
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
}

static void energy_counters_are_summed_and_may_wrap(void **state) {
    scratch s = scratch_create();
    fr_energy energy;
    (void)state;
    zone(&s, "intel-rapl:0", "package-0\n", "9000000\n", "10000000\n");
    zone(&s, "intel-rapl:1", "package-1\n", "1000000\n", "10000000\n");
    zone(&s, "intel-rapl:0:0", "core\n", "77\n", "10000000\n"); /* part of a package */
    zone(&s, "intel-rapl:0:1", "dram\n", "0\n", "10000000\n");
    zone(&s, "intel-rapl-mmio:0", "package-0\n", "5\n", "10000000\n"); /* the same package again */
    zone(&s, "intel-rapl:2", "psys\n", "5\n", "10000000\n");
    fr_energy_open(&energy, s.dir);
    assert_int_equal(energy.num_zones, 3);
    assert_true(fr_energy_read(&energy) == 0.0);
    zone(&s, "intel-rapl:0", "package-0\n", "500000\n", "10000000\n"); /* went round: 1.5 J */
    zone(&s, "intel-rapl:1", "package-1\n", "1250000\n", "10000000\n");
    zone(&s, "intel-rapl:0:1", "dram\n", "125000\n", "10000000\n");
    assert_float_equal(fr_energy_read(&energy), 1.875, 1e-9);
    assert_float_equal(fr_energy_read(&energy), 1.875, 1e-9);

    zone(&s, "intel-rapl:3", "package-3\n", NULL, "10000000\n"); /* one that cannot be read: no sum without it */
    fr_energy_open(&energy, s.dir);
    assert_int_equal(energy.num_zones, 0);
    assert_true(isnan(fr_energy_read(&energy)));
    remove_zones(&s);
    fr_energy_open(&energy, s.dir);
    assert_true(energy.num_zones == 0 && isnan(fr_energy_read(&energy)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_of_an_arm_are_over_its_whole_turns),
        cmocka_unit_test(speedups_are_ratios_by_prompt),
        cmocka_unit_test(verdicts_need_more_than_noise),
        cmocka_unit_test(differences_are_found),
        cmocka_unit_test(the_cost_model_predicts_speedups),
        cmocka_unit_test(predicted_and_measured_pool_alike),
        cmocka_unit_test(documents_are_compared_by_prompt),
        cmocka_unit_test(what_is_not_comparable_is_warned_of),
        cmocka_unit_test(energy_counters_are_summed_and_may_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
