#include "core/cpu.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static fr_cpu cpu = {.name = "unknown"};
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
static void look(void) {
    unsigned a, b, c, d;
    /* __builtin_cpu_supports also asks whether the system saves the registers. */
    __builtin_cpu_init();
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    cpu.avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    cpu.avx512_bf16 = cpu.avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
    char name[49] = "";
    for (unsigned leaf = 0; leaf < 3; leaf++) {
        if (!__get_cpuid(0x80000002u + leaf, &a, &b, &c, &d)) return;
        unsigned words[4] = {a, b, c, d};
        memcpy(name + 16 * leaf, words, 16);
    }
    size_t skip = strspn(name, " ");
    if (name[skip]) memcpy(cpu.name, name + skip, sizeof name - skip);
}
#else
static void look(void) {}
#endif

const fr_cpu *fr_cpu_get(void) {
    pthread_once(&once, look);
    return &cpu;
}
