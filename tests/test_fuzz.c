/* Runs the targets over files: tests/fuzz/corpus/TARGET, the seeds that libFuzzer begins with, and tests/fuzz/found/TARGET, all
 * inputs that ever did harm, by names that say what it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <sys/wait.h>

#include "fuzz/fuzz.h"
#include "scratch.h"

#define EACH_TARGET(X)                                                                                                           \
    X(ab)                                                                                                                        \
    X(accept)                                                                                                                    \
    X(checkpoint)                                                                                                                \
    X(compare)                                                                                                                   \
    X(config)                                                                                                                    \
    X(generation_config)                                                                                                         \
    X(index)                                                                                                                     \
    X(learned)                                                                                                                   \
    X(prompts)                                                                                                                   \
    X(safetensors)                                                                                                               \
    X(session)                                                                                                                   \
    X(tiktoken)                                                                                                                  \
    X(tokenizer)                                                                                                                 \
    X(tokenizer_config)

#define DECLARE(name) int fuzz_##name(const uint8_t *data, size_t size);
EACH_TARGET(DECLARE)

static const struct target {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
} targets[] = {
#define ROW(name) {#name, fuzz_##name},
    EACH_TARGET(ROW)};
enum { TARGETS = sizeof targets / sizeof *targets };

/* The file, in a block that ends where it ends, so that a look behind it shows. */
static void replay(const struct target *target, const char *path) {
    size_t size;
    char *text = scratch_read(path, &size);
    uint8_t *bytes = malloc(size ? size : 1);
    assert_non_null(bytes);
    memcpy(bytes, text, size);
    free(text);
    assert_int_equal(target->run(bytes, size), 0);
    free(bytes);
}

static int replay_folder(const struct target *target, const char *folder) {
    char dir[512], path[1024];
    int count = 0;
    snprintf(dir, sizeof dir, "%s/fuzz/%s/%s", FR_TEST_DIR, folder, target->name);
    DIR *open = opendir(dir);
    if (!open) return 0;
    for (struct dirent *entry; (entry = readdir(open));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        replay(target, path);
        count++;
    }
    closedir(open);
    return count;
}

static void replay_files(const struct target *target) {
    int seeds = replay_folder(target, "corpus");
    if (seeds == 0) fprintf(stderr, "%s: no seeds\n", target->name);
    if (seeds == 0) exit(1);
    replay_folder(target, "found");
}

static void replay_noise(const struct target *target) {
    uint8_t noise[256] = {0};
    uint32_t seed = 1;
    target->run(noise, 0);
    for (size_t size = 1; size <= sizeof noise; size *= 2) {
        for (size_t b = 0; b < size; b++) noise[b] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
        target->run(noise, size);
    }
}

/* Each target has a process, and with it a folder, of its own. */
static void each_target(void (*replays)(const struct target *)) {
    for (int i = 0; i < TARGETS; i++) {
        int status = 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            replays(&targets[i]);
            exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (status != 0) fail_msg("%s: status %x", targets[i].name, (unsigned)status);
    }
}

static void every_target_takes_its_seeds_and_what_once_did_harm(void **state) {
    (void)state;
    each_target(replay_files);
}

static void every_target_takes_nothing_and_noise(void **state) {
    (void)state;
    each_target(replay_noise);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_target_takes_its_seeds_and_what_once_did_harm),
        cmocka_unit_test(every_target_takes_nothing_and_noise),
    };
    return cmocka_run_group_tests_name("fuzz", tests, NULL, NULL);
}
