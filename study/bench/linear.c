/* The model's own matrices as they lie in the checkpoint, by kind and rows. Kinds take turns, and a kind's matrices
 * take turns within its time, so that a large model's weights come from memory as they do when it decodes. */
#include "core/clock.h"
#include "core/kernels/kernels.h"
#include "core/threads.h"
#include "forerun_study.h"
#include "study/bench/bench.h"

enum { MOST_MATRICES = 64 };

/* Matrices of one row of the schema, of one shape and dtype. */
typedef struct kind {
    const fr_schema_row *row; /* NULL: the draft head */
    const fr_linear *matrices[MOST_MATRICES];
    int count;
    uint64_t bytes;
} kind;

typedef struct linears {
    const fr_bench_run *b;
    kind *kinds; /* [num_kinds], with room for one a row and the draft head */
    int num_kinds;
    uint64_t enough; /* bytes of a kind */
    const int *rows;
    int num_rows;
    fr_rows ready;
    float *x, *y;
    fr_compute compute;
    void *memory;
} linears;

/* ---- Kinds ---- */

/* One a row, and the draft head. */
static size_t most_kinds(void) {
    return fr_tensors.count + 1;
}

/* A row's name without what goes without saying: "mlp.experts.*.up_proj.weight" is "experts.up_proj". */
static void name_kind(const kind *k, char *name, size_t size) {
    const char *from = k->row ? k->row->name : "draft_head";
    size_t used = 0;
    bool in_layer = k->row && (k->row->scope == FR_SCOPE_LAYER || k->row->scope == FR_SCOPE_EXPERT);
    if (in_layer && k->row->part != FR_PART_DENSE_MLP) from = strchr(from, '.') + 1;
    for (; *from && strcmp(from, ".weight") != 0 && used + 1 < size; from++) {
        if (strncmp(from, "*.", 2) == 0) from += 2;
        name[used++] = *from;
    }
    name[used] = '\0';
}

/* kv_b_proj never quantizes its input: see attn/mla.h. */
static unsigned form_of(const kind *k, bool act_fp8) {
    bool exact = k->row && k->row->scope == FR_SCOPE_LAYER && k->row->offset == offsetof(fr_layer, mla.kv_b_proj);
    return fr_linear_input(k->matrices[0], act_fp8 && !exact);
}

static void add(linears *l, const fr_schema_row *row, const fr_linear *w) {
    int i = 0;
    while (i < l->num_kinds && l->kinds[i].row != row) i++;
    kind *k = &l->kinds[i];
    if (i == l->num_kinds) *k = (kind){.row = row}, l->num_kinds++;
    const fr_linear *first = k->matrices[0];
    if (k->count == MOST_MATRICES || k->bytes >= l->enough) return;
    if (k->count > 0 && (w->dtype != first->dtype || w->out != first->out || w->in != first->in)) return;
    k->matrices[k->count++] = w;
    k->bytes += fr_linear_bytes(w);
}

static void add_layers(void *user, const fr_schema_tensor *t, const fr_linear *w) {
    if (t->row->part != FR_PART_EMBEDDING && t->row->part != FR_PART_LM_HEAD) add(user, t->row, w);
}

static void add_lm_head(void *user, const fr_schema_tensor *t, const fr_linear *w) {
    if (t->row->part == FR_PART_LM_HEAD) add(user, t->row, w);
}

/* Of each kind that the model has matrices of about l->enough bytes. */
static void collect(linears *l, bool with_head) {
    const fr_model *model = l->b->model;
    fr_weights_each_linear(model, add_layers, l);
    if (!with_head) return;
    fr_weights_each_linear(model, add_lm_head, l);
    if (model->draft_head.owned_w) add(l, NULL, &model->draft_head);
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
    fr_arena arena = {0};
    for (int pass = 0; pass < 2; pass++) {
        l->x = FR_TAKE(&arena, float, (size_t)rows *(size_t)in);
        l->y = FR_TAKE(&arena, float, (size_t)rows *(size_t)out);
        fr_rows_take(&l->ready, &arena, l->b->model->kernels, rows, in, FR_INPUT_ANY);
        fr_compute_take(&l->compute, &arena, l->b->model->kernels, rows, l->b->model->threads);
        if (pass == 1) break;
        arena = (fr_arena){.size = arena.used, .base = l->memory = fr_alloc(arena.used)};
        if (!arena.base) return fr_fail(error, FR_ERROR_MEMORY, "bench: no memory for %d rows of %d", rows, out);
    }
    for (int i = 0; i < l->num_kinds; i++)
        for (int j = 0; j < l->kinds[i].count; j++) FR_TRY(fr_compute_prepare(&l->compute, l->kinds[i].matrices[j], error));
    uint64_t state = l->b->options.seed + 1;
    for (size_t i = 0; i < (size_t)rows * (size_t)in; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        l->x[i] = (float)(int32_t)(state >> 32) * 0x1p-30f; /* in [-2, 2) */
    }
    return FR_OK;
}

/* One kind of matrix, and how many rows it is multiplied with. */
typedef struct product {
    linears *linears;
    const kind *kind;
    int rows;
    double seconds;
} product;

/* TEAM. */
static void run_product(void *argument) {
    product *p = argument;
    linears *l = p->linears;
    const fr_model *model = l->b->model;
    const fr_linear *first = p->kind->matrices[0];
    fr_rows_set(&l->ready, l->x, p->rows, first->in, form_of(p->kind, model->act_fp8), model->config.act_ue8m0);
    double start = fr_now();
    for (int i = 0; i < p->kind->count; i++) fr_linear_forward(p->kind->matrices[i], &l->ready, l->y, first->out, &l->compute);
    if (fr_team_rank() == 0) p->seconds = fr_now() - start;
}

/* An fr_bench_fn: figure = (index of rows) * num_kinds + kind. */
static fr_status multiply(void *user, int figure, int round, double *seconds, fr_error *error) {
    linears *l = user;
    product p = {.linears = l, .kind = &l->kinds[figure % l->num_kinds], .rows = l->rows[figure / l->num_kinds]};
    (void)round, (void)error;
    fr_team_run(l->b->model->threads, run_product, &p);
    *seconds = p.seconds;
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
        *to = (fr_bench_linear){.dtype = fr_dtype_name(w->dtype),
                                .rows = rows,
                                .out = w->out,
                                .in = w->in,
                                .matrices = k->count,
                                .cached = round_bytes < 2 * r->cache_bytes};
        name_kind(k, to->name, sizeof to->name);
        to->bytes_per_s = fr_figure_rate(seconds[f], (double)k->bytes);
        to->flops_per_s = fr_figure_rate(seconds[f], 2.0 * rows * w->out * (double)w->in * k->count);
    }
}

static fr_status measure(fr_bench_run *b, const char *what, const int *rows, int num_rows, uint64_t enough, bool with_head,
                         fr_error *error) {
    linears l = {.b = b, .rows = rows, .num_rows = num_rows, .enough = enough};
    fr_figure *seconds = fr_alloc((size_t)num_rows * most_kinds() * sizeof *seconds);
    fr_status status = FR_OK;
    l.kinds = fr_alloc(most_kinds() * sizeof *l.kinds);
    if (!l.kinds || !seconds) {
        status = fr_fail(error, FR_ERROR_MEMORY, "bench: out of memory");
        goto done;
    }
    collect(&l, with_head);
    FR_CHECK(allocate(&l, error));
    status = fr_bench_rounds(b, what, num_rows * l.num_kinds, multiply, &l, seconds, error);
    if (status == FR_OK || status == FR_INTERRUPTED) tell(&l, seconds);
    fr_bench_measure_machine(b);
done:
    fr_compute_release(&l.compute);
    fr_free(l.memory);
    fr_free(l.kinds);
    fr_free(seconds);
    return status;
}

fr_status fr_bench_measure_linears(fr_bench_run *b, fr_error *error) {
    static const int few[] = {1, 2, 3, 4, 8, 128, 512};
    const int *rows = b->options.rows ? b->options.rows : few;
    size_t count = b->options.rows ? b->options.num_rows : sizeof few / sizeof *few;
    int *sorted = fr_alloc((count + 1) * sizeof *sorted), num_few = 0, num_many = 0; /* few rows first */
    fr_status status = FR_OK;
    b->result->linear = fr_alloc_zeroed(count * most_kinds(), sizeof *b->result->linear);
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
