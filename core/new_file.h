/* Writing files. A new file takes the place of an old one as a whole or not at all, whatever ends the program meanwhile.
 *
 * It is written under a temporary name beside the old one, ".NAME.partial", and renamed when it is whole. What a killed program
 * left under that name is taken over by the next one that writes the same file: the writer holds a lock on it, which ends with
 * its process. One that writes the same file at the same time takes ".NAME.partial1", and so on. */
#ifndef FR_CORE_NEW_FILE_H
#define FR_CORE_NEW_FILE_H

#include "core/status.h"

typedef struct fr_new_file {
    const char *path; /* whose place it takes; the caller's */
    char *linked;     /* the file that a link of that name leads to, and whose place it takes; NULL: that is no link */
    char *temporary;  /* NULL: what is there is a device or a pipe, and written as it is */
    int fd;           /* -1: not open */
} fr_new_file;

/* An empty file; *path must outlive it. */
fr_status fr_new_file_open(fr_new_file *file, const char *path, fr_error *error);
/* Gives it its name, and releases it in any case. durable: it is on the disk when this returns, whatever happens to the machine
 * afterwards; otherwise old or new may be there then. On an error the old file is as it was. */
fr_status fr_new_file_finish(fr_new_file *file, bool durable, fr_error *error);
/* Removes it; takes one that is not open too. */
void fr_new_file_discard(fr_new_file *file);

/* All of it, of a text or other bytes. */
fr_status fr_replace_file(const char *path, const void *bytes, size_t count, bool durable, fr_error *error);

/* Write all bytes, behind what was written last or at an offset. Return 0 or an errno. Any thread. */
int fr_write(int fd, const void *bytes, uint64_t count);
int fr_write_at(int fd, const void *bytes, uint64_t count, uint64_t offset);
/* The error that an errno stands for, with a hint where there is one; FR_ERROR_IO. */
fr_status fr_fail_write(fr_error *error, const char *path, int number);
/* A name in a folder is on disk when the folder is. Returns 0 or an errno; what cannot be synced or opened need not be. */
int fr_sync_folder(const char *folder);

/* The name of a file while it is written: "DIR/.NAME.partial" and, from the second on, a number. NULL: no memory. Released with
 * free. */
char *fr_partial_name(const char *path, int number);

#endif
