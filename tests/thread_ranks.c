#include "thread_ranks.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct shared {
    pthread_barrier_t barrier;
    char *all[MAX_THREAD_RANKS];
    void (*work)(const fr_ranks *ranks, void *user);
    void *user;
} shared;

static void gather(const fr_ranks *ranks, void *all, const int *counts, const int *at) {
    shared *s = ranks->transport;
    s->all[ranks->rank] = all;
    pthread_barrier_wait(&s->barrier);
    for (int i = 0; i < ranks->size; i++)
        if (i != ranks->rank && counts[i]) memcpy((char *)all + at[i], s->all[i] + at[i], (size_t)counts[i]);
    pthread_barrier_wait(&s->barrier);
}

static void *run(void *argument) {
    const fr_ranks *ranks = argument;
    const shared *s = ranks->transport;
    s->work(ranks, s->user);
    return NULL;
}

void run_ranks(int size, void (*work)(const fr_ranks *ranks, void *user), void *user) {
    shared s = {.work = work, .user = user};
    fr_ranks ranks[MAX_THREAD_RANKS];
    pthread_t threads[MAX_THREAD_RANKS];
    assert(size >= 1 && size <= MAX_THREAD_RANKS);
    pthread_barrier_init(&s.barrier, NULL, (unsigned)size);
    for (int i = 0; i < size; i++) {
        ranks[i] = (fr_ranks){.rank = i, .size = size, .gather = gather, .transport = &s};
        if (pthread_create(&threads[i], NULL, run, &ranks[i]) != 0) abort();
    }
    for (int i = 0; i < size; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&s.barrier);
}
