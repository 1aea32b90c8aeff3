#include "core/linear/prefill.h"

#include <oneapi/dnnl/dnnl_ukernel.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/kernels/prefill.h"
#include "core/linear/onednn_fp8.h"
#include "core/threads.h"

/* A product is C [FR_TILE_OUTPUTS, columns] (+)= A [FR_TILE_OUTPUTS, FR_BLOCK] x B [FR_BLOCK, columns]: A are weights
 * decoded to BF16, B packed tokens, C the transposed result. Partial tiles of weights are padded with zeros and token
 * tiles are 16, 32, 48 or 64 wide, so few kernels serve every shape: oneDNN's, and one of our own for AMX, which scales
 * and adds what it has multiplied while it multiplies on, with operands cut into the tiles that the instructions load. */
#define CLASSES (FR_TILE_TOKENS / 16)
#define A_SIZE (FR_TILE_OUTPUTS * FR_BLOCK)
#define C_SIZE (FR_TILE_OUTPUTS * FR_TILE_TOKENS)
#define GROUP 4 /* tiles of weights that share one reading of the packed tokens */
#define PANEL 8 /* blocks of inputs that are decoded at a time: a sum then stays in cache for as many products */

static struct {
    dnnl_brgemm_t kernel[CLASSES][2]; /* by columns / 16 - 1; [1] adds to C */
    size_t scratchpad;                /* bytes that the hungriest wants */
    dnnl_status_t status;             /* of creating them */
    char path[128];
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
    brgemm.status = dnnl_success;
    for (int i = 0; i < CLASSES; i++)
        for (int add = 0; add < 2; add++)
            if (brgemm.status == dnnl_success) brgemm.status = create_kernel(&brgemm.kernel[i][add], 16 * (i + 1), add);
    snprintf(brgemm.path, sizeof brgemm.path, "oneDNN %d.%d.%d brgemm bf16 (%s)", version->major, version->minor, version->patch,
             isa_text());
    if (brgemm.status == dnnl_success) return;
    for (int i = 0; i < 2 * CLASSES; i++) {
        dnnl_brgemm_t *kernel = &brgemm.kernel[i / 2][i % 2];
        if (*kernel) dnnl_brgemm_destroy(*kernel);
        *kernel = NULL;
    }
}

/* Whether our own kernel multiplies, whose operands are tiles in one piece. */
static bool tiled(const fr_kernels *k) {
    return k->multiply_panel != NULL;
}

bool fr_prefill_packed(const fr_kernels *k) {
    if (!k->prefill) return false;
    pthread_once(&once, create_kernels);
    return brgemm.status == dnnl_success;
}

const char *fr_linear_prefill_path(const fr_kernels *k) {
    static char both[sizeof brgemm.path + 96];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char text[sizeof both];
    if (!fr_prefill_packed(k)) return "portable";
    const char *product = tiled(k) ? "amx tiles" : brgemm.path;
    if (!fr_fp8_name()) return product;
    snprintf(text, sizeof text, "%s; FP8 x FP8 by oneDNN matmul (%s)", product, fr_fp8_name());
    pthread_mutex_lock(&lock);
    if (strcmp(both, text) != 0) memcpy(both, text, sizeof both); /* others may be reading the same text */
    pthread_mutex_unlock(&lock);
    return both;
}

fr_status fr_prefill_prepare(const fr_kernels *k, fr_error *error) {
    if (k->prefill && !fr_prefill_packed(k) && brgemm.status == dnnl_out_of_memory)
        return fr_fail(error, FR_ERROR_MEMORY, "oneDNN brgemm kernels: out of memory");
    return FR_OK;
}

/* What one thread works with. */
typedef struct scratch {
    uint16_t *a, *a_lo; /* [GROUP][PANEL][FR_TILE_OUTPUTS, FR_BLOCK] */
    float *c;           /* [FR_TILE_OUTPUTS, FR_TILE_TOKENS] */
    float *sum;         /* [GROUP][token tiles][FR_TILE_OUTPUTS, FR_TILE_TOKENS] */
    float *fp8;         /* see fr_fp8_range */
    void *pad;
} scratch;

static scratch take_scratch(fr_arena *arena, int max_rows) {
    scratch s;
    int tiles = (max_rows + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS;
    s.a = FR_TAKE(arena, uint16_t, GROUP * PANEL * A_SIZE);
    s.a_lo = FR_TAKE(arena, uint16_t, GROUP * PANEL * A_SIZE);
    s.c = FR_TAKE(arena, float, C_SIZE);
    s.sum = FR_TAKE(arena, float, GROUP *tiles *C_SIZE);
    s.fp8 = FR_TAKE(arena, float, fr_fp8_scratch_floats());
    s.pad = fr_arena_take(arena, 1, brgemm.scratchpad);
    return s;
}

size_t fr_prefill_scratch_bytes(const fr_kernels *kernels, int max_rows) {
    if (!fr_prefill_packed(kernels)) return 0;
    fr_arena arena = {0};
    take_scratch(&arena, max_rows);
    return arena.used;
}

void fr_prefill_pack(const fr_rows *r, const fr_rows *from, const int *index, int rows, int width, unsigned forms, int tile,
                     int block) {
    const fr_prefill_kernels *k = r->kernels->prefill;
    const bool tiles = tiled(r->kernels);
    int blocks = fr_blocks(width), all = fr_tile_columns(rows), first = tile * FR_TILE_TOKENS;
    int n = rows - first < FR_TILE_TOKENS ? rows - first : FR_TILE_TOKENS;
    int columns = fr_tile_columns(n), at = block * FR_BLOCK, m = width - at < FR_BLOCK ? width - at : FR_BLOCK;
    int64_t tile_at = ((int64_t)first * blocks + (int64_t)columns * block) * FR_BLOCK;
    const uint16_t *q[FR_TILE_TOKENS];
    const float *x[FR_TILE_TOKENS];
    for (int i = 0; i < n; i++) {
        int64_t row = index ? index[first + i] : first + i;
        q[i] = forms & FR_ROWS_QUANTIZED ? from->q + (row * blocks + block) * FR_BLOCK : NULL;
        x[i] = forms & FR_ROWS_EXACT ? from->x + row * width + at : NULL;
    }
    if ((forms & FR_ROWS_QUANTIZED) && fr_fp8_takes(width)) {
        fr_fp8_pack(r, from, index, rows, width, tile, block);
    } else if (forms & FR_ROWS_QUANTIZED) {
        float *s = r->pack_scale + (int64_t)block * all + first;
        for (int i = 0; i < columns; i++) {
            int64_t row = i < n ? (index ? index[first + i] : first + i) : 0;
            s[i] = i < n ? from->scale[row * blocks + block] : 0.0f;
        }
        k->pack_bf16(r->pack_q + tile_at, columns, tiles, q, n);
    }
    if (forms & FR_ROWS_EXACT) {
        uint16_t *hi = r->pack_x + 2 * tile_at;
        k->pack_f32(hi, hi + columns * FR_BLOCK, columns, tiles, x, n, m);
    }
}

/* A block of one output, padded with zeros, as BF16. F32 fills two parts, the others one. */
static void decode_row(const fr_kernels *k, const fr_linear *w, int output, int block, uint16_t *a, uint16_t *a_lo) {
    int at = block * FR_BLOCK, m = w->in - at < FR_BLOCK ? w->in - at : FR_BLOCK;
    const int ahead = FR_BLOCK * (int)fr_dtype_size(w->dtype);
    int64_t from = output * w->stride + at;
    /* The next block of the row: too many rows at once for the hardware to see the pattern. */
    const char *next = (const char *)w->w + from * (int64_t)fr_dtype_size(w->dtype) + ahead;
    if (m == FR_BLOCK)
        for (int line = 0; line <= ahead; line += 64) __builtin_prefetch(next + line, 0, 2);
    if (w->dtype == FR_F8_E4M3)
        k->e4m3_to_bf16(a, (const uint8_t *)w->w + from, m);
    else if (w->dtype == FR_BF16)
        memcpy(a, (const char *)w->w + 2 * from, 2 * (size_t)m);
    else
        k->prefill->split(a, a_lo, (const float *)w->w + from, m);
    memset(a + m, 0, 2 * (size_t)(FR_BLOCK - m));
    if (w->dtype == FR_F32) memset(a_lo + m, 0, 2 * (size_t)(FR_BLOCK - m));
}

/* Puts row i of a tile of weights where the kernel wants it: [16 rows of tiles][4 tiles of 32 inputs][16][32]. */
static void place_row(uint16_t *a, int i, const uint16_t *row) {
    for (int t = 0; t < FR_BLOCK / 32; t++) memcpy(a + (i / 16 * 4 + t) * 512 + i % 16 * 32, row + t * 32, 64);
}

/* Decodes a tile of weights, `rows` outputs of block `block`, padded with zeros. */
static void decode(const fr_kernels *k, const fr_linear *w, int output, int rows, int block, uint16_t *a, uint16_t *a_lo) {
    if (rows < FR_TILE_OUTPUTS) {
        memset(a, 0, A_SIZE * sizeof *a);
        memset(a_lo, 0, A_SIZE * sizeof *a_lo);
    }
    if (tiled(k) && w->dtype == FR_F8_E4M3 && (block + 1) * FR_BLOCK <= w->in) {
        k->e4m3_to_tiles(a, (const uint8_t *)w->w + output * w->stride + block * FR_BLOCK, w->stride, rows);
        return;
    }
    for (int i = 0; i < rows; i++) {
        uint16_t row[FR_BLOCK], row_lo[FR_BLOCK];
        if (!tiled(k)) {
            decode_row(k, w, output + i, block, a + i * FR_BLOCK, a_lo + i * FR_BLOCK);
            continue;
        }
        decode_row(k, w, output + i, block, row, row_lo);
        place_row(a, i, row);
        if (w->dtype == FR_F32) place_row(a_lo, i, row_lo);
    }
}

static void multiply(int columns, int add, const uint16_t *a, const uint16_t *b, const scratch *s) {
    static const dnnl_dim_t offsets[2] = {0, 0};
    dnnl_brgemm_execute(brgemm.kernel[columns / 16 - 1][add], a, b, offsets, s->c, s->pad);
}

/* One tile of weights, already decoded, times one tile of tokens, into s->c. `pack` holds values in one part, or hi and then
 * lo. */
static void multiply_tile(fr_dtype dtype, bool one_part, int at, int columns, const uint16_t *pack, const scratch *s) {
    const uint16_t *a = s->a + at * A_SIZE, *a_lo = s->a_lo + at * A_SIZE, *lo = pack + columns * FR_BLOCK;
    multiply(columns, 0, a, pack, s);
    if (!one_part) multiply(columns, 1, a, lo, s);
    if (dtype != FR_F32) return;
    multiply(columns, 1, a_lo, pack, s);
    if (!one_part) multiply(columns, 1, a_lo, lo, s);
}

/* Blocks [first, last), at most PANEL, of outputs [begin, end) into s->a. */
static void decode_panel(const fr_kernels *k, const fr_linear *w, int begin, int end, int first, int last, const scratch *s) {
    for (int output = begin, g = 0; output < end; output += FR_TILE_OUTPUTS, g++)
        for (int block = first; block < last; block++) {
            int at = (g * PANEL + block - first) * A_SIZE, rows = end - output;
            decode(k, w, output, rows < FR_TILE_OUTPUTS ? rows : FR_TILE_OUTPUTS, block, s->a + at, s->a_lo + at);
        }
}

static void add_product(fr_panel *p, const uint16_t *a, const uint16_t *b) {
    p->a[p->products] = a;
    p->b[p->products++] = b;
}

/* Adds the products of a panel with one tile of tokens to the sums, by our own kernel. */
static void multiply_panel_tiled(const fr_linear *w, const fr_rows *x, int begin, int end, int first, int last, int tile,
                                 const scratch *s) {
    int blocks = fr_blocks(w->in), all = fr_tile_columns(x->rows), tiles = (all + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS;
    int token = tile * FR_TILE_TOKENS, columns = all - token < FR_TILE_TOKENS ? all - token : FR_TILE_TOKENS;
    bool use_q = w->dtype == FR_F8_E4M3 && x->quantized, one_part = use_q || x->bf16;
    int groups = (end - begin + FR_TILE_OUTPUTS - 1) / FR_TILE_OUTPUTS,
        parts = use_q ? 1 : 2; /* x is packed in two, if only one counts */
    const uint16_t *pack =
        (use_q ? x->pack_q : x->pack_x) + ((int64_t)token * blocks + (int64_t)columns * first) * FR_BLOCK * parts;
    const uint16_t *lo = pack + columns * FR_BLOCK;
    for (int g = 0; g < groups; g++) {
        const uint16_t *a = s->a + g * PANEL * A_SIZE, *a_lo = s->a_lo + g * PANEL * A_SIZE;
        fr_panel p = {.blocks = last - first, .columns = columns, .b_stride = (int64_t)columns * FR_BLOCK * parts};
        add_product(&p, a, pack);
        if (!one_part) add_product(&p, a, lo);
        if (w->dtype == FR_F32) add_product(&p, a_lo, pack);
        if (w->dtype == FR_F32 && !one_part) add_product(&p, a_lo, lo);
        if (w->scale) p.sw = w->scale + (begin + g * FR_TILE_OUTPUTS) / FR_BLOCK * w->scale_stride + first;
        if (use_q) p.sx = x->pack_scale + (int64_t)first * all + token;
        p.sx_stride = all;
        p.sum = s->sum + (g * tiles + tile) * C_SIZE;
        if (tile + 1 < tiles && all - token >= 2 * FR_TILE_TOKENS) { /* each group asks for its part of the next tile's tokens */
            p.next_b_bytes = (size_t)(p.b_stride * p.blocks / groups) * sizeof *pack;
            p.next_b = pack + (int64_t)FR_TILE_TOKENS * blocks * FR_BLOCK * parts + g * p.b_stride * p.blocks / groups;
            p.next_sum = p.sum + C_SIZE;
        }
        x->kernels->multiply_panel(&p);
    }
}

/* The same by oneDNN. */
static void multiply_panel(const fr_linear *w, const fr_rows *x, int begin, int end, int first, int last, int tile,
                           const scratch *s) {
    const fr_prefill_kernels *k = x->kernels->prefill;
    int blocks = fr_blocks(w->in), all = fr_tile_columns(x->rows), tiles = (all + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS;
    int token = tile * FR_TILE_TOKENS, columns = all - token < FR_TILE_TOKENS ? all - token : FR_TILE_TOKENS;
    bool use_q = w->dtype == FR_F8_E4M3 && x->quantized;
    for (int output = begin, g = 0; output < end; output += FR_TILE_OUTPUTS, g++)
        for (int block = first; block < last; block++) {
            int64_t at = ((int64_t)token * blocks + (int64_t)columns * block) * FR_BLOCK;
            const uint16_t *pack = use_q ? x->pack_q + at : x->pack_x + 2 * at;
            const float *sx = use_q ? x->pack_scale + (int64_t)block * all + token : NULL;
            float sw = w->scale ? w->scale[output / FR_BLOCK * w->scale_stride + block] : 1.0f;
            multiply_tile(w->dtype, use_q || x->bf16, g * PANEL + block - first, columns, pack, s);
            k->add_scaled(s->sum + (g * tiles + tile) * C_SIZE, s->c, columns, sw, sx);
        }
}

/* Outputs [begin, end), at most GROUP tiles, of all tokens, into s->sum. */
static void multiply_group(const fr_linear *w, const fr_rows *x, int begin, int end, const scratch *s) {
    int blocks = fr_blocks(w->in), all = fr_tile_columns(x->rows), tiles = (all + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS;
    int group = (end - begin + FR_TILE_OUTPUTS - 1) / FR_TILE_OUTPUTS, configured = 0;
    memset(s->sum, 0, (size_t)(group * tiles * C_SIZE) * sizeof *s->sum);
    for (int first = 0; first < blocks; first += PANEL) {
        int last = first + PANEL < blocks ? first + PANEL : blocks;
        decode_panel(x->kernels, w, begin, end, first, last, s);
        for (int tile = 0; tile < tiles; tile++) {
            int left = all - tile * FR_TILE_TOKENS, columns = left < FR_TILE_TOKENS ? left : FR_TILE_TOKENS;
            if (tiled(x->kernels)) {
                multiply_panel_tiled(w, x, begin, end, first, last, tile, s);
                continue;
            }
            if (configured != columns) dnnl_brgemm_set_hw_context(brgemm.kernel[columns / 16 - 1][0]);
            configured = columns;
            multiply_panel(w, x, begin, end, first, last, tile, s);
        }
    }
}

void fr_prefill_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, void *memory) {
    const fr_prefill_kernels *k = x->kernels->prefill;
    const int step = GROUP * FR_TILE_OUTPUTS, tiles = (x->rows + FR_TILE_TOKENS - 1) / FR_TILE_TOKENS;
    fr_arena arena = {.base = memory, .size = SIZE_MAX};
    scratch s = take_scratch(&arena, x->rows);
    if (w->dtype == FR_F8_E4M3 && x->quantized && fr_fp8_takes(w->in)) {
        fr_fp8_range(w, x, begin, end, y, y_stride, s.fp8, s.sum);
        return;
    }
    for (int o = begin; o < end; o += step) {
        multiply_group(w, x, o, end - o < step ? end : o + step, &s);
        for (int i = 0; i < GROUP * tiles; i++) {
            int output = o + i / tiles * FR_TILE_OUTPUTS, first = i % tiles * FR_TILE_TOKENS;
            int outputs = end - output < FR_TILE_OUTPUTS ? end - output : FR_TILE_OUTPUTS;
            int tokens = x->rows - first < FR_TILE_TOKENS ? x->rows - first : FR_TILE_TOKENS;
            if (outputs > 0) k->transpose(y + first * y_stride + output, y_stride, s.sum + i * C_SIZE, tokens, outputs);
        }
    }
    if (!tiled(x->kernels)) dnnl_brgemm_release_hw_context();
}

double fr_linear_tile(const fr_compute *c, int repeats) {
    if (!fr_prefill_packed(c->kernels)) return 0.0;
    fr_arena arena = {.base = (char *)c->scratch + (size_t)fr_team_rank() * c->scratch_bytes, .size = SIZE_MAX};
    scratch s = take_scratch(&arena, FR_TILE_TOKENS);
    for (int i = 0; i < A_SIZE; i++) s.a[i] = s.a_lo[i] = (uint16_t)(0x3f80 + i % 128); /* BF16 in [1, 2) */
    dnnl_brgemm_set_hw_context(brgemm.kernel[CLASSES - 1][0]);
    for (int i = 0; i < repeats; i++) multiply(FR_TILE_TOKENS, 0, s.a, s.a_lo, &s); /* B is as large as A */
    dnnl_brgemm_release_hw_context();
    return 2.0 * A_SIZE * FR_TILE_TOKENS * repeats;
}
