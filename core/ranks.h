/* Ranks: several processes, on one machine or many, that compute one network together. All run the same calls with the same
 * arguments on the same tokens. Each has a part of the OUTPUTS of the large matrices, and between the phases of a layer they
 * exchange the activations that they have computed. No sum is ever split between ranks, so results are those of one process, bit
 * for bit.
 *
 * How pieces travel is the transport's business. MPI's is in ranks.c, compiled in with FORERUN_MPI; tests have one between
 * threads. What programs call is in forerun.h. */
#ifndef FR_CORE_RANKS_H
#define FR_CORE_RANKS_H

#include "core/memory.h"
#include "core/status.h"
#include "core/threads.h"

/* `all` has a piece of each rank, counts[i] bytes at byte at[i]; that of the caller is in its place. Returns when all of them
 * are. Every rank calls with the same counts and places, one thread at a time, and need not be of the same team. */
typedef void fr_gather_fn(const fr_ranks *ranks, void *all, const int *counts, const int *at);

struct fr_ranks {
    int rank, size;
    fr_gather_fn *gather; /* NULL: nobody to exchange with, or sizes alone are asked for */
    void *transport;
};

enum { FR_MAX_RANKS = 1024 };

/* 0 of 1. */
extern const fr_ranks fr_ranks_alone;

/* ---- Parts ---- */

/* Outputs of a matrix are cut in these units: 128-blocks where there are enough of them for all, so that whoever computes values
 * can also quantize them. */
static inline int fr_cut_unit(int width, int ranks) {
    return width >= 128 * ranks ? 128 : 16;
}

/* The part [*begin, *end) of rank i of [0, count), in whole units; it may be empty. */
static inline void fr_ranks_part(const fr_ranks *ranks, int i, int count, int unit, int *begin, int *end) {
    fr_split(count, unit, ranks->size, i, begin, end);
}

/* ---- Exchanges inside a pass ---- */

/* Rows of which each rank has computed its part of the columns: fr_ranks_part of [0, width), by `unit`. */
typedef struct fr_plane {
    void *x;
    int rows, width, unit;
    size_t stride;       /* bytes from row to row */
    int columns;         /* so many of them lie together, .. */
    size_t column_bytes; /* .. in so many bytes; every part begins with the first of such a group */
    bool codes;          /* they are E4M3 values carried as BF16, and travel as their codes if they are many */
} fr_plane;

/* Where pieces of several rows are put together. With one rank there is none. */
typedef struct fr_exchange {
    const fr_ranks *ranks;
    char *staging;
    size_t bytes;     /* of staging: at least those of a row of each plane */
    int *counts, *at; /* [size] */
} fr_exchange;

/* Takes memory for exchanges of up to `bytes` at a time; more go in several. (Planning: see fr_arena.) */
void fr_exchange_take(fr_exchange *exchange, fr_arena *arena, const fr_ranks *ranks, size_t bytes);

/* TEAM. A barrier, before whose end the columns of all ranks are in the planes. With one rank it is a barrier and nothing else.
 */
void fr_exchange_planes(const fr_exchange *exchange, const fr_plane *planes, int count);

/* ---- Outside of passes ---- */

/* What rank 0 reads, for all: by fr_read_file of at most `limit` bytes, or by fr_read_input if that is 0. All leave with its
 * bytes, fr_free's on each, or its error. ranks may be NULL. */
fr_status fr_ranks_read(const fr_ranks *ranks, const char *path, uint64_t limit, char **bytes, size_t *length, fr_error *error);

#endif
