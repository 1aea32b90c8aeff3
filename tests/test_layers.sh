#!/bin/sh
# Holds the sources to the rooms of the house: a room uses only itself and the rooms below it, files do not need each other in
# a circle, and the public headers stand alone. Every violation is reported with its place.
#
#   sh tests/test_layers.sh [ROOT [OBJECTS]]
#
# Includes are read from the sources. OBJECTS, a file that lists the library's object files, lets the check also see calls that
# no include of ours shows: of functions that forerun.h declares, or that a file declares for itself.
set -eu
root=${1:-$(dirname "$0")/..} objects=${2:-}

# The rooms, from the ground up, each with those below that it may use. Everything may include the public headers.
rooms='
core            :
core/io         : core
core/kernels    : core
core/linear     : core core/kernels
core/checkpoint : core
sampler         : core core/kernels
text            : core core/checkpoint
attn            : core core/kernels core/linear core/checkpoint
moe             : core core/io core/kernels core/linear
model           : core core/io core/kernels core/linear core/checkpoint sampler text attn moe
model/convert   : core core/kernels core/linear core/checkpoint sampler text attn moe model
mtp/drafters    : core core/kernels core/linear core/checkpoint sampler text attn moe model
mtp             : core core/kernels core/linear core/checkpoint sampler text attn moe model mtp/drafters
study           : core core/kernels core/linear core/checkpoint sampler model model/convert mtp/drafters
study/bench     : core core/kernels core/linear attn model mtp study
study/accept    : core sampler attn model mtp/drafters mtp study
study/ab        : core core/checkpoint sampler model mtp/drafters mtp study
study/report    : core
cli             : core study study/report
'

# Prints the rooms that a room may use, itself included; fails when it is none of the house's.
allowed() { # allowed ROOM
    echo "$rooms" | awk -F: -v room="$1" '{ name = $1; gsub(/ /, "", name) } name == room { print " " room $2 " "; found = 1 } END { exit !found }'
}

# Prints LINE:HEADER for each quoted include of a file.
includes() {
    sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/;T;=;p' "$1" | paste -d: - -
}

# Which files need each other in a circle: stdin has pairs "FILE FILE", a file and one that it needs.
circles() {
    awk '$1 != $2 { print $1, $2 }' | sort -u >"$work/edges"
    tsort "$work/edges" 2>&1 >/dev/null | grep -v 'contains a loop' | sed 's/^tsort: //' | tr '\n' ' '
}

check_includes() { # check_includes: of the sources below the current folder
    : >"$work/needs"
    for file in */*.[ch] */*/*.[ch]; do
        [ -e "$file" ] || continue
        room=${file%/*}
        case $room in tests* | benchmarks* | tools* | docs* | examples* | build*) continue ;; esac
        if [ "$room" = include ]; then
            includes "$file" | while IFS=: read -r line header; do
                [ -e "include/$header" ] || echo "$file:$line: a public header includes \"$header\": they must stand alone"
                echo "$file include/$header" >>"$work/needs"
            done
            continue
        fi
        below=$(allowed "$room") || { echo "$file:1: the folder $room is no room of the house"; continue; }
        includes "$file" | while IFS=: read -r line header; do
            [ ! -e "include/$header" ] || continue
            case $header in
                */*) ;;
                *) echo "$file:$line: \"$header\" is not written from the root (\"$room/$header\")"; continue ;;
            esac
            case $below in
                *" ${header%/*} "*) case $file in *.h) echo "$file $header" >>"$work/needs" ;; esac ;;
                *) echo "$file:$line: $room may not use \"$header\" (only:${below% })" ;;
            esac
        done
    done
    loop=$(circles <"$work/needs")
    [ -z "$loop" ] || echo "headers include each other in a circle: $loop"
}

# Which object uses a name that another defines, for the object files that a file lists: below the folder ROOT/forerun_objects.dir.
check_objects() { # check_objects LIST
    while read -r object; do
        nm -g "$object" | awk -v file="${object##*/forerun_objects.dir/}" '
            { gsub(/^\.\/|\.o$/, "", file); print ($(NF - 1) == "U" ? "uses" : "has"), $NF, file }'
    done <"$1" | awk '
        BEGIN { n = 0 }
        $1 == "has" { home[$2] = $3 }
        $1 == "uses" { name[n] = $2; user[n++] = $3 }
        END { for (i = 0; i < n; i++) if (name[i] in home) print user[i], home[name[i]], name[i] }' >"$work/uses"
    for room in $(awk '{ sub(/\/[^\/]*$/, "", $1); print $1 }' "$work/uses" | sort -u); do
        below=$(allowed "$room") || { echo "the folder $room is no room of the house"; continue; }
        awk -v room="$room" -v below="$below" '
            { from = to = ""; from = $1; to = $2; sub(/\/[^\/]*$/, "", from); sub(/\/[^\/]*$/, "", to) }
            from == room && !index(below, " " to " ") { print $1 " may not use " $3 " of " $2 }' "$work/uses"
    done
    loop=$(circles <"$work/uses")
    [ -z "$loop" ] || echo "files need each other in a circle: $loop"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The check itself must find what is planted: every line of `planted` below, and nothing else.
expect() { # expect COUNT FOUND PATTERN...
    count=$1 seen=$2
    shift 2
    for pattern; do
        echo "$seen" | grep -q -- "$pattern" || { echo "$0: the check does not see what was planted: $pattern"; echo "$seen"; exit 1; }
    done
    [ "$(echo "$seen" | wc -l)" -eq "$count" ] || { echo "$0: the check reports other things than the $count that were planted:"; echo "$seen"; exit 1; }
}

fake=$work/fake
mkdir -p "$fake/include" "$fake/core/kernels" "$fake/core/linear" "$fake/attn" "$fake/moe" "$fake/study/report" "$fake/study/ab" "$fake/loose"
echo '#include "core/a.h"' >"$fake/include/forerun.h"
printf '#include "forerun.h"\n#include "moe/m.h"\n' >"$fake/core/a.c"
echo '#include "core/b.h"' >"$fake/core/a.h"
echo '#  include "core/a.h" /* a circle */' >"$fake/core/b.h"
printf '#include "core/a.h"\n#include "core/linear/l.h"\n' >"$fake/core/kernels/k.c"
printf '#include "core/a.h"\n#include "core/kernels/k.h"\n' >"$fake/core/linear/l.c"
printf '\n#include "core/a.h"\n#include "moe/m.h"\n' >"$fake/attn/a.c"
printf '#include "core/a.h"\n#include "m.h"\n' >"$fake/moe/m.c"
printf '#include "study/ab/ab.h"\n#include "core/a.h"\n' >"$fake/study/report/r.c"
echo >"$fake/moe/m.h"
echo >"$fake/loose/l.c"
expect 8 "$(cd "$fake" && check_includes)" '^include/forerun.h:1: ' '^core/a.c:2: ' '^core/kernels/k.c:2: ' '^attn/a.c:3: ' '^moe/m.c:2: ' \
    '^study/report/r.c:1: ' '^loose/l.c:1: ' 'circle: .*core/b.h'

found=$(cd "$root" && check_includes)
if [ -n "$objects" ]; then
    # A call up the house by a declaration of its own, and three files in a circle.
    fakes=$work/forerun_objects.dir
    mkdir -p "$fakes/core" "$fakes/attn" "$fakes/moe"
    plant() { echo "$2" | ${CC:-cc} -x c -c -o "$fakes/$1.o" -; echo "$fakes/$1.o" >>"$work/planted"; }
    plant core/low.c 'int high(void); int low(void); int low(void) { return high(); }'
    plant attn/high.c 'int high(void); int high(void) { return 1; }'
    plant moe/one.c 'int two(void); int one(void); int one(void) { return two(); }'
    plant moe/two.c 'int three(void); int two(void); int two(void) { return three(); }'
    plant moe/three.c 'int one(void); int low(void); int three(void); int three(void) { return one() + low(); }'
    expect 2 "$(check_objects "$work/planted")" '^core/low.c may not use high of attn/high.c' 'circle: .*moe/t'
    found=$found$(check_objects "$objects")
fi
[ -z "$found" ] || { echo "$found"; echo "the layers are violated"; exit 1; }
ls "$root"/core/*.c >/dev/null
echo "the layers hold"
