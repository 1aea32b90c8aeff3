/* What the CPU can do, as far as forerun cares. */
#ifndef FR_CORE_KERNELS_CPU_H
#define FR_CORE_KERNELS_CPU_H

#include <stdbool.h>

typedef struct fr_cpu {
    bool avx2;        /* AVX2, FMA and F16C */
    bool avx512;      /* F, BW, VL, DQ, and all of avx2 */
    bool avx512_bf16; /* BF16 dot products, VBMI byte tables and GFNI bit matrices, and all of avx512 */
    bool amx;         /* tiles of BF16, granted by the system, and all of avx512_bf16 */
    char name[64];    /* as the CPU calls itself, or "unknown" */
} fr_cpu;

/* Thread-safe; the first call looks. */
const fr_cpu *fr_cpu_get(void);

#endif
