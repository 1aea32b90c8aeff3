#include "core/barrier.h"

#include "core/clock.h"
#include "core/wait.h"

int fr_barrier_most_meetings(int members) {
    return 3 * members + 1; /* leaves, one level by nodes, and levels that are an eighth of the one below */
}

static fr_meeting *add_meeting(fr_barrier *b, int node) {
    fr_meeting *m = &b->meetings[b->count++];
    m->expected = 0;
    m->node = node;
    m->parent = -1;
    return m;
}

/* Adds the level above meetings [first, last), where neighbours meet; with by_node only those of one node. */
static void add_level(fr_barrier *b, int first, int last, bool by_node) {
    fr_meeting *m = NULL;
    for (int child = first; child < last; child++) {
        int node = b->meetings[child].node;
        if (!m || m->expected == FR_BARRIER_WIDTH || (by_node && node != m->node)) m = add_meeting(b, node);
        m->expected++;
        b->meetings[child].parent = (int)(m - b->meetings);
    }
}

void fr_barrier_build(fr_barrier *b, const fr_seat *seats, int members, int *leaf) {
    fr_meeting *m = NULL;
    b->count = 0;
    for (int i = 0; i < members; i++) {
        if (!m || m->expected == FR_BARRIER_WIDTH || seats[i].cache != seats[i - 1].cache) m = add_meeting(b, seats[i].node);
        m->expected++;
        leaf[i] = b->count - 1;
    }
    b->leaves = b->count;
    for (int first = 0, last = b->count; last - first > 1; first = last, last = b->count)
        add_level(b, first, last, first == 0); /* those of a node, once, then all */
}

bool fr_barrier_arrive(fr_barrier *b, int leaf) {
    for (int i = leaf; i >= 0; i = b->meetings[i].parent) {
        fr_meeting *m = &b->meetings[i];
        int others = m->expected - 1; /* read before: whoever is not the last may find the tree built anew after */
        if (atomic_fetch_add_explicit(&m->arrived, 1, memory_order_acq_rel) != others) return false;
        atomic_store_explicit(&m->arrived, 0, memory_order_relaxed); /* seen by all who see the barrier open */
    }
    return true;
}

void fr_barrier_open(fr_barrier *b) {
    for (int i = 0; i < b->leaves; i++) {
        fr_meeting *m = &b->meetings[i];
        if (atomic_load(&m->asleep) > 0) atomic_store_explicit(&b->opened, fr_now(), memory_order_relaxed);
        atomic_store(&m->round, fr_barrier_round(b, i) + 1);
        fr_wake(&m->round, &m->asleep);
    }
}

double fr_barrier_wait(fr_barrier *b, int leaf, unsigned round, int looks) {
    fr_meeting *m = &b->meetings[leaf];
    if (!fr_spin_while(&m->round, round, looks)) return 0.0;
    double began = fr_now();
    fr_sleep_while(&m->round, round, &m->asleep);
    double opened = atomic_load_explicit(&b->opened, memory_order_relaxed);
    return opened > began ? opened - began : 0.0;
}
