/* Nothing is allocated while tokens are made: not by the library, and not by what it calls (oneDNN, the C
 * library). Where the program may replace malloc, every call of the family is counted on its way to the real one;
 * elsewhere (a sanitizer has replaced it already) the library's own count is all there is. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"
#include "core/threads.h"
#include "driver.h"
#include "goldens.h"
#include "mtp/drafters/drafter.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

static atomic_ulong calls; /* of the malloc family, by any thread */

#ifndef SANITIZED
/* Hidden, as everything of ours is by default, these would replace nobody's malloc but this program's own. */
#define REPLACES __attribute__((visibility("default")))
REPLACES void *malloc(size_t size);
REPLACES void *calloc(size_t count, size_t size);
REPLACES void *realloc(void *memory, size_t size);
REPLACES void *aligned_alloc(size_t alignment, size_t size);
REPLACES int posix_memalign(void **out, size_t alignment, size_t size);
REPLACES void free(void *memory);
REPLACES int pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void (*free)(void *);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
} real;

/* dlsym may allocate before it has found anything: such requests come from here, and are never given back. */
static char early[65536];
static size_t early_used;
static int resolving;

static void *early_alloc(size_t size) {
    size_t at = (early_used + 63) / 64 * 64;
    if (size > sizeof early || at > sizeof early - size) return NULL;
    early_used = at + size;
    return early + at;
}

static bool is_early(const void *memory) {
    return (uintptr_t)memory >= (uintptr_t)early && (uintptr_t)memory < (uintptr_t)early + sizeof early;
}

/* The next definition of a symbol, as whatever type of function it is. */
#define RESOLVE(name) *(void **)(&real.name) = dlsym(RTLD_NEXT, #name)

/* False while it is at work. The first call comes before there are threads. */
static bool ready(void) {
    if (real.free) return true;
    if (resolving) return false;
    resolving = 1;
    RESOLVE(malloc);
    RESOLVE(calloc);
    RESOLVE(realloc);
    RESOLVE(aligned_alloc);
    RESOLVE(posix_memalign);
    RESOLVE(pthread_create);
    RESOLVE(free);
    resolving = 0;
    return true;
}

void *malloc(size_t size) {
    atomic_fetch_add(&calls, 1);
    return ready() ? real.malloc(size) : early_alloc(size);
}

void *calloc(size_t count, size_t size) {
    atomic_fetch_add(&calls, 1);
    if (ready()) return real.calloc(count, size);
    return size && count > SIZE_MAX / size ? NULL : early_alloc(count * size); /* static memory is zero */
}

void *realloc(void *memory, size_t size) {
    atomic_fetch_add(&calls, 1);
    if (!is_early(memory)) return ready() ? real.realloc(memory, size) : NULL;
    void *moved = malloc(size);
    size_t most = (size_t)(early + sizeof early - (char *)memory);
    if (moved) memcpy(moved, memory, size < most ? size : most);
    return moved;
}

void *aligned_alloc(size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    return ready() ? real.aligned_alloc(alignment, size) : NULL;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    return ready() ? real.posix_memalign(out, alignment, size) : ENOMEM;
}

void free(void *memory) {
    if (memory && !is_early(memory) && ready()) real.free(memory);
}

static bool no_threads;        /* are to be had */
static int refused, more_runs; /* threads, and how many were by the runs behind the first */

int pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    refused += no_threads;
    return no_threads || !ready() ? EAGAIN : real.pthread_create(out, attributes, start, argument);
}

static void do_nothing(void *argument) {
    (void)argument;
}

static void *run_without_threads(void *allocated) {
    no_threads = true;
    fr_team_run(3, do_nothing, NULL);
    unsigned long before = atomic_load(&calls);
    int before_refused = refused;
    for (int i = 0; i < 10; i++) fr_team_run(3, do_nothing, NULL);
    *(unsigned long *)allocated = atomic_load(&calls) - before;
    more_runs = refused - before_refused;
    no_threads = false;
    return NULL;
}

static void threads_that_are_not_to_be_had_are_asked_for_once(void **state) {
    (void)state;
    pthread_t caller;
    unsigned long allocated = 1;
    assert_int_equal(pthread_create(&caller, NULL, run_without_threads, &allocated), 0);
    assert_int_equal(pthread_join(caller, NULL), 0);
    assert_int_equal(refused, 1);
    assert_int_equal(more_runs, 0);
    assert_int_equal(allocated, 0);
}

/* As they do whenever one of them stays out and comes back. */
static void threads_go_to_other_places_without_allocating(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        fr_team_pin(i % 2 == 0);
        fr_team_run(2, do_nothing, NULL);
    }
    unsigned long before = atomic_load(&calls);
    for (int i = 0; i < 20; i++) {
        fr_team_pin(i % 2 == 0);
        fr_team_run(2, do_nothing, NULL);
    }
    fr_team_pin(false);
    assert_int_equal(atomic_load(&calls) - before, 0);
}

static void the_trap_counts_every_allocation(void **state) {
    (void)state;
    unsigned long before = atomic_load(&calls);
    void *volatile memory = malloc(10);
    free(memory);
    char *volatile copy = strdup("by the C library");
    free(copy);
    assert_int_equal(atomic_load(&calls) - before, 2);
    uint64_t own = fr_alloc_count();
    void *volatile aligned = fr_alloc(100);
    fr_free(aligned);
    assert_int_equal(fr_alloc_count() - own, 1);
    assert_int_equal(atomic_load(&calls) - before, 3);
}
#endif

static const struct {
    const char *what;
    fr_session_options options;
} plans[] = {
    {"mtp off", {.drafting = FR_DRAFTING_OFF}},
    {"mtp depth 1", {.drafting = FR_DRAFTING_ON, .depth = 1}},
    {"mtp depth 7", {.drafting = FR_DRAFTING_ON, .depth = 7, .kv = FR_KV_F32}},
    {"auto", {.drafting = FR_DRAFTING_AUTO}},
    {"sampled",
     {.drafting = FR_DRAFTING_ON,
      .depth = 3,
      .sampling = {.temperature = 0.8f, .top_k = 30, .top_p = 0.95f, .min_p = 0.01f, .repetition_penalty = 1.1f}}},
    {"rejection",
     {.drafting = FR_DRAFTING_ON, .depth = 3, .sampling = {.temperature = 0.8f, .top_p = 0.9f, .verify = FR_VERIFY_REJECTION}}},
};

enum { STEPS_MAKE = 40 };

/* A prefill of many rows and then steps; both must leave the counts where they were. (In a prefill pass
 * dnnl_brgemm_execute makes itself a short list at each call, which cannot be had otherwise.) */
static void check_session(const fr_model *model, const char *what, fr_session_options o, const golden *g, bool by_onednn) {
    o.ctx = g->length + STEPS_MAKE + 8;
    fr_session *session = driver_session(model, &o);
    unsigned long before = atomic_load(&calls);
    uint64_t own = fr_alloc_count();
    fr_status status = fr_session_prefill(session, g->tokens, (size_t)g->length, NULL);
    unsigned long prefill_calls = atomic_load(&calls) - before;
    uint64_t prefill_own = fr_alloc_count() - own;
    assert_int_equal(status, FR_OK);

    before = atomic_load(&calls);
    own = fr_alloc_count();
    int made = 0;
    while (made < STEPS_MAKE && status == FR_OK) {
        fr_step step = {0};
        status = fr_session_step(session, STEPS_MAKE - made, &step, NULL);
        made += step.count;
    }
    unsigned long step_calls = atomic_load(&calls) - before;
    uint64_t step_own = fr_alloc_count() - own;
    assert_int_equal(status, FR_OK);
    assert_int_equal(made, STEPS_MAKE);
    fr_session_destroy(session);
    if (prefill_own || (prefill_calls && !by_onednn) || step_own || step_calls)
        fail_msg("%s, %s: prefill allocated %lu times (%lu by fr_alloc), steps %lu times (%lu)", g->label, what, prefill_calls,
                 (unsigned long)prefill_own, step_calls, (unsigned long)step_own);
}

/* One session is made and used first: threads start with the first pass of a process, and keep what they allocate. */
static void steps_allocate_nothing(void **state) {
    (void)state;
    fr_isa best = driver_best_isa();
    static const char *const names[] = {"pico-noqlora-s1", "pico-mtp-s1", "pico-v32", "pico-glm52"};
    for (int i = 0; i < DRIVER_ISAS * 4; i++) {
        const char *name = names[i % 4];
        fr_isa isa = driver_isa(i / 4);
        fr_model *model = driver_open(name, isa, i % 2 ? FR_ACT_FP8 : FR_ACT_NONE, 2);
        if (!model) continue;
        bool by_onednn = driver_multiplies_by_onednn(isa);
        golden g;
        golden_load(name, 70, GOLDEN_F32, &g);
        fr_session_options o = {.ctx = 80};
        fr_session *first = driver_session(model, &o);
        driver_prefill(first, g.tokens, 70);
        fr_session_destroy(first);
        for (size_t j = 0; j < sizeof plans / sizeof plans[0]; j++) {
            if (isa == best || j == 1) check_session(model, plans[j].what, plans[j].options, &g, by_onednn);
        }
        for (int kind = 0; kind < FR_DRAFTER_COUNT; kind++) {
            fr_session_options any = {.drafting = FR_DRAFTING_ON, .drafter = (fr_drafter_kind)kind, .depth = 4};
            if (isa == best) check_session(model, fr_drafter_type_of(kind)->name, any, &g, by_onednn);
        }
        golden_release(&g);
        fr_model_destroy(model);
    }
}

/* With experts that are read into a cache with room for a few of them. */
static void streaming_allocates_nothing(void **state) {
    (void)state;
    char dir[512];
    golden g;
    golden_load("pico-mtp-s1", 70, GOLDEN_F32, &g);
    golden_model_dir("pico-mtp-s1", dir, sizeof dir);
    for (int kind = FR_READER_BEST; kind <= FR_READER_THREADS; kind += FR_READER_THREADS) {
        fr_model_options o = {
            .threads = 2, .weights = FR_WEIGHTS_STREAM, .expert_cache = 600 << 10, .reader = (fr_reader_kind)kind};
        fr_session_options any = {.ctx = 80};
        fr_model *model = NULL;
        assert_int_equal(fr_model_open(dir, &o, &model, NULL), FR_OK);
        fr_session *first = driver_session(model, &any);
        driver_prefill(first, g.tokens, 70);
        fr_session_destroy(first);
        for (int j = 0; j < 3; j++)
            check_session(model, plans[j].what, plans[j].options, &g, driver_multiplies_by_onednn(driver_best_isa()));
        fr_model_destroy(model);
    }
    golden_release(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#ifndef SANITIZED
        cmocka_unit_test(the_trap_counts_every_allocation),
        cmocka_unit_test(threads_that_are_not_to_be_had_are_asked_for_once),
        cmocka_unit_test(threads_go_to_other_places_without_allocating),
#endif
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(streaming_allocates_nothing),
    };
    return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
