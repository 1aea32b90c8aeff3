/* FP8 x FP8 in the prefill regime by oneDNN's own matmul, where the CPU multiplies FP8 (AMX-FP16, AVX10.2) and oneDNN has
 * more than its reference for that, and gets it right. Takes quantized rows and E4M3 weights; private to core/linear.
 *
 * Packed here: pack_q holds rows as E4M3 bytes [columns, width], pack_scale their scales [columns, width / 128]. */
#ifndef FR_CORE_LINEAR_ONEDNN_FP8_H
#define FR_CORE_LINEAR_ONEDNN_FP8_H

#include <stdbool.h>

/* For tests: go this way whatever there is, by oneDNN's reference if that is right, or else by plain loops. To be called while no
 * session is there. */
void fr_fp8_force(bool forced);

#endif
