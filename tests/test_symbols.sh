#!/bin/sh
# What the libraries export and call:
# - the shared library exports exactly the functions that the public headers declare with FR_API;
# - no object of the library ends the program or reads its environment (a failed assert may, in a debug build);
# - neither it nor the program opens a network connection.
#
#   [FORERUN=build/forerun] sh tests/test_symbols.sh INCLUDE_DIR libforerun.a libforerun.so
set -eu
include=$1 archive=$2 shared=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
complain() { echo "$*"; status=1; }

# The name before the first parenthesis of each FR_API declaration.
cat "$include"/forerun*.h >"$work/header"
sed -n 's/^FR_API [^(]*[ *]\(fr_[a-z0-9_]*\)(.*/\1/p' "$work/header" | sort >"$work/declared"
[ "$(wc -l <"$work/declared")" -eq "$(grep -c '^FR_API ' "$work/header")" ] || complain "$include: an FR_API line that this test cannot read"
# Symbols of the linker, of OpenMP and of profilers are not ours.
nm -D --defined-only "$shared" | awk '{ print $NF }' | grep -Ev '^(_init|_fini|_edata|_end|__bss_start|\.gomp_critical_.*|__(gcov|llvm)_.*)$' |
    sort >"$work/exported"
comm -13 "$work/declared" "$work/exported" | while read -r name; do echo "exported, but not declared FR_API: $name"; done >"$work/extra"
comm -23 "$work/declared" "$work/exported" | while read -r name; do echo "declared FR_API, but not exported: $name"; done >>"$work/extra"
[ ! -s "$work/extra" ] || complain "$(cat "$work/extra")"

# Lines of nm: "object:" before the undefined symbols of each object.
nm -u "$archive" 2>/dev/null | awk '
    /:$/ { object = $1; next }
    $2 ~ /^sigaction(@|$)/ && object ~ /(^|\/)mapping\.c\.o:$/ { next } # on request alone: fr_catch_read_faults
    $2 ~ /^(exit|_exit|_Exit|quick_exit|abort|raise|kill|getenv|secure_getenv|setenv|putenv|system|popen|signal|sigaction)(@|$)/ {
        print "the library may not call " $2 " (" substr(object, 1, length(object) - 1) " does)"
    }' >"$work/calls"
[ ! -s "$work/calls" ] || complain "$(cat "$work/calls")"
{ nm -u "$archive" 2>/dev/null; [ -z "${FORERUN:-}" ] || nm -D -u "$FORERUN"; } >"$work/undefined"
network=$(awk '$NF ~ /^(socket|socketpair|connect|bind|listen|accept4?|getaddrinfo|gethostbyname|send|sendto|recv|recvfrom)(@|$)/ { print $NF }' \
    "$work/undefined")
[ -z "$network" ] || complain "forerun opens no network connections, but calls" $network
# The objects do call something: nm was read correctly.
nm -u "$archive" 2>/dev/null | awk '$1 == "U"' | grep -q . || complain "$archive: nm shows no undefined symbols at all"

[ $status -ne 0 ] || echo "$(wc -l <"$work/exported") functions exported, all declared; no call that the library may not make"
exit $status
