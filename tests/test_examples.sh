#!/bin/sh
# Compiles the example on top of forerun.h, and examples/complete.c, with the public header and the shared library alone, and runs
# them on the demo model. Their text must be what `forerun generate` writes.
#
#   sh tests/test_examples.sh libforerun.so CC
set -eu
library=$1 cc=$2
root=$(cd "$(dirname "$0")/.." && pwd)
model=$root/models/demo prompt='Package: python3-'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }

# The example is what is indented in the header's first comment.
sed '/\*\//q' "$root/include/forerun.h" | sed -n 's/^ \*     //p' >"$work/header.c"
[ "$(sed '1,/^int main/d' "$work/header.c" | wc -l)" -eq 11 ] || fail "forerun.h: the example on top is not twelve lines"
cp "$root/examples/complete.c" "$work"
for program in header complete; do
    "$cc" -std=c11 -O1 -Wall -Wextra -Wpedantic -Werror -I "$root/include" "$work/$program.c" -o "$work/$program" "$library" \
        -Wl,-rpath,"${library%/*}" || fail "$program.c does not compile"
done

generated() { "$FORERUN" generate -m "$model" -p "$prompt" -n "$1" -q "$2" || fail "forerun generate fails"; }

"$work/header" "$model" "$prompt" >"$work/out" || fail "the example on top of forerun.h fails: $(cat "$work/out")"
[ "$(cat "$work/out")" = "$(generated 57 --ignore-eos)" ] || fail "the example on top of forerun.h writes: $(cat "$work/out")"
! "$work/header" "$work/none" "$prompt" >"$work/out" || fail "the example on top of forerun.h succeeds without a model"
grep -q "$work/none" "$work/out" || fail "the example on top of forerun.h does not name what is missing"

"$work/complete" "$model" "$prompt" >"$work/out" || fail "complete fails"
[ "$(sed '$d' "$work/out")" = "$(generated 100 --mtp=auto)" ] || fail "complete writes: $(cat "$work/out")"
sed -n '$p' "$work/out" | grep -Eqx '\[[0-9]+ of [0-9]+ drafts accepted\]' || fail "complete does not count drafts"
! "$work/complete" "$work/none" "$prompt" >"$work/out" 2>&1 || fail "complete succeeds without a model"
code=0
"$work/complete" >"$work/out" 2>&1 || code=$?
[ $code -eq 2 ] || fail "complete without arguments: exit $code"
echo "both examples write what the program writes"
