#!/bin/sh
# Builds forerun and shows what it is for: the demo model writes a text with multi-token prediction, then the same text with and
# without it, timed. The first run also sets the machine up (tools/setup.sh); later ones take seconds.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "demo: $*" >&2; }
die() { say "$*"; exit 1; }

sh tools/setup.sh

log=$(mktemp)
trap 'rm -f "$log" "$log.on" "$log.off"' EXIT
build() {
    # A build folder that is already configured is used as it is.
    [ -e build/build.ninja ] || cmake --preset release -DFORERUN_TESTS=OFF
    cmake --build build --target forerun
}
say "building build/forerun"
build >"$log" 2>&1 </dev/null || { tail -n 40 "$log" >&2; die "the build failed"; }

prompt='The :func:`open` function returns a file object, and'
tokens=200
generate() {
    build/forerun generate --prompt "$prompt" --max-tokens $tokens --ignore-eos "$@" </dev/null
}

say "build/forerun generate --prompt '$prompt' --max-tokens $tokens --ignore-eos --mtp on"
echo
printf '%s' "$prompt"
generate --mtp on
echo

# Picks what is asked for out of a JSON document without blanks between its keys: no other tool is needed.
squeezed() { tr -d ' \n\t' <"$1"; }
ids() { squeezed "$1" | sed -n 's/.*[{,]"tokens":\[\([0-9,]*\)\].*/\1/p'; }
number() { squeezed "$1" | sed -n "s/.*[{,]\"$2\":\([-+.0-9eE]*\).*/\1/p"; }

for mtp in on off; do
    generate --quiet --json --mtp $mtp >"$log.$mtp" || die "generate --json --mtp $mtp failed"
    [ -n "$(ids "$log.$mtp")" ] || die "generate --json --mtp $mtp printed no tokens"
done
LC_ALL=C awk -v on="$(number "$log.on" decode_tokens_per_s)" -v off="$(number "$log.off" decode_tokens_per_s)" \
    -v rate="$(number "$log.on" acceptance_rate)" -v length_="$(number "$log.on" mean_acceptance_length)" 'BEGIN {
        printf "MTP on   %8.1f tokens/s   %.0f%% of drafts accepted, %.2f tokens a pass\n", on, 100 * rate, length_
        printf "MTP off  %8.1f tokens/s\n", off
    }'
if [ "$(ids "$log.on")" = "$(ids "$log.off")" ]; then
    echo "The same $tokens tokens both times: speculation changes the speed, never the text."
else
    die "the two gave different tokens, which must never happen"
fi
