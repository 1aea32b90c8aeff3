/* Memory: everything that a session needs is planned and allocated when it is created. */
#ifndef FR_CORE_MEMORY_H
#define FR_CORE_MEMORY_H

#include <stdatomic.h>

#include "core/status.h"

#define FR_ALIGN 64 /* a cache line, and the widest vector */

/* 64-byte-aligned memory; NULL when there is none. Released with fr_free (declared in forerun.h), which takes NULL. */
void *fr_alloc(size_t bytes);
void *fr_alloc_zeroed(size_t count, size_t size);
/* Grows an array that came from fr_alloc or is NULL: copies old_bytes, releases the old one. NULL (old one intact) on failure. */
void *fr_grow(void *memory, size_t old_bytes, size_t new_bytes);
char *fr_strdup(const char *text);
char *fr_strndup(const char *text, size_t length);
/* Calls of the functions above so far, in this process: a test holds the decode path to zero. */
uint64_t fr_alloc_count(void);

/* An arena is planned by running the same taking code twice: first with base NULL, which only counts, then for real. */
typedef struct fr_arena {
    char *base;
    size_t used, size;
} fr_arena;

/* `count` objects of `size` bytes, 64-byte aligned; NULL while counting. */
void *fr_arena_take(fr_arena *arena, size_t count, size_t size);
#define FR_TAKE(arena, type, count) ((type *)fr_arena_take((arena), (size_t)(count), sizeof(type)))

#endif
