/* Makes every exchange between ranks later, as a slower network would: put before MPI by LD_PRELOAD (benchmarks/ranks.sh does
 * it). SLOW_EXCHANGE_US says by how many microseconds. */
#include <mpi.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int MPI_Allgatherv(const void *from, int count, MPI_Datatype type, void *to, const int counts[], const int at[],
                   MPI_Datatype to_type, MPI_Comm comm) {
    const char *text = getenv("SLOW_EXCHANGE_US");
    int code = PMPI_Allgatherv(from, count, type, to, counts, at, to_type, comm);
    double end = now() + 1e-6 * (text ? atof(text) : 0.0);
    while (now() < end) {
    }
    return code;
}
