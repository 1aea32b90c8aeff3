#include "core/dtype.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[FR_DTYPE_COUNT] = {
    [FR_F32] = {"F32", 4}, [FR_BF16] = {"BF16", 2}, [FR_F16] = {"F16", 2},   [FR_F8_E4M3] = {"F8_E4M3", 1},
    [FR_I8] = {"I8", 1},   [FR_U8] = {"U8", 1},     [FR_I16] = {"I16", 2},   [FR_I32] = {"I32", 4},
    [FR_I64] = {"I64", 8}, [FR_F64] = {"F64", 8},   [FR_BOOL] = {"BOOL", 1}, [FR_F8_E5M2] = {"F8_E5M2", 1},
};

size_t fr_dtype_size(fr_dtype dtype) {
    return dtypes[dtype].size;
}

const char *fr_dtype_name(fr_dtype dtype) {
    return dtypes[dtype].name;
}

bool fr_dtype_parse(const char *name, fr_dtype *dtype) {
    for (int i = 0; i < FR_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (fr_dtype)i;
            return true;
        }
    }
    return false;
}

uint8_t fr_f32_e4m3(float value) {
    uint32_t bits = fr_f32_bits(value);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | 0x7f;
    if (magnitude >= 0x43e00000u) return sign | 0x7e; /* 448 */
    if (magnitude < 0x3c800000u) {
        /* Below 2^-6 the grid is that of the subnormals, 2^-9, which is the last place of a float near 2^14. */
        return sign | (uint8_t)(fr_f32_bits(fr_bits_f32(magnitude) + 0x1p14f) - fr_f32_bits(0x1p14f));
    }
    uint32_t rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1);
    return sign | (uint8_t)((rounded >> 20) - (120u << 3));
}
