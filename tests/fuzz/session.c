/* A session file whose magic, size and checksums are made right, and whose model is ours, so that what is inside counts. What can
 * be loaded goes on and is saved again. */
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/checksum.h"
#include "fuzz.h"
#include "model/fingerprint.h"

enum { HEADER = 128, FINGERPRINT_AT = 16, BYTES_AT = 24, PAYLOAD_CRC_AT = 96, HEADER_CRC_AT = 124 };

static void put(uint8_t *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> 8 * i);
}

/* The first byte's lowest bit: only the checksums are made right. */
static uint8_t *repair(const uint8_t *data, size_t size) {
    static const uint8_t magic[8] = {0x89, 'F', 'R', 'S', 'E', 'S', 'S', '\n'};
    uint8_t *bytes = malloc(size + 1);
    if (size) memcpy(bytes, data, size);
    if (size < HEADER) return bytes;
    if (bytes[0] & 1) {
        memcpy(bytes, magic, sizeof magic);
        put(bytes + 8, 1, 4);
        put(bytes + 12, HEADER, 4);
        put(bytes + FINGERPRINT_AT, fr_model_fingerprint(fuzz_model()), 8);
        put(bytes + BYTES_AT, size, 8);
    }
    put(bytes + PAYLOAD_CRC_AT, fr_crc32c(0, bytes + HEADER, size - HEADER), 4);
    put(bytes + HEADER_CRC_AT, fr_crc32c(0, bytes, HEADER_CRC_AT), 4);
    return bytes;
}

static void go_on(fr_session *session) {
    fr_error error;
    fr_step step;
    for (int i = 0; i < 2; i++)
        if (!fuzz_worked(fr_session_step(session, 4, &step, &error), &error)) return;
    fuzz_worked(fr_session_save(session, fuzz_path("again"), &error), &error);
}

FUZZ_TARGET(session) {
    static fr_session *with, *without;
    fr_session_options options = {.ctx = 16, .drafting = FR_DRAFTING_ON, .depth = 2};
    fr_error error;
    uint8_t *bytes = repair(data, size);
    const char *path = fuzz_write("session", bytes, size);
    if (!with) fr_session_create(fuzz_model(), &options, &with, &error);
    options.drafting = FR_DRAFTING_OFF;
    if (!without) fr_session_create(fuzz_model(), &options, &without, &error);
    if (fuzz_worked(fr_session_load(with, path, &error), &error)) go_on(with);
    if (fuzz_worked(fr_session_load(without, path, &error), &error)) go_on(without);
    free(bytes);
    return 0;
}
