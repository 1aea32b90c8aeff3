#!/bin/sh
# Ranks over MPI: what tests/test_ranks.c says of exchanges, between processes.
#
#   sh tests/test_ranks_mpi.sh MPIEXEC TEST_RANKS
set -eu
mpiexec=$1 test_ranks=$2

# ranks N COMMAND...: runs it with N ranks on this machine, however few cores it has.
ranks() {
    n=$1
    shift
    case $("$mpiexec" --version 2>&1) in
        *"Open MPI"* | *OpenRTE*) timeout 300 "$mpiexec" --allow-run-as-root --oversubscribe -n "$n" "$@" </dev/null ;;
        *) timeout 300 "$mpiexec" -n "$n" "$@" </dev/null ;;
    esac
}

for n in 2 3; do
    ranks $n "$test_ranks" mpi >/dev/null || { echo "exchanges between $n ranks fail"; exit 1; }
done
echo "2 and 3 ranks exchange what they have"
