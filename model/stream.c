#include "model/stream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/clock.h"

/* ---- Where experts lie ------------------------------------------------------------------------------------------- */

/* A matrix or its scales. */
typedef struct range {
    int file;
    uint64_t offset, bytes;
    uint64_t *at; /* where its place in the slot goes */
} range;

static int by_place(const void *a, const void *b) {
    const range *x = a, *y = b;
    if (x->file != y->file) return x->file - y->file;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The bytes that rows of a matrix take from the first to the last. */
static uint64_t extent(int rows, int columns, int64_t stride, size_t size) {
    return (uint64_t)((rows - 1) * stride + columns) * size;
}

static int add_ranges(const fr_checkpoint *c, const fr_linear *linear, range *to, uint64_t *w, uint64_t *scale) {
    int count = 0;
    *scale = FR_NOT_IN_SLOT;
    to[0] = (range){.bytes = extent(linear->out, linear->in, linear->stride, fr_dtype_size(linear->dtype)), .at = w};
    bool found = fr_checkpoint_locate(c, linear->w, &to[0].file, &to[0].offset);
    assert(found);
    (void)found;
    count++;
    if (!linear->scale || linear->owned_scale) return count;
    to[1] = (range){.at = scale};
    to[1].bytes = extent(fr_blocks(linear->out), fr_blocks(linear->in), linear->scale_stride, sizeof(float));
    if (fr_checkpoint_locate(c, linear->scale, &to[1].file, &to[1].offset)) count++;
    return count;
}

/* Lays an expert out: what lies together in a file is one read. The whole layout of slots is decided here. Returns the bytes of a
 * slot that it fills, in whole pages. */
static uint64_t lay_out(const fr_checkpoint *c, const fr_mlp *mlp, fr_expert_layout *l) {
    const fr_linear *linears[] = {&mlp->gate_proj, &mlp->up_proj, &mlp->down_proj};
    range ranges[FR_EXPERT_PARTS];
    int count = 0;
    uint64_t used = 0;
    *l = (fr_expert_layout){.num_parts = 0};
    for (int i = 0; i < 3; i++) count += add_ranges(c, linears[i], ranges + count, &l->w[i], &l->scale[i]);
    qsort(ranges, (size_t)count, sizeof *ranges, by_place);
    for (int i = 0; i < count; i++) {
        const range *r = &ranges[i];
        int p = l->num_parts - 1;
        bool goes_on = p >= 0 && l->parts[p].file == r->file && l->parts[p].offset + l->parts[p].bytes == r->offset;
        if (!goes_on) {
            p = l->num_parts++;
            l->parts[p].file = r->file;
            l->parts[p].offset = r->offset;
            l->parts[p].bytes = 0;
            l->parts[p].at = used + r->offset % FR_READ_PAGE;
        }
        *r->at = l->parts[p].at + l->parts[p].bytes;
        l->parts[p].bytes += r->bytes;
        used = (*r->at + r->bytes + FR_READ_PAGE - 1) / FR_READ_PAGE * FR_READ_PAGE;
    }
    return used;
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

/* The i-th layer with experts, the MTP module's last, and its number in the checkpoint; NULL: there are no more. */
static fr_moe *moe_at(const fr_model *model, int i, int *number) {
    int layers = model->config.num_hidden_layers;
    for (int n = 0; n <= layers; n++) {
        fr_layer *layer = n < layers ? &model->layers[n] : (fr_layer *)&model->mtp.layer;
        if (!layer->is_moe || i-- > 0) continue;
        *number = n;
        return &layer->moe;
    }
    return NULL;
}

/* What the cache is made from. */
typedef struct sources {
    int layers, experts;
    const fr_mlp **mlps;
    int *numbers;
    fr_expert_layout *layouts;
    char **paths;
    int files;
    uint64_t most; /* bytes of a slot that any expert fills */
} sources;

static void release_sources(sources *s) {
    for (int f = 0; s->paths && f < s->files; f++) free(s->paths[f]);
    fr_free(s->paths);
    fr_free(s->layouts);
    fr_free(s->numbers);
    fr_free(s->mlps);
}

static bool add_path(const fr_model *model, sources *s, int file) {
    return s->paths[file] || asprintf(&s->paths[file], "%s/%s", fr_checkpoint_dir(model->checkpoint),
                                      fr_checkpoint_file(model->checkpoint, file)) >= 0;
}

static bool survey_layer(const fr_model *model, sources *s, int i) {
    const fr_moe *moe = moe_at(model, i, &s->numbers[i]);
    bool whole = true;
    s->mlps[i] = moe->experts;
    for (int e = 0; e < s->experts; e++) {
        fr_expert_layout *l = &s->layouts[(size_t)i * (size_t)s->experts + (size_t)e];
        uint64_t used = lay_out(model->checkpoint, &moe->experts[e], l);
        if (used > s->most) s->most = used;
        for (int p = 0; p < l->num_parts; p++) whole = whole && add_path(model, s, l->parts[p].file);
    }
    return whole;
}

static fr_status survey(const fr_model *model, sources *s, fr_error *error) {
    int number;
    *s = (sources){.experts = model->config.n_routed_experts, .files = fr_checkpoint_num_files(model->checkpoint)};
    while (moe_at(model, s->layers, &number)) s->layers++;
    s->mlps = fr_alloc((size_t)s->layers * sizeof *s->mlps);
    s->numbers = fr_alloc((size_t)s->layers * sizeof *s->numbers);
    s->layouts = fr_alloc((size_t)s->layers * (size_t)s->experts * sizeof *s->layouts);
    s->paths = fr_alloc_zeroed((size_t)s->files, sizeof *s->paths);
    bool whole = s->mlps && s->numbers && s->layouts && s->paths;
    for (int i = 0; whole && i < s->layers; i++) whole = survey_layer(model, s, i);
    return whole ? FR_OK : fr_fail(error, FR_ERROR_MEMORY, "expert cache: out of memory");
}

static fr_status create(fr_model *model, const sources *s, fr_reader_kind reader, fr_error *error) {
    const fr_memory_plan *p = &model->plan;
    assert(s->most <= p->expert_bytes && s->layers * s->experts == p->experts);
    fr_experts_options o = {.layers = s->layers,
                            .experts = s->experts,
                            .slots = p->cached_experts,
                            .slot_bytes = p->expert_bytes,
                            .mlps = s->mlps,
                            .layouts = s->layouts,
                            .numbers = s->numbers,
                            .paths = (const char *const *)s->paths,
                            .files = s->files,
                            .reader = reader,
                            .notices = &model->notices};
    return fr_experts_create(&o, &model->experts, error);
}

fr_status fr_stream_open(fr_model *model, fr_reader_kind reader, fr_error *error) {
    sources s;
    int number;
    fr_status status = survey(model, &s, error);
    model->reader = reader;
    if (status == FR_OK) status = create(model, &s, reader, error);
    for (int i = 0; status == FR_OK && i < s.layers; i++) {
        fr_moe *moe = moe_at(model, i, &number), *next = moe_at(model, i + 1, &number);
        moe->streamed = model->experts;
        moe->streamed_layer = i;
        moe->next = next && number < model->config.num_hidden_layers ? next : NULL;
    }
    release_sources(&s);
    return status;
}

void fr_stream_close(fr_model *model) {
    fr_experts_destroy(model->experts);
    model->experts = NULL;
}

/* ---- The disk ---------------------------------------------------------------------------------------------------- */

enum { HUGE_PAGE = 1 << 21 };

typedef struct measuring {
    const sources *s;
    fr_stream_order order;
    fr_reader *reader;
    uint64_t slot_bytes;
    char *memory;
    fr_read reads[FR_STREAM_AT_ONCE][FR_EXPERT_PARTS];
    int num_reads[FR_STREAM_AT_ONCE];
    uint64_t next; /* expert */
} measuring;

static void ask(measuring *m, int i) {
    uint64_t count = (uint64_t)m->s->layers * (uint64_t)m->s->experts;
    uint64_t step = m->order == FR_STREAM_SCATTERED ? 0x9e3779b1u : 1;
    const fr_expert_layout *l = &m->s->layouts[m->next++ * step % count];
    m->num_reads[i] = l->num_parts;
    for (int p = 0; p < l->num_parts; p++) {
        m->reads[i][p] = (fr_read){.file = l->parts[p].file,
                                   .offset = l->parts[p].offset,
                                   .bytes = l->parts[p].bytes,
                                   .to = m->memory + (uint64_t)i * m->slot_bytes + l->parts[p].at};
        fr_reader_submit(m->reader, &m->reads[i][p], true);
    }
}

static bool is_over(measuring *m, int i, fr_status *status, fr_error *error) {
    for (int p = 0; p < m->num_reads[i]; p++) {
        fr_read_state state = atomic_load(&m->reads[i][p].state);
        if (state == FR_READ_ASKED) return false;
        if (state == FR_READ_FAILED) *status = fr_reader_fail(m->reader, &m->reads[i][p], "", error);
    }
    return true;
}

/* Experts that are scattered are read once at most: opening a small model is not to take longer. */
static bool is_enough(const measuring *m, double began_s, double seconds) {
    bool all = m->next > (uint64_t)m->s->layers * (uint64_t)m->s->experts;
    return fr_now() - began_s >= seconds || (all && m->order == FR_STREAM_SCATTERED);
}

static fr_status measure(measuring *m, double seconds, double *bytes_per_s, fr_error *error) {
    fr_status status = FR_OK;
    uint64_t bytes;
    double busy, start = fr_now();
    for (int i = 0; i < FR_STREAM_AT_ONCE; i++) ask(m, i);
    while (status == FR_OK && !is_enough(m, start, seconds)) {
        unsigned events = fr_reader_events(m->reader);
        bool any = false;
        for (int i = 0; i < FR_STREAM_AT_ONCE && status == FR_OK; i++) {
            if (!is_over(m, i, &status, error)) continue;
            ask(m, i);
            any = true;
        }
        if (!any) fr_reader_wait(m->reader, events);
    }
    fr_reader_count(m->reader, &bytes, &busy);
    *bytes_per_s = busy > 0.0 ? (double)bytes / busy : 0.0;
    return status;
}

fr_status fr_stream_measure(const fr_model *model, fr_reader_kind reader, fr_stream_order order, double seconds,
                            double *bytes_per_s, fr_error *error) {
    sources s;
    measuring m = {.s = &s, .order = order};
    fr_status status = survey(model, &s, error);
    m.slot_bytes = s.most;
    uint64_t size = (FR_STREAM_AT_ONCE * m.slot_bytes / HUGE_PAGE + 1) * HUGE_PAGE;
    m.memory = aligned_alloc(HUGE_PAGE, size);
    if (status == FR_OK && !m.memory) status = fr_fail(error, FR_ERROR_MEMORY, "disk: out of memory");
    fr_reader_options o = {.kind = reader, .memory = m.memory, .memory_bytes = size};
    if (m.memory) madvise(m.memory, size, MADV_HUGEPAGE); /* as the cache's, which makes requests to the disk larger */
    if (status == FR_OK) status = fr_reader_create((const char *const *)s.paths, s.files, &o, &m.reader, error);
    if (status == FR_OK) status = measure(&m, seconds, bytes_per_s, error);
    fr_reader_destroy(m.reader);
    free(m.memory);
    release_sources(&s);
    return status;
}
