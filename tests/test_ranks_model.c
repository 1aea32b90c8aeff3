/* The promise of ranks: one, two, three or four of them compute the same bits. Tokens, logits, hidden states, choices of experts,
 * the MTP module's logits and session files (which hold the caches) are those of a model that one process has alone, for every
 * kind of network in tests/golden, with drafting off, on and automatic, greedy, sampled and with rejection. Ranks are threads
 * here; with the argument "mpi", under mpirun, they are processes (test_ranks_mpi.sh).
 *
 * Run with the argument `full` for all ways with each network, `quick` for a few with one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "forerun_checkpoint.h"
#include "model/weights.h"
#include "scratch.h"
#include "thread_ranks.h"

static bool full, quick;
static fr_ranks *joined; /* MPI's; NULL: threads are the ranks */

enum { PROMPT = 71, MADE = 22, VOCAB_LEAST = 300 };

/* ---- What is computed ---- */

/* Results in the order in which they came; a label before each says what it is. */
typedef struct record {
    char *bytes;
    size_t size, room;
    fr_status status;
    fr_error error;
} record;

static void put(record *r, const char *label, const void *bytes, size_t size) {
    size_t name = strlen(label) + 1;
    if (r->size + name + sizeof size + size > r->room) {
        r->room = 2 * (r->size + name + sizeof size + size);
        r->bytes = realloc(r->bytes, r->room);
        if (!r->bytes) abort();
    }
    memcpy(r->bytes + r->size, label, name);
    memcpy(r->bytes + r->size + name, &size, sizeof size);
    if (size) memcpy(r->bytes + r->size + name + sizeof size, bytes, size);
    r->size += name + sizeof size + size;
}

/* The label of the first result that differs; NULL: none does. */
static const char *first_difference(const record *a, const record *b) {
    size_t at = 0;
    while (at < a->size && at < b->size) {
        const char *label = a->bytes + at;
        size_t size, name = strlen(label) + 1, whole;
        memcpy(&size, label + name, sizeof size);
        whole = name + sizeof size + size;
        if (at + whole > b->size || memcmp(label, b->bytes + at, whole) != 0) return label;
        at += whole;
    }
    return a->size == b->size ? NULL : "the number of results";
}

/* A way to run a model. */
typedef struct way {
    const char *name;
    fr_drafting drafting;
    int depth;
    fr_drafter_kind drafter;
    fr_act act;
    fr_kv kv;
    float temperature;
    fr_verify verify;
    fr_draft_head head;
    int chunk; /* of a prefill; 0: all of it */
    fr_weights weights;
} way;

typedef struct run {
    const char *dir;
    const way *way;
    fr_isa isa;
    const char *file; /* where the session is saved */
    record *records;  /* [ranks]: what is the same for one process */
    record *among;    /* [ranks]: what is the same for all ranks */
} run;

static bool keep_scores(void *user, const fr_score_batch *b) {
    record *r = ((void **)user)[0];
    const fr_model_info *info = ((void **)user)[1];
    size_t rows = b->rows, vocab = (size_t)info->vocab_size;
    put(r, "score: logits", b->logits, rows * vocab * sizeof(float));
    put(r, "score: hidden states", b->hidden, rows * (size_t)info->hidden_size * sizeof(float));
    if (b->experts)
        put(r, "score: experts", b->experts,
            (size_t)info->num_moe_layers * rows * (size_t)info->num_experts_per_tok * sizeof(int32_t));
    if (b->mtp_logits) put(r, "score: MTP logits", b->mtp_logits, b->mtp_rows * vocab * sizeof(float));
    return true;
}

static void make_prompt(int32_t *tokens) {
    uint32_t seed = 12345;
    for (int i = 0; i < PROMPT; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % VOCAB_LEAST);
    }
}

static fr_status score(const fr_model *model, const fr_session_options *options, record *r) {
    fr_model_info info;
    fr_session *session;
    int32_t tokens[PROMPT];
    make_prompt(tokens);
    fr_model_get_info(model, &info);
    FR_TRY(fr_session_create(model, options, &session, &r->error));
    unsigned what = FR_SCORE_LOGITS | FR_SCORE_HIDDEN | FR_SCORE_EXPERTS;
    bool drafts = options->drafting != FR_DRAFTING_OFF && options->drafter == FR_DRAFTER_MTP && info.has_mtp;
    void *user[] = {r, &info};
    fr_status status =
        fr_session_score(session, tokens, PROMPT, drafts ? what | FR_SCORE_MTP_LOGITS : what, keep_scores, user, &r->error);
    fr_session_destroy(session);
    return status;
}

/* How many drafts are made automatically depends on times, and on it how tokens come in steps. */
static fr_status step_on(fr_session *session, int vocab, int count, record *r, record *steps) {
    fr_step step;
    for (int left = count; left > 0; left -= step.count) {
        FR_TRY(fr_session_step(session, left, &step, &r->error));
        put(steps, "tokens of a step", step.tokens, (size_t)step.count * sizeof(int32_t));
        put(steps, "logits", fr_session_logits(session), (size_t)vocab * sizeof(float));
    }
    put(r, "tokens", fr_session_tokens(session), fr_session_length(session) * sizeof(int32_t));
    return FR_OK;
}

/* A text, saved in the middle and gone on with. */
static fr_status generate(const fr_model *model, const fr_session_options *options, const run *u, int rank, record *r,
                          record *among) {
    record *drafting = options->drafting == FR_DRAFTING_AUTO ? among : r;
    fr_model_info info;
    fr_session *session;
    int32_t tokens[PROMPT];
    make_prompt(tokens);
    fr_model_get_info(model, &info);
    FR_TRY(fr_session_create(model, options, &session, &r->error));
    fr_status status = fr_session_prefill(session, tokens, PROMPT, &r->error);
    if (status == FR_OK) status = step_on(session, info.vocab_size, MADE, r, drafting);
    if (status == FR_OK) status = fr_session_save(session, u->file, &r->error);
    fr_session_destroy(session);
    FR_TRY(status);
    FR_TRY(fr_session_create(model, options, &session, &r->error));
    status = fr_session_load(session, u->file, &r->error);
    if (status == FR_OK) status = step_on(session, info.vocab_size, MADE / 2, r, drafting);
    if (status == FR_OK) {
        fr_stats stats;
        fr_session_get_stats(session, &stats);
        put(drafting, "drafts", &stats.num_draft_tokens, sizeof stats.num_draft_tokens);
        put(drafting, "accepted drafts", &stats.num_accepted_tokens, sizeof stats.num_accepted_tokens);
    }
    if (status == FR_OK && rank == 0 && drafting == r) {
        size_t size;
        char *file = scratch_read(u->file, &size);
        put(r, "session file", file, size); /* last: other ranks do not have it */
        free(file);
    }
    fr_session_destroy(session);
    return status;
}

static fr_status run_model(const fr_ranks *ranks, const run *u, record *r, record *among) {
    const way *w = u->way;
    fr_model *model;
    fr_session_options session = {.ctx = 160,
                                  .prefill_chunk = w->chunk,
                                  .kv = w->kv,
                                  .drafting = w->drafting,
                                  .depth = w->depth,
                                  .drafter = w->drafter,
                                  .ignore_eos = true,
                                  .sampling = {.temperature = w->temperature, .top_p = 0.95f, .seed = 7, .verify = w->verify}};
    fr_model_options options = {.threads = 1 + fr_ranks_rank(ranks) % 2,
                                .act = w->act,
                                .isa = u->isa,
                                .weights = w->weights,
                                .draft_head = w->head,
                                .session = &session,
                                .no_pin = true,
                                .ranks = ranks};
    FR_TRY(fr_model_open(u->dir, &options, &model, &r->error));
    fr_status status = score(model, &session, r);
    if (status == FR_OK) status = generate(model, &session, u, fr_ranks_rank(ranks), r, among);
    fr_model_destroy(model);
    return status;
}

static void run_rank(const fr_ranks *ranks, void *user) {
    const run *u = user;
    record *r = &u->records[ranks->rank];
    r->status = run_model(ranks, u, r, &u->among[ranks->rank]);
}

/* ---- Comparing ---- */

static void compare(const run *u, int size, const record *expected) {
    for (int i = 0; i < size; i++) {
        const record *got = &u->records[i];
        if (joined && i != joined->rank) continue;
        if (got->status != FR_OK) fail_msg("%s, %s, rank %d of %d: %s", u->dir, u->way->name, i, size, got->error.message);
        /* Rank 0 alone has the session file, which comes last. */
        const record part = {.bytes = expected->bytes, .size = got->size < expected->size && i > 0 ? got->size : expected->size};
        const char *label = first_difference(&part, got);
        if (!label) label = first_difference(&u->among[i], &u->among[joined ? i : 0]);
        if (label) fail_msg("%s, %s, rank %d of %d: %s differ", u->dir, u->way->name, i, size, label);
    }
}

static const scratch *folder;

static void check_way(const char *dir, const way *w, fr_isa isa, int size) {
    char path[2][512];
    record alone = {0}, with_it = {0}, records[MAX_THREAD_RANKS] = {{0}}, among[MAX_THREAD_RANKS] = {{0}};
    snprintf(path[0], sizeof path[0], "%s/alone-%d.session", folder->dir, fr_ranks_rank(joined));
    snprintf(path[1], sizeof path[1], "%s/ranks.session", folder->dir);
    run u = {.dir = dir, .way = w, .isa = isa, .file = path[0], .records = records, .among = among};
    alone.status = run_model(NULL, &u, &alone, &with_it);
    if (alone.status != FR_OK) fail_msg("%s, %s: %s", dir, w->name, alone.error.message);
    u.file = path[1];
    if (joined)
        run_rank(joined, &u);
    else
        run_ranks(size, run_rank, &u);
    compare(&u, size, &alone);
    for (int i = 0; i < MAX_THREAD_RANKS; i++) {
        free(records[i].bytes);
        free(among[i].bytes);
    }
    free(alone.bytes);
    free(with_it.bytes);
}

/* ---- Ways and networks ---- */

#define ON FR_DRAFTING_ON
#define MTP FR_DRAFTER_MTP
static const way ways[] = {
    {.name = "off", .drafting = FR_DRAFTING_OFF},
    {.name = "on, 3, in chunks", .drafting = ON, .depth = 3, .act = FR_ACT_FP8, .kv = FR_KV_F32, .chunk = 33},
    {.name = "on, 7, sampled, FP8 head, copied",
     .drafting = ON,
     .depth = 7,
     .temperature = 0.9f,
     .head = FR_DRAFT_HEAD_FP8,
     .weights = FR_WEIGHTS_COPY},
    {.name = "on, 2, rejection",
     .drafting = ON,
     .depth = 2,
     .act = FR_ACT_NONE,
     .temperature = 0.9f,
     .verify = FR_VERIFY_REJECTION},
    {.name = "auto, sampled", .drafting = FR_DRAFTING_AUTO, .depth = 4, .temperature = 0.7f},
    {.name = "n-gram", .drafting = ON, .depth = 4, .drafter = FR_DRAFTER_NGRAM, .chunk = 5},
};
enum { WAYS = sizeof ways / sizeof *ways };

static const char *const networks[] = {"nano-mtp-s1", "pico-mtp-s1", "pico-s1",       "pico-yarn-s1",   "pico-noqlora-s1",
                                       "pico-v32",    "pico-glm52",  "pico-glm5",     "pico-gigachat",  "pico-gigachat-fp8",
                                       "pico-joyai",  "pico-kimi",   "pico-alldense", "pico-noexperts", "pico-glm-flash"};
enum { NETWORKS = sizeof networks / sizeof *networks };

static bool has_mtp(const char *dir) {
    fr_model *model;
    fr_model_info info;
    if (fr_model_open(dir, NULL, &model, NULL) != FR_OK) fail_msg("%s cannot be opened", dir);
    fr_model_get_info(model, &info);
    fr_model_destroy(model);
    return info.has_mtp;
}

static int sizes(int i) {
    return joined ? fr_ranks_size(joined) : 2 + i % 3;
}
static int num_sizes(void) {
    return joined ? 1 : 3;
}

/* All ways with the first network; a part of them, which goes round, with the others. */
static void any_number_of_ranks_gives_the_bits_of_one_process(void **state) {
    char dir[512];
    (void)state;
    for (int n = 0, turn = 0; n < NETWORKS; n++) {
        snprintf(dir, sizeof dir, FR_TEST_DIR "/golden/%s", networks[n]);
        bool mtp = has_mtp(dir);
        for (int i = 0; i < num_sizes(); i++)
            for (int w = 0; w < WAYS; w++) {
                if (!full && n > 0 && (w + turn++) % 5) continue;
                if (quick && (n > 0 || i != num_sizes() / 2 || w % 2 == 0)) continue;
                if (ways[w].drafting == ON && ways[w].drafter == MTP && !mtp) continue;
                check_way(dir, &ways[w], FR_ISA_AUTO, sizes(i));
            }
    }
}

static void so_it_does_with_every_instruction_set(void **state) {
    static const char dir[] = FR_TEST_DIR "/golden/nano-mtp-s1";
    (void)state;
    for (int isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT && !quick; isa++) {
        fr_model *model;
        if (fr_model_open(dir, &(fr_model_options){.isa = (fr_isa)isa}, &model, NULL) != FR_OK)
            continue; /* not on this machine */
        fr_model_destroy(model);
        check_way(dir, &ways[1], (fr_isa)isa, sizes(1));
    }
}

/* Wide enough for every rank to have whole 128-blocks of all that is quantized, as in large networks: these travel as codes. */
static void whole_blocks_travel_as_codes(void **state) {
    static const char *const set[] = {"hidden_size=512",       "intermediate_size=640", "moe_intermediate_size=512",
                                      "v_head_dim=128",        "num_hidden_layers=3",   "num_attention_heads=6",
                                      "num_key_value_heads=6", "vocab_size=700"};
    (void)state;
    if (fr_ranks_rank(joined) == 0) {
        fr_error error = {0};
        fr_synth_options o = {.set = set, .num_set = sizeof set / sizeof *set, .seed = 3, .force = true};
        if (fr_synth(FR_TEST_DIR "/golden/nano-mtp-s1", scratch_path(folder, "wide"), &o, NULL, &error) != FR_OK)
            fail_msg("%s", error.message);
    }
    fr_ranks_agree(joined, FR_OK, NULL); /* it is there */
    for (int i = 0; i < num_sizes(); i++)
        for (int w = 0; w < WAYS; w++)
            if (!quick || (i == 0 && w % 3 == 1)) check_way(scratch_path(folder, "wide"), &ways[w], FR_ISA_AUTO, sizes(i));
}

/* Goes on with a session file alone. */
static void go_on_alone(const char *dir, const char *file, record *r) {
    const fr_session_options options = {.ctx = 160, .drafting = FR_DRAFTING_ON, .depth = 2, .ignore_eos = true};
    fr_model *model = NULL;
    fr_session *session = NULL;
    record steps = {0};
    fr_status status = fr_model_open(dir, &(fr_model_options){.threads = 1}, &model, &r->error);
    if (status == FR_OK) status = fr_session_create(model, &options, &session, &r->error);
    if (status == FR_OK) status = fr_session_load(session, file, &r->error);
    if (status == FR_OK) status = step_on(session, 1, MADE, r, &steps);
    r->status = status;
    fr_session_destroy(session);
    fr_model_destroy(model);
    free(steps.bytes);
}

/* With any number of drafts in the MTP module's cache. */
static void a_session_of_several_ranks_goes_on_with_one(void **state) {
    static const char dir[] = FR_TEST_DIR "/golden/nano-mtp-s1";
    static const way greedy = {.name = "auto, greedy", .drafting = FR_DRAFTING_AUTO, .depth = 7};
    record of_ranks = {0}, of_one = {0};
    char path[2][512];
    (void)state;
    check_way(dir, &greedy, FR_ISA_AUTO, sizes(1));
    snprintf(path[0], sizeof path[0], "%s/ranks.session", folder->dir);
    snprintf(path[1], sizeof path[1], "%s/alone-%d.session", folder->dir, fr_ranks_rank(joined));
    go_on_alone(dir, path[0], &of_ranks);
    go_on_alone(dir, path[1], &of_one);
    if (of_ranks.status != FR_OK) fail_msg("%s", of_ranks.error.message);
    if (of_one.status != FR_OK) fail_msg("%s", of_one.error.message);
    const char *label = first_difference(&of_one, &of_ranks);
    if (label) fail_msg("%s differ", label);
    free(of_ranks.bytes);
    free(of_one.bytes);
}

/* ---- Failures ---- */

/* What one rank alone runs into. */
typedef struct trouble {
    const char *dir;
    fr_weights weights;
    uint64_t memory_limit; /* of the last rank; 0: none */
    int progress_ends;     /* tokens of a prefill after which rank 0's user wants no more; 0: never */
    fr_status status[MAX_THREAD_RANKS];
    char message[MAX_THREAD_RANKS][768];
    size_t length[MAX_THREAD_RANKS]; /* of the text, in the end */
} trouble;

static bool want_no_more(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what, (void)total;
    return done < *(uint64_t *)user;
}

static bool want_all(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)user, (void)what, (void)done, (void)total;
    return true;
}

static void run_into_trouble(const fr_ranks *ranks, void *user) {
    trouble *t = user;
    fr_error error = {0};
    fr_model *model = NULL;
    fr_session *session = NULL;
    int32_t tokens[PROMPT];
    make_prompt(tokens);
    uint64_t ends = (uint64_t)t->progress_ends;
    bool interrupts = ranks->rank == 0 && ends > 0, is_last = ranks->rank == ranks->size - 1;
    fr_session_options options = {
        .ctx = 100, .prefill_chunk = 10, .progress = interrupts ? want_no_more : want_all, .user = &ends};
    fr_status status = fr_model_open(t->dir,
                                     &(fr_model_options){.threads = 1,
                                                         .weights = t->weights,
                                                         .session = &options,
                                                         .no_pin = true,
                                                         .memory_limit = is_last ? t->memory_limit : 0,
                                                         .ranks = ranks},
                                     &model, &error);
    if (status == FR_OK) status = fr_session_create(model, &options, &session, &error);
    if (status == FR_OK) status = fr_session_prefill(session, tokens, PROMPT, &error);
    if (session) t->length[ranks->rank] = fr_session_length(session);
    t->status[ranks->rank] = status;
    snprintf(t->message[ranks->rank], sizeof t->message[0], "%s", error.message);
    fr_session_destroy(session);
    fr_model_destroy(model);
}

static void check_trouble(trouble *t, fr_status expected, const char *says) {
    enum { RANKS = 3 };
    t->dir = FR_TEST_DIR "/golden/nano-mtp-s1";
    run_ranks(RANKS, run_into_trouble, t);
    for (int i = 0; i < RANKS; i++) {
        if (t->status[i] != expected || !strstr(t->message[i], says))
            fail_msg("rank %d: status %d, not %d: %s", i, (int)t->status[i], (int)expected, t->message[i]);
        assert_string_equal(t->message[i], t->message[0]);
        assert_int_equal(t->length[i], t->length[0]);
    }
}

static void what_fails_on_one_rank_fails_on_all(void **state) {
    trouble short_of_memory = {.memory_limit = 100000}, interrupted = {.progress_ends = 25}, none = {0};
    trouble streamed = {.weights = FR_WEIGHTS_STREAM};
    (void)state;
    if (joined) return; /* what is tested is not the transport */
    check_trouble(&none, FR_OK, "");
    assert_int_equal(none.length[0], PROMPT);
    check_trouble(&short_of_memory, FR_ERROR_MEMORY, "memory: ");
    check_trouble(&streamed, FR_ERROR_UNSUPPORTED, "several ranks cannot stream");
    check_trouble(&interrupted, FR_INTERRUPTED, "interrupted after 30");
    assert_int_equal(interrupted.length[0], 30);
}

int main(int count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks_gives_the_bits_of_one_process),
        cmocka_unit_test(so_it_does_with_every_instruction_set),
        cmocka_unit_test(whole_blocks_travel_as_codes),
        cmocka_unit_test(a_session_of_several_ranks_goes_on_with_one),
        cmocka_unit_test(what_fails_on_one_rank_fails_on_all),
    };
    fr_error error = {0};
    for (int i = 1; i < count; i++) {
        full |= strcmp(arguments[i], "full") == 0;
        quick |= strcmp(arguments[i], "quick") == 0;
    }
    bool mpi = count > 1 && strcmp(arguments[1], "mpi") == 0;
    if (mpi && (fr_ranks_join(&joined, &error) != FR_OK || fr_ranks_size(joined) < 2)) {
        fprintf(stderr, "no ranks to test with: %s\n", error.message);
        return 1;
    }
    scratch own = scratch_create(), shared = own;
    fr_ranks_share(joined, &shared, sizeof shared);
    folder = &shared;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fr_ranks_agree(joined, FR_OK, NULL); /* nobody needs it any more */
    scratch_remove_tree(&own);
    fr_ranks_leave(joined);
    return failed;
}
