#include "text/strmap.h"

#include <string.h>

#include "core/memory.h"

/* FNV-1a. */
static uint64_t hash(const char *key, size_t length) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++) h = (h ^ (uint8_t)key[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

fr_status fr_strmap_create(fr_strmap *map, size_t count, fr_error *error) {
    size_t size = 16;
    while (size < 2 * count) size *= 2;
    map->slots = fr_alloc_zeroed(size, sizeof *map->slots);
    map->mask = size - 1;
    return map->slots ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "no memory for a table of %zu strings", count);
}

void fr_strmap_release(fr_strmap *map) {
    fr_free(map->slots);
    *map = (fr_strmap){0};
}

static fr_strmap_slot *find(const fr_strmap *map, const char *key, size_t length) {
    size_t i = hash(key, length) & map->mask;
    for (;; i = (i + 1) & map->mask) {
        fr_strmap_slot *slot = &map->slots[i];
        if (!slot->key || (slot->length == length && memcmp(slot->key, key, length) == 0)) return slot;
    }
}

int32_t fr_strmap_put(fr_strmap *map, const char *key, size_t length, int32_t id) {
    fr_strmap_slot *slot = find(map, key, length);
    if (slot->key) return slot->id;
    *slot = (fr_strmap_slot){key, (uint32_t)length, id};
    return -1;
}

int32_t fr_strmap_get(const fr_strmap *map, const char *key, size_t length) {
    if (!map->slots) return -1;
    const fr_strmap_slot *slot = find(map, key, length);
    return slot->key ? slot->id : -1;
}
