#!/bin/sh
# Holds the sources to the layers: a folder includes only its own headers and those of the folders below it, headers have no
# cycles, and the public header stands alone. Reports every violation with file and line.
#
#   sh tests/test_layers.sh [ROOT]
set -eu
root=${1:-$(dirname "$0")/..}

# What each folder may include, besides itself. Everything may include "forerun.h".
allowed() {
    case $1 in
        core) echo ;;
        attn | moe | sampler | text) echo core ;;
        model) echo core attn moe sampler text ;;
        mtp) echo core attn moe sampler text model ;;
        study) echo core attn moe sampler text model mtp ;;
        cli) echo core attn moe sampler text model mtp study ;;
        *) return 1 ;;
    esac
}

check() { # check ROOT: prints violations, fails if there are any
    cd "$1"
    bad=0
    report() { echo "$*"; bad=1; }
    edges=$(mktemp)
    for file in */*.c */*.h; do
        [ -e "$file" ] || continue
        folder=${file%%/*}
        case $folder in tests | benchmarks | tools | docs | build*) continue ;; esac
        if [ "$folder" = include ]; then
            while IFS=: read -r line header; do
                [ -z "$line" ] || report "$file:$line: the public header includes \"$header\": it must stand alone"
            done <<EOF
$(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/;T;=;p' "$file" | paste -d: - -)
EOF
            continue
        fi
        below=$(allowed "$folder") || { report "$file:1: the folder $folder has no place in the layers"; continue; }
        while IFS=: read -r line header; do
            [ -n "$line" ] || continue
            [ "$header" != forerun.h ] || continue
            case $header in
                */*) ;;
                *) report "$file:$line: \"$header\" is not written from the root (\"$folder/$header\")"; continue ;;
            esac
            case " $folder $below " in
                *" ${header%%/*} "*) case $file in *.h) echo "$file $header" >>"$edges" ;; esac ;;
                *) report "$file:$line: $folder may not include \"$header\" (only: $folder $below)" ;;
            esac
        done <<EOF
$(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/;T;=;p' "$file" | paste -d: - -)
EOF
    done
    if ! loop=$(tsort "$edges" 2>&1 >/dev/null); then report "headers include each other in a circle: $(echo "$loop" | tr '\n' ' ')"; fi
    rm -f "$edges"
    return $bad
}

# The check itself must fail where it should.
fake=$(mktemp -d)
trap 'rm -rf "$fake"' EXIT
mkdir "$fake/include" "$fake/core" "$fake/attn" "$fake/moe" "$fake/loose"
echo '#include "core/a.h"' >"$fake/include/forerun.h"
printf '#include "forerun.h"\n#include "moe/m.h"\n' >"$fake/core/a.c"
echo '#include "core/b.h"' >"$fake/core/a.h"
echo '#  include "core/a.h" /* a circle */' >"$fake/core/b.h"
printf '\n#include "core/a.h"\n#include "moe/m.h"\n' >"$fake/attn/a.c"
printf '#include "core/a.h"\n#include "m.h"\n' >"$fake/moe/m.c"
echo >"$fake/moe/m.h"
echo >"$fake/loose/l.c"
if found=$(check "$fake"); then echo "$0: the check passes what it must refuse"; exit 1; fi
for expected in 'include/forerun.h:1: ' 'core/a.c:2: ' 'attn/a.c:3: ' 'moe/m.c:2: ' 'loose/l.c:1: ' 'circle'; do
    echo "$found" | grep -q "$expected" || { echo "$0: the check does not see $expected"; exit 1; }
done
count=$(echo "$found" | wc -l)
[ "$count" -eq 6 ] || { echo "$0: the check reports $count violations, not 6:"; echo "$found"; exit 1; }

(check "$root") || { echo "the layers are violated"; exit 1; }
ls "$root"/core/*.c >/dev/null
echo "the layers hold"
