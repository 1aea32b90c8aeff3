#!/bin/sh
# Builds forerun and shows what it is for: the demo model writes a text with multi-token prediction, then the same text with and
# without it, timed. The first run also sets the machine up (tools/setup.sh); later ones take seconds.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "demo: $*" >&2; }
die() { say "$*"; exit 1; }

sh tools/setup.sh

log=$(mktemp)
trap 'rm -f "$log" "$log".*' EXIT
build() {
    # A build folder that is already configured is used as it is.
    [ -e build/build.ninja ] || cmake --preset release
    cmake --build build --target forerun
}
say "building build/forerun"
build >"$log" 2>&1 </dev/null || { tail -n 40 "$log" >&2; die "the build failed"; }

prompt='Package: python3-'
tokens=120
sampling='--temperature 0.7 --top-p 0.9 --seed 2'
generate() {
    # shellcheck disable=SC2086 # options are words
    build/forerun generate --prompt "$prompt" --max-tokens $tokens --ignore-eos $sampling "$@" </dev/null
}

say "build/forerun generate --prompt '$prompt' --max-tokens $tokens --ignore-eos $sampling --mtp on --quiet"
echo
printf '%s' "$prompt"
generate --mtp on --quiet
echo

# Picks what is asked for out of a JSON document without blanks between its keys: no other tool is needed.
squeezed() { tr -d ' \n\t' <"$1"; }
ids() { squeezed "$1" | sed -n 's/.*[{,]"tokens":\[\([0-9,]*\)\].*/\1/p'; }
number() { squeezed "$1" | sed -n "s/.*[{,]\"$2\":\([-+.0-9eE]*\).*/\1/p"; }

# The best of three rounds: what else the machine does only ever makes a round slower.
best_on=0
best_off=0
worst_off=1e9
faster() { LC_ALL=C awk -v a="$1" -v b="$2" 'BEGIN { print (a + 0 > b + 0 ? a : b) }'; }
slower() { LC_ALL=C awk -v a="$1" -v b="$2" 'BEGIN { print (a + 0 < b + 0 ? a : b) }'; }
for round in 1 2 3; do
    for mtp in on off; do
        out=$log.$mtp.$round
        generate --quiet --json --mtp $mtp >"$out" || die "generate --json --mtp $mtp failed"
        ids "$out" >"$out.ids"
        [ -s "$out.ids" ] || die "generate --json --mtp $mtp printed no tokens"
        cmp -s "$log.on.1.ids" "$out.ids" || die "with --mtp $mtp the tokens differ, which must never happen"
    done
    best_on=$(faster "$best_on" "$(number "$log.on.$round" decode_tokens_per_s)")
    best_off=$(faster "$best_off" "$(number "$log.off.$round" decode_tokens_per_s)")
    worst_off=$(slower "$worst_off" "$(number "$log.off.$round" decode_tokens_per_s)")
done
LC_ALL=C awk -v on="$best_on" -v off="$best_off" -v rate="$(number "$log.on.1" acceptance_rate)" \
    -v per_pass="$(number "$log.on.1" mean_acceptance_length)" -v tokens=$tokens -v worst="$worst_off" 'BEGIN {
        printf "MTP on   %8.1f tokens/s   %.0f%% of drafts accepted, %.2f tokens a pass\n", on, 100 * rate, per_pass
        printf "MTP off  %8.1f tokens/s   (best of three rounds each)\n", off
        if (off > 1.5 * worst)
            printf "(Other work disturbs this machine: rounds of the same kind are %.1f times apart. Neither figure means much.)\n", off / worst
        printf "The same %d tokens every time: speculation changes the speed, never the text.\n", tokens
    }'
