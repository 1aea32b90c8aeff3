/* Which backend runs the prefill regime. Private to core/linear. */
#ifndef FR_CORE_LINEAR_PREFILL_H
#define FR_CORE_LINEAR_PREFILL_H

#include "core/linear/backends.h"

/* The backends, in the order in which they are asked; NULL ends them. */
extern const fr_prefill_backend *const fr_prefill_backends[];
/* Of rows of this width, quantized or exact. Packing and products must agree, so both ask here. */
const fr_prefill_backend *fr_prefill_backend_of(const fr_kernels *kernels, bool quantized, int width);

/* How many parts the tokens of a product are cut into, when `threads` share its output_tiles x token_tiles: 1 .. token_tiles. A
 * unit of work is a tile of outputs x a part of the tokens. */
int fr_token_parts(int output_tiles, int token_tiles, int threads);

#endif
