/* The acceptance study: its counts against the session's own, the two modes against each other, and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <cJSON.h>

#include "driver.h"
#include "forerun_study.h"
#include "goldens.h"
#include "mtp/drafters/mtp.h"
#include "scratch.h"
#include "study/accept/accept.h"

#define MODEL "pico-mtp-s1"

static fr_model *open_model(void) {
    return driver_open(MODEL, FR_ISA_AUTO, FR_ACT_AUTO, 1);
}

/* ---- Teacher-forced against generated ---- */

/* A run of one configuration and one text, put together by hand. */
static void start_run(fr_accept_run *run, const fr_model *model, const fr_session_options *o) {
    size_t vocab = (size_t)model->config.vocab_size;
    *run = (fr_accept_run){.model = model, .options = {.session = *o}, .num_configs = 1, .num_prompts = 1};
    run->configs = run->config = calloc(1, sizeof *run->configs);
    run->config->depth = o->depth;
    run->config->texts = run->text = calloc(1, sizeof *run->text);
    run->config->proposed = calloc(vocab, sizeof(uint32_t));
    run->config->rejected = calloc(vocab, sizeof(uint32_t));
    run->session = driver_session(model, o);
}

static void end_run(fr_accept_run *run) {
    fr_session_destroy(run->session);
    free(run->config->proposed);
    free(run->config->rejected);
    free(run->text);
    free(run->configs);
}

enum { MADE = 64 };

/* Generates after `prompt` tokens of a golden text, then verifies the text that came out. Gives what both counted. */
static void both_modes(const fr_model *model, const golden *g, int prompt, fr_session_options o, fr_stats *generated,
                       fr_stats *forced) {
    int32_t text[512];
    fr_accept_run run;
    o.drafting = FR_DRAFTING_ON;
    o.ctx = prompt + MADE;
    memcpy(text, g->tokens, (size_t)prompt * sizeof *text);
    fr_session *session = driver_session(model, &o);
    driver_prefill(session, text, prompt);
    driver_generate(session, MADE, text + prompt, NULL, NULL);
    fr_session_get_stats(session, generated);
    fr_session_destroy(session);

    start_run(&run, model, &o);
    assert_int_equal(fr_accept_verify_text(&run, text, prompt + MADE, prompt - 1, NULL), FR_OK);
    *forced = run.config->along_cycles;
    assert_int_equal(run.text->tokens, MADE - 2); /* every position from the prompt's last on but those at the end */
    assert_int_equal(run.config->stats.num_cycles, run.text->tokens);
    end_run(&run);
}

static void same_counts(const fr_stats *a, const fr_stats *b) {
    assert_int_equal(a->num_first_tokens, b->num_first_tokens);
    assert_int_equal(a->num_cycles, b->num_cycles);
    assert_int_equal(a->num_drafts, b->num_drafts);
    assert_int_equal(a->num_draft_tokens, b->num_draft_tokens);
    assert_int_equal(a->num_accepted_tokens, b->num_accepted_tokens);
    assert_memory_equal(a->drafted_at, b->drafted_at, sizeof a->drafted_at);
    assert_memory_equal(a->reached_at, b->reached_at, sizeof a->reached_at);
    assert_memory_equal(a->accepted_at, b->accepted_at, sizeof a->accepted_at);
    assert_memory_equal(a->depth_histogram, b->depth_histogram, sizeof a->depth_histogram);
}

/* In passes of eight rows both modes run the same kernels, so that all drafts are accepted and rejected alike, whatever the rule:
 * text that the model generated itself is verified into the very cycles that made it. */
static void check_both_modes(const char *name, uint64_t least_accepted, uint64_t least_deep) {
    static const int prompts[] = {1, 7, 60};
    fr_model *model = driver_open(name, FR_ISA_AUTO, FR_ACT_AUTO, 1);
    golden g;
    golden_load(name, 70, GOLDEN_F32, &g);
    uint64_t accepted = 0, rejected = 0, deep = 0;
    for (int way = 0; way < 24; way++) {
        fr_session_options o = {
            .depth = (int[]){1, 2, 5}[way % 3],
            .prefill_chunk = (int[]){8, 5}[way / 3 % 2],
            .mtp_hidden = way & 1 ? FR_HIDDEN_PRE_NORM : FR_HIDDEN_POST_NORM,
            .mtp_recycle = (fr_recycle)(way / 2 % FR_RECYCLE_COUNT),
            .kv = way & 4 ? FR_KV_F32 : FR_KV_BF16,
            .sampling = {.temperature = (float[]){0, 0.7f, 0.7f, 1.2f}[way / 6],
                         .top_k = way & 2 ? 20 : 0,
                         .seed = 5,
                         .verify = way / 6 >= 2 ? FR_VERIFY_REJECTION : FR_VERIFY_COUPLED},
        };
        fr_stats generated, forced;
        both_modes(model, &g, prompts[way % 7 % 3], o, &generated, &forced);
        same_counts(&generated, &forced);
        accepted += forced.num_accepted_tokens;
        rejected += forced.num_draft_tokens - forced.num_accepted_tokens;
        deep += forced.accepted_at[2];
    }
    assert_true(accepted > least_accepted && rejected > 100 && deep > least_deep); /* there was something to agree on */
    golden_release(&g);
    fr_model_destroy(model);
}

static void verifying_a_text_agrees_with_generating_it_bit_for_bit(void **state) {
    (void)state;
    check_both_modes(MODEL, 100, 5);
    check_both_modes("pico-v32", 50, 1);   /* chained rows choose the positions that they attend to */
    check_both_modes("pico-glm52", 50, 1); /* they attend to those of the row that they are chained to */
}

/* Prefill passes of many rows sum in another order: near ties may come out otherwise, and nothing else. */
static void verifying_in_large_passes_differs_in_near_ties_only(void **state) {
    (void)state;
    fr_model *model = open_model();
    golden g;
    golden_load(MODEL, 70, GOLDEN_F32, &g);
    int drafted = 0, differ = 0;
    for (int prompt = 1; prompt < 70; prompt += 4) {
        fr_session_options o = {.depth = 1, .prefill_chunk = 24};
        fr_stats generated, forced;
        both_modes(model, &g, prompt, o, &generated, &forced);
        drafted += (int)generated.num_draft_tokens;
        differ += abs((int)generated.num_accepted_tokens - (int)forced.num_accepted_tokens);
    }
    assert_true(drafted > 400);
    if (differ > drafted / 50) fail_msg("%d verdicts of %d differ", differ, drafted);
    golden_release(&g);
    fr_model_destroy(model);
}

/* A chain reads the true rows before it, whatever chains of other places wrote there: with passes of one row places are
 * verified one at a time, and every confidence is the same. */
static void chains_do_not_see_each_other(void **state) {
    (void)state;
    fr_model *model = open_model();
    golden g;
    golden_load(MODEL, 70, GOLDEN_F32, &g);
    fr_calibration calibration[2];
    for (int alone = 0; alone < 2; alone++) {
        fr_session_options o = {.depth = 4, .prefill_chunk = alone ? 1 : 8, .drafting = FR_DRAFTING_ON, .ctx = 70};
        fr_accept_run run;
        start_run(&run, model, &o);
        assert_int_equal(fr_accept_verify_text(&run, g.tokens, 70, 0, NULL), FR_OK);
        assert_true(run.config->stats.accepted_at[1] > 3);
        calibration[alone] = run.text->calibration;
        end_run(&run);
    }
    assert_memory_equal(calibration[0].count, calibration[1].count, sizeof calibration[0].count);
    assert_memory_equal(calibration[0].happened, calibration[1].happened, sizeof calibration[0].happened);
    for (int b = 0; b < FR_CALIBRATION_BINS; b++) /* summed in another order */
        assert_true(fabs(calibration[0].confidence[b] - calibration[1].confidence[b]) < 1e-12);
    golden_release(&g);
    fr_model_destroy(model);
}

/* Verifying leaves the MTP module's cache as evaluating alone would, chained rows gone. */
static void check_cache(const char *name) {
    fr_model *model = driver_open(name, FR_ISA_AUTO, FR_ACT_AUTO, 1);
    golden g;
    golden_load(name, 70, GOLDEN_F32, &g);
    fr_session_options o = {.depth = 4, .prefill_chunk = 16, .drafting = FR_DRAFTING_ON, .ctx = 70};
    fr_session *plain = driver_session(model, &o);
    driver_prefill(plain, g.tokens, 70);
    fr_accept_run run;
    start_run(&run, model, &o);
    assert_int_equal(fr_accept_verify_text(&run, g.tokens, 70, 0, NULL), FR_OK);
    assert_true(run.config->stats.accepted_at[0] > 0); /* chains were followed */
    const fr_kv_cache *verified = &fr_mtp_drafter_of(run.session->drafter)->kv, *kv = &fr_mtp_drafter_of(plain->drafter)->kv;
    assert_int_equal(verified->length, kv->length);
    assert_memory_equal(verified->rows, kv->rows, fr_kv_cache_bytes(1, kv->length, kv->rank, kv->rope, kv->type));
    size_t keys = (size_t)fr_kv_cache_bytes(kv->index_layers, kv->length, kv->index_dim, 0, kv->type);
    if (keys) assert_memory_equal(verified->index_rows, kv->index_rows, keys);
    end_run(&run);
    fr_session_destroy(plain);
    golden_release(&g);
    fr_model_destroy(model);
}

static void verifying_puts_the_cache_back(void **state) {
    (void)state;
    check_cache(MODEL);
    check_cache("pico-v32");
}

/* ---- Documents ---- */

static double at(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item)) fail_msg("%s is not a number", key);
    return item->valuedouble;
}

static const cJSON *part(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item) fail_msg("there is no %s", key);
    return item;
}

static double sum(const cJSON *array, const char *key) {
    const cJSON *item;
    double total = 0;
    cJSON_ArrayForEach(item, array) total += at(item, key);
    return total;
}

static cJSON *study(const fr_model *model, const fr_accept_options *options, fr_status expected) {
    fr_study_result *result = NULL;
    fr_error error = {0};
    fr_status status = fr_accept(model, options, &result, &error);
    if (status != expected) fail_msg("%s: %s", fr_status_name(status), error.message);
    if (!result) return NULL;
    cJSON *document = cJSON_Parse(fr_study_json(result));
    fr_study_destroy(result);
    assert_non_null(document);
    return document;
}

static const char *const three = "{\"id\": \"a\", \"domain\": \"x\", \"prompt\": \"Once upon a time\", \"max_tokens\": 30}\n"
                                 "\n"
                                 "{\"id\": 7, \"domain\": \"y\", \"tokens\": [1, 2, 3, 4, 5, 6, 7, 8]}\n"
                                 "{\"domain\": \"x\", \"prompt\": \"The end\", \"more\": null}";

/* The same prompts, run by hand. */
static fr_stats by_hand(const fr_model *model, const fr_prompts *prompts, const fr_session_options *options, int most) {
    fr_stats stats;
    fr_session *session = driver_session(model, options);
    for (size_t p = 0; p < prompts->count; p++) {
        const fr_prompt *prompt = &prompts->items[p];
        int count = prompt->max_tokens ? prompt->max_tokens : most;
        int32_t tokens[256];
        assert_int_equal(fr_session_truncate(session, 0, NULL), FR_OK);
        driver_prefill(session, prompt->tokens, (int)prompt->count);
        driver_generate(session, count, tokens, NULL, NULL);
    }
    fr_session_get_stats(session, &stats);
    fr_session_destroy(session);
    return stats;
}

static void counts_are_the_sessions_and_add_up(void **state) {
    (void)state;
    fr_model *model = open_model();
    scratch s = scratch_create();
    fr_prompts prompts;
    scratch_write_text(&s, "p.jsonl", three);
    fr_session_options session = {
        .drafting = FR_DRAFTING_ON, .depth = 4, .ctx = 128, .sampling = {.temperature = 0.8f, .seed = 3}};
    fr_accept_options options = {
        .prompts = scratch_path(&s, "p.jsonl"), .max_tokens = 40, .ignore_eos = true, .session = session};
    assert_int_equal(fr_prompts_load(model, options.prompts, NULL, &prompts, NULL), FR_OK);
    assert_int_equal(prompts.count, 3);
    fr_stats expected = by_hand(model, &prompts, &session, 40);

    cJSON *document = study(model, &options, FR_OK);
    assert_string_equal(part(document, "schema")->valuestring, "forerun.accept/1");
    assert_true(cJSON_IsTrue(part(document, "complete")));
    const cJSON *first = cJSON_GetArrayItem(part(document, "configurations"), 0), *item;
    const cJSON *speculation = part(document, "speculative_decoding"), *positions = part(first, "positions");
    assert_true(at(speculation, "num_drafts") == (double)expected.num_drafts);
    assert_true(at(speculation, "num_cycles") == (double)expected.num_cycles);
    assert_true(at(speculation, "num_accepted_tokens") == (double)expected.num_accepted_tokens);
    assert_true(expected.num_accepted_tokens > 5 && expected.num_accepted_tokens < expected.num_draft_tokens);
    assert_int_equal(cJSON_GetArraySize(positions), 4);
    int j = 0;
    cJSON_ArrayForEach(item, positions) {
        const cJSON *interval = part(item, "rate_ci95");
        assert_true(at(item, "position") == j + 1);
        assert_true(at(item, "drafted") == (double)expected.drafted_at[j]);
        assert_true(at(item, "reached") == (double)expected.reached_at[j]);
        assert_true(at(item, "accepted") == (double)expected.accepted_at[j]);
        assert_float_equal(at(item, "rate"), (double)expected.accepted_at[j] / (double)expected.drafted_at[j], 1e-9);
        assert_true(cJSON_IsNull(interval)); /* of three prompts */
        j++;
    }
    double drafted = (double)expected.num_draft_tokens, accepted = (double)expected.num_accepted_tokens;
    const cJSON *domains = part(document, "domains"), *results = part(first, "results");
    assert_int_equal(cJSON_GetArraySize(domains), 2);
    assert_true(sum(domains, "drafted") == drafted && sum(domains, "accepted") == accepted);
    assert_true(sum(domains, "prompts") == 3 && sum(domains, "tokens") == 110);
    assert_true(sum(results, "drafted") == drafted && sum(results, "accepted") == accepted);
    assert_true(sum(part(first, "context"), "drafted") == (double)expected.num_drafts);
    assert_true(sum(part(first, "context"), "accepted") == (double)expected.accepted_at[0]);
    const cJSON *bins = part(part(document, "calibration"), "bins");
    assert_true(sum(bins, "count") == sum(positions, "reached"));
    assert_true(sum(bins, "accepted") == accepted);
    double ece = at(part(document, "calibration"), "ece");
    assert_true(ece > 0 && ece < 1);
    cJSON_ArrayForEach(item, part(first, "rejected_tokens"))
        assert_true(at(item, "rejected") >= 1 && at(item, "proposed") >= at(item, "rejected"));
    assert_string_equal(part(cJSON_GetArrayItem(results, 1), "id")->valuestring, "7");
    assert_string_equal(part(cJSON_GetArrayItem(results, 2), "id")->valuestring, "3");
    const cJSON *overlap = part(document, "expert_overlap");
    assert_int_equal(cJSON_GetArraySize(part(overlap, "layers")), model->num_moe_layers);
    assert_true(at(overlap, "mean") > 0 && at(overlap, "mean") < 1);
    cJSON_Delete(document);
    fr_prompts_release(&prompts);
    scratch_destroy(&s);
    fr_model_destroy(model);
}

/* Texts that end with an eos token in the middle of a cycle. */
static void counts_end_where_a_text_ends(void **state) {
    (void)state;
    fr_model *model = open_model();
    scratch s = scratch_create();
    scratch_write_text(&s, "p.jsonl", three);
    fr_accept_options options = {.prompts = scratch_path(&s, "p.jsonl"),
                                 .max_tokens = 40,
                                 .session = {.depth = 7, .ctx = 128, .sampling = {.temperature = 0.8f}}};
    double cut = 0;
    for (int i = 0; i < 12; i++) {
        options.session.sampling.seed = (uint64_t)i;
        model->config.num_eos_token_ids = 8;
        for (int e = 0; e < 8; e++) model->config.eos_token_ids[e] = (31 * i + 40 * e) % model->config.vocab_size;
        cJSON *document = study(model, &options, FR_OK);
        const cJSON *first = cJSON_GetArrayItem(part(document, "configurations"), 0), *results = part(first, "results");
        const cJSON *counts = part(document, "speculative_decoding");
        double accepted = at(counts, "num_accepted_tokens"), tokens = sum(results, "tokens");
        assert_true(tokens == at(counts, "num_first_tokens") + at(counts, "num_cycles") + accepted);
        assert_true(sum(results, "accepted") == accepted && sum(results, "drafted") == at(counts, "num_draft_tokens"));
        assert_true(sum(part(first, "positions"), "accepted") == accepted);
        cut += tokens < 110;
        cJSON_Delete(document);
    }
    assert_true(cut > 6);
    scratch_destroy(&s);
    fr_model_destroy(model);
}

static const char *const six =
    "{\"tokens\": [1, 2, 3, 4, 5, 6]}\n{\"tokens\": [9, 8, 7, 6]}\n{\"tokens\": [20, 21, 22]}\n"
    "{\"tokens\": [5, 50, 15]}\n{\"tokens\": [33, 3]}\n{\"domain\": \"y\", \"tokens\": [44, 4, 40, 14]}";

/* An interval that holds the value. */
static void covers(const cJSON *ends, double value) {
    if (cJSON_GetArraySize(ends) != 2) fail_msg("there is no interval");
    double low = cJSON_GetArrayItem(ends, 0)->valuedouble, high = cJSON_GetArrayItem(ends, 1)->valuedouble;
    if (!(low <= value && value <= high && low < high)) fail_msg("%g is not within %g to %g", value, low, high);
}

static const cJSON *item_of(const cJSON *object, const char *key, int i) {
    const cJSON *item = cJSON_GetArrayItem(part(object, key), i);
    if (!item) fail_msg("there is no %s %d", key, i);
    return item;
}

/* A study of six prompts. */
static cJSON *study_of_six(const fr_model *model, fr_accept_options options) {
    scratch s = scratch_create();
    scratch_write_text(&s, "p.jsonl", six);
    options.prompts = scratch_path(&s, "p.jsonl");
    options.max_tokens = 60;
    options.ignore_eos = true;
    cJSON *document = study(model, &options, FR_OK);
    scratch_destroy(&s);
    return document;
}

/* Of five prompts or more figures have intervals; a domain of one has none, and the document says why. */
static void intervals_are_over_prompts(void **state) {
    (void)state;
    fr_model *model = open_model();
    cJSON *document = study_of_six(model, (fr_accept_options){.session = {.depth = 2, .sampling = {.temperature = 0.7f}}});
    const cJSON *first = item_of(document, "configurations", 0), *all = item_of(first, "domains", 0);
    const cJSON *speculation = part(first, "speculative_decoding");
    covers(part(first, "acceptance_rate_ci95"), at(speculation, "acceptance_rate"));
    covers(part(first, "mean_acceptance_length_ci95"), at(speculation, "mean_acceptance_length"));
    for (int j = 0; j < 2; j++) {
        covers(part(item_of(first, "positions", j), "rate_ci95"), at(item_of(first, "positions", j), "rate"));
        covers(part(item_of(first, "positions", j), "conditional_ci95"), at(item_of(first, "positions", j), "conditional_rate"));
    }
    covers(part(all, "ci95"), at(all, "acceptance_rate"));
    covers(part(item_of(all, "positions", 1), "rate_ci95"), at(item_of(all, "positions", 1), "rate"));
    covers(part(item_of(first, "context", 0), "ci95"), at(item_of(first, "context", 0), "rate"));
    assert_true(cJSON_IsNull(part(item_of(first, "domains", 1), "ci95"))); /* of one prompt */
    const cJSON *statistics = part(document, "statistics");
    assert_int_equal(at(statistics, "least_units"), 5);
    assert_non_null(strstr(part(statistics, "says")->valuestring, "fewer than 5 prompts"));
    assert_int_equal(at(part(document, "prompts"), "in_chat_template"), 0);
    cJSON_Delete(document);
    fr_model_destroy(model);
}

static const cJSON *comparison_of(const cJSON *document, const char *b, const char *differs) {
    const cJSON *item;
    cJSON_ArrayForEach(item, part(document, "comparisons")) {
        if (strcmp(part(item, "b")->valuestring, b) == 0 && strcmp(part(item, "differs")->valuestring, differs) == 0) return item;
    }
    fail_msg("%s is not compared in %s", b, differs);
    return NULL;
}

/* Each configuration is compared with the first that is like it but for one thing, by differences of their pooled figures. */
static void configurations_are_paired_by_prompt(void **state) {
    (void)state;
    const int depths[] = {1, 3};
    fr_model *model = open_model();
    cJSON *document = study_of_six(
        model, (fr_accept_options){
                   .depths = depths, .num_depths = 2, .both_hidden = true, .session = {.sampling = {.temperature = 0.7f}}});
    assert_int_equal(cJSON_GetArraySize(part(document, "configurations")), 4);
    assert_int_equal(cJSON_GetArraySize(part(document, "comparisons")), 4); /* two of depths, two of hidden states */
    const cJSON *deeper = comparison_of(document, "depth 3, hidden pre", "depth");
    assert_string_equal(part(deeper, "a")->valuestring, "depth 1, hidden pre");
    assert_string_equal(part(deeper, "against")->valuestring, "depth 1");
    assert_int_equal(at(deeper, "prompts"), 6);
    assert_int_equal(cJSON_GetArraySize(part(deeper, "positions")), 1); /* those that both have */
    assert_null(cJSON_GetObjectItem(deeper, "acceptance_rate_difference"));
    covers(part(deeper, "mean_acceptance_length_ci95"), at(deeper, "mean_acceptance_length_difference"));

    const cJSON *hidden = comparison_of(document, "depth 3, hidden pre", "mtp_hidden");
    const cJSON *a = item_of(document, "configurations", 1), *b = item_of(document, "configurations", 3);
    assert_string_equal(part(hidden, "a")->valuestring, part(a, "name")->valuestring);
    assert_string_equal(part(hidden, "b")->valuestring, part(b, "name")->valuestring);
    double all = at(part(b, "speculative_decoding"), "acceptance_rate") - at(part(a, "speculative_decoding"), "acceptance_rate");
    double third = at(item_of(b, "positions", 2), "rate") - at(item_of(a, "positions", 2), "rate");
    assert_true(fabs(at(hidden, "acceptance_rate_difference") - all) < 1e-9);
    assert_true(fabs(at(item_of(hidden, "positions", 2), "rate_difference") - third) < 1e-9);
    covers(part(hidden, "acceptance_rate_ci95"), at(hidden, "acceptance_rate_difference"));
    cJSON_Delete(document);
    fr_model_destroy(model);
}

/* All tokens that were rejected are listed when the list is long enough, most first. */
static void rejected_tokens_are_all_there(void **state) {
    (void)state;
    fr_model *model = open_model();
    const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7};
    fr_accept_options options = {.tokens = tokens,
                                 .num_tokens = 7,
                                 .most_rejected = 100000,
                                 .max_tokens = 60,
                                 .session = {.depth = 2, .sampling = {.temperature = 1.0f}}};
    cJSON *document = study(model, &options, FR_OK);
    const cJSON *first = cJSON_GetArrayItem(part(document, "configurations"), 0), *item;
    const cJSON *list = part(first, "rejected_tokens"), *positions = part(first, "positions");
    assert_true(sum(list, "rejected") == sum(positions, "reached") - sum(positions, "accepted"));
    double before = INFINITY, id = -1;
    cJSON_ArrayForEach(item, list) {
        assert_true(at(item, "rejected") < before || (at(item, "rejected") == before && at(item, "token") > id));
        before = at(item, "rejected");
        id = at(item, "token");
    }
    assert_true(cJSON_IsNull(part(first, "acceptance_rate_ci95"))); /* of one prompt */
    cJSON_Delete(document);
    fr_model_destroy(model);
}

static void the_grid_has_what_can_differ(void **state) {
    (void)state;
    fr_model *model = open_model();
    const int32_t tokens[] = {1, 2, 3};
    const float temperatures[] = {0, 1};
    const int depths[] = {1, 3};
    const fr_recycle recycles[] = {FR_RECYCLE_POST_NORM, FR_RECYCLE_PRE_NORM, FR_RECYCLE_PINNED};
    fr_accept_options options = {.tokens = tokens,
                                 .num_tokens = 3,
                                 .max_tokens = 6,
                                 .temperatures = temperatures,
                                 .num_temperatures = 2,
                                 .depths = depths,
                                 .num_depths = 2,
                                 .both_verify = true,
                                 .both_hidden = true,
                                 .recycles = recycles,
                                 .num_recycles = 3};
    cJSON *document = study(model, &options, FR_OK);
    const cJSON *configurations = part(document, "configurations"), *a, *b;
    /* By temperature 1 + 2 rules, by hidden state 2, by depth 1 + 3 recycled states. */
    assert_int_equal(cJSON_GetArraySize(configurations), (1 + 2) * 2 * (1 + 3));
    cJSON_ArrayForEach(a, configurations) for (b = a->next; b; b = b->next)
        assert_string_not_equal(part(a, "name")->valuestring, part(b, "name")->valuestring);
    const cJSON *first = cJSON_GetArrayItem(configurations, 0);
    assert_true(at(first, "depth") == 1 && at(first, "temperature") == 0);
    assert_string_equal(part(first, "mtp_hidden")->valuestring, "post");
    cJSON_Delete(document);
    fr_model_destroy(model);
}

static void teacher_forced_documents_count_every_position(void **state) {
    (void)state;
    fr_model *model = open_model();
    golden g;
    golden_load(MODEL, 70, GOLDEN_F32, &g);
    fr_accept_options options = {
        .tokens = g.tokens, .num_tokens = 70, .teacher_forced = true, .session = {.depth = 3, .ctx = 50, .prefill_chunk = 16}};
    cJSON *document = study(model, &options, FR_OK);
    const cJSON *first = cJSON_GetArrayItem(part(document, "configurations"), 0), *positions = part(first, "positions");
    assert_string_equal(part(first, "mode")->valuestring, "teacher-forced");
    assert_true(at(part(document, "prompts"), "cut") == 1); /* to 50 tokens: starts 0 .. 46, one fewer with each draft */
    assert_true(at(cJSON_GetArrayItem(positions, 0), "drafted") == 47);
    assert_true(at(cJSON_GetArrayItem(positions, 2), "drafted") == 45);
    assert_true(cJSON_IsNull(part(part(first, "speculative_decoding"), "draft_s")));
    assert_true(at(part(first, "along_cycles"), "num_cycles") > 0);
    assert_true(at(part(document, "expert_overlap"), "pairs") == 49);
    cJSON_Delete(document);
    golden_release(&g);
    fr_model_destroy(model);
}

/* ---- Expert overlap ---- */

static void overlap_counts_shared_experts(void **state) {
    (void)state;
    fr_accept_config config = {.depth = 1};
    int32_t last[4];
    uint64_t shared[2] = {0}, chose[2 * 8] = {0};
    fr_accept_run run = {.configs = &config,
                         .config = &config,
                         .experts = {.layers = 2, .chosen = 2, .count = 8, .last = last, .shared = shared, .chose = chose}};
    /* [layers, rows, chosen]: of three rows the last is a rejected draft's */
    const int32_t pass[] = {0, 1, 1, 2, 5, 6, 3, 4, 3, 4, 3, 4}, next[] = {1, 2, 0, 7};
    fr_accept_count_experts(&run, pass, 3, 2);
    fr_accept_count_experts(&run, next, 1, 1);
    assert_int_equal(run.experts.tokens, 3);
    assert_int_equal(run.experts.pairs, 2);
    assert_int_equal(shared[0], 1 + 2);
    assert_int_equal(shared[1], 2 + 0);
    assert_int_equal(chose[1], 3);
    assert_int_equal(chose[5], 0);
    fr_accept_new_text(&run);
    fr_accept_count_experts(&run, next, 1, 1);
    assert_int_equal(run.experts.pairs, 2);
}

/* ---- Refusals and interruption ---- */

static void bad_prompt_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"prompt\": \"a\"}\n{\"prompt\": }", "p.jsonl:2: "},
        {"{\"prompt\": \"a\"}\n\n[1, 2]", "p.jsonl:3: expected a JSON object, found an array of 2"},
        {"{\"id\": \"a\"}", "p.jsonl:1: expected \"prompt\" or \"tokens\", found neither"},
        {"{\"prompt\": \"a\", \"tokens\": [1]}", "found both"},
        {"{\"prompt\": 5}", "p.jsonl:1: prompt: expected a string, found 5"},
        {"{\"text\": 5}", "p.jsonl:1: text: expected a string, found 5"},
        {"{\"prompt\": \"\"}", "p.jsonl:1: the prompt is empty"},
        {"{\"tokens\": []}", "p.jsonl:1: the prompt is empty"},
        {"{\"tokens\": [1, 320]}", "p.jsonl:1: token 1: id 320 is not in the vocabulary of 320"},
        {"{\"tokens\": [1.5]}", "p.jsonl:1: token 0: expected an id, found 1.5"},
        {"{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens"},
        {"{\"prompt\": \"a\", \"id\": []}", "id"},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "prompt"},
        {"{\"prompt\": \"a\", \"id\": \"x\"}\n{\"prompt\": \"b\", \"id\": \"x\"}", "two prompts have the id \"x\""},
        {"", "the prompt is empty"},
    };
    fr_model *model = open_model();
    scratch s = scratch_create();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fr_prompts prompts;
        fr_error error = {0};
        scratch_write_text(&s, "p.jsonl", bad[i].text);
        fr_status status = fr_prompts_load(model, scratch_path(&s, "p.jsonl"), NULL, &prompts, &error);
        if (status == FR_OK || !strstr(error.message, bad[i].says))
            fail_msg("%s: %s, expected %s", bad[i].text, error.message, bad[i].says);
        assert_true(strstr(error.message, "p.jsonl"));
        assert_true(prompts.count == 0 && !prompts.items);
    }
    fr_error error;
    fr_prompts prompts;
    assert_int_equal(fr_prompts_load(model, scratch_path(&s, "none"), NULL, &prompts, &error), FR_ERROR_IO);
    scratch_destroy(&s);
    fr_model_destroy(model);
}

static void plain_text_is_one_prompt(void **state) {
    (void)state;
    fr_model *model = open_model();
    scratch s = scratch_create();
    fr_prompts prompts;
    int32_t *tokens;
    size_t count;
    scratch_write_text(&s, "essay.txt", "Once upon a time\n{\"prompt\": \"a\"}\n");
    assert_int_equal(fr_prompts_load(model, scratch_path(&s, "essay.txt"), NULL, &prompts, NULL), FR_OK);
    assert_int_equal(prompts.count, 1);
    assert_string_equal(prompts.items[0].id, "essay.txt");
    assert_string_equal(prompts.items[0].domain, "all");
    assert_int_equal(fr_tokenize(model, "Once upon a time\n{\"prompt\": \"a\"}\n", 33, true, &tokens, &count, NULL), FR_OK);
    assert_int_equal(prompts.items[0].count, count);
    assert_memory_equal(prompts.items[0].tokens, tokens, count * sizeof *tokens);
    fr_free(tokens);
    fr_prompts_release(&prompts);
    scratch_destroy(&s);
    fr_model_destroy(model);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    fr_model *model = open_model();
    const int32_t tokens[] = {1, 2, 3};
    const int depths[] = {8};
    fr_study_result *result;
    fr_error error;
    fr_accept_options options = {.tokens = tokens, .num_tokens = 3, .depths = depths, .num_depths = 1};
    assert_int_equal(fr_accept(model, &options, &result, &error), FR_ERROR_ARGUMENT);
    assert_null(result);
    options = (fr_accept_options){.tokens = tokens};
    assert_int_equal(fr_accept(model, &options, &result, &error), FR_ERROR_ARGUMENT);
    options = (fr_accept_options){.tokens = tokens, .num_tokens = 3, .session.ctx = 2};
    assert_int_equal(fr_accept(model, &options, &result, &error), FR_ERROR_CONTEXT);
    assert_true(strstr(error.message, "3 tokens do not fit in a context of 2"));
    options = (fr_accept_options){.tokens = tokens, .num_tokens = 3, .teacher_forced = true, .session.drafter = FR_DRAFTER_NGRAM};
    assert_int_equal(fr_accept(model, &options, &result, &error), FR_ERROR_UNSUPPORTED);
    fr_model_destroy(model);
    model = driver_open("pico-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    options = (fr_accept_options){.tokens = tokens, .num_tokens = 3};
    if (!model->mtp.files.present) {
        assert_int_equal(fr_accept(model, &options, &result, &error), FR_ERROR_UNSUPPORTED);
        assert_true(strstr(error.message, "no MTP module"));
    }
    fr_model_destroy(model);
}

static bool stop_after(void *user, const char *what, uint64_t done, uint64_t total) {
    int *left = user;
    (void)what;
    assert_true(done <= total);
    return --*left > 0;
}

static void an_interrupted_study_has_what_was_measured(void **state) {
    (void)state;
    fr_model *model = open_model();
    golden g;
    golden_load(MODEL, 70, GOLDEN_F32, &g);
    for (int forced = 0; forced < 2; forced++) {
        const float temperatures[] = {0, 1};
        int left = 4;
        fr_accept_options options = {.tokens = g.tokens,
                                     .num_tokens = 70,
                                     .teacher_forced = forced,
                                     .max_tokens = 50,
                                     .temperatures = temperatures,
                                     .num_temperatures = 2,
                                     .progress = stop_after,
                                     .user = &left,
                                     .session.prefill_chunk = 16};
        cJSON *document = study(model, &options, FR_INTERRUPTED);
        assert_non_null(document);
        assert_true(cJSON_IsFalse(part(document, "complete")));
        const cJSON *configurations = part(document, "configurations");
        assert_int_equal(cJSON_GetArraySize(configurations), 2);
        const cJSON *none = part(cJSON_GetArrayItem(configurations, 1), "speculative_decoding");
        assert_true(at(none, "num_cycles") == 0);
        assert_true(cJSON_IsNull(part(none, "acceptance_rate")));
        if (forced) assert_true(at(part(document, "speculative_decoding"), "num_cycles") > 0);
        cJSON_Delete(document);
    }
    golden_release(&g);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verifying_a_text_agrees_with_generating_it_bit_for_bit),
        cmocka_unit_test(verifying_in_large_passes_differs_in_near_ties_only),
        cmocka_unit_test(chains_do_not_see_each_other),
        cmocka_unit_test(verifying_puts_the_cache_back),
        cmocka_unit_test(counts_are_the_sessions_and_add_up),
        cmocka_unit_test(counts_end_where_a_text_ends),
        cmocka_unit_test(intervals_are_over_prompts),
        cmocka_unit_test(configurations_are_paired_by_prompt),
        cmocka_unit_test(rejected_tokens_are_all_there),
        cmocka_unit_test(the_grid_has_what_can_differ),
        cmocka_unit_test(teacher_forced_documents_count_every_position),
        cmocka_unit_test(overlap_counts_shared_experts),
        cmocka_unit_test(bad_prompt_files_are_refused),
        cmocka_unit_test(plain_text_is_one_prompt),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(an_interrupted_study_has_what_was_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
