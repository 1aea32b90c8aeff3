/* Session files: a session that loads one goes on bit for bit as the saved one does, and nothing but a whole file of
 * the same model gets in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/checkpoint/checksum.h"
#include "model/fingerprint.h"
#include "mtp/drafters/mtp.h"
#include "mtp/session.h"
#include "scratch.h"

enum { PROMPT = 13, MADE = 30, CUT = 4, CTX = 64, VOCAB = 320, MAX_STEPS = MADE + CUT + 2 };

static void succeed(fr_status status, const fr_error *error) {
    if (status != FR_OK) fail_msg("%s: %s", fr_status_name(status), error->message);
}

static fr_model *open_model_at(const char *dir, fr_act act) {
    fr_error error;
    fr_model *model = NULL;
    succeed(fr_model_open(dir, &(fr_model_options){.threads = 1, .act = act}, &model, &error), &error);
    return model;
}

static fr_model *open_model(const char *name) {
    char dir[512];
    snprintf(dir, sizeof dir, "%s/golden/%s", FR_TEST_DIR, name);
    return open_model_at(dir, FR_ACT_NONE);
}

static fr_session *new_session(const fr_model *model, const fr_session_options *options) {
    fr_error error;
    fr_session *session = NULL;
    succeed(fr_session_create(model, options, &session, &error), &error);
    return session;
}

static void save(const fr_session *session, const char *path) {
    fr_error error;
    succeed(fr_session_save(session, path, &error), &error);
}

static void load(fr_session *session, const char *path) {
    fr_error error;
    succeed(fr_session_load(session, path, &error), &error);
}

static void make_text(int32_t *tokens, int count, uint32_t seed) {
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % VOCAB);
    }
}

static void prefill(fr_session *session, const int32_t *tokens, int count) {
    fr_error error;
    succeed(fr_session_prefill(session, tokens, (size_t)count, &error), &error);
}

/* ---- Everything that tokens to come depend on, as bytes ---- */

typedef struct state {
    int lengths[6];
    uint64_t seed, tokens, kv, mtp_kv, hidden, logits;
    uint64_t last_logits; /* of the last step: nothing depends on them, and they are not in files */
} state;

static uint64_t hash_kv(const fr_kv_cache *kv) {
    uint64_t hash = FR_HASH64_START;
    size_t row = (size_t)(kv->rank + kv->rope) * (kv->type == FR_KV_F32 ? 4 : 2);
    for (int layer = 0; layer < kv->layers && kv->length > 0; layer++)
        hash = fr_hash64(hash, fr_kv_cache_row(kv, layer, 0), (size_t)kv->length * row);
    row = (size_t)kv->index_dim * (kv->type == FR_KV_F32 ? 4 : 2);
    for (int layer = 0; layer < kv->index_layers && kv->length > 0; layer++)
        hash = fr_hash64(hash, fr_kv_cache_key(kv, layer, 0), (size_t)kv->length * row);
    return hash;
}

static state state_of(const fr_session *s) {
    state out;
    memset(&out, 0, sizeof out); /* compared as bytes */
    size_t width = (size_t)s->model->config.hidden_size, vocab = (size_t)s->model->config.vocab_size;
    bool pending = s->length > 0 && s->kv.length == s->length;
    const fr_mtp_drafter *mtp = fr_mtp_drafter_of(s->drafter);
    int lengths[6] = {s->length, s->generated, s->kv.length, mtp ? mtp->kv.length : 0, pending, mtp != NULL};
    memcpy(out.lengths, lengths, sizeof lengths);
    out.seed = s->sampler.filters.sampling.seed;
    out.tokens = fr_hash64(FR_HASH64_START, s->tokens, (size_t)s->length * sizeof(int32_t));
    out.kv = hash_kv(&s->kv);
    if (mtp) {
        assert_int_equal(mtp->unread, s->kv.length - mtp->kv.length);
        out.mtp_kv = hash_kv(&mtp->kv);
        out.hidden = fr_hash64(FR_HASH64_START, mtp->hidden, (size_t)mtp->unread * width * sizeof(float));
    }
    const float *logits = fr_session_logits(s);
    if (logits) out.last_logits = fr_hash64(FR_HASH64_START, logits, vocab * sizeof(float));
    if (pending) out.logits = out.last_logits;
    return out;
}

static void assert_same_state(const fr_session *a, const fr_session *b) {
    state x = state_of(a), y = state_of(b);
    assert_memory_equal(x.lengths, y.lengths, sizeof x.lengths);
    assert_true(x.seed == y.seed);
    assert_true(x.tokens == y.tokens);
    assert_true(x.kv == y.kv);
    assert_true(x.mtp_kv == y.mtp_kv);
    assert_true(x.hidden == y.hidden);
    assert_true(x.logits == y.logits && (x.logits != 0) == (x.lengths[4] != 0));
}

/* ---- Going on ---- */

/* A run: prompt, MADE tokens, of which CUT are taken back half-way and made again. Every call is a point to stop at. */
typedef struct run {
    int calls; /* so far: prefill, step, ..., truncate, step, ... */
    int made;
    bool cut;
    struct {
        int length, drafted, accepted;
        uint64_t logits;
    } log[MAX_STEPS];
} run;

static bool run_call(run *r, fr_session *session, const int32_t *prompt) {
    fr_error error;
    fr_step step = {0};
    if (r->made >= MADE) return false;
    assert_true(r->calls < MAX_STEPS);
    if (r->calls == 0) {
        prefill(session, prompt, PROMPT);
    } else if (r->made >= MADE / 2 && !r->cut) {
        succeed(fr_session_truncate(session, fr_session_length(session) - CUT, &error), &error);
        r->cut = true;
        r->made -= CUT;
    } else {
        succeed(fr_session_step(session, MADE - r->made, &step, &error), &error);
        r->made += step.count;
    }
    const float *logits = fr_session_logits(session);
    r->log[r->calls].length = (int)fr_session_length(session);
    r->log[r->calls].drafted = step.drafted;
    r->log[r->calls].accepted = step.accepted;
    r->log[r->calls].logits = logits ? fr_hash64(0, logits, VOCAB * sizeof(float)) : 0;
    r->calls++;
    return true;
}

/* Saves after every call, loads each file into a session of another shape that has held something else, and goes on. */
static void check_going_on(const fr_model *model, fr_session_options o, const scratch *dir, uint64_t *accepted) {
    int32_t prompt[PROMPT], other[20];
    char path[512];
    snprintf(path, sizeof path, "%s/session", dir->dir);
    make_text(prompt, PROMPT, 1);
    make_text(other, 20, 2);
    o.ctx = CTX;
    o.sampling.seed = 77;

    run straight = {0};
    fr_session *expected = new_session(model, &o);
    while (run_call(&straight, expected, prompt)) {
    }
    for (int j = 0; j < straight.calls; j++) *accepted += (uint64_t)straight.log[j].accepted;

    run first = {0};
    fr_session *stopped = new_session(model, &o);
    o.ctx = CTX + 5;
    o.prefill_chunk = 24;
    o.sampling.seed = 3; /* the file's takes its place */
    fr_session *session = new_session(model, &o);
    while (run_call(&first, stopped, prompt)) {
        save(stopped, path);
        fr_error error;
        succeed(fr_session_truncate(session, 0, &error), &error);
        prefill(session, other, first.calls % 20 + 1);
        load(session, path);
        assert_same_state(session, stopped);
        run rest = first;
        while (run_call(&rest, session, prompt)) {
        }
        assert_int_equal(rest.calls, straight.calls);
        assert_memory_equal(rest.log, straight.log, sizeof rest.log);
        if (rest.calls > first.calls) assert_same_state(session, expected);
    }
    assert_same_state(stopped, expected); /* saving changed nothing */
    fr_session_destroy(session);
    fr_session_destroy(stopped);
    fr_session_destroy(expected);
}

static void a_loaded_session_goes_on_bit_for_bit(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    uint64_t accepted = 0;
    for (int variant = 0; variant < 32; variant++) {
        fr_session_options o = {.kv = variant & 1 ? FR_KV_F32 : FR_KV_BF16, .depth = variant / 4};
        o.drafting = o.depth == 0 ? FR_DRAFTING_OFF : FR_DRAFTING_ON;
        o.mtp_hidden = o.depth == 2 ? FR_HIDDEN_PRE_NORM : FR_HIDDEN_POST_NORM;
        if (variant & 2) {
            o.sampling.temperature = 0.8f;
            o.sampling.presence_penalty = 0.3f; /* looks at where the completion begins */
            o.sampling.verify = o.depth == 3 ? FR_VERIFY_REJECTION : FR_VERIFY_COUPLED;
        }
        check_going_on(model, o, &dir, &accepted);
    }
    assert_true(accepted > 50); /* or drafts were never part of it */
    scratch_destroy(&dir);
    fr_model_destroy(model);
}

/* Sparse attention: the index keys are in the file. Stops lie before the border from which on positions are chosen, 16, and
 * behind it. */
static void a_loaded_session_chooses_the_same_positions(void **unused) {
    (void)unused;
    const char *names[] = {"pico-v32", "pico-glm52"};
    scratch dir = scratch_create();
    uint64_t accepted = 0;
    for (int variant = 0; variant < 8; variant++) {
        fr_model *model = open_model(names[variant % 2]);
        fr_session_options o = {.kv = variant & 2 ? FR_KV_F32 : FR_KV_BF16, .depth = variant & 4 ? 3 : 0};
        assert_true(model->config.index_topk > PROMPT && model->config.index_topk < PROMPT + MADE);
        o.drafting = o.depth == 0 ? FR_DRAFTING_OFF : FR_DRAFTING_ON;
        check_going_on(model, o, &dir, &accepted);
        fr_model_destroy(model);
    }
    scratch_destroy(&dir);
}

/* An empty session; a second round of prefill; a session without MTP that takes what one with it has saved. */
static void any_moment_can_be_saved(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512];
    fr_error error;
    int32_t text[40];
    make_text(text, 40, 5);
    snprintf(path, sizeof path, "%s/session", dir.dir);
    fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON, .depth = 3};
    fr_session *a = new_session(model, &o), *b = new_session(model, &o);
    prefill(b, text, 9);
    save(a, path);
    load(b, path);
    assert_int_equal(fr_session_length(b), 0);
    assert_same_state(a, b);

    prefill(a, text, 20);
    fr_step step;
    for (int i = 0; i < 4; i++) succeed(fr_session_step(a, 8, &step, &error), &error);
    save(a, path);
    load(b, path);
    prefill(a, text + 20, 10);
    prefill(b, text + 20, 10);
    assert_same_state(a, b);

    o.drafting = FR_DRAFTING_OFF;
    fr_session *plain = new_session(model, &o);
    save(a, path);
    load(plain, path);
    while (fr_session_length(a) < CTX) succeed(fr_session_step(a, CTX, &step, &error), &error);
    while (fr_session_length(plain) < CTX) succeed(fr_session_step(plain, CTX, &step, &error), &error);
    assert_memory_equal(a->tokens, plain->tokens, CTX * sizeof(int32_t));
    save(a, path); /* a full context */
    load(plain, path);
    assert_int_equal(fr_session_step(plain, 1, &step, &error), FR_ERROR_CONTEXT);
    fr_session_destroy(a);
    fr_session_destroy(b);
    fr_session_destroy(plain);
    scratch_destroy(&dir);
    fr_model_destroy(model);
}

/* ---- What is refused ---- */

/* The load must fail with this status and text, and change nothing. */
static void refuse(fr_session *session, const char *path, fr_status expected, const char *text) {
    fr_error error;
    state before = state_of(session), after;
    fr_status status = fr_session_load(session, path, &error);
    if (status != expected || !strstr(error.message, text) || strcmp(error.where, path) != 0)
        fail_msg("%s: %s, expected %s: %s", fr_status_name(status), status ? error.message : "", fr_status_name(expected), text);
    after = state_of(session);
    assert_memory_equal(&before, &after, sizeof before);
}

static void files_of_another_session_are_refused(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512], none[600];
    int32_t text[PROMPT];
    make_text(text, PROMPT, 9);
    snprintf(path, sizeof path, "%s/session", dir.dir);
    snprintf(none, sizeof none, "%s/none", dir.dir);
    const fr_session_options own = {.ctx = CTX, .drafting = FR_DRAFTING_ON, .kv = FR_KV_F32};
    fr_session_options o = own;
    fr_session *session = new_session(model, &o);
    prefill(session, text, PROMPT);
    save(session, path);
    load(session, path);

    refuse(session, none, FR_ERROR_IO, "No such file");
    refuse(session, dir.dir, FR_ERROR_IO, "no regular file");
    refuse(session, "/dev/zero", FR_ERROR_IO, "no regular file");
    assert_int_equal(fr_session_save(session, dir.dir, NULL), FR_ERROR_IO);
    assert_int_equal(fr_session_save(session, "/dev/null", NULL), FR_ERROR_IO);
    assert_int_equal(fr_session_save(session, scratch_path(&dir, "none/session"), NULL), FR_ERROR_IO);

    struct {
        fr_session_options options;
        fr_status status;
        const char *text;
    } cases[] = {
        {own, FR_ERROR_UNSUPPORTED, "its KV cache is f32, the session's is bf16"},
        {own, FR_ERROR_UNSUPPORTED, "its MTP module read hidden states after the norm"},
        {own, FR_ERROR_CONTEXT, "its 13 tokens do not fit in a context of 12"},
    };
    cases[0].options.kv = FR_KV_BF16;
    cases[1].options.mtp_hidden = FR_HIDDEN_PRE_NORM;
    cases[2].options.ctx = 12;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fr_session *other = new_session(model, &cases[i].options);
        prefill(other, text + 2, 7);
        refuse(other, path, cases[i].status, cases[i].text);
        fr_session_destroy(other);
    }
    o.drafting = FR_DRAFTING_OFF;
    fr_session *plain = new_session(model, &o);
    prefill(plain, text, 5);
    save(plain, path);
    refuse(session, path, FR_ERROR_UNSUPPORTED, "without MTP");
    fr_session_destroy(plain);

    fr_session_destroy(session);
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

static void files_of_another_model_are_refused(void **unused) {
    static const char *const names[] = {"pico-s1", "pico-yarn-s1", "pico-noqlora-s1", "nano-mtp-s1"};
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512];
    int32_t text[PROMPT];
    make_text(text, PROMPT, 9);
    snprintf(path, sizeof path, "%s/session", dir.dir);
    const fr_session_options own = {.ctx = CTX, .drafting = FR_DRAFTING_ON, .kv = FR_KV_F32};
    fr_session *session = new_session(model, &own);
    prefill(session, text, PROMPT);
    save(session, path);
    fr_session_destroy(session);
    fr_model_destroy(model);
    for (int i = 0; i < 4; i++) {
        model = open_model(names[i]);
        session = new_session(model, &own);
        prefill(session, text, 7);
        refuse(session, path, FR_ERROR_UNSUPPORTED, "another model");
        fr_session_destroy(session);
        fr_model_destroy(model);
    }
    model = open_model_at(FR_TEST_DIR "/golden/pico-mtp-s1", FR_ACT_FP8);
    session = new_session(model, &own);
    refuse(session, path, FR_ERROR_UNSUPPORTED, "activations as they are");
    fr_session_destroy(session);
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

/* Whoever has a link to a file keeps it, and the file is the new one. */
static void a_session_saved_through_a_link_replaces_the_file(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512], link[512], leads_to[16] = "";
    int32_t text[CTX];
    make_text(text, CTX, 11);
    snprintf(path, sizeof path, "%s/session", dir.dir);
    snprintf(link, sizeof link, "%s/link", dir.dir);
    fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON};
    fr_session *session = new_session(model, &o), *other = new_session(model, &o);
    prefill(session, text, 5);
    save(session, path);
    assert_int_equal(symlink("session", link), 0);
    prefill(session, text, 40);
    save(session, link);
    assert_int_equal(readlink(link, leads_to, sizeof leads_to - 1), strlen("session"));
    load(other, path);
    assert_same_state(session, other);
    fr_session_destroy(session);
    fr_session_destroy(other);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir.dir), 0);
    fr_model_destroy(model);
}

/* A file that cannot be written whole leaves the old one and nothing else. */
static void a_save_that_fails_leaves_the_old_file(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512];
    int32_t text[CTX];
    make_text(text, CTX, 11);
    snprintf(path, sizeof path, "%s/session", dir.dir);
    fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON};
    fr_session *session = new_session(model, &o), *other = new_session(model, &o);
    prefill(session, text, 5);
    save(session, path);
    load(other, path);
    prefill(session, text, 40);
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes < 12000; bytes += 1999) {
        fr_error error;
        small = (struct rlimit){bytes, limit.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        fr_status status = fr_session_save(session, path, &error);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(status, FR_ERROR_IO);
        assert_non_null(strstr(error.message, "File too large"));
    }
    signal(SIGXFSZ, handler);
    load(session, path);
    assert_same_state(session, other);
    fr_session_destroy(session);
    fr_session_destroy(other);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir.dir), 0); /* nothing else is in it */
    fr_model_destroy(model);
}

/* ---- Damage ---- */

static void put_u32(char *bytes, size_t at, uint32_t value) {
    memcpy(bytes + at, &value, sizeof value);
}

static void reseal(char *bytes) {
    put_u32(bytes, 124, fr_crc32c(0, bytes, 124));
}

/* A small session in three moments: after a prefill, in the middle, cut back. */
static fr_session *moment(const fr_model *model, int which) {
    fr_error error;
    fr_step step;
    int32_t text[3];
    make_text(text, 3, 21);
    fr_session_options o = {.ctx = 16, .drafting = FR_DRAFTING_ON, .depth = 2};
    fr_session *session = new_session(model, &o);
    prefill(session, text, 3);
    for (int i = 0; i < 3 && which > 0; i++) succeed(fr_session_step(session, 3, &step, &error), &error);
    if (which == 2) succeed(fr_session_truncate(session, 4, &error), &error);
    return session;
}

static void damage_is_found_and_changes_nothing(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512], damaged[512];
    snprintf(path, sizeof path, "%s/session", dir.dir);
    snprintf(damaged, sizeof damaged, "%s/damaged", dir.dir);
    for (int which = 0; which < 3; which++) {
        fr_session *session = moment(model, which);
        size_t size;
        save(session, path);
        char *bytes = scratch_read(path, &size), *copy = malloc(size + 300);
        assert_non_null(copy);
        memset(copy, 0, size + 300);
        for (size_t at = 0; at < size; at += at < 128 ? 1 : 13) { /* every byte of the header, all parts of the data */
            memcpy(copy, bytes, size);
            copy[at] = (char)(copy[at] ^ (at % 2 ? 0x80 : 0x01));
            scratch_write(&dir, "damaged", copy, size);
            refuse(session, damaged, at >= 8 && at < 12 ? FR_ERROR_UNSUPPORTED : FR_ERROR_FORMAT,
                   at < 8     ? "not a session file"
                   : at < 12  ? "of version"
                   : at < 128 ? "header is damaged"
                              : "data are damaged");
        }
        for (size_t kept = 0; kept < size; kept += kept < 130 ? 1 : 97) {
            scratch_write(&dir, "damaged", bytes, kept);
            refuse(session, damaged, FR_ERROR_FORMAT, kept < 8 ? "not a session file" : "cut off");
        }
        memcpy(copy, bytes, size);
        for (size_t more = 1; more < 300; more += 37) {
            scratch_write(&dir, "damaged", copy, size + more);
            refuse(session, damaged, FR_ERROR_FORMAT, "something was added");
        }
        load(session, path);
        free(copy);
        free(bytes);
        fr_session_destroy(session);
    }
    scratch_destroy(&dir);
    fr_model_destroy(model);
}

/* Headers that lie under a checksum that holds: refused, or what is loaded is a sound session. Nothing is allocated by
 * the file's measure, so that memory never runs out. */
static void headers_that_lie_are_refused_or_load_soundly(void **unused) {
    (void)unused;
    static const uint32_t values[] = {0,  1,  2,  3,  4,   5,          8,          9,          16,         17,
                                      19, 48, 64, 96, 320, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512], lying[512];
    int loaded = 0, refused = 0;
    uint32_t random = 1;
    snprintf(path, sizeof path, "%s/session", dir.dir);
    snprintf(lying, sizeof lying, "%s/lying", dir.dir);
    for (int which = 0; which < 3; which++) {
        fr_session *session = moment(model, which), *target = moment(model, 2 - which);
        size_t size;
        save(session, path);
        char *bytes = scratch_read(path, &size), *copy = malloc(size);
        assert_non_null(copy);
        for (int round = 0; round < 1500; round++) {
            memcpy(copy, bytes, size);
            for (int changes = round < 700 ? 1 : 2 + round % 3; changes > 0; changes--) {
                random = random * 1664525u + 1013904223u;
                size_t field = round < 700 ? (size_t)round % 29 : (random >> 8) % 29; /* the version is not a lie */
                put_u32(copy, field == 0 ? 12 : 8 + 4 * (field + 1), values[(random >> 16) % 20]);
            }
            if (round % 2) { /* as large as the file is */
                put_u32(copy, 24, (uint32_t)size);
                put_u32(copy, 28, 0);
            }
            reseal(copy);
            scratch_write(&dir, "lying", copy, size);
            fr_error error;
            state before = state_of(target), after;
            fr_status status = fr_session_load(target, lying, &error);
            after = state_of(target);
            refused += status != FR_OK;
            loaded += status == FR_OK;
            if (status != FR_OK) {
                assert_int_not_equal(status, FR_ERROR_MEMORY);
                assert_memory_equal(&before, &after, sizeof before);
                continue;
            }
            assert_true(target->generated <= target->length && target->kv.length == session->kv.length);
            fr_step step;
            if (target->length > 0) succeed(fr_session_step(target, 3, &step, &error), &error);
        }
        /* A token that the model does not have. */
        memcpy(copy, bytes, size);
        put_u32(copy, 128, VOCAB);
        put_u32(copy, 96, fr_crc32c(0, copy + 128, size - 128));
        reseal(copy);
        scratch_write(&dir, "lying", copy, size);
        refuse(target, lying, FR_ERROR_FORMAT, "not in the vocabulary");
        free(copy);
        free(bytes);
        fr_session_destroy(session);
        fr_session_destroy(target);
    }
    assert_true(loaded > 20 && refused > 1000);
    scratch_destroy(&dir);
    fr_model_destroy(model);
}

/* Caches, hidden states and logits that are no numbers, under checksums that hold: nonsense, but nothing worse. */
static void values_that_are_no_numbers_do_no_harm(void **unused) {
    (void)unused;
    fr_model *model = open_model("pico-mtp-s1");
    scratch dir = scratch_create();
    char path[512];
    int32_t text[20];
    make_text(text, 20, 31);
    snprintf(path, sizeof path, "%s/session", dir.dir);
    for (int variant = 0; variant < 4; variant++) {
        fr_error error;
        size_t size;
        fr_session_options o = {.ctx = CTX, .drafting = FR_DRAFTING_ON, .depth = 7, .kv = variant & 1 ? FR_KV_F32 : FR_KV_BF16};
        o.sampling.temperature = variant & 2 ? 0.8f : 0;
        fr_session *session = new_session(model, &o);
        fr_step step;
        size_t length = variant < 2 ? 5 : 6; /* right after a prefill, or one token on, which a pass has yet to read */
        prefill(session, text, 5);
        if (length > 5) succeed(fr_session_step(session, 1, &step, &error), &error);
        save(session, path);
        char *bytes = scratch_read(path, &size);
        memset(bytes + 128 + length * sizeof(int32_t), 0xff, size - 128 - length * sizeof(int32_t));
        put_u32(bytes, 96, fr_crc32c(0, bytes + 128, size - 128));
        reseal(bytes);
        scratch_write(&dir, "session", bytes, size);
        free(bytes);
        load(session, path);
        if (length == 5) assert_true(fr_session_logits(session)[0] != fr_session_logits(session)[0]);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(fr_session_step(session, 8, &step, &error), FR_ERROR_FORMAT);
            assert_int_equal(fr_session_length(session), length);
        }
        prefill(session, text, 8);
        succeed(fr_session_truncate(session, 0, &error), &error);
        prefill(session, text, 20);
        succeed(fr_session_step(session, 8, &step, &error), &error);
        fr_session_destroy(session);
    }
    scratch_destroy(&dir);
    fr_model_destroy(model);
}

/* ---- The fingerprint ---- */

static void replace_in(const scratch *dir, const char *name, const char *from, const char *to) {
    size_t size;
    char *text = scratch_read(scratch_path(dir, name), &size), *at = strstr(text, from);
    if (!at) fail_msg("%s: no %s", name, from);
    char *edited = malloc(size + strlen(to) + 1);
    assert_non_null(edited);
    sprintf(edited, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    scratch_write_text(dir, name, edited);
    free(edited);
    free(text);
}

static uint64_t fingerprint_at(const char *dir) {
    fr_model *model = open_model_at(dir, FR_ACT_NONE);
    uint64_t fingerprint = fr_model_fingerprint(model);
    fr_model_destroy(model);
    return fingerprint;
}

static void the_fingerprint_tells_models_apart(void **unused) {
    (void)unused;
    const char *names[] = {"pico-mtp-s1", "pico-s1", "pico-yarn-s1", "pico-noqlora-s1", "nano-mtp-s1"};
    uint64_t prints[5];
    for (int i = 0; i < 5; i++) {
        char dir[512];
        snprintf(dir, sizeof dir, "%s/golden/%s", FR_TEST_DIR, names[i]);
        prints[i] = fingerprint_at(dir);
        for (int j = 0; j < i; j++) assert_true(prints[i] != prints[j]);
    }
    char from[512];
    scratch dir = scratch_create();
    snprintf(from, sizeof from, "%s/golden/pico-mtp-s1", FR_TEST_DIR);
    scratch_copy_from(&dir, from);
    assert_true(fingerprint_at(dir.dir) == prints[0]);
    replace_in(&dir, "config.json", "\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 512");
    replace_in(&dir, "config.json", "\"eos_token_id\": 1", "\"eos_token_id\": 2");
    assert_true(fingerprint_at(dir.dir) == prints[0]); /* the same network */
    replace_in(&dir, "config.json", "\"routed_scaling_factor\": 2.5", "\"routed_scaling_factor\": 2.25");
    uint64_t other_scaling = fingerprint_at(dir.dir);
    assert_true(other_scaling != prints[0]);
    replace_in(&dir, "config.json", "2.25", "2.5");
    replace_in(&dir, "config.json", "\"rope_theta\": 10000", "\"rope_theta\": 10001");
    assert_true(fingerprint_at(dir.dir) != prints[0] && fingerprint_at(dir.dir) != other_scaling);
    replace_in(&dir, "config.json", "10001", "10000");
    assert_true(fingerprint_at(dir.dir) == prints[0]);
    /* Other weights of the same shapes: a bit in each byte of a shard's second half. */
    size_t size;
    char *shard = scratch_read(scratch_path(&dir, "model-00002-of-00002.safetensors"), &size);
    for (size_t i = size / 2; i < size; i++) shard[i] = (char)(shard[i] ^ 1);
    scratch_write(&dir, "model-00002-of-00002.safetensors", shard, size);
    free(shard);
    assert_true(fingerprint_at(dir.dir) != prints[0]);
    scratch_destroy(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_session_goes_on_bit_for_bit),
        cmocka_unit_test(a_loaded_session_chooses_the_same_positions),
        cmocka_unit_test(any_moment_can_be_saved),
        cmocka_unit_test(files_of_another_session_are_refused),
        cmocka_unit_test(files_of_another_model_are_refused),
        cmocka_unit_test(a_session_saved_through_a_link_replaces_the_file),
        cmocka_unit_test(a_save_that_fails_leaves_the_old_file),
        cmocka_unit_test(damage_is_found_and_changes_nothing),
        cmocka_unit_test(headers_that_lie_are_refused_or_load_soundly),
        cmocka_unit_test(values_that_are_no_numbers_do_no_harm),
        cmocka_unit_test(the_fingerprint_tells_models_apart),
    };
    return cmocka_run_group_tests_name("session_file", tests, NULL, NULL);
}
