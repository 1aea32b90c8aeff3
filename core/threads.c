#include "core/threads.h"

#include <assert.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "core/file.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

/* ---- Teams ---- */

static _Thread_local struct {
    fr_team *team;
    int rank, size, spins;
} self = {NULL, 0, 1, 0};

/* How often a thread looks before it sleeps. A pause takes 25 nanoseconds on Zen 4 and twice that on Intel's CPUs since Skylake,
 * so this is some 70 to 150 microseconds there, and less on CPUs with a shorter pause. The threads of a pass mostly arrive within
 * a few microseconds of each other, which is much less than sleeping and waking would take. With more threads than processors
 * nobody spins: the one that is waited for may need this very processor. */
enum { SPINS = 3000 };

void fr_team_enter(fr_team *team) {
    assert(!self.team); /* regions do not nest */
    self.team = team;
#ifdef _OPENMP
    self.rank = omp_get_thread_num();
    self.size = omp_get_num_threads();
    self.spins = self.size <= omp_get_num_procs() ? SPINS : 0;
#endif
}

void fr_team_leave(void) {
    fr_team_barrier(); /* so that none waits long at the runtime's own, at the region's end */
    self.team = NULL;
    self.rank = 0;
    self.size = 1;
}

int fr_team_rank(void) {
    return self.rank;
}

int fr_team_size(void) {
    return self.size;
}

static void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Until `round` is no longer `old`. A thread counts itself asleep before it looks at the round for the last time, and the
 * last to arrive moves the round before it looks who sleeps: one of the two sees the other. */
static void sleep_until_passed(fr_team *team, unsigned old) {
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->round) == old) {
#ifdef __linux__
        syscall(SYS_futex, &team->round, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
#else
        sched_yield();
#endif
    }
    atomic_fetch_sub(&team->asleep, 1);
}

void fr_team_barrier(void) {
    fr_team *team = self.team;
    if (self.size == 1) return;
    unsigned round = atomic_load_explicit(&team->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == self.size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed); /* seen by all who see the new round */
        atomic_store(&team->round, round + 1);
#ifdef __linux__
        if (atomic_load(&team->asleep) > 0) syscall(SYS_futex, &team->round, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#endif
        return;
    }
    for (int i = 0; i < self.spins; i++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != round) return;
        pause_a_little();
    }
    sleep_until_passed(team, round);
}

/* ---- Cores ---- */

#ifdef __linux__

/* The number in a one-number file of /sys, or -1. */
static int read_number(int cpu, const char *what) {
    char path[128], line[32];
    int value;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    return fr_read_line(path, line, sizeof line) && sscanf(line, "%d", &value) == 1 ? value : -1;
}

int fr_physical_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    /* A core is a (package, core id) pair: hardware threads that share one are counted once. */
    struct {
        int package, core;
    } seen[CPU_SETSIZE];
    int count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        int package = read_number(cpu, "physical_package_id"), core = read_number(cpu, "core_id");
        int i = 0;
        while (core >= 0 && i < count && (seen[i].package != package || seen[i].core != core)) i++;
        if (core >= 0 && i < count) continue;
        seen[count].package = core >= 0 ? package : -2;
        seen[count].core = core;
        count++;
    }
    return count > 0 ? count : 1;
}
#else
int fr_physical_cores(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}
#endif
