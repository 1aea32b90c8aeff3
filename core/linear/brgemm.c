/* Prefill by oneDNN's ukernels: BF16 products of one tile of weights and one of tokens, made at run time for the CPU at hand. */
#include <oneapi/dnnl/dnnl_ukernel.h>
#include <pthread.h>
#include <stdio.h>

#include "core/kernels/prefill.h"
#include "core/linear/panels.h"

#define CLASSES (FR_TILE_TOKENS / 16)

static struct {
    dnnl_brgemm_t kernel[CLASSES][2]; /* by columns / 16 - 1; [1] adds to C */
    size_t scratchpad;                /* bytes that the hungriest wants */
    dnnl_status_t status;             /* of creating them */
    char name[128];
} brgemm;

static pthread_once_t once = PTHREAD_ONCE_INIT;

#define DNNL_CHECK(expr)                                                                                                         \
    do {                                                                                                                         \
        dnnl_status_t dnnl_check_status_ = (expr);                                                                               \
        if (dnnl_check_status_ != dnnl_success) return dnnl_check_status_;                                                       \
    } while (0)

static dnnl_status_t get_pack_type(dnnl_brgemm_t kernel, dnnl_pack_type_t *type) {
#if DNNL_VERSION_MAJOR > 3 || DNNL_VERSION_MINOR >= 8
    (void)kernel;
    return dnnl_brgemm_get_B_pack_type(type, dnnl_bf16, dnnl_bf16);
#else
    return dnnl_brgemm_get_B_pack_type(kernel, type);
#endif
}

static dnnl_status_t create_kernel(dnnl_brgemm_t *kernel, int columns, int add) {
    dnnl_pack_type_t type;
    size_t bytes;
    DNNL_CHECK(dnnl_brgemm_create(kernel, FR_TILE_OUTPUTS, columns, FR_BLOCK, 1, FR_BLOCK, columns, FR_TILE_TOKENS, dnnl_bf16,
                                  dnnl_bf16, dnnl_f32));
    DNNL_CHECK(dnnl_brgemm_set_add_C(*kernel, add));
    DNNL_CHECK(dnnl_brgemm_finalize(*kernel));
    DNNL_CHECK(get_pack_type(*kernel, &type));
    if (type != dnnl_pack_type_pack32) return dnnl_unimplemented;
    DNNL_CHECK(dnnl_brgemm_generate(*kernel));
    DNNL_CHECK(dnnl_brgemm_get_scratchpad_size(*kernel, &bytes));
    if (bytes > brgemm.scratchpad) brgemm.scratchpad = bytes;
    return dnnl_success;
}

static const char *isa_text(void) {
    switch (dnnl_get_effective_cpu_isa()) {
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

static void create_kernels(void) {
    const dnnl_version_t *version = dnnl_version();
    for (int i = 0; i < CLASSES; i++)
        for (int add = 0; add < 2; add++)
            if (brgemm.status == dnnl_success) brgemm.status = create_kernel(&brgemm.kernel[i][add], 16 * (i + 1), add);
    snprintf(brgemm.name, sizeof brgemm.name, "oneDNN %d.%d.%d brgemm bf16 (%s)", version->major, version->minor, version->patch,
             isa_text());
    if (brgemm.status == dnnl_success) return;
    for (int i = 0; i < 2 * CLASSES; i++) {
        dnnl_brgemm_t *kernel = &brgemm.kernel[i / 2][i % 2];
        if (*kernel) dnnl_brgemm_destroy(*kernel);
        *kernel = NULL;
    }
}

/* The kernels serve every shape and every model. */
static bool ready(const fr_kernels *kernels, bool quantized, int width) {
    (void)quantized, (void)width;
    if (!kernels->prefill) return false;
    pthread_once(&once, create_kernels);
    return brgemm.status == dnnl_success;
}

/* Without them there is the portable backend, which is right but slow; only a lack of memory is an error. */
static fr_status prepare(fr_compute *c, const fr_linear *w, fr_error *error) {
    (void)w;
    bool wanted = c->kernels->prefill && !c->kernels->multiply_panel;
    if (wanted && brgemm.status == dnnl_out_of_memory)
        return fr_fail(error, FR_ERROR_MEMORY, "oneDNN brgemm kernels: out of memory");
    return FR_OK;
}

static size_t scratch(int max_rows) {
    return fr_panels_scratch(max_rows, FR_PANEL_C * sizeof(float) + brgemm.scratchpad);
}

static void pack(const fr_pack_job *job, int tile, int block) {
    fr_panels_pack(job, false, tile, block);
}

static void execute(int columns, int add, const uint16_t *a, const uint16_t *b, float *c, void *pad) {
    static const dnnl_dim_t offsets[2] = {0, 0};
    dnnl_brgemm_execute(brgemm.kernel[columns / 16 - 1][add], a, b, offsets, c, pad);
}

static void multiply(const fr_panel_job *j) {
    float *c = j->own; /* [FR_TILE_OUTPUTS, FR_TILE_TOKENS] */
    void *pad = c + FR_PANEL_C;
    dnnl_brgemm_set_hw_context(brgemm.kernel[j->columns / 16 - 1][0]);
    for (int output = j->begin, g = 0; output < j->end; output += FR_TILE_OUTPUTS, g++)
        for (int block = j->first; block < j->last; block++) {
            const int at = (g * FR_PANEL_BLOCKS + block - j->first) * FR_PANEL_A;
            const uint16_t *a = j->a + at, *a_lo = j->a_lo + at;
            const uint16_t *b = j->b + (block - j->first) * j->b_stride, *lo = b + j->columns * FR_BLOCK;
            const float *sx = j->sx ? j->sx + (block - j->first) * j->sx_stride : NULL;
            const float sw = j->w->scale ? j->w->scale[output / FR_BLOCK * j->w->scale_stride + block] : 1.0f;
            execute(j->columns, 0, a, b, c, pad);
            if (!j->one_part) execute(j->columns, 1, a, lo, c, pad);
            if (j->w->dtype == FR_F32) execute(j->columns, 1, a_lo, b, c, pad);
            if (j->w->dtype == FR_F32 && !j->one_part) execute(j->columns, 1, a_lo, lo, c, pad);
            j->kernels->prefill->add_scaled(j->sum + g * j->sum_stride, c, j->columns, sw, sx);
        }
}

static void range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, const fr_compute *c) {
    fr_panels_range(w, x, begin, end, y, y_stride, false, multiply, fr_compute_scratch(c));
    dnnl_brgemm_release_hw_context();
}

const fr_prefill_backend fr_backend_brgemm = {
    .name = brgemm.name, .ready = ready, .scratch = scratch, .prepare = prepare, .pack = pack, .range = range};

/* ---- The most that it can do ---- */

size_t fr_linear_tile_bytes(const fr_kernels *kernels) {
    if (!ready(kernels, false, FR_BLOCK)) return 0;
    fr_arena arena = {0};
    fr_arena_take(&arena, 1, 2 * FR_PANEL_A * sizeof(uint16_t) + FR_PANEL_C * sizeof(float) + brgemm.scratchpad);
    return arena.used;
}

double fr_linear_tile(void *memory, int repeats) {
    uint16_t *a = memory, *b = a + FR_PANEL_A; /* B is as large as A */
    float *c = (float *)(void *)(b + FR_PANEL_A);
    for (int i = 0; i < FR_PANEL_A; i++) a[i] = b[i] = (uint16_t)(0x3f80 + i % 128); /* BF16 in [1, 2) */
    dnnl_brgemm_set_hw_context(brgemm.kernel[CLASSES - 1][0]);
    for (int i = 0; i < repeats; i++) execute(FR_TILE_TOKENS, 0, a, b, c, c + FR_PANEL_C);
    dnnl_brgemm_release_hw_context();
    return 2.0 * FR_PANEL_A * FR_TILE_TOKENS * repeats;
}

_Static_assert(FR_TILE_OUTPUTS *FR_BLOCK == FR_BLOCK * FR_TILE_TOKENS, "fr_linear_tile's B is as large as its A");
