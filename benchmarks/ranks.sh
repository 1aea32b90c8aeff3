#!/bin/sh
# What ranks cost and bring on one machine: 2 threads of one process against 2 ranks of 1 thread, in turns; then ranks whose
# exchanges take longer, and, as root, ranks in two network namespaces that speak TCP over a pair of virtual Ethernet devices.
#
#   sh benchmarks/ranks.sh [-m MODEL_DIR] [-r ROUNDS] [-s SECONDS]
#
# -m   a checkpoint of several times the cache; without it one with random weights is made from benchmarks/config.json (2.4 GB)
#      and removed again
# -r   rounds of each way in turns (default: 5)
# -s   seconds for each figure (default: 0.5)
#
# FORERUN (default build-mpi/forerun) names the program, which must have MPI: cmake --preset mpi. Needs Open MPI's mpirun and mpicc;
# the namespaces need ip and unshare. Prints decode tokens/s, the median of the rounds, what an exchange took, and ratios.
set -eu
usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
here=$(cd "$(dirname "$0")" && pwd)
forerun=${FORERUN:-$here/../build-mpi/forerun} model='' rounds=5 seconds=0.5
[ "${1:-}" != --help ] || { usage; exit 0; }
while getopts m:r:s:h option; do
    case $option in
    m) model=$OPTARG ;;
    r) rounds=$OPTARG ;;
    s) seconds=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done
for tool in mpirun mpicc; do command -v $tool >/dev/null || { echo "ranks.sh: no $tool; sh tools/setup.sh --mpi" >&2; exit 1; }; done
[ -x "$forerun" ] || { echo "ranks.sh: no program at $forerun; cmake --preset mpi && cmake --build --preset mpi" >&2; exit 1; }
forerun=$(readlink -f "$forerun")

work=$(mktemp -d)
namespaces=''
clean() {
    [ -z "$namespaces" ] || { ip netns del forerun1; ip netns del forerun2; } 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM
if [ -z "$model" ]; then
    model=$work/model
    "$forerun" synth --config "$here/config.json" -o "$model" -q
fi
mpicc -shared -fPIC -O2 -o "$work/slow.so" "$here/slow_exchange.c"

options="--allow-run-as-root --oversubscribe --bind-to none"
bench="$forerun bench -m $model --no-pin --only decode --seconds $seconds -q"
# shellcheck disable=SC2086 # options are words
one_process() { $bench -t 2; }
# shellcheck disable=SC2086
two_ranks() { SLOW_EXCHANGE_US=${1:-0} mpirun -q $options ${1:+-x LD_PRELOAD=$work/slow.so -x SLOW_EXCHANGE_US} -n 2 $bench -t 1; }

# The second machine is a namespace with a host name of its own; Open MPI starts its daemon there by this, in ssh's place.
prepare_namespaces() {
    cat >"$work/agent" <<'A'
#!/bin/sh
n=${1##*.}
shift
exec ip netns exec "forerun$n" unshare --uts sh -c "hostname forerun$n; $*"
A
    chmod +x "$work/agent"
    namespaces=made
    for n in 1 2; do ip netns add forerun$n && ip -n forerun$n link set lo up || return 1; done
    ip link add veth netns forerun1 type veth peer name veth netns forerun2 || return 1
    for n in 1 2; do ip -n forerun$n addr add 10.77.0.$n/24 dev veth && ip -n forerun$n link set veth up || return 1; done
}
two_machines() {
    "$work/agent" 10.77.0.1 "mpirun -q $options -n 2 --host 10.77.0.1:1,10.77.0.2:1 --mca plm_rsh_agent $work/agent --mca pml ob1 \
        --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 $bench -t 1"
}

ways='one_process two_ranks two_ranks_10 two_ranks_50 two_ranks_200'
if [ "$(id -u)" = 0 ] && prepare_namespaces 2>"$work/why"; then
    ways="$ways two_machines"
else
    echo "no network namespaces here: $(tail -n 1 "$work/why" 2>/dev/null || echo "they need root")"
fi
run() {
    case $1 in
    two_ranks_*) two_ranks "${1##*_}" ;;
    *) "$1" ;;
    esac
}
for round in $(seq "$rounds"); do
    for way in $ways; do
        run "$way" >"$work/out" || { echo "ranks.sh: $way fails" >&2; exit 1; }
        awk -v way="$way" '$1 == "exchange" { us = $2 } $1 == "decode" { print way, $2, us + 0 }' "$work/out" >>"$work/all"
        echo "round $round: $(tail -n 1 "$work/all" | awk '{ printf "%s %s tokens/s, exchange %s us", $1, $2, $3 }')"
    done
done

median() { awk -v way="$1" -v field="$2" '$1 == way { print $field }' "$work/all" | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
base=$(median one_process 2)
echo
for way in $ways; do
    echo "$way $(median "$way" 2) $(median "$way" 3)" |
        awk -v base="$base" '{ printf "%-16s %8.2f tokens/s   exchange %8.2f us   %.3f of one process\n", $1, $2, $3, $2 / base }'
done
