/* The A/B study on a small model: the order of turns, what is compared, synthetic acceptance, and what a run gives that
 * is stopped. Nothing here looks at a clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "forerun_study.h"
#include "model/weights.h"
#include "scratch.h"
#include "study/ab/ab.h"
#include "study/ab/text.h"

#define MODEL FR_TEST_DIR "/golden/pico-mtp-s1"
enum { PROMPTS = 3, TOKENS = 12 };

static fr_model *model;
static scratch files;
static char prompts[1024];

static int set_up(void **state) {
    const fr_model_options options = {.threads = 1};
    (void)state;
    files = scratch_create();
    scratch_write_text(&files, "prompts.jsonl",
                       "{\"id\": \"a\", \"domain\": \"x\", \"tokens\": [1, 5, 9, 13]}\n"
                       "{\"id\": \"b\", \"domain\": \"y\", \"tokens\": [7, 8, 9], \"max_tokens\": 10}\n"
                       "{\"id\": \"c\", \"domain\": \"x\", \"tokens\": [20, 30, 40, 50, 60]}\n");
    snprintf(prompts, sizeof prompts, "%s", scratch_path(&files, "prompts.jsonl"));
    return fr_model_open(MODEL, &options, &model, NULL) == FR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    fr_model_destroy(model);
    scratch_destroy(&files);
    return 0;
}

static fr_ab_options usual(void) {
    return (fr_ab_options){
        .prompts = prompts, .max_tokens = TOKENS, .ignore_eos = true, .warm_up = -1, .session = {.sampling = {.seed = 3}}};
}

static cJSON *parse(const fr_study_result *result) {
    cJSON *document = cJSON_Parse(fr_study_json(result));
    assert_non_null(document);
    return document;
}

/* Runs a study that must succeed. */
static cJSON *study(const fr_ab_options *options) {
    fr_study_result *result = NULL;
    fr_error error = {0};
    fr_status status = fr_ab(model, options, &result, &error);
    if (status != FR_OK) fail_msg("%s", error.message);
    cJSON *document = parse(result);
    fr_study_destroy(result);
    return document;
}

/* An item by a path of keys and indices: "arms.0.name". */
static const cJSON *at(const cJSON *item, const char *path) {
    char key[64];
    for (const char *from = path; item && *from; from += strcspn(from, ".") + (from[strcspn(from, ".")] == '.')) {
        snprintf(key, sizeof key, "%.*s", (int)strcspn(from, "."), from);
        item = cJSON_IsArray(item) ? cJSON_GetArrayItem(item, atoi(key)) : cJSON_GetObjectItemCaseSensitive(item, key);
    }
    if (!item) fail_msg("the document has no %s", path);
    return item;
}

static double number(const cJSON *item, const char *path) {
    item = at(item, path);
    if (!cJSON_IsNumber(item)) fail_msg("%s is no number", path);
    return item->valuedouble;
}

/* ---- Turns ---- */

static void turns_go_forward_and_backward(void **state) {
    enum { COLUMNS = 4 };
    int at_turn[2][COLUMNS] = {{0}};
    (void)state;
    for (size_t prompt = 0; prompt < 4; prompt++)
        for (int repeat = 0; repeat < 4; repeat++)
            for (int turn = 0; turn < COLUMNS; turn++) {
                int column = fr_ab_order(COLUMNS, prompt, repeat, turn);
                assert_in_range(column, 0, COLUMNS - 1);
                if (turn > 0) assert_int_equal(abs(column - fr_ab_order(COLUMNS, prompt, repeat, turn - 1)), 1);
                assert_int_equal(column, fr_ab_order(COLUMNS, prompt, repeat + 1, COLUMNS - 1 - turn));
                at_turn[turn < COLUMNS / 2][column]++;
            }
    /* Nobody comes early more often than late. */
    for (int c = 0; c < COLUMNS; c++) assert_int_equal(at_turn[0][c], at_turn[1][c]);
    assert_int_equal(fr_ab_order(2, 0, 0, 0), 0); /* A B B A, B A A B */
    assert_int_equal(fr_ab_order(2, 0, 1, 0), 1);
    assert_int_equal(fr_ab_order(2, 1, 0, 0), 1);
}

typedef struct watch {
    char turns[512]; /* what was reported, each time that it changed */
    char last[64];
    uint64_t done, total;
    int calls, stop_at; /* -1: never */
} watch;

static bool look(void *user, const char *what, uint64_t done, uint64_t total) {
    watch *w = user;
    assert_true(done <= total && done >= w->done && (w->total == 0 || w->total == total));
    w->done = done;
    w->total = total;
    if (strcmp(what, w->last) != 0) {
        snprintf(w->last, sizeof w->last, "%s", what);
        assert_true(strlen(w->turns) + strlen(what) + 2 < sizeof w->turns);
        strcat(strcat(w->turns, what), ";");
    }
    return w->calls++ != w->stop_at;
}

static void a_run_takes_turns(void **state) {
    fr_ab_arm arms[] = {{FR_DRAFTING_OFF, 0, false}, {FR_DRAFTING_ON, 2, false}};
    watch w = {.stop_at = -1};
    fr_ab_options o = usual();
    (void)state;
    o.arms = arms;
    o.num_arms = 2;
    o.most_prompts = 2;
    o.no_noise_check = true;
    o.progress = look;
    o.user = &w;
    cJSON *document = study(&o);
    assert_string_equal(w.turns, "1/2 off;1/2 on:2;1/2 off;2/2 on:2;2/2 off;2/2 on:2;"); /* A B B A, B A A B */
    assert_int_equal(w.total, 2 * 2 * (12 + 10));
    assert_true(cJSON_IsNull(at(document, "noise")));
    cJSON_Delete(document);

    w = (watch){.stop_at = -1};
    o.no_noise_check = false;
    o.most_prompts = 1;
    o.repeats = 1;
    o.synthetic = (double[]){0.5};
    o.num_synthetic = 1;
    o.warm_up = 1;
    cJSON_Delete(study(&o));
    /* Warming up, then the text that synthetic drafts are taken from, then the turns. */
    assert_string_equal(w.turns, "1/1 off;1/1 on:2;1/1 synthetic:0.5;1/1 off (again);"
                                 "1/1 off;1/1 on:2;1/1 synthetic:0.5;1/1 off (again);");
}

/* ---- What is in the document ---- */

static void figures_agree_with_each_other(void **state) {
    fr_ab_options o = usual();
    (void)state;
    cJSON *d = study(&o);
    int tokens = 2 * (12 + 10 + 12);
    assert_string_equal(at(d, "schema")->valuestring, "forerun.ab/1");
    assert_true(cJSON_IsTrue(at(d, "complete")) && cJSON_IsTrue(at(d, "identical_outputs")));
    assert_int_equal(cJSON_GetArraySize(at(d, "arms")), 4);
    assert_int_equal(cJSON_GetArraySize(at(d, "results")), PROMPTS);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"off", "on", "auto", "learned"};
        const cJSON *arm = cJSON_GetArrayItem(at(d, "arms"), i), *counts = at(arm, "itl_histogram.counts"), *item;
        double counted = 0.0;
        assert_string_equal(at(arm, "name")->valuestring, names[i]);
        assert_int_equal(number(arm, "tokens"), tokens);
        assert_int_equal(number(arm, "decode_tokens_per_s.samples"), 2 * PROMPTS);
        /* The first token of a text comes with its prefill; each other one has a time, and so has each cycle. */
        assert_int_equal(number(arm, "inter_token_ms.samples"), tokens - 2 * PROMPTS);
        assert_int_equal(number(arm, "cycle_ms.samples"), number(arm, "speculative_decoding.num_cycles"));
        cJSON_ArrayForEach(item, counts) counted += item->valuedouble;
        assert_int_equal(counted, tokens - 2 * PROMPTS);
        assert_int_equal(cJSON_GetArraySize(at(arm, "itl_histogram.edges_ms")), cJSON_GetArraySize(counts) + 1);
        double cycles = number(arm, "speculative_decoding.num_cycles"),
               accepted = number(arm, "speculative_decoding.num_accepted_tokens");
        assert_int_equal(cycles + accepted, tokens - 2 * PROMPTS);
        assert_true(number(arm, "tpot_ms.p50") <= number(arm, "tpot_ms.p99"));
    }
    assert_int_equal(cJSON_GetArraySize(at(d, "comparisons")), 3);
    assert_string_equal(at(d, "comparisons.1.b")->valuestring, "auto");
    assert_string_equal(at(d, "comparisons.2.b")->valuestring, "learned");
    assert_int_equal(number(d, "comparisons.0.pairs"), 2 * PROMPTS);
    assert_int_equal(number(d, "comparisons.0.units"), PROMPTS);
    assert_true(cJSON_IsNull(at(d, "comparisons.0.speedup.ci95")) && cJSON_IsNull(at(d, "arms.1.acceptance_rate_ci95")));
    for (int i = 0; i < PROMPTS; i++) {
        const cJSON *result = cJSON_GetArrayItem(at(d, "results"), i);
        double off = number(result, "arms.off.decode_tokens_per_s"), on = number(result, "arms.on.decode_tokens_per_s");
        assert_float_equal(number(result, "speedup.on"), on / off, 1e-6 * on / off);
        assert_float_equal(number(result, "arms.on.tpot_ms"), 1e3 / on, 1e-6 * 1e3 / on);
    }
    assert_int_equal(number(d, "results.1.tokens"), 10);
    assert_string_equal(at(d, "noise.verdict")->valuestring, "noisy");    /* of three prompts nobody can tell */
    assert_int_equal(cJSON_GetArraySize(at(d, "cost_model.pass_ms")), 4); /* auto drafts up to 3 */
    assert_true(number(d, "cost_model.pass_over_one.0") == 1.0 && number(d, "cost_model.unique_experts.0") == 3.0);
    assert_true(number(d, "cost_model.expert_overlap") >= 0.0 && number(d, "cost_model.expert_overlap") <= 1.0);
    assert_float_equal(number(d, "cost_model.acceptance_rate"), number(d, "arms.1.speculative_decoding.acceptance_rate"), 1e-9);
    assert_true(number(d, "cost_model.draft_ms") > 0.0);
    assert_int_equal(cJSON_GetArraySize(at(d, "cost_model.curve")), 21);
    assert_float_equal(number(d, "cost_model.measured_speedup"), number(d, "comparisons.0.speedup.total"), 1e-9);
    cJSON_Delete(d);
}

static void a_single_prompt_is_compared_by_pairs(void **state) {
    const int32_t tokens[] = {3, 4, 5};
    fr_ab_options o = usual();
    (void)state;
    o.prompts = NULL;
    o.tokens = tokens;
    o.num_tokens = 3;
    o.repeats = 3;
    cJSON *d = study(&o);
    assert_string_equal(at(d, "comparisons.0.unit")->valuestring, "pair"); /* one prompt: its pairs are the units */
    assert_int_equal(number(d, "comparisons.0.units"), 3);
    cJSON_Delete(d);
}

/* With rejection texts may differ; then the document says so, and that it is no fault. */
static void rejection_may_change_texts(void **state) {
    fr_ab_options o = usual();
    (void)state;
    o.max_tokens = 24;
    o.session.sampling.temperature = 1.0f;
    cJSON *d = study(&o);
    assert_true(cJSON_IsTrue(at(d, "identical_outputs")) && cJSON_IsTrue(at(d, "outputs.promised_identical")));
    cJSON_Delete(d);
    o.session.sampling.verify = FR_VERIFY_REJECTION;
    d = study(&o);
    assert_true(cJSON_IsFalse(at(d, "identical_outputs")) && cJSON_IsFalse(at(d, "outputs.promised_identical")));
    assert_true(number(d, "outputs.different_texts") > 0.0);
    cJSON_Delete(d);
}

/* ---- Synthetic acceptance ---- */

static void spoiled_drafts_are_right_as_often_as_asked(void **state) {
    enum { TRIALS = 20000, VOCAB = 10 };
    const double targets[] = {0.0, 0.1, 0.5, 0.9, 1.0};
    int seen[VOCAB] = {0};
    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        double p = targets[i];
        int right = 0, differs = 0;
        for (int n = 0; n < TRIALS; n++) {
            int32_t token = fr_ab_spoil(5, n / 7, n % 7, p, 4, VOCAB);
            assert_in_range(token, 0, VOCAB - 1);
            assert_int_equal(token, fr_ab_spoil(5, n / 7, n % 7, p, 4, VOCAB));
            right += token == 4;
            differs += token != fr_ab_spoil(6, n / 7, n % 7, p, 4, VOCAB);
            if (p == 0.5) seen[token]++;
        }
        /* 4.5 standard deviations of a binomial count; none at 0 and 1 */
        assert_true(fabs(right - p * TRIALS) <= 4.5 * sqrt(p * (1.0 - p) * TRIALS));
        if (p > 0.0 && p < 1.0) assert_true(differs > 0);
    }
    for (int token = 0; token < VOCAB; token++) /* the wrong ones are all as likely */
        if (token != 4) assert_true(fabs(seen[token] - 0.5 * TRIALS / 9.0) <= 4.5 * sqrt(0.5 * TRIALS / 9.0));
}

static void synthetic_acceptance_hits_its_target(void **state) {
    const double targets[] = {0.0, 0.6, 1.0};
    fr_ab_arm off = {FR_DRAFTING_OFF, 0, false};
    fr_ab_options o = usual();
    (void)state;
    o.arms = &off;
    o.num_arms = 1;
    o.max_tokens = 60;
    o.no_noise_check = true;
    o.synthetic = targets;
    o.num_synthetic = 3;
    for (int depth = 1; depth <= 3; depth += 2)
        for (int sampled = 0; sampled < 2; sampled++) {
            o.session.depth = depth;
            o.session.sampling.temperature = (float)sampled;
            cJSON *d = study(&o);
            assert_true(cJSON_IsTrue(at(d, "identical_outputs"))); /* also of the synthetic columns' texts */
            for (int i = 0; i < 3; i++) {
                const cJSON *item = cJSON_GetArrayItem(at(d, "synthetic"), i);
                double reached = number(item, "judged"), accepted = number(item, "accepted"), p = targets[i];
                assert_int_equal(number(item, "depth"), depth);
                assert_true(reached > 50.0);
                assert_true(fabs(accepted - p * reached) <= 4.5 * sqrt(p * (1.0 - p) * reached));
                assert_float_equal(number(item, "acceptance"), accepted / reached, 1e-9);
                assert_true(number(item, "predicted_speedup") > 0.0);
            }
            cJSON_Delete(d);
        }
}

/* Tokens come from prefills, cycles and accepted drafts, and from nowhere else. */
static void counts_add_up(const cJSON *arm) {
    const cJSON *s = at(arm, "speculative_decoding");
    assert_true(number(arm, "tokens") ==
                number(s, "num_first_tokens") + number(s, "num_cycles") + number(s, "num_accepted_tokens"));
}

/* A text that an eos token ends: drafts beyond it have nothing to be taken from, and count nowhere. */
static void synthetic_drafts_stop_where_the_text_ends(void **state) {
    const double targets[] = {1.0};
    fr_ab_options o = usual();
    (void)state;
    o.synthetic = targets;
    o.num_synthetic = 1;
    o.ignore_eos = false;
    o.session.depth = 7;
    o.session.sampling.temperature = 2.0f; /* eos tokens come by chance */
    o.max_tokens = 200;
    fr_config before = model->config;
    model->config.num_eos_token_ids = 8;
    for (int i = 0; i < 8; i++) model->config.eos_token_ids[i] = 40 * i;
    cJSON *d = study(&o);
    model->config = before;
    double tokens = number(d, "synthetic.0.tokens");
    assert_true(tokens == number(d, "arms.0.tokens"));
    assert_true(number(d, "synthetic.0.acceptance") == 1.0);
    for (int i = 0; i < 3; i++) counts_add_up(cJSON_GetArrayItem(at(d, "arms"), i));
    assert_true(cJSON_IsTrue(at(d, "identical_outputs")));
    cJSON_Delete(d);
}

/* ---- Stopped, and refused ---- */

static void a_stopped_run_counts_whole_turns_only(void **state) {
    fr_ab_options o = usual();
    watch w = {.stop_at = -1};
    (void)state;
    o.most_prompts = 2;
    o.progress = look;
    o.user = &w;
    cJSON_Delete(study(&o));
    int calls = w.calls;
    for (int stop = 0; stop < calls; stop += 29) {
        fr_study_result *result = NULL;
        fr_error error;
        w = (watch){.stop_at = stop};
        assert_int_equal(fr_ab(model, &o, &result, &error), FR_INTERRUPTED);
        assert_int_equal(w.calls, stop + 1);
        cJSON *d = parse(result);
        assert_true(cJSON_IsFalse(at(d, "complete")) && cJSON_IsTrue(at(d, "identical_outputs")));
        /* A turn counts when all its columns are whole: then they have as many texts. */
        double texts = number(d, "arms.0.decode_tokens_per_s.samples");
        for (int i = 1; i < 3; i++)
            assert_int_equal(number(cJSON_GetArrayItem(at(d, "arms"), i), "decode_tokens_per_s.samples"), texts);
        assert_int_equal(number(d, "comparisons.0.pairs"), texts);
        assert_true(texts < 4.0);
        if (texts == 0.0) assert_true(cJSON_IsNull(at(d, "comparisons.0.speedup.median")));
        cJSON_Delete(d);
        fr_study_destroy(result);
    }
}

static void options_are_checked(void **state) {
    const double half = 0.5, much = 1.5;
    fr_ab_arm twice[] = {{FR_DRAFTING_ON, 2, false}, {FR_DRAFTING_ON, 2, false}}, deep = {FR_DRAFTING_ON, 9, false};
    fr_ab_options bad[10];
    (void)state;
    for (size_t i = 0; i < 10; i++) bad[i] = usual();
    bad[0].repeats = -1;
    bad[1].max_tokens = 1;
    bad[2].cool_off_s = -1.0;
    bad[3].arms = twice;
    bad[3].num_arms = 2;
    bad[4].arms = &deep;
    bad[4].num_arms = 1;
    bad[5].synthetic = &much;
    bad[5].num_synthetic = 1;
    bad[6].synthetic = &half;
    bad[6].num_synthetic = 1;
    bad[6].session.sampling = (fr_sampling){.temperature = 1.0f, .verify = FR_VERIFY_REJECTION};
    bad[7].session.ctx = 1 << 30;
    bad[8].num_arms = 17;
    bad[8].arms = twice;
    bad[9].prompts = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fr_study_result *result = (fr_study_result *)&bad;
        fr_error error;
        assert_int_equal(fr_ab(model, &bad[i], &result, &error), FR_ERROR_ARGUMENT);
        assert_null(result);
    }
    fr_study_result *result;
    fr_error error;
    fr_ab_options o = usual();
    o.session.ctx = 14;
    assert_int_equal(fr_ab(model, &o, &result, &error), FR_ERROR_CONTEXT);
    assert_non_null(strstr(error.message, "prompt a")); /* 4 + 12 */
    o = usual();
    o.prompts = "no/such/file";
    assert_int_equal(fr_ab(model, &o, &result, &error), FR_ERROR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_go_forward_and_backward),
        cmocka_unit_test(a_run_takes_turns),
        cmocka_unit_test(figures_agree_with_each_other),
        cmocka_unit_test(a_single_prompt_is_compared_by_pairs),
        cmocka_unit_test(rejection_may_change_texts),
        cmocka_unit_test(spoiled_drafts_are_right_as_often_as_asked),
        cmocka_unit_test(synthetic_acceptance_hits_its_target),
        cmocka_unit_test(synthetic_drafts_stop_where_the_text_ends),
        cmocka_unit_test(a_stopped_run_counts_whole_turns_only),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
