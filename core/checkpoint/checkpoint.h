/* A checkpoint directory: safetensors files, one or many, mapped read-only, with one index over all of them. Opening
 * reads headers only; weights are read when they are touched, unless they are loaded before. */
#ifndef FR_CORE_CHECKPOINT_CHECKPOINT_H
#define FR_CORE_CHECKPOINT_CHECKPOINT_H

#include "core/checkpoint/safetensors.h" /* fr_tensor */
#include "core/notices.h"
#include "core/status.h"
#include "forerun_checkpoint.h"

typedef struct fr_checkpoint fr_checkpoint;

/* Opens DIR/model.safetensors.index.json with its shards, or DIR/model.safetensors. Checks each header: offsets inside
 * the file, none overlapping, byte counts that match dtype and shape, no name twice, index and shards in agreement. */
fr_status fr_checkpoint_open(const char *dir, fr_checkpoint **out, fr_error *error);

typedef struct fr_open_options {
    /* What is wrong with shards, tensors or the index is handed to `report` and left out of *out; opening then fails only when
     * there is no checkpoint at all (or no memory). A tensor without a problem of its own, which is NULL, is lost with its file,
     * of which one problem tells. NULL: the first problem is an error. */
    fr_problem_fn report;
    void *user;
    /* Look for mtp*.safetensors that the index does not name. Their tensors count as if it did, if no other file has one of layer
     * mtp_layer; -1: the config announces no MTP module. What is found is noticed either way. */
    bool look_beside;
    int mtp_layer;
    fr_notices *notices;
} fr_open_options;
fr_status fr_checkpoint_open_with(const char *dir, const fr_open_options *options, fr_checkpoint **out, fr_error *error);
void fr_checkpoint_destroy(fr_checkpoint *checkpoint);

const fr_tensor *fr_checkpoint_find(const fr_checkpoint *checkpoint, const char *name); /* NULL: none */
size_t fr_checkpoint_count(const fr_checkpoint *checkpoint);
const fr_tensor *fr_checkpoint_at(const fr_checkpoint *checkpoint, size_t i); /* by name, numbers by value */
const char *fr_checkpoint_file(const fr_checkpoint *checkpoint, int file);    /* base name */
int fr_checkpoint_num_files(const fr_checkpoint *checkpoint);
const char *fr_checkpoint_dir(const fr_checkpoint *checkpoint);
/* The file and the offset in it that an address of a tensor's data stands for; false when it is not in the mapping of one. */
bool fr_checkpoint_locate(const fr_checkpoint *checkpoint, const void *data, int *file, uint64_t *offset);
uint64_t fr_checkpoint_bytes(const fr_checkpoint *checkpoint);

/* Finds a tensor of a given shape, whose dtype is one of a mask (1u << FR_BF16 | ...). The error names tensor, file, expected and
 * actual. */
fr_status fr_checkpoint_get(const fr_checkpoint *checkpoint, const char *name, unsigned dtypes, int rank, const int64_t *shape,
                            const fr_tensor **out, fr_error *error);

/* Whether all that was read of the mapped files was there to be read: else the error names file, tensor and the likely cause, and
 * what was computed from them since the checkpoint was opened is not to be used (core/mapping.h). */
fr_status fr_checkpoint_still_whole(const fr_checkpoint *checkpoint, fr_error *error);

/* ---- Weights in memory before they are used ---- */

/* Bytes [begin, end) of a tensor. */
typedef struct fr_part {
    uint64_t begin, end;
} fr_part;

typedef struct fr_load_options {
    const bool *wanted;   /* [fr_checkpoint_count]: which tensors */
    const fr_part *parts; /* [fr_checkpoint_count]: and what of them; NULL: all */
    int threads;
    const struct fr_topology *topology; /* copy: spread over its memory nodes, if it has several; NULL: not known */
    int *nodes;                         /* copy: how many that were, 1 if it was not spread; NULL: nobody asks */
    bool keep_cache;         /* copy: leave what was read in the page cache too; otherwise it is dropped, piece by piece */
    fr_progress_fn progress; /* counts MiB; called from the caller's thread, last with all done */
    void *user;
} fr_load_options;

/* Copies tensors into anonymous memory of the checkpoint's own, in huge pages where the system has them, each tensor
 * 64-byte aligned. Their `data`, or of those with a part alone `part`, then point to the copies: what was bound before has to be
 * bound again. To be called once; after a failure the checkpoint is as before. */
fr_status fr_checkpoint_copy(fr_checkpoint *checkpoint, const fr_load_options *options, fr_error *error);
/* The bytes that fr_checkpoint_copy allocates. */
uint64_t fr_checkpoint_copy_bytes(const fr_checkpoint *checkpoint, const bool *wanted, const fr_part *parts);
/* Asks for huge pages under the mapping. Systems that keep files in large folios (Linux: XFS and Btrfs, ext4 from 6.16 on) use
 * them for what is read from now on; what is already cached stays in small pages. */
void fr_checkpoint_want_huge_pages(fr_checkpoint *checkpoint);
/* Whether the system reads on behind what is touched, as it does from the start: for the few places that opening looks at, in
 * files of gigabytes, it can be megabytes each. */
void fr_checkpoint_read_ahead(fr_checkpoint *checkpoint, bool ahead);
/* Reads all wanted tensors now and maps their pages; they stay in the mapping. */
fr_status fr_checkpoint_populate(fr_checkpoint *checkpoint, const fr_load_options *options, fr_error *error);

#endif
