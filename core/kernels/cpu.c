#include "core/kernels/cpu.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static fr_cpu cpu = {.name = "unknown"};
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
/* Whether the CPU has tiles and the system saves them. Linux wants to be asked first, once for all threads, because they
 * make signal frames larger. */
static bool tiles(void) {
#if defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, TILES = 3 << 17 };
    const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & amx_bf16) || !(d & amx_tile)) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & TILES) == TILES && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

static void look(void) {
    unsigned a, b, c, d;
    /* __builtin_cpu_supports also asks whether the system saves the registers. */
    __builtin_cpu_init();
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    cpu.avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    cpu.avx512_bf16 = cpu.avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") &&
                      __builtin_cpu_supports("gfni");
    cpu.amx = cpu.avx512_bf16 && tiles();
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
