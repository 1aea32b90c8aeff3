/* Routed experts that are not all in memory: their weights are read from the files into a cache of slots when they are chosen.
 * One object serves all sessions of a model, from any number of threads.
 *
 * A pass of a layer says which experts it wants (begin), takes those that are there, one after the other, computes, and gives
 * them back. All that are missing are read meanwhile, as far as there are slots: an expert's slot is free again when it was given
 * back, so that one slot is enough. No one waits while it holds an expert: passes cannot block each other. */
#ifndef FR_MOE_EXPERTS_H
#define FR_MOE_EXPERTS_H

#include "core/io/reader.h"
#include "moe/mlp.h"

typedef struct fr_experts fr_experts;

#define FR_EXPERT_PARTS 6 /* three matrices, three arrays of scales */
#define FR_NOT_IN_SLOT UINT64_MAX

/* Where an expert's weights lie, in files and in a slot. Matrices are in the order gate, up, down. */
typedef struct fr_expert_layout {
    int num_parts;
    struct {
        int file;
        uint64_t offset, bytes;
        uint64_t at; /* in the slot; as far into a page as `offset` */
    } parts[FR_EXPERT_PARTS];
    uint64_t w[3], scale[3]; /* in the slot; scales that are not there are in memory already, or there are none */
} fr_expert_layout;

typedef struct fr_experts_options {
    int layers, experts;             /* experts: of a layer */
    int slots;                       /* at least 1 */
    uint64_t slot_bytes;             /* whole pages */
    const fr_mlp *const *mlps;       /* [layers][experts]: shapes, types, and scales that are not in slots; they must stay */
    const fr_expert_layout *layouts; /* [layers, experts] */
    const int *numbers;              /* [layers]: of the checkpoint, for messages */
    const char *const *paths;        /* [files] */
    int files;
    fr_reader_kind reader;
    fr_notices *notices;
} fr_experts_options;

/* The memory of all slots is taken at once, in huge pages where the system has them. */
fr_status fr_experts_create(const fr_experts_options *options, fr_experts **out, fr_error *error);
void fr_experts_destroy(fr_experts *experts);
/* What slots, tables and layouts take. */
uint64_t fr_experts_bytes(int layers, int experts, int slots, uint64_t slot_bytes);
/* How files are read, and what was: see fr_reader_describe and fr_reader_count. */
const char *fr_experts_reader(const fr_experts *experts);
void fr_experts_count(fr_experts *experts, uint64_t *bytes, double *busy_s);

/* An expert in use. */
typedef struct fr_expert_use {
    int32_t id;
    int slot;  /* -1: none yet */
    bool read; /* for this pass */
} fr_expert_use;

/* What passes of one session want and hold. */
typedef struct fr_expert_pass {
    fr_expert_use *wanted; /* [experts]: not taken yet, ids ascending */
    int num_wanted, layer;
    bool prefill;
    bool failed; /* `error` says why. Passes take nothing until it is cleared. */
    fr_error error;
    /* Counts since create. */
    uint64_t hits, misses, prefetched, prefetched_used;
    double stall_s; /* in take, waiting */
} fr_expert_pass;

void fr_expert_pass_take_memory(fr_expert_pass *pass, fr_arena *arena, int experts);

/* The experts of a layer that `rows` rows chose, counts[id] rows each: those that are there stay, those that are not are asked
 * for. prefill: few are read ahead at the cost of warmer ones. */
void fr_experts_begin(fr_experts *experts, fr_expert_pass *pass, int layer, const int *counts, int rows, bool prefill);
/* Takes one that is there. If none is, waits for one, or does not. False: there is none, or nothing is left, or reading failed.
 */
bool fr_experts_take(fr_experts *experts, fr_expert_pass *pass, bool wait, fr_expert_use *out);
/* Its weights; while it is in use. */
const fr_mlp *fr_experts_mlp(const fr_experts *experts, int slot);
void fr_experts_give_back(fr_experts *experts, const fr_expert_use *uses, int count);
/* Experts that a later layer may choose: read when nothing else is to be. */
void fr_experts_foresee(fr_experts *experts, fr_expert_pass *pass, int layer, const int32_t *ids, int count);

#endif
