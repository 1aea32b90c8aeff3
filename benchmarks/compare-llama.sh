#!/bin/sh
# Decode and prefill of forerun against llama.cpp on the same network, both without drafts: runs llama-bench on a GGUF and
# `forerun bench` on the checkpoint that it was made from, in turns, and prints the best of each, their ratio, and which file and
# options gave llama.cpp's best.
#
#   sh benchmarks/compare-llama.sh GGUF[,GGUF...] MODEL_DIR [THREADS [ROUNDS]]
#
# FORERUN (default build/forerun) and LLAMA_BENCH (default llama-bench) name the programs. LLAMA_OPTIONS (default -fa 0,1) are
# further options of llama-bench: of a list of values all are tried. Without llama-bench there is nothing to compare with: the
# script says so and succeeds.
set -eu
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
[ "${1:-}" != --help ] || { usage; exit 0; }
[ $# -ge 2 ] && [ $# -le 4 ] || { usage >&2; exit 2; }
gguf=$1 model=$2 rounds=${4:-3}
forerun=${FORERUN:-$(dirname "$0")/../build/forerun}
llama=${LLAMA_BENCH:-llama-bench}
command -v "$llama" >/dev/null || { echo "llama-bench is not installed: nothing to compare with"; exit 0; }
for file in $(echo "$gguf" | tr ',' ' '); do
    [ -r "$file" ] || { echo "$file: cannot be read" >&2; exit 1; }
done
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
    # shellcheck disable=SC2086 # LLAMA_OPTIONS are words
    "$llama" -m "$gguf" -t "$threads" -p 512 -n 64 -r 2 ${LLAMA_OPTIONS:--fa 0,1} -o jsonl 2>"$work/log" >"$work/jsonl" ||
        { tail -n 20 "$work/log" >&2; echo "$llama fails" >&2; exit 1; }
    awk 'function value(key) {
            if (!match($0, "\"" key "\": *(\"[^\"]*\"|[^,}]*)")) return ""
            text = substr($0, RSTART, RLENGTH); sub(/^[^:]*: */, "", text); gsub(/"/, "", text)
            return text
        }
        {
            file = value("model_filename"); sub(/.*\//, "", file)
            print (value("n_gen") + 0 ? "decode" : "prefill"), value("avg_ts"), file, "fa=" value("flash_attn"),
                "repack=" value("repack")
        }' "$work/jsonl"
}
round=0
while [ "$round" -lt "$rounds" ]; do
    ours >>"$work/ours"
    theirs >>"$work/theirs"
    round=$((round + 1))
done

# The first word of a line is what it measures, the second the figure; the rest of the best line is kept.
best() { awk -v what="$2" '$1 == what && $2 > best { best = $2; $1 = $2 = ""; rest = $0 } END { print best + 0, rest }' "$1"; }
printf '%-18s %12s %12s %8s  %s\n' "tokens/s, $threads threads" forerun llama.cpp ratio "llama.cpp's best"
for what in decode prefill; do
    echo "$what $(best "$work/ours" $what) $(best "$work/theirs" $what)"
done | awk '{
        what = $1; ours = $2; theirs = $3; $1 = $2 = $3 = ""; sub(/^ +/, "")
        printf "%-18s %12.2f %12.2f %8s  %s\n", what, ours, theirs, (theirs > 0 ? sprintf("%.3f", ours / theirs) : "-"), $0
    }
    ours <= 0 || theirs <= 0 { bad = 1 } END { exit bad }' || { echo "a figure is missing: see what the programs print" >&2; exit 1; }
