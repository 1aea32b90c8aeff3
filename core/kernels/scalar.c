/* Kernels in plain C: the reference for the others, and what runs on CPUs without a table of their own. Sums go in LANES
 * independent lanes, which compilers turn into the target's vectors without changing the result. */
#include <math.h>

#include "core/dtype.h"
#include "core/kernels/decode.h"
#include "core/kernels/isa.h"
#include "core/kernels/scalar.h"

#define LANES 8

static float sum_lanes(const float *lane) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* Weights and embeddings are read in the mapping itself, where nothing is aligned. */
static uint16_t load_u16(const uint16_t *base, int64_t i) {
    uint16_t value;
    memcpy(&value, (const char *)base + 2 * i, sizeof value);
    return value;
}

static void load_bf16(float *y, const uint16_t *base, int64_t at, int n) {
    for (int i = 0; i < n; i++) y[i] = fr_bf16_f32(load_u16(base, at + i));
}

static void load_f32(float *y, const float *base, int64_t at, int n) {
    memcpy(y, (const char *)base + 4 * at, 4 * (size_t)n);
}

/* lane += a * b, n <= FR_BLOCK. */
static void add_products(float *lane, const float *a, const float *b, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += a[i + j] * b[i + j];
    for (; i < n; i++) lane[i % LANES] += a[i] * b[i];
}

static float dot_f32(const float *a, const float *b, int n) {
    float lane[LANES] = {0};
    add_products(lane, a, b, n);
    return sum_lanes(lane);
}

static float dot_bf16(const float *a, const uint16_t *b, int n) {
    float lane[LANES] = {0}, block[FR_BLOCK];
    for (int i = 0; i < n; i += FR_BLOCK) {
        int m = n - i < FR_BLOCK ? n - i : FR_BLOCK;
        load_bf16(block, b, i, m);
        add_products(lane, a + i, block, m);
    }
    return sum_lanes(lane);
}

static void axpy_f32(float *y, float a, const float *x, int n) {
    float block[FR_BLOCK];
    for (int i = 0; i < n; i += FR_BLOCK) {
        int m = n - i < FR_BLOCK ? n - i : FR_BLOCK;
        load_f32(block, x, i, m);
        for (int j = 0; j < m; j++) y[i + j] += a * block[j];
    }
}

static void axpy_bf16(float *y, float a, const uint16_t *x, int n) {
    for (int i = 0; i < n; i++) y[i] += a * fr_bf16_f32(load_u16(x, i));
}

static void axpy_e4m3(float *y, float a, const uint8_t *x, int n) {
    for (int i = 0; i < n; i++) y[i] += a * fr_e4m3_f32(x[i]);
}

void fr_scalar_bf16_to_f32(float *y, const uint16_t *x, int n) {
    load_bf16(y, x, 0, n);
}

void fr_scalar_f32_to_bf16(uint16_t *y, const float *x, int n) {
    for (int i = 0; i < n; i++) y[i] = fr_f32_bf16(x[i]);
}

void fr_scalar_e4m3_to_bf16(uint16_t *y, const uint8_t *x, int n) {
    for (int i = 0; i < n; i++) y[i] = (uint16_t)(fr_f32_bits(fr_e4m3_f32(x[i])) >> 16);
}

static float sum_squares(const float *x, int n) {
    return dot_f32(x, x, n);
}

float fr_scalar_max(const float *x, int n) {
    float max = x[0];
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

float fr_scalar_exp_sub(float *x, float max, int n) {
    float lane[LANES] = {0};
    for (int i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        lane[i % LANES] += x[i];
    }
    return sum_lanes(lane);
}

void fr_scalar_silu_mul(float *y, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

float fr_scalar_quantize_block(uint16_t *q, const float *x, int n, bool ue8m0) {
    float max = 1e-4f;
    for (int i = 0; i < n; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    float s = max / 448.0f;
    if (ue8m0) s = fr_bits_f32((fr_f32_bits(s) + 0x7fffffu) & 0x7f800000u);
    for (int i = 0; i < n; i++) q[i] = (uint16_t)(fr_f32_bits(fr_e4m3_f32(fr_f32_e4m3(x[i] / s))) >> 16);
    return s;
}

/* One block of one output: the sum over the block's inputs is scaled and joins the output's lanes. */
static void add_block(float *total, float scale, const float *w, const float *x, int n) {
    float lane[LANES] = {0};
    add_products(lane, w, x, n);
    for (int j = 0; j < LANES; j++) total[j] += scale * lane[j];
}

/* n <= FR_BLOCK weights from element `at` on. */
INLINE void load_weights(weight_kind kind, float *y, const void *w, int64_t at, int n) {
    if (kind == W_BF16) load_bf16(y, w, at, n);
    if (kind == W_F32) load_f32(y, w, at, n);
    for (int i = 0; kind == W_E4M3 && i < n; i++) y[i] = fr_e4m3_f32(((const uint8_t *)w)[at + i]);
}

INLINE void decode_linear(weight_kind kind, bool quantized, const fr_decode_job *job) {
    for (int o = job->begin; o < job->end; o++) {
        float total[FR_DECODE_ROWS][LANES] = {{0}}, block[FR_BLOCK], row[FR_BLOCK];
        for (int i = 0; i < job->in; i += FR_BLOCK) {
            int n = job->in - i < FR_BLOCK ? job->in - i : FR_BLOCK;
            float sw = kind == W_E4M3 ? job->scale[o / FR_BLOCK * job->scale_stride + i / FR_BLOCK] : 1.0f;
            load_weights(kind, block, job->w, o * job->stride + i, n);
            for (int r = 0; r < job->rows; r++) {
                const float *x = quantized ? row : (const float *)job->x[r] + i;
                if (quantized) load_bf16(row, job->x[r], i, n);
                if (kind == W_E4M3)
                    add_block(total[r], quantized ? sw * job->sx[r][i / FR_BLOCK] : sw, block, x, n);
                else
                    add_products(total[r], block, x, n);
            }
        }
        for (int r = 0; r < job->rows; r++) job->y[r * job->y_stride + o] = sum_lanes(total[r]);
    }
}

static void decode_linear_e4m3(const fr_decode_job *job) {
    decode_linear(W_E4M3, false, job);
}

static void decode_linear_e4m3_q(const fr_decode_job *job) {
    decode_linear(W_E4M3, true, job);
}

static void decode_linear_bf16(const fr_decode_job *job) {
    decode_linear(W_BF16, false, job);
}

static void decode_linear_f32(const fr_decode_job *job) {
    decode_linear(W_F32, false, job);
}

const fr_kernels fr_kernels_scalar = {
    .isa = FR_ISA_SCALAR,
    .name = "scalar",
    .dot_f32 = dot_f32,
    .dot_bf16 = dot_bf16,
    .axpy_f32 = axpy_f32,
    .axpy_bf16 = axpy_bf16,
    .axpy_e4m3 = axpy_e4m3,
    .bf16_to_f32 = fr_scalar_bf16_to_f32,
    .f32_to_bf16 = fr_scalar_f32_to_bf16,
    .e4m3_to_bf16 = fr_scalar_e4m3_to_bf16,
    .sum_squares = sum_squares,
    .max = fr_scalar_max,
    .exp_sub = fr_scalar_exp_sub,
    .silu_mul = fr_scalar_silu_mul,
    .quantize_block = fr_scalar_quantize_block,
    .decode_linear_e4m3 = decode_linear_e4m3,
    .decode_linear_e4m3_q = decode_linear_e4m3_q,
    .decode_linear_bf16 = decode_linear_bf16,
    .decode_linear_f32 = decode_linear_f32,
};
