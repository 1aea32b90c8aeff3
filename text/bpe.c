#include "text/bpe.h"

#include <string.h>

#include "core/memory.h"

#define SHORT_PIECE 48 /* bytes; up to here a scan of all pairs is faster than a heap */

static const fr_bpe_merge no_merge = {0, FR_BPE_NO_MERGE, -1};

fr_status fr_bpe_create(fr_bpe *bpe, size_t count, fr_error *error) {
    int bits = 4;
    while ((size_t)1 << bits < 2 * count) bits++;
    bpe->shift = 64 - bits;
    size_t size = (size_t)1 << bits;
    bpe->merges = fr_alloc(size * sizeof *bpe->merges);
    if (!bpe->merges) return fr_fail(error, FR_ERROR_MEMORY, "no memory for a table of %zu merges", count);
    for (size_t i = 0; i < size; i++) bpe->merges[i] = no_merge;
    return FR_OK;
}

void fr_bpe_release(fr_bpe *bpe) {
    fr_free(bpe->merges);
    bpe->merges = NULL;
}

/* The pair's slot, or the free slot for it. */
static fr_bpe_merge *find(const fr_bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = ((size_t)1 << (64 - bpe->shift)) - 1;
    for (size_t i = pair * 0x9e3779b97f4a7c15u >> bpe->shift;; i = (i + 1) & mask) {
        fr_bpe_merge *merge = &bpe->merges[i];
        if (merge->rank == FR_BPE_NO_MERGE || merge->pair == pair) return merge;
    }
}

void fr_bpe_add(fr_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    *find(bpe, left, right) = (fr_bpe_merge){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id};
}

static size_t encode_short(const fr_bpe *bpe, const uint8_t *piece, size_t length, int32_t *ids) {
    const fr_bpe_merge *merge[SHORT_PIECE]; /* of ids[i] and ids[i + 1] */
    size_t n = length;
    for (size_t i = 0; i < n; i++) ids[i] = bpe->byte_id[piece[i]];
    for (size_t i = 0; i + 1 < n; i++) merge[i] = find(bpe, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (merge[i]->rank < merge[best]->rank) best = i;
        if (merge[best]->rank == FR_BPE_NO_MERGE) break;
        ids[best] = merge[best]->id;
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 2) * sizeof *ids);
        n--;
        if (best + 1 < n) {
            memmove(&merge[best + 1], &merge[best + 2], (n - best - 2) * sizeof *merge);
            merge[best] = find(bpe, ids[best], ids[best + 1]);
        }
        if (best > 0) merge[best - 1] = find(bpe, ids[best - 1], ids[best]);
    }
    return n;
}

/* ---- Long pieces: a linked list of tokens, and a heap of merges by rank and position ---- */

/* A token that starts at byte i of the piece is node i; a node that was merged into its left neighbour has id -1. */
typedef struct node {
    int32_t id, next, previous; /* -1: none */
    uint32_t rank;              /* of the merge with `next`: a heap entry of another rank is out of date */
    int32_t merged;             /* id of the token that this merge gives */
} node;

typedef struct heap {
    uint64_t *entries; /* rank << 32 | node, smallest first */
    size_t count;
} heap;

static void heap_push(heap *h, uint64_t entry) {
    size_t i = h->count++;
    for (; i > 0 && h->entries[(i - 1) / 2] > entry; i = (i - 1) / 2) h->entries[i] = h->entries[(i - 1) / 2];
    h->entries[i] = entry;
}

static uint64_t heap_pop(heap *h) {
    uint64_t top = h->entries[0], last = h->entries[--h->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && h->entries[child + 1] < h->entries[child]) child++;
        if (h->entries[child] >= last) break;
        h->entries[i] = h->entries[child];
        i = child;
    }
    h->entries[i] = last;
    return top;
}

static void consider(const fr_bpe *bpe, node *nodes, int32_t i, heap *h) {
    node *n = &nodes[i];
    const fr_bpe_merge *merge = n->next < 0 ? &no_merge : find(bpe, n->id, nodes[n->next].id);
    n->rank = merge->rank;
    n->merged = merge->id;
    if (n->rank != FR_BPE_NO_MERGE) heap_push(h, (uint64_t)n->rank << 32 | (uint32_t)i);
}

static fr_status encode_long(const fr_bpe *bpe, const uint8_t *piece, size_t length, fr_bpe_scratch *scratch, int32_t *ids,
                             size_t *count, fr_error *error) {
    /* Each merge pops one entry and pushes at most two, so there are never more than length + merges < 2 * length. */
    size_t bytes = length * (2 * sizeof(uint64_t) + sizeof(node));
    if (scratch->bytes < bytes) {
        fr_bpe_scratch_release(scratch);
        scratch->memory = fr_alloc(bytes);
        if (!scratch->memory) return fr_fail(error, FR_ERROR_MEMORY, "no memory to tokenize a word of %zu bytes", length);
        scratch->bytes = bytes;
    }
    heap h = {scratch->memory, 0};
    node *nodes = (node *)(h.entries + 2 * length);
    for (size_t i = 0; i < length; i++)
        nodes[i] = (node){bpe->byte_id[piece[i]], i + 1 < length ? (int32_t)i + 1 : -1, (int32_t)i - 1, 0, -1};
    for (size_t i = 0; i < length; i++) consider(bpe, nodes, (int32_t)i, &h);
    while (h.count) {
        uint64_t top = heap_pop(&h);
        int32_t i = (int32_t)(uint32_t)top;
        node *left = &nodes[i];
        if (left->id < 0 || left->rank != top >> 32) continue;
        node *right = &nodes[left->next];
        left->id = left->merged;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) nodes[left->next].previous = i;
        consider(bpe, nodes, i, &h);
        if (left->previous >= 0) consider(bpe, nodes, left->previous, &h);
    }
    size_t n = 0;
    for (int32_t i = 0; i >= 0; i = nodes[i].next) ids[n++] = nodes[i].id;
    *count = n;
    return FR_OK;
}

fr_status fr_bpe_encode(const fr_bpe *bpe, const uint8_t *piece, size_t length, fr_bpe_scratch *scratch, int32_t *ids,
                        size_t *count, fr_error *error) {
    if (length > SHORT_PIECE) return encode_long(bpe, piece, length, scratch, ids, count, error);
    *count = encode_short(bpe, piece, length, ids);
    return FR_OK;
}

void fr_bpe_scratch_release(fr_bpe_scratch *scratch) {
    fr_free(scratch->memory);
    *scratch = (fr_bpe_scratch){0};
}
