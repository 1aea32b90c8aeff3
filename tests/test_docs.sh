#!/bin/sh
# Holds the pages to the sources: docs/PROMISES.md names tests that there are, and links between pages lead somewhere.
#
#   sh tests/test_docs.sh [ROOT]
set -eu
root=${1:-$(dirname "$0")/..}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# named_tests PAGE: prints LINE, FILE and WHAT, by tabs, for all that the rows of the page's tables name in their last column: a
# `function` of the `test_x.c` before it, or a "part" of the `test_x.sh` before it, or a file alone. A row that names nothing and
# does not say "no test:" is printed with the file "-".
named_tests() {
    awk '/^\|/ && !/^\|[-|]*$/ && !/\| held by \|$/ {
        cells = split($0, cell, / \| /)
        rest = cell[cells]
        file = ""
        names = 0
        while (match(rest, /`[^`]*`|"[^"]*"/)) {
            word = substr(rest, RSTART + 1, RLENGTH - 2)
            quoted = substr(rest, RSTART, 1) == "\""
            rest = substr(rest, RSTART + RLENGTH)
            if (word ~ /^test_[a-z0-9_]*\.(c|sh)$/) { file = word; word = "" }
            else if (!quoted && word !~ /^[a-z][a-z0-9_]*$/) continue # an option or a path
            names++
            print NR "\t" (file == "" ? "?" : file) "\t" word
        }
        if (names == 0 && cell[cells] !~ /no test: ./) print NR "\t-\t"
    }' "$1"
}

# check_promises PAGE TESTS: complains of each test that is not there.
check_promises() {
    named_tests "$1" | while IFS="$(printf '\t')" read -r line file what; do
        case $file in
        -) echo "line $line: neither a test nor the reason why there is none" ;;
        '?') echo "line $line: $what is of no file" ;;
        *)
            if [ ! -f "$2/$file" ]; then
                echo "line $line: there is no $file"
            elif [ -n "$what" ]; then
                case $file in
                *.c) grep -q "cmocka_unit_test[a-z_]*($what[,)]" "$2/$file" || echo "line $line: $file runs no test $what" ;;
                *) grep -q "^# .*$what" "$2/$file" || echo "line $line: $file has no part \"$what\"" ;;
                esac
            fi
            ;;
        esac
    done
}

# check_links PAGE: complains of each link to a file that is not there.
check_links() {
    grep -o '](\([^)# ]*\)[^)]*)' "$1" | sed 's/^](//; s/[)#].*//' | sort -u | while read -r target; do
        case $target in '' | *://*) ;; *) [ -e "$(dirname "$1")/$target" ] || echo "$1: a link to $target, which is not there" ;; esac
    done
}

# The check itself must find what is planted.
cat >"$work/page.md" <<'END'
| promise | held by |
|---|---|
| a `word` and "words" | `test_docs.sh` "The check itself must find" |
| b | `test_docs.sh` "a part that it lacks" |
| c | `test_none.c` `a_function` |
| d | `test_status.c` `nobody_has_to_ask`, `nobody_does_this` |
| e | `a_function` |
| f | nothing |
| g | no test: it cannot be told |
[here](page.md) [there](none.md#part) [elsewhere](https://example.org)
END
check_promises "$work/page.md" "$root/tests" >"$work/found"
check_links "$work/page.md" >>"$work/found"
cut -d: -f2- "$work/found" >"$work/short"
cat >"$work/expected" <<'END'
 test_docs.sh has no part "a part that it lacks"
 there is no test_none.c
 there is no test_none.c
 test_status.c runs no test nobody_does_this
 a_function is of no file
 neither a test nor the reason why there is none
 a link to none.md, which is not there
END
cmp -s "$work/short" "$work/expected" || { echo "this check does not work:"; diff "$work/expected" "$work/short"; exit 1; }

check_promises "$root/docs/PROMISES.md" "$root/tests" | sed 's/^/PROMISES.md, /' >"$work/found"
for page in "$root"/*.md "$root"/*/*.md "$root"/*/*/*.md; do [ ! -e "$page" ] || check_links "$page"; done >>"$work/found"
cat "$work/found"
[ ! -s "$work/found" ] || exit 1
echo "$(named_tests "$root/docs/PROMISES.md" | wc -l) names of tests in PROMISES.md, all there"
