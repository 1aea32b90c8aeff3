#!/bin/sh
# Installs what forerun is built with. On Debian 12 and 13 (and their relatives): apt packages, and oneDNN where the system's is
# too old. Nothing is installed, fetched or asked for when all of it is there.
#
#   sh tools/setup.sh          what the program and its tests need
#   sh tools/setup.sh --clang  also clang with its OpenMP runtime, for the clang and ThreadSanitizer builds, and clang-format
#   sh tools/setup.sh --mpi    also Open MPI, for -DFORERUN_MPI=ON, unless there is an MPI
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

clang=no mpi=no
for arg; do
    case $arg in
        --clang) clang=yes ;;
        --mpi) mpi=yes ;;
        *) die "unknown option $arg (there are --clang and --mpi)" ;;
    esac
done

# Prints the packages that bring what is missing here.
missing() {
    command -v gcc >/dev/null && command -v g++ >/dev/null && echo 'int main(void){return 0;}' |
        gcc -x c -o /dev/null - 2>/dev/null || echo build-essential
    command -v cmake >/dev/null || echo cmake
    command -v ninja >/dev/null || echo ninja-build
    command -v pkg-config >/dev/null || echo pkg-config
    for module in 'libcjson >= 1.7.15=libcjson-dev' 'libpcre2-8 >= 10.40=libpcre2-dev' 'jemalloc >= 5.2=libjemalloc-dev' \
        'cmocka >= 1.1.5=libcmocka-dev' 'hwloc >= 2.0=libhwloc-dev' \
        'liburing >= 2.2=liburing-dev'; do
        pkg-config --exists "${module%=*}" 2>/dev/null || echo "${module##*=}"
    done
    if ! sh tools/onednn.sh --check >/dev/null; then
        command -v curl >/dev/null || echo curl
        command -v xz >/dev/null || echo xz-utils
        candidate=$(apt-cache policy libdnnl-dev 2>/dev/null | sed -n 's/^ *Candidate: *//p')
        ! dpkg --compare-versions "${candidate:-0}" ge 3.7 2>/dev/null || echo libdnnl-dev
    fi
    if [ $mpi = yes ]; then
        command -v mpicc >/dev/null || echo libopenmpi-dev
        command -v mpirun >/dev/null || echo openmpi-bin
        command -v pgrep >/dev/null || echo procps # a test kills a rank
    fi
    if [ $clang = yes ]; then
        command -v clang >/dev/null || echo clang
        command -v clang-format-14 >/dev/null || command -v clang-format >/dev/null || echo clang-format
        command -v llvm-symbolizer >/dev/null || echo llvm # reports with file and line
        printf '#include <omp.h>\nint main(void){return omp_get_max_threads()<0;}\n' |
            clang -fopenmp -fsanitize=thread -x c -o /dev/null - 2>/dev/null || echo libclang-rt-dev libomp-dev
    fi
}

root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

started=$(date +%s)
export DEBIAN_FRONTEND=noninteractive
packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ]; then
    command -v apt-get >/dev/null || die "this system has no apt-get. Install by its own means what forerun needs:" \
        "gcc and g++ (12 or later) or clang (14 or later), CMake >= 3.25, Ninja, pkg-config, cJSON >= 1.7.15, PCRE2 >= 10.40," \
        "jemalloc >= 5.2, cmocka >= 1.1.5, hwloc >= 2.0, liburing >= 2.2, curl, xz; oneDNN >= 3.7 with ukernels is built if there is none. Missing: $packages"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || die "root is needed to install (there is no sudo). As root:" \
        "apt-get update && apt-get install $packages"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    say "installing $packages(a minute or two)"
    apt() { root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$log" 2>&1; }
    # One broken source among many makes it fail. What is wanted may be in the others, or in the lists of the last time.
    apt update || { tail -n 5 "$log" >&2; say "warning: apt-get update failed, as said above; going on with the lists that there are"; }
    # Word splitting is meant: one package a word. Asked again: now apt knows which oneDNN it has.
    packages=$(missing | tr '\n' ' ')
    # shellcheck disable=SC2086
    apt install --no-install-recommends $packages || { tail -n 20 "$log" >&2; say "warning: apt-get install failed, as said above"; }
    packages=$(missing | grep -v libdnnl-dev | tr '\n' ' ')
    [ -z "$packages" ] || die "still missing or too old after the installation: $packages"
fi

version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9]*\.[0-9]*\).*/\1/p')
[ "$(printf '%s\n3.25\n' "$version" | sort -V | head -n 1)" = 3.25 ] ||
    die "CMake $version is too old: forerun needs 3.25 (Debian 12 has it; elsewhere: https://cmake.org/download)"

sh tools/onednn.sh >/dev/null
say "ready ($(($(date +%s) - started)) s)"
