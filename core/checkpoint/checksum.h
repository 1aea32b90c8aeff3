/* Checksums: to find damage in files, and to name many values by one. Neither is safe against somebody who wants a collision. */
#ifndef FR_CORE_CHECKPOINT_CHECKSUM_H
#define FR_CORE_CHECKPOINT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli, as in iSCSI: reflected 0x1EDC6F41) of bytes that come in pieces: pass 0 for the first piece, and the
 * result of the one before for each other. */
uint32_t fr_crc32c(uint32_t crc, const void *bytes, size_t count);

/* FNV-1a, 64 bits, likewise in pieces; the first one takes FR_HASH64_START. */
#define FR_HASH64_START UINT64_C(0xcbf29ce484222325)
uint64_t fr_hash64(uint64_t hash, const void *bytes, size_t count);
/* Of the eight bytes of a number, the lowest first. */
uint64_t fr_hash64_number(uint64_t hash, uint64_t number);

#endif
