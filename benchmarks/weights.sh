#!/bin/sh
# What it is worth to copy weights into huge pages: runs `forerun bench` with weights mapped, populated and copied, in turns,
# and prints the median of each figure and its ratio to mapped ones.
#
#   sh benchmarks/weights.sh MODEL_DIR [THREADS [ROUNDS]]
#
# Use a model of several times the cache. A first run that is not counted brings its files into the page cache. FORERUN (default
# build/forerun) names the program.
set -eu
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }
[ "${1:-}" != --help ] || { usage; exit 0; }
[ $# -ge 1 ] && [ $# -le 3 ] || { usage >&2; exit 2; }
model=$1 rounds=${3:-5}
forerun=${FORERUN:-$(dirname "$0")/../build/forerun}
threads=${2:-$("$forerun" --version | sed -n 's/^threads: \([0-9]*\) .*/\1/p')}
[ -n "$threads" ] || { echo "$forerun: does not tell the number of cores" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Lines: way, figure, value. Of the passes the one of one row, which comes first.
measure() {
    "$forerun" bench -m "$model" -t "$threads" --only decode,passes,prefill --rows 1,3,512 --ctx 32 --seconds 2 --weights "$1" \
        --json -q >"$work/json"
    awk -v way="$1" '
        /"passes":/ { what = "pass of 1 row, ms"; key = "\"ms\":" }
        /"decode":/ { what = "decode, tokens/s"; key = "\"tokens_per_s\":" }
        /"prefill":/ { what = "prefill of 512, tokens/s"; key = "\"tokens_per_s\":" }
        /"load_s":/ { print way "\topening, s\t" number($2) }
        /"huge_page_bytes":/ { print way "\tin huge pages, MiB\t" number($2) / 1048576 }
        what && $1 == key { print way "\t" what "\t" number($2); what = "" }
        function number(text) { gsub(/[^0-9.eE+-]/, "", text); return text + 0 }' "$work/json"
}
"$forerun" bench -m "$model" -t "$threads" --only decode --weights populate -q >/dev/null
round=0
while [ "$round" -lt "$rounds" ]; do
    for way in mmap populate copy; do measure "$way" >>"$work/all"; done
    round=$((round + 1))
done

median() { awk -F '\t' -v way="$1" -v what="$2" '$1 == way && $2 == what { print $3 }' "$work/all" | sort -g |
    awk '{ v[NR] = $1 } END { print NR ? (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 : "nan" }'; }
printf '%-26s %12s %12s %8s %12s %8s\n' "median of $rounds, $threads threads" mmap populate ratio copy ratio
cut -f 2 "$work/all" | awk '!seen[$0]++' | while read -r what; do
    echo "$what	$(median mmap "$what")	$(median populate "$what")	$(median copy "$what")"
done | awk -F '\t' 'function over(a, b) { return b > 0 ? sprintf("%.3f", a / b) : "-" }
    { printf "%-26s %12.3f %12.3f %8s %12.3f %8s\n", $1, $2, $3, over($3, $2), $4, over($4, $2) }'
