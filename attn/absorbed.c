#include "attn/absorbed.h"

#include <assert.h>

#include "attn/chunk.h"
#include "core/threads.h"

enum { SLOTS = 64 }; /* pairs a thread, of which a wave may hold partial softmaxes */

static int at_most(int a, int b) {
    return a < b ? a : b;
}

static fr_partials take_partials(fr_arena *arena, size_t pairs, int rank) {
    return (fr_partials){.latent = FR_TAKE(arena, float, pairs *(size_t)rank),
                         .max = FR_TAKE(arena, float, pairs),
                         .sum = FR_TAKE(arena, float, pairs)};
}

void fr_absorbed_take(fr_mla_scratch *s, fr_arena *arena, const fr_mla *m, int max_rows) {
    const int pairs = at_most(max_rows, FR_DECODE_ROWS) * m->heads, threads = s->compute->threads;
    s->q_absorbed = FR_TAKE(arena, float, (size_t)pairs *(size_t)(m->kv_rank + m->rope));
    s->kv_b_out = FR_TAKE(arena, float, (size_t)at_most(max_rows, FR_DECODE_ROWS) * (size_t)fr_mla_kv_width(m));
    s->merged = take_partials(arena, (size_t)pairs, m->kv_rank);
    s->slots = pairs > SLOTS * threads ? pairs : SLOTS * threads;
    for (int i = 0; i < 2; i++) s->waves[i] = take_partials(arena, (size_t)s->slots, m->kv_rank);
    fr_chunk_take(s, arena, m);
}

bool fr_heads_are_even(const fr_mla *m) {
    return m->heads % fr_team_size() == 0;
}

static bool heads_are_owned(const fr_mla *m, int rows) {
    return rows == 1 || fr_heads_are_even(m); /* one row's pairs are split as heads are */
}

/* ---- Queries ---- */

/* Queries as the cache's rows want them, [W_UK^T q_nope | q_pe] * softmax_scale. Owned heads come out as the thread's own. */
void fr_absorb_queries(const fr_mla *m, const fr_rope *rope, int pos, int rows, fr_mla_scratch *s) {
    int width = m->kv_rank + m->rope, begin, end;
    fr_team_split(rows * m->heads, 1, &begin, &end);
    for (int i = begin; i < end; i++) { /* rows inside heads, so that a head's W_UK stays in cache for all rows */
        int head = i / rows, pair = i % rows * m->heads + head, first = m->kv_before + head * (m->nope + m->v);
        float *q = fr_mla_query(m, s, i % rows, head);
        float *query = s->q_absorbed + (size_t)pair * (size_t)width;
        fr_rope_apply(rope, pos + i % rows, q + m->nope);
        fr_linear_transposed(&m->kv_b_proj, first, first + m->nope, q, query, s->compute->kernels);
        memcpy(query + m->kv_rank, q + m->nope, (size_t)m->rope * sizeof(float));
        for (int j = 0; j < width; j++) query[j] *= m->softmax_scale;
    }
}

/* ---- What rows attend to ---- */

typedef struct attention {
    const fr_mla *mla;
    const fr_kv_cache *kv;
    int layer;
    fr_mla_scratch *s;
    fr_attended runs[FR_DECODE_ROWS]; /* rows in ascending order */
    int count;
} attention;

/* Whether the rows of a pass attend to all positions up to their own. */
static bool see_all(const fr_choice *choices, int pos, int rows) {
    for (int r = 0; choices && r < rows; r++)
        if (choices[r].positions || choices[r].count != pos + r + 1) return false;
    return true;
}

/* All rows together; or where they have chosen, each for itself. Returns how many runs there are. */
static int find_runs(const fr_choice *choices, int pos, int rows, fr_attended *runs) {
    runs[0] = (fr_attended){.rows = rows, .seen = pos + 1};
    if (see_all(choices, pos, rows)) return 1;
    for (int r = 0; r < rows; r++) runs[r] = (fr_attended){r, 1, choices[r].count, choices[r].positions};
    return rows;
}

static int chunks_of(const fr_attended *run) {
    return (fr_attended_positions(run) + FR_CHUNK - 1) / FR_CHUNK;
}

/* Whether a row sees anything of a chunk; rows are of the run. */
static bool sees(const fr_attended *run, int row, int chunk) {
    return run->seen + row - run->row > chunk * FR_CHUNK;
}

/* Merges a chunk behind the first into heads [begin, end) of a run's rows. */
static void merge(const attention *a, const fr_attended *run, int chunk, fr_partials next, int begin, int end) {
    for (int row = run->row; row < run->row + run->rows; row++)
        for (int head = begin; sees(run, row, chunk) && head < end; head++)
            fr_chunk_merge(a->s->merged, next, row * a->mla->heads + head, a->mla->kv_rank);
}

/* ---- A thread for itself ---- */

/* All positions for the heads that the thread owns. */
static void attend_owned(const attention *a) {
    int begin, end;
    fr_team_split(a->mla->heads, 1, &begin, &end);
    if (begin == end) return;
    for (const fr_attended *run = a->runs; run < a->runs + a->count; run++) {
        fr_pairs pairs = {0, run->rows * (end - begin), begin, end - begin};
        for (int chunk = 0; chunk < chunks_of(run); chunk++) {
            fr_partials to = chunk == 0 ? a->s->merged : a->s->waves[0];
            fr_chunk_attend(a->mla, a->kv, a->layer, run, chunk, &pairs, to, a->s);
            if (chunk > 0) merge(a, run, chunk, to, begin, end);
        }
    }
}

/* ---- Shared by position ---- */

/* All pairs of a run over one chunk. Blocks are in the order of runs, then chunks. */
typedef struct block {
    int run, chunk;
    int pairs, positions;
    int slot;           /* of the wave: where its partial softmaxes begin; those of a first chunk need none */
    int64_t begin, end; /* its part of the wave's work, in pairs times positions */
} block;

static block block_at(const attention *a, int run, int chunk, int slot, int64_t begin) {
    block b = {.run = run, .chunk = chunk, .slot = slot, .begin = begin};
    if (run == a->count) return b; /* behind the last */
    b.pairs = a->runs[run].rows * a->mla->heads;
    b.positions = at_most(fr_attended_positions(&a->runs[run]) - chunk * FR_CHUNK, FR_CHUNK);
    b.end = begin + (int64_t)b.pairs * b.positions;
    return b;
}

static block block_after(const attention *a, const block *b) {
    int slot = b->slot + (b->chunk > 0 ? b->pairs : 0);
    bool last = b->chunk + 1 == chunks_of(&a->runs[b->run]);
    return block_at(a, b->run + last, last ? 0 : b->chunk + 1, slot, b->end);
}

/* Whether a block is left, and has room in the wave. */
static bool in_wave(const attention *a, const block *b) {
    return b->run < a->count && (b->chunk == 0 || b->slot + b->pairs <= a->s->slots);
}

static fr_partials partials_of(const attention *a, const block *b, int wave) {
    fr_partials p = a->s->waves[wave % 2];
    if (b->chunk == 0) return a->s->merged;
    return (fr_partials){.first = a->runs[b->run].row * a->mla->heads,
                         .latent = p.latent + (size_t)b->slot * (size_t)a->mla->kv_rank,
                         .max = p.max + b->slot,
                         .sum = p.sum + b->slot};
}

/* The pair at which the wave's work reaches `at`, in whole units. */
static int pair_at(const block *b, int64_t at, int unit) {
    if (at <= b->begin) return 0;
    if (at >= b->end) return b->pairs;
    return at_most((int)((at - b->begin) / b->positions + unit / 2) / unit * unit, b->pairs);
}

/* Pairs that are computed together: queries of a group of tiles; four for vectors, if that leaves work for all. */
static int unit_of(const attention *a, int64_t work) {
    if (fr_mla_has_tiles(a->s, a->kv->type)) return FR_TILED_QUERIES;
    return work >= (int64_t)FR_CHUNK * 8 * fr_team_size() ? 4 : 1;
}

/* TEAM. As many blocks as have room: a part of them, which lies together in the cache, for each thread. Then each merges what its
 * own heads got. Returns the next wave's first block. */
static block attend_wave(const attention *a, const block *first, int wave) {
    const int size = fr_team_size(), rank = fr_team_rank();
    int64_t work = 0;
    int begin, end;
    for (block b = *first; in_wave(a, &b); b = block_after(a, &b)) work = b.end;
    const int64_t from = work * rank / size, to = work * (rank + 1) / size;
    const int unit = unit_of(a, work);
    for (block b = *first; in_wave(a, &b); b = block_after(a, &b)) {
        fr_pairs pairs = {pair_at(&b, from, unit), pair_at(&b, to, unit), 0, a->mla->heads};
        if (pairs.begin < pairs.end)
            fr_chunk_attend(a->mla, a->kv, a->layer, &a->runs[b.run], b.chunk, &pairs, partials_of(a, &b, wave), a->s);
    }
    fr_team_barrier();
    fr_team_split(a->mla->heads, 1, &begin, &end);
    block b = *first;
    for (; in_wave(a, &b); b = block_after(a, &b))
        if (b.chunk > 0) merge(a, &a->runs[b.run], b.chunk, partials_of(a, &b, wave), begin, end);
    return block_at(a, b.run, b.chunk, 0, 0);
}

/* One wave suffices unless the context is very long. Waves take turns with two sets of partial softmaxes, so that a thread may
 * begin the next while others still merge. */
static void attend_shared(const attention *a) {
    block next = block_at(a, 0, 0, 0, 0);
    for (int wave = 0; next.run < a->count; wave++) next = attend_wave(a, &next, wave);
}

/* Threads that own heads need no barrier for attention, but each of them reads all positions, and tiles may be filled badly. Two
 * barriers cost what some microseconds of work are worth. */
bool fr_attention_is_shared(const fr_mla *m, fr_kv type, int pos, int rows, const fr_mla_scratch *s) {
    enum { PAYS = 1 << 18 }; /* pairs times positions times width */
    fr_attended runs[FR_DECODE_ROWS];
    const int size = fr_team_size(), unit = fr_mla_has_tiles(s, type) ? FR_TILED_QUERIES : 1;
    if (size == 1 || m->heads == 0) return false;
    if (!heads_are_owned(m, rows)) return true;
    int64_t saved = 0;
    for (int i = 0, count = find_runs(s->index.choices, pos, rows, runs); i < count; i++) {
        /* Reading a position costs about as much as two pairs' arithmetic, or as one group's by tiles. */
        int own = fr_whole_units((m->heads + size - 1) / size * runs[i].rows, unit);
        int all = fr_whole_units(m->heads * runs[i].rows, unit), reading = unit > 1 ? unit : 2;
        int parts = at_most(chunks_of(&runs[i]) * (all / unit), size);
        if (chunks_of(&runs[i]) > 1)
            saved += (int64_t)fr_attended_positions(&runs[i]) * (own + reading - (all + reading) / parts);
    }
    return saved * (m->kv_rank + m->rope) >= PAYS;
}

void fr_attend_absorbed(const fr_mla *m, const fr_kv_cache *kv, int layer, int pos, int rows, fr_mla_scratch *s) {
    attention a = {.mla = m, .kv = kv, .layer = layer, .s = s};
    assert(rows <= FR_DECODE_ROWS && fr_team_size() <= s->compute->threads);
    a.count = find_runs(s->index.choices, pos, rows, a.runs);
    fr_chunk_begin(s);
    if (fr_attention_is_shared(m, kv->type, pos, rows, s))
        attend_shared(&a);
    else
        attend_owned(&a);
}

/* ---- Values ---- */

/* latent of a head for all rows, normalized. */
static void normalize(const fr_mla *m, int rows, int head, const fr_partials *p) {
    for (int pair = head; pair < rows * m->heads; pair += m->heads)
        for (int i = 0; i < m->kv_rank; i++) p->latent[(size_t)pair * (size_t)m->kv_rank + (size_t)i] /= p->sum[pair];
}

void fr_project_values(const fr_mla *m, int rows, fr_mla_scratch *s) {
    int expanded = fr_mla_kv_width(m), width = fr_mla_o_width(m), begin, end;
    unsigned input = fr_linear_input(&m->o_proj, m->act_fp8);
    fr_joint_rows o = {&s->o_rows, s->o, rows, width, m->v, input, m->act_ue8m0};
    fr_rows latents = {.kernels = s->compute->kernels, .rows = rows * m->heads, .width = m->kv_rank, .x = s->merged.latent};
    fr_team_split(m->heads, 1, &begin, &end);
    for (int head = begin; head < end; head++) {
        /* The values of a head are outputs [first, first + v) of kv_b_proj; its weights are read once for all rows. */
        int first = m->kv_before + head * (m->nope + m->v) + m->nope, pairs[FR_DECODE_ROWS];
        for (int r = 0; r < rows; r++) pairs[r] = r * m->heads + head;
        normalize(m, rows, head, &s->merged);
        fr_linear_decode(&m->kv_b_proj, &latents, pairs, rows, first, first + m->v, s->kv_b_out, expanded);
        for (int r = 0; r < rows; r++)
            memcpy(fr_mla_output(m, s, r, head), s->kv_b_out + (size_t)r * (size_t)expanded + first,
                   (size_t)m->v * sizeof(float));
    }
    begin += m->first_head;
    end += m->first_head;
    if (fr_rows_part_is_quantized(&s->compute->exchange, &o))
        fr_rows_complete(&s->o_rows, s->o, width, m->act_ue8m0, 0, rows, begin * m->v, end * m->v, s->o_done);
    if (fr_team_rank() == 0) fr_rows_begin(&s->o_rows, s->o, rows, width, input, m->act_ue8m0);
    fr_rows_join(&s->compute->exchange, &o, 1);
}
