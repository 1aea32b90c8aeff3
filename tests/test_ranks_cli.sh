#!/bin/sh
# 2 ranks print and write what one process does, and end together.
#
#   sh tests/test_ranks_cli.sh PROGRAM MODEL MPIEXEC
set -eu
forerun=$1 model=$2 mpiexec=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

case $("$mpiexec" --version 2>&1) in
    *"Open MPI"* | *OpenRTE*) launch="$mpiexec -q --allow-run-as-root --oversubscribe --bind-to none" ;;
    *) launch=$mpiexec ;;
esac
own="-m $model -t 1 --no-pin -q"

# same NAME INPUT COMMAND...: 2 ranks print what one process prints.
same() {
    name=$1 input=$2
    shift 2
    # shellcheck disable=SC2086 # words
    printf "$input" | "$forerun" "$@" $own >"$work/one" 2>&1 || fail "$name: one process ends with $?"
    # shellcheck disable=SC2086
    printf "$input" | timeout 120 $launch -n 2 "$forerun" "$@" $own >"$work/two" 2>&1 || fail "$name: 2 ranks end with $?"
    cmp -s "$work/one" "$work/two" || fail "$name: 2 ranks print $(head -c 300 "$work/two"); one process: $(head -c 300 "$work/one")"
}

same "drafting" "" generate -p "Package: python3-" -n 24 --mtp on --depth 3
same "no drafting" "" generate -p "Package: python3-" -n 12 --mtp off
same "auto, sampling" "" generate -p "def main(" -n 24 --temperature 0.8 --seed 3 --no-learned
same "rejection" "" generate -p "def main(" -n 24 --temperature 0.8 --verify rejection --mtp on --seed 5
same "a prompt from standard input" "import os" generate -f - -n 8
same "a conversation from standard input" 'Hello\n/quit\n' chat -n 8
same "a conversation that goes back" "Hello\n/save $work/chat\nmore\n/load $work/chat\nmore\n/quit\n" chat -n 8
same "tables, without colours" "" accept --prompt-tokens 1,2,3 -n 8 --depths 1
"$forerun" tokenize -m "$model" -p "Hello, world" >"$work/one"
# shellcheck disable=SC2086
$launch -n 2 "$forerun" tokenize -m "$model" -p "Hello, world" >"$work/two" || fail "a command of one process alone ends with $?"
cmp "$work/one" "$work/two" || fail "a command that needs no ranks is not rank 0's alone"
# shellcheck disable=SC2086
[ "$($launch -n 2 "$forerun" 2>&1 | grep -c '^usage')" = 1 ] || fail "not one rank says how it is used"

# A session that two ranks saved goes on with one.
"$forerun" generate $own -p "Package: lib" -n 6 --session "$work/one.session" >"$work/one" 2>&1
# shellcheck disable=SC2086
timeout 120 $launch -n 2 "$forerun" generate $own -p "Package: lib" -n 6 --session "$work/two.session" >"$work/two" 2>&1 ||
    fail "saving a session with 2 ranks ends with $?"
cmp "$work/one.session" "$work/two.session" || fail "2 ranks save another session"
"$forerun" generate $own -p " and" -n 6 --session "$work/two.session" >/dev/null || fail "one process cannot go on with it"

# refused WHAT EXPECTED ARGUMENTS...: ranks that end with one message.
refused() {
    name=$1 expected=$2
    shift 2
    timeout 60 "$@" >"$work/out" 2>"$work/err" && fail "$name: they run"
    grep -q "$expected" "$work/err" || fail "$name: they say $(head -c 400 "$work/err")"
    [ "$(grep -c '^forerun:' "$work/err")" = 1 ] || fail "$name: not one message: $(cat "$work/err")"
}
mkdir "$work/other"
cp -r "$model/." "$work/other"
printf 'x' | dd of="$work/other/config.json" bs=1 seek=0 conv=notrunc 2>/dev/null
# shellcheck disable=SC2086
{
    refused "a missing prompt" "/nowhere: cannot read" $launch -n 2 "$forerun" generate $own -f /nowhere
    refused "other options" "its command differs" $launch -n 1 "$forerun" generate $own -p a -n 2 : -n 1 "$forerun" generate $own -p a -n 3
    refused "other instruction sets" "its command differs\|round differently" \
        $launch -n 1 "$forerun" generate $own -p a -n 2 --isa scalar : -n 1 "$forerun" generate $own -p a -n 2
    refused "a damaged file of one rank" "rank 1" $launch -n 1 "$forerun" generate $own -p a -n 2 : \
        -n 1 "$forerun" generate -m "$work/other" -t 1 --no-pin -q -p a -n 2
    refused "a standard output that is full" "No space left" \
        $launch -n 2 sh -c "exec $forerun generate $own --no-learned -p a -n 20 >/dev/full"
    ! grep -q "signal\|Signal" "$work/err" || fail "a standard output that is full: $(cat "$work/err")"
    echo "/load /dev/zero" >"$work/in"
    refused "a session from a device" "no regular file" $launch -n 2 "$forerun" chat $own <"$work/in"
}

# All end when one is interrupted, with what there is.
# shellcheck disable=SC2086
timeout 120 $launch -n 2 "$forerun" generate $own -p "stopped" -n 3000 --ignore-eos --no-learned >"$work/stopped" 2>/dev/null &
pid=$! waited=0
until [ -s "$work/stopped" ] || [ $waited -ge 300 ]; do sleep 0.1; waited=$((waited + 1)); done
victim=$(pgrep -f "^$forerun generate .* -p stopped" | tail -n 1)
[ -n "$victim" ] && kill -TERM "$victim" 2>/dev/null || fail "no rank to interrupt"
code=0
wait $pid || code=$?
[ $code = 130 ] || fail "ranks of which one is interrupted end with $code"

# All end with one that is killed.
# shellcheck disable=SC2086
timeout 120 $launch -n 2 "$forerun" generate $own -p "killed" -n 3000 --ignore-eos >"$work/out" 2>/dev/null &
pid=$! waited=0
until [ -s "$work/out" ] || [ $waited -ge 300 ]; do sleep 0.1; waited=$((waited + 1)); done
victim=$(pgrep -f "^$forerun generate .* -p killed" | tail -n 1)
[ -n "$victim" ] && kill -9 "$victim" 2>/dev/null || fail "no rank to kill"
wait $pid && fail "a killed rank is no failure"
sleep 1
! pgrep -f "^$forerun generate .* -p killed" >/dev/null || fail "a rank goes on after another was killed"

[ $failures = 0 ] || exit 1
echo "2 ranks print and write what one process does, and end together"
