/* What the two ways to read share: the list of what is to be read, in pieces. Private to core/io. */
#ifndef FR_CORE_IO_PRIVATE_H
#define FR_CORE_IO_PRIVATE_H

#include <pthread.h>

#include "core/io/reader.h"

enum { FR_READ_DEPTH = 32 }; /* pieces in flight, at most */

/* Part of a range, on whole pages. */
typedef struct fr_piece {
    fr_read *read;
    int fd;
    char *to;
    uint64_t offset, bytes;
    uint64_t needed; /* of the bytes: the last page may end behind the file */
} fr_piece;

typedef struct fr_read_list {
    fr_read *first, *last;
} fr_read_list;

typedef struct fr_read_file {
    const char *path; /* owned by the reader */
    int fd;           /* -1: not open */
} fr_read_file;

/* A way to read. */
typedef struct fr_reader_type {
    const char *name;
    /* Starts its threads. NULL is returned where the system does not allow it, or memory is short. */
    void *(*start)(fr_reader *reader);
    /* There are more pieces, or the end has come. Called without the lock. */
    void (*wake)(void *state);
    /* reader->ending is set: joins the threads. */
    void (*stop)(void *state);
} fr_reader_type;

struct fr_reader {
    pthread_mutex_t lock;     /* of all below, and of what reads keep for the reader */
    fr_read_list urgent, low; /* reads of which pieces are left */
    int in_flight;            /* pieces */
    bool ending;
    uint64_t bytes;
    double busy_s, busy_since;
    atomic_uint events;
    atomic_int asleep;
    /* these do not change */
    fr_read_file *files;
    int num_files;
    bool direct; /* O_DIRECT, for all of them */
    char *memory;
    uint64_t memory_bytes;
    const fr_reader_type *type;
    void *state;
    char text[64];
};

extern const fr_reader_type fr_reader_threads;
extern const fr_reader_type fr_reader_uring; /* its start is NULL in a build without liburing */

/* With the lock: puts a read on the list where it belongs, and takes it off again. */
void fr_reader_enlist(fr_reader *reader, fr_read *read);
void fr_reader_unlist(fr_reader *reader, fr_read *read);
/* With the lock: a read of which nothing is in flight or on the list has ended. */
void fr_reader_end(fr_reader *reader, fr_read *read, fr_read_state state);
/* With the lock: takes the next piece, counted as in flight; false: there is none. */
bool fr_reader_next(fr_reader *reader, fr_piece *piece);
/* With the lock: a piece is over. result: bytes that were read, 0 at the end of the file, or a negative errno. Returns true where
 * the rest of the piece, which is changed to that, is to be read now. */
bool fr_reader_over(fr_reader *reader, fr_piece *piece, int64_t result);

#endif
