/* The instruction sets: one row of isa.c for each, from which options, documents, build information and tests read. To add one:
 * a file with its table of kernels, its constant in forerun.h's fr_isa, and a row. */
#ifndef FR_CORE_KERNELS_ISA_H
#define FR_CORE_KERNELS_ISA_H

#include "core/kernels/kernels.h"

const char *fr_isa_name(fr_isa isa); /* "auto", "scalar", "avx2", ...; NULL from FR_ISA_COUNT on */
bool fr_isa_available(fr_isa isa);   /* auto: always */
/* The best table that this CPU and this build have of an instruction set (of all, for FR_ISA_AUTO); NULL: they have none. */
const fr_kernels *fr_isa_kernels(fr_isa isa);
/* The same, and FR_ERROR_UNSUPPORTED when there is none. */
fr_status fr_isa_find(fr_isa isa, const fr_kernels **out, fr_error *error);
/* Table `i` of all that this CPU and this build have, the plainest first; NULL past the last. */
const fr_kernels *fr_isa_table(int i);

/* The tables, each in the file of its instruction set; not all are in every build. */
extern const fr_kernels fr_kernels_scalar, fr_kernels_avx2, fr_kernels_neon;
extern const fr_kernels fr_kernels_avx512;
extern const fr_kernels fr_kernels_avx512_bf16; /* the same, with the CPU's BF16 dot products, byte tables and bit matrices */
extern const fr_kernels fr_kernels_amx;         /* the same, with tiles */

#endif
