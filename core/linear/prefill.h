/* Which backend runs the prefill regime. Private to core/linear. */
#ifndef FR_CORE_LINEAR_PREFILL_H
#define FR_CORE_LINEAR_PREFILL_H

#include "core/linear/backends.h"

/* The backends, in the order in which they are asked; NULL ends them. */
extern const fr_prefill_backend *const fr_prefill_backends[];
/* Of rows of this width, quantized or exact. Packing and products must agree, so both ask here. */
const fr_prefill_backend *fr_prefill_backend_of(const fr_kernels *kernels, bool quantized, int width);

#endif
