#include "core/threads.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "core/barrier.h"
#include "core/clock.h"
#include "core/members.h"
#include "core/memory.h"
#include "core/processors.h"
#include "core/topology.h"
#include "core/wait.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sys/resource.h>
#endif

typedef struct team team;

/* A thread of a team. The calling thread is member 0 of its own. */
typedef struct member {
    alignas(FR_ALIGN) atomic_uint ticket; /* counts the runs that it was called to; the fields below are written before */
    atomic_int asleep;
    int rank, leaf; /* in the run of that ticket, and at its barriers */
    bool ending;
    double lost; /* of the last run: seconds that it was kept from working; written before the run's last barrier */
    team *team;
    pthread_t thread;
    /* its own */
    fr_core_range bound;      /* to these cores; none: to all */
    double began, ran, slept; /* the clock and its processor time when a run began; seconds asleep at barriers since */
    long faults;              /* major ones */
    double started, ended;    /* of a run that is timed: when its work began and ended */
    double waited;            /* and how long it waited at barriers */
} member;

/* A calling thread's team. It lives until that thread ends. */
struct team {
    fr_barrier barrier;
    alignas(FR_ALIGN) atomic_uint finished; /* runs that all members but the caller have left */
    atomic_int asleep;                      /* the caller, until they have */
    atomic_int looks;                       /* of a waiting thread, before it sleeps */
    alignas(FR_ALIGN) int size;             /* of this run, as are the next five */
    bool binds, timed;                      /* threads to their places; how long they wait */
    double began;
    fr_team_work *work;
    void *argument;
    double waited;    /* in all runs that were timed, by all members */
    int processors;   /* that there were when the team grew */
    int count;        /* members there are */
    int asked;        /* the most there were to be: those that were not to be had are not asked for in each run */
    member **members; /* [count]; those of a run come first, in the order of their ranks */
    double *lost;     /* [count] */
    fr_seat *seats;   /* [count], room to build the barrier, as are leaves */
    int *leaves;
    int seated;            /* members that the barrier is built for; 0: others, or otherwise */
    fr_topology *topology; /* NULL: not known, or not yet asked */
    fr_core_range *places; /* [count]: where ranks go, of a run of `spread` threads */
    int spread;            /* 0: no run has asked */
    bool has_places;       /* those threads; false: there are more than cores, or the topology is not known */
    fr_members taking_part;
};

static _Thread_local struct {
    team *own;  /* of which it is the caller */
    team *team; /* in whose run it is */
    member *member;
    int rank, size;
    bool pinned, timed;
    uint64_t barriers;
} self = {.size = 1};

/* How often a thread looks before it sleeps. A pause takes 25 nanoseconds on Zen 4 and twice that on Intel's CPUs since Skylake,
 * so this is some 70 to 150 microseconds there, and less on CPUs with a shorter pause. The threads of a pass mostly arrive within
 * a few microseconds of each other, which is much less than sleeping and waking would take. With more threads than processors
 * nobody spins: the one that is waited for may need this very processor. */
enum { LOOKS = 3000 };

static int looks_of(const team *t) {
    return atomic_load_explicit(&t->looks, memory_order_relaxed);
}

int fr_team_rank(void) {
    return self.rank;
}

int fr_team_size(void) {
    return self.size;
}

/* ---- Barriers ---- */

void fr_team_slept(double seconds) {
    if (self.member) self.member->slept += seconds;
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
    int leaf = self.member->leaf;
    double came = t->timed ? fr_now() : 0.0;
    unsigned round = fr_barrier_round(&t->barrier, leaf);
    if (fr_barrier_arrive(&t->barrier, leaf)) {
        if (work) work(argument);
        fr_barrier_open(&t->barrier);
        return;
    }
    self.member->slept += fr_barrier_wait(&t->barrier, leaf, round, looks_of(t));
    if (t->timed) self.member->waited += fr_now() - came;
}

void fr_team_time_waits(bool timed) {
    self.timed = timed;
}

double fr_team_waited(void) {
    return self.own ? self.own->waited : 0.0;
}

double fr_team_worked(void) {
    return fr_now() - (self.member ? self.member->waited : 0.0);
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

static void go_to(const team *t, member *m, fr_core_range place) {
    if (m->bound.first == place.first && m->bound.count == place.count) return;
    fr_topology_bind(t->topology, place.count > 0 ? &place : NULL);
    m->bound = place;
}

/* A member's part in a run. The caller's thread is not ours to bind. */
static void take_part(team *t, member *m) {
    self.team = t;
    self.member = m;
    self.rank = m->rank;
    self.size = t->size;
    if (m->rank > 0) go_to(t, m, t->binds ? t->places[m->rank] : (fr_core_range){.count = 0});
    m->began = t->began;
    m->ran = processor_time();
    m->slept = m->waited = 0.0;
    if (t->timed) m->started = fr_now();
    t->work(t->argument);
    if (t->timed) m->ended = fr_now();
    m->lost = lost_time(m);
    self.team = NULL;
    self.member = NULL;
    self.rank = 0;
    self.size = 1;
}

/* The run's end: the caller waits for all, nobody else has to. Once it goes on, no other member uses the barrier, and it may be
 * built anew. */
static void leave(team *t, const member *m) {
    if (!fr_barrier_arrive(&t->barrier, m->leaf)) return;
    atomic_fetch_add(&t->finished, 1);
    fr_wake(&t->finished, &t->asleep);
}

static void *run_member(void *argument) {
    member *m = argument;
#ifdef _OPENMP
    omp_set_num_threads(1); /* libraries that are called in a run use this thread alone */
#endif
    for (unsigned ticket = 0;;) {
        if (fr_spin_while(&m->ticket, ticket, looks_of(m->team))) fr_sleep_while(&m->ticket, ticket, &m->asleep);
        ticket = atomic_load(&m->ticket);
        if (m->ending) return NULL;
        take_part(m->team, m);
        leave(m->team, m);
    }
}

static void call(member *m) {
    atomic_fetch_add(&m->ticket, 1);
    fr_wake(&m->ticket, &m->asleep);
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
    fr_free(t->seats);
    fr_free(t->places);
    fr_free(t->leaves);
    fr_free(t->barrier.meetings);
    fr_topology_close(t->topology);
    fr_free(t);
    self.own = NULL;
}

/* A child process has the forking thread alone: the team is its parent's. */
static void forget_team(void) {
    self.own = NULL;
    pthread_setspecific(key, NULL);
}

static void make_key(void) {
    has_key = pthread_key_create(&key, end_team) == 0;
    if (has_key) pthread_atfork(NULL, NULL, forget_team);
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
    static const int own[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE};
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the program's own threads, but for those that a thread causes itself */
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&all, own[i]);
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setstacksize(&attributes, 2 << 20);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&m->thread, &attributes, run_member, m) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

/* Room for `threads` members; false when there is no memory. */
static bool make_room(team *t, int threads) {
    size_t old = (size_t)t->count, new = (size_t)threads;
    size_t most = t->count > 0 ? (size_t)fr_barrier_most_meetings(t->count) : 0;
    member **members = fr_grow(t->members, old * sizeof *members, new * sizeof *members);
    if (members) t->members = members;
    double *lost = fr_grow(t->lost, old * sizeof *lost, new * sizeof *lost);
    if (lost) t->lost = lost;
    fr_seat *seats = fr_grow(t->seats, old * sizeof *seats, new * sizeof *seats);
    if (seats) t->seats = seats;
    fr_core_range *places = fr_grow(t->places, old * sizeof *places, new * sizeof *places);
    if (places) t->places = places;
    int *leaves = fr_grow(t->leaves, old * sizeof *leaves, new * sizeof *leaves);
    if (leaves) t->leaves = leaves;
    size_t bytes = (size_t)fr_barrier_most_meetings(threads) * sizeof(fr_meeting);
    fr_meeting *meetings = fr_grow(t->barrier.meetings, most * sizeof *meetings, bytes);
    if (meetings) t->barrier.meetings = meetings;
    if (!members || !lost || !seats || !places || !leaves || !meetings) return false;
    memset(meetings, 0, bytes); /* nobody is at the barrier */
    return true;
}

/* Whether so many threads have places; they are t->places then. */
static bool spread(team *t, int threads) {
    if (t->spread == threads) return t->has_places;
    if (t->spread == 0) t->topology = fr_topology_open();
    t->spread = threads;
    t->seated = 0;
    return t->has_places = t->topology && fr_topology_spread(t->topology, threads, t->places);
}

/* Adds members until there are `threads`, or no more are to be had. */
static void grow(team *t, int threads) {
    if (threads <= t->asked) return;
    t->asked = threads;
    if (!make_room(t, threads)) return;
    while (t->count < threads) {
        member *m = fr_alloc_zeroed(1, sizeof *m);
        if (!m) break;
        m->team = t;
        if (t->count > 0 && !start_thread(m)) {
            fr_free(m);
            break;
        }
        t->members[t->count++] = m;
    }
    t->seated = 0;
    t->processors = fr_processors();
}

/* Puts a member behind all others, where those are that stay out. */
static void move_to_end(team *t, int rank) {
    member *m = t->members[rank];
    for (int i = rank; i + 1 < t->count; i++) t->members[i] = t->members[i + 1];
    t->members[t->count - 1] = m;
    t->seated = 0;
}

static void build_barrier(team *t, int size) {
    for (int i = 0; i < size; i++) t->seats[i] = t->binds ? t->places[i].seat : (fr_seat){0, 0};
    fr_barrier_build(&t->barrier, t->seats, size, t->leaves);
    for (int i = 0; i < size; i++) t->members[i]->leaf = t->leaves[i];
    t->seated = size;
}

/* Of a run that began at t->began and has ended now. */
static double waited_by(const team *t, const member *m, double now) {
    return m->started - t->began + m->waited + now - m->ended;
}

static void run(team *t, int size, fr_team_work *work, void *argument) {
    unsigned finished = atomic_load(&t->finished);
    if (t->seated != size) build_barrier(t, size);
    atomic_store_explicit(&t->looks, size <= t->processors ? LOOKS : 0, memory_order_relaxed);
    t->size = size;
    t->timed = self.timed;
    t->work = work;
    t->argument = argument;
    t->began = fr_now();
    for (int i = 0; i < size; i++) {
        t->members[i]->rank = i;
        if (i > 0) call(t->members[i]);
    }
    take_part(t, t->members[0]);
    leave(t, t->members[0]);
    if (fr_spin_while(&t->finished, finished, looks_of(t))) fr_sleep_while(&t->finished, finished, &t->asleep);
    double now = fr_now();
    for (int i = 0; i < size; i++) t->lost[i] = t->members[i]->lost;
    for (int i = 0; t->timed && i < size; i++) t->waited += waited_by(t, t->members[i], now);
    int left = fr_members_end(&t->taking_part, t->lost, size, now - t->began, now);
    if (left >= 0) move_to_end(t, left);
}

void fr_team_pin(bool pinned) {
    self.pinned = pinned;
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
        size = fr_members_begin(&t->taking_part, threads < t->count ? threads : t->count, fr_now());
        bool binds = self.pinned && size == threads && spread(t, threads); /* beside others a thread finds room for itself */
        if (binds != t->binds) t->seated = 0;
        t->binds = binds;
    }
    double began = t && self.timed ? fr_now() : 0.0;
    if (size > 1)
        run(t, size, work, argument);
    else
        work(argument);
    if (t && self.timed) t->waited += (threads - size) * (fr_now() - began); /* those that stay out */
#ifdef _OPENMP
    omp_set_num_threads(allowed);
#endif
}
