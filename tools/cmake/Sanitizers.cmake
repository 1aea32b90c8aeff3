# Sanitizer builds (FORERUN_SANITIZE), and the environment that their tests run in (FORERUN_TEST_ENVIRONMENT).
# Threads that wait asleep: tests must not crawl on a machine that is busy with something else.
set(FORERUN_TEST_ENVIRONMENT "OMP_WAIT_POLICY=passive")
if(FORERUN_FUZZ AND NOT (FORERUN_SANITIZE AND CMAKE_C_COMPILER_ID MATCHES Clang))
    message(FATAL_ERROR "FORERUN_FUZZ needs clang, whose libFuzzer it is, and FORERUN_SANITIZE. Use `cmake --preset fuzz`.")
endif()
if(NOT FORERUN_SANITIZE)
    return()
endif()

# Undefined behaviour ends the program: a test that only printed a complaint would pass.
set(flags -fsanitize=${FORERUN_SANITIZE} -fno-sanitize-recover=all)
target_compile_options(forerun_flags INTERFACE ${flags} -fno-omit-frame-pointer -g)
target_link_options(forerun_flags INTERFACE ${flags})
if(FORERUN_FUZZ)
    target_compile_options(forerun_flags INTERFACE -fsanitize=fuzzer-no-link) # libFuzzer sees which branches are taken
endif()

# Tests ask for absurd amounts of memory and expect to be refused, not ended.
if(FORERUN_SANITIZE MATCHES thread)
    # ThreadSanitizer sees OpenMP's barriers only where the runtime tells it of them. gcc's libgomp does not, so that correct
    # programs are reported. LLVM's libomp does, through its tool libarcher; what libomp itself does is then to be ignored.
    # A program with barriers, single, critical and orphaned `omp for` is then clean, one that lacks a barrier is not.
    if(NOT CMAKE_C_COMPILER_ID MATCHES Clang)
        message(FATAL_ERROR "FORERUN_SANITIZE=thread needs clang with libomp: gcc's OpenMP runtime gives false reports. "
            "Use `cmake --preset tsan` (apt-get install clang libclang-rt-dev libomp-dev).")
    endif()
    get_filename_component(omp_dir "${OpenMP_omp_LIBRARY}" REALPATH)
    get_filename_component(omp_dir "${omp_dir}" DIRECTORY)
    get_filename_component(clang_dir "${CMAKE_C_COMPILER}" REALPATH)
    get_filename_component(clang_dir "${clang_dir}" DIRECTORY)
    find_library(FORERUN_ARCHER archer HINTS ${omp_dir} ${clang_dir}/../lib)
    if(NOT FORERUN_ARCHER)
        message(FATAL_ERROR "libarcher.so was not found beside ${OpenMP_omp_LIBRARY}: apt-get install libomp-dev")
    endif()
    set(FORERUN_TEST_ENVIRONMENT "OMP_WAIT_POLICY=passive" "OMP_TOOL_LIBRARIES=${FORERUN_ARCHER}"
        "TSAN_OPTIONS=ignore_noninstrumented_modules=1:allocator_may_return_null=1")
else()
    set(FORERUN_TEST_ENVIRONMENT "OMP_WAIT_POLICY=passive"
        "ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1"
        "UBSAN_OPTIONS=print_stacktrace=1")
endif()
