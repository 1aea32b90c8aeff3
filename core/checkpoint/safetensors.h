/* One safetensors file, mapped read-only: u64 little-endian header length, a JSON header {name: {dtype, shape,
 * data_offsets}} with an optional __metadata__, then the data. Offsets count from the end of the header; names come in
 * any order. */
#ifndef FR_CORE_CHECKPOINT_SAFETENSORS_H
#define FR_CORE_CHECKPOINT_SAFETENSORS_H

#include "core/dtype.h"
#include "core/mapping.h"
#include "core/status.h"
#include "forerun_checkpoint.h"

#define FR_MAX_RANK 4

typedef struct fr_tensor {
    const char *name;
    fr_dtype dtype;
    int rank;
    int64_t shape[FR_MAX_RANK];
    const void *data; /* inside the mapping; may be unaligned for its type: a file's data starts where its header ends */
    uint64_t bytes;
    int file;
    const void *part; /* a copy of the bytes from part_begin on, of which a rank needs no others; NULL: none */
    uint64_t part_begin;
} fr_tensor;

/* Whether the name of a tensor or file can be printed: not empty, no control characters. */
bool fr_name_is_plain(const char *name);
/* "BF16 [160, 320]" for messages. Returns `text`. */
const char *fr_tensor_describe(fr_dtype dtype, int rank, const int64_t *shape, char *text, size_t size);

/* The mapping lives until release. If something else truncates the file meanwhile, reading beyond its new end is a fault
 * (core/mapping.h): checkpoints are not to be modified while they are in use. */
typedef struct fr_safetensors {
    char *name; /* base name of the file */
    fr_mapping *mapping;
    void *map;           /* its bytes */
    uint64_t size;       /* of the file */
    uint64_t data_begin; /* offset of the first byte of data */
    uint64_t data_bytes; /* sum over tensors */
    fr_tensor *tensors;  /* [count] by where their data begins; file = the id that open was given */
    size_t count;
    size_t broken; /* entries that were reported and left out */
    char *names;   /* what the tensors' names point into */
} fr_safetensors;

/* Opens DIR/NAME and reads its header. Errors name the file and tensor: header cut off or too long, bad JSON, a name
 * twice, unknown dtype, rank above FR_MAX_RANK, negative, fractional or overflowing numbers, a byte count that dtype
 * and shape do not have, offsets outside the file, overlapping tensors. Bytes that belong to no tensor do no harm and
 * are allowed.
 *
 * With `report` (may be NULL) broken entries are reported and left out, and harmless violations of the format are reported; open
 * then fails only when nothing of the file can be used. */
fr_status fr_safetensors_open(const char *dir, const char *name, int file, fr_problem_fn report, void *user, fr_safetensors *out,
                              fr_error *error);
/* Takes a zeroed struct too. */
void fr_safetensors_release(fr_safetensors *st);

#endif
