#include "core/mapping.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory.h"

/* The handler goes through all mappings while others come and go: they stay on the list, and are used again. A mapping that
 * covers the address that a thread touches stays what it is until that thread is done. */
struct fr_mapping {
    atomic_uintptr_t begin, end;  /* 0, 0: free */
    atomic_uint_fast64_t lost_at; /* offset + 1; 0: nothing is lost */
    fr_mapping *next;             /* never changes */
};

static _Atomic(fr_mapping *) all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of taking and freeing */
static atomic_bool any_lost;

/* ---- The list ---- */

static fr_mapping *find_free(void) {
    fr_mapping *m = atomic_load(&all);
    while (m && atomic_load(&m->end) != 0) m = m->next;
    if (m) return m;
    m = fr_alloc_zeroed(1, sizeof *m);
    if (!m) return NULL;
    m->next = atomic_load(&all);
    atomic_store(&all, m);
    return m;
}

fr_mapping *fr_mapping_open(int fd, uint64_t bytes) {
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return NULL;
    pthread_mutex_lock(&lock);
    fr_mapping *m = find_free();
    if (m) {
        atomic_store(&m->lost_at, 0);
        atomic_store(&m->begin, (uintptr_t)map);
        atomic_store(&m->end, (uintptr_t)map + bytes);
    }
    pthread_mutex_unlock(&lock);
    if (m) return m;
    munmap(map, bytes);
    errno = ENOMEM;
    return NULL;
}

void fr_mapping_close(fr_mapping *m) {
    if (!m) return;
    pthread_mutex_lock(&lock);
    void *map = fr_mapping_bytes(m);
    size_t bytes = atomic_load(&m->end) - atomic_load(&m->begin);
    atomic_store(&m->end, 0);
    atomic_store(&m->begin, 0);
    munmap(map, bytes);
    pthread_mutex_unlock(&lock);
}

void *fr_mapping_bytes(const fr_mapping *m) {
    return (void *)atomic_load(&m->begin);
}

bool fr_mapping_is_lost(const fr_mapping *m, uint64_t *offset) {
    uint64_t at = atomic_load(&m->lost_at);
    if (at > 0) *offset = at - 1;
    return at > 0;
}

bool fr_mapping_any_lost(void) {
    return atomic_load(&any_lost);
}

/* ---- The handler ---- */

static struct sigaction before;
static uintptr_t page_bytes;

/* Puts zeros in the place of what cannot be read and all that is behind it, so that a file that was cut is met once. */
static bool fill_with_zeros(fr_mapping *m, uintptr_t address) {
    uintptr_t end = atomic_load(&m->end), begin = atomic_load(&m->begin), page = address / page_bytes * page_bytes;
    uint_fast64_t none = 0;
    if (address < begin || address >= end) return false;
    if (atomic_load(&m->end) != end) return false; /* begin may be another mapping's, which took its place just now */
    atomic_compare_exchange_strong(&m->lost_at, &none, (uint_fast64_t)(address - begin) + 1);
    atomic_store(&any_lost, true);
    return mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Not one of ours: as if there were no handler. One that was there before may end up here again. */
static void pass_on(int number, siginfo_t *info, void *context) {
    static _Thread_local bool passing;
    bool again = passing;
    passing = true;
    if (!again && before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (!again && before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        sigaction(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL); /* and the thread comes to it again */
    passing = again;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    int kept = errno;
    fr_mapping *m = atomic_load(&all);
    while (m && !fill_with_zeros(m, (uintptr_t)info->si_addr)) m = m->next;
    if (!m) pass_on(number, info, context);
    errno = kept;
}

bool fr_mapping_guard(void) {
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART}, now;
    sigemptyset(&ours.sa_mask);
    pthread_mutex_lock(&lock);
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    bool known = sigaction(SIGBUS, NULL, &now) == 0, installed = known && now.sa_sigaction == on_fault;
    if (known && !installed) {
        before = now;
        installed = sigaction(SIGBUS, &ours, NULL) == 0;
    }
    pthread_mutex_unlock(&lock);
    return installed;
}
