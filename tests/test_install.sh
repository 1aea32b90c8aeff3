#!/bin/sh
# Installs a build into an empty folder and uses it as a stranger would: through pkg-config alone, shared and static, in C and C++.
#
#   sh tests/test_install.sh BUILD_DIR CMAKE CC
set -eu
build=$1 cmake=$2 cc=$3
tests=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }

"$cmake" --install "$build" --prefix "$work/usr" >"$work/log" 2>&1 || { cat "$work/log"; fail "the installation failed"; }
# Moved, so that nothing may depend on the first place.
mv "$work/usr" "$work/moved"
prefix=$work/moved
pc=$(find "$prefix" -name forerun.pc)
[ -n "$pc" ] || fail "no forerun.pc was installed"
libdir=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH="${pc%/*}"

version=$(pkg-config --modversion forerun)
for header in forerun forerun_checkpoint forerun_study; do
    [ -f "$prefix/include/$header.h" ] || fail "no $header.h was installed"
done
[ -n "$(find "$prefix" -path '*doc/forerun/LICENSE')" ] || fail "no LICENSE was installed"
for file in libforerun.a libforerun.so libforerun.so.0; do [ -e "$libdir/$file" ] || fail "no $file was installed"; done

cat >"$work/program.c" <<EOF
#include <forerun.h>
#include <forerun_checkpoint.h>
#include <forerun_study.h>
#include <stdio.h>
int main(void) {
    fr_error error;
    fr_model *model = NULL;
    if (fr_model_open("$work/no-such-model", NULL, &model, &error) == FR_OK) return 1;
    puts(fr_version());
    return 0;
}
EOF
strict="-std=c11 -Wall -Wextra -Wpedantic -Werror"
# Word splitting of what pkg-config prints is meant.
# shellcheck disable=SC2046,SC2086
{
    "$cc" $strict "$work/program.c" -o "$work/shared" $(pkg-config --cflags --libs forerun) -Wl,-rpath,"$libdir"
    # Both libraries are there and the linker would take the shared one: the name in full asks for the static one.
    "$cc" $strict "$work/program.c" -o "$work/static" \
        $(pkg-config --static --cflags --libs forerun | sed 's/-lforerun/-l:libforerun.a/')
    "$cc" $strict "$tests/../examples/complete.c" -o "$work/complete-shared" \
        $(pkg-config --cflags --libs forerun) -Wl,-rpath,"$libdir"
    "$cc" $strict "$tests/../examples/complete.c" -o "$work/complete-static" \
        $(pkg-config --static --cflags --libs forerun | sed 's/-lforerun/-l:libforerun.a/')
    if command -v c++ >/dev/null; then
        c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -x c++ "$work/program.c" -o "$work/cplusplus" \
            $(pkg-config --cflags --libs forerun) -Wl,-rpath,"$libdir"
    fi
}
for kind in shared static cplusplus; do
    [ -x "$work/$kind" ] || { [ $kind = cplusplus ] && continue; }
    got=$("$work/$kind") || fail "the $kind program failed"
    [ "$got" = "$version" ] || fail "the $kind program says version $got, forerun.pc says $version"
done
readelf -d "$work/shared" | grep -q 'NEEDED.*libforerun\.so\.0' || fail "the shared program does not need libforerun.so.0"
! readelf -d "$work/static" | grep -q 'NEEDED.*libforerun' || fail "the static program needs libforerun"

"$prefix/bin/forerun" --version >"$work/version" || fail "the installed forerun does not run"
grep -qF "$version" "$work/version" || fail "the installed forerun --version does not say $version"

model=$prefix/share/forerun/models/demo prompt='Package: python3-'
generated=$("$prefix/bin/forerun" generate -p "$prompt" -n 100 -q) || fail "the installed forerun does not generate"
for kind in shared static; do
    text=$("$work/complete-$kind" "$model" "$prompt") || fail "examples/complete.c, $kind, fails"
    [ "${text%?\[*}" = "$generated" ] || fail "examples/complete.c, $kind, writes: $text"
done

sh "$tests/test_symbols.sh" "$prefix/include" "$libdir/libforerun.a" "$libdir/libforerun.so"
echo "installed, linked and run: shared and static"
