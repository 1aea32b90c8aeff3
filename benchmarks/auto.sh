#!/bin/sh
# How good --mtp auto is on a model: runs `forerun generate` without drafts, with every fixed depth and with auto, in turns, on
# the same prompt, and prints the median over the rounds of each one's speed over that of the same round without drafts. auto
# should be at 0.98 or more, and at 0.95 of the best depth or more. auto begins knowing nothing, learned with what the round before it
# taught.
#
#   sh benchmarks/auto.sh [-m MODEL_DIR] [-n TOKENS] [-d DEPTH] [-r ROUNDS] [-t THREADS] [-- OPTIONS OF generate]
#
# The prompt is README.md's beginning unless OPTIONS has one. The acceptance is the model's own; for one near 0
# use a model with random weights (`forerun synth`) or a prompt of random tokens at a temperature.
# FORERUN (default build/forerun) names the program.
set -eu
usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }
forerun=${FORERUN:-$(dirname "$0")/../build/forerun} model='' tokens=512 depth=3 rounds=5 threads=''
[ "${1:-}" != --help ] || { usage; exit 0; }
while getopts m:n:d:r:t: option; do
    case $option in
    m) model=$OPTARG ;;
    n) tokens=$OPTARG ;;
    d) depth=$OPTARG ;;
    r) rounds=$OPTARG ;;
    t) threads=$OPTARG ;;
    *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
work=$(mktemp -d)
export XDG_CACHE_HOME="$work/cache" # what is learned here is of this run alone
trap 'rm -rf "$work"' EXIT
prompted=''
for argument; do case $argument in -p* | -f* | --prompt* | --tokens*) prompted=1 ;; esac done
if [ -z "$prompted" ]; then
    head -c 1200 "$(dirname "$0")/../README.md" >"$work/prompt"
    set -- -f "$work/prompt" "$@"
fi
[ -z "$model" ] || set -- -m "$model" "$@"
[ -z "$threads" ] || set -- -t "$threads" "$@"

# one NAME MTP-OPTIONS...: a line "NAME tokens/s drafted accepted probes".
one() {
    name=$1
    shift
    "$forerun" generate -n "$tokens" --ignore-eos --json -q "$@" >"$work/json" || exit 1
    awk -v name="$name" '
        function number(text) { gsub(/[^0-9.eE+-]/, "", text); return text }
        /"decode_tokens_per_s":/ { speed = number($2) }
        /"num_draft_tokens":/ { drafted = number($2) }
        /"num_accepted_tokens":/ { accepted = number($2) }
        /"probes":/ { probes = number($2) }
        END { print name, speed, drafted, accepted, probes }' "$work/json" >>"$work/round"
}
round=0
while [ "$round" -lt "$rounds" ]; do
    : >"$work/round"
    one off --mtp off "$@"
    k=1
    while [ "$k" -le "$depth" ]; do
        one "depth-$k" --mtp on --depth "$k" "$@"
        k=$((k + 1))
    done
    one auto --mtp auto --depth "$depth" --no-learned "$@"
    one learned --mtp auto --depth "$depth" "$@"
    awk '$1 == "off" { off = $2 } { print $1, $2 / off, $2, $3, $4, $5 }' "$work/round" >>"$work/all"
    round=$((round + 1))
done
sort -k1,1 -k2,2n "$work/all" | awk '
    function flush() {
        if (!count) return
        middle = int((count + 1) / 2)
        printf "%-8s %8.3f  (%.3f to %.3f)  %9.1f tokens/s  drafted %d, accepted %d (%.1f %%)\n", name, ratio[middle], ratio[1],
            ratio[count], speed[middle], drafted, accepted, drafted ? 100 * accepted / drafted : 0
        if (name == "auto") auto = ratio[middle]
        else if (name != "learned" && ratio[middle] > best) best = ratio[middle]
        count = 0
    }
    $1 != name { flush(); name = $1 }
    { ratio[++count] = $2; speed[count] = $3; drafted = $4; accepted = $5 }
    END { flush(); printf "auto over off %.3f, over the best of all %.3f\n", auto, auto / best }'
