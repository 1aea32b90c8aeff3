#!/bin/sh
# How much speed is left beside a foreign busy process: runs `forerun generate` on two processors, alone and with an endless loop
# on the second of them, in turns, and prints the medians over the rounds and their ratio. A third is the least that is meant to
# be left; two thirds is what two processors have left when a third process takes its share.
#
#   sh benchmarks/neighbour.sh [-m MODEL_DIR] [-n TOKENS] [-r ROUNDS] [-- OPTIONS OF generate]
#
# Nothing else may run meanwhile. FORERUN (default build/forerun) names the program; needs taskset (util-linux).
set -eu
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }
forerun=${FORERUN:-$(dirname "$0")/../build/forerun} model='' tokens=400 rounds=5
[ "${1:-}" != --help ] || { usage; exit 0; }
while getopts m:n:r: option; do
    case $option in
    m) model=$OPTARG ;;
    n) tokens=$OPTARG ;;
    r) rounds=$OPTARG ;;
    *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ -z "$model" ] || set -- -m "$model" "$@"

# The first two processors that are allowed here.
processors=$(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' |
    awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }' | head -n 2)
first=$(echo "$processors" | head -n 1) second=$(echo "$processors" | tail -n 1)
[ "$first" != "$second" ] || { echo "neighbour.sh: two processors are needed" >&2; exit 1; }

work=$(mktemp -d) neighbour=''
trap 'rm -rf "$work"; [ -z "$neighbour" ] || kill "$neighbour"' EXIT
trap 'exit 130' INT TERM

# one NAME THREADS OPTIONS...: appends the tokens per second of a run to a file NAME.
one() {
    name=$1 threads=$2
    shift 2
    taskset -c "$first,$second" "$forerun" generate -p 'Once upon a time' -n "$tokens" --ignore-eos --mtp off -t "$threads" --json -q \
        "$@" >"$work/json"
    awk '/"decode_tokens_per_s":/ { gsub(/[^0-9.eE+-]/, "", $2); print $2 }' "$work/json" >>"$work/$name"
}
begin_neighbour() { taskset -c "$second" sh -c 'while :; do :; done' & neighbour=$!; }
end_neighbour() { kill "$neighbour"; wait "$neighbour" 2>/dev/null || true; neighbour=''; }

one warm-up 2 "$@"
round=0
while [ "$round" -lt "$rounds" ]; do
    one quiet 2 "$@"
    one single 1 "$@"
    begin_neighbour
    one beside 2 "$@"
    end_neighbour
    round=$((round + 1))
done
median() { sort -n "$work/$1" | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
quiet=$(median quiet) single=$(median single) beside=$(median beside)
awk -v quiet="$quiet" -v single="$single" -v beside="$beside" 'BEGIN {
    printf "2 threads, quiet    %9.1f tokens/s\n1 thread, quiet     %9.1f tokens/s\n", quiet, single
    printf "2 threads, beside   %9.1f tokens/s\nbeside over quiet   %9.2f\n", beside, beside / quiet
}'
