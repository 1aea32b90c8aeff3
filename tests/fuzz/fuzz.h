/* What the fuzz targets share. A target is a function that does with bytes what the program does with a file of its kind. It may
 * refuse them, with a message; it may not crash, leak, hang or take much memory. libFuzzer calls it with inputs that it makes up;
 * test_fuzz.c, in every build, with the seeds and with all inputs that once did harm. */
#ifndef FR_TESTS_FUZZ_H
#define FR_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "forerun.h"

#ifdef FUZZ_ENGINE
#define FUZZ_NAME(name) LLVMFuzzerTestOneInput
#else
#define FUZZ_NAME(name) fuzz_##name
#endif
/* Defines the target of a name. It returns 0. */
#define FUZZ_TARGET(name)                                                                                                        \
    int FUZZ_NAME(name)(const uint8_t *data, size_t size);                                                                       \
    int FUZZ_NAME(name)(const uint8_t *data, size_t size)

/* A folder in memory of this process alone, which goes with it. */
const char *fuzz_folder(void);
/* The path of a file in it; one of a few buffers that take turns. */
const char *fuzz_path(const char *name);
/* Writes such a file, over the one before, and returns its path. */
const char *fuzz_write(const char *name, const void *data, size_t size);
/* Copies tests/FROM into the folder, under a name. */
void fuzz_copy(const char *name, const char *from);
/* Whether a call succeeded. A failure has to say what is wrong, in one line. */
int fuzz_worked(fr_status status, const fr_error *error);

/* A small model with an MTP module, opened once. */
const fr_model *fuzz_model(void);
/* What the program prints on standard output goes nowhere. */
void fuzz_silence(void);
/* Evaluates a few tokens and goes on with drafts, if the model can: weights may be anything. */
void fuzz_generate(const fr_model *model);

#endif
