# Finds what forerun is built on; a missing or too old one stops here and says what to install.
find_package(PkgConfig)
set(FORERUN_SETUP_HINT "(`sh tools/setup.sh` installs or builds everything that forerun needs on Debian 12 and 13.)")
if(NOT PKG_CONFIG_FOUND)
    message(FATAL_ERROR "pkg-config was not found. Install it: apt-get install pkg-config\n${FORERUN_SETUP_HINT}")
endif()

# forerun_need(PREFIX NAME MODULE VERSION PACKAGE): PkgConfig::PREFIX is MODULE of at least VERSION.
function(forerun_need prefix name module version package)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${module}>=${version})
    if(NOT ${prefix}_FOUND)
        execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} --modversion ${module}
            OUTPUT_VARIABLE old OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
        set(why "was not found")
        if(old)
            set(why "is needed, but there is only ${old}")
        endif()
        message(FATAL_ERROR "${name} >= ${version} ${why}. Install it: apt-get install ${package}\n${FORERUN_SETUP_HINT}")
    endif()
    message(STATUS "Found ${name}: ${${prefix}_VERSION}")
endfunction()

find_package(OpenMP COMPONENTS C)
if(NOT OpenMP_C_FOUND)
    message(FATAL_ERROR "OpenMP was not found for ${CMAKE_C_COMPILER}. gcc has its own; clang needs libomp: "
        "apt-get install libomp-dev\n${FORERUN_SETUP_HINT}")
endif()
forerun_need(CJSON cJSON libcjson 1.7.15 libcjson-dev)
forerun_need(PCRE2 "PCRE2 (8-bit)" libpcre2-8 10.40 libpcre2-dev)

# oneDNN: the system's where it is new enough, or the one that tools/onednn.sh built into its cache.
set(cache "$ENV{FORERUN_CACHE}")
if(NOT cache)
    set(cache "$ENV{XDG_CACHE_HOME}")
    if(NOT cache)
        set(cache "$ENV{HOME}/.cache")
    endif()
    string(APPEND cache "/forerun")
endif()
file(GLOB FORERUN_DNNL_CACHED "${cache}/onednn-*/complete")
list(TRANSFORM FORERUN_DNNL_CACHED REPLACE "/complete$" "")
find_package(dnnl 3.7 CONFIG QUIET HINTS ${FORERUN_DNNL_CACHED})
if(NOT dnnl_FOUND)
    set(why "was not found")
    if(dnnl_CONSIDERED_VERSIONS)
        set(why "is needed, but there is only ${dnnl_CONSIDERED_VERSIONS}")
    endif()
    message(FATAL_ERROR "oneDNN >= 3.7 ${why}. Debian 13 has it: apt-get install libdnnl-dev. On an older system "
        "`sh tools/onednn.sh` builds 3.7.2 once (about 20 minutes), where the next configure finds it.")
endif()
message(STATUS "Found oneDNN: ${dnnl_VERSION} (${dnnl_DIR})")

include(CheckCSourceCompiles)
get_target_property(FORERUN_DNNL_INCLUDE DNNL::dnnl INTERFACE_INCLUDE_DIRECTORIES)
set(CMAKE_REQUIRED_INCLUDES ${FORERUN_DNNL_INCLUDE})
set(CMAKE_REQUIRED_QUIET ON)
check_c_source_compiles("
#include <oneapi/dnnl/dnnl_config.h>
#ifndef DNNL_EXPERIMENTAL_UKERNEL
#error no ukernels
#endif
int main(void) { return 0; }" FORERUN_DNNL_UKERNEL)
unset(CMAKE_REQUIRED_INCLUDES)
unset(CMAKE_REQUIRED_QUIET)
if(NOT FORERUN_DNNL_UKERNEL)
    message(FATAL_ERROR "oneDNN in ${dnnl_DIR} was built without ukernels (ONEDNN_EXPERIMENTAL_UKERNEL). "
        "`sh tools/onednn.sh` builds one that has them; then configure with its prefix: -DCMAKE_PREFIX_PATH=...")
endif()

add_library(forerun_dependencies INTERFACE)
target_link_libraries(forerun_dependencies INTERFACE DNNL::dnnl PkgConfig::CJSON PkgConfig::PCRE2)

# A program has one allocator, and chooses it itself: ours have jemalloc, the libraries link none. (A shared library that brought
# jemalloc into a program without it would mix the two: jemalloc's operator new, the C library's free.) The sanitizers bring
# their own.
add_library(forerun_allocator INTERFACE)
if(FORERUN_JEMALLOC AND NOT FORERUN_SANITIZE)
    forerun_need(JEMALLOC jemalloc jemalloc 5.2 libjemalloc-dev)
    target_link_libraries(forerun_allocator INTERFACE PkgConfig::JEMALLOC)
endif()

# Optional: where threads and memory go on the machine.
pkg_check_modules(HWLOC QUIET IMPORTED_TARGET hwloc>=2.0)
if(HWLOC_FOUND)
    message(STATUS "Found hwloc: ${HWLOC_VERSION}")
    target_compile_definitions(forerun_dependencies INTERFACE FR_HWLOC)
    target_link_libraries(forerun_dependencies INTERFACE PkgConfig::HWLOC)
    list(JOIN HWLOC_LDFLAGS " " FORERUN_PC_HWLOC) # not by its own .pc, whose static libraries few systems have
else()
    message(STATUS "hwloc was not found: threads are not pinned, weights not spread over memory nodes (libhwloc-dev)")
endif()

# Optional: reading files while computing.
pkg_check_modules(LIBURING QUIET IMPORTED_TARGET liburing>=2.2)
if(LIBURING_FOUND)
    message(STATUS "Found liburing: ${LIBURING_VERSION}")
    target_compile_definitions(forerun_dependencies INTERFACE FR_URING)
    target_link_libraries(forerun_dependencies INTERFACE PkgConfig::LIBURING)
    list(JOIN LIBURING_LDFLAGS " " FORERUN_PC_LIBURING)
else()
    message(STATUS "liburing was not found: streamed weights are read by threads instead (liburing-dev)")
endif()

# Asked for: ranks. (-DMPI_C_COMPILER=mpicc.mpich chooses one of several.)
if(FORERUN_MPI)
    find_package(MPI QUIET COMPONENTS C)
    if(NOT MPI_C_FOUND)
        message(FATAL_ERROR "FORERUN_MPI is on, but MPI was not found. Install it: apt-get install libopenmpi-dev openmpi-bin\n"
            "(`sh tools/setup.sh --mpi` installs it too.)")
    endif()
    message(STATUS "Found MPI: ${MPI_C_VERSION} (${MPI_C_LIBRARIES})")
    target_compile_definitions(forerun_dependencies INTERFACE FR_MPI)
    target_link_libraries(forerun_dependencies INTERFACE MPI::MPI_C)
    list(JOIN MPI_C_LIBRARIES " " FORERUN_PC_MPI)
endif()

# Optional: lines that the user types can be edited.
pkg_check_modules(LIBEDIT QUIET IMPORTED_TARGET libedit)
if(LIBEDIT_FOUND)
    message(STATUS "Found libedit: ${LIBEDIT_VERSION}")
else()
    message(STATUS "libedit was not found: chat runs without line editing (libedit-dev)")
endif()

if(FORERUN_TESTS)
    forerun_need(CMOCKA cmocka cmocka 1.1.5 "libcmocka-dev (or configure with -DFORERUN_TESTS=OFF)")
endif()
