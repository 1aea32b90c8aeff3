#include "core/linear/onednn_fp8.h"

#include <dnnl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/linear/backends.h"

#define MOST_BLOCKS 256 /* of a row: what scratch is taken for */
#define OUTPUTS 128     /* that are computed at a time */
_Static_assert(OUTPUTS == 2 * FR_TILE_OUTPUTS, "what prepare() counts on");

static struct {
    dnnl_engine_t engine;
    bool right;     /* there is an implementation, and it gives what it must */
    bool reference; /* it is oneDNN's reference, which is slow */
    bool forced;
    char text[96];
} fp8 = {.text = "oneDNN matmul (plain loops)"};

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ---- One product ------------------------------------------------------------------------------------------------ */

enum { SOURCE, WEIGHTS, RESULT, SOURCE_SCALES, WEIGHT_SCALES, NUM_MEMORIES };
static const int arguments[NUM_MEMORIES] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC,
                                            DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS};

/* C [rows, n] = A [rows, width] x B [width, n]; B's columns are rows of a weight matrix, `stride` bytes apart. */
typedef struct shape {
    int rows, width, n;
    int64_t stride;
} shape;

/* What one thread executes it with. */
typedef struct executor {
    dnnl_memory_t memories[NUM_MEMORIES];
    dnnl_stream_t stream;
} executor;

typedef struct product {
    shape shape;
    dnnl_memory_desc_t layouts[NUM_MEMORIES];
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t descriptor;
    dnnl_primitive_t primitive;
    executor *executors; /* [threads] */
    int threads;
} product;

static void product_release(product *p) {
    for (int t = 0; p->executors && t < p->threads; t++) {
        if (p->executors[t].stream) dnnl_stream_destroy(p->executors[t].stream);
        for (int i = 0; i < NUM_MEMORIES; i++)
            if (p->executors[t].memories[i]) dnnl_memory_destroy(p->executors[t].memories[i]);
    }
    fr_free(p->executors);
    for (int i = 0; i < NUM_MEMORIES; i++)
        if (p->layouts[i]) dnnl_memory_desc_destroy(p->layouts[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->descriptor) dnnl_primitive_desc_destroy(p->descriptor);
    if (p->attributes) dnnl_primitive_attr_destroy(p->attributes);
    memset(p, 0, sizeof *p);
}

static bool layout(product *p, int which, dnnl_data_type_t type, dnnl_dim_t rows, dnnl_dim_t columns, dnnl_dim_t row_stride,
                   dnnl_dim_t column_stride) {
    return dnnl_memory_desc_create_with_strides(&p->layouts[which], 2, (dnnl_dims_t){rows, columns}, type,
                                                (dnnl_dims_t){row_stride, column_stride}) == dnnl_success;
}

/* One scale for 128 values of a row of A, and for 128 values of a column of B: that is what grouped scales can say, so those of
 * 128 x 128 blocks are repeated for each column. */
static bool describe(product *p) {
    const int both = 3; /* a mask: scales differ along both dimensions */
    int rows = p->shape.rows, width = p->shape.width, n = p->shape.n, blocks = width / FR_BLOCK;
    return layout(p, SOURCE, dnnl_f8_e4m3, rows, width, width, 1) &&
           layout(p, WEIGHTS, dnnl_f8_e4m3, width, n, 1, p->shape.stride) && layout(p, RESULT, dnnl_f32, rows, n, n, 1) &&
           layout(p, SOURCE_SCALES, dnnl_f32, rows, blocks, blocks, 1) && layout(p, WEIGHT_SCALES, dnnl_f32, blocks, n, n, 1) &&
           dnnl_primitive_attr_create(&p->attributes) == dnnl_success &&
           dnnl_primitive_attr_set_scales(p->attributes, DNNL_ARG_SRC, both, 2, (dnnl_dims_t){1, FR_BLOCK}, dnnl_f32) ==
               dnnl_success &&
           dnnl_primitive_attr_set_scales(p->attributes, DNNL_ARG_WEIGHTS, both, 2, (dnnl_dims_t){FR_BLOCK, 1}, dnnl_f32) ==
               dnnl_success &&
           dnnl_matmul_primitive_desc_create(&p->descriptor, fp8.engine, p->layouts[SOURCE], p->layouts[WEIGHTS], NULL,
                                             p->layouts[RESULT], p->attributes) == dnnl_success;
}

/* oneDNN keeps what it generates for a shape, for the process. */
static bool product_create(product *p, shape s, int threads) {
    *p = (product){.shape = s, .threads = threads, .executors = fr_alloc_zeroed((size_t)threads, sizeof(executor))};
    bool made = p->executors && describe(p) && dnnl_primitive_create(&p->primitive, p->descriptor) == dnnl_success;
    for (int t = 0; made && t < threads; t++) {
        executor *e = &p->executors[t];
        made = dnnl_stream_create(&e->stream, fp8.engine, dnnl_stream_default_flags) == dnnl_success;
        for (int i = 0; made && i < NUM_MEMORIES; i++)
            made = dnnl_memory_create(&e->memories[i], p->layouts[i], fp8.engine, DNNL_MEMORY_NONE) == dnnl_success;
    }
    if (!made) product_release(p);
    return made;
}

static bool product_run(const product *p, int thread, void *const data[NUM_MEMORIES]) {
    const executor *e = &p->executors[thread];
    dnnl_exec_arg_t list[NUM_MEMORIES];
    for (int i = 0; i < NUM_MEMORIES; i++) {
        if (dnnl_memory_set_data_handle(e->memories[i], data[i]) != dnnl_success) return false;
        list[i] = (dnnl_exec_arg_t){arguments[i], e->memories[i]};
    }
    return dnnl_primitive_execute(p->primitive, e->stream, NUM_MEMORIES, list) == dnnl_success &&
           dnnl_stream_wait(e->stream) == dnnl_success;
}

/* ---- Rows and weights --------------------------------------------------------------------------------------------- */

/* The code of an E4M3 value that is carried as BF16; exact. */
static inline uint8_t code_of(uint16_t bf16) {
    unsigned magnitude = bf16 & 0x7fffu, sign = bf16 >> 8 & 0x80u;
    unsigned normal = (magnitude >> 4) - ((127 - 7) << 3), smallest_normal = (127 - 6) << 7;
    unsigned subnormal = (unsigned)(fr_bf16_f32((uint16_t)magnitude) * 512.0f);
    return (uint8_t)(sign | (magnitude >= smallest_normal ? normal : subnormal));
}

static void pack(const fr_pack_job *j, int tile, int block) {
    int blocks = j->width / FR_BLOCK, columns = fr_tile_columns(j->rows), begin = tile * FR_TILE_TOKENS;
    int end = begin + FR_TILE_TOKENS < columns ? begin + FR_TILE_TOKENS : columns;
    for (int i = begin; i < end; i++) {
        uint8_t *to = (uint8_t *)j->to->pack_q + (int64_t)i * j->width + block * FR_BLOCK;
        int64_t row = i < j->rows ? fr_pack_row(j, i) : 0;
        j->to->pack_scale[(int64_t)i * blocks + block] = i < j->rows ? j->from->scale[row * blocks + block] : 0.0f;
        if (i >= j->rows) {
            memset(to, 0, FR_BLOCK);
            continue;
        }
        const uint16_t *q = j->from->q + (row * blocks + block) * FR_BLOCK;
        for (int k = 0; k < FR_BLOCK; k++) to[k] = code_of(q[k]);
    }
}

/* scales [blocks of a row, n] of outputs [output, output + n). */
static void expand_scales(const fr_linear *w, int output, int n, float *scales) {
    for (int block = 0; block < w->in / FR_BLOCK; block++)
        for (int i = 0; i < n; i++) scales[block * n + i] = w->scale[(output + i) / FR_BLOCK * w->scale_stride + block];
}

/* Rows [first, first + rows) of x times outputs [output, output + n) by plain loops, into sum [rows, n]: what oneDNN's product is
 * compared with, and what replaces one that could not be made. */
static void multiply_plainly(const fr_linear *w, const fr_rows *x, int first, int rows, int output, int n, const float *scales,
                             float *sum) {
    int blocks = w->in / FR_BLOCK;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < n; i++) {
            const uint8_t *a = (const uint8_t *)x->pack_q + (int64_t)(first + row) * w->in;
            const uint8_t *b = (const uint8_t *)w->w + (output + i) * w->stride;
            float y = 0.0f;
            for (int block = 0; block < blocks; block++) {
                float dot = 0.0f;
                for (int j = block * FR_BLOCK; j < (block + 1) * FR_BLOCK; j++) dot += fr_e4m3_f32(a[j]) * fr_e4m3_f32(b[j]);
                y += dot * x->pack_scale[(int64_t)(first + row) * blocks + block] * scales[block * n + i];
            }
            sum[(int64_t)row * n + i] = y;
        }
}

static bool multiply(const product *p, int thread, const fr_linear *w, const fr_rows *x, int first, int output, float *scales,
                     float *sum) {
    void *const data[NUM_MEMORIES] = {(uint8_t *)x->pack_q + (int64_t)first * w->in,
                                      (uint8_t *)(uintptr_t)w->w + output * w->stride, sum,
                                      x->pack_scale + (int64_t)first * (w->in / FR_BLOCK), scales};
    return product_run(p, thread, data);
}

/* ---- Whether oneDNN has one ---------------------------------------------------------------------------------------- */

enum { TRY_ROWS = 16, TRY_WIDTH = 2 * FR_BLOCK, TRY_OUT = 192, TRY_OUTPUT = TRY_OUT - OUTPUTS };

/* A small product whose scales all differ. There are versions that take grouped scales and then read them as if they were of
 * another kind, so what they say is not enough. */
static bool computes_right(const product *p) {
    static uint8_t a[TRY_ROWS * TRY_WIDTH], b[TRY_OUT * TRY_WIDTH];
    static float sx[TRY_ROWS * 2], sw[2 * 2] = {0.5f, 3.0f, 1.75f, 0.25f}, scales[2 * OUTPUTS];
    static float expected[TRY_ROWS * OUTPUTS], sum[TRY_ROWS * OUTPUTS];
    for (int i = 0; i < TRY_ROWS * TRY_WIDTH; i++) a[i] = (uint8_t)(i * 7 % 120);
    for (int i = 0; i < TRY_OUT * TRY_WIDTH; i++) b[i] = (uint8_t)(i * 11 % 119);
    for (int i = 0; i < TRY_ROWS * 2; i++) sx[i] = 1.0f + 0.125f * (float)i;
    fr_linear w = {
        .out = TRY_OUT, .in = TRY_WIDTH, .dtype = FR_F8_E4M3, .w = b, .stride = TRY_WIDTH, .scale = sw, .scale_stride = 2};
    fr_rows x = {.rows = TRY_ROWS, .width = TRY_WIDTH, .pack_q = (uint16_t *)(void *)a, .pack_scale = sx};
    expand_scales(&w, TRY_OUTPUT, OUTPUTS, scales);
    multiply_plainly(&w, &x, 0, TRY_ROWS, TRY_OUTPUT, OUTPUTS, scales, expected);
    if (!multiply(p, 0, &w, &x, 0, TRY_OUTPUT, scales, sum)) return false;
    for (int i = 0; i < TRY_ROWS * OUTPUTS; i++) /* all terms are positive */
        if (!(fabsf(sum[i] - expected[i]) <= 1e-4f * expected[i])) return false;
    return true;
}

static void probe(void) {
    product p = {0};
    const char *implementation = NULL;
    if (dnnl_engine_create(&fp8.engine, dnnl_cpu, 0) != dnnl_success) return;
    if (!product_create(&p, (shape){TRY_ROWS, TRY_WIDTH, OUTPUTS, TRY_WIDTH}, 1)) return;
    if (dnnl_primitive_desc_query(p.descriptor, dnnl_query_impl_info_str, 0, (void *)&implementation) != dnnl_success)
        implementation = NULL;
    fp8.reference = implementation && strncmp(implementation, "ref", 3) == 0;
    fp8.right = computes_right(&p);
    if (fp8.right) snprintf(fp8.text, sizeof fp8.text, "oneDNN matmul (%s)", implementation ? implementation : "");
    product_release(&p);
}

static bool used(void) {
    pthread_once(&once, probe);
    return fp8.forced || (fp8.right && !fp8.reference);
}

void fr_fp8_force(bool forced) {
    fp8.forced = forced;
}

static bool ready(const fr_kernels *kernels, bool quantized, int width) {
    return quantized && kernels->prefill && width % FR_BLOCK == 0 && width / FR_BLOCK <= MOST_BLOCKS && used();
}

/* ---- A session's products ------------------------------------------------------------------------------------------- */

/* A pass of any number of rows is some of these many, each at most once: 16, 32, 64, ... So products are few. */
static int rows_of_product(int columns) {
    int rows = 16;
    while (2 * rows <= columns) rows *= 2;
    return rows;
}

struct fr_fp8_products {
    product *list;
    int count, room;
};

static const product *find(const struct fr_fp8_products *products, const shape *s) {
    for (int i = 0; products && i < products->count; i++) {
        const shape *p = &products->list[i].shape;
        if (p->rows == s->rows && p->width == s->width && p->n == s->n && p->stride == s->stride) return &products->list[i];
    }
    return NULL;
}

/* Adds a product that is not there yet. One that oneDNN cannot make is left out: plain loops replace it. */
static fr_status add(struct fr_fp8_products *products, const shape *s, int threads, fr_error *error) {
    if (s->n <= 0 || s->n > OUTPUTS || find(products, s)) return FR_OK;
    if (products->count == products->room) {
        int room = products->room ? 2 * products->room : 32;
        product *list = fr_grow(products->list, (size_t)products->count * sizeof *list, (size_t)room * sizeof *list);
        if (!list) return fr_fail(error, FR_ERROR_MEMORY, "oneDNN FP8 products: out of memory");
        products->list = list;
        products->room = room;
    }
    if (product_create(&products->list[products->count], *s, threads)) products->count++;
    return FR_OK;
}

/* For every number of rows, and every number of outputs with which a range can end: it begins at a multiple of 64, and ends at
 * one or at w->out. */
static fr_status prepare(fr_compute *c, const fr_linear *w, fr_error *error) {
    const int tail = w->out % FR_TILE_OUTPUTS, outputs[] = {OUTPUTS, FR_TILE_OUTPUTS, tail, tail ? tail + FR_TILE_OUTPUTS : 0};
    if (w->dtype != FR_F8_E4M3 || !ready(c->kernels, true, w->in) || !fp8.right) return FR_OK;
    if (!c->fp8) c->fp8 = fr_alloc_zeroed(1, sizeof *c->fp8);
    if (!c->fp8) return fr_fail(error, FR_ERROR_MEMORY, "oneDNN FP8 products: out of memory");
    for (int rows = 16; rows <= fr_tile_columns(c->max_rows); rows *= 2)
        for (int i = 0; i < 4; i++) FR_TRY(add(c->fp8, &(shape){rows, w->in, outputs[i], w->stride}, c->threads, error));
    return FR_OK;
}

static void release(fr_compute *c) {
    for (int i = 0; c->fp8 && i < c->fp8->count; i++) product_release(&c->fp8->list[i]);
    if (c->fp8) fr_free(c->fp8->list);
    fr_free(c->fp8);
    c->fp8 = NULL;
}

/* ---- Ranges --------------------------------------------------------------------------------------------------------- */

static size_t scratch(int max_rows) {
    return ((size_t)MOST_BLOCKS + (size_t)rows_of_product(fr_tile_columns(max_rows))) * OUTPUTS * sizeof(float);
}

static void multiply_part(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                          const fr_compute *c) {
    const int last = part->first + part->rows;
    float *scales = fr_compute_scratch(c), *sum = scales + MOST_BLOCKS * OUTPUTS; /* [blocks, n], [rows, n] */
    for (int output = part->begin, n; output < part->end; output += n) {
        n = part->end - output < OUTPUTS ? part->end - output : OUTPUTS;
        expand_scales(w, output, n, scales);
        for (int first = part->first, rows; first < last; first += rows) {
            rows = rows_of_product(fr_tile_columns(last) - first);
            const product *p = find(c->fp8, &(shape){rows, w->in, n, w->stride});
            if (!p || !multiply(p, fr_team_rank(), w, x, first, output, scales, sum))
                multiply_plainly(w, x, first, rows, output, n, scales, sum);
            for (int i = 0; i < rows && first + i < last; i++)
                memcpy(y + (first + i) * y_stride + output, sum + (int64_t)i * n, (size_t)n * sizeof *y);
        }
    }
}

const fr_prefill_backend fr_backend_onednn_fp8 = {.name = fp8.text,
                                                  .ready = ready,
                                                  .scratch = scratch,
                                                  .prepare = prepare,
                                                  .release = release,
                                                  .pack = pack,
                                                  .multiply = multiply_part};
