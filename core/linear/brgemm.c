/* Prefill by oneDNN's ukernels: products of one tile of weights and one of tokens, made at run time for the CPU at hand; in BF16,
 * or in float32 where vector units have no BF16 products. */
#include <oneapi/dnnl/dnnl_ukernel.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/kernels/prefill.h"
#include "core/linear/panels.h"

#define CLASSES (FR_TILE_TOKENS / 16)

typedef struct products {
    dnnl_data_type_t type;     /* of A and B; C is in float32 */
    dnnl_pack_type_t b_layout; /* as rows are packed */
    const char *type_text;
    dnnl_brgemm_t kernel[CLASSES][2]; /* by columns / 16 - 1; [1] adds to C */
    size_t scratchpad;                /* bytes that the hungriest wants */
    dnnl_status_t status;             /* of creating them */
    char name[128];
} products;

static products bf16 = {.type = dnnl_bf16, .b_layout = dnnl_pack_type_pack32, .type_text = "bf16"};
static products f32 = {.type = dnnl_f32, .b_layout = dnnl_pack_type_no_trans, .type_text = "f32"};
static pthread_once_t bf16_once = PTHREAD_ONCE_INIT, f32_once = PTHREAD_ONCE_INIT;

#define DNNL_CHECK(expr)                                                                                                         \
    do {                                                                                                                         \
        dnnl_status_t dnnl_check_status_ = (expr);                                                                               \
        if (dnnl_check_status_ != dnnl_success) return dnnl_check_status_;                                                       \
    } while (0)

static dnnl_status_t get_pack_type(dnnl_brgemm_t kernel, dnnl_data_type_t data, dnnl_pack_type_t *type) {
#if DNNL_VERSION_MAJOR > 3 || DNNL_VERSION_MINOR >= 8
    (void)kernel;
    return dnnl_brgemm_get_B_pack_type(type, data, data);
#else
    (void)data;
    return dnnl_brgemm_get_B_pack_type(kernel, type);
#endif
}

static dnnl_status_t create_kernel(products *p, dnnl_brgemm_t *kernel, int columns, int add) {
    dnnl_pack_type_t type;
    size_t bytes;
    DNNL_CHECK(dnnl_brgemm_create(kernel, FR_TILE_OUTPUTS, columns, FR_BLOCK, 1, FR_BLOCK, columns, FR_TILE_TOKENS, p->type,
                                  p->type, dnnl_f32));
    DNNL_CHECK(dnnl_brgemm_set_add_C(*kernel, add));
    DNNL_CHECK(dnnl_brgemm_finalize(*kernel));
    DNNL_CHECK(get_pack_type(*kernel, p->type, &type));
    if (type != p->b_layout) return dnnl_unimplemented;
    DNNL_CHECK(dnnl_brgemm_generate(*kernel));
    DNNL_CHECK(dnnl_brgemm_get_scratchpad_size(*kernel, &bytes));
    if (bytes > p->scratchpad) p->scratchpad = bytes;
    return dnnl_success;
}

static const char *isa_text(void) {
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2_vnni";
    case dnnl_cpu_isa_avx2_vnni_2:
        return "avx2_vnni_2";
    case dnnl_cpu_isa_avx512_core:
        return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_fp16:
        return "avx512_core_fp16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512_core_amx";
    case dnnl_cpu_isa_avx512_core_amx_fp16:
        return "avx512_core_amx_fp16";
    default:
        return "other";
    }
}

static void create_kernels(products *p) {
    const dnnl_version_t *version = dnnl_version();
    for (int i = 0; i < CLASSES; i++)
        for (int add = 0; add < 2; add++)
            if (p->status == dnnl_success) p->status = create_kernel(p, &p->kernel[i][add], 16 * (i + 1), add);
    snprintf(p->name, sizeof p->name, "oneDNN %d.%d.%d brgemm %s (%s)", version->major, version->minor, version->patch,
             p->type_text, isa_text());
    if (p->status == dnnl_success) return;
    for (int i = 0; i < 2 * CLASSES; i++) {
        dnnl_brgemm_t *kernel = &p->kernel[i / 2][i % 2];
        if (*kernel) dnnl_brgemm_destroy(*kernel);
        *kernel = NULL;
    }
}

static void create_bf16(void) {
    create_kernels(&bf16);
}

static void create_f32(void) {
    create_kernels(&f32);
}

/* The kernels serve every shape and every model. */
static bool ready_bf16(const fr_kernels *kernels, bool quantized, int width) {
    (void)quantized, (void)width;
    if (!kernels->prefill) return false;
    pthread_once(&bf16_once, create_bf16);
    return bf16.status == dnnl_success;
}

static bool ready_f32(const fr_kernels *kernels, bool quantized, int width) {
    (void)quantized, (void)width;
    if (!kernels->float_prefill) return false;
    pthread_once(&f32_once, create_f32);
    return f32.status == dnnl_success;
}

/* Without them there is the portable backend, which is right but slow; only a lack of memory is an error. */
static fr_status prepare(fr_compute *c, const fr_linear *w, fr_error *error) {
    (void)w;
    const products *wanted = c->kernels->multiply_panel  ? NULL
                             : c->kernels->prefill       ? &bf16
                             : c->kernels->float_prefill ? &f32
                                                         : NULL;
    if (wanted && wanted->status == dnnl_out_of_memory)
        return fr_fail(error, FR_ERROR_MEMORY, "oneDNN brgemm kernels: out of memory");
    return FR_OK;
}

static size_t scratch_bf16(int max_rows) {
    return fr_panels_scratch(max_rows, FR_PANEL_C * sizeof(float) + bf16.scratchpad);
}

static size_t scratch_f32(int max_rows) {
    return fr_panels_scratch(max_rows, FR_PANEL_C * sizeof(float) + f32.scratchpad);
}

static void pack_bf16(const fr_pack_job *job, int tile, int block) {
    fr_panels_pack(job, FR_PANEL_BF16, tile, block);
}

static void pack_f32(const fr_pack_job *job, int tile, int block) {
    fr_panels_pack(job, FR_PANEL_F32, tile, block);
}

static void execute(const products *p, int columns, int add, const void *a, const void *b, float *c, void *pad) {
    static const dnnl_dim_t offsets[2] = {0, 0};
    dnnl_brgemm_execute(p->kernel[columns / 16 - 1][add], a, b, offsets, c, pad);
}

/* Scales of a block: of the weights of outputs from `output` on, and of the columns. */
static float scale_w(const fr_panel_job *j, int output, int block) {
    return j->w->scale ? j->w->scale[output / FR_BLOCK * j->w->scale_stride + block] : 1.0f;
}

static const float *scale_x(const fr_panel_job *j, int block) {
    return j->sx ? j->sx + (block - j->first) * j->sx_stride : NULL;
}

static void multiply_bf16(const fr_panel_job *j) {
    float *c = j->own; /* [FR_TILE_OUTPUTS, FR_TILE_TOKENS] */
    void *pad = c + FR_PANEL_C;
    dnnl_brgemm_set_hw_context(bf16.kernel[j->columns / 16 - 1][0]);
    for (int output = j->begin, g = 0; output < j->end; output += FR_TILE_OUTPUTS, g++)
        for (int block = j->first; block < j->last; block++) {
            const int at = (g * FR_PANEL_BLOCKS + block - j->first) * FR_PANEL_A;
            const uint16_t *a = j->a + at, *a_lo = j->a_lo + at;
            const uint16_t *b = j->b + (block - j->first) * j->b_stride, *lo = b + j->columns * FR_BLOCK;
            execute(&bf16, j->columns, 0, a, b, c, pad);
            if (!j->one_part) execute(&bf16, j->columns, 1, a, lo, c, pad);
            if (j->w->dtype == FR_F32) execute(&bf16, j->columns, 1, a_lo, b, c, pad);
            if (j->w->dtype == FR_F32 && !j->one_part) execute(&bf16, j->columns, 1, a_lo, lo, c, pad);
            j->kernels->prefill->add_scaled(j->sum + g * j->sum_stride, c, j->columns, scale_w(j, output, block),
                                            scale_x(j, block));
        }
}

static void multiply_f32(const fr_panel_job *j) {
    float *c = j->own;
    for (int output = j->begin, g = 0; output < j->end; output += FR_TILE_OUTPUTS, g++)
        for (int block = j->first; block < j->last; block++) {
            const uint16_t *a = j->a + 2 * (g * FR_PANEL_FLOAT_BLOCKS + block - j->first) * FR_PANEL_A;
            execute(&f32, j->columns, 0, a, j->b + (block - j->first) * j->b_stride, c, c + FR_PANEL_C);
            j->kernels->float_prefill->add_scaled(j->sum + g * j->sum_stride, c, j->columns, scale_w(j, output, block),
                                                  scale_x(j, block));
        }
}

static void part_bf16(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                      const fr_compute *c) {
    fr_panels_multiply(w, x, part, y, y_stride, FR_PANEL_BF16, multiply_bf16, fr_compute_scratch(c));
    dnnl_brgemm_release_hw_context();
}

static void part_f32(const fr_linear *w, const fr_rows *x, const fr_linear_part *part, float *y, int64_t y_stride,
                     const fr_compute *c) {
    fr_panels_multiply(w, x, part, y, y_stride, FR_PANEL_F32, multiply_f32, fr_compute_scratch(c));
}

const fr_prefill_backend fr_backend_brgemm = {.name = bf16.name,
                                              .ready = ready_bf16,
                                              .scratch = scratch_bf16,
                                              .prepare = prepare,
                                              .pack = pack_bf16,
                                              .multiply = part_bf16};
const fr_prefill_backend fr_backend_brgemm_f32 = {
    .name = f32.name, .ready = ready_f32, .scratch = scratch_f32, .pack = pack_f32, .multiply = part_f32};

/* ---- The most that it can do ---- */

static const products *products_of(const fr_kernels *kernels) {
    return ready_bf16(kernels, false, FR_BLOCK) ? &bf16 : ready_f32(kernels, false, FR_BLOCK) ? &f32 : NULL;
}

/* A and B alike, C and the scratchpad. */
static size_t operand_bytes(const products *p) {
    return FR_PANEL_A * dnnl_data_type_size(p->type);
}

size_t fr_linear_tile_bytes(const fr_kernels *kernels) {
    const products *p = products_of(kernels);
    if (!p) return 0;
    fr_arena arena = {0};
    fr_arena_take(&arena, 1, 2 * operand_bytes(p) + FR_PANEL_C * sizeof(float) + p->scratchpad);
    return arena.used;
}

double fr_linear_tile(const fr_kernels *kernels, void *memory, int repeats) {
    const products *p = products_of(kernels);
    char *a = memory, *b = a + operand_bytes(p);
    float *c = (float *)(void *)(b + operand_bytes(p));
    memset(memory, 0x3f, 2 * operand_bytes(p)); /* near 0.75 in either type */
    dnnl_brgemm_set_hw_context(p->kernel[CLASSES - 1][0]);
    for (int i = 0; i < repeats; i++) execute(p, FR_TILE_TOKENS, 0, a, b, c, c + FR_PANEL_C);
    dnnl_brgemm_release_hw_context();
    return 2.0 * FR_PANEL_A * FR_TILE_TOKENS * repeats;
}

_Static_assert(FR_TILE_OUTPUTS *FR_BLOCK == FR_BLOCK * FR_TILE_TOKENS, "fr_linear_tile's B is as large as its A");
