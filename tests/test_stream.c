/* Streamed weights: the bits are those from memory, whatever the cache holds and however files are read; and what cannot be read
 * is an error that leaves the session as it was. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "driver.h"
#include "forerun_study.h"
#include "goldens.h"
#include "moe/experts.h"
#include "scratch.h"

enum { MADE = 40, PROMPT = 70 };

static const char *dir_of(const char *name) {
    static char dir[512];
    golden_model_dir(name, dir, sizeof dir);
    return dir;
}

static fr_model *open_model(const char *dir, fr_model_options o) {
    fr_error error;
    fr_model *model = NULL;
    if (o.threads == 0) o.threads = 2;
    if (fr_model_open(dir, &o, &model, &error) == FR_OK) return model;
    if (o.reader == FR_READER_URING && error.status == FR_ERROR_UNSUPPORTED) return NULL; /* not allowed here */
    fail_msg("%s: %s", dir, error.message);
    return NULL;
}

/* Memory for so many experts of this model. */
static uint64_t room_for(const char *dir, int experts) {
    fr_model_info info;
    fr_model *model = open_model(dir, (fr_model_options){.weights = FR_WEIGHTS_STREAM});
    fr_model_get_info(model, &info);
    fr_model_destroy(model);
    assert_int_equal(info.plan.cached_experts, info.plan.experts);
    int layers = info.num_moe_layers +
                 (info.has_mtp && info.plan.experts / (info.num_moe_layers + 1) * (info.num_moe_layers + 1) == info.plan.experts);
    if (experts > info.plan.experts) experts = info.plan.experts;
    return fr_experts_bytes(layers, info.plan.experts / layers, experts, info.plan.expert_bytes);
}

static fr_session_options options_of(int mtp) {
    return (fr_session_options){.ctx = 128, .drafting = mtp ? FR_DRAFTING_ON : FR_DRAFTING_OFF, .depth = mtp ? 3 : 0};
}

/* What a model makes of a golden's text: all logits of prefill, and tokens with MTP on and off. */
typedef struct result {
    driver_scores scores;
    int32_t made[2][MADE];
} result;

static void run(const fr_model *model, const golden *g, bool mtp, result *out) {
    driver_score(model, &(fr_session_options){.drafting = mtp ? FR_DRAFTING_ON : FR_DRAFTING_OFF}, g->tokens, PROMPT,
                 &out->scores);
    for (int on = 0; on <= mtp; on++) {
        fr_session_options o = options_of(on);
        fr_session *session = driver_session(model, &o);
        driver_prefill(session, g->tokens, PROMPT);
        driver_generate(session, MADE, out->made[on], NULL, NULL);
        fr_session_destroy(session);
    }
}

static void expect_the_same(const result *a, const result *b, const golden *g, bool mtp) {
    assert_memory_equal(a->scores.logits, b->scores.logits, PROMPT * (size_t)g->vocab * sizeof(float));
    assert_memory_equal(a->scores.hidden, b->scores.hidden, PROMPT * (size_t)g->hidden_size * sizeof(float));
    for (int on = 0; on <= mtp; on++) assert_memory_equal(a->made[on], b->made[on], sizeof a->made[on]);
    if (mtp) assert_memory_equal(a->scores.mtp_logits, b->scores.mtp_logits, (PROMPT - 1) * (size_t)g->vocab * sizeof(float));
}

static void any_cache_and_reader_give_the_bits_of_memory(void **state) {
    (void)state;
    static const char *const names[] = {"pico-mtp-s1", "pico-v32", "pico-kimi", "nano-mtp-s1"};
    static const int caches[] = {1, 2, 3, 5, 9, 1000};
    for (int i = 0; i < 4; i++) {
        golden g;
        result memory, streamed;
        fr_model_info info;
        golden_load(names[i], PROMPT, GOLDEN_F32, &g);
        fr_model *model = open_model(dir_of(names[i]), (fr_model_options){.weights = FR_WEIGHTS_MMAP});
        fr_model_get_info(model, &info);
        run(model, &g, info.has_mtp, &memory);
        fr_model_destroy(model);
        for (int c = 0; c < 6; c++) {
            fr_model_options o = {.weights = FR_WEIGHTS_STREAM,
                                  .threads = 1 + c % 3,
                                  .expert_cache = room_for(dir_of(names[i]), caches[c]),
                                  .reader = c % 2 ? FR_READER_URING : FR_READER_THREADS};
            model = open_model(dir_of(names[i]), o);
            if (!model) continue;
            fr_model_get_info(model, &info);
            assert_int_equal(info.plan.cached_experts, caches[c] < info.plan.experts ? caches[c] : info.plan.experts);
            assert_non_null(info.reader);
            run(model, &g, info.has_mtp, &streamed);
            expect_the_same(&streamed, &memory, &g, info.has_mtp);
            driver_scores_release(&streamed.scores);
            fr_model_destroy(model);
        }
        driver_scores_release(&memory.scores);
        golden_release(&g);
    }
}

/* Experts are throw out by whoever comes next. */
static void sessions_in_turns_throw_out_each_others_experts(void **state) {
    (void)state;
    enum { SESSIONS = 3 };
    golden g;
    int32_t expected[SESSIONS][MADE], made[SESSIONS][MADE];
    golden_load("nano-mtp-s1", PROMPT, GOLDEN_F32, &g);
    for (int streamed = 0; streamed < 2; streamed++) {
        fr_model *model =
            open_model(dir_of("nano-mtp-s1"), (fr_model_options){.weights = streamed ? FR_WEIGHTS_STREAM : FR_WEIGHTS_MMAP,
                                                                 .expert_cache = room_for(dir_of("nano-mtp-s1"), 6)});
        fr_session *sessions[SESSIONS];
        int counts[SESSIONS] = {0}, left = SESSIONS;
        for (int s = 0; s < SESSIONS; s++) {
            fr_session_options o = options_of(s % 2);
            driver_prefill(sessions[s] = driver_session(model, &o), g.tokens + s * 7, 20 + s * 15);
        }
        for (uint32_t x = 1; left > 0;) {
            fr_step step;
            x = x * 1664525u + 1013904223u;
            int s = (int)((x >> 20) % SESSIONS);
            if (counts[s] == MADE) continue;
            assert_int_equal(fr_session_step(sessions[s], MADE - counts[s], &step, NULL), FR_OK);
            memcpy((streamed ? made : expected)[s] + counts[s], step.tokens, (size_t)step.count * sizeof(int32_t));
            counts[s] += step.count;
            left -= counts[s] == MADE;
        }
        for (int s = 0; s < SESSIONS; s++) fr_session_destroy(sessions[s]);
        fr_model_destroy(model);
    }
    assert_memory_equal(made, expected, sizeof made);
    golden_release(&g);
}

typedef struct runner {
    const fr_model *model;
    const golden *g;
    int mtp;
    int32_t made[MADE];
} runner;

static void *run_alone(void *argument) {
    runner *r = argument;
    fr_session_options o = options_of(r->mtp);
    for (int repeat = 0; repeat < 2; repeat++) {
        fr_session *session = driver_session(r->model, &o);
        driver_prefill(session, r->g->tokens, PROMPT);
        driver_generate(session, MADE, r->made, NULL, NULL);
        fr_session_destroy(session);
    }
    return NULL;
}

static void two_threads_share_a_cache_of_any_size(void **state) {
    (void)state;
    golden g;
    golden_load("pico-mtp-s1", PROMPT, GOLDEN_F32, &g);
    for (int experts = 1; experts <= 7; experts += 3) {
        fr_model *model =
            open_model(dir_of("pico-mtp-s1"), (fr_model_options){.weights = FR_WEIGHTS_STREAM,
                                                                 .expert_cache = room_for(dir_of("pico-mtp-s1"), experts)});
        runner runners[2] = {{.model = model, .g = &g, .mtp = 0}, {.model = model, .g = &g, .mtp = 1}};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, run_alone, &runners[i]), 0);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < 2; i++)
            for (int t = 0; t < MADE; t++) assert_int_equal(runners[i].made[t], g.greedy[t]);
        fr_model_destroy(model);
    }
    golden_release(&g);
}

/* A pass of the cache's own, beside those of sessions. */
typedef struct cache_user {
    fr_experts *experts;
    fr_expert_pass pass;
    fr_expert_use wanted[256];
} cache_user;

/* One row that chose experts [first, first + count) of a layer. */
static void begin_pass(cache_user *u, int layer, int first, int count) {
    int counts[256] = {0};
    for (int e = first; e < first + count; e++) counts[e] = 1;
    u->pass.wanted = u->wanted;
    fr_experts_begin(u->experts, &u->pass, layer, counts, 1, false);
}

/* The next expert, whose weights are those of the file. */
static void take_and_give_back(cache_user *u, const fr_mlp *experts) {
    fr_expert_use use;
    assert_true(fr_experts_take(u->experts, &u->pass, true, &use));
    const fr_linear *expected = &experts[use.id].gate_proj, *there = &fr_experts_mlp(u->experts, use.slot)->gate_proj;
    assert_memory_equal(there->w, expected->w, (size_t)expected->in * fr_dtype_size(expected->dtype));
    fr_experts_give_back(u->experts, &use, 1);
}

static const fr_moe *first_moe(const fr_model *model) {
    int i = 0;
    while (!model->layers[i].is_moe) i++;
    return &model->layers[i].moe;
}

/* A pass that waits for a slot finds its expert foreseen by another session, whose next pass chooses others. */
static void what_one_session_foresaw_and_another_waits_for_is_not_given_up(void **state) {
    (void)state;
    fr_model *model = open_model(dir_of("nano-mtp-s1"), (fr_model_options){.weights = FR_WEIGHTS_STREAM,
                                                                           .expert_cache = room_for(dir_of("nano-mtp-s1"), 4)});
    const fr_mlp *experts = first_moe(model)->experts;
    cache_user one = {.experts = model->experts}, other = {.experts = model->experts};
    begin_pass(&one, 0, 0, 5); /* of which four have slots */
    take_and_give_back(&one, experts);
    fr_experts_foresee(model->experts, &other.pass, 0, (const int32_t[]){4}, 1);
    assert_int_equal(other.pass.prefetched, 1);
    take_and_give_back(&one, experts);
    begin_pass(&other, 0, 5, 1);
    for (int i = 0; i < 3; i++) take_and_give_back(&one, experts);
    assert_int_equal(one.pass.prefetched_used, 1);
    take_and_give_back(&other, experts);
    fr_model_destroy(model);
}

static void *take_from_another_thread(void *argument) {
    cache_user *u = argument;
    fr_expert_use use;
    if (fr_experts_take(u->experts, &u->pass, true, &use)) fr_experts_give_back(u->experts, &use, 1);
    return NULL;
}

/* The only slot belongs to a pass that cannot be read: who waits for it gets it. */
static void a_failed_pass_wakes_those_who_wait_for_its_slots(void **state) {
    (void)state;
    scratch s = scratch_create();
    scratch_copy_from(&s, dir_of("pico-mtp-s1"));
    fr_model *model = open_model(s.dir, (fr_model_options){.weights = FR_WEIGHTS_STREAM, .expert_cache = room_for(s.dir, 1)});
    cache_user failing = {.experts = model->experts}, waiting = {.experts = model->experts};
    fr_expert_use use;
    pthread_t thread;
    assert_int_equal(truncate(scratch_path(&s, "model-00001-of-00002.safetensors"), 8192), 0);
    begin_pass(&failing, 0, 0, 1);
    begin_pass(&waiting, model->mtp.layer.moe.streamed_layer, 0, 1);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* the read has failed, most likely, and nobody knows of it */
    assert_int_equal(pthread_create(&thread, NULL, take_from_another_thread, &waiting), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* the thread sleeps, most likely */
    alarm(60);
    assert_false(fr_experts_take(model->experts, &failing.pass, true, &use));
    assert_true(failing.pass.failed);
    pthread_join(thread, NULL);
    alarm(0);
    assert_false(waiting.pass.failed);
    assert_int_equal(waiting.pass.num_wanted, 0);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

/* ---- What is counted -------------------------------------------------------------------------------------------- */

static void hits_and_misses_are_what_passes_chose(void **state) {
    (void)state;
    golden g;
    fr_stats stats;
    golden_load("nano-mtp-s1", PROMPT, GOLDEN_F32, &g);
    fr_model *model = open_model(dir_of("nano-mtp-s1"), (fr_model_options){.weights = FR_WEIGHTS_STREAM});
    fr_session_options o = options_of(0);
    fr_session *session = driver_session(model, &o);
    int32_t made[MADE];
    driver_prefill(session, g.tokens, PROMPT);
    fr_session_get_stats(session, &stats);
    assert_int_equal(stats.expert_hits, 0); /* each layer once */
    assert_true(stats.expert_misses > 0 && stats.disk_bytes > 0 && stats.disk_busy_s > 0);
    fr_session_reset_stats(session);
    driver_generate(session, MADE, made, NULL, NULL);
    fr_session_get_stats(session, &stats);
    assert_int_equal(stats.expert_hits + stats.expert_misses, stats.unique_experts);
    assert_true(stats.expert_hits > stats.expert_misses); /* nothing was thrown out */
    assert_true(stats.experts_prefetched_used <= stats.experts_prefetched);
    fr_session_destroy(session);
    fr_model_destroy(model);
    golden_release(&g);
}

/* With room for half of the experts the layer before foresees some of those that are missing. */
static void some_experts_are_there_because_they_were_foreseen(void **state) {
    (void)state;
    golden g;
    fr_stats stats;
    int32_t made[MADE];
    golden_load("nano-mtp-s1", PROMPT, GOLDEN_F32, &g);
    fr_model *model = open_model(dir_of("nano-mtp-s1"), (fr_model_options){.weights = FR_WEIGHTS_STREAM,
                                                                           .expert_cache = room_for(dir_of("nano-mtp-s1"), 40)});
    fr_session_options o = options_of(0);
    fr_session *session = driver_session(model, &o);
    driver_prefill(session, g.tokens, PROMPT);
    driver_generate(session, MADE, made, NULL, NULL);
    fr_session_get_stats(session, &stats);
    assert_true(stats.experts_prefetched > 0);
    assert_true(stats.experts_prefetched_used > 0);
    fr_session_destroy(session);
    fr_model_destroy(model);
    golden_release(&g);
}

/* What auto expects of drafts before it has measured anything: rows that read experts of their own cost more where those come
 * from the disk. */
static void the_first_guess_counts_what_comes_from_the_disk(void **state) {
    (void)state;
    double needed[2];
    for (int streamed = 0; streamed < 2; streamed++) {
        fr_policy_info policy;
        fr_model *model =
            open_model(dir_of("nano-mtp-s1"), (fr_model_options){.weights = streamed ? FR_WEIGHTS_STREAM : FR_WEIGHTS_MMAP,
                                                                 .expert_cache = room_for(dir_of("nano-mtp-s1"), 2)});
        fr_session *session = driver_session(model, &(fr_session_options){.ctx = 64});
        fr_session_get_policy(session, &policy);
        needed[streamed] = policy.break_even_predicted;
        fr_session_destroy(session);
        fr_model_destroy(model);
    }
    assert_true(needed[1] > needed[0] + 0.1);
}

/* ---- What goes wrong -------------------------------------------------------------------------------------------- */

static void a_shard_that_is_cut_ends_a_step_with_its_name_and_goes_on_when_it_is_whole_again(void **state) {
    (void)state;
    for (int kind = FR_READER_URING; kind <= FR_READER_THREADS; kind++)
        for (int mtp = 0; mtp < 2; mtp++) {
            scratch s = scratch_create();
            golden g;
            fr_error error = {0};
            fr_status status = FR_OK;
            size_t bytes;
            golden_load("pico-mtp-s1", PROMPT, GOLDEN_F32, &g);
            scratch_copy_from(&s, dir_of("pico-mtp-s1"));
            /* the first has the main model's experts, the second the MTP module's */
            const char *name = mtp ? "model-00002-of-00002.safetensors" : "model-00001-of-00002.safetensors";
            const char *shard = scratch_path(&s, name);
            char *content = scratch_read(shard, &bytes);
            uint64_t room = room_for(s.dir, 2);
            fr_model *model = open_model(
                s.dir, (fr_model_options){.weights = FR_WEIGHTS_STREAM, .expert_cache = room, .reader = (fr_reader_kind)kind});
            fr_session_options o = options_of(mtp);
            fr_session *session = model ? driver_session(model, &o) : NULL;
            if (session) {
                int32_t made[MADE];
                driver_prefill(session, g.tokens, PROMPT);
                driver_generate(session, 10, made, NULL, NULL);
                assert_int_equal(truncate(shard, 8192), 0);
                for (int i = 0; i < 8 && status == FR_OK; i++) status = fr_session_step(session, 4, &(fr_step){0}, &error);
                assert_int_equal(status, FR_ERROR_IO);
                assert_non_null(strstr(error.where, name));
                assert_non_null(strstr(error.where, mtp ? ": model.layers.3." : ": model.layers."));
                assert_non_null(strstr(error.where, ".mlp.experts."));
                assert_non_null(strstr(error.message, "before its data"));
                size_t length = fr_session_length(session);
                assert_true(length >= PROMPT + 10);
                scratch_write(&s, name, content, bytes);
                driver_generate(session, 5, made, NULL, NULL);
                for (size_t i = 0; i + PROMPT < fr_session_length(session); i++)
                    assert_int_equal(fr_session_tokens(session)[PROMPT + i], g.greedy[i]);
            }
            fr_session_destroy(session);
            fr_model_destroy(model);
            free(content);
            golden_release(&g);
            scratch_destroy(&s);
        }
}

static void a_prefill_that_cannot_be_read_leaves_the_session_as_it_was(void **state) {
    (void)state;
    scratch s = scratch_create();
    golden g;
    fr_error error = {0};
    golden_load("pico-mtp-s1", PROMPT, GOLDEN_F32, &g);
    scratch_copy_from(&s, dir_of("pico-mtp-s1"));
    fr_model *model = open_model(s.dir, (fr_model_options){.weights = FR_WEIGHTS_STREAM, .expert_cache = room_for(s.dir, 2)});
    fr_session_options o = options_of(1);
    fr_session *session = driver_session(model, &o);
    assert_int_equal(truncate(scratch_path(&s, "model-00001-of-00002.safetensors"), 8192), 0);
    assert_int_equal(fr_session_prefill(session, g.tokens, PROMPT, &error), FR_ERROR_IO);
    assert_int_equal(fr_session_length(session), 0);
    fr_session_destroy(session);
    fr_model_destroy(model);
    golden_release(&g);
    scratch_destroy(&s);
}

/* By context no session is asked, which would know of it. */
static void a_benchmark_that_cannot_be_read_says_so(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_error error = {0};
    fr_bench_result *figures;
    scratch_copy_from(&s, dir_of("pico-mtp-s1"));
    fr_model *model = open_model(s.dir, (fr_model_options){.weights = FR_WEIGHTS_STREAM, .expert_cache = room_for(s.dir, 2)});
    assert_int_equal(truncate(scratch_path(&s, "model-00001-of-00002.safetensors"), 8192), 0);
    fr_bench_options o = {.what = FR_BENCH_CONTEXT, .seconds = 0.001};
    assert_int_equal(fr_bench(model, &o, &figures, &error), FR_ERROR_IO);
    assert_null(figures);
    fr_model_destroy(model);
    scratch_destroy(&s);
}

static void a_forked_child_is_refused_and_can_end(void **state) {
    (void)state;
    fr_model *model = open_model(dir_of("pico-mtp-s1"), (fr_model_options){.weights = FR_WEIGHTS_STREAM, .threads = 1});
    fr_session_options o = options_of(0);
    fr_session *session = driver_session(model, &o);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool refused = fr_session_prefill(session, (const int32_t[]){1, 2}, 2, NULL) == FR_ERROR_UNSUPPORTED;
        fr_session_destroy(session); /* waits for no thread that only the parent has */
        fr_model_destroy(model);
        _exit(refused ? 7 : 1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 7);
    driver_prefill(session, (const int32_t[]){1, 2}, 2);
    fr_session_destroy(session);
    fr_model_destroy(model);
}

/* ---- When it is chosen ------------------------------------------------------------------------------------------ */

static void expect_notice_of_a_cache_that_is_not_used(fr_model_options o) {
    size_t count, named = 0;
    o.expert_cache = 1 << 20;
    fr_model *model = open_model(dir_of("nano-mtp-s1"), o);
    const fr_notice *notices = fr_model_notices(model, &count);
    for (size_t i = 0; i < count; i++) named += strcmp(notices[i].what, "expert cache") == 0;
    assert_int_equal(named, 1);
    fr_model_destroy(model);
}

static void auto_streams_what_does_not_fit_and_maps_what_does(void **state) {
    (void)state;
    fr_session_options session = {.ctx = 64, .prefill_chunk = 8};
    fr_model_options o = {.session = &session};
    fr_model_info info;
    golden g;
    int32_t made[MADE];
    golden_load("nano-mtp-s1", PROMPT, GOLDEN_F32, &g);
    fr_model *model = open_model(dir_of("nano-mtp-s1"), o);
    fr_model_get_info(model, &info);
    fr_model_destroy(model);
    assert_int_equal(info.plan.weights, FR_WEIGHTS_MMAP);
    assert_int_equal(info.plan.cached_experts, 0);
    expect_notice_of_a_cache_that_is_not_used(o);
    o.memory_limit = info.plan.total_bytes - 1;
    model = open_model(dir_of("nano-mtp-s1"), o);
    fr_model_get_info(model, &info);
    assert_int_equal(info.plan.weights, FR_WEIGHTS_STREAM);
    assert_true(info.plan.cached_experts >= info.num_experts_per_tok && info.plan.cached_experts < info.plan.experts);
    assert_true(info.plan.private_bytes <= o.memory_limit);
    assert_true(info.plan.disk_measured && info.plan.disk_bytes_per_s > 0 && info.plan.token_bytes > 0);
    fr_session *s = driver_session(model, &session);
    driver_prefill(s, g.tokens, 20);
    driver_generate(s, 10, made, NULL, NULL);
    fr_session_destroy(s);
    fr_model_destroy(model);
    fr_error error;
    o.expert_cache = UINT64_MAX; /* all of them */
    assert_int_equal(fr_model_open(dir_of("nano-mtp-s1"), &o, &model, &error), FR_ERROR_MEMORY);
    assert_non_null(strstr(error.hint, "a smaller --expert-cache"));
    o.expert_cache = 100; /* less than one */
    o.weights = FR_WEIGHTS_STREAM;
    assert_int_equal(fr_model_open(dir_of("nano-mtp-s1"), &o, &model, &error), FR_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "hold no expert"));
    o.expert_cache = 0;
    assert_int_equal(fr_model_open(dir_of("pico-noexperts"), &o, &model, &error), FR_ERROR_UNSUPPORTED);
    golden_release(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cache_and_reader_give_the_bits_of_memory),
        cmocka_unit_test(sessions_in_turns_throw_out_each_others_experts),
        cmocka_unit_test(two_threads_share_a_cache_of_any_size),
        cmocka_unit_test(what_one_session_foresaw_and_another_waits_for_is_not_given_up),
        cmocka_unit_test(a_failed_pass_wakes_those_who_wait_for_its_slots),
        cmocka_unit_test(hits_and_misses_are_what_passes_chose),
        cmocka_unit_test(some_experts_are_there_because_they_were_foreseen),
        cmocka_unit_test(the_first_guess_counts_what_comes_from_the_disk),
        cmocka_unit_test(a_shard_that_is_cut_ends_a_step_with_its_name_and_goes_on_when_it_is_whole_again),
        cmocka_unit_test(a_prefill_that_cannot_be_read_leaves_the_session_as_it_was),
        cmocka_unit_test(a_benchmark_that_cannot_be_read_says_so),
        cmocka_unit_test(a_forked_child_is_refused_and_can_end),
        cmocka_unit_test(auto_streams_what_does_not_fit_and_maps_what_does),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
