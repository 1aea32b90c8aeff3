/* One safetensors file. What begins with a brace is a header up to the last brace, with data behind it, and gets its length in
 * front; all else is the file as it is. */
#include "core/checkpoint/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static void write_file(const uint8_t *data, size_t size) {
    if (size == 0 || data[0] != '{') {
        fuzz_write("x.safetensors", data, size);
        return;
    }
    const uint8_t *last = memrchr(data, '}', size);
    uint64_t length = last ? (uint64_t)(last - data) + 1 : size;
    uint8_t *bytes = malloc(size + 8);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(length >> 8 * i);
    memcpy(bytes + 8, data, size);
    fuzz_write("x.safetensors", bytes, size + 8);
    free(bytes);
}

static void count(void *user, const fr_problem *problem) {
    size_t *problems = user;
    *problems += strlen(problem->tensor) + strlen(problem->file) + strlen(problem->problem) > 0;
}

/* Reads what a tensor is said to have. */
static void touch(const fr_safetensors *file) {
    volatile uint8_t sum = 0;
    char text[256];
    for (size_t i = 0; i < file->count; i++) {
        const fr_tensor *tensor = &file->tensors[i];
        const uint8_t *bytes = tensor->data;
        fr_tensor_describe(tensor->dtype, tensor->rank, tensor->shape, text, sizeof text);
        if (tensor->bytes) sum = (uint8_t)(sum + bytes[0] + bytes[tensor->bytes - 1]);
    }
}

FUZZ_TARGET(safetensors) {
    fr_safetensors file;
    fr_error error;
    size_t problems = 0;
    write_file(data, size);
    for (int reporting = 0; reporting < 2; reporting++) {
        fr_status status =
            fr_safetensors_open(fuzz_folder(), "x.safetensors", 0, reporting ? count : NULL, &problems, &file, &error);
        if (!fuzz_worked(status, &error)) continue;
        touch(&file);
        fr_safetensors_release(&file);
    }
    return 0;
}
