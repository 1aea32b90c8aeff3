/* Byte-pair encoding: a piece starts as the tokens of its bytes. The adjacent pair with the lowest-ranked merge (the leftmost of
 * equals) becomes one token, until no adjacent pair has a merge. */
#ifndef FR_TEXT_BPE_H
#define FR_TEXT_BPE_H

#include "core/status.h"

#define FR_BPE_NO_MERGE UINT32_MAX

typedef struct fr_bpe_merge {
    uint64_t pair; /* left token << 32 | right token */
    uint32_t rank; /* FR_BPE_NO_MERGE: a free slot */
    int32_t id;    /* of the merged token */
} fr_bpe_merge;

typedef struct fr_bpe {
    int32_t byte_id[256];
    fr_bpe_merge *merges; /* hash table [1 << (64 - shift)], at most half of it taken */
    int shift;
} fr_bpe;

/* Working memory of one caller; valid when zeroed, released by fr_bpe_scratch_release. */
typedef struct fr_bpe_scratch {
    void *memory;
    size_t bytes;
} fr_bpe_scratch;

/* For at most `count` merges; byte_id is the caller's to fill. */
fr_status fr_bpe_create(fr_bpe *bpe, size_t count, fr_error *error);
void fr_bpe_release(fr_bpe *bpe);
/* A pair that comes twice has its last rank. rank < FR_BPE_NO_MERGE. */
void fr_bpe_add(fr_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id);

/* Tokens of piece [length], length < 2^31, written to ids, which has room for `length`. Takes O(length log length). */
fr_status fr_bpe_encode(const fr_bpe *bpe, const uint8_t *piece, size_t length, fr_bpe_scratch *scratch, int32_t *ids,
                        size_t *count, fr_error *error);
void fr_bpe_scratch_release(fr_bpe_scratch *scratch);

#endif
