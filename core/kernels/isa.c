#include "core/kernels/isa.h"

#include "core/kernels/cpu.h"

#if defined(__x86_64__)
#define X86(table) &(table)
#else
#define X86(table) NULL
#endif
#if defined(__aarch64__)
#define ARM(table) &(table)
#else
#define ARM(table) NULL
#endif

static bool always(void) {
    return true;
}
static bool has_avx2(void) {
    return fr_cpu_get()->avx2;
}
static bool has_avx512(void) {
    return fr_cpu_get()->avx512;
}
static bool has_avx512_bf16(void) {
    return fr_cpu_get()->avx512_bf16;
}
static bool has_amx(void) {
    return fr_cpu_get()->amx;
}

enum { TABLES = 2 }; /* of an instruction set, at most */

static const struct {
    const char *word;
    struct {
        bool (*detect)(void);
        const fr_kernels *kernels; /* NULL: not in this build */
    } tables[TABLES];              /* the better ones later */
} rows[] = {
    [FR_ISA_AUTO] = {"auto", {{NULL, NULL}}},
    [FR_ISA_SCALAR] = {"scalar", {{always, &fr_kernels_scalar}}},
    [FR_ISA_AVX2] = {"avx2", {{has_avx2, X86(fr_kernels_avx2)}}},
    [FR_ISA_AVX512] = {"avx512", {{has_avx512, X86(fr_kernels_avx512)}, {has_avx512_bf16, X86(fr_kernels_avx512_bf16)}}},
    [FR_ISA_AMX] = {"amx", {{has_amx, X86(fr_kernels_amx)}}},
    [FR_ISA_NEON] = {"neon", {{always, ARM(fr_kernels_neon)}}},
};
_Static_assert(sizeof rows / sizeof *rows == FR_ISA_COUNT, "each instruction set of forerun.h has its row, under its constant");

const char *fr_isa_name(fr_isa isa) {
    return (unsigned)isa < FR_ISA_COUNT ? rows[isa].word : NULL;
}

static const fr_kernels *usable(fr_isa isa, int table) {
    const fr_kernels *kernels = rows[isa].tables[table].kernels;
    return kernels && rows[isa].tables[table].detect() ? kernels : NULL;
}

const fr_kernels *fr_isa_kernels(fr_isa isa) {
    const fr_kernels *best = NULL, *kernels;
    if ((unsigned)isa >= FR_ISA_COUNT) return NULL;
    for (fr_isa i = isa == FR_ISA_AUTO ? FR_ISA_SCALAR : isa; i < FR_ISA_COUNT; i++) {
        for (int t = 0; t < TABLES; t++)
            if ((kernels = usable(i, t))) best = kernels;
        if (isa != FR_ISA_AUTO) break;
    }
    return best;
}

const fr_kernels *fr_isa_table(int i) {
    for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++)
        for (int t = 0; t < TABLES; t++)
            if (usable(isa, t) && i-- == 0) return usable(isa, t);
    return NULL;
}

bool fr_isa_available(fr_isa isa) {
    return fr_isa_kernels(isa) != NULL;
}

fr_status fr_isa_find(fr_isa isa, const fr_kernels **out, fr_error *error) {
    *out = fr_isa_kernels(isa);
    if (*out) return FR_OK;
    const char *name = fr_isa_name(isa);
    fr_fail(error, FR_ERROR_UNSUPPORTED, "instruction set %s: this CPU (%s) or this build lacks it", name ? name : "?",
            fr_cpu_get()->name);
    return fr_hint(error, FR_ERROR_UNSUPPORTED, "leave the choice to forerun (auto), or choose %s",
                   fr_isa_name(fr_isa_kernels(FR_ISA_AUTO)->isa));
}
