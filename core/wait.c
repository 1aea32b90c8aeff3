#include "core/wait.h"

#include <limits.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

bool fr_spin_while(const atomic_uint *word, unsigned old, int looks) {
    for (int i = 0; i < looks; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return false;
        pause_a_little();
    }
    return true;
}

void fr_sleep_while(atomic_uint *word, unsigned old, atomic_int *asleep) {
    atomic_fetch_add(asleep, 1);
    while (atomic_load(word) == old) {
#ifdef __linux__
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
#else
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
#endif
    }
    atomic_fetch_sub(asleep, 1);
}

void fr_wake(atomic_uint *word, atomic_int *asleep) {
#ifdef __linux__
    if (atomic_load(asleep) > 0) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)word, (void)asleep;
#endif
}
