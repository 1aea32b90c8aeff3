#!/bin/sh
# Prints the prefix of a oneDNN that forerun can use, and builds one if there is none.
#
#   sh tools/onednn.sh          prints a prefix for CMAKE_PREFIX_PATH on stdout, the story on stderr
#   sh tools/onednn.sh --check  the same, but fails without a word where it would have to build
#
# The system's libdnnl-dev is taken when it is >= 3.7 and has the ukernel API (Debian 13 and later).
# Otherwise oneDNN 3.7.2 is built once, from Debian's own source package, into
# ${FORERUN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forerun}; only the sources that forerun reaches (tools/onednn-sources.txt).
set -eu

version=3.7.2
tarball=onednn_3.7.2+ds.orig.tar.xz
sha256=0cc51ca26c1af6a2bb1e71e378e7046f3ceb3e71791ee9d4e246d50f904a6ea6
pool=pool/main/o/onednn

say() { printf '%s\n' "onednn: $*" >&2; }
die() { say "$*"; exit 1; }

check=no
case ${1:-} in
    '') ;;
    --check) check=yes; exec 2>/dev/null ;;
    *) die "unknown option $1 (there is --check)" ;;
esac

# The system's own, if it will do.
for inc in /usr/include /usr/local/include; do
    header=$inc/oneapi/dnnl/dnnl_version.h
    [ -r "$header" ] || continue
    major=$(sed -n 's/^#define DNNL_VERSION_MAJOR \([0-9]*\).*/\1/p' "$header")
    minor=$(sed -n 's/^#define DNNL_VERSION_MINOR \([0-9]*\).*/\1/p' "$header")
    if [ "${major:-0}" -eq 3 ] && [ "${minor:-0}" -ge 7 ] &&
        grep -q '^#define DNNL_EXPERIMENTAL_UKERNEL' "$inc/oneapi/dnnl/dnnl_config.h"; then
        say "using the system's oneDNN $major.$minor in ${inc%/include}"
        printf '%s\n' "${inc%/include}"
        exit 0
    fi
    say "the system's oneDNN $major.$minor has no ukernels or is older than 3.7: not used"
done

cache=${FORERUN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forerun}
prefix=$cache/onednn-$version
if [ -e "$prefix/complete" ]; then
    say "using oneDNN $version from $prefix"
    printf '%s\n' "$prefix"
    exit 0
fi
[ $check = no ] || exit 1

work=$cache/build-onednn-$version
mkdir -p "$work"

# One builder at a time: a second caller waits for the first and then finds its result.
exec 9>"$cache/lock"
if command -v flock >/dev/null 2>&1; then
    flock -n 9 || { say "another build is under way; waiting for it"; flock 9; }
    if [ -e "$prefix/complete" ]; then printf '%s\n' "$prefix"; exit 0; fi
fi

# The mirrors that this machine's package manager uses.
mirrors() {
    for f in /etc/apt/sources.list.d/*.sources; do
        if [ -r "$f" ]; then sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' "$f"; fi
    done
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        if [ -r "$f" ]; then sed -n 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([a-z][^[:space:]]*\).*/\2/p' "$f"; fi
    done
}
if ! (cd "$work" && echo "$sha256  $tarball" | sha256sum -c --status 2>/dev/null); then
    fetched=no
    for uri in $(mirrors | grep '^http' | awk '!seen[$0]++'); do
        if curl -fsSL --retry 3 --max-time 300 -o "$work/$tarball" "${uri%/}/$pool/$tarball" 2>/dev/null &&
            (cd "$work" && echo "$sha256  $tarball" | sha256sum -c --status); then
            fetched=yes
            break
        fi
    done
    [ "$fetched" = yes ] || die "$tarball could not be fetched from any mirror ($pool). Put it at $work/$tarball," \
        "or install libdnnl-dev >= 3.7 (Debian 13 has it)"
fi

jobs=$(nproc 2>/dev/null || echo 2)
say "building oneDNN $version, once, into $prefix (3 to 5 minutes on two cores)"
rm -rf "$work/src" "$work/build"
mkdir -p "$work/src"
tar -xJf "$work/$tarball" -C "$work/src" --strip-components=1
# What is left on x86-64 is what the linker took from a static library for forerun's calls. Everything else, mostly convolutions,
# normalization and recurrent cells, which no option switches off, would only be compiled.
if [ "$(uname -m)" = x86_64 ]; then
    sources=$(cd "$(dirname "$0")" && pwd)/onednn-sources.txt
    (cd "$work/src" && find src/common src/cpu -name '*.cpp' -o -name '*.c' -o -name '*.S') | grep -vxFf "$sources" |
        (cd "$work/src" && xargs rm -f)
fi
# -O0: the library only generates kernels at run time, which takes a few milliseconds in all; the kernels are the same.
cmake -S "$work/src" -B "$work/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O0 -DNDEBUG" -DCMAKE_C_FLAGS_RELEASE="-O0 -DNDEBUG" \
    -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
    -DONEDNN_CPU_RUNTIME=SEQ -DONEDNN_GPU_RUNTIME=NONE -DONEDNN_BUILD_GRAPH=OFF \
    -DONEDNN_BUILD_DOC=OFF -DONEDNN_BUILD_EXAMPLES=OFF -DONEDNN_BUILD_TESTS=OFF \
    -DONEDNN_ENABLE_WORKLOAD=INFERENCE -DONEDNN_ENABLE_PRIMITIVE=MATMUL \
    -DONEDNN_ENABLE_GEMM_KERNELS_ISA=NONE -DONEDNN_EXPERIMENTAL_UKERNEL=ON \
    >"$work/configure.log" 2>&1 || { tail -n 20 "$work/configure.log" >&2; die "configure failed (see $work/configure.log)"; }

# A line a minute says how far it is: the log itself is of no interest unless it fails.
(cd "$work/build" && exec nice ninja -j "$jobs" install) >"$work/build.log" 2>&1 &
builder=$!
trap 'kill $builder 2>/dev/null || true' INT TERM
ticks=0
while kill -0 "$builder" 2>/dev/null; do
    sleep 2
    ticks=$((ticks + 1))
    if [ $((ticks % 30)) -eq 0 ]; then
        say "$((ticks / 30)) min: $(sed -n 's/^\(\[[0-9]*\/[0-9]*\]\).*/\1/p' "$work/build.log" | tail -n 1)"
    fi
done
wait "$builder" || { tail -n 30 "$work/build.log" >&2; die "the build failed (see $work/build.log)"; }
touch "$prefix/complete"
rm -rf "$work"
say "done: $prefix"
printf '%s\n' "$prefix"
