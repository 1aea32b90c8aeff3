#!/bin/sh
# Decode and prefill of forerun against llama.cpp on the same network, both without drafts: runs llama-bench on a GGUF and
# `forerun bench` on the checkpoint that it was made from, in turns, and prints the best of each and their ratio.
#
#   sh benchmarks/compare-llama.sh GGUF MODEL_DIR [THREADS [ROUNDS]]
#
# FORERUN (default build/forerun) and LLAMA_BENCH (default llama-bench) name the programs. Without llama-bench there is nothing
# to compare with: the script says so and succeeds.
set -eu
[ $# -ge 2 ] && [ $# -le 4 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
gguf=$1 model=$2 rounds=${4:-3}
forerun=${FORERUN:-$(dirname "$0")/../build/forerun}
llama=${LLAMA_BENCH:-llama-bench}
command -v "$llama" >/dev/null || { echo "llama-bench is not installed: nothing to compare with"; exit 0; }
[ -r "$gguf" ] || { echo "$gguf: cannot be read" >&2; exit 1; }
threads=${3:-$("$forerun" --version | sed -n 's/^threads: \([0-9]*\) .*/\1/p')}
[ -n "$threads" ] || { echo "$forerun: does not tell the number of cores" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each line: decode or prefill, and tokens a second.
ours() {
    "$forerun" bench -m "$model" -t "$threads" --only prefill,decode --rows 512 --ctx 32 --seconds 3 --json -q >"$work/json"
    awk '/"decode":/ { what = "decode" } /"prefill":/ { what = "prefill" }
        what && /"tokens_per_s":/ { gsub(/[^0-9.eE+-]/, "", $2); print what, $2; what = "" }' "$work/json"
}
theirs() {
    "$llama" -m "$gguf" -t "$threads" -p 512 -n 64 -r 2 -fa 1 -o jsonl 2>"$work/log" >"$work/jsonl" || { cat "$work/log" >&2; exit 1; }
    sed -n 's/.*"n_gen": *\([0-9]*\).*"avg_ts": *\([0-9.eE+-]*\).*/\1 \2/p' "$work/jsonl" |
        while read -r generated speed; do
            if [ "$generated" -gt 0 ]; then echo "decode $speed"; else echo "prefill $speed"; fi
        done
}
round=0
while [ "$round" -lt "$rounds" ]; do
    ours >>"$work/ours"
    theirs >>"$work/theirs"
    round=$((round + 1))
done

best() { awk -v what="$2" '$1 == what && $2 > best { best = $2 } END { print best + 0 }' "$1"; }
printf '%-18s %12s %12s %8s\n' "tokens/s, $threads threads" forerun llama.cpp ratio
for what in decode prefill; do
    echo "$what $(best "$work/ours" $what) $(best "$work/theirs" $what)"
done | awk '{ printf "%-18s %12.2f %12.2f %8s\n", $1, $2, $3, ($3 > 0 ? sprintf("%.3f", $2 / $3) : "-") }
    $2 <= 0 || $3 <= 0 { bad = 1 } END { exit bad }' || { echo "a figure is missing: see what the programs print" >&2; exit 1; }
