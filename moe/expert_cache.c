#include "moe/expert_cache.h"

#include <assert.h>
#include <math.h>

enum { HALF_LIFE = 32 }; /* passes of all layers */

void fr_expert_cache_take(fr_expert_cache *c, fr_arena *arena, int layers, int experts, int slots) {
    size_t keys = (size_t)layers * (size_t)experts, count = (size_t)slots;
    *c = (fr_expert_cache){
        .layers = layers, .experts = experts, .slots = slots, .unit = 1.0, .growth = exp2(1.0 / (HALF_LIFE * layers))};
    c->slot_of = FR_TAKE(arena, int32_t, keys);
    c->key_of = FR_TAKE(arena, int32_t, count);
    c->pins = FR_TAKE(arena, int, count);
    c->used = FR_TAKE(arena, uint64_t, count);
    c->warmth = FR_TAKE(arena, double, keys);
    if (!c->warmth) return; /* counting */
    for (size_t i = 0; i < keys; i++) c->slot_of[i] = -1, c->warmth[i] = 0.0;
    for (size_t i = 0; i < count; i++) c->key_of[i] = -1, c->pins[i] = 0, c->used[i] = 0;
}

void fr_expert_cache_age(fr_expert_cache *c) {
    const double most = 1e100;
    c->clock++;
    c->unit *= c->growth;
    if (c->unit < most) return;
    for (int i = 0; i < c->layers * c->experts; i++) c->warmth[i] /= most;
    c->unit /= most;
}

void fr_expert_cache_choose(fr_expert_cache *c, int32_t key, double share) {
    c->warmth[key] += c->unit * share;
    if (c->slot_of[key] >= 0) c->used[c->slot_of[key]] = c->clock;
}

static bool is_colder(const fr_expert_cache *c, int a, int b) {
    double x = c->warmth[c->key_of[a]], y = c->warmth[c->key_of[b]];
    return x != y ? x < y : c->used[a] < c->used[b];
}

int fr_expert_cache_victim(const fr_expert_cache *c, int32_t key, bool colder) {
    int coldest = -1;
    assert(c->slot_of[key] < 0);
    for (int i = 0; i < c->slots; i++) {
        if (c->pins[i] > 0) continue;
        if (c->key_of[i] < 0) return i;
        if (coldest < 0 || is_colder(c, i, coldest)) coldest = i;
    }
    if (coldest >= 0 && colder && c->warmth[c->key_of[coldest]] >= c->warmth[key]) return -1;
    return coldest;
}

void fr_expert_cache_put(fr_expert_cache *c, int slot, int32_t key) {
    assert(c->pins[slot] == 0 && c->slot_of[key] < 0);
    fr_expert_cache_empty(c, slot);
    c->key_of[slot] = key;
    c->slot_of[key] = slot;
    c->used[slot] = c->clock;
}

void fr_expert_cache_empty(fr_expert_cache *c, int slot) {
    if (c->key_of[slot] >= 0) c->slot_of[c->key_of[slot]] = -1;
    c->key_of[slot] = -1;
}
