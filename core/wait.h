/* Waiting for a word that another thread changes: looking at it, and then sleeping. */
#ifndef FR_CORE_WAIT_H
#define FR_CORE_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>

/* Looks at the word up to `looks` times, with a pause in between; true if it is still `old`. */
bool fr_spin_while(const atomic_uint *word, unsigned old, int looks);
/* Until the word is no longer `old`. A thread counts itself asleep before it looks at the word for the last time, and whoever
 * changes the word does so before fr_wake looks who sleeps: one of the two sees the other. */
void fr_sleep_while(atomic_uint *word, unsigned old, atomic_int *asleep);
void fr_wake(atomic_uint *word, atomic_int *asleep);

#endif
