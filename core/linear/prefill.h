/* The prefill regime of core/linear/linear.c. Private to core. */
#ifndef FR_CORE_LINEAR_PREFILL_H
#define FR_CORE_LINEAR_PREFILL_H

#include "core/kernels/prefill_layout.h"
#include "core/linear/linear.h"

/* Whether these kernels take packed rows; if not, blocks of FR_DECODE_ROWS rows go through the decode kernels. */
bool fr_prefill_packed(const fr_kernels *kernels);
/* Without products there is the portable path, which is right but slow; only a lack of memory for them is an error. */
fr_status fr_prefill_prepare(const fr_kernels *kernels, fr_error *error);
size_t fr_prefill_scratch_bytes(const fr_kernels *kernels, int max_rows);
/* ONE THREAD. Packs block `block` of tile `tile` of rows index[0..rows) of `from` (NULL: 0..rows) into r. */
void fr_prefill_pack(const fr_rows *r, const fr_rows *from, const int *index, int rows, int width, unsigned forms, int tile,
                     int block);
/* ONE THREAD. Outputs [begin, end) from packed rows. */
void fr_prefill_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, void *scratch);

#endif
