/* Writes a checkpoint directory: sharded safetensors with their index, and the small files beside them.
 *
 * Tensors are announced in order (add), which lays them out in shards (start); then their data is given in the same
 * order (put, fill), a shard at a time. Every file is written under a temporary name; finish gives all of them their
 * names, the index last, so that a directory with an index is a whole checkpoint. Destroying a writer that was not
 * finished removes what it wrote.
 *
 * A file's data starts at a multiple of 64 bytes and has no gaps. In it each tensor starts at a multiple of 64, or of the largest
 * power of two that divides its own size if that is less: tensors of odd sizes come last. */
#ifndef FR_CORE_CHECKPOINT_SAFETENSORS_WRITER_H
#define FR_CORE_CHECKPOINT_SAFETENSORS_WRITER_H

#include "core/dtype.h"
#include "core/status.h"

typedef struct fr_writer fr_writer;

typedef struct fr_writer_options {
    uint64_t shard_bytes; /* most data in a shard, unless one tensor alone has more; 0: 4.25 GB */
    bool sparse;          /* the data are holes in the files: nothing is put or filled */
    bool force;           /* write into a directory that is not empty; files of other names stay */
    int threads;          /* of fill; 0: physical cores */
} fr_writer_options;

typedef struct fr_writer_totals {
    uint64_t tensors, shards;
    uint64_t tensor_bytes; /* of data */
    uint64_t shard_bytes;  /* of the shards as files, headers included */
} fr_writer_totals;

/* Creates DIR, whose parent must exist, or uses it if it is an empty directory. */
fr_status fr_writer_create(const char *dir, const fr_writer_options *options, fr_writer **out, fr_error *error);
/* Unless finish succeeded, removes what was written, and the directory if create made it. Takes NULL. */
void fr_writer_destroy(fr_writer *writer);

/* Announces the next tensor. beside_last: in the shard of the one before it, as scales are with their weight. */
fr_status fr_writer_add(fr_writer *writer, const char *name, fr_dtype dtype, int rank, const int64_t *shape, bool beside_last,
                        fr_error *error);
/* Lays out the shards. Fails when the disk has less room than they take, or a name was added twice. */
fr_status fr_writer_start(fr_writer *writer, fr_error *error);

/* Writes all data of the next tensor. */
fr_status fr_writer_put(fr_writer *writer, const void *data, fr_error *error);
/* Writes the next tensor in pieces that `fn` makes: bytes [offset, offset + bytes) of the data to `out`, 64-byte aligned. It is
 * called from several threads, in any order; pieces begin at multiples of `unit`. */
typedef void (*fr_writer_fill_fn)(void *user, uint64_t offset, size_t bytes, void *out);
fr_status fr_writer_fill(fr_writer *writer, size_t unit, fr_writer_fill_fn fn, void *user, fr_error *error);

/* Writes another file of the directory, whole; or copies one from another directory. */
fr_status fr_writer_file(fr_writer *writer, const char *name, const void *data, size_t bytes, fr_error *error);
fr_status fr_writer_copy(fr_writer *writer, const char *from_dir, const char *name, fr_error *error);

/* To be called when every tensor has its data. Writes the index and gives all files their names. *totals may be NULL. */
fr_status fr_writer_finish(fr_writer *writer, fr_writer_totals *totals, fr_error *error);

#endif
