/* Number formats of a checkpoint. E4M3 is the "fn" variant: bias 7, no infinities, 0x7F and 0xFF are NaN, largest 448,
 * subnormals m * 2^-9. */
#ifndef FR_CORE_DTYPE_H
#define FR_CORE_DTYPE_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FR_BLOCK 128 /* side of the square of weights that shares an FP8 scale; inputs that share one of an activation */

/* Blocks that cover `width` values; the last one may be partial. */
static inline int fr_blocks(int width) {
    return (width + FR_BLOCK - 1) / FR_BLOCK;
}

typedef enum fr_dtype {
    FR_F32,
    FR_BF16,
    FR_F16,
    FR_F8_E4M3,
    FR_I8,
    FR_U8,
    FR_I16,
    FR_I32,
    FR_I64,
    FR_F64,
    FR_BOOL,
    FR_F8_E5M2,
    FR_DTYPE_COUNT
} fr_dtype;

size_t fr_dtype_size(fr_dtype dtype);
const char *fr_dtype_name(fr_dtype dtype);              /* as safetensors writes it: "F8_E4M3" */
bool fr_dtype_parse(const char *name, fr_dtype *dtype); /* false: unknown */

static inline float fr_bits_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t fr_f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float fr_bf16_f32(uint16_t value) {
    return fr_bits_f32((uint32_t)value << 16);
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t fr_f32_bf16(float value) {
    uint32_t bits = fr_f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

/* Exact, subnormals included. */
static inline float fr_e4m3_f32(uint8_t code) {
    if ((code & 0x7f) == 0x7f) return fr_bits_f32(0x7fc00000u);
    uint32_t magnitude = code & 0x7f, sign = (uint32_t)(code & 0x80) << 24;
    uint32_t bits = magnitude < 8 ? fr_f32_bits((float)magnitude * 0x1p-9f) : (magnitude << 20) + (120u << 23);
    return fr_bits_f32(bits | sign);
}

/* Round to nearest even, saturating at 448; NaN becomes 0x7F with the sign. Without branches, so that compilers make vectors of a
 * loop of it. A number whose last place is the grid's at the magnitude, 2^-9 at the least, rounds what is added to it. */
static inline uint8_t fr_f32_e4m3(float value) {
    uint32_t bits = fr_f32_bits(value), magnitude = bits & 0x7fffffffu, most = 0x43e00000u; /* 448 */
    uint32_t bounded = magnitude < most ? magnitude : most;
    uint32_t exponent = bounded & 0x7f800000u, least = 121u << 23; /* that of the smallest normal, 2^-6 */
    float coarse = fr_bits_f32((exponent > least ? exponent : least) + (20u << 23));
    float rounded = (fr_bits_f32(bounded) + coarse) - coarse;
    uint32_t subnormal = (uint32_t)(int32_t)(rounded * 512.0f), normal = (fr_f32_bits(rounded) >> 20) - (120u << 3);
    uint32_t code = subnormal < 8 ? subnormal : normal;
    code = magnitude > 0x7f800000u ? 0x7f : code;
    return (uint8_t)(code | (bits >> 24 & 0x80));
}

/* The scale of an E4M3 block whose largest magnitude is amax: it makes that the largest code. Never subnormal, so that
 * dividing by it is accurate, and 1 for a block of zeros. */
static inline float fr_e4m3_scale(float amax) {
    float scale = amax / 448.0f;
    if (scale >= FLT_MIN) return scale;
    return amax > 0.0f ? FLT_MIN : 1.0f;
}

/* How many of these are infinite or NaN. */
static inline int fr_count_nonfinite(const float *x, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        count += (bits & 0x7f800000u) == 0x7f800000u;
    }
    return count;
}

#endif
