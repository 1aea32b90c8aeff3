/* The program as several processes, started by mpirun: every rank runs the command with the same options and makes the same calls
 * of the library. Rank 0 alone reads files and standard input, prints, and writes files; the others learn from it what it has
 * found. All functions but fr_cli_ranks and fr_cli_is_first are called by all ranks, in the same order. */
#ifndef FR_CLI_RANKS_H
#define FR_CLI_RANKS_H

#include <stdbool.h>
#include <stddef.h>

#include "forerun.h"

/* Whether mpirun has started this process beside others. */
bool fr_cli_ranks_are_several(void);
/* Of several: this one's number, by what mpirun says of it. */
int fr_cli_ranks_own(void);

/* From now on this process prints nothing: rank 0 does. */
void fr_cli_ranks_silence(void);
/* Joins the others. Returns 0, or an exit code after printing why. */
int fr_cli_ranks_join(void);
/* Leaves them, with the exit code of a command. Where that is a failure and others do not come to an end with this rank, all are
 * ended, and what this rank would have said is printed. Returns the code. Without a join it does nothing. */
int fr_cli_ranks_leave(int code);

const fr_ranks *fr_cli_ranks(void); /* NULL: one process */
bool fr_cli_is_first(void);         /* rank 0 of several, or the only process */

/* Rank 0's value, for all. */
int fr_cli_share(int value);
/* Whether any of them has been interrupted. */
bool fr_cli_any_interrupted(void);
/* Rank 0's bytes, for all, in memory of fr_cli_grow that grows where it must; a NUL is put behind them. */
void fr_cli_share_text(char **text, size_t *length, size_t *room);
/* Refuses ranks whose text about `what` differs from rank 0's. Returns 0, or an exit code after printing who differs. */
int fr_cli_ranks_same(const char *what, const char *text, const char *hint);

#endif
