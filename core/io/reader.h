/* Reads ranges of files while its callers compute: by io_uring where that is allowed, else by a pool of threads that call pread;
 * past the page cache (O_DIRECT) where the file system can do that. Ranges are cut into pieces, so that what is needed now waits
 * for no more than the pieces in flight, whatever was asked for before it.
 *
 * The memory of a read is as far into its page as the range is into the file's (`to` and `offset` are equal modulo
 * FR_READ_PAGE), and the rest of the first and last page is the reader's to write to. */
#ifndef FR_CORE_IO_READER_H
#define FR_CORE_IO_READER_H

#include <stdatomic.h>

#include "core/notices.h"

#define FR_READ_PAGE 4096u
#define FR_READ_PIECE (1u << 20) /* bytes that are in flight as one */

typedef enum fr_read_state { FR_READ_IDLE = 0, FR_READ_ASKED, FR_READ_DONE, FR_READ_FAILED } fr_read_state;

/* Owned by the caller, who leaves it alone from submit until its state is done, failed or (once canceled) idle. */
typedef struct fr_read {
    int file;
    uint64_t offset, bytes;
    char *to;
    _Atomic fr_read_state state;
    int error;          /* failed: an errno; 0: the file ended before the range did */
    uint64_t failed_at; /* failed: offset in the file */
    /* The reader's own. */
    uint64_t issued; /* bytes from the first page on that are in pieces */
    int in_flight;   /* pieces */
    bool urgent, listed, canceled;
    struct fr_read *before, *after;
} fr_read;

typedef struct fr_reader_options {
    fr_reader_kind kind; /* io_uring where it is not allowed is an error; that the best is another is noticed */
    bool cached;         /* through the page cache */
    char *memory;        /* of all reads to come, which the kernel is told of once; NULL: not known */
    uint64_t memory_bytes;
    fr_notices *notices; /* of what the system does not allow */
} fr_reader_options;

typedef struct fr_reader fr_reader;

/* paths [files]: opened one after the other; a NULL is a file that nothing is read from. */
fr_status fr_reader_create(const char *const *paths, int files, const fr_reader_options *options, fr_reader **out,
                           fr_error *error);
/* Waits for the pieces in flight; reads that are not done stay as they are. Takes NULL. */
void fr_reader_destroy(fr_reader *reader);
/* "io_uring, O_DIRECT", for people. */
const char *fr_reader_describe(const fr_reader *reader);

/* Any thread. Urgent reads go before all others; among each other they go in the order of asking. Nothing is allocated. */
void fr_reader_submit(fr_reader *reader, fr_read *read, bool urgent);
/* Makes a read urgent that was not, or goes on with one that was canceled and still has pieces in flight. One that is over is
 * left alone. */
void fr_reader_hurry(fr_reader *reader, fr_read *read);
/* Gives up the pieces of a read that are not in flight yet. It becomes idle, now or when those in flight have come back. One that
 * needs no further pieces is not stopped. */
void fr_reader_cancel(fr_reader *reader, fr_read *read);

/* Changes whenever a read has ended, or fr_reader_tell was called. To wait: take the count, look at the reads, then wait. Waiting
 * returns seconds asleep. */
unsigned fr_reader_events(const fr_reader *reader);
double fr_reader_wait(fr_reader *reader, unsigned events);
void fr_reader_tell(fr_reader *reader);

/* Since create: bytes that were read, and seconds in which something was in flight. */
void fr_reader_count(fr_reader *reader, uint64_t *bytes, double *busy_s);

/* The error of a failed read: "FILE: offset N: why", FR_ERROR_IO. what: the tensor, for example; "" for nothing. */
fr_status fr_reader_fail(const fr_reader *reader, const fr_read *read, const char *what, fr_error *error);

#endif
