#!/bin/sh
# Builds forerun with warnings as errors and runs its tests.
#
#   sh tools/test.sh        release build, every test: some minutes after setup
#   sh tools/test.sh --all  what CI=true does too: first the layout of the sources, which must be the formatter's; then also the
#                           fast tests under ASan + UBSan, under TSan (clang) and in a clang release build, and those of
#                           ranks over MPI
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "test: $*" >&2; }

all=no
[ "${CI:-}" != true ] || all=yes
for arg; do
    case $arg in
        --all) all=yes ;;
        *) say "unknown option $arg (there is --all)"; exit 2 ;;
    esac
done

if [ $all = yes ]; then
    sh tools/setup.sh --clang --mpi
    sh tools/format.sh --check
    presets='release asan tsan clang mpi'
else
    sh tools/setup.sh
    presets=release
fi

# More compilers than this at once would not fit into a small machine's memory.
jobs=$(nproc 2>/dev/null || echo 2)
[ "$jobs" -le 8 ] || jobs=8

log=$(mktemp)
trap 'rm -f "$log" "$log.status"' EXIT
passed=0
failed=0
broken=
for preset in $presets; do
    say "$preset: configuring and building"
    if ! { cmake --preset "$preset" -DFORERUN_TESTS=ON -DFORERUN_WERROR=ON && cmake --build --preset "$preset" -j "$jobs"; } \
        >"$log" 2>&1 </dev/null; then
        # Where ninja failed, or the end of what CMake said.
        if grep -q '^FAILED' "$log"; then sed -n '/^FAILED/,$p' "$log" | head -n 60 >&2; else tail -n 30 "$log" >&2; fi
        say "$preset: the build failed"
        broken="$broken $preset"
        continue
    fi
    say "$preset: running the tests"
    # Newer kernels may place a program where older ThreadSanitizers do not expect it.
    run=
    if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then run="setarch $(uname -m) -R"; fi
    # A pipe would hide ctest's status, so it is written down.
    echo failed >"$log.status"
    { ! $run ctest --preset "$preset" </dev/null 2>&1 || echo passed >"$log.status"; } | tee "$log"
    line=$(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests\{0,1\} failed out of \([0-9]*\)$/\1 \2/p' "$log" | tail -n 1)
    if [ -z "$line" ]; then
        broken="$broken $preset"
    else
        failed=$((failed + ${line% *}))
        passed=$((passed + ${line#* } - ${line% *}))
        [ "$(cat "$log.status")" = passed ] || [ "${line% *}" -gt 0 ] || broken="$broken $preset"
    fi
done

[ -z "$broken" ] || say "did not build or run:$broken"
echo "$passed passed, $failed failed"
[ -z "$broken" ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
