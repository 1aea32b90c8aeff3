#include "cli/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are written as they lie in memory: a big-endian machine needs '>' in the descriptor"
#endif

#define NPY_PREFIX 10 /* magic (6), version (2), length of the header's text (2) */
#define NPY_ALIGN 64  /* the data start on such a boundary */

static fr_status write_at(fr_npy *npy, const void *data, uint64_t bytes, uint64_t offset, fr_error *error) {
    int number = fr_write_at(npy->file.fd, data, bytes, offset);
    return number ? fr_fail_write(error, npy->file.path, number) : FR_OK;
}

fr_status fr_npy_create(fr_npy *npy, const char *path, fr_npy_type type, const uint64_t *shape, int rank, fr_error *error) {
    char text[256], dims[96] = "";
    for (int i = 0; i < rank; i++) {
        size_t used = strlen(dims);
        snprintf(dims + used, sizeof dims - used, "%s%" PRIu64, i ? ", " : "", shape[i]);
    }
    memset(npy, 0, sizeof *npy);
    npy->planes = rank == 3 ? shape[0] : 1;
    npy->rows = shape[rank - 2];
    npy->row_bytes = 4 * shape[rank - 1];
    FR_TRY(fr_new_file_open(&npy->file, path, error));

    memcpy(text, "\x93NUMPY\x01\x00", 8);
    int length = snprintf(text + NPY_PREFIX, sizeof text - NPY_PREFIX, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                          type == FR_NPY_FLOAT32 ? "<f4" : "<i4", dims);
    int whole = (NPY_PREFIX + length + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
    memset(text + NPY_PREFIX + length, ' ', (size_t)(whole - NPY_PREFIX - length));
    text[whole - 1] = '\n';
    text[8] = (char)((whole - NPY_PREFIX) & 0xff);
    text[9] = (char)((whole - NPY_PREFIX) >> 8);
    npy->header_bytes = (uint64_t)whole;
    fr_status status = write_at(npy, text, (uint64_t)whole, 0, error);
    if (status != FR_OK) fr_npy_discard(npy);
    return status;
}

fr_status fr_npy_write(fr_npy *npy, uint64_t plane, uint64_t first, uint64_t rows, const void *data, fr_error *error) {
    if (plane >= npy->planes || first > npy->rows || rows > npy->rows - first)
        return fr_fail_at(error, FR_ERROR_IO, npy->file.path, "rows %" PRIu64 "..%" PRIu64 " do not fit in %" PRIu64, first,
                          first + rows, npy->rows);
    uint64_t offset = npy->header_bytes + (plane * npy->rows + first) * npy->row_bytes;
    fr_status status = write_at(npy, data, rows * npy->row_bytes, offset, error);
    if (status == FR_OK) npy->rows_written += rows;
    return status;
}

fr_status fr_npy_close(fr_npy *npy, fr_error *error) {
    if (npy->rows_written != npy->planes * npy->rows) {
        fr_npy_discard(npy);
        return fr_fail_at(error, FR_ERROR_IO, npy->file.path, "%" PRIu64 " of %" PRIu64 " rows came", npy->rows_written,
                          npy->planes * npy->rows);
    }
    return fr_new_file_finish(&npy->file, true, error);
}

void fr_npy_discard(fr_npy *npy) {
    if (npy->file.fd >= 0) fr_new_file_discard(&npy->file);
}
