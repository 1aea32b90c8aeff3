#!/bin/sh
# Lays out the C sources by .clang-format. Another version of clang-format lays out a few lines differently, so that 14 (Debian
# 12's) is the one that counts.
#
#   sh tools/format.sh          formats what is not as it should be, and lists it
#   sh tools/format.sh --check  only lists it, and fails if there is any; where another version is the only one, says so and succeeds
set -eu
cd "$(dirname "$0")/.."

version=14
say() { printf '%s\n' "format: $*" >&2; }
die() { say "$*"; exit 1; }

check=no
for arg; do
    case $arg in
        --check) check=yes ;;
        *) say "unknown option $arg (there is --check)"; exit 2 ;;
    esac
done

install="apt-get install clang-format-$version, or pip install clang-format==$version.0.6"
formatter=$(command -v clang-format-$version || command -v clang-format) || die "there is no clang-format. Install it: $install"
found=$("$formatter" --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
if [ "$found" != $version ]; then
    [ $check = yes ] || die "clang-format $found is not version $version: it would lay out lines differently. Install it: $install"
    say "not checked: clang-format $found is not version $version"
    exit 0
fi

# Prints the sources that the formatter would change (or cannot read).
wrong() {
    find . -type d \( -name 'build*' -o -name '.?*' \) -prune -o -name '*.[ch]' -print | sort | while read -r file; do
        "$formatter" --dry-run -Werror "$file" 2>/dev/null || printf '%s\n' "${file#./}"
    done
}
files=$(wrong)
[ -n "$files" ] || exit 0
printf '%s\n' "$files"
[ $check = no ] || die "these files are not formatted: sh tools/format.sh does it"
# Word splitting is meant: one file a word.
# shellcheck disable=SC2086
"$formatter" -i $files
