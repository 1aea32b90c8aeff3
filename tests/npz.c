#include "npz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES ((size_t)1 << 30)

static bool fail(char *error, size_t error_size, const char *what, const char *detail) {
    if (error_size > 0) snprintf(error, error_size, "%s%s%s", what, detail[0] ? ": " : "", detail);
    return false;
}

uint8_t *read_whole_file(const char *path, size_t *size, char *error, size_t error_size) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long length = -1;
    if (file && fseek(file, 0, SEEK_END) == 0) length = ftell(file);
    if (length >= 0 && (size_t)length <= MAX_FILE_BYTES && fseek(file, 0, SEEK_SET) == 0) {
        bytes = malloc((size_t)length + 1);
        if (bytes && fread(bytes, 1, (size_t)length, file) != (size_t)length) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (file) fclose(file);
    if (!bytes) {
        fail(error, error_size, "cannot read", path);
        return NULL;
    }
    bytes[length] = 0; /* so that a text file is a string */
    *size = (size_t)length;
    return bytes;
}

static uint32_t read_le(const uint8_t *p, int n) {
    uint32_t value = 0;
    for (int i = 0; i < n; i++) value |= (uint32_t)p[i] << (8 * i);
    return value;
}

/* The text after 'key': in the header's Python dict; NULL when the key is not there. */
static const char *header_value(const char *header, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    while (*at == ' ') at++;
    return at;
}

static bool parse_descr(const char *at, npy_dtype *dtype, size_t *width) {
    static const struct {
        const char *text;
        npy_dtype dtype;
        size_t width;
    } known[] = {{"'<f4'", NPY_F32, 4}, {"'<f8'", NPY_F64, 8}, {"'<i4'", NPY_I32, 4}, {"'<i8'", NPY_I64, 8}};
    for (size_t i = 0; at && i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(at, known[i].text, strlen(known[i].text)) != 0) continue;
        *dtype = known[i].dtype;
        *width = known[i].width;
        return true;
    }
    return false;
}

/* "(3, 7, 160)", "(7,)" or "()". The element count is kept below MAX_FILE_BYTES, so that byte counts cannot overflow. */
static bool parse_shape(const char *at, npy_array *array) {
    if (!at || *at++ != '(') return false;
    array->rank = 0;
    array->count = 1;
    for (;;) {
        while (*at == ' ' || *at == ',') at++;
        if (*at == ')') return true;
        if (*at < '0' || *at > '9' || array->rank == NPY_MAX_RANK) return false;
        size_t dim = 0;
        for (; *at >= '0' && *at <= '9'; at++) {
            dim = dim * 10 + (size_t)(*at - '0');
            if (dim > MAX_FILE_BYTES) return false;
        }
        if (dim > 0 && array->count > MAX_FILE_BYTES / dim) return false;
        array->count *= dim;
        array->shape[array->rank++] = dim;
    }
}

bool npy_parse(const uint8_t *bytes, size_t size, npy_array *out, char *error, size_t error_size) {
    memset(out, 0, sizeof *out);
    if (size < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0) return fail(error, error_size, "not a .npy file", "");
    size_t length_bytes = bytes[6] == 1 ? 2 : 4;
    if (bytes[6] < 1 || bytes[6] > 3 || size < 8 + length_bytes) return fail(error, error_size, "unknown .npy version", "");
    size_t length = read_le(bytes + 8, (int)length_bytes), start = 8 + length_bytes;
    char header[512];
    if (length >= sizeof header || length > size - start) return fail(error, error_size, "bad .npy header length", "");
    memcpy(header, bytes + start, length);
    header[length] = 0;

    size_t width = 0;
    const char *order = header_value(header, "fortran_order");
    if (!parse_descr(header_value(header, "descr"), &out->dtype, &width))
        return fail(error, error_size, "unsupported .npy dtype", header);
    if (!order || strncmp(order, "False", 5) != 0) return fail(error, error_size, "unsupported .npy order", header);
    if (!parse_shape(header_value(header, "shape"), out)) return fail(error, error_size, "bad .npy shape", header);
    if (size - start - length != out->count * width) return fail(error, error_size, ".npy data do not fill the shape", header);
    out->data = malloc(out->count * width + 1);
    if (!out->data) return fail(error, error_size, "out of memory", "");
    memcpy(out->data, bytes + start + length, out->count * width);
    return true;
}

bool npy_load(const char *path, npy_array *out, char *error, size_t error_size) {
    size_t size = 0;
    memset(out, 0, sizeof *out);
    uint8_t *bytes = read_whole_file(path, &size, error, error_size);
    bool ok = bytes && npy_parse(bytes, size, out, error, error_size);
    free(bytes);
    return ok;
}

void npy_release(npy_array *array) {
    free(array->data);
    memset(array, 0, sizeof *array);
}

/* One central directory entry at `at` (46 bytes and a name are there): finds the member's bytes and parses them. */
static bool parse_member(const uint8_t *bytes, size_t size, size_t at, npy_array *out, char *error, size_t error_size) {
    const uint8_t *entry = bytes + at;
    size_t name_length = read_le(entry + 28, 2);
    size_t stored = read_le(entry + 20, 4), real = read_le(entry + 24, 4), local = read_le(entry + 42, 4);
    char name[sizeof out->name + 4];
    if (name_length < 5 || name_length >= sizeof name) return fail(error, error_size, "bad member name in archive", "");
    memcpy(name, entry + 46, name_length);
    name[name_length] = 0;
    if (strcmp(name + name_length - 4, ".npy") != 0) return fail(error, error_size, "not an .npy member", name);
    if (read_le(entry + 10, 2) != 0 || stored != real || (read_le(entry + 8, 2) & 1) != 0)
        return fail(error, error_size, "compressed or encrypted member", name);
    if (local > size || size - local < 30 || memcmp(bytes + local, "PK\3\4", 4) != 0)
        return fail(error, error_size, "bad local header", name);
    size_t start = local + 30 + read_le(bytes + local + 26, 2) + read_le(bytes + local + 28, 2);
    if (start > size || size - start < stored) return fail(error, error_size, "member outside the archive", name);
    if (!npy_parse(bytes + start, stored, out, error, error_size)) return false;
    memcpy(out->name, name, name_length - 4);
    out->name[name_length - 4] = 0;
    return true;
}

bool npz_parse(const uint8_t *bytes, size_t size, npz_archive *out, char *error, size_t error_size) {
    memset(out, 0, sizeof *out);
    /* The end-of-directory record is the last thing in the file: these archives have no comment. */
    if (size < 22 || memcmp(bytes + size - 22, "PK\5\6", 4) != 0) return fail(error, error_size, "not a zip file", "");
    const uint8_t *end = bytes + size - 22;
    size_t count = read_le(end + 10, 2), at = read_le(end + 16, 4), limit = size - 22;
    out->arrays = calloc(count + 1, sizeof *out->arrays);
    if (!out->arrays) return fail(error, error_size, "out of memory", "");
    for (size_t i = 0; i < count; i++) {
        if (at > limit || limit - at < 46 || memcmp(bytes + at, "PK\1\2", 4) != 0) {
            npz_release(out);
            return fail(error, error_size, "bad archive directory", "");
        }
        size_t name = read_le(bytes + at + 28, 2);
        size_t length = 46 + name + read_le(bytes + at + 30, 2) + read_le(bytes + at + 32, 2);
        if (limit - at < length || !parse_member(bytes, size, at, &out->arrays[i], error, error_size)) {
            if (limit - at < length) fail(error, error_size, "bad archive directory", "");
            npz_release(out);
            return false;
        }
        out->count++;
        at += length;
    }
    return true;
}

bool npz_load(const char *path, npz_archive *out, char *error, size_t error_size) {
    size_t size = 0;
    memset(out, 0, sizeof *out);
    uint8_t *bytes = read_whole_file(path, &size, error, error_size);
    bool ok = bytes && npz_parse(bytes, size, out, error, error_size);
    free(bytes);
    return ok;
}

void npz_release(npz_archive *archive) {
    for (size_t i = 0; i < archive->count; i++) npy_release(&archive->arrays[i]);
    free(archive->arrays);
    memset(archive, 0, sizeof *archive);
}

const npy_array *npz_find(const npz_archive *archive, const char *name) {
    for (size_t i = 0; i < archive->count; i++) {
        if (strcmp(archive->arrays[i].name, name) == 0) return &archive->arrays[i];
    }
    return NULL;
}

static const void *typed(const npy_array *array, npy_dtype dtype, int rank, const long *shape) {
    if (!array || array->dtype != dtype || array->rank != rank) return NULL;
    for (int i = 0; i < rank; i++) {
        if (shape[i] >= 0 && array->shape[i] != (size_t)shape[i]) return NULL;
    }
    return array->data;
}

const float *npy_f32(const npy_array *array, int rank, const long *shape) {
    return typed(array, NPY_F32, rank, shape);
}

const int32_t *npy_i32(const npy_array *array, int rank, const long *shape) {
    return typed(array, NPY_I32, rank, shape);
}
