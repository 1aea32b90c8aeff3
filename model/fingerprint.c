#include "model/fingerprint.h"

#include <string.h>

#include "core/checkpoint/checksum.h"

enum { SAMPLES = 256, SAMPLE_BYTES = 64 };

static uint64_t add_text(uint64_t hash, const char *text) {
    return fr_hash64(hash, text, strlen(text) + 1); /* the NUL ends it: "ab", "c" is not "a", "bc" */
}

uint64_t fr_model_fingerprint(const fr_model *model) {
    const fr_checkpoint *checkpoint = model->checkpoint;
    size_t count = fr_checkpoint_count(checkpoint), samples = count < SAMPLES ? count : SAMPLES;
    uint64_t hash = fr_config_hash(FR_HASH64_START, &model->config);
    for (size_t i = 0; i < count; i++) {
        const fr_tensor *tensor = fr_checkpoint_at(checkpoint, i);
        hash = add_text(add_text(hash, tensor->name), fr_dtype_name(tensor->dtype));
        hash = fr_hash64_number(hash, (uint64_t)tensor->rank);
        for (int d = 0; d < tensor->rank; d++) hash = fr_hash64_number(hash, (uint64_t)tensor->shape[d]);
    }
    for (size_t k = 0; k < samples; k++) { /* from the middle: tensors may begin with padding */
        const fr_tensor *tensor = fr_checkpoint_at(checkpoint, k * count / samples);
        uint64_t bytes = tensor->bytes < SAMPLE_BYTES ? tensor->bytes : SAMPLE_BYTES;
        hash = fr_hash64(hash, (const char *)tensor->data + (tensor->bytes - bytes) / 2, (size_t)bytes);
    }
    return hash;
}
