/* A hash table from byte strings to ids. The strings are not copied: they must outlive the table. */
#ifndef FR_TEXT_STRMAP_H
#define FR_TEXT_STRMAP_H

#include "core/status.h"

typedef struct fr_strmap_slot {
    const char *key; /* NULL: free */
    uint32_t length;
    int32_t id;
} fr_strmap_slot;

typedef struct fr_strmap {
    fr_strmap_slot *slots; /* [mask + 1], at most half of them taken */
    size_t mask;
} fr_strmap;

/* For at most `count` strings. */
fr_status fr_strmap_create(fr_strmap *map, size_t count, fr_error *error);
void fr_strmap_release(fr_strmap *map);
/* Adds a string. Returns -1, or the id that it already has and keeps. */
int32_t fr_strmap_put(fr_strmap *map, const char *key, size_t length, int32_t id);
/* Its id; -1 when it is not in the table, which may be zeroed. */
int32_t fr_strmap_get(const fr_strmap *map, const char *key, size_t length);

#endif
