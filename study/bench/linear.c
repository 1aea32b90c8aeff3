/* The model's own matrices as they lie in the checkpoint, by kind and rows. Kinds take turns, and a kind's matrices
 * take turns within its time, so that a large model's weights come from memory as they do when it decodes. */
#include "core/kernels/kernels.h"
#include "core/threads.h"
#include "forerun_study.h"
#include "mtp/session.h"
#include "study/bench/bench.h"

enum { MOST_MATRICES = 64 };

enum {
    Q_PROJ,
    Q_A_PROJ,
    Q_B_PROJ,
    KV_A_PROJ,
    KV_B_PROJ,
    O_PROJ,
    DENSE_GATE,
    DENSE_UP,
    DENSE_DOWN,
    ROUTER,
    EXPERT_GATE,
    EXPERT_UP,
    EXPERT_DOWN,
    SHARED_GATE,
    SHARED_UP,
    SHARED_DOWN,
    EH_PROJ,
    LM_HEAD,
    DRAFT_HEAD,
    NUM_KINDS
};

static const char *const names[NUM_KINDS] = {
    [Q_PROJ] = "q_proj",
    [Q_A_PROJ] = "q_a_proj",
    [Q_B_PROJ] = "q_b_proj",
    [KV_A_PROJ] = "kv_a_proj_with_mqa",
    [KV_B_PROJ] = "kv_b_proj",
    [O_PROJ] = "o_proj",
    [DENSE_GATE] = "mlp.gate_proj",
    [DENSE_UP] = "mlp.up_proj",
    [DENSE_DOWN] = "mlp.down_proj",
    [ROUTER] = "gate",
    [EXPERT_GATE] = "experts.gate_proj",
    [EXPERT_UP] = "experts.up_proj",
    [EXPERT_DOWN] = "experts.down_proj",
    [SHARED_GATE] = "shared_experts.gate_proj",
    [SHARED_UP] = "shared_experts.up_proj",
    [SHARED_DOWN] = "shared_experts.down_proj",
    [EH_PROJ] = "eh_proj",
    [LM_HEAD] = "lm_head",
    [DRAFT_HEAD] = "draft_head",
};

/* Matrices of one name, shape and dtype. */
typedef struct kind {
    const char *name;
    bool exact; /* never quantizes its input */
    const fr_linear *matrices[MOST_MATRICES];
    int count;
    uint64_t bytes;
} kind;

typedef struct linears {
    const fr_bench_run *b;
    kind kinds[NUM_KINDS];
    int num_kinds;
    const int *rows;
    int num_rows;
    fr_rows ready;
    float *x, *y;
    void *scratch, *memory;
} linears;

static void add(kind *k, const fr_linear *w, uint64_t enough) {
    const fr_linear *first = k->matrices[0];
    if (w->out == 0 || k->count == MOST_MATRICES || k->bytes >= enough) return;
    if (k->count > 0 && (w->dtype != first->dtype || w->out != first->out || w->in != first->in)) return;
    k->matrices[k->count++] = w;
    k->bytes += fr_linear_bytes(w);
}

static void add_mlp(kind *gate, const fr_mlp *mlp, uint64_t enough) {
    add(gate, &mlp->gate_proj, enough);
    add(gate + 1, &mlp->up_proj, enough);
    add(gate + 2, &mlp->down_proj, enough);
}

static void add_layer(kind *k, const fr_layer *layer, uint64_t enough) {
    const fr_mla *mla = &layer->mla;
    add(&k[Q_PROJ], &mla->q_proj, enough);
    add(&k[Q_A_PROJ], &mla->q_a_proj, enough);
    add(&k[Q_B_PROJ], &mla->q_b_proj, enough);
    add(&k[KV_A_PROJ], &mla->kv_a_proj_with_mqa, enough);
    add(&k[KV_B_PROJ], &mla->kv_b_proj, enough);
    add(&k[O_PROJ], &mla->o_proj, enough);
    if (!layer->is_moe) {
        add_mlp(&k[DENSE_GATE], &layer->mlp, enough);
        return;
    }
    add(&k[ROUTER], &layer->moe.router.gate, enough);
    for (int e = 0; e < layer->moe.router.experts; e++) add_mlp(&k[EXPERT_GATE], &layer->moe.experts[e], enough);
    if (layer->moe.has_shared) add_mlp(&k[SHARED_GATE], &layer->moe.shared, enough);
}

/* Of each kind matrices of about `enough` bytes; kinds that the model lacks are left out. */
static void collect(linears *l, uint64_t enough, bool with_head) {
    const fr_model *model = l->b->model;
    kind *k = l->kinds;
    for (int i = 0; i < NUM_KINDS; i++) k[i] = (kind){.name = names[i], .exact = i == KV_B_PROJ};
    for (int i = 0; i < model->config.num_hidden_layers; i++) add_layer(k, &model->layers[i], enough);
    if (model->mtp.present) {
        add_layer(k, &model->mtp.layer, enough);
        add(&k[EH_PROJ], &model->mtp.eh_proj, enough);
    }
    if (with_head) add(&k[LM_HEAD], &model->lm_head, enough);
    if (with_head && model->draft_head.owned_w) add(&k[DRAFT_HEAD], &model->draft_head, enough);
    l->num_kinds = 0;
    for (int i = 0; i < NUM_KINDS; i++)
        if (k[i].count > 0) k[l->num_kinds++] = k[i];
}

/* Buffers for all kinds and rows, as one arena. */
static fr_status allocate(linears *l, fr_error *error) {
    int in = 0, out = 0, rows = 0;
    for (int i = 0; i < l->num_kinds; i++) {
        const fr_linear *w = l->kinds[i].matrices[0];
        if (w->in > in) in = w->in;
        if (w->out > out) out = w->out;
    }
    for (int i = 0; i < l->num_rows; i++)
        if (l->rows[i] > rows) rows = l->rows[i];
    FR_TRY(fr_linear_prepare(rows, error));
    fr_arena arena = {0};
    for (int pass = 0; pass < 2; pass++) {
        l->x = FR_TAKE(&arena, float, (size_t)rows *(size_t)in);
        l->y = FR_TAKE(&arena, float, (size_t)rows *(size_t)out);
        fr_rows_take(&l->ready, &arena, rows, in, FR_ROWS_ANY);
        l->scratch = fr_arena_take(&arena, (size_t)l->b->model->threads, fr_linear_scratch_bytes(rows));
        if (pass == 1) break;
        arena = (fr_arena){.size = arena.used, .base = l->memory = fr_alloc(arena.used)};
        if (!arena.base) return fr_fail(error, FR_ERROR_MEMORY, "bench: no memory for %d rows of %d", rows, out);
    }
    uint64_t state = l->b->options.seed + 1;
    for (size_t i = 0; i < (size_t)rows * (size_t)in; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        l->x[i] = (float)(int32_t)(state >> 32) * 0x1p-30f; /* in [-2, 2) */
    }
    return FR_OK;
}

/* An fr_bench_fn: figure = (index of rows) * num_kinds + kind. */
static fr_status multiply(void *user, int figure, int round, double *seconds, fr_error *error) {
    linears *l = user;
    const fr_model *model = l->b->model;
    const kind *k = &l->kinds[figure % l->num_kinds];
    const fr_linear *first = k->matrices[0];
    int rows = l->rows[figure / l->num_kinds];
    unsigned form = fr_linear_form(first, model->act_fp8 && !k->exact);
    (void)round, (void)error;
    fr_team team = FR_TEAM;
#pragma omp parallel num_threads(model->threads)
    {
        fr_team_enter(&team);
        fr_rows_set(&l->ready, l->x, rows, first->in, form, model->config.act_ue8m0);
        double start = fr_now();
        for (int i = 0; i < k->count; i++) fr_linear_forward(k->matrices[i], &l->ready, l->y, first->out, l->scratch);
        if (fr_team_rank() == 0) *seconds = fr_now() - start;
        fr_team_leave();
    }
    return FR_OK;
}

/* Appends the figures to the result. */
static void tell(const linears *l, const fr_figure *seconds) {
    fr_bench_result *r = l->b->result;
    uint64_t round_bytes = 0;
    for (int i = 0; i < l->num_kinds; i++) round_bytes += l->kinds[i].bytes;
    for (int f = 0; f < l->num_rows * l->num_kinds; f++) {
        const kind *k = &l->kinds[f % l->num_kinds];
        const fr_linear *w = k->matrices[0];
        int rows = l->rows[f / l->num_kinds];
        if (seconds[f].samples == 0) continue;
        fr_bench_linear *to = &r->linear[r->num_linear++];
        *to = (fr_bench_linear){.name = k->name,
                                .dtype = fr_dtype_name(w->dtype),
                                .rows = rows,
                                .out = w->out,
                                .in = w->in,
                                .matrices = k->count,
                                .cached = round_bytes < 2 * r->cache_bytes};
        to->bytes_per_s = fr_figure_rate(seconds[f], (double)k->bytes);
        to->flops_per_s = fr_figure_rate(seconds[f], 2.0 * rows * w->out * (double)w->in * k->count);
    }
}

static fr_status measure(fr_bench_run *b, const char *what, const int *rows, int num_rows, uint64_t enough, bool with_head,
                         fr_error *error) {
    linears *l = fr_alloc_zeroed(1, sizeof *l);
    fr_figure *seconds = fr_alloc((size_t)num_rows * NUM_KINDS * sizeof *seconds);
    fr_status status = FR_OK;
    if (!l || !seconds) {
        status = fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
        goto done;
    }
    l->b = b;
    l->rows = rows;
    l->num_rows = num_rows;
    collect(l, enough, with_head);
    FR_CHECK(allocate(l, error));
    status = fr_bench_rounds(b, what, num_rows * l->num_kinds, multiply, l, seconds, error);
    if (status == FR_OK || status == FR_INTERRUPTED) tell(l, seconds);
    fr_bench_measure_machine(b);
done:
    if (l) fr_free(l->memory);
    fr_free(l);
    fr_free(seconds);
    return status;
}

fr_status fr_bench_measure_linears(fr_bench_run *b, fr_error *error) {
    static const int few[] = {1, 2, 3, 4, 8, 128, 512};
    const int *rows = b->options.rows ? b->options.rows : few;
    size_t count = b->options.rows ? b->options.num_rows : sizeof few / sizeof *few;
    int *sorted = fr_alloc((count + 1) * sizeof *sorted), num_few = 0, num_many = 0; /* few rows first */
    fr_status status = FR_OK;
    b->result->linear = fr_alloc_zeroed(count * NUM_KINDS, sizeof *b->result->linear);
    if (!sorted || !b->result->linear) {
        status = fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        if (rows[i] <= FR_DECODE_ROWS) sorted[num_few++] = rows[i];
    for (size_t i = 0; i < count; i++)
        if (rows[i] > FR_DECODE_ROWS) sorted[num_few + num_many++] = rows[i];
    uint64_t cache = b->result->cache_bytes, enough = 2 * cache > (64u << 20) ? 2 * cache : (64u << 20);
    if (num_few) FR_CHECK(measure(b, "linear, few rows", sorted, num_few, enough, true, error));
    /* Many rows compute more than they read: a matrix or two will do. A prefill's head runs on one row. */
    if (num_many) FR_CHECK(measure(b, "linear, many rows", sorted + num_few, num_many, 16u << 20, false, error));
done:
    fr_free(sorted);
    return status;
}
