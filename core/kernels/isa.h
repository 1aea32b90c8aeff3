/* The tables of the instruction sets that the build has; core/kernels/kernels.c chooses among them. Private to core. */
#ifndef FR_CORE_KERNELS_ISA_H
#define FR_CORE_KERNELS_ISA_H

#include "core/kernels/kernels.h"

extern const fr_kernels fr_kernels_scalar;
#if defined(__x86_64__)
extern const fr_kernels fr_kernels_avx2;
extern const fr_kernels fr_kernels_avx512;
extern const fr_kernels fr_kernels_avx512_bf16; /* the same, with the CPU's BF16 dot products, byte tables and bit matrices */
extern const fr_kernels fr_kernels_amx;         /* the same, with tiles */
#elif defined(__aarch64__)
const fr_kernels *fr_kernels_neon(void);
#endif

#endif
