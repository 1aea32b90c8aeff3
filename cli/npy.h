/* Writes .npy files (format 1.0, little-endian, C order) row by row, in any order. */
#ifndef FR_CLI_NPY_H
#define FR_CLI_NPY_H

#include "core/new_file.h"

typedef enum fr_npy_type { FR_NPY_FLOAT32, FR_NPY_INT32 } fr_npy_type; /* both of four bytes */

typedef struct fr_npy {
    fr_new_file file;                 /* takes the place of what is at its path when it is complete */
    uint64_t header_bytes, row_bytes; /* a row: the last dimension */
    uint64_t planes, rows;            /* the array seen as [planes, rows, columns] */
    uint64_t rows_written;            /* summed over the planes: the file is complete at planes * rows */
} fr_npy;

/* Creates path (which must outlive the npy) for an array of 2 or 3 dimensions and writes its header. */
fr_status fr_npy_create(fr_npy *npy, const char *path, fr_npy_type type, const uint64_t *shape, int rank, fr_error *error);
/* Writes `rows` rows [rows, columns] of one plane (0 when the rank is 2) from row `first` on. Every row is written
 * once. */
fr_status fr_npy_write(fr_npy *npy, uint64_t plane, uint64_t first, uint64_t rows, const void *data, fr_error *error);
/* Ends a complete file; FR_ERROR_IO when rows are missing. */
fr_status fr_npy_close(fr_npy *npy, fr_error *error);
/* Removes what is not complete; takes one that is not open. */
void fr_npy_discard(fr_npy *npy);

#endif
