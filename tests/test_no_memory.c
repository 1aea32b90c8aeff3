/* Every allocation fails in turn, alone and with all that follow it, while a checkpoint is opened, planned, inspected and
 * checked, a tokenizer read and a session created: an error, no crash, and (with AddressSanitizer) nothing that is not released.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "forerun.h"
#include "forerun_checkpoint.h"
#include "scratch.h"

/* ---- Allocations that fail ---- */

static atomic_long left = -1; /* allocations until one fails; negative: none does */
static atomic_bool failed, failing;
static bool all_fail;   /* those behind it, too */
static long apart = 29; /* every 29th: all of them take a minute, or much longer with a sanitizer */

static bool fails(void) {
    if (atomic_load(&failing)) return true;
    if (atomic_load(&left) < 0 || atomic_fetch_sub(&left, 1) != 0) return false;
    atomic_store(&failed, true);
    atomic_store(&failing, all_fail);
    errno = ENOMEM;
    return true;
}

#define REPLACES __attribute__((visibility("default")))
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(SANITIZED) || defined(__SANITIZE_ADDRESS__)
/* AddressSanitizer's own, whose usual names are weak. */
#define REAL(type, name, ...)                                                                                                    \
    type __interceptor_##name(__VA_ARGS__);                                                                                      \
    static type (*const real_##name)(__VA_ARGS__) = __interceptor_##name;
REAL(void *, malloc, size_t)
REAL(void *, calloc, size_t, size_t)
REAL(void *, realloc, void *, size_t)
REAL(void *, aligned_alloc, size_t, size_t)
REAL(int, posix_memalign, void **, size_t, size_t)
#define real(name) real_##name
#else
static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
} next;
/* The next definition of a function, as whatever type it is. The first call comes before there are threads. */
static void resolve(void) {
    *(void **)(&next.calloc) = dlsym(RTLD_NEXT, "calloc");
    *(void **)(&next.malloc) = dlsym(RTLD_NEXT, "malloc");
    *(void **)(&next.realloc) = dlsym(RTLD_NEXT, "realloc");
    *(void **)(&next.aligned_alloc) = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)(&next.posix_memalign) = dlsym(RTLD_NEXT, "posix_memalign");
}
#define real(name) (next.name ? (void)0 : resolve(), next.name)
#endif

REPLACES void *malloc(size_t size);
REPLACES void *calloc(size_t count, size_t size);
REPLACES void *realloc(void *memory, size_t size);
REPLACES void *aligned_alloc(size_t alignment, size_t size);
REPLACES int posix_memalign(void **out, size_t alignment, size_t size);

void *malloc(size_t size) {
    return fails() ? NULL : real(malloc)(size);
}

void *calloc(size_t count, size_t size) {
    return fails() ? NULL : real(calloc)(count, size);
}

void *realloc(void *memory, size_t size) {
    return fails() ? NULL : real(realloc)(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return fails() ? NULL : real(aligned_alloc)(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    return fails() ? ENOMEM : real(posix_memalign)(out, alignment, size);
}

/* hwloc does not look whether it gets its memory: it gets all. (The linker puts this in the place of calls of ours.) */
struct fr_topology;
struct fr_topology *__wrap_fr_topology_open(void);
struct fr_topology *__real_fr_topology_open(void);
struct fr_topology *__wrap_fr_topology_open(void) {
    long kept = atomic_exchange(&left, -1);
    bool was_failing = atomic_exchange(&failing, false);
    struct fr_topology *topology = __real_fr_topology_open();
    atomic_store(&left, kept);
    atomic_store(&failing, was_failing);
    return topology;
}

/* ---- What is done meanwhile ---- */

/* Whatever it is called with, an action's results are released. */
typedef fr_status action(const char *dir, fr_error *error);

static fr_status open_and_create(const char *dir, fr_weights weights, fr_error *error) {
    fr_model *model = NULL;
    fr_session *session = NULL;
    fr_session_options o = {.ctx = 64, .depth = 2, .sampling.temperature = 0.8f};
    fr_model_options m = {.threads = 1, .weights = weights, .session = &o, .no_pin = true, .isa = FR_ISA_SCALAR};
    fr_status status = fr_model_open(dir, &m, &model, error);
    if (status != FR_OK) return status;
    status = fr_session_create(model, &o, &session, error);
    if (status == FR_OK) fr_session_destroy(session);
    fr_model_destroy(model);
    return status;
}

static fr_status open_mapped(const char *dir, fr_error *error) {
    return open_and_create(dir, FR_WEIGHTS_MMAP, error);
}

static fr_status open_copied(const char *dir, fr_error *error) {
    return open_and_create(dir, FR_WEIGHTS_COPY, error);
}

static fr_status read_tokenizer(const char *dir, fr_error *error) {
    fr_model *model = NULL;
    int32_t *tokens = NULL;
    size_t count;
    fr_status status = fr_model_open_tokenizer(dir, NULL, &model, error);
    if (status != FR_OK) return status;
    status = fr_tokenize(model, "One text, of 3 lines.\n", 22, true, &tokens, &count, error);
    if (status == FR_OK) fr_free(tokens);
    fr_model_destroy(model);
    return status;
}

static fr_status inspect_and_plan(const char *dir, fr_error *error) {
    fr_inspection *inspection = NULL;
    fr_memory_plan plan;
    fr_status status = fr_inspect(dir, &inspection, error);
    if (status != FR_OK) return status;
    status = fr_plan_memory(inspection, NULL, NULL, &plan, error);
    fr_inspection_destroy(inspection);
    return status;
}

static void no_problem(void *user, const fr_problem *problem) {
    (void)user;
    atomic_store(&left, -1); /* what it prints is not what is tested */
    atomic_store(&failing, false);
    fail_msg("a sound checkpoint has a problem: %s", problem->problem);
}

static fr_status check(const char *dir, fr_error *error) {
    return fr_check(dir, 1, no_problem, NULL, NULL, NULL, NULL, NULL, error);
}

/* ---- The tests ---- */

/* Every `stride`th allocation. */
static void run(action *act, const char *what, const char *dir, long stride) {
    long count = 0, tolerated = 0;
    fr_error error;
    assert_int_equal(act(dir, &error), FR_OK); /* what is made once for the process */
    for (all_fail = false;; all_fail = true) {
        for (long n = 0;; n += stride) {
            error = (fr_error){.status = FR_OK};
            atomic_store(&failed, false);
            atomic_store(&left, n);
            fr_status status = act(dir, &error);
            atomic_store(&left, -1);
            atomic_store(&failing, false);
            if (!atomic_load(&failed)) {
                if (status != FR_OK) fail_msg("%s of %s, and nothing failed: %s", what, dir, error.message);
                break;
            }
            count++;
            tolerated += status == FR_OK;
            if (status == FR_ERROR_MEMORY ? !error.message[0] : status != FR_OK)
                fail_msg("%s of %s, allocation %ld%s: %s: %s", what, dir, n, all_fail ? " and all others" : "",
                         fr_status_name(status), error.message);
        }
        if (all_fail) break;
    }
    print_message("%s of %s: %ld allocations failed, %ld could be done without\n", what, strrchr(dir, '/') + 1, count, tolerated);
}

static void run_all(const char *dir, long stride) {
    run(open_mapped, "opening", dir, stride);
    run(open_copied, "copying", dir, 7 * stride);
    run(read_tokenizer, "the tokenizer", dir, stride);
    run(inspect_and_plan, "inspecting", dir, stride);
    run(check, "checking", dir, stride);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    run_all(FR_TEST_DIR "/golden/pico-mtp-s1", apart);
}

static void so_it_is_with_the_neighbours(void **state) {
    (void)state;
    static const char *const models[] = {"pico-v32", "pico-glm52", "pico-kimi", "pico-gigachat", "pico-noqlora-s1"};
    char dir[512];
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        snprintf(dir, sizeof dir, "%s/golden/%s", FR_TEST_DIR, models[i]);
        run_all(dir, 7 * apart);
    }
}

static void so_it_is_with_the_demo_model(void **state) {
    (void)state;
    run_all(FR_TEST_DIR "/../models/demo", 101 * apart);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(so_it_is_with_the_neighbours),
        cmocka_unit_test(so_it_is_with_the_demo_model),
    };
    if (argc > 1 && strcmp(argv[1], "full") == 0) apart = 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
