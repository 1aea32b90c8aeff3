#include "moe/experts.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/threads.h"
#include "moe/expert_cache.h"

enum {
    READ_AHEAD = 8,     /* experts of a prefill that may be there, or be read, before their turn */
    MOST_FORESEEN = 64, /* and of layers to come */
};

typedef struct slot {
    fr_mlp mlp;
    fr_read reads[FR_EXPERT_PARTS];
    int num_reads;
    bool reading;  /* which pins it */
    bool failed;   /* until nobody holds it */
    bool foreseen; /* and not chosen so far */
} slot;

struct fr_experts {
    pthread_mutex_t lock; /* of the cache, the slots but what they read into, passes, and what is foreseen */
    fr_expert_cache cache;
    slot *slots;
    int foreseen[MOST_FORESEEN], num_foreseen; /* slots that are, or were, and are being read */
    /* these do not change */
    fr_reader *reader;
    const fr_mlp **mlps;       /* [layers] */
    fr_expert_layout *layouts; /* [layers, experts] */
    int *numbers;              /* [layers] */
    char *memory;              /* [slots, slot_bytes] */
    uint64_t memory_bytes, slot_bytes;
    void *tables;
    pid_t process;
};

static int32_t key_of(const fr_experts *x, int layer, int32_t id) {
    return layer * x->cache.experts + id;
}

/* ---- A slot ------------------------------------------------------------------------------------------------------ */

static void place(const fr_linear *from, fr_linear *to, const char *memory, uint64_t w, uint64_t scale) {
    *to = *from;
    to->w = memory + w;
    if (scale != FR_NOT_IN_SLOT) to->scale = (const float *)(const void *)(memory + scale);
}

static void submit(fr_experts *x, slot *s, bool urgent) {
    for (int i = 0; i < s->num_reads; i++) fr_reader_submit(x->reader, &s->reads[i], urgent);
}

static void start_reading(fr_experts *x, int i, int32_t key, bool urgent) {
    slot *s = &x->slots[i];
    const fr_expert_layout *l = &x->layouts[key];
    const fr_mlp *from = &x->mlps[key / x->cache.experts][key % x->cache.experts];
    char *memory = x->memory + (uint64_t)i * x->slot_bytes;
    fr_expert_cache_put(&x->cache, i, key);
    place(&from->gate_proj, &s->mlp.gate_proj, memory, l->w[0], l->scale[0]);
    place(&from->up_proj, &s->mlp.up_proj, memory, l->w[1], l->scale[1]);
    place(&from->down_proj, &s->mlp.down_proj, memory, l->w[2], l->scale[2]);
    s->num_reads = l->num_parts;
    for (int p = 0; p < l->num_parts; p++) {
        s->reads[p].file = l->parts[p].file;
        s->reads[p].offset = l->parts[p].offset;
        s->reads[p].bytes = l->parts[p].bytes;
        s->reads[p].to = memory + l->parts[p].at;
    }
    s->reading = true;
    s->failed = s->foreseen = false;
    x->cache.pins[i]++;
    submit(x, s, urgent);
}

/* Makes what was foreseen, and perhaps given up, come at once. */
static void need(fr_experts *x, slot *s) {
    for (int i = 0; i < s->num_reads; i++) {
        fr_reader_hurry(x->reader, &s->reads[i]);
        if (atomic_load(&s->reads[i].state) == FR_READ_IDLE) fr_reader_submit(x->reader, &s->reads[i], true);
    }
}

/* Takes note of reads that are over. */
static void settle(fr_experts *x, int i) {
    slot *s = &x->slots[i];
    bool failed = false, given_up = false;
    for (int r = 0; s->reading && r < s->num_reads; r++) {
        fr_read_state state = atomic_load_explicit(&s->reads[r].state, memory_order_acquire);
        if (state == FR_READ_ASKED) return;
        failed |= state == FR_READ_FAILED;
        given_up |= state == FR_READ_IDLE;
    }
    if (!s->reading) return;
    s->reading = false;
    s->failed = failed;
    x->cache.pins[i]--;
    if ((failed || given_up) && x->cache.pins[i] == 0) fr_expert_cache_empty(&x->cache, i);
}

/* The slot that an expert is in, or being read into; -1: none. */
static int slot_of(fr_experts *x, int32_t key) {
    if (x->cache.slot_of[key] >= 0) settle(x, x->cache.slot_of[key]); /* which may empty it */
    return x->cache.slot_of[key];
}

/* Holds an expert for a pass. It is read at once if it was only foreseen, and nobody may give it up any more. */
static void pin(fr_experts *x, fr_expert_pass *pass, int i) {
    slot *s = &x->slots[i];
    x->cache.pins[i]++;
    if (s->reading) need(x, s);
    pass->prefetched_used += s->foreseen;
    s->foreseen = false;
}

static void unpin(fr_experts *x, int i) {
    if (--x->cache.pins[i] == 0 && x->slots[i].failed) fr_expert_cache_empty(&x->cache, i);
}

/* ---- A pass ------------------------------------------------------------------------------------------------------ */

void fr_expert_pass_take_memory(fr_expert_pass *pass, fr_arena *arena, int experts) {
    pass->wanted = FR_TAKE(arena, fr_expert_use, experts);
}

/* The tensor that lies at an offset of the slot. */
static const char *tensor_at(const fr_expert_layout *l, uint64_t at) {
    static const char *const names[3][2] = {{"gate_proj.weight", "gate_proj.weight_scale_inv"},
                                            {"up_proj.weight", "up_proj.weight_scale_inv"},
                                            {"down_proj.weight", "down_proj.weight_scale_inv"}};
    const char *name = names[0][0];
    uint64_t nearest = 0;
    for (int i = 0; i < 3; i++) {
        const uint64_t begins[] = {l->w[i], l->scale[i]};
        for (int k = 0; k < 2; k++) {
            if (begins[k] > at || begins[k] < nearest) continue;
            nearest = begins[k];
            name = names[i][k];
        }
    }
    return name;
}

/* Gives up all that the pass wants, since an expert in slot i could not be read. Others may wait for a slot. */
static void fail(fr_experts *x, fr_expert_pass *pass, int i) {
    const slot *s = &x->slots[i];
    int32_t key = x->cache.key_of[i];
    const fr_expert_layout *l = &x->layouts[key];
    int r = 0;
    while (r + 1 < s->num_reads && s->reads[r].state != FR_READ_FAILED) r++;
    uint64_t at = l->parts[r].at + (s->reads[r].failed_at > l->parts[r].offset ? s->reads[r].failed_at - l->parts[r].offset : 0);
    fr_place what = fr_place_of("model.layers.%d.mlp.experts.%d.%s", x->numbers[key / x->cache.experts], key % x->cache.experts,
                                tensor_at(l, at));
    fr_reader_fail(x->reader, &s->reads[r], what.text, &pass->error);
    pass->failed = true;
    for (int w = 0; w < pass->num_wanted; w++)
        if (pass->wanted[w].slot >= 0) unpin(x, pass->wanted[w].slot);
    pass->num_wanted = 0;
    fr_reader_tell(x->reader);
}

/* A slot that can be had; -1: none. Reads that a failed pass has left may be over, too. */
static int find_room(fr_experts *x, int32_t key, bool colder) {
    int i = fr_expert_cache_victim(&x->cache, key, colder);
    if (i >= 0 || colder) return i;
    for (i = 0; i < x->cache.slots; i++) settle(x, i);
    return fr_expert_cache_victim(&x->cache, key, colder);
}

/* Finds slots for experts that have none yet, and starts reading. */
static void ask(fr_experts *x, fr_expert_pass *pass) {
    int ahead = 0;
    for (int w = 0; w < pass->num_wanted; w++) {
        fr_expert_use *use = &pass->wanted[w];
        if (use->slot < 0) {
            int32_t key = key_of(x, pass->layer, use->id);
            int i = slot_of(x, key); /* another session's pass may have asked for it meanwhile, or foreseen it */
            if (i < 0) {
                i = find_room(x, key, pass->prefill && ahead >= READ_AHEAD);
                if (i < 0) return;
                start_reading(x, i, key, true);
                use->read = true;
            }
            pin(x, pass, i);
            use->slot = i;
        }
        ahead += use->read;
    }
}

static void settle_foreseen(fr_experts *x) {
    int left = 0;
    for (int f = 0; f < x->num_foreseen; f++) {
        int i = x->foreseen[f];
        settle(x, i);
        if (x->slots[i].reading) x->foreseen[left++] = i;
    }
    x->num_foreseen = left;
}

/* What was foreseen for a layer and is not chosen there is given up, as far as it is not read yet. */
static void give_up_foreseen(fr_experts *x, int layer) {
    for (int f = 0; f < x->num_foreseen; f++) {
        slot *s = &x->slots[x->foreseen[f]];
        if (!s->foreseen || x->cache.key_of[x->foreseen[f]] / x->cache.experts != layer) continue;
        for (int r = 0; r < s->num_reads; r++) fr_reader_cancel(x->reader, &s->reads[r]);
    }
}

static void want(fr_experts *x, fr_expert_pass *pass, int32_t id, double share) {
    int32_t key = key_of(x, pass->layer, id);
    int i = slot_of(x, key);
    pass->wanted[pass->num_wanted++] = (fr_expert_use){id, i, false};
    fr_expert_cache_choose(&x->cache, key, share);
    if (i < 0) {
        pass->misses++;
        return;
    }
    *(x->slots[i].reading ? &pass->misses : &pass->hits) += 1;
    pin(x, pass, i);
}

static bool in_this_process(const fr_experts *x, fr_expert_pass *pass) {
    if (x->process == getpid()) return true;
    pass->failed = true;
    fr_fail(&pass->error, FR_ERROR_UNSUPPORTED, "streamed weights: a forked child cannot read them; open the model in the child");
    return false;
}

void fr_experts_begin(fr_experts *x, fr_expert_pass *pass, int layer, const int *counts, int rows, bool prefill) {
    assert(pass->num_wanted == 0);
    if (pass->failed || !in_this_process(x, pass)) return;
    pass->layer = layer;
    pass->prefill = prefill;
    pthread_mutex_lock(&x->lock);
    settle_foreseen(x);
    fr_expert_cache_age(&x->cache);
    for (int id = 0; id < x->cache.experts; id++)
        if (counts[id] > 0) want(x, pass, id, prefill ? (double)counts[id] / rows : 1.0);
    give_up_foreseen(x, layer);
    ask(x, pass);
    pthread_mutex_unlock(&x->lock);
}

/* The index of a wanted expert that is there, or cannot be had; -1: none. */
static int find_ready(fr_experts *x, const fr_expert_pass *pass) {
    for (int w = 0; w < pass->num_wanted; w++) {
        int i = pass->wanted[w].slot;
        if (i < 0) continue;
        settle(x, i);
        if (!x->slots[i].reading) return w;
    }
    return -1;
}

/* With the lock. */
static bool take_ready(fr_experts *x, fr_expert_pass *pass, fr_expert_use *out) {
    settle_foreseen(x);
    ask(x, pass);
    int w = find_ready(x, pass);
    if (w < 0) return false;
    *out = pass->wanted[w];
    if (x->slots[out->slot].failed) {
        fail(x, pass, out->slot);
        return false;
    }
    pass->num_wanted--;
    memmove(pass->wanted + w, pass->wanted + w + 1, (size_t)(pass->num_wanted - w) * sizeof *pass->wanted);
    return true;
}

bool fr_experts_take(fr_experts *x, fr_expert_pass *pass, bool wait, fr_expert_use *out) {
    bool taken = false;
    pthread_mutex_lock(&x->lock);
    while (pass->num_wanted > 0) {
        unsigned events = fr_reader_events(x->reader);
        taken = take_ready(x, pass, out);
        if (taken || !wait || pass->num_wanted == 0) break;
        pthread_mutex_unlock(&x->lock);
        double waited = fr_reader_wait(x->reader, events);
        fr_team_slept(waited);
        pthread_mutex_lock(&x->lock);
        pass->stall_s += waited;
    }
    pthread_mutex_unlock(&x->lock);
    return taken;
}

const fr_mlp *fr_experts_mlp(const fr_experts *x, int i) {
    return &x->slots[i].mlp;
}

void fr_experts_give_back(fr_experts *x, const fr_expert_use *uses, int count) {
    if (count == 0) return;
    pthread_mutex_lock(&x->lock);
    for (int u = 0; u < count; u++) unpin(x, uses[u].slot);
    pthread_mutex_unlock(&x->lock);
    fr_reader_tell(x->reader); /* others may wait for a slot, or for the last expert of their pass */
}

void fr_experts_foresee(fr_experts *x, fr_expert_pass *pass, int layer, const int32_t *ids, int count) {
    int most = x->cache.slots / 4 < MOST_FORESEEN ? x->cache.slots / 4 : MOST_FORESEEN;
    if (pass->failed) return;
    pthread_mutex_lock(&x->lock);
    settle_foreseen(x);
    for (int n = 0; n < count && x->num_foreseen < most; n++) {
        int32_t key = key_of(x, layer, ids[n]);
        if (slot_of(x, key) >= 0) continue;
        int i = fr_expert_cache_victim(&x->cache, key, false);
        if (i < 0) break;
        start_reading(x, i, key, false);
        x->slots[i].foreseen = true;
        x->foreseen[x->num_foreseen++] = i;
        pass->prefetched++;
    }
    pthread_mutex_unlock(&x->lock);
}

/* ---- Making it --------------------------------------------------------------------------------------------------- */

static void take(fr_experts *x, fr_arena *arena, const fr_experts_options *o) {
    size_t keys = (size_t)o->layers * (size_t)o->experts;
    fr_expert_cache_take(&x->cache, arena, o->layers, o->experts, o->slots);
    x->slots = FR_TAKE(arena, slot, o->slots);
    x->mlps = FR_TAKE(arena, const fr_mlp *, o->layers);
    x->numbers = FR_TAKE(arena, int, o->layers);
    x->layouts = FR_TAKE(arena, fr_expert_layout, keys);
    if (!x->layouts) return; /* counting */
    memset(x->slots, 0, (size_t)o->slots * sizeof *x->slots);
    memcpy(x->mlps, o->mlps, (size_t)o->layers * sizeof *x->mlps);
    memcpy(x->numbers, o->numbers, (size_t)o->layers * sizeof *x->numbers);
    memcpy(x->layouts, o->layouts, keys * sizeof *x->layouts);
}

uint64_t fr_experts_bytes(int layers, int experts, int slots, uint64_t slot_bytes) {
    fr_experts x = {.slots = NULL};
    fr_arena arena = {0};
    take(&x, &arena, &(fr_experts_options){.layers = layers, .experts = experts, .slots = slots});
    return arena.used + (uint64_t)slots * slot_bytes;
}

static fr_status create(fr_experts *x, const fr_experts_options *o, fr_error *error) {
    fr_arena arena = {0};
    x->process = getpid();
    x->slot_bytes = o->slot_bytes;
    x->memory_bytes = (uint64_t)o->slots * o->slot_bytes;
    take(x, &arena, o);
    arena = (fr_arena){.size = arena.used, .base = x->tables = fr_alloc(arena.used)};
    void *map = mmap(NULL, x->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map != MAP_FAILED) x->memory = map;
    if (!x->tables || !x->memory)
        return fr_fail(error, FR_ERROR_MEMORY, "expert cache: %d experts of %llu bytes cannot be allocated", o->slots,
                       (unsigned long long)o->slot_bytes);
    madvise(x->memory, x->memory_bytes, MADV_HUGEPAGE); /* a system without them serves small pages */
    take(x, &arena, o);
    return fr_reader_create(
        o->paths, o->files,
        &(fr_reader_options){.kind = o->reader, .memory = x->memory, .memory_bytes = x->memory_bytes, .notices = o->notices},
        &x->reader, error);
}

fr_status fr_experts_create(const fr_experts_options *options, fr_experts **out, fr_error *error) {
    fr_experts *x = fr_alloc_zeroed(1, sizeof *x);
    if (!x) return fr_fail(error, FR_ERROR_MEMORY, "expert cache: out of memory");
    pthread_mutex_init(&x->lock, NULL);
    fr_status status = create(x, options, error);
    if (status != FR_OK)
        fr_experts_destroy(x);
    else
        *out = x;
    return status;
}

void fr_experts_destroy(fr_experts *x) {
    if (!x) return;
    if (x->process == getpid()) fr_reader_destroy(x->reader); /* a forked child does not have its threads */
    if (x->memory) munmap(x->memory, x->memory_bytes);
    fr_free(x->tables);
    pthread_mutex_destroy(&x->lock);
    fr_free(x);
}

const char *fr_experts_reader(const fr_experts *x) {
    return fr_reader_describe(x->reader);
}

void fr_experts_count(fr_experts *x, uint64_t *bytes, double *busy_s) {
    fr_reader_count(x->reader, bytes, busy_s);
}
