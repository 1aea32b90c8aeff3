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
