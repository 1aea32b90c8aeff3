#include "core/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint_fast64_t allocations;

void *fr_alloc(size_t bytes) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (bytes > SIZE_MAX - FR_ALIGN) return NULL;
    size_t rounded = (bytes + FR_ALIGN - 1) / FR_ALIGN * FR_ALIGN;
    return aligned_alloc(FR_ALIGN, rounded ? rounded : FR_ALIGN);
}

void *fr_alloc_zeroed(size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    void *memory = fr_alloc(count * size);
    if (memory) memset(memory, 0, count * size);
    return memory;
}

void *fr_grow(void *memory, size_t old_bytes, size_t new_bytes) {
    void *grown = fr_alloc(new_bytes);
    if (!grown) return NULL;
    if (old_bytes) memcpy(grown, memory, old_bytes < new_bytes ? old_bytes : new_bytes);
    fr_free(memory);
    return grown;
}

char *fr_strndup(const char *text, size_t length) {
    char *copy = fr_alloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *fr_strdup(const char *text) {
    return fr_strndup(text, strlen(text));
}

void fr_free(void *memory) {
    free(memory);
}

uint64_t fr_alloc_count(void) {
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

void *fr_arena_take(fr_arena *arena, size_t count, size_t size) {
    size_t bytes = (count * size + FR_ALIGN - 1) / FR_ALIGN * FR_ALIGN;
    size_t at = arena->used;
    arena->used += bytes;
    if (!arena->base) return NULL;
    assert(arena->used <= arena->size); /* the counting run and the real run take the same */
    return arena->base + at;
}
