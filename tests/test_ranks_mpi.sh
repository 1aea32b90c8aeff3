#!/bin/sh
# Ranks over MPI: what tests/test_ranks.c says of exchanges, and test_ranks_model.c of what models compute, between processes.
#
#   sh tests/test_ranks_mpi.sh MPIEXEC TEST_RANKS TEST_RANKS_MODEL
set -eu
mpiexec=$1 test_ranks=$2 test_ranks_model=$3

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
# Two ranks compute the bits of one process.
ranks 2 "$test_ranks_model" mpi quick >/dev/null || { echo "2 ranks compute other bits than one process"; exit 1; }
echo "2 and 3 ranks exchange what they have, 2 compute the bits of one process"
