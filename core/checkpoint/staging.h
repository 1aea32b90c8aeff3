/* The files of a directory that is being written: under temporary names until all of them are whole. Private to
 * core/checkpoint/safetensors_writer.c. */
#ifndef FR_CORE_CHECKPOINT_STAGING_H
#define FR_CORE_CHECKPOINT_STAGING_H

#include "core/status.h"

typedef struct fr_staging {
    char *dir;
    int dir_fd; /* -1: not open */
    bool made_dir, published;
    char **files; /* [num_files] that exist: the first num_named under their own names, the others under temporary ones */
    size_t num_files, num_named, room;
} fr_staging;

/* Makes the directory, or takes one that is empty or, with `force`, not. What a run that was killed left under temporary names is
 * removed. What failed is released by close. */
fr_status fr_staging_open(fr_staging *s, const char *dir, bool force, fr_error *error);
/* Unless all was published, removes what was written, and the directory if open made it. */
void fr_staging_close(fr_staging *s);

/* A new file, to be written and closed by the caller. */
fr_status fr_staging_create(fr_staging *s, const char *name, int *fd, fr_error *error);
/* The error that an errno stands for; FR_ERROR_IO. */
fr_status fr_staging_fail(const fr_staging *s, const char *name, int number, fr_error *error);
/* Closes a written file. What a disk has refused late comes out here, before the file gets its name. */
fr_status fr_staging_finish(const fr_staging *s, int fd, const char *name, fr_error *error);

/* Whole files. */
fr_status fr_staging_file(fr_staging *s, const char *name, const void *data, size_t bytes, fr_error *error);
fr_status fr_staging_copy(fr_staging *s, const char *from_dir, const char *name, fr_error *error);

/* Gives all files their names, in the order of their creation. `index` describes the others: one that is there already
 * describes files that are about to be replaced, and is removed first. */
fr_status fr_staging_publish(fr_staging *s, const char *index, fr_error *error);

#endif
