#include "core/kernels/kernels.h"

#include <stdatomic.h>

#include "core/kernels/cpu.h"
#include "core/kernels/isa.h"

static _Atomic(const fr_kernels *) selected;

static const char *const isa_names[] = {
    [FR_ISA_AUTO] = "auto",     [FR_ISA_SCALAR] = "scalar", [FR_ISA_AVX2] = "avx2",
    [FR_ISA_AVX512] = "avx512", [FR_ISA_AMX] = "amx",       [FR_ISA_NEON] = "neon",
};

const char *fr_isa_name(fr_isa isa) {
    return isa_names[isa];
}

/* NULL: the CPU or the build lacks it. */
static const fr_kernels *kernels_of(fr_isa isa) {
    if (isa == FR_ISA_SCALAR) return &fr_kernels_scalar;
#if defined(__x86_64__)
    const fr_cpu *cpu = fr_cpu_get();
    if (isa == FR_ISA_AVX2) return cpu->avx2 ? &fr_kernels_avx2 : NULL;
    if (isa == FR_ISA_AVX512) return cpu->avx512_bf16 ? &fr_kernels_avx512_bf16 : cpu->avx512 ? &fr_kernels_avx512 : NULL;
    if (isa == FR_ISA_AMX) return cpu->amx ? &fr_kernels_amx : NULL;
    if (isa != FR_ISA_AUTO) return NULL;
    for (fr_isa best = FR_ISA_AMX; best > FR_ISA_SCALAR; best--)
        if (kernels_of(best)) return kernels_of(best);
    return &fr_kernels_scalar;
#elif defined(__aarch64__)
    return isa == FR_ISA_AUTO || isa == FR_ISA_NEON ? fr_kernels_neon() : NULL;
#else
    return isa == FR_ISA_AUTO ? &fr_kernels_scalar : NULL;
#endif
}

bool fr_isa_available(fr_isa isa) {
    return kernels_of(isa) != NULL;
}

const fr_kernels *fr_kernels_get(void) {
    const fr_kernels *kernels = atomic_load_explicit(&selected, memory_order_relaxed);
    if (!kernels) {
        kernels = kernels_of(FR_ISA_AUTO);
        atomic_store_explicit(&selected, kernels, memory_order_relaxed);
    }
    return kernels;
}

fr_status fr_kernels_select(fr_isa isa, fr_error *error) {
    const fr_kernels *kernels = kernels_of(isa);
    if (!kernels) {
        fr_fail(error, FR_ERROR_UNSUPPORTED, "instruction set %s: this CPU (%s) or this build lacks it", fr_isa_name(isa),
                fr_cpu_get()->name);
        return fr_hint(error, FR_ERROR_UNSUPPORTED, "leave the choice to forerun (auto), or choose %s",
                       kernels_of(FR_ISA_AUTO)->name);
    }
    atomic_store_explicit(&selected, kernels, memory_order_relaxed);
    return FR_OK;
}
