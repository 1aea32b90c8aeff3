/* Reads NumPy arrays: .npy files and stored (uncompressed) .npz archives, little-endian, C order, float32, float64,
 * int32 or int64. Written for hostile bytes: everything that is read is bounds-checked first. */
#ifndef FR_TESTS_NPZ_H
#define FR_TESTS_NPZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPY_MAX_RANK 4

typedef enum npy_dtype { NPY_F32, NPY_F64, NPY_I32, NPY_I64 } npy_dtype;

typedef struct npy_array {
    char name[64]; /* in the archive, without ".npy"; "" for a .npy file */
    npy_dtype dtype;
    int rank;
    size_t shape[NPY_MAX_RANK];
    size_t count; /* elements: the product of the shape */
    void *data;   /* owned, aligned for its type */
} npy_array;

typedef struct npz_archive {
    npy_array *arrays;
    size_t count;
} npz_archive;

/* False on failure, with one line in error; *out is then empty. Release with the functions below. */
bool npz_load(const char *path, npz_archive *out, char *error, size_t error_size);
bool npz_parse(const uint8_t *bytes, size_t size, npz_archive *out, char *error, size_t error_size);
void npz_release(npz_archive *archive);
const npy_array *npz_find(const npz_archive *archive, const char *name); /* NULL: none */

bool npy_load(const char *path, npy_array *out, char *error, size_t error_size);
bool npy_parse(const uint8_t *bytes, size_t size, npy_array *out, char *error, size_t error_size);
void npy_release(npy_array *array);

/* The data when dtype and shape are as given, else NULL. A negative dim matches any size. */
const float *npy_f32(const npy_array *array, int rank, const long *shape);
const int32_t *npy_i32(const npy_array *array, int rank, const long *shape);

/* A whole file in memory, released with free(); NULL on failure. */
uint8_t *read_whole_file(const char *path, size_t *size, char *error, size_t error_size);

#endif
