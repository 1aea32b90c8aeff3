/* Where a text ends: a token that the checkpoint says ends it, or one that the caller says does, at every position of a cycle
 * of depth 7. What the session is then is what it is without drafting, to the bit, and so is all that follows; and counts end
 * where the text ends: tokens made = tokens taken from prefills + cycles + accepted drafts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "goldens.h"
#include "mtp/drafters/forced.h"
#include "mtp/drafters/mtp.h"
#include "mtp/session.h"
#include "scratch.h"

/* The text's first token comes from the prefill, the next 8 of a cycle that has all its drafts accepted. The reply is LONG tokens
 * without an end; NEXT tokens of a user follow it, and MORE of the model's. */
enum { PROMPT = 9, CYCLE = FR_MAX_DEPTH + 1, LONG = 1 + 2 * CYCLE, NEXT = 5, MORE = 20, CTX = PROMPT + LONG + NEXT + MORE };

typedef struct ending {
    int left; /* tokens until the text ends; < 0: never */
    int told;
    int32_t tokens[CTX];
} ending;

static bool end_after(void *user, int32_t token) {
    ending *e = user;
    e->tokens[e->told++] = token;
    return e->left > 0 && --e->left == 0;
}

/* Right drafts, as many as were planned. */
typedef struct right_drafts {
    const int32_t *text; /* from the prompt's first token on */
    int known;
    int wrong_at; /* position whose draft is wrong; -1: none */
} right_drafts;

static void propose_right(void *user, const fr_draft_context *c, fr_cycle *cycle) {
    const right_drafts *r = user;
    cycle->made = 0;
    for (int at = c->length; cycle->made < cycle->planned && at < r->known; at++)
        fr_draft_propose(c, cycle, at == r->wrong_at ? (r->text[at] + 1) % c->model->config.vocab_size : r->text[at]);
}

static void make_tokens(int32_t *tokens, int count, int vocab, uint32_t seed) {
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % (uint32_t)vocab);
    }
}

/* Steps until the text has ended; its length. */
static int generate_to_end(fr_session *s, int most) {
    int made = 0;
    for (fr_step step = {0}; !step.ended && made < most; made += step.count)
        assert_int_equal(fr_session_step(s, most - made, &step, NULL), FR_OK);
    return made;
}

/* What holds of the counters of any session. */
static void counts_add_up(const fr_session *s, int made, int prefills) {
    fr_stats stats;
    uint64_t drafts = 0, cycles = 0, drafted = 0, accepted = 0, by_depth = 0;
    fr_session_get_stats(s, &stats);
    assert_int_equal(stats.num_first_tokens, prefills);
    assert_int_equal(made, stats.num_first_tokens + stats.num_cycles + stats.num_accepted_tokens);
    for (int j = 0; j < FR_MAX_DEPTH; j++) {
        assert_true(stats.accepted_at[j] <= stats.reached_at[j] && stats.reached_at[j] <= stats.drafted_at[j]);
        drafted += stats.drafted_at[j];
        accepted += stats.accepted_at[j];
    }
    for (int k = 0; k <= FR_MAX_DEPTH; k++) {
        cycles += stats.depth_histogram[k];
        drafts += k > 0 ? stats.depth_histogram[k] : 0;
        by_depth += stats.depth_histogram[k] * (uint64_t)k;
    }
    assert_int_equal(cycles, stats.num_cycles);
    assert_int_equal(drafts, stats.num_drafts);
    assert_int_equal(drafted, stats.num_draft_tokens);
    assert_int_equal(by_depth, stats.num_draft_tokens);
    assert_int_equal(accepted, stats.num_accepted_tokens);
}

static void same_file(const char *a, const char *b) {
    size_t m, n;
    char *left = scratch_read(a, &m), *right = scratch_read(b, &n);
    assert_int_equal(m, n);
    assert_memory_equal(left, right, n);
    free(left);
    free(right);
}

/* The file that a session without drafting writes of what `s` holds. */
static void save_plain(const fr_model *model, const fr_session *s, fr_session_options o, const char *path) {
    fr_error error;
    assert_int_equal(fr_session_save(s, path, &error), FR_OK);
    o.drafting = FR_DRAFTING_OFF;
    fr_session *plain = driver_session(model, &o);
    assert_int_equal(fr_session_load(plain, path, &error), FR_OK);
    assert_int_equal(fr_session_save(plain, path, &error), FR_OK);
    fr_session_destroy(plain);
}

static void same_rows(const fr_kv_cache *a, const fr_kv_cache *b, int rows) {
    for (int layer = 0; layer < a->layers && rows > 0; layer++)
        assert_memory_equal(fr_kv_cache_row(a, layer, 0), fr_kv_cache_row(b, layer, 0),
                            (size_t)fr_kv_cache_bytes(1, rows, a->rank, a->rope, a->type));
}

/* What two sessions hold of the same text: all but how far the MTP modules have read, where both draft. */
static void same_sessions(const fr_session *a, const fr_session *b) {
    fr_mtp_drafter *m = fr_mtp_drafter_of(a->drafter), *n = fr_mtp_drafter_of(b->drafter);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->kv.length, b->kv.length);
    assert_int_equal(a->generated, b->generated);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->length * sizeof *a->tokens);
    same_rows(&a->kv, &b->kv, a->kv.length);
    if (fr_session_logits(a) && fr_session_logits(b))
        assert_memory_equal(fr_session_logits(a), fr_session_logits(b), (size_t)a->model->config.vocab_size * sizeof(float));
    if (m) assert_int_equal(m->kv.length + m->unread, a->kv.length);
    if (!m || !n) return;
    int read = m->kv.length < n->kv.length ? m->kv.length : n->kv.length, last = a->kv.length;
    size_t width = (size_t)m->hidden_size;
    same_rows(&m->kv, &n->kv, read);
    for (int i = m->kv.length > n->kv.length ? m->kv.length : n->kv.length; i < last; i++)
        assert_memory_equal(m->hidden + (size_t)(i - m->kv.length) * width, n->hidden + (size_t)(i - n->kv.length) * width,
                            width * sizeof(float));
}

typedef struct conversation {
    const fr_model *model;
    int32_t prompt[PROMPT], next[NEXT];
    int32_t text[CTX]; /* prompt and the reply that does not end */
} conversation;

static conversation begin(const fr_model *model, fr_session_options o) {
    conversation c = {.model = model};
    make_tokens(c.prompt, PROMPT, model->config.vocab_size, 5);
    make_tokens(c.next, NEXT, model->config.vocab_size, 6);
    o.drafting = FR_DRAFTING_OFF;
    o.ignore_eos = true;
    fr_session *s = driver_session(model, &o);
    driver_prefill(s, c.prompt, PROMPT);
    memcpy(c.text, c.prompt, sizeof c.prompt);
    driver_generate(s, LONG, c.text + PROMPT, NULL, NULL);
    fr_session_destroy(s);
    return c;
}

/* The same conversation in three sessions: with right drafts of depth 7, without drafts, with the module's own of depth 1. */
enum { FORCED, PLAIN, OWN, SESSIONS };

typedef struct trio {
    fr_session *s[SESSIONS];
    ending told[SESSIONS];
    right_drafts right;
    fr_forced_drafter forced;
} trio;

static void open_trio(trio *t, const conversation *c, fr_session_options o, int end, int wrong) {
    static const int depths[SESSIONS] = {FR_MAX_DEPTH, 0, 1};
    t->right = (right_drafts){c->text, PROMPT + LONG, wrong < 0 ? -1 : PROMPT + 1 + wrong};
    for (int i = 0; i < SESSIONS; i++) {
        t->told[i] = (ending){.left = end};
        o.ends_user = &t->told[i];
        o.drafting = i == PLAIN ? FR_DRAFTING_OFF : FR_DRAFTING_ON;
        o.depth = depths[i];
        t->s[i] = driver_session(c->model, &o);
        driver_prefill(t->s[i], c->prompt, PROMPT);
    }
    t->forced = fr_forced_drafter_around(t->s[FORCED]->drafter, propose_right, &t->right);
    fr_session_swap_drafter(t->s[FORCED], &t->forced.base);
}

/* With right drafts: those before the last token count, and no others. */
static void only_drafts_before_the_end_count(const fr_session *s, int end) {
    fr_stats stats;
    fr_session_get_stats(s, &stats);
    assert_int_equal(stats.num_cycles, (end - 1 + CYCLE - 1) / CYCLE);
    assert_int_equal(stats.num_accepted_tokens, end - 1 - (int)stats.num_cycles);
    assert_int_equal(stats.num_draft_tokens, stats.num_accepted_tokens);
}

static void next_turn(trio *t, const conversation *c, int end) {
    int32_t made[SESSIONS][MORE];
    for (int i = 0; i < SESSIONS; i++) {
        t->told[i].left = -1;
        driver_prefill(t->s[i], c->next, NEXT);
        driver_generate(t->s[i], MORE, made[i], NULL, NULL);
    }
    for (int i = 0; i < SESSIONS; i++) {
        assert_memory_equal(made[i], made[0], sizeof made[i]);
        same_sessions(t->s[i], t->s[PLAIN]); /* (the module may have read the prompt in passes of other sizes) */
        counts_add_up(t->s[i], end + MORE, 2);
    }
}

/* A reply that ends with its `end`th token, and the next turn. wrong: the draft that is wrong, counted from the first cycle's
 * first; -1: none. */
static void check_end(const conversation *c, fr_session_options o, int end, int wrong, const scratch *dir) {
    char path[SESSIONS][320];
    trio t;
    open_trio(&t, c, o, end, wrong);
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(generate_to_end(t.s[i], LONG), end);
        if (o.ends) assert_memory_equal(t.told[i].tokens, c->text + PROMPT, (size_t)end * sizeof(int32_t));
        if (o.ends) assert_int_equal(t.told[i].told, end);
        counts_add_up(t.s[i], end, 1);
    }
    if (wrong < 0) only_drafts_before_the_end_count(t.s[FORCED], end);
    fr_session_swap_drafter(t.s[FORCED], t.forced.inner);
    for (int i = 0; i < SESSIONS; i++) {
        assert_memory_equal(t.s[i]->tokens, c->text, (size_t)(PROMPT + end) * sizeof(int32_t));
        same_sessions(t.s[i], t.s[PLAIN]);
        snprintf(path[i], sizeof path[i], "%s/%d", dir->dir, i);
        save_plain(c->model, t.s[i], o, path[i]);
        same_file(path[i], path[0]);
    }
    same_sessions(t.s[FORCED], t.s[OWN]);
    next_turn(&t, c, end);
    for (int i = 0; i < SESSIONS; i++) fr_session_destroy(t.s[i]);
}

static const float temperatures[] = {0.0f, 0.9f};

static void a_caller_ends_a_text_at_any_token_of_a_cycle(void **state) {
    (void)state;
    scratch dir = scratch_create();
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        fr_model *model = driver_open(golden_cases[i].model, FR_ISA_AUTO, FR_ACT_AUTO, 1);
        if (!model->mtp.files.present) {
            fr_model_destroy(model);
            continue;
        }
        fr_session_options o = {.ctx = CTX, .ignore_eos = true, .sampling = {.temperature = temperatures[i % 2], .seed = 3}};
        conversation c = begin(model, o);
        o.ends = end_after;
        int step = strcmp(golden_cases[i].model, "pico-mtp-s1") == 0 ? 1 : 5; /* all ends of one model, a cover of the others */
        for (int end = 1 + i % step; end <= LONG; end += step) check_end(&c, o, end, -1, &dir);
        for (int wrong = i % step; wrong < FR_MAX_DEPTH; wrong += step) /* before the end, at it, and behind it */
            for (int end = wrong + 1; end <= wrong + 3; end++) check_end(&c, o, end, wrong, &dir);
        fr_model_destroy(model);
    }
    scratch_destroy(&dir);
}

/* The index of the token's first occurrence in a reply. */
static int first_of(const int32_t *reply, int32_t token) {
    int at = 0;
    while (reply[at] != token) at++;
    return at;
}

static void an_eos_token_ends_a_text_at_any_token_of_a_cycle(void **state) {
    (void)state;
    scratch dir = scratch_create();
    int tried = 0;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    for (int i = 0; i < 2; i++) {
        fr_session_options o = {.ctx = CTX, .sampling = {.temperature = temperatures[i], .seed = 4}};
        conversation c = begin(model, o);
        for (int end = 1; end <= LONG; end++) {
            if (first_of(c.text + PROMPT, c.text[PROMPT + end - 1]) != end - 1) continue;
            model->config.eos_token_ids[0] = c.text[PROMPT + end - 1];
            model->config.num_eos_token_ids = 1;
            tried++;
            check_end(&c, o, end, -1, &dir);
        }
    }
    assert_true(tried > LONG);
    fr_model_destroy(model);
    scratch_destroy(&dir);
}

/* A token at the end of the context, or at the limit of tokens, is one as any other: the cycle was planned to end there. */
static void counts_add_up_at_any_limit(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    for (int limit = 1; limit <= LONG; limit++)
        for (int full = 0; full < 2; full++) {
            fr_session_options o = {.ctx = CTX, .ignore_eos = true};
            conversation c = begin(model, o);
            trio t;
            o.ctx = full ? PROMPT + limit : CTX;
            open_trio(&t, &c, o, -1, -1);
            for (int i = 0; i < SESSIONS; i++) {
                int made = 0;
                for (fr_step step; made < limit; made += step.count) {
                    assert_int_equal(fr_session_step(t.s[i], full ? 100 : limit - made, &step, NULL), FR_OK);
                    assert_false(step.ended);
                }
                assert_int_equal(made, limit);
                counts_add_up(t.s[i], limit, 1);
            }
            only_drafts_before_the_end_count(t.s[FORCED], limit);
            fr_session_swap_drafter(t.s[FORCED], t.forced.inner);
            for (int i = 0; i < SESSIONS; i++) same_sessions(t.s[i], t.s[PLAIN]);
            for (int i = 0; i < SESSIONS; i++) fr_session_destroy(t.s[i]);
        }
    fr_model_destroy(model);
}

/* With rejection sampling the text is another one than without drafts. But given the text up to an end inside a cycle, all that
 * follows in a session without drafts follows here: noise is a function of seed, position and token. */
static void rejection_leaves_nothing_behind_an_end(void **state) {
    (void)state;
    fr_model *model = driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_AUTO, 1);
    int inside = 0;
    for (int end = 1; end <= LONG; end++) {
        ending told = {.left = end};
        fr_session_options o = {.ctx = CTX,
                                .prefill_chunk = FR_DECODE_ROWS, /* the bits of decoding */
                                .ignore_eos = true,
                                .drafting = FR_DRAFTING_ON,
                                .depth = FR_MAX_DEPTH,
                                .ends = end_after,
                                .ends_user = &told,
                                .sampling = {.temperature = 0.9f, .verify = FR_VERIFY_REJECTION, .seed = 11}};
        conversation c = {.model = model};
        make_tokens(c.prompt, PROMPT, model->config.vocab_size, 5);
        make_tokens(c.next, NEXT, model->config.vocab_size, 6);
        fr_session *on = driver_session(model, &o);
        driver_prefill(on, c.prompt, PROMPT);
        assert_int_equal(generate_to_end(on, LONG), end);
        counts_add_up(on, end, 1);
        inside += fr_session_last_cycle(on) && on->cycle.verified > on->cycle.accepted && on->cycle.accepted > 0;
        o.drafting = FR_DRAFTING_OFF;
        o.ends = NULL;
        fr_session *off = driver_session(model, &o);
        driver_prefill(off, on->tokens, PROMPT + end);
        told.left = -1;
        driver_prefill(on, c.next, NEXT);
        driver_prefill(off, c.next, NEXT);
        same_sessions(on, off);
        int32_t a, b;
        driver_generate(on, 1, &a, NULL, NULL);
        driver_generate(off, 1, &b, NULL, NULL);
        assert_int_equal(a, b);
        fr_session_destroy(on);
        fr_session_destroy(off);
    }
    assert_true(inside > 0);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caller_ends_a_text_at_any_token_of_a_cycle),
        cmocka_unit_test(an_eos_token_ends_a_text_at_any_token_of_a_cycle),
        cmocka_unit_test(counts_add_up_at_any_limit),
        cmocka_unit_test(rejection_leaves_nothing_behind_an_end),
    };
    return cmocka_run_group_tests_name("text_end", tests, NULL, NULL);
}
