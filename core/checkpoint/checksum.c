#include "core/checkpoint/checksum.h"

#include <pthread.h>

/* table[k][b]: what byte b does to the remainder when k more bytes come after it, so that eight bytes take eight
 * look-ups that do not wait for each other. */
static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        table[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++) table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 0xff];
}

uint32_t fr_crc32c(uint32_t crc, const void *bytes, size_t count) {
    const uint8_t *b = bytes;
    pthread_once(&table_once, fill_table);
    crc = ~crc;
    for (; count >= 8; count -= 8, b += 8)
        crc = table[7][b[0] ^ (crc & 0xff)] ^ table[6][b[1] ^ (crc >> 8 & 0xff)] ^ table[5][b[2] ^ (crc >> 16 & 0xff)] ^
              table[4][b[3] ^ crc >> 24] ^ table[3][b[4]] ^ table[2][b[5]] ^ table[1][b[6]] ^ table[0][b[7]];
    for (; count > 0; count--, b++) crc = crc >> 8 ^ table[0][(crc ^ *b) & 0xff];
    return ~crc;
}

uint64_t fr_hash64(uint64_t hash, const void *bytes, size_t count) {
    const uint8_t *b = bytes;
    for (size_t i = 0; i < count; i++) hash = (hash ^ b[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t fr_hash64_number(uint64_t hash, uint64_t number) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(number >> 8 * i);
    return fr_hash64(hash, bytes, sizeof bytes);
}
