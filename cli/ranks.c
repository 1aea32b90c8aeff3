#include "cli/ranks.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/message.h"

/* How long a rank that has failed waits for the others to fail alike. */
static const double PATIENCE_S = 0.7;

static fr_ranks *ranks;

/* ---- Joining and leaving ---- */

/* A number that a launcher put into the environment; -1 without. Open MPI's, MPICH's and its kin's, Slurm's. */
static int launched(const char *open_mpi, const char *pmi, const char *slurm) {
    const char *words[] = {getenv(open_mpi), getenv(pmi), getenv("SLURM_STEP_ID") ? getenv(slurm) : NULL};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i]) return atoi(words[i]);
    return -1;
}

bool fr_cli_ranks_are_several(void) {
    return launched("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS") > 1;
}

int fr_cli_ranks_own(void) {
    return launched("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID");
}

void fr_cli_ranks_silence(void) {
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fr_cli_set_silent(true);
    if (nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
    if (nowhere >= 0) close(nowhere);
}

int fr_cli_ranks_join(void) {
    fr_error error = {0};
    return fr_ranks_join(&ranks, &error) == FR_OK ? 0 : fr_cli_failure(&error);
}

int fr_cli_ranks_leave(int code) {
    bool alike = fr_ranks_meet(ranks, code == FR_EXIT_DONE ? 1e9 : PATIENCE_S);
    if (!alike) {
        if (!fr_cli_is_first()) {
            fr_cli_set_silent(false);
            if (*fr_cli_last_error()) fr_cli_error(code, "rank %d: %s", fr_ranks_rank(ranks), fr_cli_last_error());
        }
        fr_ranks_end_all(ranks, code);
    }
    fr_ranks_leave(ranks);
    ranks = NULL;
    return code;
}

const fr_ranks *fr_cli_ranks(void) {
    return ranks;
}

bool fr_cli_is_first(void) {
    return fr_ranks_rank(ranks) == 0;
}

/* ---- What rank 0 knows ---- */

int fr_cli_share(int value) {
    fr_ranks_share(ranks, &value, sizeof value);
    return value;
}

bool fr_cli_any_interrupted(void) {
    return fr_ranks_agree(ranks, fr_cli_interrupted() ? FR_INTERRUPTED : FR_OK, NULL) != FR_OK;
}

void fr_cli_share_text(char **text, size_t *length, size_t *room) {
    fr_ranks_share(ranks, length, sizeof *length);
    if (*room <= *length) {
        *room = *length + 1;
        *text = fr_cli_grow(*text, *room, 1);
    }
    fr_ranks_share(ranks, *text, *length);
    (*text)[*length] = '\0';
}

int fr_cli_ranks_same(const char *what, const char *text, const char *hint) {
    fr_error error = {0};
    fr_status status = FR_OK;
    if (!ranks) return 0;
    char *first = strdup(text);
    size_t length = first ? strlen(first) : 0, room = length + 1;
    fr_cli_share_text(&first, &length, &room);
    if (strcmp(first, text) != 0) {
        status = FR_ERROR_ARGUMENT;
        error.status = status;
        snprintf(error.message, sizeof error.message, "its %s differs: %.300s; rank 0 has: %.300s", what, text, first);
        snprintf(error.hint, sizeof error.hint, "%s", hint);
    }
    free(first);
    return fr_ranks_agree(ranks, status, &error) == FR_OK ? 0 : fr_cli_failure(&error);
}
