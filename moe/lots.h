/* The experts' part of prefill. The rows that chose an expert are cut into LOTS of up to a tile of tokens, and a lot's products
 * into slices of outputs, so that any number of threads finds work: however rows are spread over experts, a thread takes the next
 * unit that nobody has. Rounds of lots, as many as the buffers hold, go through four phases: gather the rows, silu(gate) * up,
 * pack it, down. What a thread needs of its own does not grow with the model, and neither do results depend on rounds or slices.
 *
 * Ranks have their part of the outputs, and the same rounds: between the second phase and the third they exchange products.
 *
 * Rows are in slots that are sorted by expert (moe/moe.h). The regime goes by a lot's rows: an expert with few of them decodes.
 */
#ifndef FR_MOE_LOTS_H
#define FR_MOE_LOTS_H

#include "moe/mlp.h"

typedef struct fr_lot {
    const fr_mlp *expert;
    int first, n;      /* its slots */
    int row;           /* where the buffers have its rows, a multiple of 16 */
    fr_rows in, inner; /* as gate_proj and up_proj, and as down_proj reads them; in the same memory, one after the other */
} fr_lot;

enum { FR_LOT_GATHER, FR_LOT_PRODUCT, FR_LOT_PACK, FR_LOT_DOWN, FR_LOT_PHASES };

typedef struct fr_lots {
    fr_lot *list; /* [room / 16] */
    int count;    /* of this round; 0: all is done */
    int room;
    int expert, slot, end; /* the expert whose slots are cut into lots, the first of them that no round has had, and their end */
    const fr_mlp *mlp;     /* that expert's */
    int units[FR_LOT_PHASES]; /* of a lot */
    atomic_int next[FR_LOT_PHASES];
    fr_rows packed;   /* [room], as wide as the wider of hidden and intermediate */
    float *gate, *up; /* [room, intermediate]; the product ends up in gate */
} fr_lots;

typedef struct fr_lots_job {
    fr_lots *lots;
    const fr_mlp *experts; /* [count] */
    int count, hidden, intermediate;
    bool act_fp8, ue8m0;
    const int *first_slot; /* [count + 1] */
    const int *slot_row;   /* [slots]: which row of x */
    const fr_rows *x;
    float *z; /* [slots, hidden]: the experts' outputs */
    const fr_compute *compute;
    /* Experts that come one after the other, from the disk: the next, or with `wait` the next to come, and its number; NULL:
     * there is none, now or any more. Those that were taken are given back but for the last `kept`. take NULL: all are at
     * `experts`. ONE THREAD. */
    const fr_mlp *(*take)(void *user, bool wait, int *expert);
    void (*give_back)(void *user, int kept);
    void *user;
} fr_lots_job;

void fr_lots_take(fr_lots *lots, fr_arena *arena, int slots, int hidden, int intermediate, const fr_compute *compute);
/* ONE THREAD, once slots are sorted, while others wait: plans the first round. */
void fr_lots_begin(const fr_lots_job *job);
/* TEAM. All rounds. */
void fr_lots_run(const fr_lots_job *job);

/* Slices of `outputs` for each of `lots`, so that threads that take them one by one end at about the same time. */
int fr_lot_slices(int lots, int outputs, int threads);

#endif
