#!/bin/sh
# What more threads bring and more rows cost: runs `forerun bench` with each number of threads, the most first, and each instruction
# set, prints a line a figure as it comes, and writes them all as CSV, which chart.awk draws.
#
#   sh benchmarks/scaling.sh [-m MODEL_DIR] [-t 1,2,4,8,16] [-i avx2,avx512,amx] [-s SECONDS] [-o scaling.csv] [-q]
#
# -m   a checkpoint of several times the cache; without it one with random weights is made from benchmarks/config.json (2.4 GB)
#      and removed again
# -t   numbers of threads; those beyond the cores are left out (default: powers of two up to the cores, and all of them)
# -i   instruction sets (default: those of avx2, avx512, amx and neon that the processor has)
# -s   seconds for each figure (default: 0.5)
# -q   quick: less than 200 seconds on 16 cores. Passes and prefill with the most threads only, 0.1 seconds for each figure
#
# FORERUN (default build/forerun) names the program. A line of the CSV: isa,threads,figure,at,value,low,high. at is the rows of a pass,
# the tokens of a prompt or before a step; low and high are the 10th and 90th percentile of the rounds.
set -eu
usage() { sed -n '2,15s/^# \{0,1\}//p' "$0"; }
here=$(dirname "$0")
forerun=${FORERUN:-$here/../build/forerun} model='' threads='' isas='' seconds='' out=scaling.csv quick=''
[ "${1:-}" != --help ] || { usage; exit 0; }
while getopts m:t:i:s:o:qh option; do
    case $option in
    m) model=$OPTARG ;;
    t) threads=$OPTARG ;;
    i) isas=$OPTARG ;;
    s) seconds=$OPTARG ;;
    o) out=$OPTARG ;;
    q) quick=1 ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done
[ "$OPTIND" -gt $# ] || { usage >&2; exit 2; }

version=$("$forerun" --version)
said() { echo "$version" | sed -n "s/^$1: //p"; }
cores=$(said threads | sed 's/ .*//')
if [ -z "$threads" ]; then
    n=1
    while [ "$n" -lt "$cores" ]; do
        threads="$threads$n "
        n=$((n * 2))
    done
    threads="$threads$cores"
fi
threads=$(echo "$threads" | tr ', ' '\n\n' | awk -v cores="$cores" '$1 > 0 && $1 <= cores' | sort -nru)
most=$(echo "$threads" | head -n 1)
[ -n "$most" ] || { echo "scaling.sh: no number of threads from 1 to $cores" >&2; exit 2; }
if [ -z "$isas" ]; then
    for isa in avx2 avx512 amx neon; do case " $(said 'instruction sets found') " in *" $isa "*) isas="$isas $isa" ;; esac done
fi
isas=$(echo "$isas" | tr ',' ' ')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
if [ -z "$model" ]; then
    model=$work/model
    "$forerun" synth --config "$here/config.json" -o "$model" -q
fi
parts=decode,passes,prefill rows=1,2,3,4,5,6,7,8,512 fewer_parts=$parts fewer_rows=$rows
[ -z "$quick" ] || { rows=1,2,3,4,8,512 fewer_parts=decode fewer_rows=1; : "${seconds:=0.1}"; }

# Lines of one document, which figures.awk has laid flat.
select_figures() {
    awk -v isa="$1" -v threads="$2" '
        BEGIN { split("waiting attention sampling", part) }
        { value[$1] = $2 }
        function line(figure, at, key, scale) {
            if (!(key in value) || !(value[key] > 0)) return
            low = value[key "_spread.p10"]; high = value[key "_spread.p90"]
            printf "%s,%d,%s,%d,%.6g,%s,%s\n", isa, threads, figure, at, value[key] * scale,
                low == "" ? "" : sprintf("%.6g", low * scale), high == "" ? "" : sprintf("%.6g", high * scale)
        }
        END {
            line("read_gb_per_s", 0, "read_bandwidth_bytes_per_s", 1e-9)
            line("barrier_us", 0, "barrier_s", 1e6)
            line("decode_tokens_per_s", value["context"], "decode.tokens_per_s", 1)
            line("decode_of_bandwidth", value["context"], "decode.of_bandwidth", 1)
            for (i = 1; i in part; i++) line("decode_" part[i], value["context"], "decode." part[i], 1)
            for (i = 0; ("passes." i ".rows") in value; i++) {
                at = value["passes." i ".rows"]
                line("pass_ms", at, "passes." i ".ms", 1)
                line("pass_over_one_row", at, "passes." i ".over_one_row", 1)
                if (i == 0) one = value["passes.0.bytes"]
                line("pass_bytes_over_one_row", at, "passes." i ".bytes", 1 / one)
            }
            for (i = 0; ("prefill." i ".tokens") in value; i++) {
                line("prefill_tokens_per_s", value["prefill." i ".tokens"], "prefill." i ".tokens_per_s", 1)
                line("prefill_of_peak", value["prefill." i ".tokens"], "prefill." i ".of_peak", 1)
            }
        }' "$work/flat"
}
{
    echo "# processor: $(said CPU), $cores cores"
    echo "# program: $(echo "$version" | sed -n 1p)"
    echo "isa,threads,figure,at,value,low,high"
} | tee "$out"
for t in $threads; do
    for isa in $isas; do
        p=$fewer_parts r=$fewer_rows
        [ "$t" != "$most" ] || { p=decode,passes,prefill r=$rows; }
        "$forerun" bench -m "$model" -t "$t" --isa "$isa" --only "$p" --rows "$r" --ctx 128 --seconds "${seconds:-0.5}" --json -q \
            >"$work/json"
        awk -f "$here/figures.awk" "$work/json" >"$work/flat"
        select_figures "$isa" "$t" | tee -a "$out"
    done
done
