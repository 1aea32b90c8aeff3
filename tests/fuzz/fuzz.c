#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scratch.h"

static void check(bool fine, const char *what) {
    if (fine) return;
    fprintf(stderr, "fuzz: %s: %s\n", what, strerror(errno));
    abort();
}

/* ---- The folder ---- */

static scratch folder;

static void remove_folder(void) {
    scratch_destroy(&folder);
}

const char *fuzz_folder(void) {
    if (*folder.dir) return folder.dir;
    snprintf(folder.dir, sizeof folder.dir, "/dev/shm/forerun-fuzz-XXXXXX");
    if (!mkdtemp(folder.dir)) folder = scratch_create(); /* a system without one */
    atexit(remove_folder);
    return folder.dir;
}

const char *fuzz_path(const char *name) {
    fuzz_folder();
    return scratch_path(&folder, name);
}

const char *fuzz_write(const char *name, const void *data, size_t size) {
    const char *path = fuzz_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0, path);
    return path;
}

void fuzz_copy(const char *name, const char *from) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", FR_TEST_DIR, from);
    fuzz_folder();
    scratch_copy_file(&folder, name, path);
}

/* ---- What every target does ---- */

int fuzz_worked(fr_status status, const fr_error *error) {
    if (status == FR_OK) return 1;
    check(error->status == status, "the error has another status");
    check(*error->message && !strchr(error->message, '\n'), "the error has no message of one line");
    return 0;
}

const fr_model *fuzz_model(void) {
    static fr_model *model;
    fr_error error;
    if (!model &&
        !fuzz_worked(fr_model_open(FR_TEST_DIR "/golden/pico-mtp-s1", &(fr_model_options){.threads = 1}, &model, &error), &error))
        check(false, error.message);
    return model;
}

void fuzz_silence(void) {
    static bool silent;
    int fd = silent ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) dup2(fd, STDOUT_FILENO);
    if (fd >= 0) close(fd);
    silent = true;
}

void fuzz_generate(const fr_model *model) {
    static const int32_t tokens[] = {1, 2, 3, 2, 1};
    fr_session_options options = {.ctx = 16, .drafting = FR_DRAFTING_ON, .depth = 2};
    fr_session *session;
    fr_error error;
    fr_step step;
    if (!fuzz_worked(fr_session_create(model, &options, &session, &error), &error)) return;
    bool goes_on = fuzz_worked(fr_session_prefill(session, tokens, 5, &error), &error);
    for (int i = 0; i < 3 && goes_on; i++) goes_on = fuzz_worked(fr_session_step(session, 8, &step, &error), &error);
    fr_session_destroy(session);
}
