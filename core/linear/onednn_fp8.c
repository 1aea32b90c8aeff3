#include "core/linear/onednn_fp8.h"

#include <dnnl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/linear/prefill.h"

#define MOST_BLOCKS 256 /* of a row: what scratch is taken for */

static struct {
    dnnl_engine_t engine;
    bool right;     /* there is an implementation, and it gives what it must */
    bool reference; /* it is oneDNN's reference, which is slow */
    bool forced;
    char name[64];
} fp8;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ---- One product ------------------------------------------------------------------------------------------------ */

enum { SOURCE, WEIGHTS, RESULT, SOURCE_SCALES, WEIGHT_SCALES, NUM_MEMORIES };
static const int arguments[NUM_MEMORIES] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC,
                                            DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS};

/* C [rows, n] = A [rows, width] x B [width, n]; B's columns are rows of a weight matrix, `stride` bytes apart. */
typedef struct product {
    dnnl_memory_desc_t layouts[NUM_MEMORIES];
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t descriptor;
    dnnl_primitive_t primitive;
    dnnl_memory_t memories[NUM_MEMORIES];
    dnnl_stream_t stream;
} product;

static void product_release(product *p) {
    if (p->stream) dnnl_stream_destroy(p->stream);
    for (int i = 0; i < NUM_MEMORIES; i++) {
        if (p->memories[i]) dnnl_memory_destroy(p->memories[i]);
        if (p->layouts[i]) dnnl_memory_desc_destroy(p->layouts[i]);
    }
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
static bool describe(product *p, int rows, int width, int n, int64_t stride) {
    const int both = 3; /* a mask: scales differ along both dimensions */
    int blocks = width / FR_BLOCK;
    return layout(p, SOURCE, dnnl_f8_e4m3, rows, width, width, 1) && layout(p, WEIGHTS, dnnl_f8_e4m3, width, n, 1, stride) &&
           layout(p, RESULT, dnnl_f32, rows, n, n, 1) && layout(p, SOURCE_SCALES, dnnl_f32, rows, blocks, blocks, 1) &&
           layout(p, WEIGHT_SCALES, dnnl_f32, blocks, n, n, 1) && dnnl_primitive_attr_create(&p->attributes) == dnnl_success &&
           dnnl_primitive_attr_set_scales(p->attributes, DNNL_ARG_SRC, both, 2, (dnnl_dims_t){1, FR_BLOCK}, dnnl_f32) ==
               dnnl_success &&
           dnnl_primitive_attr_set_scales(p->attributes, DNNL_ARG_WEIGHTS, both, 2, (dnnl_dims_t){FR_BLOCK, 1}, dnnl_f32) ==
               dnnl_success &&
           dnnl_matmul_primitive_desc_create(&p->descriptor, fp8.engine, p->layouts[SOURCE], p->layouts[WEIGHTS], NULL,
                                             p->layouts[RESULT], p->attributes) == dnnl_success;
}

/* oneDNN keeps what it generates for a shape, for the process. */
static bool product_create(product *p, int rows, int width, int n, int64_t stride) {
    memset(p, 0, sizeof *p);
    bool made = describe(p, rows, width, n, stride) && dnnl_primitive_create(&p->primitive, p->descriptor) == dnnl_success &&
                dnnl_stream_create(&p->stream, fp8.engine, dnnl_stream_default_flags) == dnnl_success;
    for (int i = 0; made && i < NUM_MEMORIES; i++)
        made = dnnl_memory_create(&p->memories[i], p->layouts[i], fp8.engine, DNNL_MEMORY_NONE) == dnnl_success;
    if (!made) product_release(p);
    return made;
}

static bool product_run(const product *p, void *const data[NUM_MEMORIES]) {
    dnnl_exec_arg_t list[NUM_MEMORIES];
    for (int i = 0; i < NUM_MEMORIES; i++) {
        if (dnnl_memory_set_data_handle(p->memories[i], data[i]) != dnnl_success) return false;
        list[i] = (dnnl_exec_arg_t){arguments[i], p->memories[i]};
    }
    return dnnl_primitive_execute(p->primitive, p->stream, NUM_MEMORIES, list) == dnnl_success &&
           dnnl_stream_wait(p->stream) == dnnl_success;
}

/* ---- Rows and weights --------------------------------------------------------------------------------------------- */

/* The code of an E4M3 value that is carried as BF16; exact. */
static inline uint8_t code_of(uint16_t bf16) {
    unsigned magnitude = bf16 & 0x7fffu, sign = bf16 >> 8 & 0x80u;
    unsigned normal = (magnitude >> 4) - ((127 - 7) << 3), smallest_normal = (127 - 6) << 7;
    unsigned subnormal = (unsigned)(fr_bf16_f32((uint16_t)magnitude) * 512.0f);
    return (uint8_t)(sign | (magnitude >= smallest_normal ? normal : subnormal));
}

void fr_fp8_pack(const fr_rows *r, const fr_rows *from, const int *index, int rows, int width, int tile, int block) {
    int blocks = width / FR_BLOCK, columns = fr_tile_columns(rows), begin = tile * FR_TILE_TOKENS;
    int end = begin + FR_TILE_TOKENS < columns ? begin + FR_TILE_TOKENS : columns;
    for (int i = begin; i < end; i++) {
        uint8_t *to = (uint8_t *)r->pack_q + (int64_t)i * width + block * FR_BLOCK;
        int64_t row = i < rows && index ? index[i] : i;
        r->pack_scale[(int64_t)i * blocks + block] = i < rows ? from->scale[row * blocks + block] : 0.0f;
        if (i >= rows) {
            memset(to, 0, FR_BLOCK);
            continue;
        }
        const uint16_t *q = from->q + (row * blocks + block) * FR_BLOCK;
        for (int j = 0; j < FR_BLOCK; j++) to[j] = code_of(q[j]);
    }
}

/* scales [blocks of a row, n] of outputs [output, output + n). */
static void expand_scales(const fr_linear *w, int output, int n, float *scales) {
    for (int block = 0; block < w->in / FR_BLOCK; block++)
        for (int i = 0; i < n; i++) scales[block * n + i] = w->scale[(output + i) / FR_BLOCK * w->scale_stride + block];
}

/* The product by plain loops: what oneDNN's is held to, and what stands in for it if it has no memory. */
static void multiply_plainly(const fr_linear *w, const fr_rows *x, int output, int n, const float *scales, float *sum) {
    int blocks = w->in / FR_BLOCK;
    for (int row = 0; row < x->rows; row++)
        for (int i = 0; i < n; i++) {
            const uint8_t *a = (const uint8_t *)x->pack_q + (int64_t)row * w->in;
            const uint8_t *b = (const uint8_t *)w->w + (output + i) * w->stride;
            float y = 0.0f;
            for (int block = 0; block < blocks; block++) {
                float dot = 0.0f;
                for (int j = block * FR_BLOCK; j < (block + 1) * FR_BLOCK; j++) dot += fr_e4m3_f32(a[j]) * fr_e4m3_f32(b[j]);
                y += dot * x->pack_scale[(int64_t)row * blocks + block] * scales[block * n + i];
            }
            sum[(int64_t)row * n + i] = y;
        }
}

static bool multiply(product *p, const fr_linear *w, const fr_rows *x, int output, float *scales, float *sum) {
    void *const data[NUM_MEMORIES] = {x->pack_q, (uint8_t *)(uintptr_t)w->w + output * w->stride, sum, x->pack_scale, scales};
    return product_run(p, data);
}

/* ---- Whether oneDNN has one ---------------------------------------------------------------------------------------- */

enum { TRY_ROWS = 16, TRY_WIDTH = 2 * FR_BLOCK, TRY_OUT = 192, TRY_OUTPUT = TRY_OUT - FR_FP8_OUTPUTS };

/* A small product whose scales all differ. There are versions that take grouped scales and then read them as if they were of
 * another kind, so what they say is not enough. */
static bool computes_right(product *p) {
    static uint8_t a[TRY_ROWS * TRY_WIDTH], b[TRY_OUT * TRY_WIDTH];
    static float sx[TRY_ROWS * 2], sw[2 * 2] = {0.5f, 3.0f, 1.75f, 0.25f}, scales[2 * FR_FP8_OUTPUTS];
    static float expected[TRY_ROWS * FR_FP8_OUTPUTS], sum[TRY_ROWS * FR_FP8_OUTPUTS];
    for (int i = 0; i < TRY_ROWS * TRY_WIDTH; i++) a[i] = (uint8_t)(i * 7 % 120);
    for (int i = 0; i < TRY_OUT * TRY_WIDTH; i++) b[i] = (uint8_t)(i * 11 % 119);
    for (int i = 0; i < TRY_ROWS * 2; i++) sx[i] = 1.0f + 0.125f * (float)i;
    fr_linear w = {
        .out = TRY_OUT, .in = TRY_WIDTH, .dtype = FR_F8_E4M3, .w = b, .stride = TRY_WIDTH, .scale = sw, .scale_stride = 2};
    fr_rows x = {.rows = TRY_ROWS, .width = TRY_WIDTH, .pack_q = (uint16_t *)(void *)a, .pack_scale = sx};
    expand_scales(&w, TRY_OUTPUT, FR_FP8_OUTPUTS, scales);
    multiply_plainly(&w, &x, TRY_OUTPUT, FR_FP8_OUTPUTS, scales, expected);
    if (!multiply(p, &w, &x, TRY_OUTPUT, scales, sum)) return false;
    for (int i = 0; i < TRY_ROWS * FR_FP8_OUTPUTS; i++) /* all terms are positive */
        if (!(fabsf(sum[i] - expected[i]) <= 1e-4f * expected[i])) return false;
    return true;
}

static void probe(void) {
    product p = {0};
    const char *name = NULL;
    if (dnnl_engine_create(&fp8.engine, dnnl_cpu, 0) != dnnl_success) return;
    if (!product_create(&p, TRY_ROWS, TRY_WIDTH, FR_FP8_OUTPUTS, TRY_WIDTH)) return;
    if (dnnl_primitive_desc_query(p.descriptor, dnnl_query_impl_info_str, 0, (void *)&name) == dnnl_success && name)
        snprintf(fp8.name, sizeof fp8.name, "%s", name);
    fp8.reference = strncmp(fp8.name, "ref", 3) == 0;
    fp8.right = computes_right(&p);
    product_release(&p);
}

static bool used(void) {
    pthread_once(&once, probe);
    return fp8.forced || (fp8.right && !fp8.reference);
}

const char *fr_fp8_name(void) {
    if (!used()) return NULL;
    return fp8.right ? fp8.name : "plain loops";
}

bool fr_fp8_takes(int width) {
    return width % FR_BLOCK == 0 && width / FR_BLOCK <= MOST_BLOCKS && used();
}

size_t fr_fp8_scratch_floats(void) {
    return used() ? (size_t)MOST_BLOCKS * FR_FP8_OUTPUTS : 0;
}

void fr_fp8_force(bool forced) {
    fp8.forced = forced;
}

/* ---- Ranges --------------------------------------------------------------------------------------------------------- */

void fr_fp8_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, float *scales,
                  float *sum) {
    product p = {0};
    int made = 0; /* outputs that p is for */
    for (int output = begin, n; output < end; output += n) {
        n = end - output < FR_FP8_OUTPUTS ? end - output : FR_FP8_OUTPUTS;
        if (made != n) {
            product_release(&p);
            made = fp8.right && product_create(&p, fr_tile_columns(x->rows), w->in, n, w->stride) ? n : 0;
        }
        expand_scales(w, output, n, scales);
        if (!made || !multiply(&p, w, x, output, scales, sum)) multiply_plainly(w, x, output, n, scales, sum);
        for (int row = 0; row < x->rows; row++)
            memcpy(y + row * y_stride + output, sum + (int64_t)row * n, (size_t)n * sizeof *y);
    }
    product_release(&p);
}
