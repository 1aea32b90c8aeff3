/* What a checkpoint is made of. Private to core/checkpoint/checkpoint*.c. */
#ifndef FR_CORE_CHECKPOINT_PRIVATE_H
#define FR_CORE_CHECKPOINT_PRIVATE_H

#include "core/checkpoint/checkpoint.h"

struct fr_checkpoint {
    char *dir;
    fr_safetensors *files; /* [num_files]; own the names of the tensors */
    int num_files;
    fr_tensor *tensors; /* [count] by name, numbers by value; addresses stay while the checkpoint lives */
    size_t count;
    uint32_t *table; /* open addressing: index + 1 into tensors, 0 for a free slot; at most half full */
    size_t mask;
    uint64_t bytes;
    void *copy; /* what fr_checkpoint_copy mapped; NULL: nothing */
    uint64_t copy_bytes;
};

/* "FILE: tensor NAME" of what is at an offset of a file, while tensors are in the mapping; of other bytes "FILE". */
fr_place fr_checkpoint_place(const fr_checkpoint *checkpoint, int file, uint64_t offset);

/* For qsort_r of numbers of tensors: as they lie in the files. */
int fr_checkpoint_by_place(const void *a, const void *b, void *checkpoint);

#endif
