# Shared by the tests of the program, which source it with $json_check set. $work is a folder of the test's own; stdout of the last
# run is $work/out, stderr $work/err. `fail` records a failure and goes on.
[ -x "$FORERUN" ] && [ -x "$json_check" ] || { echo "there is no program at $FORERUN, or no $json_check"; exit 1; }
golden=$(cd "$(dirname "$0")" && pwd)/golden
work=$(mktemp -d)
export XDG_CACHE_HOME="$work/cache" # what auto learns here is of this test alone
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; failed=1; }
failed=0

# run EXIT ARGUMENTS...: runs the program, which must end with that exit code.
run() {
    expected=$1
    shift
    code=0
    "$FORERUN" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" -eq "$expected" ] || { fail "forerun $*: exit $code, expected $expected"; cat "$work/err"; }
}
holds() { "$json_check" "$work/out" "$@" || fail "the document is not as it should be"; }
value() { "$json_check" -p "$work/out" "$1"; }
