#include "core/topology.h"

#ifdef FR_HWLOC

#include <hwloc.h>
#ifdef __linux__
#include <sched.h>
#endif

#include "core/memory.h"

struct fr_topology {
    hwloc_topology_t machine;
    hwloc_obj_type_t core; /* cores, or processors where hwloc knows no cores */
    int cores;
};

/* Leaves what the calling thread may use. */
static bool restrict_to_affinity(hwloc_topology_t machine) {
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
    bool restricted = allowed && (hwloc_get_cpubind(machine, allowed, HWLOC_CPUBIND_THREAD) != 0 ||
                                  hwloc_bitmap_iszero(allowed) || hwloc_topology_restrict(machine, allowed, 0) == 0);
    hwloc_bitmap_free(allowed);
    return restricted;
}

static hwloc_topology_t load_machine(void) {
    hwloc_topology_t machine;
    if (hwloc_topology_init(&machine) != 0) return NULL;
    if (hwloc_topology_load(machine) == 0 && restrict_to_affinity(machine)) return machine;
    hwloc_topology_destroy(machine);
    return NULL;
}

fr_topology *fr_topology_open(void) {
    fr_topology *t = fr_alloc_zeroed(1, sizeof *t);
    if (!t || !(t->machine = load_machine())) {
        fr_free(t);
        return NULL;
    }
    t->core = HWLOC_OBJ_CORE;
    t->cores = hwloc_get_nbobjs_by_type(t->machine, t->core);
    if (t->cores > 0) return t;
    t->core = HWLOC_OBJ_PU;
    t->cores = hwloc_get_nbobjs_by_type(t->machine, t->core);
    return t;
}

void fr_topology_close(fr_topology *t) {
    if (t) hwloc_topology_destroy(t->machine);
    fr_free(t);
}

int fr_topology_cores(const fr_topology *t) {
    return t->cores;
}

int fr_topology_nodes(const fr_topology *t) {
    int nodes = hwloc_get_nbobjs_by_type(t->machine, HWLOC_OBJ_NUMANODE);
    return nodes > 0 ? nodes : 1;
}

static fr_seat seat_of(const fr_topology *t, int core) {
    hwloc_obj_t object = hwloc_get_obj_by_type(t->machine, t->core, (unsigned)core), cache = object;
    fr_seat seat = {-1, hwloc_bitmap_first(object->nodeset)};
    while (cache && cache->type != HWLOC_OBJ_L3CACHE) cache = cache->parent;
    if (cache) seat.cache = (int)cache->logical_index;
    return seat;
}

bool fr_topology_spread(const fr_topology *t, int threads, fr_core_range *places) {
    if (threads > t->cores) return false;
    for (int i = 0; i < threads; i++) {
        int first = (int)((long long)t->cores * i / threads), last = (int)((long long)t->cores * (i + 1) / threads);
        places[i] = (fr_core_range){first, last - first, seat_of(t, first)};
    }
    return true;
}

/* By the system's own call: hwloc's allocates. */
bool fr_topology_bind(const fr_topology *t, const fr_core_range *place) {
#ifdef __linux__
    cpu_set_t mask[8]; /* of 8192 processors */
    int first = place ? place->first : 0, last = place ? first + place->count : t->cores;
    if (!hwloc_topology_is_thissystem(t->machine)) return false;
    CPU_ZERO_S(sizeof mask, mask);
    for (int i = first; i < last; i++) {
        hwloc_const_bitmap_t core = hwloc_get_obj_by_type(t->machine, t->core, (unsigned)i)->cpuset;
        for (int p = hwloc_bitmap_first(core); p >= 0; p = hwloc_bitmap_next(core, p)) CPU_SET_S((size_t)p, sizeof mask, mask);
    }
    return sched_setaffinity(0, sizeof mask, mask) == 0;
#else
    (void)t, (void)place;
    return false;
#endif
}

bool fr_topology_interleave(const fr_topology *t, void *memory, size_t bytes) {
    return hwloc_set_area_membind(t->machine, memory, bytes, hwloc_topology_get_topology_nodeset(t->machine),
                                  HWLOC_MEMBIND_INTERLEAVE, HWLOC_MEMBIND_BYNODESET) == 0;
}

#else

fr_topology *fr_topology_open(void) {
    return NULL;
}

void fr_topology_close(fr_topology *t) {
    (void)t;
}

int fr_topology_cores(const fr_topology *t) {
    (void)t;
    return 1;
}

int fr_topology_nodes(const fr_topology *t) {
    (void)t;
    return 1;
}

bool fr_topology_spread(const fr_topology *t, int threads, fr_core_range *places) {
    (void)t, (void)threads, (void)places;
    return false;
}

bool fr_topology_bind(const fr_topology *t, const fr_core_range *place) {
    (void)t, (void)place;
    return false;
}

bool fr_topology_interleave(const fr_topology *t, void *memory, size_t bytes) {
    (void)t, (void)memory, (void)bytes;
    return false;
}

#endif
