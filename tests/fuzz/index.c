/* model.safetensors.index.json, beside two shards that are whole, a damaged one and a link that leads back to itself. */
#include <string.h>
#include <unistd.h>

#include "core/checkpoint/checkpoint.h"
#include "fuzz.h"

static void write_shard(const char *name, const char *header) {
    uint8_t bytes[256] = {0};
    size_t length = strlen(header);
    bytes[0] = (uint8_t)length;
    memcpy(bytes + 8, header, length);
    fuzz_write(name, bytes, 8 + length + 8);
}

static void write_shards(void) {
    static int written;
    if (written++) return;
    write_shard("a.safetensors", "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                 "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}");
    write_shard("b.safetensors", "{\"z\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}");
    fuzz_write("c.safetensors", "GGUF", 4);
    if (symlink("d.safetensors", fuzz_path("d.safetensors")) != 0) return;
}

static void ignore(void *user, const fr_problem *problem) {
    (void)user;
    (void)problem;
}

FUZZ_TARGET(index) {
    fr_error error;
    write_shards();
    fuzz_write("model.safetensors.index.json", data, size);
    for (int reporting = 0; reporting < 2; reporting++) {
        fr_open_options options = {.report = reporting ? ignore : NULL, .mtp_layer = -1, .look_beside = true};
        fr_checkpoint *checkpoint;
        if (!fuzz_worked(fr_checkpoint_open_with(fuzz_folder(), &options, &checkpoint, &error), &error)) continue;
        for (size_t i = 0; i < fr_checkpoint_count(checkpoint); i++)
            fr_checkpoint_find(checkpoint, fr_checkpoint_at(checkpoint, i)->name);
        fr_checkpoint_destroy(checkpoint);
    }
    return 0;
}
