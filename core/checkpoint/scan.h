/* Reading all of a checkpoint once, by all threads, as it lies in its files. It is read, not mapped: what cannot be read is an
 * error of the piece, and the others are read all the same. */
#ifndef FR_CORE_CHECKPOINT_SCAN_H
#define FR_CORE_CHECKPOINT_SCAN_H

#include "core/checkpoint/checkpoint.h"

#define FR_SCAN_BYTES (1u << 20) /* at most, of a piece: it stays in a core's cache while it is looked at */

/* Bytes [at, at + count) of a tensor; error: an errno, and -1 where the file has ended, of a piece that could not be read. */
typedef struct fr_scan_piece {
    size_t tensor; /* as fr_checkpoint_at counts */
    uint64_t at;
    const uint8_t *data;
    size_t count;
    int error;
} fr_scan_piece;

typedef struct fr_scan_options {
    const size_t *order; /* [num_tensors]: tensors, as fr_checkpoint_order gives them */
    size_t num_tensors;
    int threads;
    void (*look)(void *user, const fr_scan_piece *piece); /* any thread; each piece once */
    bool (*go_on)(void *user);                            /* the caller's thread, between pieces; false ends it */
    void *user;
} fr_scan_options;

/* order [fr_checkpoint_count]: all tensors as they lie in the files. */
void fr_checkpoint_order(const fr_checkpoint *checkpoint, size_t *order);
/* Returns when all pieces were looked at: FR_ERROR_MEMORY, or FR_INTERRUPTED where go_on said so. */
fr_status fr_checkpoint_scan(const fr_checkpoint *checkpoint, const fr_scan_options *options, fr_error *error);

#endif
