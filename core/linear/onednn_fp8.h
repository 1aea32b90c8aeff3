/* FP8 x FP8 in the prefill regime by oneDNN's own matmul, where the CPU multiplies FP8 (AMX-FP16, AVX10.2) and oneDNN has
 * more than its reference for that, and gets it right. Takes quantized rows and E4M3 weights; private to core/linear/prefill.c.
 *
 * Packed form here: pack_q holds rows as E4M3 bytes [columns, width], pack_scale their scales [columns, width / 128]. */
#ifndef FR_CORE_LINEAR_ONEDNN_FP8_H
#define FR_CORE_LINEAR_ONEDNN_FP8_H

#include "core/linear/linear.h"

/* Whether rows of this width go this way: packing and product must agree. */
bool fr_fp8_takes(int width);
/* oneDNN's name of its implementation; NULL: it has none to use, and this way is not gone. */
const char *fr_fp8_name(void);
/* ONE THREAD. As fr_prefill_pack does, of quantized rows. */
void fr_fp8_pack(const fr_rows *r, const fr_rows *from, const int *index, int rows, int width, int tile, int block);
/* Floats of scratch for expanded scales; 0 where this is not used. */
size_t fr_fp8_scratch_floats(void);
/* ONE THREAD. Outputs [begin, end). scratch: fr_fp8_scratch_floats; sum: FR_FP8_OUTPUTS floats for each column. */
void fr_fp8_range(const fr_linear *w, const fr_rows *x, int begin, int end, float *y, int64_t y_stride, float *scratch,
                  float *sum);
#define FR_FP8_OUTPUTS 128 /* that are computed at a time */

/* For tests: go this way whatever there is, by oneDNN's reference if that is right, or else by plain loops. Between calls of
 * all the above. */
void fr_fp8_force(bool forced);

#endif
