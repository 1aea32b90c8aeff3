/* The drafter of examples/drafter.c, which shows how one is added: what every drafter must keep, and that it drafts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "mtp/session.h"
#include "scratch.h"

extern const fr_drafter_type fr_bigram_drafter_type;

enum { PROMPT = 24, MADE = 80, VOCAB = 320 };

static fr_model *open_model(void) {
    return driver_open("pico-mtp-s1", FR_ISA_AUTO, FR_ACT_NONE, 1);
}

/* A session with the example in the place of a drafter from the table. */
static fr_session *example_session(const fr_model *model, fr_session_options o) {
    fr_drafter *drafter = NULL;
    o.drafter = FR_DRAFTER_NGRAM;
    fr_session *s = driver_session(model, &o);
    assert_int_equal(fr_drafter_create(&fr_bigram_drafter_type, model, &o, &drafter, NULL), FR_OK);
    fr_drafter_destroy(fr_session_swap_drafter(s, drafter));
    return s;
}

/* Few different tokens, so that there is something to learn. */
static void make_prompt(int32_t *tokens) {
    for (int i = 0; i < PROMPT; i++) tokens[i] = (int32_t)(i % 5 * 31 + i % 3);
}

typedef struct text {
    int made;
    int32_t tokens[MADE];
    float logits[MADE][VOCAB]; /* that chose them; with drafts only of the last token of each step */
    bool known[MADE];
} text;

static void keep_logits(void *user, fr_session *session, const fr_step *step) {
    text *t = user;
    t->made += step->count;
    t->known[t->made - 1] = true;
    memcpy(t->logits[t->made - 1], fr_session_logits(session), sizeof *t->logits);
}

static void generate(fr_session *s, text *out) {
    int32_t prompt[PROMPT];
    make_prompt(prompt);
    memset(out, 0, sizeof *out);
    driver_prefill(s, prompt, PROMPT);
    driver_generate(s, MADE, out->tokens, keep_logits, out);
}

static void the_text_is_that_of_drafting_off(void **state) {
    (void)state;
    static const struct {
        fr_drafting drafting;
        int depth;
        float temperature;
        fr_kv kv;
    } ways[] = {
        {FR_DRAFTING_ON, 1, 0.0f, FR_KV_BF16}, {FR_DRAFTING_ON, 3, 0.7f, FR_KV_F32},    {FR_DRAFTING_ON, 7, 0.0f, FR_KV_F32},
        {FR_DRAFTING_ON, 7, 0.7f, FR_KV_BF16}, {FR_DRAFTING_AUTO, 3, 0.0f, FR_KV_BF16},
    };
    static text plain, drafted;
    fr_model *model = open_model();
    uint64_t accepted = 0, rejected = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        fr_session_options o = {.ctx = PROMPT + MADE,
                                .kv = ways[i].kv,
                                .depth = ways[i].depth,
                                .drafting = FR_DRAFTING_OFF,
                                .sampling = {.temperature = ways[i].temperature, .top_k = 8, .seed = 3}};
        fr_session *off = driver_session(model, &o);
        generate(off, &plain);
        o.drafting = ways[i].drafting;
        fr_session *s = example_session(model, o);
        generate(s, &drafted);
        assert_memory_equal(drafted.tokens, plain.tokens, sizeof plain.tokens);
        for (int j = 0; j < MADE; j++)
            if (drafted.known[j]) assert_memory_equal(drafted.logits[j], plain.logits[j], sizeof *plain.logits);
        assert_int_equal(s->kv.length, off->kv.length);
        for (int layer = 0; layer < s->kv.layers; layer++)
            assert_memory_equal(fr_kv_cache_row(&s->kv, layer, 0), fr_kv_cache_row(&off->kv, layer, 0),
                                fr_kv_cache_bytes(1, s->kv.length, s->kv.rank, s->kv.rope, s->kv.type));
        accepted += s->stats.num_accepted_tokens;
        rejected += s->stats.num_draft_tokens - s->stats.num_accepted_tokens;
        fr_session_destroy(s);
        fr_session_destroy(off);
    }
    print_message("%d drafts accepted, %d rejected\n", (int)accepted, (int)rejected);
    assert_true(accepted > 20 && rejected > 20); /* both kinds were there to be told apart */
    fr_model_destroy(model);
}

/* It knows the pairs of the text, the newest of each kind, and nothing of drafts that were rejected. */
static void drafts_are_what_the_text_has_shown(void **state) {
    (void)state;
    int32_t after[VOCAB], prompt[PROMPT];
    fr_model *model = open_model();
    fr_session *s = example_session(model, (fr_session_options){.ctx = PROMPT + MADE, .drafting = FR_DRAFTING_ON, .depth = 3});
    make_prompt(prompt);
    driver_prefill(s, prompt, PROMPT);
    int drafts = 0;
    for (int length = PROMPT; length + 4 < PROMPT + MADE; length = s->length) {
        for (int i = 0; i < VOCAB; i++) after[i] = -1;
        for (int i = 1; i < s->kv.length; i++) after[s->tokens[i - 1]] = s->tokens[i]; /* evaluated ones */
        int32_t token = s->tokens[length - 1];
        fr_step step;
        assert_int_equal(fr_session_step(s, 4, &step, NULL), FR_OK);
        const fr_cycle *cycle = fr_session_last_cycle(s);
        assert_true((cycle != NULL) == (length > PROMPT)); /* the first token is the prefill's */
        if (!cycle) continue;
        for (int j = 0; j < 3; j++) {
            token = token < 0 ? -1 : after[token];
            assert_true((token >= 0) == (j < cycle->made));
            if (token >= 0) assert_int_equal(cycle->drafts[j], token);
        }
        drafts += cycle->made;
    }
    assert_true(drafts > 30);
    fr_session_destroy(s);
    fr_model_destroy(model);
}

/* Neither a cut nor a text from a session file, of which the drafter has not been told, changes what comes. */
static void cuts_and_session_files_change_nothing(void **state) {
    (void)state;
    static text whole, again;
    fr_model *model = open_model();
    fr_session_options o = {.ctx = PROMPT + MADE, .drafting = FR_DRAFTING_ON, .depth = 3};
    scratch dir = scratch_create();
    fr_session *s = example_session(model, o), *loaded = example_session(model, o);
    generate(s, &whole);
    assert_int_equal(fr_session_truncate(s, PROMPT + 30, NULL), FR_OK);
    driver_generate(s, 10, again.tokens, NULL, NULL);
    assert_int_equal(fr_session_save(s, scratch_path(&dir, "session"), NULL), FR_OK);
    assert_int_equal(fr_session_load(loaded, scratch_path(&dir, "session"), NULL), FR_OK);
    driver_generate(s, MADE - 40, again.tokens + 10, NULL, NULL);
    assert_memory_equal(again.tokens, whole.tokens + 30, (MADE - 30) * sizeof *whole.tokens);
    driver_generate(loaded, MADE - 40, again.tokens + 10, NULL, NULL);
    assert_memory_equal(again.tokens, whole.tokens + 30, (MADE - 30) * sizeof *whole.tokens);
    fr_session_destroy(s);
    fr_session_destroy(loaded);
    scratch_destroy(&dir);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_that_of_drafting_off),
        cmocka_unit_test(drafts_are_what_the_text_has_shown),
        cmocka_unit_test(cuts_and_session_files_change_nothing),
    };
    return cmocka_run_group_tests_name("example_drafter", tests, NULL, NULL);
}
