#include "core/threads.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <time.h>

#include "core/clock.h"
#include "core/members.h"
#include "core/memory.h"
#include "core/processors.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef struct team team;

/* A thread of a team. The calling thread is member 0 of its own. */
typedef struct member {
    alignas(FR_ALIGN) atomic_uint ticket; /* counts the runs that it was called to; the fields below are written before */
    atomic_int asleep;
    int rank; /* in the run of that ticket */
    bool ending;
    double lost; /* of the last run: seconds that it was kept from working; written before the run's last barrier */
    team *team;
    pthread_t thread;
    /* its own */
    double began, ran, slept; /* the clock and its processor time when a run began; seconds asleep at barriers since */
    long faults;              /* major ones */
} member;

/* A calling thread's team. It lives until that thread ends. */
struct team {
    alignas(FR_ALIGN) atomic_int arrived; /* at the barrier of this round */
    alignas(FR_ALIGN) atomic_uint round;  /* barriers passed */
    atomic_int asleep;
    atomic_int spins;
    _Atomic double passed;      /* when the last barrier opened at which somebody slept */
    alignas(FR_ALIGN) int size; /* of this run, as are the next three */
    double began;
    fr_team_work *work;
    void *argument;
    int count;        /* members there are */
    member **members; /* [count]; those of a run come first, in the order of their ranks */
    double *lost;     /* [count] */
    fr_members taking_part;
};

static _Thread_local struct {
    team *own;  /* of which it is the caller */
    team *team; /* in whose run it is */
    member *member;
    int rank, size;
    uint64_t barriers;
} self = {NULL, NULL, NULL, 0, 1, 0};

/* How often a thread looks before it sleeps. A pause takes 25 nanoseconds on Zen 4 and twice that on Intel's CPUs since Skylake,
 * so this is some 70 to 150 microseconds there, and less on CPUs with a shorter pause. The threads of a pass mostly arrive within
 * a few microseconds of each other, which is much less than sleeping and waking would take. With more threads than processors
 * nobody spins: the one that is waited for may need this very processor. */
enum { SPINS = 3000 };

int fr_team_rank(void) {
    return self.rank;
}

int fr_team_size(void) {
    return self.size;
}

/* ---- Waiting ---- */

static void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static bool spin_while(const atomic_uint *word, unsigned old, const atomic_int *spins) {
    for (int i = atomic_load_explicit(spins, memory_order_relaxed); i > 0; i--) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return false;
        pause_a_little();
    }
    return true;
}

/* Until `word` is no longer `old`. A thread counts itself asleep before it looks at the word for the last time, and whoever
 * changes the word does so before it looks who sleeps: one of the two sees the other. */
static void sleep_while(atomic_uint *word, unsigned old, atomic_int *asleep) {
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

static void wake(atomic_uint *word, atomic_int *asleep) {
#ifdef __linux__
    if (atomic_load(asleep) > 0) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)word, (void)asleep;
#endif
}

uint64_t fr_team_barriers(void) {
    return self.barriers;
}

void fr_team_barrier(void) {
    fr_team_barrier_do(NULL, NULL);
}

void fr_team_barrier_do(fr_team_work *work, void *argument) {
    team *t = self.team;
    self.barriers++;
    if (self.size == 1) {
        if (work) work(argument);
        return;
    }
    unsigned round = atomic_load_explicit(&t->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == self.size - 1) {
        if (work) work(argument);
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed); /* seen by all who see the new round */
        if (atomic_load(&t->asleep) > 0) atomic_store_explicit(&t->passed, fr_now(), memory_order_relaxed);
        atomic_store(&t->round, round + 1);
        wake(&t->round, &t->asleep);
        return;
    }
    if (!spin_while(&t->round, round, &t->spins)) return;
    double began = fr_now();
    sleep_while(&t->round, round, &t->asleep);
    /* What comes between the opening and its own waking is lost, not slept. */
    double passed = atomic_load_explicit(&t->passed, memory_order_relaxed);
    if (passed > began) self.member->slept += passed - began;
}

/* ---- A run ---- */

static double processor_time(void) {
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0.0;
}

static long major_faults(void) {
#ifdef __linux__
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_majflt : 0;
#else
    return 0;
#endif
}

/* What the member lost of the run: the time that it neither ran nor slept at a barrier. Who waits for weights from a disk has not
 * lost its processor. */
static double lost_time(member *m) {
    double lost = fr_now() - m->began - (processor_time() - m->ran) - m->slept;
    if (lost < FR_MEMBERS_LEAST_LOST) return 0.0;
    long faults = major_faults(), before = m->faults;
    m->faults = faults;
    return faults == before ? lost : 0.0;
}

/* A member's part in a run. */
static void take_part(team *t, member *m) {
    self.team = t;
    self.member = m;
    self.rank = m->rank;
    self.size = t->size;
    m->began = t->began;
    m->ran = processor_time();
    m->slept = 0.0;
    t->work(t->argument);
    m->lost = lost_time(m);
    fr_team_barrier();
    self.team = NULL;
    self.member = NULL;
    self.rank = 0;
    self.size = 1;
}

static void *run_member(void *argument) {
    member *m = argument;
#ifdef _OPENMP
    omp_set_num_threads(1); /* libraries that are called in a run use this thread alone */
#endif
    for (unsigned ticket = 0;;) {
        if (spin_while(&m->ticket, ticket, &m->team->spins)) sleep_while(&m->ticket, ticket, &m->asleep);
        ticket = atomic_load(&m->ticket);
        if (m->ending) return NULL;
        take_part(m->team, m);
    }
}

static void call(member *m) {
    atomic_fetch_add(&m->ticket, 1);
    wake(&m->ticket, &m->asleep);
}

/* ---- The members ---- */
static pthread_key_t key; /* of a thread's own team, which it ends */
static bool has_key;

static void end_team(void *ended) {
    team *t = ended;
    for (int i = 1; i < t->count; i++) {
        t->members[i]->ending = true;
        call(t->members[i]);
        pthread_join(t->members[i]->thread, NULL);
        fr_free(t->members[i]);
    }
    if (t->count > 0) fr_free(t->members[0]);
    fr_free(t->members);
    fr_free(t->lost);
    fr_free(t);
    self.own = NULL;
}

static void make_key(void) {
    has_key = pthread_key_create(&key, end_team) == 0;
}

static team *own_team(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    if (!self.own && has_key && (self.own = fr_alloc_zeroed(1, sizeof *self.own)) && pthread_setspecific(key, self.own) != 0) {
        fr_free(self.own);
        self.own = NULL;
    }
    return self.own;
}

static bool start_thread(member *m) {
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the program's own threads */
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setstacksize(&attributes, 2 << 20);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&m->thread, &attributes, run_member, m) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

/* Adds members until there are `threads`, or no more are to be had. */
static void grow(team *t, int threads) {
    size_t old = (size_t)t->count, new = (size_t)threads;
    if (threads <= t->count) return;
    member **members = fr_grow(t->members, old * sizeof *members, new * sizeof *members);
    if (members) t->members = members;
    double *lost = fr_grow(t->lost, old * sizeof *lost, new * sizeof *lost);
    if (lost) t->lost = lost;
    while (members && lost && t->count < threads) {
        member *m = fr_alloc_zeroed(1, sizeof *m);
        if (!m) break;
        m->team = t;
        if (t->count > 0 && !start_thread(m)) {
            fr_free(m);
            break;
        }
        t->members[t->count++] = m;
    }
    atomic_store_explicit(&t->spins, t->count <= fr_processors() ? SPINS : 0, memory_order_relaxed);
}

/* Puts a member behind all others, where those are that stay out. */
static void move_to_end(team *t, int rank) {
    member *m = t->members[rank];
    for (int i = rank; i + 1 < t->count; i++) t->members[i] = t->members[i + 1];
    t->members[t->count - 1] = m;
}

static void run(team *t, int size, fr_team_work *work, void *argument) {
    t->size = size;
    t->work = work;
    t->argument = argument;
    t->began = fr_now();
    for (int i = 0; i < size; i++) {
        t->members[i]->rank = i;
        if (i > 0) call(t->members[i]);
    }
    take_part(t, t->members[0]);
    double now = fr_now();
    for (int i = 0; i < size; i++) t->lost[i] = t->members[i]->lost;
    int left = fr_members_end(&t->taking_part, t->lost, size, now - t->began, now);
    if (left >= 0) move_to_end(t, left);
}

void fr_team_run(int threads, fr_team_work *work, void *argument) {
    assert(!self.team && threads >= 1); /* runs do not nest */
    team *t = threads > 1 ? own_team() : NULL;
    int size = 1;
#ifdef _OPENMP
    int allowed = omp_get_max_threads();
    omp_set_num_threads(1);
#endif
    if (t) {
        grow(t, threads);
        size = fr_members_begin(&t->taking_part, t->count, fr_now());
    }
    if (size > threads) size = threads;
    if (size > 1)
        run(t, size, work, argument);
    else
        work(argument);
#ifdef _OPENMP
    omp_set_num_threads(allowed);
#endif
}
