/* Plain NEON, which every 64-bit ARM has: the kernels that read weights and caches. The others are the plain C of scalar.c, which
 * compilers vectorize by themselves. */
#include <arm_neon.h>
#include <math.h>

#include "core/dtype.h"
#include "core/kernels/decode.h"
#include "core/kernels/isa.h"
#include "core/kernels/scalar.h"

typedef enum source { FROM_F32, FROM_BF16, FROM_E4M3 } source;

/* ---- Four values at a time; a tail is padded with zeros --------------------------------------------------------- */

INLINE float32x4_t load_bf16(const void *from) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(from)), 16)); /* at any address */
}

/* A code shifted up is a half-precision number 2^8 times too small, subnormals included. */
INLINE float32x4_t load_e4m3(const void *from) {
    uint32_t four;
    memcpy(&four, from, 4);
    uint16x4_t codes = vget_low_u16(vmovl_u8(vcreate_u8(four)));
    uint16x4_t half =
        vorr_u16(vshl_n_u16(vand_u16(codes, vdup_n_u16(0x7f)), 7), vshl_n_u16(vand_u16(codes, vdup_n_u16(0x80)), 8));
    return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(half)), 256.0f);
}

INLINE float32x4_t load_four(source kind, const void *from, int64_t at) {
    if (kind == FROM_BF16) return load_bf16((const char *)from + 2 * at);
    if (kind == FROM_E4M3) return load_e4m3((const char *)from + at);
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)from + 4 * at));
}

INLINE int size_of(source kind) {
    return kind == FROM_F32 ? 4 : kind == FROM_BF16 ? 2 : 1;
}

/* The last n < 4 values from `at` on. */
INLINE float32x4_t load_tail(source kind, const void *from, int64_t at, int n) {
    char padded[16] = {0};
    memcpy(padded, (const char *)from + at * size_of(kind), (size_t)(n * size_of(kind)));
    return load_four(kind, padded, 0);
}

INLINE void store_tail(float *to, float32x4_t values, int n) {
    float padded[4];
    vst1q_f32(padded, values);
    memcpy(to, padded, (size_t)n * sizeof *to);
}

/* ---- Sums and axpy ------------------------------------------------------------------------------------------------ */

/* Four sums of four lanes, added up in a fixed order. */
INLINE float dot(const float *a, source kind, const void *b, int n) {
    float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    int i = 0;
    for (; i + 4 <= n; i += 4) sum[i / 4 % 4] = vfmaq_f32(sum[i / 4 % 4], vld1q_f32(a + i), load_four(kind, b, i));
    if (i < n) sum[i / 4 % 4] = vfmaq_f32(sum[i / 4 % 4], load_tail(FROM_F32, a, i, n - i), load_tail(kind, b, i, n - i));
    return vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
}

static float dot_f32(const float *a, const float *b, int n) {
    return dot(a, FROM_F32, b, n);
}

static float dot_bf16(const float *a, const uint16_t *b, int n) {
    return dot(a, FROM_BF16, b, n);
}

static float sum_squares(const float *x, int n) {
    return dot(x, FROM_F32, x, n);
}

INLINE void axpy(float *y, float a, source kind, const void *x, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), load_four(kind, x, i), a));
    if (i < n) store_tail(y + i, vfmaq_n_f32(load_tail(FROM_F32, y, i, n - i), load_tail(kind, x, i, n - i), a), n - i);
}

static void axpy_f32(float *y, float a, const float *x, int n) {
    axpy(y, a, FROM_F32, x, n);
}

static void axpy_bf16(float *y, float a, const uint16_t *x, int n) {
    axpy(y, a, FROM_BF16, x, n);
}

static void axpy_e4m3(float *y, float a, const uint8_t *x, int n) {
    axpy(y, a, FROM_E4M3, x, n);
}

/* ---- Decode --------------------------------------------------------------------------------------------------------- */

/* Values [at, at + n) as a whole block of floats, zeros behind. */
INLINE void load_block(float *to, source kind, const void *from, int64_t at, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(to + i, load_four(kind, from, at + i));
    if (i < n) {
        vst1q_f32(to + i, load_tail(kind, from, at + i, n - i));
        i += 4;
    }
    for (; i < FR_BLOCK; i += 4) vst1q_f32(to + i, vdupq_n_f32(0));
}

INLINE float32x4_t dot_block(const float *a, const float *b) {
    float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    for (int i = 0; i < FR_BLOCK; i += 16)
        for (int j = 0; j < 4; j++) sum[j] = vfmaq_f32(sum[j], vld1q_f32(a + i + 4 * j), vld1q_f32(b + i + 4 * j));
    return vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3]));
}

/* An output's weights are converted once for all rows. A pair (output, row) goes through the same chain of operations whatever
 * the number of rows is. */
INLINE void all_outputs(source kind, bool quantized, const fr_decode_job *job) {
    for (int o = job->begin; o < job->end; o++) {
        float32x4_t total[FR_DECODE_ROWS];
        float block[FR_BLOCK], row[FR_BLOCK];
        for (int r = 0; r < job->rows; r++) total[r] = vdupq_n_f32(0);
        for (int i = 0; i < job->in; i += FR_BLOCK) {
            int n = job->in - i < FR_BLOCK ? job->in - i : FR_BLOCK;
            float scale = kind == FROM_E4M3 ? job->scale[o / FR_BLOCK * job->scale_stride + i / FR_BLOCK] : 1.0f;
            load_block(block, kind, job->w, o * job->stride + i, n);
            for (int r = 0; r < job->rows; r++) {
                const float *x = quantized || n < FR_BLOCK ? row : (const float *)job->x[r] + i;
                if (x == row) load_block(row, quantized ? FROM_BF16 : FROM_F32, job->x[r], i, n);
                total[r] = vfmaq_n_f32(total[r], dot_block(block, x), quantized ? scale * job->sx[r][i / FR_BLOCK] : scale);
            }
        }
        for (int r = 0; r < job->rows; r++) job->y[r * job->y_stride + o] = vaddvq_f32(total[r]);
    }
}

static void decode_linear_e4m3(const fr_decode_job *job) {
    all_outputs(FROM_E4M3, false, job);
}

static void decode_linear_e4m3_q(const fr_decode_job *job) {
    all_outputs(FROM_E4M3, true, job);
}

static void decode_linear_bf16(const fr_decode_job *job) {
    all_outputs(FROM_BF16, false, job);
}

static void decode_linear_f32(const fr_decode_job *job) {
    all_outputs(FROM_F32, false, job);
}

/* ---- The table ------------------------------------------------------------------------------------------------------ */

const fr_kernels fr_kernels_neon = {
    .isa = FR_ISA_NEON,
    .name = "neon",
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
